"""`haltline train kfold --against`: a second way in the folds of the first, and what it gained on the same pictures."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from inspection.errors import DatasetError
from inspection.types import Call
from training import cli, paired_folds
from training.dataset.snapshot import Snapshot
from training.kfold import deal
from training.paired_folds import Scored

SMALL = ("--size", "80x64", "--channels", "8", "--batch", "8", "--epochs", "2", "--threads", "1", "-k", "3")


def line(n: int, score: float, verdict: Call, part: int = 0, **more: object) -> Scored:
    """Picture `n`, its crop `part`: two pictures a group, every third one defective."""
    return Scored.model_validate(
        {
            "image": f"{n}-{part}.png", "picture": f"{n:016x}", "group": f"g{n // 2}", "fold": n % 3 + 1,
            "labels": () if n % 3 else ("crack",), "scores": {"crack": score}, "verdict": verdict,
        } | more
    )  # fmt: skip


def kfold(data: Snapshot, out: Path, *more: object) -> str:
    asked = ("kfold", data.folder, "--out", out, *SMALL, *more)
    result = CliRunner().invoke(cli.train, [str(a) for a in asked], catch_exceptions=False, env={"COLUMNS": "200"})
    assert result.exit_code == 0, result.output
    return result.output


def test_the_same_twice_gains_nothing() -> None:
    rng = np.random.default_rng(0)
    lines = [line(n, float(rng.random()), Call.UNCERTAIN) for n in range(60)]
    found = paired_folds.compare(lines, lines)
    assert (found.pictures, found.groups, found.only_one) == (60, 30, 0)
    assert (found.image_ap.low, found.image_ap.high) == (0, 0)
    assert (found.became_right, found.became_wrong, found.p_value) == (0, 0, 1)


def test_what_finds_more_gains_and_is_sure_of_it() -> None:
    """The crack's score of each picture once by chance, once right; of two classes the higher one counts."""
    rng = np.random.default_rng(1)
    old = [line(n, float(rng.random()), Call.PASS) for n in range(90)]
    new = [
        line(n, 0.1, Call.DEFECT if n % 3 == 0 else Call.PASS, scores={"crack": 0.1, "pore": 0.2 + 0.7 * (n % 3 == 0)})
        for n in range(90)
    ]
    found = paired_folds.compare(old, new)
    assert found.image_ap.new == 1
    assert 0.2 < found.image_ap.old < 0.6
    assert found.image_ap.low > 0.3
    assert found.recall_at_1pc.new == 1
    assert (found.became_right, found.became_wrong) == (30, 0)
    assert found.p_value < 1e-8
    back = paired_folds.compare(new, old)
    assert back.image_ap.high < -0.3
    assert (back.became_right, back.became_wrong) == (0, 30)


def test_crops_are_compared_as_the_picture_they_were_cut_from() -> None:
    whole = [line(n, 0.9 if n % 3 == 0 else 0.2, Call.PASS) for n in range(30)]
    good = ((), {"crack": 0.1}, Call.PASS)
    crops = []
    for w in whole:
        crops.append(w.model_copy(update={"labels": good[0], "scores": good[1], "verdict": good[2]}))
        crops.append(w.model_copy(update={"image": f"{w.image}-2", "verdict": Call.DEFECT if w.labels else Call.PASS}))
    found = paired_folds.compare(whole, crops[:-2])
    assert (found.pictures, found.only_one) == (29, 1)
    assert (found.image_ap.old, found.image_ap.new) == (1, 1)
    assert (found.became_right, found.became_wrong) == (10, 0), "of the calls the most severe"


@pytest.mark.timeout(240)
def test_folds_are_dealt_as_before_though_the_seed_differs(tiny: Snapshot, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    said = kfold(tiny, first)
    assert "against" not in said
    said = kfold(tiny, second, "--seed", 5, "--against", first)
    assert f"{len(tiny.samples)} whole pictures of" in said
    assert "calls became right" in said

    def folds(folder: Path) -> dict[str, int]:
        return {s.image: s.fold for s in paired_folds.read(folder)}

    assert folds(first) == folds(second)
    dealt = deal(tiny.samples, tiny.manifest.classes, 3, seed=5)
    assert [folds(first)[s.image] - 1 for s in tiny.samples] != dealt, "else this shows nothing"
    with pytest.raises(DatasetError, match=r"out-of-fold.jsonl: has 3 folds, not 4\n.*-k 3"):
        kfold(tiny, tmp_path / "third", "-k", 4, "--against", first)


def test_new_groups_are_dealt_around_those_that_are_known(tiny: Snapshot) -> None:
    groups = sorted({s.group for s in tiny.samples})
    known = dict.fromkeys(groups[:3], 0)
    fold = deal(tiny.samples, tiny.manifest.classes, 3, known=known)
    of = dict(zip((s.group for s in tiny.samples), fold, strict=True))
    assert all(of[g] == 0 for g in known)
    assert {of[g] for g in groups[3:]} >= {1, 2}


def test_another_kfold_that_says_nothing_of_these_pictures_is_refused(tiny: Snapshot, tmp_path: Path) -> None:
    path = tmp_path / "out-of-fold.jsonl"
    with pytest.raises(DatasetError, match=r"out-of-fold.jsonl"):
        paired_folds.read(tmp_path)
    older = {"image": "a.png", "group": "g", "labels": [], "scores": {"crack": 0.1}, "verdict": "pass"}
    path.write_text(json.dumps(older) + "\n")
    with pytest.raises(DatasetError, match=r"out-of-fold.jsonl:1: .*picture.*\n.*run that kfold again"):
        paired_folds.read(tmp_path)
    strange = [line(n, 0.5, Call.PASS) for n in range(6)]
    with pytest.raises(DatasetError, match="shows no picture of this snapshot"):
        paired_folds.folds_of(strange, 3, tiny.samples, tmp_path)
    a, b = tiny.samples[:2]
    torn = [
        line(0, 0.5, Call.PASS, picture=paired_folds.picture_of(a), fold=1),
        line(1, 0.5, Call.PASS, picture=paired_folds.picture_of(b), fold=3),
    ]
    one = [s.model_copy(update={"group": "one"}) for s in (a, b)]
    with pytest.raises(DatasetError, match=rf"pictures of one group, one, in several folds: {a.image}, {b.image}"):
        paired_folds.folds_of(torn, 3, one, tmp_path)
