"""What a run is where nobody says: the input's size, where the encoder starts, how fast it learns, how long.

Each follows from the pictures at hand, and each is one option away from being chosen by a person.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np

from training.backbones import OWN, Backbone
from training.checkpoint import TOP_RATE, Ask
from training.dataset.snapshot import Snapshot
from training.network import SIZES
from training.warm_start import top_rate

MODELS = Path(__file__).resolve().parent.parent / "models"
ENCODER = MODELS / "scratch-0.2.0"
"""The released bundle whose encoder a run starts from: it saw rendered frames only (docs/training.md: by trial)."""
NOTHING = "none"
INPUT_PX = 320 * 256


def encoder_weights(backbone: str, width: int, asked: str | None) -> str | None:
    """Where the encoder starts: what was asked for, `none` is nothing; else the released one, if it has this width."""
    if asked is not None:
        return None if asked == NOTHING else asked
    fits = backbone == OWN and width == SIZES["S"].channels and ENCODER.is_dir()
    return str(ENCODER) if fits else None


def own_encoder(width: int = SIZES["S"].channels, asked: str | None = None) -> Backbone:
    return Backbone(weights=encoder_weights(OWN, width, asked))


def rate(encoder: Backbone, init: Path | None, classes: tuple[str, ...]) -> float:
    """The top learning rate: gentler where something has been learnt before."""
    if init is not None:
        return top_rate(init, classes)
    return TOP_RATE if encoder.weights is None else TOP_RATE / 2


def input_size(data: Snapshot, most_px: int = INPUT_PX) -> tuple[int, int]:
    """Width and height of the input, multiples of 16: the shape of the middle picture, its own size if that is no more
    than `most_px` in all, shrunk to about that otherwise. Nothing is enlarged by more than the rounding."""
    width, height = (float(np.median([getattr(s, side) for s in data.samples])) for side in ("width_px", "height_px"))
    shrink = min(1.0, math.sqrt(most_px / (width * height)))
    whole = math.ceil if shrink == 1 else round
    return tuple(max(32, 16 * whole(side * shrink / 16)) for side in (width, height))  # type: ignore[return-value]


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
