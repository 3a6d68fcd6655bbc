"""How a screenshot looks to people with a colour-vision deficiency.

G. M. Machado, M. M. Oliveira, L. A. F. Fernandes, "A Physiologically-based Model for Simulation of Color Vision
Deficiency", IEEE TVCG 15(6), 2009: the matrices of severity 1.0, applied to linear RGB.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MATRICES = {
    "deuteranopia": ((0.367322, 0.860646, -0.227968), (0.280085, 0.672501, 0.047413), (-0.011820, 0.042940, 0.968881)),
    "protanopia": ((0.152286, 1.052583, -0.204868), (0.114503, 0.786281, 0.099216), (-0.003882, -0.048116, 1.051998)),
}

Colours = NDArray[np.float64]


def decode(png: bytes) -> NDArray[np.uint8]:
    """(H, W, 3) RGB."""
    image = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image[..., ::-1], np.uint8)


def linear(rgb: NDArray[np.uint8]) -> Colours:
    """sRGB 0..255 -> linear 0..1."""
    c = rgb.astype(np.float64) / 255
    return np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)


def seen_by(kind: str, rgb: NDArray[np.uint8]) -> Colours:
    """Linear colours as these eyes take them; `normal` leaves them as they are."""
    light = linear(rgb)
    return light if kind == "normal" else np.clip(light @ np.array(MATRICES[kind]).T, 0, 1)


def luminance(light: Colours) -> Colours:
    return light @ np.array((0.2126, 0.7152, 0.0722))


def contrast(a: Colours, b: Colours) -> float:
    """WCAG 2, of two linear colours: 1 to 21."""
    high, low = sorted((float(luminance(a)), float(luminance(b))), reverse=True)
    return (high + 0.05) / (low + 0.05)


def difference(a: Colours, b: Colours) -> float:
    """CIE 1976 colour difference of two linear colours; 2.3 is just noticeable."""
    return float(np.linalg.norm(_lab(a) - _lab(b)))


def _lab(light: Colours) -> Colours:
    c = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055).astype(np.float32)
    return cv2.cvtColor(c.reshape(1, 1, 3), cv2.COLOR_RGB2LAB).reshape(3).astype(np.float64)


def ground_and_ink(rgb: NDArray[np.uint8], kind: str) -> tuple[Colours, Colours]:
    """The commonest colour of a picture, and the one of its pixels that stands out most from it, for these eyes."""
    flat = rgb.reshape(-1, 3)
    colours, counts = np.unique(flat, axis=0, return_counts=True)
    light = seen_by(kind, colours)
    ground = light[int(counts.argmax())]
    often = light[counts >= 4]  # a stray px of an edge is no letter
    ink = max(often, key=lambda colour: contrast(colour, ground))
    return ground, ink
