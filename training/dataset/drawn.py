"""What somebody drew on a picture in another program, boxes and outlines, as mask and annotations."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from inspection.errors import DatasetError
from inspection.outline import Bits, fill
from inspection.samples import Annotation, BoxPx, Split
from training.dataset.item import Item, Mask, Target, decode

CORNERS_OF_AN_ELLIPSE = 64


@dataclass(frozen=True, slots=True)
class Drawn:
    """One mark. `bits` (H, W): its outline filled; None of a box, which says where to look only."""

    annotation: Annotation
    bits: Bits | None = None

    @classmethod
    def outline(cls, name: str, points: NDArray[np.float64], size: tuple[int, int]) -> Drawn:
        """`points` (N, 2), x and y in px; `size` height and width."""
        (left, top), (right, bottom) = points.min(0), points.max(0)
        box = (float(left), float(top), float(right - left), float(bottom - top))
        return cls(Annotation(cls=name, box_px=box), fill(size, [points]))


def drawn_item(
    image: Path,
    data: bytes,
    size: tuple[int, int],
    marks: Sequence[Drawn],
    target: Target,
    where: object,
    *,
    source: str,
    group: str,
    split: Split | None = None,
) -> Item:
    """The picture with what is drawn on it, each mark a defect; without any it is a good one. `where` holds them."""
    mask = fill_boxes(tuple(m.annotation for m in marks if m.bits is None), size, target, where)
    for m in marks:
        if m.bits is not None:
            mask[m.bits] = target.class_id(m.annotation.cls, where)
    return Item(
        where=str(image),
        data=data,
        suffix=image.suffix,
        group=group,
        mask=mask,
        mask_is_boxes=any(m.bits is None for m in marks),
        labels=tuple(dict.fromkeys(m.annotation.cls for m in marks)),
        annotations=tuple(m.annotation for m in marks),
        split=split,
        source=source,
    )


def size_as_said(
    data: bytes, image: Path, width: float | None, height: float | None, said_in: object
) -> tuple[int, int]:
    """(height, width) of a picture, once they are those its labels were drawn on; some programs write null or 0 for
    unknown."""
    h, w = decode(data, image).shape[:2]
    if (width or w, height or h) != (w, h):
        raise DatasetError(
            image,
            f"is {w}x{h} px, and {said_in} says {width or w:g}x{height or h:g}",
            "bring the picture the labels were drawn on, or export it again",
        )
    return h, w


def fill_boxes(annotations: tuple[Annotation, ...], size: tuple[int, int], target: Target, where: object) -> Mask:
    """Boxes -> a mask with the boxes filled, (H, W). Larger boxes first, so that a small one inside stays visible."""
    mask = np.zeros(size, np.uint8)
    boxed = [(a.box_px, target.class_id(a.cls, where)) for a in annotations if a.box_px is not None]
    for box, _ in boxed:
        check_box(box, size, where)
    for (x, y, w, h), class_id in sorted(boxed, key=lambda b: -b[0][2] * b[0][3]):
        left, top = max(0, int(np.floor(x))), max(0, int(np.floor(y)))
        mask[top : int(np.ceil(y + h)), left : int(np.ceil(x + w))] = class_id
    return mask


def check_box(box: BoxPx, size: tuple[int, int], where: object) -> None:
    """A box without an area, or beside the picture, marks nothing: whoever drew it meant something else."""
    x, y, w, h = box
    said = f"holds the box {', '.join(f'{v:g}' for v in box)}"
    if not all(math.isfinite(v) for v in box) or w <= 0 or h <= 0:
        raise DatasetError(where, said, "write left, top, width and height in px, the last two above 0")
    if x >= size[1] or y >= size[0] or x + w <= 0 or y + h <= 0:
        said += f", outside the picture of {size[1]}x{size[0]} px"
        raise DatasetError(where, said, "draw it again, or remove it")


def polygon(numbers: Sequence[float], where: object) -> NDArray[np.float64]:
    """x y x y ... in px -> (N, 2)."""
    points = np.array(numbers, np.float64)
    if len(points) < 6 or len(points) % 2:
        raise DatasetError(where, f"has an outline of {len(points)} numbers", "write x and y of three corners or more")
    if not (np.abs(points) < 1e6).all():  # a NaN is not below it either
        raise DatasetError(where, "has an outline with a corner that is nowhere", "export it again")
    return points.reshape(-1, 2)


def ellipse(cx: float, cy: float, rx: float, ry: float, degrees: float, where: object) -> NDArray[np.float64]:
    """Its outline in px, (CORNERS_OF_AN_ELLIPSE, 2). DatasetError where a number is none."""
    angles = np.linspace(0, 2 * math.pi, CORNERS_OF_AN_ELLIPSE, endpoint=False)
    around = turned_by(np.stack([cx + rx * np.cos(angles), cy + ry * np.sin(angles)], 1), degrees)
    return polygon(around.ravel().tolist(), where)


def turned_by(points: NDArray[np.float64], degrees: float) -> NDArray[np.float64]:
    """Around their middle, clockwise on the screen."""
    c, s = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    middle = (points.min(0) + points.max(0)) / 2
    return np.asarray((points - middle) @ np.array([[c, s], [-s, c]]) + middle)
