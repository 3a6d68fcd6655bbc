"""Defects that become too narrow to be seen where pictures are shrunk."""

from __future__ import annotations

import numpy as np
import pytest

from tests.training.pictures import Folder, picture
from training.dataset.snapshot import Snapshot
from training.thin import thin


def lines(factory: pytest.TempPathFactory, width_px: int) -> Snapshot:
    """Twelve pictures of 320x256 px with a line each, and four with a square of 60 px."""
    made = Folder(factory.mktemp("lines"))
    for n in range(16):
        mask = np.zeros((256, 320), np.uint8)
        if n < 12:
            mask[40 : 40 + width_px, 20 + n : 300] = 1
        else:
            mask[100:160, 100:160] = 1
        made.add(picture(n, (256, 320)), mask, labels=["scratch"], split="train")
    return made.snapshot(factory.mktemp("snapshot") / "s")


@pytest.fixture(scope="module")
def of_4_px(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return lines(tmp_path_factory, 4)


def test_narrow_defects_of_shrunk_pictures_are_told_with_the_size_that_keeps_them(of_4_px: Snapshot) -> None:
    said = thin(of_4_px, (80, 64))
    assert "shrunk to 0.25 of their size" in said
    assert "defects measured are 0.9 px or narrower then" in said
    assert "--size 288x224, at 12.6 times the time" in said


@pytest.mark.parametrize("size", [(288, 224), (320, 256), (640, 512)])
def test_where_they_stay_wide_enough_nothing_is_said(of_4_px: Snapshot, size: tuple[int, int]) -> None:
    assert thin(of_4_px, size) == ""


def test_no_size_larger_than_the_pictures_is_proposed(tmp_path_factory: pytest.TempPathFactory) -> None:
    hair = lines(tmp_path_factory, 1)
    assert "--size 320x256" in thin(hair, (80, 64))
    assert thin(hair, (320, 256)) == ""
