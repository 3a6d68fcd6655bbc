"""A region's length is measured along it, as the label book says and people do."""

from __future__ import annotations

import math
from itertools import pairwise

import cv2
import numpy as np
import pytest

from inspection.length import length_px


def drawn(points: list[tuple[float, float]], width_px: int) -> np.ndarray:
    canvas = np.zeros((200, 240), np.uint8)
    cv2.polylines(canvas, [np.round(np.array(points)).astype(np.int32)], False, 1, width_px)
    return canvas


def measured(region: np.ndarray) -> float:
    contours, _ = cv2.findContours(region, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return max(map(length_px, contours))


def chord(region: np.ndarray) -> float:
    return float(max(cv2.minAreaRect(cv2.findNonZero(region))[1])) + 1


def along(points: list[tuple[float, float]]) -> float:
    return sum(math.dist(a, b) for a, b in pairwise(points))


def arc(degrees: float, radius: float) -> list[tuple[float, float]]:
    angles = [math.radians(degrees * k / 60) for k in range(61)]
    return [(120 + radius * math.cos(a), 100 + radius * math.sin(a)) for a in angles]


HOOK = [(60.0, 60.0), (110.0, 60.0), (110.0, 100.0), (60.0, 100.0)]


@pytest.mark.parametrize("width_px", [1, 2, 3, 5, 8])
@pytest.mark.parametrize("points", [HOOK, arc(180, 40), arc(270, 40), arc(300, 60)], ids=["hook", "180", "270", "300"])
def test_a_curved_mark_is_as_long_as_it_is_along_itself(points: list[tuple[float, float]], width_px: int) -> None:
    region = drawn(points, width_px)
    assert measured(region) == pytest.approx(along(points) + width_px, rel=0.13)
    assert measured(region) > 1.25 * chord(region)


@pytest.mark.parametrize("width_px", [1, 2, 4, 9])
@pytest.mark.parametrize("degrees", [0, 13, 45, 71, 90])
def test_a_straight_mark_is_as_long_as_its_rectangle(degrees: float, width_px: int) -> None:
    a = math.radians(degrees)
    region = drawn([(60, 40), (60 + 90 * math.cos(a), 40 + 90 * math.sin(a))], width_px)
    assert measured(region) == chord(region)


@pytest.mark.parametrize("seed", range(8))
def test_a_blob_with_a_ragged_edge_is_no_curve(seed: int) -> None:
    noise = cv2.GaussianBlur(np.random.default_rng(seed).standard_normal((200, 240)), (0, 0), 3)
    disc = np.zeros((200, 240), np.float64)
    cv2.circle(disc, (120, 100), 40, 1.0, -1)
    region = (cv2.GaussianBlur(disc, (0, 0), 4) + 1.2 * noise / noise.std() * 0.25 > 0.5).astype(np.uint8)
    _, labels, stats, _ = cv2.connectedComponentsWithStats(region)
    largest = (labels == 1 + int(stats[1:, cv2.CC_STAT_AREA].argmax())).astype(np.uint8)
    assert measured(largest) == chord(largest)


def test_a_single_pixel_and_a_closed_ring() -> None:
    one = np.zeros((9, 9), np.uint8)
    one[4, 4] = 1
    assert measured(one) == 1
    ring = drawn(arc(360, 50), 3)
    assert measured(ring) == chord(ring), "its outer contour is a disc's"
