"""Confident learning: planted errors come first; models that judge never saw the part."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from inspection.errors import ConfigError, DatasetError
from inspection.samples import Sample
from inspection.suspects import SuspectLine
from tests.training.pictures import Folder, picture, scratched
from training.label_errors import image_errors, mask_quality, share_found
from training.out_of_fold import folds_of


def test_flipped_labels_are_suspected_and_come_first() -> None:
    rng = np.random.default_rng(0)
    truth = rng.random((600, 2)) < (0.3, 0.5)
    chance = np.clip(np.where(truth, 0.85, 0.15) + 0.1 * rng.normal(size=truth.shape), 0.01, 0.99)
    planted = rng.random(truth.shape) < 0.05
    found = image_errors(truth ^ planted, chance)
    assert (found.suspected & planted).sum() >= 0.85 * planted.sum()
    assert (found.suspected & ~planted).sum() <= 0.1 * planted.sum()
    worst = np.argsort(found.quality.min(1))
    assert share_found(worst, planted.any(1), 0.15) >= 0.95


def test_a_class_that_hardly_occurs_is_not_judged() -> None:
    present = np.zeros((50, 2), bool)
    present[:4, 0], present[:25, 1] = True, True
    found = image_errors(present, np.where(present, 0.1, 0.9))
    assert np.isnan(found.quality[:, 0]).all()
    assert not found.suspected[:, 0].any()
    assert not np.isnan(found.quality[:, 1]).any()


def test_an_outline_in_the_wrong_place_is_worse_than_one_in_the_right() -> None:
    masks = np.zeros((3, 16, 16), np.uint8)
    masks[0, 2:6, 2:6], masks[1, 9:13, 9:13], masks[2, 2:6, 2:6] = 1, 1, 2
    chance = np.full((3, 2, 16, 16), 0.02)
    chance[:, 0, 2:6, 2:6] = 0.95
    right, moved, other_class = mask_quality(masks, chance)
    assert right > 0.8
    assert max(moved, other_class) < 0.3


def test_what_the_model_believes_least_is_suspected_whatever_its_label() -> None:
    rng = np.random.default_rng(1)
    truth = rng.random((800, 1)) < 0.15
    chance = np.clip(np.where(truth, 0.8, 0.1) + 0.15 * rng.normal(size=truth.shape), 0.001, 0.999)
    found = image_errors(truth ^ (rng.random(truth.shape) < 0.05), chance)
    assert found.suspected.any()
    assert found.quality[found.suspected].max() <= found.quality[~found.suspected].min()


def sample(group: str, *labels: str) -> Sample:
    digest = "0" * 64
    return Sample(image=f"{group}.png", image_sha256=digest, width_px=8, height_px=8, labels=labels, group=group)


def test_folds_are_whole_groups_with_each_class_in_each() -> None:
    samples = [sample(f"p{n}", *(["scratch"] if n < 10 else [])) for n in range(40) for _ in range(3)]
    folds = folds_of(samples, 5)
    by_group = {s.group: set() for s in samples}
    for s, fold in zip(samples, folds, strict=True):
        by_group[s.group].add(int(fold))
    assert all(len(f) == 1 for f in by_group.values())
    for fold in range(5):
        here = {s.group: s for s, f in zip(samples, folds, strict=True) if f == fold}
        assert len(here) == 8
        assert sum(bool(s.labels) for s in here.values()) == 2
    with pytest.raises(DatasetError, match="folds of 3 groups"):
        folds_of(samples[:9], 5)


def test_the_command_finds_flipped_labels(tmp_path: Path) -> None:
    """The whole way: some labels are flipped, models trained without the pictures they judge, and a list written."""
    from typer.testing import CliRunner

    from haltline import app

    made, flipped = Folder(tmp_path / "labelled"), {f"test:{n}" for n in (3, 20, 41, 50)}
    for n in range(64):
        image, mask = scratched(n, 18 + n % 30) if n % 2 else (picture(n), None)
        source = f"test:{n}"
        labels = ["scratch"] if bool(n % 2) != (source in flipped) else []
        # An outline cannot go with a label that denies it.
        made.add(image, mask if labels else None, labels=labels, source=source)
    snapshot = made.snapshot(tmp_path / "snapshot")
    command = ["dataset", "suspects", str(snapshot.folder), "--out", str(tmp_path / "runs"), "--folds", "2"]
    done = CliRunner().invoke(app, [*command, "--epochs", "24", "--size", "80x64", "--threads", "1"])
    assert done.exit_code == 0, done.output
    found = [
        SuspectLine.model_validate_json(x) for x in (tmp_path / "runs" / "suspects.jsonl").read_text().splitlines()
    ]
    assert all(line.snapshot == snapshot.manifest.id for line in found)
    assert [line.quality for line in found] == sorted(line.quality for line in found)
    first = [line.source for line in found if line.kind == "image"][: 2 * len(flipped)]
    assert len(flipped & set(first)) >= 3, "by chance it is 0.5 of 4"
    # Models of two folds have seen what models of three would be asked about.
    again = CliRunner().invoke(app, [*command[:-1], "3", "--epochs", "24", "--size", "80x64", "--threads", "1"])
    assert isinstance(again.exception, ConfigError)
    assert "choose another --out" in str(again.exception)
