"""Distances of edges computed by hand: shifted squares, a hairline beside its twin, one inside the other."""

from __future__ import annotations

import numpy as np
import pytest

from inspection.mask_agreement import compare, summarise


def square(x: int, y: int, size: int, shape: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros(shape, bool)
    mask[y : y + size, x : x + size] = True
    return mask


def test_the_same_outline_is_no_distance_apart() -> None:
    found = compare("p", ("a", "b"), square(5, 5, 10), square(5, 5, 10), 20.0)
    assert (found.iou, found.mean_mm, found.p95_mm) == (1.0, 0.0, 0.0)


def test_two_hairlines_beside_each_other_share_nothing_and_are_a_pixel_apart() -> None:
    a, b = np.zeros((2, 10, 50), bool)
    a[4, 5:45] = True
    b[5, 5:45] = True
    found = compare("p", ("a", "b"), a, b, 20.0)
    assert found.iou == 0.0
    assert (found.mean_mm, found.p95_mm) == pytest.approx((1 / 20, 1 / 20))


def test_a_square_inside_another_is_as_far_as_the_gap() -> None:
    """The small one's edge is 5 px off everywhere; the large one's corners are 5 * sqrt 2 off, its sides 5."""
    found = compare("p", ("a", "b"), square(10, 10, 10), square(5, 5, 20), 10.0)
    assert found.iou == pytest.approx(100 / 400)
    assert 0.5 <= found.mean_mm < 0.6
    assert 0.5 < found.p95_mm <= 0.5 * 2**0.5 + 1e-6


def test_the_frame_s_border_is_an_edge_too() -> None:
    found = compare("p", ("a", "b"), square(0, 0, 10), square(0, 0, 10), 1.0)
    assert found.mean_mm == 0.0


def test_nothing_has_no_edge() -> None:
    with pytest.raises(ValueError, match="no common edge"):
        compare("p", ("a", "b"), square(0, 0, 5), np.zeros((40, 60), bool), 1.0)
    with pytest.raises(ValueError, match="no common edge"):
        compare("p", ("a", "b"), square(0, 0, 5), square(0, 0, 5, (60, 40)), 1.0)


def test_means_come_with_an_interval_by_part() -> None:
    found = [compare(f"p{n}", ("a", "b"), square(5, 5, 10), square(5 + n % 3, 5, 10), 10.0) for n in range(30)]
    alike = summarise(found)
    assert (alike.pairs, alike.parts) == (30, 30)
    assert alike.iou.value == pytest.approx(np.mean([o.iou for o in found]))
    assert alike.iou.low < alike.iou.value < alike.iou.high
    one_part = summarise([compare("p", o.people, square(5, 5, 10), square(6, 5, 10), 10.0) for o in found])
    assert one_part.iou.low == one_part.iou.high, "thirty pairs of one part are one part"
