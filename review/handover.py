"""From one shift to the next: a draft of what is not settled, signed by who leaves, checked item by item by who comes.

The draft is kept as it was when signed: what it says must not change under the signature. Times are Unix ms.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Select, func, select
from sqlalchemy.orm import Session

from review import audit, faults, shelving, suppression
from review.alarms import OPEN, UNACKED, State
from review.halt_view import STATE_WORDS, cause_words
from review.halts import NotNow, urgency
from review.language import N_, _, ngettext, raw
from review.live import PERMIT_STALE_MS, Now
from review.shelving import KIND_WORDS, Kind
from review.store import AuditHead, AuditRow, Halt, Handover, Maintenance, Rollout, Shelf, ShiftNote, Station

SHIFT_MS = 12 * 3600 * 1000
"""How far back a first handover looks."""
MOST = 100
"""Of one kind; with more than this open the shift has another problem than its handover. One item counts the rest."""


@dataclass(frozen=True, slots=True)
class Item:
    """One thing the next shift must know. `key` names it among all, `link` is the page that shows it."""

    key: str
    text: str
    link: str


@dataclass(frozen=True, slots=True)
class Draft:
    """`sections`: (title, items), always all five, so that an empty one says so. `blocked`: why nobody may sign."""

    from_ms: int
    to_ms: int
    sections: tuple[tuple[str, tuple[Item, ...]], ...]
    blocked: str

    def as_json(self) -> dict[str, Any]:
        return {
            title: [{"key": i.key, "text": i.text, "link": i.link} for i in items] for title, items in self.sections
        }


def draft(session: Session, stations: list[Now], now_ns: int, now_ms: int) -> Draft:
    taken = _taken(session)
    # Before the first was taken: from where the first begins.
    since = taken.to_ms if taken else session.scalar(select(func.min(Handover.from_ms))) or now_ms - SHIFT_MS
    models = select(Rollout).where(Rollout.wanted_ms >= since)
    notes = select(ShiftNote).where(ShiftNote.at_ms >= since)
    if taken:
        models = _new(session, Rollout, taken, "rollout", "rollback")
        notes = _new(session, ShiftNote, taken, "shift_note")
    shelves = list(shelving.current(session, now_ms).values())
    out_of_service = tuple(_shelf(s) for s in shelves if s.kind != Kind.SHELVED)
    sections = (
        (N_("Open halts"), _open(session)),
        (N_("Shelved"), tuple(_shelf(s) for s in shelves if s.kind == Kind.SHELVED)),
        (N_("Overrides"), (*out_of_service, *_running_on(stations, now_ns), *_quiet(session, now_ms))),
        (N_("Model changes"), _models(session, models)),
        (N_("Notes"), _notes(session, notes)),
    )
    return Draft(since, now_ms, sections, _blocked(session))


def _taken(session: Session) -> Handover | None:
    """The newest handover that somebody took: what was signed and not taken, nobody has read yet."""
    return session.scalar(select(Handover).where(Handover.in_by.is_not(None)).order_by(Handover.id.desc()).limit(1))


def _new(session: Session, row: type[Rollout | ShiftNote], taken: Handover, *acts: str) -> Select[Any]:
    """Rows since that handover, counted by the audit log and not by their time: those made after its signature while
    the hub's clock had been set back would be in no draft."""
    told = session.scalar(select(func.count()).where(AuditRow.seq > taken.audit_seq, AuditRow.what.in_(acts)))
    last = session.scalar(select(row.id).order_by(row.id.desc()).offset(told).limit(1))
    return select(row).where(row.id > (last or 0))


def sign(session: Session, made: Draft, who: str, instead_of: int | None) -> Handover:
    """NotNow while somebody has yet to look at a halt: a shift does not hand over what it has not seen. And when one
    waits that the page did not show, as after two taps; `instead_of` is the one it showed."""
    if made.blocked:
        raise NotNow(made.blocked)
    head = session.get_one(AuditHead, 1, with_for_update=True)  # two taps follow each other on every database
    waits = waiting(session)
    if waits is not None and waits.id != instead_of:
        raise NotNow(_("%(name)s signed meanwhile: look at it first", name=waits.out_by))
    row = Handover(
        from_ms=made.from_ms,
        to_ms=made.to_ms,
        draft=made.as_json(),
        out_by=who,
        in_by=None,
        in_ms=None,
        audit_seq=head.seq,
        audit_hash=head.hash,
    )
    session.add(row)
    session.flush()
    return row


def take_over(session: Session, handover: Handover, who: str, seen: set[str], now_ms: int) -> None:
    """The one who comes has checked every item; NotNow otherwise."""
    if handover.in_by is not None:
        raise NotNow(_("%(name)s has taken over already", name=handover.in_by))
    if who == handover.out_by:
        raise NotNow(_("%(name)s signed it: somebody else must take over", name=who))
    keys = {item["key"] for items in handover.draft.values() for item in items}
    if missing := len(keys - seen):
        raise NotNow(_("%(n)s of %(all)s not checked yet", n=missing, all=len(keys)))
    handover.in_by, handover.in_ms = who, now_ms
    audit.note(session, who, "handover_taken", f"handover {handover.id}", out_by=handover.out_by)


def waiting(session: Session) -> Handover | None:
    """The newest one, while nobody has taken it over."""
    newest = session.scalar(select(Handover).order_by(Handover.id.desc()).limit(1))
    return newest if newest is not None and newest.in_by is None else None


def _blocked(session: Session) -> str:
    unseen = session.scalar(select(func.count()).select_from(Halt).where(Halt.state.in_([*UNACKED]))) or 0
    if not unseen:
        return ""
    return ngettext("%(num)s halt is not acknowledged", "%(num)s halts are not acknowledged", unseen)


def _open(session: Session) -> tuple[Item, ...]:
    """What holds a line first: of many halts the oldest are those that only wait for a verdict."""
    found = select(Halt).where(Halt.state.in_([*OPEN]))
    rows = session.scalars(found.order_by(urgency(), Halt.id.desc()).limit(MOST)).all()
    shown = tuple(
        Item(
            f"halt-{h.id}", f"{_at(h.station)}: {cause_words(h)}. {raw(STATE_WORDS[State(h.state)])}", f"/halts/{h.id}"
        )
        for h in rows
    )
    return (*shown, *_more(session, found, "halts", "/alarms"))


def _more(session: Session, found: Select[Any], what: str, link: str) -> tuple[Item, ...]:
    """How many are beyond `MOST`, as an item of its own: it is signed and checked like the others."""
    total = session.scalar(select(func.count()).select_from(found.subquery())) or 0
    return (Item(f"more-{what}", _("and %(n)s more", n=total - MOST), link),) if total > MOST else ()


def _shelf(s: Shelf) -> Item:
    put = _("%(kind)s by %(who)s: %(why)s", kind=raw(KIND_WORDS[Kind(s.kind)]), who=s.by, why=s.why)
    return Item(f"shelf-{s.id}", f"{_at(s.station)}: {cause_words(s)} {put}", "/alarms")


def _running_on(stations: list[Now], now_ns: int) -> tuple[Item, ...]:
    """A line that runs while nothing is inspected, because its site lets it."""
    on = [
        s for s in stations if s.permit and s.permit.run and s.permit.code and s.permit_age_ms(now_ns) < PERMIT_STALE_MS
    ]
    runs = _("not inspecting, the site lets the line run")
    return tuple(Item(f"runs-{s.key}", f"{s.topics.line} · {s.topics.station}: {runs}", "/") for s in on)


def _quiet(session: Session, now_ms: int) -> tuple[Item, ...]:
    """Stations somebody works at, and rules that keep something quiet right now."""
    working = suppression.in_maintenance(session, now_ms).values()
    held = [h for h in faults.held(session, now_ms, now_ms) if h.now]
    return (
        *(Item(f"maintenance-{m.id}", f"{_at(m.station)}: {_working(m)}", "/alarms/rules") for m in working),
        *(Item(f"rule-{h.rule}", f"{_held(h.now)}: {h.rule} · {h.name}", "/alarms/rules") for h in held),
    )


def _working(m: Maintenance) -> str:
    return _("in maintenance by %(who)s: %(why)s", who=m.by, why=m.why)


def _held(n: int) -> str:
    return ngettext("%(num)s alarm suppressed by rule", "%(num)s alarms suppressed by rule", n)


def _models(session: Session, found: Select[Any]) -> tuple[Item, ...]:
    rows = session.scalars(found.order_by(Rollout.id.desc()).limit(MOST)).all()[::-1]
    shown = tuple(Item(f"model-{r.id}", f"{_at(r.station)}: {_model_words(r)}", "/models") for r in rows)
    return (*_more(session, found, "models", "/models"), *shown)


def _model_words(r: Rollout) -> str:
    facts = {"bundle": r.bundle.bundle, "name": r.wanted_by, "state": raw(r.state)}
    if r.rollback:
        return _("back to %(bundle)s by %(name)s: %(state)s", **facts)
    return _("to %(bundle)s by %(name)s: %(state)s", **facts)


def _notes(session: Session, found: Select[Any]) -> tuple[Item, ...]:
    rows = session.scalars(found.order_by(ShiftNote.id.desc()).limit(MOST)).all()[::-1]
    return (*_more(session, found, "notes", ""), *(Item(f"note-{n.id}", f"{n.by}: {n.text}", "") for n in rows))


def _at(station: Station) -> str:
    return f"{station.line} · {station.station}"
