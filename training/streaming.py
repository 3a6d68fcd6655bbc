"""A network that remembers: a quarter of some layers' channels are those of the frame before (temporal shift).

After Lin, Gan, Han 2019 (TSM), causal: it costs no multiplication, so a single-frame network of the same width costs
the same. What it remembers is explicit: one tensor per shifted block goes in and out with every frame, zero at the
start. So frame 10,000 takes as long as frame 1, and whoever serves it decides when a part, or a gap, begins anew.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from training.network import BLOCKS, Block, Network, Stages

SHIFTED = 4  # one in so many channels comes from the frame before


class ShiftedBlock(Block):
    """A residual block whose convolutions see the frame before; the shortcut sees this frame only."""

    def __init__(self, c_in: int, c_out: int, stride: int = 1) -> None:
        super().__init__(c_in, c_out, stride)
        self.remembers = c_in // SHIFTED

    def with_past(self, x: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """x (N, C, H, W), past (N, C / SHIFTED, H, W) -> what comes out, and the past of the next frame."""
        now = x[:, : self.remembers]
        mixed = torch.cat([past, x[:, self.remembers :]], 1)
        return F.relu(self.two(self.one(mixed)) + self.shortcut(x)), now

    def over(self, x: Tensor, frames: int) -> Tensor:
        """x (clips x frames, C, H, W), the frames of a clip in order; each clip begins from nothing."""
        now = x[:, : self.remembers]
        now = now.reshape(-1, frames, *now.shape[1:])
        past = torch.cat([torch.zeros_like(now[:, :1]), now[:, :-1]], 1).flatten(0, 1)
        return self.with_past(x, past)[0]


class StreamNetwork(Network):
    """`Network` with four shifted blocks: what it says of a frame rests on that one and the four before.

    `forward` takes whole clips, (clips x `frames`, H, W, 3); `step` takes one frame and the state.
    """

    def __init__(self, classes: int, width: int = 16, frames: int = 8, prior: float = 0.01) -> None:
        super().__init__(classes, width, prior)
        w = width
        self.frames = frames
        self.begin4, self.past4 = Block(w, 2 * w, 2), ShiftedBlock(2 * w, 2 * w)
        self.begin8, self.past8 = Block(2 * w, 3 * w, 2), ShiftedBlock(3 * w, 3 * w)
        self.begin16, self.past16 = ShiftedBlock(3 * w, 6 * w, 2), ShiftedBlock(6 * w, 6 * w)
        del self.stage4, self.stage8, self.stage16

    def own_name(self, name: str) -> str:
        """A block that knew single frames serves: in a scene that stands still the frame before is this one."""
        for own, single in BLOCKS.items():
            if name.startswith(f"{single}."):
                return own + name.removeprefix(single)
        return name

    def stages(self, x: Tensor) -> Stages:
        f = self.frames
        s4 = self.past4.over(self.begin4(self.stem(x)), f)
        s8 = self.past8.over(self.begin8(s4), f)
        return Stages(s4, s8, self.past16.over(self.begin16.over(s8, f), f))

    def step(self, image: Tensor, past: Sequence[Tensor]) -> tuple[Tensor, Tensor, list[Tensor]]:
        """One frame (1, H, W, 3) -> logits of scores and maps, and the state of the next frame."""
        stages, after = self.look(image, past)
        return *self.read(stages), after

    def look(self, image: Tensor, past: Sequence[Tensor]) -> tuple[Stages, list[Tensor]]:
        """One frame (1, H, W, 3) -> the encoder's features, and the state of the next frame."""
        s4, a = self.past4.with_past(self.begin4(self.stem(self.see(image))), past[0])
        s8, b = self.past8.with_past(self.begin8(s4), past[1])
        first, c = self.begin16.with_past(s8, past[2])
        s16, d = self.past16.with_past(first, past[3])
        return Stages(s4, s8, s16), [a, b, c, d]

    def nothing(self, width_px: int, height_px: int) -> list[Tensor]:
        """The state before the first frame."""
        return [torch.zeros(shape) for shape in self.state_shapes(width_px, height_px)]

    def state_shapes(self, width_px: int, height_px: int) -> list[tuple[int, int, int, int]]:
        """Of the state for an input of this size, (1, C, H, W) each."""
        blocks = ((self.past4, 4), (self.past8, 8), (self.begin16, 8), (self.past16, 16))
        return [(1, block.remembers, height_px // s, width_px // s) for block, s in blocks]
