"""What happens to cameras, done to pictures: blur, light, hands, shifts, spatter on the lens."""

from __future__ import annotations

from collections.abc import Callable

import cv2
import numpy as np

from inspection.types import Image

_RNG = np.random.default_rng(0)
NOISE = 2.0


def sensor(picture: np.ndarray) -> Image:
    """Whatever happens before the sensor, its noise comes after it."""
    return np.clip(picture + _RNG.normal(0, NOISE, picture.shape), 0, 255).astype(np.uint8)


def blurred(sigma_px: float) -> Callable[[Image], Image]:
    return lambda image: sensor(cv2.GaussianBlur(image, (0, 0), sigma_px).astype(np.float32))


def exposed(factor: float) -> Callable[[Image], Image]:
    return lambda image: sensor(image.astype(np.float32) * factor)


def hand(image: Image) -> Image:
    """Skin against the lens: dim, red, without any edge."""
    small = cv2.resize(image, (16, 12), interpolation=cv2.INTER_AREA)
    soft = cv2.resize(small, image.shape[1::-1], interpolation=cv2.INTER_CUBIC).astype(np.float32)
    return sensor(soft * 0.2 + np.array([10, 12, 30]))


def paper(image: Image) -> Image:
    """A sheet before the lens: bright, with a slow gradient."""
    slope = np.linspace(0, 40, image.shape[1])[None, :, None]
    return sensor(np.full(image.shape, 200.0) - slope)


def half_covered(image: Image) -> Image:
    out = image.astype(np.float32)
    out[:, : image.shape[1] // 2] = 40
    return sensor(out)


def shifted(x: int, y: int) -> Callable[[Image], Image]:
    return lambda image: np.roll(image, (y, x), (0, 1))


def turned(deg: float) -> Callable[[Image], Image]:
    def turn(image: Image) -> Image:
        height, width = image.shape[:2]
        matrix = cv2.getRotationMatrix2D((width / 2, height / 2), deg, 1)
        return np.asarray(cv2.warpAffine(image, matrix, (width, height), borderMode=cv2.BORDER_REFLECT), np.uint8)

    return turn


def spatter(radius_px: int, x: int = 200, y: int = 250, takes: float = 0.45) -> Callable[[Image], Image]:
    """A droplet on the lens is out of focus: a soft spot that takes this share of the light."""

    def spot(image: Image) -> Image:
        mask = np.zeros(image.shape[:2], np.float32)
        cv2.circle(mask, (x, y), radius_px, 1.0, -1)
        mask = cv2.GaussianBlur(mask, (0, 0), radius_px / 3)
        return np.asarray(image * (1 - takes * mask[..., None]), np.uint8)

    return spot


FAULTS: dict[str, Callable[[Image], Image]] = {
    "blur, sigma 1.5 px": blurred(1.5),
    "blur, sigma 2.5 px": blurred(2.5),
    "blur, sigma 5 px": blurred(5),
    "exposure x0.5": exposed(0.5),
    "exposure x0.7": exposed(0.7),
    "exposure x1.4": exposed(1.4),
    "exposure x2": exposed(2.0),
    "hand on the lens": hand,
    "paper before the lens": paper,
    "half covered": half_covered,
    "moved 8 px across": shifted(0, 8),
    "moved 16 px across": shifted(0, 16),
    "moved 40 px across": shifted(0, 40),
    "moved 40 px along": shifted(40, 0),
    "turned 5 degrees": turned(5),
    "spatter, radius 12 px": spatter(12),
    "spatter, radius 25 px": spatter(25),
    "spatter, radius 45 px": spatter(45, 400, 150),
}
