"""From radiance to the camera's bytes: light field, lens, exposure, sensor."""

from __future__ import annotations

import math

import cv2
import numpy as np

from inspection.render.spec import Field, Image, Optics

LUMA = np.repeat(np.array([[0.114], [0.587], [0.299]], np.float32), 3, axis=1)  # BGR to the same grey three times
SHOT_SHARE = 0.6  # of the noise variance at mid grey, how much goes with the signal


def draw_optics(rng: np.random.Generator) -> Optics:
    """A camera somebody set up in a hurry."""
    return Optics(
        blur_px=float(rng.choice([0.45, 0.7, 1.0]) * rng.uniform(0.8, 1.25)),
        exposure=float(math.exp(rng.normal(0, 0.2))),
        noise=float(rng.uniform(0.8, 4.0)),
        vignette=float(rng.uniform(0.0, 0.35)),
        monochrome=bool(rng.random() < 0.25),
    )


def light_field(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    """(H, W, 3) gentle gradient of the room's lamps, mean about 1, a little coloured."""
    height, width = size
    y, x = np.mgrid[-1 : 1 : complex(0, height), -1 : 1 : complex(0, width)].astype(np.float32)
    turn, slope = rng.uniform(0, 2 * math.pi), rng.uniform(0.0, 0.3)
    bowl = rng.uniform(-0.10, 0.10)
    field = 1 + slope * (x * math.cos(turn) + y * math.sin(turn)) + bowl * (x * x + y * y - 0.66)
    tint = 1 + rng.normal(0, 0.018, 3)
    return np.asarray(field[..., None] * tint, np.float32)


def vignette_field(vignette: float, size: tuple[int, int]) -> Field:
    height, width = size
    y, x = np.mgrid[-1 : 1 : complex(0, height), -1 : 1 : complex(0, width)].astype(np.float32)
    return np.asarray(1 - vignette * (x * x + y * y) / 2, np.float32)


def arc_field(rng: np.random.Generator, size: tuple[int, int]) -> Field:
    """(H, W, 3) the welding arc's light, bluish white, from beyond one side of the frame."""
    height, width = size
    y, x = np.mgrid[0:height, 0:width].astype(np.float32) / np.float32(width)
    side = 1.0 if rng.random() < 0.5 else 0.0
    sx = side + (side * 2 - 1) * rng.uniform(0.08, 0.3)
    sy = rng.uniform(0.35, 0.65) * height / width
    near = 1 / (0.12 + (x - sx) ** 2 + (y - sy) ** 2)
    near /= near.mean()
    blue = np.array([1.18, 1.0, rng.uniform(0.82, 0.92)], np.float32)
    return np.asarray(near[..., None] * blue, np.float32)


def spatter_flash(rng: np.random.Generator, size: tuple[int, int], px_per_mm: float, count: int) -> Image:
    """(H, W, 3) glowing droplets in flight, drawn out by the exposure. They last one frame and are no defect."""
    height, width = size
    streaks = np.zeros(size, np.uint8)
    source = np.array([rng.uniform(-0.1, 1.1) * width, rng.uniform(0.3, 0.7) * height])
    for _ in range(count):
        at = np.array([rng.uniform(0, width), rng.uniform(0, height)])
        turn = math.atan2(*(at - source)[::-1]) + rng.normal(0, 0.35)
        step = np.array([math.cos(turn), math.sin(turn)]) * rng.uniform(0.3, 5) * px_per_mm / 5
        peak, thick = rng.uniform(150, 255), rng.uniform(0.08, 0.22) * px_per_mm
        for k in range(5):  # the droplet brightens towards its head, and its tail thins out
            a, b = (((at + step * j) * 8).round().astype(int).tolist() for j in (k, k + 1))
            share = (0.35, 0.6, 0.85, 1.0, 0.7)[k]
            cv2.line(streaks, a, b, int(peak * share), max(1, round(thick * share)), cv2.LINE_AA, 3)
    streaks = cv2.blur(streaks, (3, 3))
    return np.asarray(cv2.LUT(cv2.merge([streaks, streaks, streaks]), GLOW), np.uint8)


def _glow() -> Image:
    """(1, 256, 3): white-hot where bright, orange where dim."""
    v = np.arange(256) / 255
    return np.asarray(np.stack([v**2.6, v**1.5, v**0.9], 1)[None] * 255, np.uint8)


GLOW = _glow()


def expose(rng: np.random.Generator, radiance: Field, optics: Optics) -> Image:
    """Lens, exposure, shoulder, sensor noise, rounding to bytes."""
    size = radiance.shape[:2]
    image = radiance
    if optics.blur_px > 0.2:
        image = cv2.GaussianBlur(image, (0, 0), optics.blur_px, borderType=cv2.BORDER_REFLECT_101)
    image = image * (vignette_field(optics.vignette, size) * np.float32(optics.exposure))[..., None]
    if optics.monochrome:
        image = image @ LUMA
    image = shoulder(image)
    grey = rng.standard_normal(size, dtype=np.float32)[..., None]
    colour = rng.standard_normal((*size, 3), dtype=np.float32)
    noise = (0.8 * grey + (0 if optics.monochrome else 0.6) * colour) * np.float32(optics.noise)
    image = image * 255 + noise * np.sqrt(1 - SHOT_SHARE + SHOT_SHARE * 2 * np.clip(image, 0, 1))
    return np.asarray(np.clip(image + 0.5, 0, 255), np.uint8)


def grey(image: Image) -> Image:
    """What a monochrome camera makes of a colour picture; three equal channels."""
    one = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
    return np.asarray(cv2.merge([one, one, one]), np.uint8)


def shoulder(image: Field) -> Field:
    """Highlights roll off above 0.75 as a camera's curve does, rather than being cut."""
    over = np.maximum(image - np.float32(0.75), 0)
    return np.asarray(np.minimum(image, 0.75) + over / (1 + over * np.float32(2.6)), np.float32)
