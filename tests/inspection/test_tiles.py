"""Tiles: every px of the frame is seen, and what lies across a border is measured as if it were seen whole."""

from __future__ import annotations

from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from inspection import model_io, tiles
from inspection.bundle import ClassLimits, InputSpec
from inspection.types import Image

STRIDE = 4
SPEC = InputSpec(width_px=320, height_px=256, px_per_mm=5.0)
LIMIT = (ClassLimits(cls="red", lo=0.3, hi=0.7, limit_mm=1.5),)


def red_model(image: Image) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """The tiny bundle's rule in numpy: the share of red in each cell; it sees no further than one cell."""
    red = (image[..., 2].astype(int) - image[..., 1] >= 128).astype(np.float32)
    h, w = red.shape
    share = red.reshape(h // STRIDE, STRIDE, w // STRIDE, STRIDE).mean((1, 3))
    return np.array([share.max()], np.float32), np.rint(share * 255).astype(np.uint8)[None]


def in_tiles(image: Image, px_per_mm: float) -> tuple[model_io.Prediction, tiles.Plan]:
    tiling = tiles.plan(image.shape[1], image.shape[0], px_per_mm, SPEC, STRIDE, 1.5)
    scores, heat = tiles.merge(tiling, STRIDE, [red_model(t) for t in tiles.cut(image, tiling, SPEC)])
    return model_io.to_prediction(scores, heat, LIMIT, tiling.how, STRIDE, px_per_mm), tiling


def whole(image: Image, px_per_mm: float) -> model_io.Prediction:
    """The same frame through an input large enough for it, at the trained scale."""
    sides = [-(-round(side * SPEC.px_per_mm / px_per_mm) // STRIDE) * STRIDE for side in image.shape[1::-1]]
    spec = InputSpec(width_px=sides[0], height_px=sides[1], px_per_mm=5.0)
    fitted, how = model_io.to_input(image, spec)
    return model_io.to_prediction(*red_model(fitted), LIMIT, how, STRIDE, px_per_mm)


def scratch(size: tuple[int, int], start: tuple[int, int], length: int, degrees: float, width: int) -> Image:
    image = np.full((size[1], size[0], 3), 100, np.uint8)
    angle = np.deg2rad(degrees)
    end = (round(start[0] + length * np.cos(angle)), round(start[1] + length * np.sin(angle)))
    return np.asarray(cv2.line(image, start, end, (20, 20, 250), width), np.uint8)


@pytest.mark.parametrize("degrees", [0, 17, 45, 90])
@pytest.mark.parametrize("start", [(150, 150), (620, 480), (1180, 900), (2000, 300)])
def test_a_scratch_across_borders_keeps_its_length(start: tuple[int, int], degrees: float) -> None:
    """800 px are 80 mm: longer than a tile. In 2448x2048 at 10 px/mm each of these crosses borders."""
    image = scratch((2448, 2048), start, 400 if start[0] == 2000 else 800, degrees, 12)
    seen, tiling = in_tiles(image, 10.0)
    want = whole(image, 10.0)
    heat_px_mm = STRIDE / SPEC.px_per_mm
    assert len(tiling.corners) == 25
    assert len(seen.findings) == len(want.findings) == 1
    assert seen.findings[0].length_mm == pytest.approx(want.findings[0].length_mm, abs=heat_px_mm)
    assert seen.findings[0].box_px == pytest.approx(want.findings[0].box_px, abs=STRIDE * 2)


def test_a_scratch_is_one_finding_where_no_tile_holds_it_whole() -> None:
    seen, _ = in_tiles(scratch((2448, 2048), (60, 1000), 2300, 0, 20), 10.0)
    tile_mm = SPEC.width_px / SPEC.px_per_mm
    assert [f.length_mm > 3 * tile_mm for f in seen.findings] == [True]
    assert seen.findings[0].length_mm == pytest.approx(232, abs=1.0)


@settings(max_examples=150, deadline=None)
@given(
    w=st.integers(200, 4000),
    h=st.integers(200, 4000),
    px_per_mm=st.floats(4.0, 20.0),
    whole_mm=st.floats(0, 30),
    stride=st.sampled_from([1, 2, 4, 16]),
)
def test_every_px_lies_in_a_tile_and_every_tile_on_the_canvas(
    w: int, h: int, px_per_mm: float, whole_mm: float, stride: int
) -> None:
    made = tiles.plan(w, h, px_per_mm, SPEC, stride, whole_mm)
    seen = np.zeros((made.height_px, made.width_px), np.uint8)
    for left, top in made.corners:
        assert left % stride == top % stride == 0
        assert 0 <= left <= made.width_px - SPEC.width_px
        assert 0 <= top <= made.height_px - SPEC.height_px
        seen[top : top + SPEC.height_px, left : left + SPEC.width_px] = 1
    assert seen.all()
    assert made.width_px >= made.how.fitted_w_px
    assert made.height_px >= made.how.fitted_h_px
    assert len(set(made.corners)) == len(made.corners)


@settings(max_examples=60, deadline=None)
@given(length=st.integers(321, 5000), whole_px=st.integers(1, 128))
def test_what_is_short_enough_lies_whole_in_one_tile(length: int, whole_px: int) -> None:
    made = tiles.plan(length, 256, 5.0, SPEC, STRIDE, whole_px / SPEC.px_per_mm)
    lefts = sorted({left for left, _ in made.corners})
    shared = [a + SPEC.width_px - b for a, b in pairwise(lefts)]
    assert min(shared, default=999) >= min(whole_px, 128 - STRIDE)


def test_a_frame_of_the_inputs_own_size_is_one_tile_and_unchanged() -> None:
    image = np.random.default_rng(0).integers(0, 256, (256, 320, 3), np.uint8)
    made = tiles.plan(320, 256, 5.0, SPEC, STRIDE)
    [tile] = tiles.cut(image, made, SPEC)
    assert made.corners == ((0, 0),)
    assert np.array_equal(tile, image)


def test_a_nan_in_one_tile_is_a_nan_of_the_frame() -> None:
    """Max must not swallow it: nothing unjudged is ever called good."""
    made = tiles.plan(640, 256, 5.0, SPEC, STRIDE)
    heat = np.zeros((1, 64, 80), np.uint8)
    said = [(np.array([0.1], np.float32), heat) for _ in made.corners]
    said[1] = (np.array([np.nan], np.float32), heat)
    assert np.isnan(tiles.merge(made, STRIDE, said)[0][0])
