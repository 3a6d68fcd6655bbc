"""GenICam pixel formats of 8 bits, as (H, W) grey or (H, W, 3) BGR."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

MONO8, RGB8, BGR8 = 0x01080001, 0x02180014, 0x02180015
BAYER8 = {
    0x01080008: cv2.COLOR_BayerGB2BGR,  # GenICam's GR: OpenCV names a pattern by its second row, from the second px
    0x01080009: cv2.COLOR_BayerBG2BGR,  # RG
    0x0108000A: cv2.COLOR_BayerGR2BGR,  # GB
    0x0108000B: cv2.COLOR_BayerRG2BGR,  # BG
}


def picture(data: NDArray[np.uint8], width: int, height: int, pixel_format: int) -> NDArray[np.uint8]:
    """OSError for a format of other than 8 bits: set the camera to Mono8, BGR8 or an 8-bit Bayer pattern."""
    if pixel_format in (RGB8, BGR8):
        colour = data[: width * height * 3].reshape(height, width, 3)
        return colour if pixel_format == BGR8 else np.asarray(cv2.cvtColor(colour, cv2.COLOR_RGB2BGR), np.uint8)
    if pixel_format != MONO8 and pixel_format not in BAYER8:
        raise OSError(f"pixel format 0x{pixel_format:08x} is not Mono8, RGB8, BGR8 or an 8-bit Bayer pattern")
    grey = data[: width * height].reshape(height, width)
    if pixel_format == MONO8:
        return grey
    return np.asarray(cv2.cvtColor(grey, BAYER8[pixel_format]), np.uint8)
