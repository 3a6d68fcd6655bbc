"""A hub's database as it is after years: rows written by SQLite itself, without the hub's code in between.

Indices are dropped first and made again afterwards: 10,000,000 records then take minutes instead of hours.
"""

from __future__ import annotations

import shutil
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from inspection.errors import StorageError
from review.store import Store

DAYS = 90
BYTES_PER_RECORD, BYTES_PER_HALT = 400, 900
"""With indices and the room SQLite sorts in; measured, rounded up."""


@dataclass(frozen=True, slots=True)
class Filling:
    """How many rows. Every tenth record belongs to a halt while there are halts left."""

    halts: int = 1_000_000
    records: int = 10_000_000
    stations: int = 200
    open_halts: int = 60
    labelled: int = 20_000

    @property
    def bytes(self) -> int:
        return self.records * BYTES_PER_RECORD + self.halts * BYTES_PER_HALT


def fill(path: Path, filling: Filling) -> float:
    """Make and fill the database at `path`; the seconds it took. StorageError when the disk has no room for it."""
    free = shutil.disk_usage(path.parent).free
    if free < 2 * filling.bytes:
        raise StorageError(
            f"{path.parent}: {free / 2**30:.0f} GiB free, {2 * filling.bytes / 2**30:.0f} GiB are needed\n"
            "  fix: set TMPDIR to a larger disk, or use --quick"
        )
    began = time.monotonic()
    store = Store(f"sqlite:///{path}")
    store.migrate()
    store.close()
    with sqlite3.connect(path) as db:
        # Nothing here must survive a power cut: a torn file is made again.
        db.executescript("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF; PRAGMA cache_size=-400000;")
        db.execute("PRAGMA temp_store=FILE")
        indices = db.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL AND tbl_name IN"
            " ('halts', 'records', 'halt_events', 'labels', 'label_assignments')"
        ).fetchall()
        for name, _sql in indices:
            db.execute(f'DROP INDEX "{name}"')
        _rows(db, filling, time.time_ns() // 1_000_000)
        for _name, sql in indices:
            db.execute(sql)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA journal_mode=WAL")
    return time.monotonic() - began


def _rows(db: sqlite3.Connection, f: Filling, now_ms: int) -> None:
    span = DAYS * 86_400_000
    values = {"stations": f.stations, "halts": f.halts, "records": f.records, "open": f.open_halts}
    values |= {"start": now_ms - span, "span": span, "labelled": f.labelled}
    _insert(
        db,
        "stations",
        f"1 AND n.i <= {f.stations}",
        f.stations,
        values,
        site="'plant'",
        line="'line-' || (n.i % 10)",
        station="printf('s%03d', n.i)",
        conn="'ONLINE'",
        bundle="'weld-0.1.0'",
    )
    at = ":start + n.i * :span / :halts"
    closed = "n.i <= :halts - :open"
    _insert(
        db,
        "halts",
        "1",
        f.halts,
        values,
        # Neighbours in time are of different causes, as on a real floor; a station has all of them.
        station_id="1 + (n.i * 7919) % :stations",
        halt="100000 + n.i",
        uid="printf('a%031x', n.i)",
        code="CASE n.i % 20 WHEN 0 THEN 2 ELSE 1 END",
        reason="'porosity 1.6 mm at or above its limit of 0.5 mm, score 0.97'",
        cls="CASE n.i % 20 WHEN 0 THEN '' WHEN 1 THEN 'undercut' WHEN 2 THEN 'burn_through' ELSE 'porosity' END",
        score="0.97",
        limit="0.62",
        length_mm="0.5 + (n.i % 30) / 10.0",
        limit_mm="0.5",
        frame_id="n.i * 10",
        part="'P-' || n.i",
        model="'weld-0.1.0'",
        policy="'3f9a1c77be02'",
        records="json_array(printf('b%031x', n.i * 10))",
        stages_ms="""'{"queue": 1.9, "inference": 11.2, "decide": 0.1, "send": 0.3, "total": 13.5}'""",
        at_ms=at,
        received_ms=f"{at} + 20",
        state=f"CASE WHEN {closed} THEN 'CLOSED' WHEN n.i % 3 = 0 THEN 'ACTIVE_UNACKED' ELSE 'ACTIVE_ACKED' END",
        verdict=f"CASE WHEN {closed} THEN iif(n.i % 10 = 0, 'false_call', iif(n.i % 10 = 1, 'unsure', 'real')) END",
    )
    for kind, detail in (("ack", "'{}'"), ("verdict", """'{"verdict": "real"}'""")):
        said = {"kind": f"'{kind}'", "who": "'Ana (operator)'", "at_ms": f"{at} + 9000", "detail": detail}
        _insert(db, "halt_events", closed, f.halts, values, halt_id="n.i", id=None, **said)
    of_halt = "n.i % 10 = 0 AND n.i / 10 <= :halts"
    unsure = "n.i % 20 = 5"
    _insert(
        db,
        "records",
        "1",
        f.records,
        values,
        uid="printf('b%031x', n.i)",
        station_id=f"CASE WHEN {of_halt} THEN 1 + (n.i / 10 * 7919) % :stations ELSE 1 + n.i % :stations END",
        why=f"""CASE WHEN {of_halt} THEN '["halt"]' WHEN {unsure} THEN '["uncertain"]' ELSE '["audit"]' END""",
        camera="'cam'",
        frame_id="n.i",
        ts_ms=":start + n.i * :span / :records",
        call=f"CASE WHEN {of_halt} THEN 'defect' WHEN {unsure} THEN 'uncertain' ELSE 'pass' END",
        scores="""'{"porosity": 0.1}'""",
        findings=f"""CASE WHEN {of_halt} THEN '[{{"cls": "porosity", "score": 0.97, "box_px": [100, 100, 20, 12],'
            || ' "length_mm": 1.6, "area_mm2": 1.1}}]' ELSE '[]' END""",
        image=f"CASE WHEN n.i % 10 = 0 OR {unsure} THEN printf('%064x', n.i) END",
        heat_to_frame="'[]'",
        px_per_mm="10.0",
        width_px="640",
        height_px="512",
        halt=f"CASE WHEN {of_halt} THEN 100000 + n.i / 10 ELSE 0 END",
        part="'P-' || (n.i / 4)",
        model="'weld-0.1.0'",
        policy="'3f9a1c77be02'",
        label_book="'weld@1'",
        stages_ms="'{}'",
        received_ms=":start + n.i * :span / :records + 20",
    )
    newest = "20 * n.i + 5 + (:records - 20 * :labelled) / 20 * 20"
    for person in ("Ben (inspector)", "Chen (engineer)"):
        said = {"record_id": newest, "person": f"'{person}'", "created_ms": ":start + :span - 1000 * n.i"}
        differs = "CASE WHEN n.i % 9 = 0 THEN '[]' ELSE '[\"porosity\"]' END" if "Ben" in person else "'[\"porosity\"]'"
        _insert(
            db, "labels", "1", f.labelled, values, id=None, label_book="'weld@1'", classes=differs,
            annotations="""json_array(json_object('cls', 'porosity', 'length_mm', 0.3 + (n.i % 40) / 20.0,
                'box_px', json_array(1, 1, 9, 9)))""", unsure="0", **said,
        )  # fmt: skip


def _insert(
    db: sqlite3.Connection, table: str, where: str, rows: int, values: dict[str, int], **columns: str | None
) -> None:
    """`rows` rows of SQL expressions over `n.i`, which counts from 1. Columns that are not named get an empty value
    of their type, so that a new one does not stop the bench."""
    known = db.execute(f"PRAGMA table_info({table})").fetchall()
    wanted: dict[str, str | None] = {"id": "n.i", **columns}
    for _cid, name, kind, notnull, default, primary in known:
        if name not in wanted and notnull and default is None and not primary:
            wanted[name] = "'[]'" if kind == "JSON" else "''" if "CHAR" in kind or kind == "TEXT" else "0"
    exprs = {name: sql for name, sql in wanted.items() if sql is not None}
    names = ", ".join(f'"{name}"' for name in exprs)
    db.execute(
        f"WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {rows})"
        f" INSERT INTO {table} ({names}) SELECT {', '.join(exprs.values())} FROM n WHERE {where}",
        {k: v for k, v in values.items() if f":{k}" in " ".join(exprs.values()) + where},
    )
