"""Six kinds of mark on a drawn surface: what differs from its surroundings and has an outline."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.pretraining.textures import Field, Rng, Texture, log_uniform, piece

Mask = NDArray[np.bool_]
SUBPIXEL = 3  # bits, of OpenCV's drawing
SHOWN = 0.35  # of a soft stroke or patch: from here on a pixel is inside the outline
FAINTEST = 9.0  # grey levels


@dataclass(slots=True)
class Scene:
    """A surface as it is drawn. `image` (H, W, 3) float grey levels, `contrast` those of its texture, `borders` (H, W)
    where two textures meet, or None."""

    image: NDArray[np.floating]
    contrast: NDArray[np.float64]
    borders: Mask | None
    textures: Sequence[Texture]

    @property
    def size(self) -> tuple[int, int]:
        return self.image.shape[0], self.image.shape[1]

    def lay(self, over: NDArray[np.floating], share: Field) -> None:
        """Cover by `share` (H, W), 0 to 1."""
        self.image = self.image * (1 - share[..., None]) + over * share[..., None]

    def add(self, light: Field, colour: float | NDArray[np.float64] = 1.0) -> None:
        self.image = self.image + light[..., None] * colour


def strength(rng: Rng, scene: Scene) -> float:
    """Grey levels that stand out from the texture, just or well."""
    return max(FAINTEST, float(scene.contrast.mean()) * rng.uniform(1.2, 3.5) + rng.uniform(0, 25))


def scratch(rng: Rng, scene: Scene) -> Mask:
    """A smooth thin line, bright or dark, perhaps with a lit flank."""
    path = _path(rng, scene.size, int(rng.integers(8, 40)), rng.uniform(1, 5), rng.uniform(0, 0.06), 0.02)
    line = _line(scene.size, path, int(rng.choice([1, 1, 2, 3])))
    soft = blurred(line, rng.uniform(0.3, 0.9))
    groove = rng.choice([-1, 1]) * soft
    if rng.random() < 0.5:
        groove = groove + rng.uniform(-1, 1) * _slope(soft, 0)
    scene.add(1.3 * strength(rng, scene) * groove)
    return line > SHOWN


def crack(rng: Rng, scene: Scene) -> Mask:
    """A jagged dark line, perhaps with branches."""
    count = int(rng.integers(6, 35))
    path = _path(rng, scene.size, count, rng.uniform(2, 5), rng.uniform(0, 0.1), rng.uniform(0.3, 0.8))
    line = _line(scene.size, path, int(rng.choice([1, 1, 2])))
    for _ in range(int(rng.integers(0, 3))):
        branch = _path(rng, scene.size, int(rng.integers(3, 10)), 3, 0, 0.6)
        line = np.maximum(line, _line(scene.size, branch - branch[0] + path[int(rng.integers(count))], 1))
    scene.add(-1.5 * strength(rng, scene) * blurred(line, rng.uniform(0.3, 0.8)))
    return line > SHOWN


def pores(rng: Rng, scene: Scene) -> Mask:
    """One or several round holes, mostly dark, perhaps with a bright rim or a lit wall."""
    inside, rim = np.zeros(scene.size, bool), rng.random() < 0.5
    deep = strength(rng, scene)
    for _ in range(int(rng.choice([1, 2, 4, 7], p=[0.5, 0.25, 0.15, 0.1]))):
        hole = _patch(rng, scene.size, log_uniform(rng, 1.5, 9), 0.08)
        soft = blurred(hole, rng.uniform(0.4, 1.2))
        scene.add((-1.4 if rng.random() < 0.9 else 1.4) * deep * soft)
        if rim:
            scene.add(2 * deep * np.clip(blurred(hole, 2) - hole, 0, None))
        if rng.random() < 0.4:
            scene.add(rng.uniform(-1, 1) * deep * _slope(soft, 1))
        inside |= hole > SHOWN
    return inside


def stain(rng: Rng, scene: Scene) -> Mask:
    """A lighter, darker or tinted area with a soft edge; the texture goes on beneath it."""
    area = blurred(_patch(rng, scene.size, rng.uniform(6, 35), 0.25), rng.uniform(1, 5))
    uneven = 1 + 0.3 * piece(rng, scene.textures, scene.size)[1] if rng.random() < 0.5 else np.float32(1)
    tint = 1 + 0.25 * rng.standard_normal(3) if rng.random() < 0.4 else np.ones(3)
    scene.add(rng.choice([-1, 1]) * 0.8 * strength(rng, scene) * area * uneven, tint)
    return area > SHOWN


def other_texture(rng: Rng, scene: Scene) -> Mask:
    """An area of another texture in the tone of the one around it: fraying, a burn, an uneven coat."""
    area = blurred(_patch(rng, scene.size, rng.uniform(6, 35), 0.2), rng.uniform(0.5, 3))
    _, texture = piece(rng, scene.textures, scene.size)
    contrast = np.maximum(scene.contrast * rng.uniform(0.7, 1.8), 6)
    tone = cv2.GaussianBlur(scene.image, (0, 0), 4)
    scene.lay(tone + texture[..., None] * contrast, area)
    return area > SHOWN


def chip(rng: Rng, scene: Scene) -> Mask:
    """A rough hole of another tone with lit walls, mostly on a border."""
    hole = _patch(rng, scene.size, rng.uniform(3, 16), 0.35)
    if scene.borders is not None and scene.borders.any() and rng.random() < 0.8:
        rows, cols = np.nonzero(scene.borders)
        k = int(rng.integers(len(rows)))
        own_rows, own_cols = np.nonzero(hole > SHOWN)
        if len(own_rows):
            by = int(rows[k] - own_rows.mean()), int(cols[k] - own_cols.mean())
            hole = np.roll(hole, by, (0, 1))
    hole = blurred(hole, 0.6)
    inside = hole > SHOWN
    tone = rng.uniform(10, 230)
    if inside.any() and abs(tone - float(scene.image[inside].mean())) < 15:
        tone = max(5.0, tone - 45)
    _, texture = piece(rng, scene.textures, scene.size)
    scene.lay((tone + texture * rng.uniform(4, 25))[..., None], hole)
    scene.add(rng.uniform(-60, 60) * _slope(hole, 0))
    return inside


KINDS: tuple[tuple[str, Callable[[Rng, Scene], Mask]], ...] = (
    ("scratch", scratch),
    ("crack", crack),
    ("pore", pores),
    ("stain", stain),
    ("texture", other_texture),
    ("chip", chip),
)


def blurred(field: Field, sigma_px: float) -> Field:
    return np.asarray(cv2.GaussianBlur(field, (0, 0), sigma_px), np.float32)


def _slope(field: Field, axis: int) -> Field:
    return np.roll(field, 1, axis) - np.roll(field, -1, axis)


def _path(rng: Rng, size: tuple[int, int], count: int, step_px: float, bend: float, jag: float) -> NDArray[np.float64]:
    """(count, 2) x, y of a line somewhere on the picture: `bend` turns it steadily, `jag` at every step, radians."""
    turn = rng.uniform(0, 2 * math.pi) + np.cumsum(bend * rng.standard_normal() + jag * rng.standard_normal(count))
    path = np.stack([np.cumsum(step_px * np.cos(turn)), np.cumsum(step_px * np.sin(turn))], 1)
    return np.asarray(path - path.mean(0) + rng.uniform((0, 0), (size[1], size[0])))


def _line(size: tuple[int, int], path: NDArray[np.float64], width_px: int) -> Field:
    drawn, points = np.zeros(size, np.uint8), (path * 2**SUBPIXEL).astype(np.int32)
    cv2.polylines(drawn, [points], False, 255, width_px, cv2.LINE_AA, SUBPIXEL)
    return np.asarray(drawn / 255, np.float32)


def _patch(rng: Rng, size: tuple[int, int], radius_px: float, rough: float) -> Field:
    """A filled outline somewhere on the picture: an oval whose radius wanders by `rough` of itself."""
    count = 24
    around = np.arange(count) * 2 * math.pi / count
    wander = np.convolve(np.tile(rng.standard_normal(count), 3), [0.25, 0.5, 0.25], "same")[count : 2 * count]
    radius, flat, turn = radius_px * (1 + rough * wander), rng.uniform(0.5, 1), rng.uniform(0, math.pi)
    x, y = radius * np.cos(around), flat * radius * np.sin(around)
    corners = np.stack([x * math.cos(turn) - y * math.sin(turn), x * math.sin(turn) + y * math.cos(turn)], 1)
    corners += rng.uniform((0, 0), (size[1], size[0]))
    drawn = np.zeros(size, np.uint8)
    cv2.fillPoly(drawn, [(corners * 2**SUBPIXEL).astype(np.int32)], 255, cv2.LINE_AA, SUBPIXEL)
    return np.asarray(drawn / 255, np.float32)
