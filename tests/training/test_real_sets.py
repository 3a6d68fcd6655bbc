"""The bench on real sets, without them: folds keep groups whole, the page says what was not run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.real_doc import document, figures, interval, plot
from benchmarks.real_sets import SETS, Result, Scored, few_of, fold_of, plan
from inspection.errors import ConfigError, DatasetError
from tests.training.pictures import Folder, picture
from training.metrics import average_precision


def result(method: str, right: float, seed: int = 0) -> Result:
    """80 test pictures of 20 groups, every other one defective; `right` of them are scored as labelled."""
    rng, pictures = np.random.default_rng(seed), []
    for k in range(80):
        bad = k % 2 == 0
        high = bad if rng.random() < right else not bad
        score = float(rng.uniform(0.5, 1) if high else rng.uniform(0, 0.5))
        pictures.append(Scored(f"{seed}-{k}", f"g{seed}-{k // 4}", (bad,), (score,)))
    return Result(
        set="weld_seg", method=method, seed=seed, size=(256, 208), classes=("defect",), train_pictures=240, shown=900,
        budget_min=1, cpu_min=1.25, wall_min=2, model_bytes=2_000_000, weights=500_000, pixel_ap=0.4,
        machine="a machine", made="2026-11-29", pictures=tuple(pictures),
    )  # fmt: skip


def test_the_page_shows_what_was_run_and_what_was_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.real_doc.ROUNDS", 40)
    results = [result("ours", 1.0), result("resnet18", 0.7)]
    took = {"weld_seg/ours": {"p10": 2.0, "p50": 2.5, "p99": 4.0, "runs": 58, "load": 0.5}}
    page = document(results, took)
    ap = "1.000 [1.000, 1.000]"
    assert f"| **Haltline S** | 1 | {ap} | {ap} |  |  | 0.40 | 2.0 / 2.5 / 4.0 | 2.0 | 1.2 |" in page
    assert "| SegDecNet's size | 0 | **not run**" in page
    lines = [line for line in page.splitlines() if "ResNet-18" in line]
    assert "**+" in lines[0].split("|")[5], "30 % wrong calls are worse beyond luck"
    assert all("**not run**" in line for line in lines[1:])
    said = {f.figure: f for f in figures(results)}
    assert not said["runs done"].ok
    assert said["weld_seg: image AP"].value == 1
    assert said["weld_seg: AP above the best other"].ok
    assert plot(results, took).count("<circle") == 1, "only what was judged and timed has a place"


def test_differences_are_drawn_in_pairs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.real_doc.ROUNDS", 60)
    good, bad = [result("ours", 0.9, s) for s in (0, 1)], [result("resnet18", 0.6, s) for s in (0, 1)]
    value, low, high = interval(good, average_precision, bad)
    assert 0 < low < value < high
    assert interval(good, average_precision, good) == (0.0, 0.0, 0.0)
    only = interval(good, average_precision, bad[:1])
    assert only[0] == pytest.approx(interval(good[:1], average_precision)[0] - interval(bad[:1], average_precision)[0])


def test_a_fold_tests_whole_groups_and_the_largest_group_trains(folder: Folder) -> None:
    for k in range(40):
        folder.add(picture(k), None, labels=["scratch"] if k % 2 else [], group="big" if k < 16 else f"g{k // 2}")
    data = folder.snapshot(folder.root.parent / "s")
    tested: list[str] = []
    for seed in range(3):
        fold = fold_of(data, seed)
        groups = {split: {s.group for s in fold.split(split)} for split in ("train", "test")}
        assert not groups["train"] & groups["test"]
        assert "big" in groups["train"]
        assert len(fold.split("train")) + len(fold.split("test")) == 40
        tested += groups["test"]
    assert len(tested) == len(set(tested)), "a group is tested once"


def test_few_labels_are_of_every_kind_and_part_of_more(folder: Folder) -> None:
    for k in range(40):
        folder.add(picture(k), None, labels=["scratch"] if k % 8 == 0 else [], group=f"g{k // 2}")
    data = fold_of(folder.snapshot(folder.root.parent / "s"), 0)
    four, eight = few_of(data, 4, 1), few_of(data, 8, 1)
    few, more = ({s.image for s in some.split("train")} for some in (four, eight))
    assert (len(few), len(more), few < more) == (4, 8, True)
    assert sorted(s.labels for s in four.split("train")) == [(), (), ("scratch",), ("scratch",)], "of each kind in turn"
    assert four.split("test") == data.split("test")
    assert {s.image for s in few_of(data, 8, 2).split("train")} != more
    with pytest.raises(DatasetError, match="not 999"):
        few_of(data, 999, 1)


def test_the_page_says_what_drawn_pictures_save(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.real_doc.ROUNDS", 40)
    right = {20: 0.6, 50: 0.7, 100: 0.8, 200: 0.9}
    results = [result(f"ours-nothing@{n}", share, s) for n, share in right.items() for s in (0, 1)]
    assert "What drawn pictures save" not in document(results, {})
    results += [result(f"ours@{n}", 0.85, s) for n in right for s in (0, 1)]
    page = document(results, {})
    rows = [line for line in page.splitlines() if line.startswith(("| 20 | 2", "| 200 | 2"))]
    assert len(rows) == 2
    assert "**+" in rows[0]
    assert "**+" not in rows[1]
    (said,) = (line for line in page.splitlines() if line.startswith("What Haltline S reached with 20 labels"))
    assert 50 < int(said.split("would take ")[1].split()[0]) < 300


def test_every_set_is_met_before_anything_is_met_twice() -> None:
    first = [(real.name, m.name) for real, m, _ in plan([], [], 3)][: len(SETS)]
    assert first == [(real.name, "ours") for real in SETS]
    assert all(real.merged for real, m, _ in plan([], ["padim"], 1)), "good parts cannot tell classes apart"
    with pytest.raises(ConfigError, match="yolo"):
        list(plan([], ["yolo"], 1))


def test_a_result_reads_as_it_was_written(tmp_path: Path) -> None:
    import json
    from dataclasses import asdict

    from benchmarks.real_sets import read_result

    some = replace(result("ours", 0.9), pixel_ap=None)
    (tmp_path / "r.json").write_text(json.dumps(asdict(some)))
    assert read_result(tmp_path / "r.json") == some


def test_the_baseline_networks_are_of_the_size_they_are_said_to_be() -> None:
    import torch

    from benchmarks.segdecnet import SegDecNet

    network = SegDecNet(2).eval()
    assert 15.5e6 < sum(p.numel() for p in network.parameters()) < 16.5e6
    with torch.no_grad():
        scores, maps = network(torch.zeros((1, 64, 128, 3), dtype=torch.uint8))
    assert (scores.shape, maps.shape) == ((1, 2), (1, 2, 8, 16))
