"""Once round the loop in the hub's own code, with simulated people: what one label-book cycle does for agreement.

Three people with rules of their own label 150 frames twice. The hub finds the band, proposes the rule, drafts the
version, lists exactly which labels it touches, publishes and asks for them again. Then all frames are labelled twice
more, blind, under the new version: the attribute study a quality engineer would file. What is simulated is people:
afterwards a length is read with the page's line, 3 % off (two ends, each within a pixel, at 20 px/mm), and one answer
in 200 is a slip. The figures are as good as that assumption; a second row shows one slip in 100.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from benchmarks.figures import Figure
from inspection.agreement import Agreement
from inspection.attribute_study import PersonStudy, Trial, study
from inspection.escape import Share, clopper_pearson, lower_bound, upper_bound
from inspection.size_band import SizeBand
from review import consistency, label_books, label_queue, measured, publishing
from review.labelling import CheckedLabel, Mark
from review.store import Label, Record, Station, Store

PARTS, PEOPLE, TRIALS = 150, ("Ann", "Bob", "Cy"), 2
THRESHOLDS_MM = (1.0, 1.5, 3.0)
DRAWN_MM = 3.0
"""The limit the drawing gives and nobody can see; every inspector has one of their own."""
LN_MM = math.log(0.4), math.log(5.0)
"""True lengths spread evenly in their logarithm."""
NAME, CLS = "scratch", "scratch"
DAY_MS = 24 * 3600 * 1000


@dataclass(frozen=True, slots=True)
class Hand:
    """How an answer comes about: the size is seen off by exp(N(0, `eye`)), and a share of answers `slips`."""

    eye: float
    slips: float


BY_EYE, BY_LINE, HASTY = Hand(0.15, 0.02), Hand(0.03, 0.005), Hand(0.03, 0.01)


@dataclass(frozen=True, slots=True)
class Round:
    """One cycle. `exact`: the labels the hub listed as touched are those, and only those, between the limits."""

    limit_mm: float
    before: Agreement
    after: Agreement
    study_before: tuple[PersonStudy, ...]
    study_after: tuple[PersonStudy, ...]
    touched: int
    exact: bool
    left: int


class Plant:
    """A hub's database with `PARTS` measured scratches and people whose rules are known."""

    def __init__(self, folder: Path, seed: int, hand: Hand) -> None:
        self.store = Store(f"sqlite:///{folder / 'hub.db'}")
        self.store.migrate()
        self.rng, self.hand, self.now_ms = np.random.default_rng(seed), hand, 40 * DAY_MS
        self.sizes = {f"{n:032x}": float(v) for n, v in enumerate(np.exp(self.rng.uniform(*LN_MM, PARTS)))}

    def cycle(self) -> Round:
        with self.store.writing() as session:
            self._records(session)
            drawn = self._draft(session, "the limit on the drawing", DRAWN_MM)
            self._label_all(session, drawn, [(t, BY_EYE) for t in THRESHOLDS_MM])
            frames = consistency.frames(session, drawn, CLS, consistency.parts_of(session))
            band = consistency.class_view(frames, CLS).band
            if not isinstance(band, SizeBand):
                raise SystemExit(f"no rule is proposed: {band.why}")
            book = label_books.newest(session, NAME)
            assert book
            row = consistency.propose(session, book, CLS, band, "Eve", self.now_ms)
            limit = label_books.as_book(row).rule(CLS).limit_mm
            self._show(session, limit)
            touched = publishing.touched(session, row)
            exact = {t.label.id for t in touched} == self._between(session, limit)
            publishing.publish(session, row, "Eve", label_books.FramesNeeded(), self.now_ms)
            after = f"{row.name}@{row.version}"
            self._label_asked(session, after, limit)
            left = publishing.waiting_to_relabel(session, NAME)
            self._label_all(session, after, [(limit, self.hand)] * len(PEOPLE))
            again = consistency.frames(session, after, CLS, consistency.parts_of(session))
        return Round(
            limit, consistency.overall(frames), consistency.overall(again), self._study(frames, limit),
            self._study(again, limit), len(touched), exact, left,
        )  # fmt: skip

    def _records(self, session: Session) -> None:
        session.add(Station(id=1, site="p", line="l", station="press"))
        session.flush()
        for n, uid in enumerate(self.sizes):
            session.add(
                Record(
                    uid=uid, station_id=1, why=["uncertain"], camera="cam", frame_id=n, ts_ms=n * 100_000,
                    call="uncertain", scores={}, findings=[], image="0" * 64, heat_to_frame=[], px_per_mm=20.0,
                    width_px=640, height_px=512, part=f"P{n}", label_book=f"{NAME}@1", stages_ms={}, received_ms=0,
                )
            )  # fmt: skip
        session.flush()

    def _draft(self, session: Session, reason: str, limit_mm: float) -> str:
        row = label_books.draft(session, NAME, "Eve", reason, self.now_ms)
        label_books.set_rule(session, row, CLS, limit_mm=limit_mm)
        publishing.publish(session, row, "Eve", label_books.FramesNeeded(0, 0, 0), self.now_ms)
        return f"{row.name}@{row.version}"

    def _show(self, session: Session, limit_mm: float) -> None:
        """Four defects, three that are none, three borderline cases: what publishing asks for."""
        row = label_books.draft_of(session, NAME)
        assert row
        by_size = sorted(self.sizes, key=lambda uid: self.sizes[uid])
        near = sorted(self.sizes, key=lambda uid: abs(math.log(self.sizes[uid] / limit_mm)))[:3]
        rest = [uid for uid in by_size if uid not in near]
        kinds = [("example", rest[-4:]), ("counterexample", rest[:3]), ("borderline", near)]
        for kind, uids in kinds:
            for uid in uids:
                label_books.show_frame(session, row, CLS, kind, uid, "", "Eve", self.now_ms)

    def _label_all(self, session: Session, book: str, people: Sequence[tuple[float, Hand]]) -> None:
        """Everybody labels every frame, and again after a wash-out."""
        for _ in range(TRIALS):
            self.now_ms += 9 * DAY_MS
            for person, (threshold, hand) in zip(PEOPLE, people, strict=True):
                ids = {uid: n for n, uid in session.execute(select(Record.id, Record.uid)).all()}
                old = (Label.person == person, Label.superseded_ms.is_(None))
                session.execute(update(Label).where(*old).values(superseded_ms=self.now_ms))
                # As `label_queue.save` does, in one go.
                for uid in self.sizes:
                    label = self._answer(book, uid, threshold, hand)
                    marks = [m.model_dump(mode="json") for m in label.marks]
                    session.add(
                        Label(
                            record_id=ids[uid], person=person, label_book=book, classes=list(label.classes), mask=None,
                            annotations=marks, unsure=False, created_ms=self.now_ms,
                        )
                    )  # fmt: skip
        session.flush()

    def _label_asked(self, session: Session, book: str, limit_mm: float) -> None:
        """Only what publishing queued, by those it asked."""
        self.now_ms += DAY_MS
        for person, uid in publishing.asked(session, NAME):
            label = self._answer(book, uid, limit_mm, self.hand)
            label_queue.save(session, uid, person, label, None, self.now_ms)

    def _answer(self, book: str, uid: str, threshold: float, hand: Hand) -> CheckedLabel:
        seen = self.sizes[uid] * math.exp(self.rng.normal(0, hand.eye))
        called = bool((seen >= threshold) != (self.rng.random() < hand.slips))
        mark = Mark(cls=CLS, length_mm=round(seen, 3))
        return CheckedLabel(book, (CLS,) if called else (), False, (mark,), None)

    def _between(self, session: Session, limit_mm: float) -> set[int]:
        low, high = sorted((limit_mm, DRAWN_MM))
        current = publishing.current_labels(session, NAME)
        return {m.id for m in current if low <= (measured.longest_mm(m, CLS) or 0) < high}

    def _study(self, frames: Sequence[consistency.FrameLabels], limit_mm: float) -> tuple[PersonStudy, ...]:
        """Against the true length."""
        trials = [
            Trial(person, f.record.uid, said == consistency.DEFECT)
            for f in frames
            for person, answers in f.trials.items()
            for said in answers
        ]
        return study(trials, {uid: size >= limit_mm for uid, size in self.sizes.items()}).people


def once(seed: int, hand: Hand) -> Round:
    with tempfile.TemporaryDirectory() as folder:
        plant = Plant(Path(folder), seed, hand)
        try:
            return plant.cycle()
        finally:
            plant.store.close()


def figures(seeds: int = 5) -> Iterator[Figure]:
    """Shares are pooled over people and seeds; the bounds are one-sided, exact, at 95 %."""
    rounds = [once(seed, BY_LINE) for seed in range(seeds)]
    note = f"{seeds} cycles of 3 people x {PARTS} frames x {TRIALS}"
    limits = ", ".join(f"{r.limit_mm:g}" for r in rounds)
    yield Figure("cycle: rule the hub proposed, furthest from 1.5 mm", _far(rounds), "mm", "<= 0.15", limits)
    wrong = sum(not r.exact for r in rounds)
    touched = sum(r.touched for r in rounds)
    yield Figure("cycle: lists of touched labels that are not exact", wrong, "", "<= 0", f"{touched} labels listed")
    yield Figure("cycle: touched labels nobody was asked for", sum(r.left for r in rounds), "", "<= 0")
    for word, of in (("before", [r.before for r in rounds]), ("after", [r.after for r in rounds])):
        kappas = [a.kappa for a in of if a.kappa]
        low = min(k.low for k in kappas)
        goal = ">= 0.9" if word == "after" else None
        mean = round(float(np.mean([k.value for k in kappas])), 3)
        yield Figure(f"cycle: Fleiss's kappa {word}", mean, "", goal, f"{note}; lowest lower bound {low:.3f}")
    yield from _shares("before", [p for r in rounds for p in r.study_before], goals=False)
    yield from _shares("after", [p for r in rounds for p in r.study_after], goals=True)
    hasty = [p for seed in range(seeds) for p in once(seed, HASTY).study_after]
    yield from _shares("after, one slip in 100", hasty, goals=False)


def _shares(word: str, people: Sequence[PersonStudy], *, goals: bool) -> Iterator[Figure]:
    for name, goal, shares, bound in (
        ("effectiveness, all trials right", ">= 95", [p.by_part for p in people], lower_bound),
        ("miss", "<= 2", [p.miss for p in people], upper_bound),
        ("false alarm", "<= 3", [p.false_alarm for p in people], upper_bound),
    ):
        pooled = _pooled(shares)
        side = "at least" if bound is lower_bound else "at most"
        proven = f"{side} {100 * bound(round(pooled.value * pooled.n), pooled.n):.1f} % proven by {pooled.n:.0f}"
        yield Figure(f"cycle: {name}, {word}", round(100 * pooled.value, 2), "%", goal if goals else None, proven)


def _pooled(shares: Sequence[Share]) -> Share:
    n = sum(s.n for s in shares)
    return clopper_pearson(round(sum(s.value * s.n for s in shares)), n)


def _far(rounds: Sequence[Round]) -> float:
    return round(max(abs(r.limit_mm - 1.5) for r in rounds), 2)
