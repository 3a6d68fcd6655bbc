"""Segment and decide: one small network says where a defect is (a map per class) and whether the rule is broken.

    uint8 -> stem /2 -> /4 -> /8 -> /16          residual encoder
                        |     |     |
                        +<----+<----+            FPN, down to stride 4: stride 8 steps over a hairline scratch
                        |
              map per class at stride 2          sub-pixel convolution (Shi et al. 2016): sizes in mm need it
                        |
       features + map -> /16 -> max, mean --+
                                            +-> one logit per class
                encoder at /16 -> max, mean +

The design is SegDecNet's (Bozic, Tabernik, Skocaj 2021) at a twentieth of its cost. The decision reads the map, so
that a scratch shorter than the label book's limit may glow on the map and still be no defect. It reads the encoder's
last stage too, whole: the FPN has room for 2w channels, made for saying where, and what ImageNet taught an encoder of
hundreds is lost in it (docs/training.md: 7 points of AP on weld beads).

One family: `SegmentAndDecide` is everything behind the encoder. `Network` has our own encoder; `training/backbones.py`
puts anybody's in its place, `training/streaming.py` gives ours a memory of the frames before.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Mapping
from typing import Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

HEAT_STRIDE = 2
MEAN, STD = 110.0, 60.0
"""Grey level and its deviation on metal, roughly; any fixed pair would do, since the stem has a BatchNorm."""

SizeClass = Literal["S", "M", "L"]


class Size(NamedTuple):
    """One size of the family: channels of the first layer, and the input it is meant for, px."""

    channels: int
    width_px: int
    height_px: int
    goal_ms: float


SIZES: dict[SizeClass, Size] = {
    "S": Size(16, 256, 256, 5.0),
    "M": Size(16, 512, 512, 12.0),
    "L": Size(24, 640, 640, 25.0),
}
"""`goal_ms`: one inference on two cores, int8 where the processor has VNNI. `python -m benchmarks.model_sizes`."""


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut (He et al. 2016)."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__()
        self.one = conv(c_in, c_out, stride=stride)
        self.two = conv(c_out, c_out, act=False)
        # Pool, then 1x1 (He et al. 2019, ResNet-D): a strided 1x1 drops three pixels of four, and torch 2.13's corrupts
        # memory at 8 channels on some CPUs.
        pool = nn.AvgPool2d(stride) if stride > 1 else nn.Identity()
        same = stride == 1 and c_in == c_out
        self.shortcut = nn.Identity() if same else nn.Sequential(pool, conv(c_in, c_out, kernel=1, act=False))

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.two(self.one(x)) + self.shortcut(x))


def conv(c_in: int, c_out: int, kernel: int = 3, stride: int = 1, act: bool = True) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(c_out),
    ]
    return nn.Sequential(*layers, nn.ReLU()) if act else nn.Sequential(*layers)


class Stages(NamedTuple):
    """What an encoder hands on, (N, C_k, H / k, W / k) each."""

    s4: Tensor
    s8: Tensor
    s16: Tensor


class SegmentAndDecide(nn.Module):
    """The family: an encoder's `stages`, `width` channels times two in the FPN, `classes` outputs.

    `forward` takes (N, H, W, 3) uint8 BGR, as the camera gives it, and returns logits: scores (N, C) and
    maps (N, C, H / 2, W / 2). Input sides must be multiples of 16.
    """

    @abstractmethod
    def stages(self, x: Tensor) -> Stages:
        """(N, 3, H, W), as `see` made it -> features at strides 4, 8 and 16."""

    def see(self, image: Tensor) -> Tensor:
        """(N, H, W, 3) uint8 BGR -> (N, 3, H, W) as the encoder wants it."""
        x = (image.permute(0, 3, 1, 2).float() - MEAN) / STD
        return x.contiguous(memory_format=torch.channels_last)

    def build_head(self, channels: tuple[int, int, int], classes: int, w: int, prior: float) -> None:
        """`channels` of the encoder at strides 4, 8 and 16."""
        c4, c8, c16 = channels
        self.side4, self.side8, self.side16 = conv(c4, 2 * w, 1), conv(c8, 2 * w, 1), conv(c16, 2 * w, 1)
        self.smooth8, self.smooth4 = conv(2 * w, 2 * w), conv(2 * w, 2 * w)
        self.to_map = nn.Conv2d(2 * w, classes * 4, 1)
        # Initially every pixel is as likely a defect as defects are frequent: no first steps wasted on unlearning 0.5.
        nn.init.zeros_(self.to_map.weight)
        nn.init.constant_(_bias(self.to_map), math.log(prior / (1 - prior)))
        self.decide = nn.Sequential(
            conv(2 * w + classes * 4, 2 * w, stride=2), conv(2 * w, 4 * w, stride=2), conv(4 * w, 4 * w)
        )
        self.last_channels = c16
        self.score = nn.Linear(8 * w + 2 * classes + 2 * c16, classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        return self.read(self.stages(self.see(image)))

    def read(self, stages: Stages) -> tuple[Tensor, Tensor]:
        """The encoder's features -> logits of scores and maps."""
        features, cells = self.locate(stages)
        return self.judge(features, cells, stages.s16), F.pixel_shuffle(cells, HEAT_STRIDE)

    def locate(self, stages: Stages) -> tuple[Tensor, Tensor]:
        """-> features (N, 2w, H/4, W/4) and map logits (N, 4C, H/4, W/4), four per cell."""
        p8 = self.smooth8(self.side8(stages.s8) + double(self.side16(stages.s16)))
        p4 = self.smooth4(self.side4(stages.s4) + double(p8))
        return p4, self.to_map(p4)

    def judge(self, features: Tensor, cells: Tensor, s16: Tensor) -> Tensor:
        """Score logits (N, C) from the features, the map and the encoder's last stage. The map is only read: the score
        must not bend it."""
        seen = torch.sigmoid(cells.detach())
        deep = self.decide(torch.cat([features, seen], 1))
        per_class = seen.reshape(len(seen), -1, HEAT_STRIDE**2, *seen.shape[2:]).amax(2)
        pooled = [of(x) for x in (deep, per_class, s16) for of in (hottest, mean)]
        out: Tensor = self.score(torch.cat(pooled, 1))
        return out

    def fitted(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """`state` of another model of the family, by the names and shapes of this one.

        One from before the score read the encoder's last stage does not weigh it.
        """
        named = {self.own_name(name): weights for name, weights in state.items()}
        had, added = named.get("score.weight"), 2 * self.last_channels
        if had is None or had.shape[1] + added != self.score.in_features:
            return named
        return named | {"score.weight": F.pad(had, (0, added))}

    def own_name(self, name: str) -> str:
        """What this network calls a layer that another of the family calls `name`."""
        return name


BLOCKS = {f"{name}{s}": f"stage{s}.{k}" for s in (4, 8, 16) for k, name in enumerate(("begin", "past"))}
"""Where a block of `StreamNetwork` lies in `Network`."""


class Network(SegmentAndDecide):
    """Our own encoder, `width` channels in the stem: 0.5 M weights at 16."""

    def __init__(self, classes: int, width: int = 16, prior: float = 0.01) -> None:
        super().__init__()
        w = width
        self.stem = conv(3, w, stride=2)
        self.stage4 = nn.Sequential(Block(w, 2 * w, 2), Block(2 * w, 2 * w))
        self.stage8 = nn.Sequential(Block(2 * w, 3 * w, 2), Block(3 * w, 3 * w))
        self.stage16 = nn.Sequential(Block(3 * w, 6 * w, 2), Block(6 * w, 6 * w))
        self.build_head((2 * w, 3 * w, 6 * w), classes, w, prior)

    def own_name(self, name: str) -> str:
        """`StreamNetwork` has the same blocks under other names."""
        layer, _, rest = name.partition(".")
        return f"{BLOCKS[layer]}.{rest}" if layer in BLOCKS else name

    def stages(self, x: Tensor) -> Stages:
        s4 = self.stage4(self.stem(x))
        s8 = self.stage8(s4)
        return Stages(s4, s8, self.stage16(s8))


def hottest(x: Tensor) -> Tensor:
    return x.amax((2, 3))


def mean(x: Tensor) -> Tensor:
    return x.mean((2, 3))


def double(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2.0, mode="nearest")


def _bias(layer: nn.Conv2d) -> Tensor:
    assert layer.bias is not None
    return layer.bias
