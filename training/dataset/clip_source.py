"""How a sample says that it is a frame of a clip: its source reads `clip:NAME@FPS#NUMBER`. No torch here."""

from __future__ import annotations

import re
from typing import NamedTuple


class Place(NamedTuple):
    """`number` counts the camera's frames, lost ones included."""

    clip: str
    fps: float
    number: int


def place_of(source: str) -> Place | None:
    """Which clip and frame a source names; None for a picture on its own."""
    found = re.fullmatch(r"clip:(.+)@([0-9.]+)#([0-9]+)", source)
    return Place(found[1], float(found[2]), int(found[3])) if found else None


def source_of(clip: str, fps: float, number: int) -> str:
    return f"clip:{clip}@{fps:g}#{number:06d}"
