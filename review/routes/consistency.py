"""The Consistency page and the printable attribute agreement report. For engineers: a labeller stays blind."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from fastapi import APIRouter, Depends, Form, HTTPException, Request
from fastapi.responses import RedirectResponse, Response
from sqlalchemy import select
from sqlalchemy.orm import Session

from inspection.agreement import MIN_UNITS, Estimate
from inspection.attribute_study import kappa_word
from inspection.escape import Share
from inspection.label_book import BOOKS, LabelBook
from inspection.size_band import NotEnough, SizeBand, size_band
from review import audit_set, before_after, consistency, label_books
from review.clock import wall_ms
from review.consistency_plot import band_svg
from review.deps import Engineer, HubDep, page, templates
from review.language import _, number, raw
from review.store import Label

router = APIRouter()
LISTED = 200
WRONG = 60
"""Frames the printed report lists: a page and a half."""
TURNS = 48
"""Pictures beside each other on one page: people compare them, and more than that nobody looks through."""


@dataclass(frozen=True, slots=True)
class Choice:
    """What the page is about: a class under one version of a book. `versions` are those with labels."""

    book: LabelBook
    newest: LabelBook
    cls: str
    versions: list[str]
    names: list[str]


def interval(e: Estimate, digits: int = 2) -> str:
    """0.62 (0.48 to 0.74); a dash where nothing is defined."""
    if math.isnan(e.value):
        return "–"
    return _(
        "%(value)s (%(low)s to %(high)s)",
        value=number(e.value, digits),
        low=number(e.low, digits),
        high=number(e.high, digits),
    )


def percent(s: Share) -> str:
    if math.isnan(s.value):
        return "–"
    share, low, high = (number(100 * v) for v in (s.value, s.low, s.high))
    return _("%(share)s %% (%(low)s to %(high)s)", share=share, low=low, high=high)


templates.env.filters.update(interval=interval, percent=percent, kappa_word=kappa_word)


@router.get("/consistency")
def show(request: Request, hub: HubDep, person: Engineer, book: str = "", version: str = "", cls: str = "") -> Response:
    with hub.store.reading() as session:
        choice = choose(session, book, version, cls)
        view = consistency.shown_view(session, choice.book.id, choice.cls)
        by_version = {b: consistency.shown_overall(session, b, choice.cls) for b in choice.versions}
    band = view.band if isinstance(view.band, SizeBand) else None
    plot = band_svg(band, consistency.calls(view.frames), choice.book.rule(choice.cls).limit_mm) if band else ""
    return page(
        request, "consistency.html", title=_("Consistency"), nav="consistency", person=person, choice=choice, view=view,
        band=band, refused=view.band if isinstance(view.band, NotEnough) else None, plot=plot,
        rule=choice.book.rule(choice.cls), by_version=by_version, min_units=MIN_UNITS,
        most=consistency.MOST,
    )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """Which frames: `who` is one person or two ("Ann~Bob"); `only` is differ, alone (`who` against all) or all."""

    who: str = ""
    only: Literal["differ", "alone", "all"] = "differ"
    low_mm: float = 0.0
    high_mm: float = math.inf

    @property
    def names(self) -> list[str]:
        return [w for w in self.who.split("~") if w]

    def wants(self, frame: consistency.FrameLabels, said: dict[str, str]) -> bool:
        """`said` is what everybody asked about answered, the model too."""
        names = self.names
        asked = {n: said[n] for n in names if n in said} if len(names) > 1 else said
        if len(asked) < 2 or not set(names) <= set(said) or not self.low_mm <= (frame.size_mm or 0) <= self.high_mm:
            return False
        if self.only == "alone":
            return said[names[0]] not in [a for p, a in said.items() if p != names[0]]
        return self.only == "all" or len(set(asked.values())) > 1


@router.get("/consistency/frames")
def show_frames(
    request: Request, hub: HubDep, person: Engineer, asked: Annotated[Asked, Depends()], book: str, version: str,
    cls: str,
) -> Response:  # fmt: skip
    """The frames behind a number of the page."""
    with hub.store.reading() as session:
        choice = choose(session, book, version, cls)
        found = consistency.shown_frames(session, choice.book.id, choice.cls)
    shown = []
    for frame in found:
        said = dict(frame.answers)
        if consistency.MODEL in asked.names and (model := consistency.model_answer(frame.record, choice.cls)):
            said[consistency.MODEL] = model
        if asked.wants(frame, said):
            shown.append((frame, said))
    return page(
        request, "consistency_frames.html", title=_("Frames"), nav="consistency", person=person, choice=choice,
        shown=shown[:LISTED], total=len(shown), who=", ".join(asked.names), only=asked.only,
    )  # fmt: skip


@router.get("/consistency/report")
def report(
    request: Request, hub: HubDep, person: Engineer, book: str = "", version: str = "", cls: str = ""
) -> Response:
    with hub.store.reading() as session:
        choice = choose(session, book, version, cls)
        frames = consistency.shown_frames(session, choice.book.id, choice.cls)
    return page(
        request, "consistency_report.html", title=_("Attribute agreement"), nav="consistency", person=person,
        choice=choice, study=consistency.attribute_study(frames), repeated=consistency.self_agreement(frames),
        rule=choice.book.rule(choice.cls),
        without=sum(not f.reference for f in frames), made_ms=wall_ms(), listed=WRONG,
        wrong=[f for f in frames if f.reference and any({f.reference} != set(said) for said in f.trials.values())],
    )  # fmt: skip


@router.get("/consistency/people-and-model")
def people_and_model(
    request: Request, hub: HubDep, person: Engineer, book: str = "", version: str = "", cls: str = ""
) -> Response:
    with hub.store.reading() as session:
        choice = choose(session, book, version, cls)
        frames = consistency.shown_frames(session, choice.book.id, choice.cls)
    return page(
        request, "people_and_model.html", title=_("People and the model"), nav="consistency", person=person,
        choice=choice, slices=audit_set.compare(frames, choice.book.rule(choice.cls)),
    )  # fmt: skip


@router.get("/consistency/before-after")
def before_after_(
    request: Request, hub: HubDep, person: Engineer, book: str = "", version: str = "", cls: str = ""
) -> Response:
    """The proposed limit on the frames themselves, or that of the newest version beside labels under an older one."""
    with hub.store.reading() as session:
        choice = choose(session, book, version, cls)
        frames = consistency.shown_frames(session, choice.book.id, choice.cls)
        newer = choice.newest.version > choice.book.version and choice.cls in choice.newest.classes
        later = choice.newest if newer else None
        again = consistency.shown_frames(session, later.id, choice.cls) if later else []
        band = None if later else size_band(consistency.calls(frames), draws=consistency.DRAWS)
        refused = band if isinstance(band, NotEnough) else None
        limit = consistency.proposed_limit(band) if isinstance(band, SizeBand) else 0.0
        if later:
            limit = later.rule(choice.cls).limit_mm
        both = None if refused or limit <= 0 else before_after.compare(frames, limit, again)
        shown = both.nearest(TURNS) if both else []
        where = before_after.places(session, [t.frame.record for t in shown], choice.cls)
    return page(
        request, "before_after.html", title=_("Before and after one rule"), nav="consistency", person=person,
        choice=choice, rule=choice.book.rule(choice.cls), both=both, refused=refused, later=later, shown=shown,
        total=sum(t.matters for t in both.turns) if both else 0, places=where,
    )  # fmt: skip


@router.post("/consistency/propose")
def propose(
    hub: HubDep, person: Engineer, book: Annotated[str, Form()], version: Annotated[str, Form()],
    cls: Annotated[str, Form()],
) -> Response:  # fmt: skip
    """Accept the proposal as the draft of the next version; publishing it, on the Label book page, asks for labels."""
    with hub.store.reading() as session:
        choice = choose(session, book, version, cls)
        frames = consistency.shown_frames(session, choice.book.id, choice.cls)
    view = consistency.class_view(frames, choice.cls)
    if isinstance(view.band, NotEnough):
        raise HTTPException(409, _("nothing is proposed any more: %(why)s", why=raw(view.band.why)))
    with hub.store.writing() as session:
        consistency.propose(session, choice.newest, choice.cls, view.band, person.name, wall_ms())
    return RedirectResponse(f"/label-book/{choice.book.name}#draft", 303)


def choose(session: Session, name: str, version: str, cls: str) -> Choice:
    """What was asked for, or the first book, newest version and class that have labels."""
    labelled = {b.partition("@")[0] for b in session.scalars(select(Label.label_book).distinct())}
    names = [b.name for b in BOOKS.values()]
    name = name or next((n for n in names if n in labelled), names[0])
    newest = label_books.newest(session, name)
    if newest is None:
        raise HTTPException(404, f"no label book is called {name!r}")
    versions = consistency.used_versions(session, name)
    book = label_books.by_id(session, version or (versions[0] if versions else newest.id))
    if book is None or book.name != name:
        raise HTTPException(404, f"{name} has no version {version!r}")
    cls = cls or book.classes[0]
    if cls not in book.classes:
        raise HTTPException(404, f"{book.id} has no class {cls!r}")
    return Choice(book, newest, cls, versions, names)
