"""A labelled picture says nothing that contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from inspection.samples import Annotation, LabelledHeader, Sample

GOOD: dict[str, Any] = {
    "image": "images/a.png",
    "image_sha256": "a" * 64,
    "width_px": 640,
    "height_px": 512,
    "mask": "masks/a.png",
    "mask_sha256": "b" * 64,
    "px_per_mm": 20.0,
    "labels": ["scratch"],
    "annotations": [{"cls": "scratch", "box_px": [1, 2, 3, 4], "length_mm": 2.5}],
    "group": "part-7",
    "split": "train",
    "label_book": "scratch@1",
    "soft_labels": {"scratch": 0.8},
}


def test_a_sample_reads_as_it_was_written() -> None:
    sample = Sample.model_validate(GOOD)
    assert Sample.model_validate_json(sample.model_dump_json()) == sample
    assert sample.annotations == (Annotation(cls="scratch", box_px=(1, 2, 3, 4), length_mm=2.5),)


def test_a_good_picture_needs_no_mask_and_no_label() -> None:
    sample = Sample.model_validate(GOOD | {"mask": None, "mask_sha256": None, "labels": [], "annotations": []})
    assert sample.labels == ()


@pytest.mark.parametrize(
    "wrong",
    [
        {"mask": None},
        {"mask_sha256": None},
        {"labels": []},
        {"labels": ["pore"]},
        {"labels": ["a b"]},
        {"image_sha256": "a" * 63},
        {"width_px": 0},
        {"px_per_mm": 0},
        {"group": ""},
        {"split": "dev"},
        {"label_book": "scratch"},
        {"annotations": [{"cls": "scratch", "length_mm": -1}]},
        {"annotations": [{"cls": "scratch", "box_px": [1, 2, 3]}]},
        {"unknown": 1},
    ],
    ids=str,
)
def test_a_sample_that_contradicts_itself_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        Sample.model_validate(GOOD | wrong)


def test_a_header_names_at_least_one_class() -> None:
    assert LabelledHeader(task="weld", classes=("pore",)).format == 1
    for wrong in ({"classes": []}, {"classes": ["A"]}, {"format": 2}):
        with pytest.raises(ValidationError):
            LabelledHeader.model_validate({"task": "weld", "classes": ["pore"]} | wrong)
