"""Checkerboards of known geometry, drawn through a known lens."""

from __future__ import annotations

import math

import cv2
import numpy as np

from inspection.calibration import Board

BOARD = Board(columns=9, rows=6, square_mm=5.0)
SIZE = (640, 512)
OVERSAMPLED = 3


def photograph(
    px_per_mm: float = 8.0,
    *,
    turn_deg: float = 3.0,
    tilt_deg: tuple[float, float] = (0.0, 0.0),
    shift_mm: tuple[float, float] = (0.0, 0.0),
    k1: float = 0.0,
    focal_px: float = 1600.0,
    noise: float = 2.0,
    size: tuple[int, int] = SIZE,
    board: Board = BOARD,
) -> np.ndarray:
    """A board `focal_px / px_per_mm` mm before a pinhole camera with a radial bend: (H, W, 3) uint8.

    Each px asks which square it sees, so that nothing of OpenCV's own projection goes into the truth.
    """
    width, height = size[0] * OVERSAMPLED, size[1] * OVERSAMPLED
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    # middle of the fine px, in px of the picture; a picture's px has its middle at whole numbers
    x, y = (x + 0.5) / OVERSAMPLED - 0.5, (y + 0.5) / OVERSAMPLED - 0.5
    bent = np.stack([(x - (size[0] - 1) / 2) / focal_px, (y - (size[1] - 1) / 2) / focal_px])
    ray = bent.copy()
    for _ in range(20):  # bent = ray * (1 + k1 * r2), solved for ray
        ray = bent / (1 + k1 * (ray**2).sum(axis=0))
    a, b, c = (math.radians(angle) for angle in (*tilt_deg, turn_deg))
    rx = np.array([[1, 0, 0], [0, math.cos(a), -math.sin(a)], [0, math.sin(a), math.cos(a)]])
    ry = np.array([[math.cos(b), 0, math.sin(b)], [0, 1, 0], [-math.sin(b), 0, math.cos(b)]])
    rz = np.array([[math.cos(c), -math.sin(c), 0], [math.sin(c), math.cos(c), 0], [0, 0, 1]])
    to_board = (rz @ rx @ ry).T
    middle = np.array([0.0, 0.0, focal_px / px_per_mm])
    rays = np.stack([ray[0], ray[1], np.ones_like(ray[0])]).reshape(3, -1)
    eye, way = to_board @ -middle, to_board @ rays
    hit = eye[:, None] + way * (-eye[2] / way[2])
    u, v = ((hit[k] + shift_mm[k]) / board.square_mm for k in (0, 1))
    u, v = u + (board.columns + 1) / 2, v + (board.rows + 1) / 2
    inside = (u > 0) & (v > 0) & (u < board.columns + 1) & (v < board.rows + 1)
    grey = np.where(inside & ((np.floor(u) + np.floor(v)) % 2 == 0), 40.0, 210.0).reshape(height, width)
    small = cv2.GaussianBlur(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), (0, 0), 0.7)
    rng = np.random.default_rng(0)
    noisy = small[..., None] + rng.normal(0, noise, (size[1], size[0], 3))
    return np.clip(noisy, 0, 255).astype(np.uint8)
