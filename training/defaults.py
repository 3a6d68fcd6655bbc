"""What a run is where nobody says: the input's size, where the encoder starts, how fast it learns.

Each follows from the pictures at hand, and each is one option away from being chosen by a person. (How long is
`training.fit.default_epochs`.)
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from inspection.bundle import InputSpec
from inspection.errors import ConfigError
from training.backbones import HUB, OWN, Backbone
from training.checkpoint import MOST_PX_A_SIDE, TOP_RATE, Ask
from training.dataset.snapshot import Snapshot
from training.examples import fitted_scales
from training.network import SIZES
from training.warm_start import is_ours, saw_surfaces, top_rate

MODELS = Path(__file__).resolve().parent.parent / "models"
ENCODERS = {16: MODELS / "encoder-0.2.0", 24: MODELS / "encoder-24-0.1.0"}
"""By width, the released runs of `haltline train encoder` that others start from: they saw drawn pictures only."""
NOTHING = "none"
INPUT_PX = 320 * 256
SIDE = 16
LEAST_PX_A_SIDE = 32
SCALE_TOLERANCE: float = InputSpec.model_fields["scale_tolerance"].default


def encoder_weights(backbone: str, width: int, asked: str | None) -> str | None:
    """Where the encoder starts: what was asked for, `none` is nothing; else the released one, if it has this width.

    ConfigError when our own encoder cannot start there.
    """
    if asked == NOTHING:
        return None
    if asked is not None and backbone == OWN:
        if asked == HUB or not is_ours(Path(asked)):
            fix = f"name a bundle or a run of ours, e.g. {ENCODERS[16]}, or {NOTHING}"
            raise ConfigError("--weights", f"is {asked}, and no model of ours is there", fix)
        return asked
    if asked is not None:
        return asked
    released = ENCODERS.get(width) if backbone == OWN else None
    return str(released) if released and released.is_dir() else None


def own_encoder(width: int = SIZES["S"].channels, asked: str | None = None) -> Backbone:
    return Backbone(weights=encoder_weights(OWN, width, asked))


def start(encoder: Backbone, width: int) -> str:
    """Where it starts, for people."""
    if encoder.weights:
        return f"the encoder starts from {encoder.weights}"
    if encoder.name != OWN or width in ENCODERS:
        return "the encoder starts from nothing"
    return f"the encoder starts from nothing: no released one has {width} channels"


def rate(encoder: Backbone, init: Path | None, classes: tuple[str, ...]) -> float:
    """The top learning rate: half from ImageNet's weights or another model's; whole from nothing, and from an encoder
    that saw drawn surfaces, which learnt at it (docs/training.md: half of it lost 1 to 6 points)."""
    if init is not None:
        return top_rate(init, classes)
    whole = encoder.weights is None or (encoder.name == OWN and saw_surfaces(Path(encoder.weights)))
    return TOP_RATE if whole else TOP_RATE / 2


def input_size(data: Snapshot, most_px: int = INPUT_PX) -> tuple[int, int]:
    """Width and height of the input, multiples of 16: the shape of the middle picture, its own size if that is no more
    than `most_px` in all, shrunk to about that otherwise. Nothing is enlarged by more than the rounding.

    Where some pictures lie across and some upright, an input that holds both.
    """
    wide, high = ([getattr(s, side) for s in data.samples] for side in ("width_px", "height_px"))
    size = shaped(float(np.median(wide)), float(np.median(high)), most_px)
    if _off(data, size) > SCALE_TOLERANCE:  # perhaps less so in a shape that holds every picture
        size = min(size, shaped(max(wide), max(high), most_px), key=lambda one: _off(data, one))
    return size


def mixed(data: Snapshot, size: tuple[int, int]) -> str:
    """What to say of pictures of many sizes that state no scale, "" of others."""
    if any(s.px_per_mm for s in data.samples) or (off := _off(data, size)) <= SCALE_TOLERANCE:
        return ""
    return (
        f"no picture states its scale, and fitted to {size[0]}x{size[1]} some show things {off:.1f} times larger or "
        "smaller than the middle one: the model is for all of these, and a limit in mm for none"
    )


def _off(data: Snapshot, size: tuple[int, int]) -> float:
    """How many times larger or smaller than in the middle picture things are in the one that is furthest off."""
    _, off = fitted_scales(data, *size)
    return max(off, 1 / off)


def shaped(width: float, height: float, most_px: int) -> tuple[int, int]:
    """An input for a picture of this size, px."""
    shrink = min(1.0, math.sqrt(most_px / (width * height)), MOST_PX_A_SIDE / max(width, height))
    short = min(width, height) * shrink
    if short < LEAST_PX_A_SIDE:  # a line-scan picture: the short side is padded, so that the long one must give way
        shrink = min(shrink, most_px / LEAST_PX_A_SIDE / max(width, height))
    whole = math.ceil if shrink == 1 else round
    w, h = (max(LEAST_PX_A_SIDE, SIDE * whole(side * shrink / SIDE)) for side in (width, height))
    return w, h


def ask_of(
    data: Snapshot,
    encoder: Backbone,
    size: tuple[int, int] | None = None,
    init: Path | None = None,
    lr: float | None = None,
    **more: Any,
) -> Ask:
    """What a run is asked for: `more` are fields of `Ask`, what is None follows from the pictures."""
    width_px, height_px = size or input_size(data)
    return Ask.of(
        width_px=width_px,
        height_px=height_px,
        init=str(init) if init else None,
        lr=rate(encoder, init, data.manifest.classes) if lr is None else lr,
        backbone=encoder,
        **more,
    )
