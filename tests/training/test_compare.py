"""Is the new model better? On predictions whose answer is known."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from inspection.errors import ConfigError, DatasetError
from inspection.samples import Sample
from inspection.types import Call
from tests.training import pictures
from tests.training.pictures import SCRATCH
from training import metrics
from training.compare import compare, mcnemar, read_must_catch
from training.evaluate import figures_of
from training.judging import JudgedPicture


def picture(k: int, bad: bool, score: float, group: str = "") -> JudgedPicture:
    sample = Sample(
        image=f"images/{k}.png",
        image_sha256="0" * 64,
        width_px=8,
        height_px=8,
        labels=("scratch",) if bad else (),
        group=group or f"part-{k // 2}",
    )
    call = Call.DEFECT if score >= 0.7 else Call.PASS if score < 0.3 else Call.UNCERTAIN
    empty = np.zeros((1, 2, 2), np.uint8)
    one = np.array([score])
    return JudgedPicture(sample, np.array([bad]), one, empty, None, np.zeros(1), np.zeros(1), call, 1.0)


def judged(noise: float, seed: int, n: int = 400) -> list[JudgedPicture]:
    rng = np.random.default_rng(seed)
    bad = np.arange(n) % 2 == 0
    scores = np.clip(np.where(bad, 0.9, 0.1) + rng.normal(0, noise, n), 0, 1)
    return [picture(k, bool(bad[k]), float(scores[k])) for k in range(n)]


def test_the_same_model_is_promoted() -> None:
    same = judged(0.2, 1)
    found = compare(("old", "new"), same, same, ["scratch"])
    assert found.promote
    assert found.classes[0].low == found.classes[0].high == 0
    assert (found.negative_flips, found.positive_flips, found.p_value) == (0, 0, 1.0)
    assert found.must_catch == 200


def test_a_worse_model_is_not_and_every_reason_is_named() -> None:
    found = compare(("old", "new"), judged(0.05, 1), judged(0.45, 2), ["scratch"])
    assert not found.promote
    assert found.classes[0].high < -0.005
    text = "; ".join(found.reasons)
    for word in ("image AP of scratch may have fallen", "right calls became wrong", "must be caught are newly passed"):
        assert word in text
    assert found.p_value < 0.001


def test_a_better_model_is_promoted_and_its_gain_has_bounds() -> None:
    found = compare(("old", "new"), judged(0.45, 2), judged(0.05, 1), ["scratch"])
    assert found.promote or found.negative_flips > 2
    assert 0 < found.classes[0].low < found.classes[0].gain < found.classes[0].high


def test_pairing_narrows_the_interval() -> None:
    """Two models that err on the same pictures: their difference is known far better than either."""
    old = judged(0.45, 3)
    new = [picture(k, bool(p.target[0]), float(np.clip(p.scores[0] + 0.001, 0, 1))) for k, p in enumerate(old)]
    change = compare(("old", "new"), old, new, ["scratch"]).classes[0]
    assert change.high - change.low < 0.01
    assert change.old_ap < 0.97


def test_one_lost_must_catch_is_enough() -> None:
    old, new = judged(0.05, 1), judged(0.05, 1)
    new[4] = picture(4, True, 0.05)
    named = frozenset({"4.png"})
    assert compare(("old", "new"), old, new, ["scratch"], named).newly_missed == ("images/4.png",)
    assert not compare(("old", "new"), old, new, ["scratch"], named).promote
    assert compare(("old", "new"), old, new, ["scratch"], frozenset({"6.png"})).newly_missed == ()
    assert compare(("old", "new"), old, new, ["scratch"], frozenset({"part-2"})).newly_missed == ("images/4.png",)


def test_other_pictures_cannot_be_compared() -> None:
    with pytest.raises(ConfigError, match="other pictures"):
        compare(("old", "new"), judged(0.1, 1), judged(0.1, 1)[::-1], ["scratch"])


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1
    assert mcnemar(5, 5) == 1
    assert mcnemar(0, 5) == pytest.approx(2 / 32)
    assert mcnemar(8, 2) == mcnemar(2, 8) == pytest.approx(2 * (45 + 10 + 1) / 1024)


def test_must_catch_is_a_list(tmp_path: Path) -> None:
    made = pictures.Folder(tmp_path / "labelled")
    for k, split in enumerate(("train", "test", "test")):
        made.add(pictures.picture(k), np.zeros((64, 80), np.uint8), split=split, group=f"part-{k}")
    data = made.snapshot(tmp_path / "snapshot")
    first = Path(data.split("test")[0].image).name
    path = tmp_path / "must.txt"
    path.write_text(f"{first}  # the recall of March\n\npart-2\n")
    assert read_must_catch(path, data, "test") == {first, "part-2"}
    for text, message in (
        ("# nothing\n", "names no picture"),
        (f"{first}\n001.png\n", r"must.txt:2: names '001.png', which .* does not hold"),
        ("part-0\n", "names no picture of the test split"),
    ):
        path.write_text(text)
        with pytest.raises(DatasetError, match=message):
            read_must_catch(path, data, "test")


def test_a_class_the_pictures_do_not_show_is_no_class_that_did_not_get_worse() -> None:
    def two(p: JudgedPicture) -> JudgedPicture:
        return replace(p, target=np.append(p.target, False), scores=np.append(p.scores, 0.1))

    same = [two(p) for p in judged(0.2, 1)]
    found = compare(("old", "new"), same, same, ["scratch", "pore"])
    assert found.reasons == ("pore: not both defective and good pictures, so nothing is known of it",)


def test_twelve_pictures_of_a_part_are_one_trial() -> None:
    """40 defective parts of 12 pictures each, one of which passes one picture: 1 of 40, not of 480."""
    some = [picture(k, True, 0.9, f"part-{k // 12}") for k in range(480)]
    some[7] = picture(7, True, 0.1, "part-0")
    some += [picture(1000 + k, False, 0.1, f"good-{k}") for k in range(30)]
    found = figures_of("b-1", "s", "test", some, SCRATCH)
    assert (found.missed, found.defective) == (1, 480)
    assert found.miss_rate_below == pytest.approx(metrics.at_most(1, 40))
    assert found.stop_rate_below == pytest.approx(metrics.at_most(0, 30))
