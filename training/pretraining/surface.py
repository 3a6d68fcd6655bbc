"""One drawn surface: textures beside one another, print, marks, light, a camera.

Borders, print and holes with smooth rims are no marks, so that "here is an edge" is not enough.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from training.pretraining.marks import KINDS, Scene, blurred
from training.pretraining.textures import FAMILIES, Field, Rng, Texture, log_uniform, piece

CLASSES = (*(name for name, _ in KINDS), *(name for name, _ in FAMILIES))
MARKED = 0.6  # of the pictures
LEAST_MARK_PX = 3
LEAST_SHARE = 0.08  # of a picture: a texture that covers less is not asked for


@dataclass(frozen=True, slots=True)
class Surface:
    """`image` (H, W, 3) uint8; `mask` (H, W): 0, or 1 + the place in KINDS; `target` (C,) of CLASSES; `grounds`: the
    places of the textures that cover enough to be told."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    target: NDArray[np.float32]
    grounds: frozenset[int]


def draw(rng: Rng, of: Sequence[Texture], size: tuple[int, int]) -> Surface:
    """About 3 ms at 160x128. `size` (H, W)."""
    scene, grounds = _ground(rng, of, size)
    if rng.random() < 0.15:
        print_on(rng, scene)
    mask = np.zeros(size, np.uint8)
    if rng.random() < MARKED:
        for _ in range(int(rng.choice([1, 2, 3], p=[0.6, 0.28, 0.12]))):
            kind = int(rng.integers(len(KINDS)))
            mask[KINDS[kind][1](rng, scene)] = kind + 1
    target = np.zeros(len(CLASSES), np.float32)
    for kind in range(len(KINDS)):
        target[kind] = (mask == kind + 1).sum() >= LEAST_MARK_PX
    target[[len(KINDS) + of[k].family for k in grounds]] = 1
    return Surface(_seen(rng, scene.image), mask, target, grounds)


def _ground(rng: Rng, of: Sequence[Texture], size: tuple[int, int]) -> tuple[Scene, frozenset[int]]:
    """Up to four textures, and the places of those that cover enough to be told."""
    main, texture = piece(rng, of, size)
    grounds, borders = {main}, None
    tone, contrast = _paint(rng)
    image = tone + texture[..., None] * contrast
    for _ in range(int(rng.choice(4, p=[0.4, 0.35, 0.15, 0.1]))):
        area = _area(rng, size)
        if rng.random() < 0.2:
            area = blurred(area, rng.uniform(1, 8))
        there, inlay = tone * rng.uniform(0.5, 1.5) + texture[..., None] * contrast, main
        if rng.random() < 0.8:
            inlay, other = piece(rng, of, size)
            other_tone, other_contrast = _paint(rng)
            if rng.random() < 0.4:
                other_tone = tone * rng.uniform(0.7, 1.3)
            there = other_tone + other[..., None] * other_contrast
        if area.mean() > LEAST_SHARE:
            grounds.add(inlay)
        image = image * (1 - area[..., None]) + there * area[..., None]
        border = cv2.morphologyEx((area > 0.5).astype(np.uint8), cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
        if rng.random() < 0.5:
            lit = blurred(border.astype(np.float32), rng.uniform(0.5, 2.5))
            image = image + lit[..., None] * rng.uniform(-80, 80)
        borders = border > 0 if borders is None else borders
    return Scene(image, contrast, borders, of), frozenset(grounds)


def _paint(rng: Rng) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Tone and contrast of B, G, R in grey levels; four in ten are grey."""
    colourful = rng.choice([0, 0.05, 0.3], p=[0.4, 0.45, 0.15])
    tone = rng.uniform(30, 200) * (1 + colourful * rng.standard_normal(3))
    return tone, log_uniform(rng, 2.5, 45) * (1 + 0.3 * colourful * rng.standard_normal(3))


def _area(rng: Rng, size: tuple[int, int]) -> Field:
    """Half of the picture, a band, a disk, a box or a polygon."""
    area, kind = np.zeros(size, np.float32), int(rng.integers(5))
    x, y = rng.uniform(0, size[1]), rng.uniform(0, size[0])
    square = rng.random() < 0.5
    if kind <= 1:
        turn = int(rng.integers(4)) * math.pi / 2 if square else rng.uniform(0, 2 * math.pi)
        rows, cols = np.mgrid[0 : size[0], 0 : size[1]]
        away = (cols - x) * math.cos(turn) + (rows - y) * math.sin(turn)
        return np.asarray(away > 0 if kind == 0 else np.abs(away) < rng.uniform(4, 40), np.float32)
    if kind == 2:
        cv2.circle(area, (int(x), int(y)), int(rng.uniform(8, 60)), 1, -1, cv2.LINE_AA)
    elif kind == 3:
        box = cv2.boxPoints(((x, y), tuple(rng.uniform(15, 120, 2)), float(rng.uniform(0, 90))))
        cv2.fillPoly(area, [box.astype(np.int32)], 1, cv2.LINE_AA)
    else:
        corners = np.array([x, y]) + rng.uniform(-60, 60, (int(rng.integers(3, 7)), 2))
        cv2.fillPoly(area, [cv2.convexHull(corners.astype(np.int32))], 1, cv2.LINE_AA)
    return area


def print_on(rng: Rng, scene: Scene) -> None:
    """A few letters: an edge with a meaning, and no mark."""
    text = "".join(chr(int(rng.integers(ord("0"), ord("Z")))) for _ in range(int(rng.integers(1, 6))))
    at = int(rng.integers(-10, scene.size[1] - 20)), int(rng.integers(10, scene.size[0]))
    ink = np.zeros(scene.size, np.uint8)
    font, height, thick = int(rng.integers(0, 7)), float(rng.uniform(0.3, 1.5)), int(rng.integers(1, 3))
    cv2.putText(ink, text, at, font, height, 255, thick, cv2.LINE_AA)
    scene.lay(rng.uniform(0, 220, 3), np.asarray(ink / 255, np.float32))


def _seen(rng: Rng, image: NDArray[np.floating]) -> NDArray[np.uint8]:
    """Light from one side, a lens, an exposure, a sensor."""
    if rng.random() < 0.7:
        turn, fall = rng.uniform(0, 2 * math.pi), rng.uniform(0, 0.4)
        rows, cols = np.mgrid[-1 : 1 : image.shape[0] * 1j, -1 : 1 : image.shape[1] * 1j]
        image = image * (1 + fall * (cols * math.cos(turn) + rows * math.sin(turn)))[..., None]
    seen = np.asarray(image, np.float32)
    if rng.random() < 0.25:
        seen = np.asarray(cv2.GaussianBlur(seen, (0, 0), rng.uniform(0.4, 1.1)), np.float32)
    grain = rng.standard_normal((*seen.shape[:2], 1), np.float32) * (1 + 0.2 * rng.standard_normal((1, 1, 3)))
    return np.clip(seen * rng.uniform(0.75, 1.3) + rng.uniform(0, 8) * grain, 0, 255).astype(np.uint8)
