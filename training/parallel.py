"""One run on several processes (torchrun), with the result of one process.

Every process takes a share of each batch. BatchNorm takes its moments over all shares, the loss is computed on the
gathered outputs of the whole batch, and gradients are summed: so weights after a step are those of one process with
the whole batch, up to rounding. (torch's own SyncBatchNorm needs a GPU, and averaging the losses of shares is another
loss: the focal term is divided by all defect cells of the batch.)
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.nn import functional as across


@dataclass(frozen=True, slots=True)
class Team:
    """This process's place among those of the run."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """The one that writes files and tells people."""
        return self.rank == 0

    def wait(self) -> None:
        if self.size > 1:
            dist.barrier()


def join() -> Team:
    """The team torchrun made, or a team of one. Gloo on CPUs, NCCL where there is a GPU for each."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Team()
    if not dist.is_initialized():
        dist.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
    return Team(dist.get_rank(), size)


def leave() -> None:
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def gathered(share: Tensor, team: Team) -> Tensor:
    """Every process's share, in rank order; gradients flow into this process's own one only, and are summed later."""
    parts = [torch.empty_like(share) for _ in range(team.size)]
    dist.all_gather(parts, share.detach().contiguous())
    parts[team.rank] = share
    return torch.cat(parts)


def sum_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """One message for all of them."""
    with_grad = [p for p in parameters if p.grad is not None]
    flat = torch.cat([p.grad.reshape(-1) for p in with_grad if p.grad is not None])
    dist.all_reduce(flat)
    parts = torch.split(flat, [p.numel() for p in with_grad])
    for p, part in zip(with_grad, parts, strict=True):
        p.grad = part.view_as(p)


def _summed(value: Tensor) -> Tensor:
    """Over all processes; gradients are summed too."""
    out: Tensor = across.all_reduce(value)  # type: ignore[no-untyped-call]
    return out


class SharedBatchNorm(nn.BatchNorm2d):
    """BatchNorm over the shares of all processes while `split`; torch's own otherwise, with the same weights."""

    split: bool = False

    def forward(self, x: Tensor) -> Tensor:
        if not (self.training and self.split):
            return super().forward(x)
        wide = x.float()
        count = wide.numel() / wide.shape[1] * dist.get_world_size()
        mean = _summed(wide.sum((0, 2, 3))) / count
        centred = wide - mean[None, :, None, None]
        var = _summed((centred * centred).sum((0, 2, 3))) / count
        self._remember(mean.detach(), var.detach() * count / (count - 1))
        scale = self.weight * torch.rsqrt(var + self.eps)
        out: Tensor = (centred * scale[None, :, None, None] + self.bias[None, :, None, None]).to(x.dtype)
        return out

    @torch.no_grad()
    def _remember(self, mean: Tensor, var: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.num_batches_tracked is not None
        assert self.momentum is not None
        self.num_batches_tracked += 1
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(var, self.momentum)


def shared(network: nn.Module) -> None:
    """Make every BatchNorm2d of `network` a SharedBatchNorm, in place. Names and values stay."""
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm


def set_split(network: nn.Module, split: bool) -> None:
    for module in network.modules():
        if isinstance(module, SharedBatchNorm):
            module.split = split
