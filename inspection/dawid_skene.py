"""Who is right how often, from labels alone, and what a frame is when people differ.

The model of A. P. Dawid and A. M. Skene (1979), "Maximum likelihood estimation of observer error-rates using the EM
algorithm", Applied Statistics 28(1), 20-28, with two answers. Frame i is a defect with prevalence q; person p calls a
defect one with chance a_p (*catches*) and a good frame good with chance b_p (*passes*), independently given the truth.

    E:  T_i = q prod_p a_p^yes (1-a_p)^no / (that + (1-q) prod_p (1-b_p)^yes b_p^no)
    M:  a_p = sum_i T_i yes_ip / sum_i T_i n_ip     b_p = sum_i (1-T_i) no_ip / sum_i (1-T_i) n_ip     q = mean T_i

Each chance starts from 4 imagined right answers and 1 wrong one: people are better than chance, which is also what
tells defect from good in the first place. Frames whose truth is known (adjudicated) keep it in every E step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from inspection.agreement import Estimate, part_weights

Floats = NDArray[np.float64]

MIN_FRAMES, MIN_PEOPLE, MIN_KNOWN = 20, 3, 10
RIGHT, WRONG = 4.0, 1.0
ROUNDS, STILL = 200, 1e-7
DRAWS = 200


@dataclass(frozen=True, slots=True)
class Judged:
    """One frame: what people called it (True: a defect), the part it shows, the truth where it is known."""

    frame: str
    part: str
    said: Mapping[str, bool]
    truth: bool | None = None


@dataclass(frozen=True, slots=True)
class Reliability:
    """`catches`: share of defects this person calls so; `passes`: share of good frames they call good."""

    person: str
    frames: int
    catches: Estimate
    passes: Estimate


@dataclass(frozen=True, slots=True)
class Weighed:
    """`chance`: frame -> that it is a defect; of a known frame 0 or 1."""

    people: tuple[Reliability, ...]
    chance: dict[str, float]
    prevalence: float


@dataclass(frozen=True, slots=True)
class TooLittle:
    """Why nothing is estimated: frames with two answers (`double`), who gave them, frames whose truth is `known`."""

    double: int
    people: int
    known: int


def weigh(frames: Sequence[Judged], draws: int = DRAWS, seed: int = 0) -> Weighed | TooLittle:
    """Reliabilities with 95 % intervals by bootstrap over parts, and each frame's chance.

    Two people alone cannot be told apart: who of them is right needs a third, or frames whose truth is known.
    """
    double = [f for f in frames if len(f.said) >= 2]
    people = sorted({p for f in double for p in f.said})
    known = sum(f.truth is not None for f in double)
    enough = len(people) >= MIN_PEOPLE or (len(people) == 2 and known >= MIN_KNOWN)
    if len(double) < MIN_FRAMES or not enough:
        return TooLittle(len(double), len(people), known)
    # Frames with one answer say nothing of who is right, and get their chance all the same.
    judged = [f for f in frames if any(p in people for p in f.said)]
    yes, no, truth = _tables(judged, people)
    counts = part_weights([f.part for f in judged], draws, seed)
    counts[:, [len(f.said) < 2 for f in judged]] = 0.0
    catches, passes, prevalence = _fit(yes, no, truth, counts)
    chance = _chance(yes, no, truth, catches[:1], passes[:1], prevalence[:1])[0]
    return Weighed(
        people=tuple(
            Reliability(p, int((yes + no)[:, k].sum()), _estimate(catches[:, k]), _estimate(passes[:, k]))
            for k, p in enumerate(people)
        ),
        chance={f.frame: float(t) for f, t in zip(judged, chance, strict=True)},
        prevalence=float(prevalence[0]),
    )


def _tables(frames: Sequence[Judged], people: Sequence[str]) -> tuple[Floats, Floats, Floats]:
    """(frames, people) who said defect and who said good; (frames,) the truth, NaN where nobody knows it."""
    yes = np.array([[float(f.said.get(p) is True) for p in people] for f in frames])
    no = np.array([[float(f.said.get(p) is False) for p in people] for f in frames])
    truth = np.array([np.nan if f.truth is None else float(f.truth) for f in frames])
    return yes, no, truth


def _fit(yes: Floats, no: Floats, truth: Floats, counts: Floats) -> tuple[Floats, Floats, Floats]:
    """EM for every row of `counts` at once: (draws, people) catches and passes, (draws,) prevalence."""
    share = yes.sum(1) / (yes + no).sum(1)
    t = np.broadcast_to(np.where(np.isnan(truth), share, truth), counts.shape)
    catches = passes = prevalence = np.zeros(0)
    for _ in range(ROUNDS):
        on_bad, on_good = counts * t, counts * (1 - t)
        catches = (on_bad @ yes + RIGHT) / (on_bad @ (yes + no) + RIGHT + WRONG)
        passes = (on_good @ no + RIGHT) / (on_good @ (yes + no) + RIGHT + WRONG)
        prevalence = (on_bad.sum(1) + 1) / (counts.sum(1) + 2)
        before, t = t, _chance(yes, no, truth, catches, passes, prevalence)
        if float(np.abs(t - before).max()) < STILL:
            break
    return catches, passes, prevalence


def _chance(yes: Floats, no: Floats, truth: Floats, catches: Floats, passes: Floats, prevalence: Floats) -> Floats:
    """(draws, frames): the E step."""
    bad = np.log(catches) @ yes.T + np.log(1 - catches) @ no.T + np.log(prevalence)[:, None]
    good = np.log(1 - passes) @ yes.T + np.log(passes) @ no.T + np.log(1 - prevalence)[:, None]
    t = 1 / (1 + np.exp(np.clip(good - bad, -500, 500)))
    return np.where(np.isnan(truth), t, truth)


def _estimate(values: Floats) -> Estimate:
    low, high = np.quantile(values[1:], [0.025, 0.975])
    return Estimate(float(values[0]), float(low), float(high))
