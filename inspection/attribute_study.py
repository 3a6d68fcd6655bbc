"""Attribute agreement analysis: can people tell good from bad, each with themselves, with each other, with the truth?

After the Measurement Systems Analysis manual of the AIAG (4th edition, chapter III, section C): typically 50 parts,
3 people, 3 blind trials each, a third to a half of the parts near the limit. Every share comes with its exact
interval, because fifty perfect parts prove only 92.9 %.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Literal

from inspection.agreement import cohen_kappa
from inspection.escape import Share, clopper_pearson

Grade = Literal["accept", "marginal", "not acceptable", "unknown"]


@dataclass(frozen=True, slots=True)
class Trial:
    """One decision: `bad` is what the person called the part, in whatever trial of theirs this was."""

    person: str
    part: str
    bad: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """The manual's: (accept, marginal) for effectiveness from below, miss and false alarm from above."""

    effectiveness: tuple[float, float] = (0.90, 0.80)
    miss: tuple[float, float] = (0.02, 0.05)
    false_alarm: tuple[float, float] = (0.05, 0.10)

    def grade(self, effectiveness: float, miss: float, false_alarm: float) -> Grade:
        """The worst of the three decides; without bad or without good parts nothing is known."""
        if any(math.isnan(v) for v in (effectiveness, miss, false_alarm)):
            return "unknown"
        for n, grade in enumerate(("accept", "marginal")):
            if effectiveness >= self.effectiveness[n] and miss <= self.miss[n] and false_alarm <= self.false_alarm[n]:
                return "accept" if grade == "accept" else "marginal"
        return "not acceptable"


@dataclass(frozen=True, slots=True)
class PersonStudy:
    """One person. Effectiveness in both conventions: `by_part` counts a part only when all its trials are right (the
    manual's), `by_decision` each decision. `miss`: bad called good, of all decisions on bad parts; `false_alarm`: good
    called bad. `within`: parts this person always called the same (one trial says nothing and is left out)."""

    person: str
    by_part: Share
    by_decision: Share
    miss: Share
    false_alarm: Share
    within: Share
    kappa: float
    grade: Grade


@dataclass(frozen=True, slots=True)
class Study:
    """`between`: parts on which all trials of all people agree; `against`: and with the reference too.

    `pairs`: Cohen's kappa of every two people, first trial with first trial and so on.
    """

    parts: int
    bad_parts: int
    trials: int
    people: tuple[PersonStudy, ...]
    between: Share
    against: Share
    pairs: Mapping[tuple[str, str], float]
    grade: Grade


def study(
    trials: Iterable[Trial],
    reference: Mapping[str, bool],
    limits: Limits | None = None,
) -> Study:
    """`reference` says which parts are bad; trials of other parts are left out. Intervals are exact."""
    limits = limits or Limits()
    said: dict[str, dict[str, list[bool]]] = defaultdict(lambda: defaultdict(list))
    for t in trials:
        if t.part in reference:
            said[t.person][t.part].append(t.bad)
    people = tuple(_person(name, said[name], reference, limits) for name in sorted(said))
    parts = sorted({part for of_person in said.values() for part in of_person})
    shared = [p for p in parts if len(said) >= 2 and all(p in of_person for of_person in said.values())]
    answers = {p: {bad for of_person in said.values() for bad in of_person[p]} for p in shared}
    alike = [p for p in shared if len(answers[p]) == 1]
    return Study(
        parts=len(parts),
        bad_parts=sum(reference[p] for p in parts),
        trials=sum(len(ts) for of_person in said.values() for ts in of_person.values()),
        people=people,
        between=clopper_pearson(len(alike), len(shared)),
        against=clopper_pearson(sum(answers[p] == {reference[p]} for p in alike), len(shared)),
        pairs={pair: _kappa_of(said[pair[0]], said[pair[1]]) for pair in combinations(sorted(said), 2)},
        grade=_worst([p.grade for p in people]),
    )


def _person(
    name: str,
    said: Mapping[str, Sequence[bool]],
    reference: Mapping[str, bool],
    limits: Limits,
) -> PersonStudy:
    on_bad = [bad for part, trials in said.items() if reference[part] for bad in trials]
    on_good = [bad for part, trials in said.items() if not reference[part] for bad in trials]
    right = sum(on_bad) + len(on_good) - sum(on_good)
    all_right = sum(all(bad == reference[part] for bad in trials) for part, trials in said.items())
    repeated = [trials for trials in said.values() if len(trials) >= 2]
    miss = clopper_pearson(len(on_bad) - sum(on_bad), len(on_bad))
    alarm = clopper_pearson(sum(on_good), len(on_good))
    by_part = clopper_pearson(all_right, len(said))
    table = [[len(on_good) - sum(on_good), sum(on_good)], [len(on_bad) - sum(on_bad), sum(on_bad)]]
    return PersonStudy(
        person=name,
        by_part=by_part,
        by_decision=clopper_pearson(right, len(on_bad) + len(on_good)),
        miss=miss,
        false_alarm=alarm,
        within=clopper_pearson(sum(len(set(trials)) == 1 for trials in repeated), len(repeated)),
        kappa=cohen_kappa(table),
        grade=limits.grade(by_part.value, miss.value, alarm.value),
    )


def kappa_word(kappa: float) -> str:
    """The manual's words: 0.75 and more is good, below 0.40 poor."""
    if math.isnan(kappa):
        return "undefined"
    return "good" if kappa >= 0.75 else "poor" if kappa < 0.40 else "fair"


def _kappa_of(a: Mapping[str, Sequence[bool]], b: Mapping[str, Sequence[bool]]) -> float:
    """Trials are paired in the order they were made, as in the manual's cross tables."""
    table = [[0, 0], [0, 0]]
    for part in a.keys() & b.keys():
        for mine, theirs in zip(a[part], b[part], strict=False):
            table[mine][theirs] += 1
    return cohen_kappa(table)


def _worst(grades: Sequence[Grade]) -> Grade:
    order: tuple[Grade, ...] = ("not acceptable", "unknown", "marginal", "accept")
    return next((g for g in order if g in grades), "unknown")
