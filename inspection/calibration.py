"""From px to mm: what one camera's scale is, how sure that is, and how its lens bends straight lines.

Two ways to it. Pictures of a checkerboard, the first of which lies in the plane of the work, give scale and lens. Two
points at a known distance, such as marks on a ruler, give the scale alone, and how far they can have been misplaced
is its error.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from inspection.errors import InputError
from inspection.types import Image

Points = NDArray[np.float32]
VIEWS_FOR_FOCUS = 4
"""Fewer pictures of the board do not tell the focal length from the distance: it is then set, see `_lens`."""

K2_PAYS = 0.9
"""The second radial term is kept when it brings the corners this much nearer."""


class Calibration(BaseModel):
    """One camera at one place. Move the camera, refocus it or change the lens, and it no longer holds.

    `px_per_mm` in the middle of the picture, `error_px_per_mm` its standard error. `tilt_share`: by how much the
    scale differs at most elsewhere in the picture because the camera does not look straight down. `lens`: fx, fy,
    cx, cy in px and k1, k2, p1, p2, k3 as OpenCV has them; None when only the scale is known. `rms_px`: how far the
    board's corners lie from where the calibration puts them.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    v: Literal[1] = 1
    id: str = ""
    camera: str
    created_utc: str
    method: Literal["checkerboard", "two_points"]
    width_px: int = Field(gt=0)
    height_px: int = Field(gt=0)
    px_per_mm: float = Field(gt=0)
    error_px_per_mm: float = Field(ge=0)
    tilt_share: float = Field(default=0.0, ge=0)
    lens: tuple[float, ...] | None = Field(default=None, min_length=9, max_length=9)
    rms_px: float = 0.0
    pictures: int = 0

    def to_json(self) -> bytes:
        return self.model_dump_json(indent=1).encode() + b"\n"


class Board(BaseModel):
    """A printed checkerboard: inner corners per row and column, and the side of one square."""

    model_config = ConfigDict(frozen=True)

    columns: int = Field(ge=3, le=100)
    rows: int = Field(ge=3, le=100)
    square_mm: float = Field(gt=0)

    def corners_mm(self) -> Points:
        """(rows * columns, 3), z = 0, row by row as OpenCV finds them."""
        grid = np.mgrid[0 : self.columns, 0 : self.rows].T.reshape(-1, 2) * self.square_mm
        return np.hstack([grid, np.zeros((len(grid), 1))]).astype(np.float32)


def parse_calibration(data: bytes, where: object) -> Calibration:
    """InputError when it is none, or was changed by hand."""
    try:
        calibration = Calibration.model_validate_json(data)
    except ValueError as e:
        raise InputError(where, f"is no calibration: {e}", "make one: haltline edge calibrate") from e
    if calibration.id != _id_of(calibration):
        raise InputError(where, "was changed after it was measured", "measure again: haltline edge calibrate")
    return calibration


def from_boards(pictures: Sequence[Image], board: Board, camera: str, created_utc: str) -> Calibration:
    """From pictures of one size; the first shows the board in the plane of the work. InputError names the misses."""
    if not pictures:
        raise InputError("calibration", "no picture", "give at least one picture of the board")
    height, width = pictures[0].shape[:2]
    corners = []
    for k, picture in enumerate(pictures):
        if picture.shape[:2] != (height, width):
            raise InputError(f"picture {k + 1}", f"is not {width}x{height} px", "take all with one camera setting")
        found = find_corners(picture, board)
        if found is not None:
            corners.append(found)
        elif k == 0:
            fix = f"the whole board with its {board.columns}x{board.rows} inner corners must be seen, evenly lit"
            raise InputError("picture 1", "shows no such board", fix)
    matrix, bend, rms = _lens(corners, board, (width, height))
    flat = np.asarray(cv2.undistortPoints(corners[0].reshape(-1, 1, 2), matrix, bend, P=matrix)).reshape(-1, 2)
    scale, error, tilt = scale_of(flat, board, (width, height))
    k1, k2, p1, p2, k3 = (float(value) for value in bend.ravel()[:5])
    lens = (matrix[0, 0], matrix[1, 1], matrix[0, 2], matrix[1, 2], k1, k2, p1, p2, k3)
    return _with_id(
        Calibration(
            camera=camera,
            created_utc=created_utc,
            method="checkerboard",
            width_px=width,
            height_px=height,
            px_per_mm=scale,
            error_px_per_mm=error,
            tilt_share=tilt,
            lens=tuple(float(value) for value in lens),
            rms_px=rms,
            pictures=len(corners),
        )
    )


def from_two_points(
    points_px: tuple[tuple[float, float], tuple[float, float]],
    distance_mm: float,
    size: tuple[int, int],
    camera: str,
    created_utc: str,
    placed_within_px: float = 1.0,
) -> Calibration:
    """`placed_within_px`: standard deviation with which a person places each point."""
    (x0, y0), (x1, y1) = points_px
    distance_px = math.hypot(x1 - x0, y1 - y0)
    if distance_px < 20 or distance_mm <= 0:
        raise InputError("calibration", f"{distance_px:.0f} px for {distance_mm} mm", "points far apart, in mm above 0")
    scale = distance_px / distance_mm
    return _with_id(
        Calibration(
            camera=camera,
            created_utc=created_utc,
            method="two_points",
            width_px=size[0],
            height_px=size[1],
            px_per_mm=scale,
            error_px_per_mm=scale * math.sqrt(2) * placed_within_px / distance_px,
        )
    )


def find_corners(picture: Image, board: Board) -> Points | None:
    """(rows * columns, 2) px, to a fraction of a px; None when the board is not wholly there."""
    grey = cv2.cvtColor(picture, cv2.COLOR_BGR2GRAY)
    flags = cv2.CALIB_CB_EXHAUSTIVE | cv2.CALIB_CB_ACCURACY | cv2.CALIB_CB_NORMALIZE_IMAGE
    found, corners = cv2.findChessboardCornersSB(grey, (board.columns, board.rows), flags=flags)
    return np.asarray(corners, np.float32).reshape(-1, 2) if found else None


def scale_of(flat: Points, board: Board, size: tuple[int, int]) -> tuple[float, float, float]:
    """From undistorted corners: px per mm in the middle of the picture, its standard error, and the tilt's share."""
    width, height = size
    to_px, _ = cv2.findHomography(board.corners_mm()[:, :2], flat)
    to_mm = np.linalg.inv(to_px)
    middle = 1 / _mm_per_px(to_mm, width / 2, height / 2)
    rim = [1 / _mm_per_px(to_mm, x, y) for x in (0, width) for y in (0, height)]
    tilt = max(abs(value / middle - 1) for value in rim)
    seen = cv2.perspectiveTransform(board.corners_mm()[:, None, :2], to_px).reshape(-1, 2)
    residual_px = float(np.sqrt(np.mean(np.sum((seen - flat) ** 2, axis=1)) / 2))
    # The scale is a slope through the corners: its error is their scatter over their spread.
    spread_px = float(np.sqrt(np.sum((flat - flat.mean(axis=0)) ** 2)))
    return float(middle), float(middle * residual_px / spread_px), float(tilt)


def straightener(calibration: Calibration) -> tuple[NDArray[np.int16], NDArray[np.uint16]] | None:
    """The two maps for `cv2.remap` that take the lens's bend out; None when it is not known."""
    if calibration.lens is None:
        return None
    matrix, bend = lens_arrays(calibration.lens)
    size = (calibration.width_px, calibration.height_px)
    where, fraction = cv2.initUndistortRectifyMap(matrix, bend, np.eye(3), matrix, size, cv2.CV_16SC2)
    return np.asarray(where, np.int16), np.asarray(fraction, np.uint16)


def lens_arrays(lens: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    fx, fy, cx, cy, *bend = lens
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]]), np.array(bend)


def _lens(
    corners: Sequence[Points], board: Board, size: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
    """Camera matrix, distortion, rms in px. From few pictures only the radial bend about the middle is asked for: a
    focal length taken at will then changes the bend's numbers, but not the straightened picture."""
    width, height = size
    guess = np.array([[2.0 * width, 0, width / 2 - 0.5], [0, 2.0 * width, height / 2 - 0.5], [0, 0, 1]])
    flags = cv2.CALIB_USE_INTRINSIC_GUESS | cv2.CALIB_FIX_K3 | cv2.CALIB_FIX_ASPECT_RATIO
    if len(corners) < VIEWS_FOR_FOCUS:
        flags |= cv2.CALIB_FIX_FOCAL_LENGTH | cv2.CALIB_FIX_PRINCIPAL_POINT | cv2.CALIB_ZERO_TANGENT_DIST
    boards = [board.corners_mm()] * len(corners)
    pixels = [found.reshape(-1, 1, 2) for found in corners]

    def fit(more: int) -> tuple[NDArray[np.float64], NDArray[np.float64], float]:
        # OpenCV writes what it finds into the matrix it is given, and returns that one.
        begin = guess.copy(), np.zeros(5)
        rms, matrix, bend, _, _ = cv2.calibrateCamera(boards, pixels, size, *begin, flags=flags | more)
        return np.asarray(matrix), np.asarray(bend).ravel(), float(rms)

    # A second radial term that the corners do not ask for bends the rim of the picture, where no corner was.
    simple, full = fit(cv2.CALIB_FIX_K2), fit(0)
    return full if full[2] < K2_PAYS * simple[2] else simple


def _mm_per_px(to_mm: NDArray[np.float64], x: float, y: float) -> float:
    """Root of the area in mm2 that one px at x, y covers."""
    square = np.array([[[x, y]], [[x + 1, y]], [[x + 1, y + 1]], [[x, y + 1]]], np.float64) - 0.5
    mm = cv2.perspectiveTransform(square, to_mm).reshape(-1, 2)
    closed = [*mm, mm[0]]
    area = sum(a[0] * b[1] - b[0] * a[1] for a, b in pairwise(closed)) / 2
    return math.sqrt(abs(area))


def _with_id(calibration: Calibration) -> Calibration:
    return calibration.model_copy(update={"id": _id_of(calibration)})


def _id_of(calibration: Calibration) -> str:
    return hashlib.sha256(calibration.model_copy(update={"id": ""}).model_dump_json().encode()).hexdigest()[:12]
