"""Geometry: what lies where in the frame, and how long it is, survives the way into the model and back."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from inspection.bundle import ClassLimits, InputSpec
from inspection.errors import ModelError
from inspection.model_io import (
    Fit,
    findings_in,
    fit,
    heat_to_frame,
    input_px_per_mm,
    mask_to_input,
    resized,
    to_input,
    to_prediction,
)
from inspection.types import Finding, Prediction

SPEC = InputSpec(width_px=320, height_px=256, px_per_mm=10)
SCRATCH = ClassLimits(cls="scratch", lo=0.3, hi=0.7)
STRIDE = 4
PX_PER_MM = 20.0
SIZES = [(640, 512), (640, 480), (1000, 333), (333, 1000), (1920, 1200), (2448, 2048), (200, 100), (321, 257)]

Gray = NDArray[np.uint8]


def spec(width_px: int, height_px: int) -> InputSpec:
    return InputSpec(width_px=width_px, height_px=height_px, px_per_mm=10)


# ── what ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [(640, 512), (900, 700), (300, 240)], ids=str)
def test_a_picture_is_resized_within_a_grey_level_of_the_formula(size: tuple[int, int]) -> None:
    """Whichever routine OpenCV took; and the caller's own setting is as it was."""
    (w, h), into = size, (480, 384)
    image = np.random.default_rng(0).integers(0, 256, (h, w, 3)).astype(np.uint8)
    before = cv2.ipp.useIPP_NotExact()
    seen = resized(image, into, cv2.INTER_LINEAR).astype(float)
    assert cv2.ipp.useIPP_NotExact() == before
    for axis, (have, want) in enumerate([(h, into[1]), (w, into[0])]):
        at = np.clip((np.arange(want) + 0.5) * have / want - 0.5, 0, have - 1)
        low = np.minimum(at.astype(int), have - 2)
        part = (at - low).reshape([-1 if k == axis else 1 for k in range(3)])
        image = image.take(low, axis) * (1 - part) + image.take(low + 1, axis) * part
    assert np.abs(seen - image).max() <= 1


# ── where ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("model", [(320, 256), (256, 256), (640, 224)], ids=str)
def test_a_dot_comes_back_to_its_place(size: tuple[int, int], model: tuple[int, int]) -> None:
    """Within half a px of the input; where the aspect divides evenly, within half a px of the frame."""
    (w, h), into = size, spec(*model)
    how = fit(w, h, into)
    even = (w * how.scale).is_integer() and (h * how.scale).is_integer()
    tolerance_px = 0.5 if even else 0.5 / min(1, how.scale)
    radius = max(1, round(1 / how.scale))
    for x in np.linspace(radius, w - 1 - radius, 5).astype(int):
        for y in np.linspace(radius, h - 1 - radius, 5).astype(int):
            frame = np.zeros((h, w, 3), np.uint8)
            frame[y - radius : y + radius + 1, x - radius : x + radius + 1] = 255
            seen = to_input(frame, into)[0][how.dy_px :, how.dx_px :, 0][: how.fitted_h_px, : how.fitted_w_px]
            light = seen.astype(float)
            rows, columns = np.mgrid[: how.fitted_h_px, : how.fitted_w_px]
            centre = [(columns * light).sum() / light.sum() + how.dx_px, (rows * light).sum() / light.sum() + how.dy_px]
            back = heat_to_frame(how, 1) @ [*centre, 1]
            assert np.abs(back - (x, y)).max() <= tolerance_px, f"dot at {x}, {y}"


@pytest.mark.parametrize("stride", [1, 2, 4, 8])
def test_the_corners_of_the_map_are_the_corners_of_the_frame(stride: int) -> None:
    """Pixel centres to pixel centres: the outer edges of the map's corner px lie on the frame's."""
    how = fit(640, 512, SPEC)
    affine = heat_to_frame(how, stride)
    assert affine @ [-0.5, -0.5, 1] == pytest.approx([-0.5, -0.5])
    assert affine @ [320 / stride - 0.5, 256 / stride - 0.5, 1] == pytest.approx([639.5, 511.5])


@pytest.mark.parametrize("size", [*SIZES, (10_000, 1), (1, 10_000)], ids=str)
def test_the_whole_frame_is_fitted_and_centred(size: tuple[int, int]) -> None:
    frame = np.full((size[1], size[0], 3), 200, np.uint8)
    image, how = to_input(frame, SPEC)
    assert image.shape == (256, 320, 3)
    assert image.min() == 200, "the border repeats the frame's edge"
    assert how.fitted_w_px == 320 or how.fitted_h_px == 256
    assert abs((320 - how.fitted_w_px) - 2 * how.dx_px) <= 1
    assert abs((256 - how.fitted_h_px) - 2 * how.dy_px) <= 1
    assert input_px_per_mm(20, how) == 20 * how.scale


def test_a_frame_of_the_inputs_size_is_not_touched() -> None:
    frame = np.random.default_rng(0).integers(0, 256, (256, 320, 3), np.uint8)
    image, how = to_input(frame, SPEC)
    assert np.array_equal(image, frame)
    assert how == Fit(1.0, 0, 0, 320, 256)


# ── masks ───────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [(640, 512), (1000, 800), (1920, 1200), (2448, 2048), (5472, 3648)], ids=str)
def test_a_hairline_of_one_px_stays_in_one_piece(size: tuple[int, int]) -> None:
    w, h = size
    for angle in np.linspace(0, math.pi, 7):
        mask = np.zeros((h, w), np.uint8)
        middle, half = np.array([w, h]) / 2 + 0.3, np.array([math.cos(angle), math.sin(angle)]) * h * 0.3
        ends = [tuple(int(v) for v in middle + side * half) for side in (-1, 1)]
        cv2.line(mask, ends[0], ends[1], 2)
        fitted = mask_to_input(mask, SPEC)
        assert set(np.unique(fitted)) == {0, 2}
        assert cv2.connectedComponents((fitted == 2).astype(np.uint8))[0] == 2, f"angle {angle:.1f}"


def test_a_mask_lies_where_its_picture_lies() -> None:
    mask = np.zeros((480, 640), np.uint8)
    mask[100:200, 300:400] = 3
    frame = np.repeat(mask[..., None] * 80, 3, axis=2).astype(np.uint8)
    into = spec(320, 256)  # 8 px of border above and below
    assert np.array_equal(mask_to_input(mask, into) == 3, to_input(frame, into)[0][..., 0] > 120)
    assert not mask_to_input(np.ones((480, 640), np.uint8), into)[:8].any(), "no class in the border"


# ── how long ────────────────────────────────────────────────────────────────────────────────────────────────────


def drawn_line(length_mm: float, width_mm: float, angle: float, middle_px: tuple[float, float]) -> Gray:
    """A frame's mask, 640 x 512 at 20 px/mm, with one straight line in it."""
    fine = 4
    size = (length_mm * PX_PER_MM * fine, width_mm * PX_PER_MM * fine)
    corners = cv2.boxPoints((((middle_px[0] * fine), (middle_px[1] * fine)), size, math.degrees(angle)))
    mask = np.zeros((512 * fine, 640 * fine), np.uint8)
    cv2.fillPoly(mask, [np.round(corners * 16).astype(np.int32)], 255, shift=4)
    return (cv2.resize(mask, (640, 512), interpolation=cv2.INTER_AREA) > 80).astype(np.uint8)


def measured(mask: Gray, *, touched: bool) -> list[Finding]:
    """Through an ideal model at stride 4: its map holds the share of each cell, or 255 wherever the class touches."""
    cells = mask_to_input(mask, SPEC).reshape(256 // STRIDE, STRIDE, 320 // STRIDE, STRIDE)
    heat = cells.max(axis=(1, 3)) if touched else cells.mean(axis=(1, 3))
    affine = heat_to_frame(fit(640, 512, SPEC), STRIDE)
    return findings_in((heat * 255).astype(np.uint8), SCRATCH, affine, PX_PER_MM)


def errors_mm(length_mm: float, width_mm: float, *, touched: bool, lines: int = 25) -> NDArray[np.float64]:
    rng = np.random.default_rng(1)
    found = []
    for _ in range(lines):
        middle = (rng.uniform(200, 440), rng.uniform(160, 350))
        found.append(measured(drawn_line(length_mm, width_mm, rng.uniform(0, math.pi), middle), touched=touched))
    assert all(len(f) == 1 for f in found), "one line is one finding"
    return np.array([f[0].length_mm - length_mm for f in found])


@pytest.mark.parametrize("length_mm", [0.5, 1.0, 1.5, 2.0, 3.0, 6.0])
def test_a_line_as_wide_as_a_cell_is_measured_to_half_a_cell(length_mm: float) -> None:
    """A cell of the map is 0.4 mm here. Geometry alone is off by up to 0.25 mm, by 0.08 on average."""
    error = errors_mm(length_mm, 0.5, touched=False)
    assert np.abs(error).max() <= 0.25
    assert abs(error.mean()) <= 0.08


@pytest.mark.parametrize("length_mm", [0.5, 1.0, 1.5, 2.0, 3.0, 6.0])
@pytest.mark.parametrize("width_mm", [0.1, 0.2, 0.5])
def test_a_map_that_is_on_wherever_a_line_touches_measures_a_cell_too_long(length_mm: float, width_mm: float) -> None:
    """Such maps are what training draws. Too long by 0.3 to 0.6 mm on average, so that a line that is no defect may
    halt; too short by more than 0.25 mm never, and the size rule's tolerance of 0.3 mm covers that."""
    error = errors_mm(length_mm, width_mm, touched=True)
    assert error.min() >= -0.25
    assert error.max() <= 0.9
    assert 0.2 <= error.mean() <= 0.65


def test_box_length_area_and_score_of_one_region() -> None:
    heat = np.zeros((64, 80), np.uint8)
    heat[10, 20:30] = 204
    affine = heat_to_frame(fit(640, 512, SPEC), STRIDE)  # 8 frame px a cell
    (found,) = findings_in(heat, ClassLimits(cls="scratch", lo=0, hi=1, heat_level=0.4), affine, PX_PER_MM)
    assert found.cls == "scratch"
    assert found.score == pytest.approx(0.8)
    assert found.box_px == pytest.approx((159.5, 79.5, 80, 8), abs=2)
    assert found.length_mm == pytest.approx(80 / PX_PER_MM, abs=0.11)
    assert found.area_mm2 == pytest.approx(80 * 8 / PX_PER_MM**2, rel=0.1)


@pytest.mark.parametrize("cells", [1, 10])
def test_a_line_one_cell_wide_is_found_from_its_level_on(cells: int) -> None:
    """Lost between the centres of two cells, it would leave the size rule to judge by a shorter region beside it."""
    affine = heat_to_frame(fit(640, 512, SPEC), STRIDE)
    heat = np.zeros((64, 80), np.uint8)
    heat[10, 20 : 20 + cells] = 127
    assert findings_in(heat, SCRATCH, affine, PX_PER_MM) == []
    heat[heat > 0] = 128
    (found,) = findings_in(heat, SCRATCH, affine, PX_PER_MM)
    assert found.score == pytest.approx(128 / 255)
    assert (cells - 1) * 0.4 < found.length_mm <= cells * 0.4


def test_the_longest_region_comes_first_and_faint_ones_not_at_all() -> None:
    heat = np.zeros((64, 80), np.uint8)
    heat[10, 20:25], heat[30, 20:40], heat[50, 20:60] = 255, 255, 100
    found = findings_in(heat, SCRATCH, heat_to_frame(fit(640, 512, SPEC), STRIDE), PX_PER_MM)
    assert [round(f.length_mm) for f in found] == [8, 2]
    assert findings_in(np.full((64, 80), 127, np.uint8), SCRATCH, np.eye(2, 3), 1) == []


def test_the_length_of_a_line_does_not_depend_on_its_direction() -> None:
    lengths = [
        measured(drawn_line(4, 0.5, angle, (320, 256)), touched=False)[0].length_mm
        for angle in np.linspace(0, math.pi, 13)
    ]
    assert max(lengths) - min(lengths) <= 0.4, "one cell"


# ── predictions ─────────────────────────────────────────────────────────────────────────────────────────────────

PORE = ClassLimits(cls="pore", lo=0.3, hi=0.7)
TWO = (SCRATCH, PORE)
HOW = fit(640, 512, SPEC)


def predicted(*scores: float, heat: Gray | None = None, how: Fit = HOW) -> Prediction:
    if heat is None:
        heat = np.zeros((2, 64, 80), np.uint8)
        heat[:, 10, 20:30] = 255
    return to_prediction(np.array(scores, np.float32), heat, TWO, how, STRIDE, PX_PER_MM)


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf, -0.001, 1.001])
def test_a_score_that_is_no_probability_raises(bad: float) -> None:
    for scores in ((bad, 0.5), (0.5, bad)):
        with pytest.raises(ModelError, match="not probabilities"):
            predicted(*scores)


@pytest.mark.parametrize(
    ("scores", "heat"),
    [
        ((0.5,), np.zeros((2, 64, 80), np.uint8)),
        ((0.5, 0.5, 0.5), np.zeros((2, 64, 80), np.uint8)),
        ((0.5, 0.5), np.zeros((1, 64, 80), np.uint8)),
        ((0.5, 0.5), np.zeros((64, 80), np.uint8)),
        ((0.5, 0.5), np.zeros((2, 64, 80), np.float32)),
    ],
    ids=["a score too few", "a score too many", "a map too few", "no class axis", "float map"],
)
def test_outputs_of_another_shape_raise(scores: tuple[float, ...], heat: Gray) -> None:
    with pytest.raises(ModelError, match="outputs are"):
        predicted(*scores, heat=heat)


def test_each_suspected_class_has_its_findings() -> None:
    of = {score: [f.cls for f in predicted(score, 0.9).findings] for score in (0.29, 0.3, 1.0)}
    assert of == {0.29: ["pore"], 0.3: ["scratch", "pore"], 1.0: ["scratch", "pore"]}
    prediction = predicted(0.25, 1.0)
    assert prediction.scores == {"scratch": 0.25, "pore": 1.0}
    assert prediction.heat_to_frame == pytest.approx(heat_to_frame(HOW, STRIDE))


def test_a_defect_that_runs_out_of_the_picture_does_not_grow_in_the_border() -> None:
    """640 x 256 in a square input: 96 px (24 cells) of border above and below, where the edge is repeated."""
    into = spec(320, 320)
    how = fit(640, 256, into)
    assert how.dy_px == 96
    heat = np.zeros((2, 80, 80), np.uint8)
    heat[0, :34, 40] = 255  # from the frame's upper edge (cell 24) ten cells down, and all of the border
    (found,) = predicted(0.9, 0.0, heat=heat, how=how).findings
    assert found.length_mm == pytest.approx(10 * 8 / PX_PER_MM, abs=0.11)
    assert found.box_px[1] == pytest.approx(-0.5, abs=1)
    heat[0, 20:34] = 0
    assert predicted(0.9, 0.0, heat=heat, how=how).findings == ()
