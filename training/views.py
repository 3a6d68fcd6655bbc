"""A picture seen from several sides: a surer answer for so many times the cost.

Every run has learnt from mirrored pictures too, and errs on a picture and on its mirror image in part independently, so
that the mean of both errs less (docs/training.md, "Several views").
"""

from __future__ import annotations

import torch
from torch import Tensor

from inspection.errors import ConfigError
from training.checkpoint import Ask

Axes = tuple[int, ...]
SIDES: dict[int, tuple[Axes, ...]] = {1: ((),), 2: ((), (0, 1)), 4: ((), (0, 1), (0,), (1,))}
"""How many views -> the axes (0 down, 1 across) each is turned about, the picture as it is first. Two: turned by 180
degrees, which gained more than a mirror image did."""
MOST = max(SIDES)


def check_views(views: int, ask: Ask) -> None:
    """ConfigError for a number of views that is none, or more than one for a run that has not learnt from them."""
    if views not in SIDES:
        raise ConfigError("--views", f"is {views}", f"choose {', '.join(map(str, SIDES))}")
    if views > 1 and ask.frames > 1:
        raise ConfigError(
            "--views", f"is {views} for a model with a memory", "leave it out: what it remembers has one side up"
        )
    if views > 1 and "flip" not in ask.augment:
        raise ConfigError(
            "--views", f"is {views}, and the run has seen no mirrored picture", "leave it out, or train with flip"
        )


def turned(images: Tensor, views: int) -> list[Tensor]:
    """(N, H, W, 3) -> each view of them."""
    return [images.flip([axis + 1 for axis in axes]) if axes else images for axes in SIDES[views]]


def together(logits: Tensor, chances: Tensor, views: int) -> tuple[Tensor, Tensor]:
    """What was said of `turned` pictures, view after view, (views x N, C) and (views x N, C, h, w), as one answer each:
    the mean of its logits, and of its chances of a defect with every map turned back."""
    if views == 1:
        return logits, chances
    back = [
        maps.flip([axis + 2 for axis in axes]) if axes else maps
        for maps, axes in zip(chances.chunk(views), SIDES[views], strict=True)
    ]
    return torch.stack(logits.chunk(views)).mean(0), torch.stack(back).mean(0)
