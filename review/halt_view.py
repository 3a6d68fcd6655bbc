"""What the Halt page shows, worked out before any template: crops, limits, times, and what may be pressed now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import select
from sqlalchemy.orm import Session

from inspection.stop import SOMEBODY, stop_asked_by
from inspection.types import Code
from review import label_books
from review.alarms import Cause, State, is_judged, why_no_undo, why_not
from review.fault_kinds import KINDS
from review.halt_film import Strip, strip_of
from review.halts import evidence
from review.language import N_, _, class_words, clock, current, number, raw, score_words
from review.pictures import Rect, crop_around, scale_bar_mm
from review.shelving import KIND_WORDS, Kind, OfCause
from review.similar import Box, Similar, Week, box_of, good_reference, week_before
from review.store import OF_STATION, FilmRow, Halt, HaltEventRow, Record, Shelf

STAGES = (
    ("queue", N_("waiting")),
    ("inference", N_("model")),
    ("decide", N_("decision")),
    ("send", N_("sending")),
)
ICONS = {
    State.ACTIVE_UNACKED: "halted",
    State.ACTIVE_ACKED: "halted",
    State.RESET_REQUESTED: "halted",
    State.RESET: "stopped",
    State.CLEARED_UNACKED: "stopped",
    State.CLEARED_ACKED: "stopped",
    State.CLOSED: "closed",
}
STATE_WORDS = {
    State.ACTIVE_UNACKED: N_("Halted, not acknowledged"),
    State.ACTIVE_ACKED: N_("Halted, acknowledged"),
    State.RESET_REQUESTED: N_("Reset asked for, waiting for the edge"),
    State.RESET: N_("Reset accepted: start the line at its own panel"),
    State.CLEARED_UNACKED: N_("Reset at the machine, not acknowledged here"),
    State.CLEARED_ACKED: N_("Reset at the machine, verdict missing"),
    State.CLOSED: N_("Closed"),
}
VERDICT_WORDS = {"real": N_("Real defect"), "false_call": N_("False call"), "unsure": N_("Unsure")}
CODE_WORDS = {
    Code.OK: N_("no reason given"),
    Code.DEFECT: N_("defect"),
    Code.CAMERA: N_("camera fault"),
    Code.MODEL: N_("model fault"),
    Code.STORAGE: N_("storage fault"),
    Code.STARTING: N_("edge starting"),
    Code.INTERNAL: N_("edge fault"),
    Code.STOP: N_("stop requested"),
    Code.MAINTENANCE: N_("maintenance"),
}


@dataclass(frozen=True, slots=True)
class Picture:
    """A record's picture cut to `crop`; `box_px` is the finding in px of the crop, None where there is none."""

    record: Record
    crop: Rect
    box_px: Box | None

    @property
    def url(self) -> str:
        return f"/records/{self.record.uid}/crop.jpg?{self.crop.query}"

    @property
    def heat_url(self) -> str | None:
        if not self.record.heat or len(self.record.heat_to_frame) != 6:
            return None
        return f"/records/{self.record.uid}/heat.png?{self.crop.query}"

    @property
    def bar_mm(self) -> float:
        return scale_bar_mm(self.crop.w / self.record.px_per_mm)

    @property
    def bar_px(self) -> float:
        return self.bar_mm * self.record.px_per_mm


@dataclass(frozen=True, slots=True)
class Measure:
    """A value against its limit, as a bar: both as shares of the bar's length."""

    name: str
    value: str
    limit: str
    share: float
    limit_share: float


@dataclass(frozen=True, slots=True)
class Step:
    """One line of the history, in words."""

    at_ms: int
    who: str
    what: str
    refused: bool = False


@dataclass(frozen=True, slots=True)
class Alike:
    """A similar halt of the last week, as a small picture that leads to it."""

    halt: Halt
    url: str | None
    same_place: bool
    verdict: str


@dataclass(frozen=True, slots=True)
class HaltView:
    halt: Halt
    title: str
    icon: str
    state_words: str
    picture: Picture | None
    whole: Picture | None
    reference: Picture | None
    others: tuple[Record, ...]
    film: Strip | None
    week: Week
    alike: tuple[Alike, ...]
    measures: tuple[Measure, ...]
    stages: tuple[tuple[str, float, float], ...]
    total_ms: float | None
    label_book: str
    history: tuple[Step, ...]
    refused: str
    no_ack: str
    no_reset: str
    undo_by: str
    """Who may take the verdict back: whoever gave it. Empty where nobody can."""
    was_asked: bool
    """A person asked for this stop: there is nothing to judge."""


def view(session: Session, halt: Halt, frame_uid: str = "") -> HaltView:
    """`frame_uid`: the record to look at, among the halt's own; without one, the frame that completed it."""
    found = evidence(session, halt, frame_uid)
    good = good_reference(session, halt, found.main) if found.main else None
    picture, whole, reference = _pictures(halt, found.main, good)
    film = session.scalar(select(FilmRow).where(FilmRow.station_id == halt.station_id, FilmRow.halt == halt.halt))
    week = week_before(session, halt, found.main)
    label_book = found.main.label_book if found.main else ""
    state, judged = State(halt.state), is_judged(halt.code, halt.verdict)
    history = tuple(_step(e) for e in halt.events)
    last = history[-1] if history else None
    newest = halt.events[-1] if halt.events else None
    return HaltView(
        halt=halt,
        title=cause_words(halt),
        icon=ICONS[state],
        state_words=raw(STATE_WORDS[state]),
        picture=picture,
        whole=whole,
        reference=reference,
        others=found.others,
        film=strip_of(film) if film else None,
        week=week,
        alike=tuple(_alike(other) for other in week.shown),
        measures=_measures(halt, _book_limit_mm(session, halt, label_book), label_book),
        stages=_stages(halt.stages_ms),
        total_ms=halt.stages_ms.get("total"),
        label_book=label_book,
        history=history,
        refused=last.what if last and last.refused else "",
        no_ack=why_not(state, Cause.ACK, judged=judged),
        no_reset=why_not(state, Cause.RESET_ASKED, judged=judged),
        undo_by=newest.who if newest and not why_no_undo(state, newest.kind, newest.detail.get("was")) else "",
        was_asked=halt.code == Code.STOP,
    )


def cause_words(row: OfCause) -> str:
    """What stopped the line, as a title: its defect class, else the kind of fault. Of a shelf, what lies on it."""
    if row.code == OF_STATION:
        return fault_words(row.cls)
    words = class_words(row.cls) if row.cls else raw(CODE_WORDS[Code(row.code)])
    return words[:1].upper() + words[1:]


def fault_words(kind: str) -> str:
    """A station's own alarm, as a title."""
    words = raw(KINDS.get(kind, kind))
    return words[:1].upper() + words[1:]


def shelf_words(shelf: Shelf) -> str:
    kind = raw(KIND_WORDS[Kind(shelf.kind)])
    return _("%(kind)s until %(time)s", kind=kind, time=clock(shelf.until_ms)) if shelf.until_ms else kind


def reason_words(halt: Halt) -> str:
    """The edge's own sentence, which is English; in another language the same facts from their fields."""
    if current() == "en":
        return halt.reason
    if asked := stop_asked_by(halt.reason):
        who, why = asked
        said = _("stop requested by %(who)s", who=who_words(who))
        return f"{said}: {why}" if why else said
    if not halt.cls:
        return f"{raw(CODE_WORDS[Code(halt.code)])}: {halt.reason}"
    facts = []
    if halt.length_mm > 0:
        facts.append(_("%(mm)s mm, limit %(limit)s mm", mm=number(halt.length_mm), limit=number(halt.limit_mm)))
    if halt.score > 0:
        scores = {"score": score_words(halt.score), "limit": score_words(halt.limit)}
        facts.append(_("score %(score)s, limit %(limit)s", **scores))
    return "; ".join((cause_words(halt), *facts))


def who_words(who: str) -> str:
    """A person's name as it is, and in the reader's language that there was none."""
    return raw(N_("somebody not signed in")) if who == SOMEBODY else who


def _pictures(
    halt: Halt, main: Record | None, good: Record | None
) -> tuple[Picture | None, Picture | None, Picture | None]:
    """The finding, the whole frame, and the same part of a good frame."""
    if main is None:
        return None, None, None
    box = box_of(main, halt.cls)
    crop = crop_around(box, main.width_px, main.height_px, main.px_per_mm)
    picture = Picture(main, crop, _inside(box, crop))
    everything = crop_around(None, main.width_px, main.height_px, main.px_per_mm)
    whole = Picture(main, everything, (crop.x, crop.y, crop.w, crop.h))
    same_size = good is not None and (good.width_px, good.height_px) == (main.width_px, main.height_px)
    return picture, whole, Picture(good, crop, None) if good and same_size else None


def _alike(other: Similar) -> Alike:
    record, url = other.record, None
    if record is not None:
        crop = crop_around(other.box_px, record.width_px, record.height_px, record.px_per_mm)
        url = f"/records/{record.uid}/crop.jpg?{crop.query}&side=160"
    verdict = raw(VERDICT_WORDS[other.halt.verdict]) if other.halt.verdict else _("not judged")
    return Alike(other.halt, url, other.same_place, verdict)


def _book_limit_mm(session: Session, halt: Halt, label_book: str) -> float | None:
    """What the rules people label by say; None when the hub does not know this book or class."""
    book = label_books.by_id(session, label_book) if label_book else None
    return next((rule.limit_mm for rule in book.rules if rule.cls == halt.cls), None) if book else None


def _inside(box: Box | None, crop: Rect) -> Box | None:
    return None if box is None else (box[0] - crop.x, box[1] - crop.y, box[2], box[3])


def _measures(halt: Halt, book_mm: float | None, label_book: str) -> tuple[Measure, ...]:
    """Only what was measured: a fault has neither size nor score, and a zero would read as a measurement."""
    measures = []
    if halt.length_mm > 0:
        limit_mm = halt.limit_mm if book_mm is None else book_mm
        full = 1.25 * max(halt.length_mm, limit_mm, 1e-6)
        words = _size_limit(halt.limit_mm, book_mm, label_book)
        share = min(1.0, halt.length_mm / full)
        measures.append(Measure(_("Size"), f"{number(halt.length_mm)} mm", words, share, limit_mm / full))
    if halt.score > 0:
        measures.append(
            Measure(
                _("Score"),
                score_words(halt.score),
                _("limit %(limit)s", limit=score_words(halt.limit)),
                min(1.0, halt.score),
                min(1.0, halt.limit),
            )
        )
    return tuple(measures)


def _size_limit(site_mm: float, book_mm: float | None, label_book: str) -> str:
    """The label book's limit; the site's own beside it where they differ."""
    site = _("limit %(mm)s mm", mm=number(site_mm)) if site_mm > 0 else _("any size stops the line")
    if book_mm is None:
        return site
    book = _("limit %(mm)s mm (%(book)s)", mm=number(book_mm), book=label_book)
    return book if abs(book_mm - site_mm) < 0.05 else f"{book} · " + _("this site: %(limit)s", limit=site)


def _stages(stages_ms: dict[str, Any]) -> tuple[tuple[str, float, float], ...]:
    """(words, ms, share of the longest) of each stage that was timed."""
    known = [(raw(words), float(stages_ms[name])) for name, words in STAGES if name in stages_ms]
    longest = max((ms for _, ms in known), default=0.0) or 1.0
    return tuple((words, ms, ms / longest) for words, ms in known)


def _step(event: HaltEventRow) -> Step:
    detail = event.detail
    why = str(detail.get("why", ""))
    match Cause(event.kind):
        case Cause.ACK:
            what = _("acknowledged")
        case Cause.VERDICT:
            what = _("said: %(verdict)s", verdict=raw(VERDICT_WORDS.get(str(detail.get("verdict")), "?")))
            if detail.get("was"):
                what += " " + _("(was: %(verdict)s)", verdict=raw(VERDICT_WORDS.get(str(detail["was"]), "?")))
        case Cause.UNDONE:
            what = _("took back: %(verdict)s", verdict=raw(VERDICT_WORDS.get(str(detail.get("verdict")), "?")))
        case Cause.RESET_ASKED:
            what = _("asked for a reset")
        case Cause.ACCEPTED:
            what = _("reset accepted by the edge") + (f": {why}" if why else "")
        case Cause.REFUSED:
            refusal = _("reset refused by the edge: %(why)s", why=why or _("no reason given"))
            return Step(event.at_ms, event.who, refusal, refused=True)
        case Cause.UNANSWERED:
            return Step(event.at_ms, event.who, _("reset not done: %(why)s", why=raw(why)), refused=True)
        case Cause.STOP_ASKED:
            return Step(event.at_ms, who_words(event.who), _("asked for a stop"))
        case Cause.GONE:
            what = _("halt is over: the permit no longer names it")
        case Cause.REALARMED:
            what = _("alarmed again: nobody has acknowledged")
    return Step(event.at_ms, event.who, what)
