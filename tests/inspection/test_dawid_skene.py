"""Reliability and consensus from labels alone: simulated people whose error rates are known."""

from __future__ import annotations

import numpy as np
import pytest

from inspection.dawid_skene import Judged, TooLittle, Weighed, weigh

CREW = {"Ann": (0.95, 0.97), "Bob": (0.85, 0.95), "Cy": (0.60, 0.75)}
"""Chance to call a defect so, and to call a good frame good."""


def crew(
    seed: int, count: int = 400, people: dict[str, tuple[float, float]] | None = None, known: int = 0
) -> tuple[list[Judged], np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.35
    frames = []
    for n, bad in enumerate(truth):
        said = {p: bool(rng.random() < (a if bad else 1 - b)) for p, (a, b) in (people or CREW).items()}
        frames.append(Judged(f"f{n}", f"p{n // 2}", said, bool(bad) if n < known else None))
    return frames, truth


def test_error_rates_come_out_within_their_intervals() -> None:
    inside, total = 0, 0
    for seed in range(6):
        frames, _ = crew(seed)
        found = weigh(frames, draws=100)
        assert isinstance(found, Weighed)
        for who in found.people:
            for estimate, true in zip((who.catches, who.passes), CREW[who.person], strict=True):
                assert abs(estimate.value - true) < 0.13
                inside += estimate.low <= true <= estimate.high
                total += 1
    assert inside / total >= 0.88


def test_the_consensus_beats_the_majority_where_one_person_is_poor() -> None:
    people = {"Ann": (0.97, 0.98), "Bob": (0.62, 0.7), "Cy": (0.6, 0.72)}
    wrong = {"weighed": 0, "majority": 0}
    for seed in range(10):
        frames, truth = crew(seed, people=people)
        found = weigh(frames, draws=20)
        assert isinstance(found, Weighed)
        for frame, bad in zip(frames, truth, strict=True):
            wrong["weighed"] += (found.chance[frame.frame] > 0.5) != bad
            wrong["majority"] += (sum(frame.said.values()) >= 2) != bad
    assert wrong["weighed"] < 0.6 * wrong["majority"]


def test_chances_are_calibrated() -> None:
    chances, truths = [], []
    for seed in range(10):
        frames, truth = crew(100 + seed)
        found = weigh(frames, draws=20)
        assert isinstance(found, Weighed)
        chances += [found.chance[f.frame] for f in frames]
        truths += list(truth)
    of, bad = np.array(chances), np.array(truths)
    for low, high in ((0.05, 0.35), (0.35, 0.65), (0.65, 0.95)):
        here = (of > low) & (of < high)
        assert here.sum() > 30
        assert abs(of[here].mean() - bad[here].mean()) < 0.12


def test_known_frames_keep_their_truth_and_make_two_people_enough() -> None:
    two = {"Ann": (0.95, 0.97), "Bob": (0.6, 0.7)}
    frames, truth = crew(1, people=two)
    assert weigh(frames) == TooLittle(400, 2, 0)
    frames, truth = crew(1, people=two, known=60)
    found = weigh(frames)
    assert isinstance(found, Weighed)
    assert [found.chance[f"f{n}"] for n in range(60)] == [float(b) for b in truth[:60]]
    ann, bob = found.people
    assert ann.catches.value + ann.passes.value > bob.catches.value + bob.passes.value + 0.3
    apart = [f for f in frames[60:] if f.said["Ann"] != f.said["Bob"]]
    with_ann = [(found.chance[f.frame] > 0.5) == f.said["Ann"] for f in apart]
    assert np.mean(with_ann) > 0.9


def test_everybody_alike_leaves_no_doubt_and_a_single_answer_gets_its_persons_weight() -> None:
    frames = [Judged(f"f{n}", f"p{n}", dict.fromkeys("abc", n % 3 == 0)) for n in range(90)]
    frames.append(Judged("alone", "x", {"a": True}))
    found = weigh(frames)
    assert isinstance(found, Weighed)
    assert all((found.chance[f"f{n}"] > 0.99) == (n % 3 == 0) for n in range(90))
    assert 0.8 < found.chance["alone"] < 1
    assert all(who.catches.value > 0.9 for who in found.people)


@pytest.mark.parametrize("count", [0, 1, 19])
def test_too_few_double_labels_are_no_estimate(count: int) -> None:
    frames, _ = crew(0, count=count)
    found = weigh(frames)
    assert isinstance(found, TooLittle)
    assert found.double == count
