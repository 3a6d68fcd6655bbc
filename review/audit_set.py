"""People and the model on the same frames: how far people agree is what a model can be asked to reach.

Only frames that two people labelled and on which the model made up its mind. For each slice stand side by side how
often two people agree, and how often the model agrees with one of them. Where people agree little, the rule is what
needs work: a model cannot learn what nobody knows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from inspection.agreement import MIN_UNITS, Agreement, Estimate, Unit, agreement, estimate, part_weights
from inspection.label_book import ClassRule
from review.consistency import MODEL, FrameLabels, model_answer
from review.language import _

Advice = Literal["too few", "fix the rule", "train more", "as good as people", "better than people"]
GOOD_ALPHA = 0.75
"""From here on agreement beyond chance counts as good (AIAG MSA); below it the rule is the first suspect."""
DRAWS = 500


@dataclass(frozen=True, slots=True)
class Slice:
    """`people`: agreement among them; `model`: of the model with each of them; `gap`: shares of pairs that agree,
    people's less the model's, on the same frames and with its interval by bootstrap over parts."""

    name: str
    frames: int
    people: Agreement
    model: Agreement
    gap: Estimate
    advice: Advice


def compare(of_class: Sequence[FrameLabels], rule: ClassRule) -> list[Slice]:
    """All frames, then the random audits, then by size, station and model; slices without a frame are left out."""
    both = [f for f in of_class if len(f.answers) >= 2 and model_answer(f.record, rule.cls)]
    found = [_slice(_("All"), both, rule.cls)]
    for name, belongs in _slices(both, rule):
        part = [f for f in both if belongs(f)]
        if part and len(part) < len(both):
            found.append(_slice(name, part, rule.cls))
    return found


def _slices(both: Iterable[FrameLabels], rule: ClassRule) -> list[tuple[str, Callable[[FrameLabels], bool]]]:
    low, high = rule.ambiguous_mm or (rule.limit_mm / 1.5, rule.limit_mm * 1.5)
    stations = sorted({f.record.station.station for f in both})
    models = sorted({f.record.model for f in both})

    def sized(smallest: float, largest: float) -> Callable[[FrameLabels], bool]:
        return lambda f: f.size_mm is not None and smallest <= f.size_mm < largest

    return [
        (_("Random audits"), lambda f: "audit" in f.record.why),
        (_("Under %(mm)s mm", mm=f"{low:g}"), sized(0, low)),
        (_("%(low)s to %(high)s mm", low=f"{low:g}", high=f"{high:g}"), sized(low, high)),
        (_("From %(mm)s mm on", mm=f"{high:g}"), sized(high, math.inf)),
        (_("Nobody measured"), lambda f: f.size_mm is None),
        *((_("Station %(name)s", name=s), _of_station(s)) for s in stations),
        *((_("Model %(name)s", name=m), _of_model(m)) for m in models),
    ]


def _of_station(name: str) -> Callable[[FrameLabels], bool]:
    return lambda f: f.record.station.station == name


def _of_model(name: str) -> Callable[[FrameLabels], bool]:
    return lambda f: f.record.model == name


def _slice(name: str, frames: Sequence[FrameLabels], cls: str) -> Slice:
    people = agreement([Unit(f.part, f.answers, f.record.uid) for f in frames], DRAWS)
    model = agreement(
        [
            Unit(f.part, {"person": answer, MODEL: model_answer(f.record, cls)}, f.record.uid)
            for f in frames
            for answer in f.answers.values()
        ],
        DRAWS,
    )
    gap = _gap(frames, cls)
    return Slice(name, len(frames), people, model, gap, _advice(len(frames), people, gap))


def _gap(frames: Sequence[FrameLabels], cls: str) -> Estimate:
    counts = np.array([_counts(f, cls) for f in frames], float).reshape(-1, 4)
    weights = part_weights([f.part for f in frames], DRAWS, 0)

    def gap(w: NDArray[np.float64]) -> NDArray[np.float64]:
        alike, pairs, with_model, answers = (w @ counts).T
        with np.errstate(invalid="ignore", divide="ignore"):
            out: NDArray[np.float64] = alike / pairs - with_model / answers
        return out

    return estimate(gap, weights)


def _counts(frame: FrameLabels, cls: str) -> tuple[int, int, int, int]:
    """Pairs of people who agree, pairs, people the model agrees with, people."""
    said, model = list(frame.answers.values()), model_answer(frame.record, cls)
    alike = sum(said.count(a) * (said.count(a) - 1) // 2 for a in set(said))
    return alike, len(said) * (len(said) - 1) // 2, said.count(model), len(said)


def _advice(frames: int, people: Agreement, gap: Estimate) -> Advice:
    """An undefined alpha (everybody always says the same) is no sign of disagreement."""
    if frames < MIN_UNITS:
        return "too few"
    if people.alpha.value < GOOD_ALPHA:
        return "fix the rule"
    if gap.low > 0:
        return "train more"
    return "better than people" if gap.high < 0 else "as good as people"
