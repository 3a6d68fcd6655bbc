"""Each visit shows a part anew: elsewhere, in another light, under spatter. The label follows from what is left of it.

Every variation follows from the generator it is given. Each has a name, so that `haltline train ablate` can leave one
out at a time: a variation that does not earn its place is not in `DEFAULT`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.label_book import ClassRule, LabelBook
from inspection.render import optics
from inspection.types import Image
from training.dataset.item import Mask
from training.dataset.rule import broken, longest_px
from training.examples import Example, Floats

Window = tuple[int, int]
"""Width and height in px of the part of a picture that is trained on; sides are multiples of 16."""

NAMES = ("flip", "warp", "light", "noise", "flicker", "spatter", "synthetic")
DEFAULT = ("flip", "warp", "light", "noise")
SYNTHETIC_SHARE = 0.15  # of the good pictures get a defect from elsewhere; more teaches seams rather than defects


@dataclass(frozen=True, slots=True)
class Variations:
    """What may be varied. `names` of `NAMES`; `px_per_mm` of the input says how large a droplet is.

    `donors` are defective pictures with outlines, whose defects `synthetic` puts on good parts.
    """

    names: tuple[str, ...] = DEFAULT
    px_per_mm: float = 5.0
    donors: tuple[Example, ...] = ()


def vary(
    example: Example,
    rng: np.random.Generator,
    book: LabelBook,
    window: Window | None = None,
    how: Variations | None = None,
) -> Example:
    """The same part at another place, under another light, perhaps only a window of it."""
    how = how or Variations()
    names = how.names
    if "synthetic" in names and how.donors and not example.target.any() and rng.random() < SYNTHETIC_SHARE:
        example = with_defect_of(example, how.donors[int(rng.integers(len(how.donors)))], rng, book)
    image, mask = example.image, example.mask
    for axis in (0, 1):
        if "flip" in names and rng.random() < 0.5:
            image = np.flip(image, axis)
            mask = None if mask is None else np.flip(mask, axis)
    target, length_mm = example.target, example.length_mm
    # Without a mask nobody can tell whether the defect left the picture; with half of them a hairline stays unblurred.
    before = mask
    if "warp" in names and mask is not None and rng.random() < 0.5:
        warp = _warp(rng, image.shape[1], image.shape[0])
        size = (image.shape[1], image.shape[0])
        image = cv2.warpAffine(image, warp, size, flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REFLECT_101)
        mask = np.asarray(cv2.warpAffine(mask, warp, size, flags=cv2.INTER_NEAREST, borderMode=cv2.BORDER_REFLECT_101))
    if window:
        here = place(mask, image.shape, window, rng)
        image, mask = image[here], None if mask is None else mask[here]
    if before is not None and mask is not None and mask is not before:
        target, length_mm = relabel(example, before, mask, book)
    mask = None if mask is None else np.ascontiguousarray(mask)
    lit = _relight(np.ascontiguousarray(image), rng, names)
    return replace(example, image=_weather(lit, rng, how), mask=mask, target=target, length_mm=length_mm)


def place(mask: Mask | None, shape: tuple[int, ...], window: Window, rng: np.random.Generator) -> tuple[slice, slice]:
    """Where the window lies: three times of four over a defect, if there is one, anywhere else otherwise."""
    (height, width), (w, h) = shape[:2], window
    x, y = int(rng.integers(0, width - w + 1)), int(rng.integers(0, height - h + 1))
    over_defect = rng.random() < 0.75
    if mask is not None and over_defect and mask.any():
        rows, cols = np.nonzero(mask)
        k = int(rng.integers(0, len(rows)))
        x = int(np.clip(cols[k] - rng.integers(0, w), 0, width - w))
        y = int(np.clip(rows[k] - rng.integers(0, h), 0, height - h))
    return slice(y, y + h), slice(x, x + w)


def can_be_windowed(examples: Sequence[Example]) -> bool:
    """Whether every defective picture says where its defect is: without that, nobody knows if a window shows it."""
    return all(e.mask is not None or not e.target.any() for e in examples)


def _warp(rng: np.random.Generator, width_px: int, height_px: int) -> NDArray[np.float64]:
    """Turn by up to 9 degrees, scale by up to 15 %, shift by up to 8 %."""
    warp = cv2.getRotationMatrix2D((width_px / 2, height_px / 2), rng.uniform(-9, 9), rng.uniform(0.85, 1.15))
    warp[:, 2] += rng.uniform(-0.08, 0.08, 2) * (width_px, height_px)
    return np.asarray(warp)


def relabel(example: Example, before: Mask, after: Mask, book: LabelBook) -> tuple[Floats, Floats]:
    """Targets and lengths after a warp: lengths change as their longest region did, then the rule applies.

    Where the rule did not say what the label says of the whole picture, the label is a person's: of a size near the
    limit, or of a depth no mask shows. It stays as long as a quarter of the defect does.
    """
    target, length_mm = example.target.copy(), example.length_mm.copy()
    if not before.any():
        return target, length_mm
    old, new = longest_px(before, len(book.rules)), longest_px(after, len(book.rules))
    for k, rule in enumerate(book.rules):
        if old[k] == 0:
            continue
        left = new[k] / old[k]
        length_mm[k] *= left
        if new[k] == 0:
            target[k] = 0.0
        elif not _follows(rule, before == k + 1, old[k], example, k):
            target[k] = target[k] if left > 0.25 else 0.0
        elif example.target[k] in (0.0, 1.0):
            scale = old[k] / float(example.length_mm[k])
            target[k] = float(broken(rule, after == k + 1, float(length_mm[k]), scale))
    return target, length_mm


def _follows(rule: ClassRule, regions: NDArray[np.bool_], longest_px: float, example: Example, k: int) -> bool:
    """Whether the k-th label is what the rule says of the picture's outlines; without a scale it says nothing."""
    length_mm = float(example.length_mm[k])
    if not length_mm > 0:
        return False
    said = example.target[k]
    return said not in (0.0, 1.0) or broken(rule, regions, length_mm, longest_px / length_mm) == bool(said)


def _relight(image: Image, rng: np.random.Generator, names: Sequence[str]) -> Image:
    """Another exposure, a touch of colour, sensor noise. No blur: it would wipe hairline scratches out."""
    lit = image.astype(np.float32)
    if "light" in names:
        lit *= np.float32(rng.uniform(0.7, 1.4)) * rng.uniform(0.95, 1.05, 3).astype(np.float32)
        lit += np.float32(rng.uniform(-12, 12))
    if "noise" in names and rng.random() < 0.5:
        lit += rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 5))
    return np.clip(lit, 0, 255).astype(np.uint8)


def _weather(image: Image, rng: np.random.Generator, how: Variations) -> Image:
    """What an arc adds to any frame: its own light from one side, and glowing droplets that last one exposure."""
    size = (image.shape[0], image.shape[1])
    if "flicker" in how.names and rng.random() < 0.3:
        share = np.float32(rng.uniform(0.1, 0.5))
        field = (1 - share) + share * np.minimum(optics.arc_field(rng, size), 3)
        image = np.clip(image * field, 0, 255).astype(np.uint8)
    if "spatter" in how.names and rng.random() < 0.3:
        flash = optics.spatter_flash(rng, size, how.px_per_mm, int(rng.integers(1, 10)))
        image = np.asarray(cv2.add(image, flash), np.uint8)
    return image


def with_defect_of(example: Example, donor: Example, rng: np.random.Generator, book: LabelBook) -> Example:
    """A good part with one region of the donor's defects, blended in by Poisson's equation (Perez et al. 2003).

    The label follows from the region's length under the book. The part comes back as it was where the region does not
    fit, or where either has no mask.
    """
    if donor.mask is None or donor.boxes or donor.image.shape != example.image.shape:
        return example
    count, regions = cv2.connectedComponents((donor.mask > 0).astype(np.uint8), connectivity=8)
    if count < 2:
        return example
    region = (regions == int(rng.integers(1, count))).astype(np.uint8)
    k = int(donor.mask[region > 0][0]) - 1
    # OpenCV takes 3 px off the mask again; what is left must hold the edge, for its gradient is all that is carried.
    around = cv2.dilate(region, np.ones((15, 15), np.uint8))
    x, y, w, h = cv2.boundingRect(around)
    height, width = region.shape
    if min(x, y) < 1 or x + w > width - 1 or y + h > height - 1:  # a border of its own that Poisson's equation needs
        return example
    to_x, to_y = int(rng.integers(1, width - w)), int(rng.integers(1, height - h))
    middle = (to_x + w // 2, to_y + h // 2)
    cut = (slice(y, y + h), slice(x, x + w))
    image = cv2.seamlessClone(
        np.ascontiguousarray(donor.image[cut]), example.image, around[cut] * np.uint8(255), middle, cv2.NORMAL_CLONE
    )
    mask = np.zeros(region.shape, np.uint8) if example.mask is None else example.mask.copy()
    mask[to_y : to_y + h, to_x : to_x + w][region[cut] > 0] = k + 1
    target, length_mm, rule = example.target.copy(), example.length_mm.copy(), book.rules[k]
    whole = longest_px(donor.mask, len(book.rules))[k]
    own = longest_px((region * np.uint8(k + 1)), len(book.rules))[k]
    length_mm[k] = donor.length_mm[k] * own / whole
    follows = _follows(rule, donor.mask == k + 1, whole, donor, k)
    target[k] = float(rule.is_defect(float(length_mm[k]))) if follows else donor.target[k]
    return replace(example, image=np.asarray(image, np.uint8), mask=mask, target=target, length_mm=length_mm)
