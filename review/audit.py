"""Who did what: an append-only table whose every row holds the hash of the row before.

A row is written in the transaction of the act it tells of: there is no act without its row, and no row without its
act. Rows that are facts by themselves (a halt's history, labels, roll-outs, shelves ...) are picked up as they are
stored, so that no page can forget to tell.

What the chain shows: a row that was edited, removed, inserted or moved. What it cannot show by itself is a missing
*end*; so the newest link is also kept outside the table, as an anchor: in `data_dir/audit.anchor` and on every
signed handover. Whoever can rewrite table, anchor file and every handover on paper is not found.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import event, exists, insert, select, update
from sqlalchemy.orm import Session

from inspection.errors import InputError
from review.audit_anchor import Anchor, AnchorFile
from review.clock import wall_ms
from review.store import (
    AuditHead,
    AuditRow,
    Bundle,
    FaultEventRow,
    HaltEventRow,
    Handover,
    Label,
    Maintenance,
    Person,
    Rollout,
    Shelf,
    ShiftNote,
    Store,
    SuppressionRule,
)

GENESIS = "0" * 64
"""What the first row names as the row before."""
PAGE = 2000


@dataclass(frozen=True, slots=True)
class Link:
    """One row as it is hashed and exported; `detail` is canonical JSON text."""

    seq: int
    utc_ms: int
    who: str
    what: str
    subject: str
    detail: str
    prev: str
    hash: str


def canonical(value: object) -> str:
    """One text for one value: sorted keys, no spaces."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def hash_of(seq: int, utc_ms: int, who: str, what: str, subject: str, detail: str, prev: str) -> str:
    told = {"seq": seq, "utc_ms": utc_ms, "who": who, "what": what, "subject": subject, "detail": detail, "prev": prev}
    return hashlib.sha256(canonical(told).encode()).hexdigest()


# ── writing ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def in_turn(session: Session) -> None:
    """Whoever else means to change something waits for this transaction's end: one writes at a time, as on SQLite.

    Every change ends with a row of this log, and so with its head's lock. With locks on the things themselves taken
    before it (a station's row by an edge's message, its key by a request that refers to it) two could wait for each
    other for ever. So it is the first lock of a transaction, before what is read in order to be changed."""
    session.connection().execute(select(AuditHead.id).where(AuditHead.id == 1).with_for_update())


def note(session: Session, who: str, what: str, subject: str, **detail: object) -> None:
    """Append one row within the caller's transaction. `subject` names the thing: "halt 12", "user Ana"."""
    # On the connection and not through the session: this also runs inside a flush.
    connection = session.connection()
    head = connection.execute(select(AuditHead.seq, AuditHead.hash).where(AuditHead.id == 1).with_for_update()).one()
    seq, at_ms, text = head.seq + 1, wall_ms(), canonical(detail)
    digest = hash_of(seq, at_ms, who, what, subject, text, head.hash)
    row = Link(seq, at_ms, who, what, subject, text, head.hash, digest)
    connection.execute(insert(AuditRow), asdict(row))
    connection.execute(update(AuditHead).where(AuditHead.id == 1).values(seq=seq, hash=digest))
    session.info.setdefault("audit_began", (head.seq, head.hash))
    session.info["audit_head"] = (seq, digest)


Told = tuple[str, str, str, dict[str, Any]]
"""who, what, subject, detail"""

FACTS: dict[type, Callable[[Any], Told]] = {
    HaltEventRow: lambda e: (e.who or "hub", e.kind, f"halt {e.halt_id}", e.detail),
    FaultEventRow: lambda e: (e.who or "hub", e.kind, f"station alarm {e.fault_id}", e.detail),
    SuppressionRule: lambda r: (
        r.by,
        "suppression_rule",
        f"rule {r.rule} version {r.version}",
        {
            "name": r.name,
            "while": [r.condition, r.kind, "line" if r.whole_line else "station"],
            "stations": r.stations,
            "alarms": r.alarms,
            "why": r.why,
        },
    ),
    Maintenance: lambda m: (m.by, "maintenance", f"station {m.station_id}", {"why": m.why, "until_ms": m.until_ms}),
    Label: lambda v: (
        v.person,
        "label_saved",
        f"record {v.record_id}",
        {"classes": v.classes, "unsure": v.unsure, "label_book": v.label_book, "mask": v.mask},
    ),
    Rollout: lambda r: (
        r.wanted_by,
        "rollback" if r.rollback else "rollout",
        f"station {r.station_id}",
        {"bundle": r.bundle_id},
    ),
    Bundle: lambda b: (
        b.uploaded_by or "hub",
        "bundle_added",
        f"bundle {b.bundle}",
        {"manifest_sha256": b.manifest_sha256},
    ),
    Shelf: lambda s: (
        s.by,
        s.kind,
        s.subject,
        {"why": s.why, "until_ms": s.until_ms},
    ),
    ShiftNote: lambda n: (n.by, "shift_note", f"note {n.id}", {"text": n.text}),
    Handover: lambda h: (h.out_by, "handover_signed", f"handover {h.id}", {"draft": h.draft}),
}


def keep(store: Store, data_dir: Path) -> None:
    """From now on every fact this store commits is told in the log, the anchor file follows, and whoever writes takes
    the log's head before anything else."""
    anchor = AnchorFile(data_dir)
    head = newest(store)
    # A file that is missing later must stay missed, and a log cut back to its first row looks as if it had just begun.
    if head.seq == 1 and _nothing_done(store):
        anchor.make((head.seq, head.hash))

    def committed(session: Session) -> None:
        began, head = session.info.pop("audit_began", None), session.info.pop("audit_head", None)
        if began and head:
            anchor.follow(store, began, head)

    def watch(session: Session) -> None:
        if session.get_bind().dialect.name != "sqlite":  # there its BEGIN IMMEDIATE has done it
            in_turn(session)
        event.listen(session, "after_flush", _tell_facts)
        event.listen(session, "after_commit", committed)

    store.watchers.append(watch)


def _nothing_done(store: Store) -> bool:
    """Whether this database holds nothing that its log would have told."""
    with store.reading() as session:
        return not any(session.scalar(select(exists().select_from(kind))) for kind in (Person, *FACTS))


def _tell_facts(session: Session, _context: object) -> None:
    told = [FACTS[type(row)](row) for row in session.new if type(row) in FACTS]
    for who, what, subject, detail in told:
        note(session, who, what, subject, **detail)


def begin_anchor(store: Store, data_dir: Path, who: str) -> Anchor:
    """From now on the anchor file follows again; the log says that somebody began it anew, and what it knew before."""
    file = AnchorFile(data_dir)
    try:
        known = file.read()
        was = f"{known.seq}:{known.hash}" if known else "missing"
    except InputError:
        was = "no anchor"
    with store.writing() as session:
        note(session, who, "anchor_begun", "audit log", was=was)
        head = session.info["audit_head"]
    file.begin(head)
    return Anchor(head[0], head[1], str(data_dir / "audit.anchor"))


# ── reading and checking ────────────────────────────────────────────────────────────────────────────────────────────


def links(store: Store) -> Iterator[Link]:
    """The whole table by `seq`, a page of rows at a time."""
    after: int | None = None
    while True:
        with store.reading() as session:
            older = () if after is None else (AuditRow.seq > after,)
            rows = session.scalars(select(AuditRow).where(*older).order_by(AuditRow.seq).limit(PAGE)).all()
        yield from (_link(row) for row in rows)
        if len(rows) < PAGE:
            return
        after = rows[-1].seq


def newest(store: Store) -> Anchor:
    with store.reading() as session:
        head = session.get_one(AuditHead, 1)
        return Anchor(head.seq, head.hash, "the table audit_head")


def _link(row: AuditRow) -> Link:
    return Link(row.seq, row.utc_ms, row.who, row.what, row.subject, row.detail, row.prev, row.hash)


def problems(rows: Iterable[Link], anchors: Iterable[Anchor]) -> tuple[int, list[str]]:
    """(rows read, what is wrong): empty when every row follows from the one before and every anchor is met."""
    wrong: list[str] = []
    waiting = list(anchors)
    seq, prev = 0, GENESIS
    count = 0
    for row in rows:
        count += 1
        if row.seq != seq + 1:
            wrong.append(f"row {seq + 1} should come here, row {row.seq} does: removed, inserted or moved")
        if row.prev != prev:
            wrong.append(f"row {row.seq} does not follow from the row before it")
        if row.hash != hash_of(row.seq, row.utc_ms, row.who, row.what, row.subject, row.detail, row.prev):
            wrong.append(f"row {row.seq} was edited: its content does not have its hash")
        for anchor in [a for a in waiting if a.seq == row.seq]:
            waiting.remove(anchor)
            if anchor.hash != row.hash:
                wrong.append(f"row {row.seq} is not the one that {anchor.source} knows")
        seq, prev = row.seq, row.hash
    wrong += [
        f"the end is missing: {a.source} knows row {a.seq}, the log ends at {seq}" for a in waiting if a.seq > seq
    ]
    return count, wrong


def stored_problems(store: Store, data_dir: Path, more: Iterable[Anchor] = ()) -> tuple[int, list[str]]:
    """Check the table against its head, its anchor file and every handover that was signed."""
    # Before the rows: whatever is appended meanwhile only makes the log longer than its anchors.
    try:
        outside, wrong = AnchorFile(data_dir).read(), []
    except InputError as e:
        outside, wrong = None, [str(e)]
    head = newest(store)
    if outside is None and not wrong:
        wrong = [AnchorFile(data_dir).problem(store, None)]
    with store.reading() as session:
        signed = [
            Anchor(h.audit_seq, h.audit_hash, f"handover {h.id}")
            for h in session.scalars(select(Handover).where(Handover.audit_seq > 0))
        ]
    if head.seq == 0:
        wrong.append("the log is empty: it begins with a row of its own, so it was emptied")
    count, found = problems(links(store), [head, *([outside] if outside else []), *signed, *more])
    return count, wrong + found


def export(store: Store) -> Iterator[str]:
    """JSON lines, one per row, and a last one that says where the log ended."""
    end = Anchor(0, GENESIS, "")
    for link in links(store):
        end = Anchor(link.seq, link.hash, "")
        yield canonical(asdict(link)) + "\n"
    yield canonical({"end": {"seq": end.seq, "hash": end.hash}, "exported_ms": wall_ms()}) + "\n"


def file_problems(lines: Iterable[str], more: Iterable[Anchor] = ()) -> tuple[int, list[str]]:
    """Check an export. A cut-off end is found by its missing last line; one that was rewritten, only by `more`."""
    found: list[Link] = []
    wrong: list[str] = []
    ends: list[Anchor] = []
    for number, line in enumerate(lines, start=1):
        if ends:
            wrong.append(f"line {number} comes after the end of the export")
        try:
            told = json.loads(line)
            if "end" in told:
                ends.append(Anchor(int(told["end"]["seq"]), str(told["end"]["hash"]), "the export's last line"))
            else:
                found.append(_from_json(told))
        except (ValueError, KeyError, TypeError) as e:
            wrong.append(f"line {number} is no row of an audit log: {e}")
    if not ends:
        wrong.append("the last line, which says where the log ended, is missing: the end was cut off")
    count, more_wrong = problems(found, [*ends, *more])
    if ends and ends[0].seq < (found[-1].seq if found else 0):
        more_wrong.append("the export holds more rows than its last line says")
    return count, wrong + more_wrong


def _from_json(told: dict[str, Any]) -> Link:
    if set(told) != set(Link.__slots__):
        raise KeyError(f"fields {sorted(set(told) ^ set(Link.__slots__))}")
    link = Link(**told)
    for name in ("seq", "utc_ms"):
        if type(told[name]) is not int:
            raise TypeError(f"{name} is no whole number")
    return link


def parse_anchor(text: str) -> Anchor:
    """`SEQ:HASH` as printed on a handover."""
    seq, _, digest = text.partition(":")
    if not seq.isdigit() or len(digest) != 64 or set(digest) - set("0123456789abcdef"):
        raise InputError("--anchor", f"{text!r} is no anchor", "SEQ:HASH with all 64 hex digits of the hash")
    return Anchor(int(seq), digest, "the anchor you gave")
