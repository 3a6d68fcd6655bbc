"""A network of SegDecNet's size and shape, as a baseline (Bozic, Tabernik, Skocaj 2021): 16 M weights, map at stride 8.

Written from the paper's table of layers. Its feature norm, which divides each channel of each picture by that picture's
own deviation, is torch's InstanceNorm here. It is trained by the same losses as ours, which are its authors' idea too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRIDE = 8


class SegDecNet(nn.Module):
    """(N, H, W, 3) uint8 -> logits of scores (N, C) and maps (N, C, H / 8, W / 8). Sides are multiples of 64."""

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.volume = nn.Sequential(
            _conv(3, 32, 5), nn.MaxPool2d(2),
            _conv(32, 64, 5), _conv(64, 64, 5), _conv(64, 64, 5), nn.MaxPool2d(2),
            _conv(64, 64, 5), _conv(64, 64, 5), _conv(64, 64, 5), _conv(64, 64, 5), nn.MaxPool2d(2),
            _conv(64, 1024, 15),
        )  # fmt: skip
        self.to_map = nn.Conv2d(1024, classes, 1)
        self.extract = nn.Sequential(
            nn.MaxPool2d(2), _conv(1024 + classes, 8, 5), nn.MaxPool2d(2), _conv(8, 16, 5), nn.MaxPool2d(2),
            _conv(16, 32, 5),
        )  # fmt: skip
        self.score = nn.Linear(64 + 2 * classes, classes)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = image.permute(0, 3, 1, 2).float() / 255 - 0.5
        volume = self.volume(x)
        maps = self.to_map(volume)
        # The decision reads the map and does not bend it, as in the paper and as in ours.
        seen = maps.detach()
        deep = self.extract(torch.cat([volume.detach(), seen], 1))
        pooled = [deep.amax((2, 3)), deep.mean((2, 3)), seen.amax((2, 3)), seen.mean((2, 3))]
        scores: Tensor = self.score(torch.cat(pooled, 1))
        return scores, maps


def _conv(c_in: int, c_out: int, kernel: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(c_in, c_out, kernel, padding=kernel // 2, bias=False),
        nn.InstanceNorm2d(c_out, affine=True),
        nn.ReLU(),
    )
