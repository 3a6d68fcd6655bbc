"""Planted bugs are found, each by the check that is there for it; a clean snapshot and a clean run pass in silence."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from inspection.errors import DatasetError
from tests.training.pictures import SCRATCH, Folder, picture, scratched
from training.dataset.build import Looking, Shares, build
from training.dataset.item import Target
from training.dataset.labelled import import_labelled
from training.dataset.snapshot import Snapshot, read_snapshot
from training.outcome import Judge, Outcome, judged
from training.suspicious import Check, check_blind, check_outcome, check_overfit, check_snapshot, check_start, hardest
from training.suspicious_run import _some, by_heart, check_run

Plant = Callable[[int, np.ndarray, bool], np.ndarray]


def strange(checks: list[Check]) -> list[str]:
    return [c.name for c in checks if not c.ok]


def as_it_is(_: int, image: np.ndarray, __: bool) -> np.ndarray:
    return image


def snapshot_with(tmp_path: Path, plant: Plant = as_it_is, splits: str = "rrrrvvtt") -> Snapshot:
    """48 pictures of 48 parts, every other one scratched; `plant` spoils them."""
    names = {"r": "train", "v": "val", "t": "test"}
    made = Folder(tmp_path / "labelled")
    for k in range(48):
        bad = k % 2 == 1
        image, mask = scratched(k, 18 + k) if bad else (picture(k), np.zeros((64, 80), np.uint8))
        made.add(
            plant(k, image, bad), mask, labels=["scratch"] if bad else [], split=names[splits[(k // 2) % len(splits)]]
        )
    target = Target(SCRATCH.task, SCRATCH)
    build(import_labelled(made.root, target), tmp_path / "s", target, Shares(), ("x",), Looking.FORCE)
    return read_snapshot(tmp_path / "s")


def test_a_clean_snapshot_is_passed_in_silence(tmp_path: Path) -> None:
    assert strange(list(check_snapshot(snapshot_with(tmp_path)))) == []


def brighter(_: int, image: np.ndarray, bad: bool) -> np.ndarray:
    return np.clip(image.astype(int) + 15 * bad, 0, 255).astype(np.uint8)


def noisier(k: int, image: np.ndarray, bad: bool) -> np.ndarray:
    more = np.random.default_rng((k, 3)).integers(-25, 26, image.shape) * bad
    return np.clip(image.astype(int) + more, 0, 255).astype(np.uint8)


def framed(_: int, image: np.ndarray, bad: bool) -> np.ndarray:
    if bad:
        image = image.copy()
        image[:3], image[-3:] = 30, 30
    return image


def repeated(k: int, image: np.ndarray, bad: bool) -> np.ndarray:
    """Good pictures of one part in training and test, at another exposure."""
    return image if bad or k not in (8, 12) else np.clip(picture(0) * (1 + 0.02 * k), 0, 255).astype(np.uint8)


@pytest.mark.parametrize(
    ("plant", "found"),
    [
        (brighter, "AUROC of brightness alone"),
        (noisier, "AUROC of contrast alone"),
        (framed, "AUROC of border alone"),
        (repeated, "pairs of one scene on both sides of the split"),
    ],
)
def test_planted_bugs_of_a_snapshot(tmp_path: Path, plant: Plant, found: str) -> None:
    assert found in strange(list(check_snapshot(snapshot_with(tmp_path, plant))))


def test_a_class_nobody_can_be_tested_on(tmp_path: Path) -> None:
    made = Folder(tmp_path / "labelled")
    for k in range(12):
        image, mask = scratched(k, 18 + k) if k % 2 else (picture(k), np.zeros((64, 80), np.uint8))
        made.add(image, mask, labels=["scratch"] if k % 2 else [], split="train" if k % 2 else "test")
    found = {c.name: c for c in check_snapshot(made.snapshot(tmp_path / "s"))}
    assert found["classes without a picture for test"].where == "scratch"
    assert found["classes without a picture for train"].where == "good"


def test_near_identical_pictures_with_other_labels(tmp_path: Path) -> None:
    snapshot = snapshot_with(
        tmp_path, lambda k, image, bad: (scratched(1, 19)[0] // 2 * 2 + k % 2) if k in (1, 2) else image
    )
    found = {c.name: c for c in check_snapshot(snapshot)}
    assert found["near-identical pictures with different labels"].value == 1


# ── runs ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def judge(tiny_run: Path, tiny: Snapshot) -> Judge:
    return Judge(tiny_run, tiny)


@pytest.fixture(scope="module")
def outcome(judge: Judge) -> Outcome:
    return judge.of("test")


def names_of(o: Outcome) -> list[str]:
    return strange(list(check_outcome(o, judged(o))))


def repeated_five_times(o: Outcome) -> Outcome:
    """Enough pictures for every check: each five times."""
    return replace(
        o,
        samples=o.samples * 5,
        examples=o.examples * 5,
        target=np.tile(o.target, (5, 1)),
        logits=np.tile(o.logits, (5, 1)),
        scores=np.tile(o.scores, (5, 1)),
        heat=np.tile(o.heat, (5, 1, 1, 1)),
    )


@pytest.mark.timeout(180)
def test_a_clean_run_is_passed_in_silence(judge: Judge, outcome: Outcome) -> None:
    assert strange(list(check_run(judge))) == []
    assert names_of(repeated_five_times(outcome)) == []


def test_a_class_that_is_never_called(outcome: Outcome) -> None:
    never = replace(outcome, scores=outcome.scores * 0.1)
    assert "share of scratch called a defect" in names_of(repeated_five_times(never))


def test_scores_only_at_0_or_1(outcome: Outcome) -> None:
    hard = replace(outcome, scores=(outcome.scores > 0.5).astype(float))
    assert "share of scores at 0 or 1" in names_of(hard)


def test_a_map_that_points_elsewhere(outcome: Outcome) -> None:
    away = replace(outcome, heat=np.roll(outcome.heat, outcome.heat.shape[2] // 2, axis=2))
    assert "right for the wrong place, scratch" in names_of(repeated_five_times(away))


def test_large_defects_found_less_than_small_ones(outcome: Outcome) -> None:
    o = repeated_five_times(outcome)
    sizes = np.array([p.region_mm[0] for p in judged(o)])
    scores = o.scores.copy()
    scores[sizes > np.median(sizes[sizes > 0]), 0] = 0.0
    assert "small scratch found more often than large" in names_of(replace(o, scores=scores))


def test_scores_that_do_not_mean_what_they_say(outcome: Outcome) -> None:
    unsure = replace(outcome, scores=np.where(outcome.target, 0.62, 0.38))
    assert "calibration error of scratch" in names_of(repeated_five_times(unsure))


def test_numbers_against_their_bounds() -> None:
    target = np.array([[True], [False]] * 10)
    assert check_blind(np.full(20, 0.3), target).ok
    assert not check_blind(target[:, 0] * 1.0, target).ok
    assert check_overfit(0.003).ok
    assert not check_overfit(0.5).ok
    assert check_start(0.70, 0.5).ok
    assert check_start(0.325, 0.1).ok, "the entropy of one in ten"
    assert not check_start(2.3, 0.5).ok


def test_labels_that_do_not_reach_the_network(judge: Judge) -> None:
    """The same pictures as good and as defective cannot be learnt by heart."""
    some = _some(judge, 8)
    mixed = [replace(e, image=some[0].image) for e in some]
    assert by_heart(judge.config, mixed) > 0.1


def test_hardest_pictures_come_with_their_neighbours(tiny: Snapshot, outcome: Outcome) -> None:
    scores = outcome.scores.copy()
    scores[2, 0] = 1 - float(outcome.target[2, 0])
    hard = hardest(tiny, replace(outcome, scores=scores), 3)
    assert hard[0].image == outcome.samples[2].image
    assert {h.neighbour for h in hard} <= {s.image for s in tiny.split("train")}


def test_what_is_judged_is_what_export_ships(judge: Judge, tiny_run: Path, tiny: Snapshot, tmp_path: Path) -> None:
    """Run and bundle, torch and onnxruntime: the same scores, verdicts and lengths."""
    from training.evaluate import evaluate
    from training.export import export
    from training.served import read_bundle

    made = export(tiny_run, tmp_path / "b", "tiny", "0.0.1", snapshot=tiny.folder, stream=False)
    _, shipped = evaluate(read_bundle(made.folder), tiny)
    ours = {p.sample.image: p for p in judged(judge.of("test"))}
    for p in shipped:
        assert p.scores == pytest.approx(ours[p.sample.image].scores, abs=1e-3)
        assert p.verdict is ours[p.sample.image].verdict
        assert p.region_mm == pytest.approx(ours[p.sample.image].region_mm, abs=0.2)


def test_a_run_on_other_pictures_is_refused(tiny_run: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="was trained on"):
        Judge(tiny_run, snapshot_with(tmp_path, brighter))


def test_zeroed_inputs_say_nothing(judge: Judge) -> None:
    with torch.no_grad():
        scores, _ = judge.network(torch.zeros(3, 64, 80, 3, dtype=torch.uint8))
    assert float(scores.std()) == pytest.approx(0, abs=1e-5)
