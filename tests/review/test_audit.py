"""The audit log: every act is in it, and whoever changes it afterwards is found (fault 25)."""

from __future__ import annotations

import json
import random
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path

import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import DBAPIError
from typer.testing import CliRunner

from review import audit
from review.alarms import Cause
from review.audit_anchor import failing
from review.cli import app
from review.clock import wall_ms
from review.ingest import change
from review.people import add_person
from review.store import AuditRow, Halt, Label, Record, Station, Store
from tests.review.doors import World

ACTS = 40


def opened(folder: Path) -> Store:
    folder.mkdir(parents=True, exist_ok=True)
    store = Store(f"sqlite:///{folder / 'hub.db'}")
    store.migrate()
    audit.keep(store, folder)
    return store


def halt(store: Store) -> int:
    with store.writing() as session:
        session.add(Station(id=1, site="p", line="l", station="s"))
        session.flush()
        row = Halt(
            station_id=1, halt=170_001, uid="a" * 32, code=1, reason="porosity", records=[], stages_ms={},
            at_ms=wall_ms(), received_ms=wall_ms(), state="ACTIVE_UNACKED",
        )  # fmt: skip
        session.add(row)
        session.flush()
        return row.id


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A hub's folder with a log of some length, closed."""
    folder = tmp_path_factory.mktemp("audit") / "hub"
    store = opened(folder)
    for n in range(ACTS):
        with store.writing() as session:
            audit.note(session, f"Ana {n % 3}", "login", f"user {n}", n=n, words="Größe 1.6 mm")
    store.close()
    return folder


def found(folder: Path) -> list[str]:
    store = Store(f"sqlite:///{folder / 'hub.db'}")
    try:
        return audit.stored_problems(store, folder)[1]
    finally:
        store.close()


def test_every_act_is_one_row_in_the_transaction_of_the_act(tmp_path: Path) -> None:
    store = opened(tmp_path / "hub")
    add_person(store, "Ana", "operator")
    halt_id = halt(store)
    with store.writing() as session:
        row = session.get_one(Halt, halt_id)
        change(session, row, Cause.ACK, "Ana")
        change(session, row, Cause.GONE, why="the permit no longer names it")
    with store.writing() as session:
        session.add(
            Record(
                id=7,
                uid="b" * 32,
                station_id=1,
                why=[],
                camera="c",
                frame_id=1,
                ts_ms=1,
                call="pass",
                scores={},
                findings=[],
                heat_to_frame=[],
                px_per_mm=1,
                width_px=1,
                height_px=1,
                stages_ms={},
                received_ms=1,
            )
        )
    with store.writing() as session:
        session.add(Label(record_id=7, person="Ben", label_book="w@1", classes=["x"], annotations=[], created_ms=1))
    told = [(r.who, r.what, r.subject) for r in audit.links(store)]
    assert told[0] == ("hub", "log_begun", "audit log")
    assert told[1][1:] == ("user_added", "user Ana")
    assert told[2:] == [
        ("Ana", "ack", f"halt {halt_id}"),
        ("hub", "gone", f"halt {halt_id}"),
        ("Ben", "label_saved", "record 7"),
    ]
    assert audit.stored_problems(store, tmp_path / "hub")[1] == []


def test_an_act_that_is_rolled_back_leaves_no_row_and_no_anchor(tmp_path: Path) -> None:
    store = opened(tmp_path / "hub")

    def fail() -> None:
        with store.writing() as session:
            audit.note(session, "Ana", "login", "user Ana")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    add_person(store, "Ben", "operator")
    assert [r.what for r in audit.links(store)] == ["log_begun", "user_added"]
    assert found(tmp_path / "hub") == []


def test_the_table_refuses_changes(made: Path, tmp_path: Path) -> None:
    store = opened(Path(shutil.copytree(made, tmp_path / "hub")))
    for statement in ("UPDATE audit SET who = 'x'", "DELETE FROM audit"):
        with pytest.raises(DBAPIError, match="append-only"), store.writing() as session:
            session.execute(text(statement))


# ── fault 25 ────────────────────────────────────────────────────────────────────────────────────────────────────────

Rows = list[list[object]]
WHO, SUBJECT, DETAIL, PREV, HASH = 2, 4, 5, 6, 7


def rehashed(rows: Rows) -> Rows:
    """As somebody would who knows the rule: each row's own hash fits again, and the chain below it too."""
    prev = rows[0][PREV]
    for row in rows:
        row[PREV] = prev
        row[HASH] = prev = audit.hash_of(*row[:HASH])  # type: ignore[arg-type]
    return rows


def edit(rng: random.Random, rows: Rows) -> Rows:
    row, column = rng.choice(rows), rng.choice((1, WHO, 3, SUBJECT, DETAIL, PREV, HASH))
    old = row[column]
    row[column] = old + 1 if isinstance(old, int) else f"{old}x"
    return rows


def edit_one_and_its_hash(rng: random.Random, rows: Rows) -> Rows:
    row = rng.choice(rows)
    row[WHO] = "Mallory"
    row[HASH] = audit.hash_of(*row[:HASH])  # type: ignore[arg-type]
    return rows


def edit_and_rehash_all_below(rng: random.Random, rows: Rows) -> Rows:
    rng.choice(rows)[WHO] = "Mallory"
    return rehashed(rows)


def delete(rng: random.Random, rows: Rows) -> Rows:
    at = rng.randrange(len(rows) - 1)
    return rows[:at] + rows[at + rng.randint(1, 3) :]


def delete_and_renumber(rng: random.Random, rows: Rows) -> Rows:
    rows.pop(rng.randrange(len(rows)))
    for seq, row in enumerate(rows, start=1):
        row[0] = seq
    return rehashed(rows)


def reorder(rng: random.Random, rows: Rows) -> Rows:
    a, b = rng.sample(range(len(rows)), 2)
    rows[a][1:], rows[b][1:] = rows[b][1:], rows[a][1:]
    return rows


def truncate(rng: random.Random, rows: Rows) -> Rows:
    return rows[: rng.randrange(len(rows))]


TAMPER: list[Callable[[random.Random, Rows], Rows]] = [
    edit, edit_one_and_its_hash, edit_and_rehash_all_below, delete, delete_and_renumber, reorder, truncate,
]  # fmt: skip


def rewrite(folder: Path, change: Callable[[Rows], Rows]) -> None:
    """Behind the hub's back: triggers off, rows replaced, and the head made to fit what is left."""
    with sqlite3.connect(folder / "hub.db") as db:
        triggers = db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for (name,) in triggers:
            db.execute(f"DROP TRIGGER {name}")
        rows = change([list(row) for row in db.execute("SELECT * FROM audit ORDER BY seq")])
        db.execute("DELETE FROM audit")
        db.executemany("INSERT INTO audit VALUES (?,?,?,?,?,?,?,?)", rows)
        head = (rows[-1][0], rows[-1][HASH]) if rows else (0, audit.GENESIS)
        db.execute("UPDATE audit_head SET seq = ?, hash = ?", head)
    db.close()


def test_of_100_tamperings_100_are_found(made: Path, tmp_path: Path) -> None:
    assert found(made) == []
    missed = []
    for n in range(100):
        rng, how = random.Random(n), TAMPER[n % len(TAMPER)]
        folder = Path(shutil.copytree(made, tmp_path / str(n)))
        rewrite(folder, lambda rows, rng=rng, how=how: how(rng, rows))  # type: ignore[misc]
        if not found(folder):
            missed.append((n, how.__name__))
        shutil.rmtree(folder)
    assert missed == []


def test_a_missing_or_foreign_anchor_file_is_found(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "hub"))
    (folder / "audit.anchor").write_text("not json")
    assert "is no anchor" in found(folder)[0]
    (folder / "audit.anchor").unlink()
    assert "whether the end was cut off cannot be said" in found(folder)[0]


def test_a_missing_anchor_is_missed_until_somebody_begins_it_anew_and_the_log_says_so(
    made: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "hub"))
    rewrite(folder, lambda rows: rows[:-2])
    (folder / "audit.anchor").unlink()
    store = opened(folder)  # a hub starts, and somebody acts
    add_person(store, "Ana", "operator")
    assert "whether the end was cut off cannot be said" in found(folder)[0]
    assert not (folder / "audit.anchor").exists()
    begun = CliRunner().invoke(app, ["audit", "anchor", "--data", str(folder)])
    assert begun.exit_code == 0, begun.output
    assert found(folder) == []
    last = list(audit.links(store))[-1]
    assert (last.what, last.detail) == ("anchor_begun", '{"was":"missing"}')
    assert f"begins anew at {last.seq}:{last.hash}" in begun.output
    add_person(store, "Ben", "operator")
    assert json.loads((folder / "audit.anchor").read_text())["seq"] == last.seq + 1, "and it follows again"
    assert CliRunner().invoke(app, ["audit", "anchor", "--data", str(tmp_path)]).exit_code == 2


@pytest.mark.parametrize("restarted", [False, True])
@pytest.mark.parametrize("left", [0, 1], ids=["emptied", "but the first row"])
def test_an_emptied_log_without_its_anchor_is_missed_too(tmp_path: Path, left: int, restarted: bool) -> None:
    """It looked as if it had just begun: the next act made a new anchor, and nothing was said any more."""
    folder = tmp_path / "hub"
    store = opened(folder)
    add_person(store, "Ana", "operator")
    rewrite(folder, lambda rows: rows[:left])
    (folder / "audit.anchor").unlink()
    if restarted:
        store.close()
        store = opened(folder)
    assert "is missing" in failing(store, folder)
    add_person(store, "Ben", "operator")
    assert "is missing" in failing(store, folder)
    assert "whether the end was cut off cannot be said" in found(folder)[0]
    store.close()


@pytest.mark.parametrize("restarted", [False, True])
def test_an_anchor_that_a_cut_left_behind_outlives_later_acts(made: Path, tmp_path: Path, restarted: bool) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "hub"))
    store, before = opened(folder), (folder / "audit.anchor").read_text()
    known = json.loads(before)["seq"]
    rewrite(folder, lambda rows: rows[:-3])
    if restarted:
        store.close()
        store = opened(folder)
    for n in range(5):  # past the row that it knows
        add_person(store, f"Ana {n}", "operator")
    assert audit.newest(store).seq > known
    assert (folder / "audit.anchor").read_text() == before
    assert found(folder) == [f"row {known} is not the one that {folder / 'audit.anchor'} knows"]
    assert CliRunner().invoke(app, ["audit", "anchor", "--data", str(folder)]).exit_code == 0
    assert found(folder) == []
    last = list(audit.links(store))[-1]
    assert (last.what, str(known) in last.detail) == ("anchor_begun", True), "what it knew is in the log itself"
    add_person(store, "Ben", "operator")
    assert json.loads((folder / "audit.anchor").read_text())["seq"] == last.seq + 1, "and it follows again"


def test_health_and_the_system_page_say_what_the_anchor_shows(tmp_path: Path) -> None:
    world = World(tmp_path / "hub")
    client, anchor = world.client(), tmp_path / "hub" / "audit.anchor"
    assert "audit" not in client.get("/healthz").json()
    seq = json.loads(anchor.read_text())["seq"]

    def said() -> str:
        return str(client.get("/healthz").json().get("audit", ""))

    rewrite(tmp_path / "hub", lambda rows: rows[:-2])
    assert said().startswith(f"{anchor} knows row {seq}, the log does not reach it: its end was cut off")
    assert said().endswith("haltline review audit anchor")
    for n in range(3):
        add_person(world.hub.store, f"Ana {n}", "operator")
    assert f"knows row {seq}, the log has another one there" in said()
    page = client.get("/system", headers={"Accept-Language": "de"}).text
    assert "<b>Auditprotokoll</b>" in page
    assert f"knows row {seq}, the log has another one there" in page
    assert "ob am Ende eine fehlt, zeigt nur das Papier" in page
    kept = anchor.read_text()
    for content in ("not json", '{"seq":1e999,"hash":""}', '{"seq":99999999999999999999,"hash":""}'):
        anchor.write_text(content)
        assert "is no anchor" in said()
        add_person(world.hub.store, f"with {content}", "operator")
        assert anchor.read_text() == content
    anchor.unlink()
    assert "is missing" in said()
    anchor.write_text(kept)
    assert CliRunner().invoke(app, ["audit", "anchor", "--data", str(tmp_path / "hub")]).exit_code == 0
    assert said() == ""
    world.hub.store.close()


@pytest.mark.parametrize("content", ["not json", '{"seq":99999,"hash":"of a log that was longer"}'])
def test_an_anchor_that_no_longer_fits_is_begun_anew_by_the_same_command(
    made: Path, tmp_path: Path, content: str
) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "hub"))
    (folder / "audit.anchor").write_text(content)
    assert found(folder)
    assert CliRunner().invoke(app, ["audit", "anchor", "--data", str(folder)]).exit_code == 0
    assert found(folder) == []


def test_a_crash_between_commit_and_anchor_is_no_finding(made: Path, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "hub"))
    before = (folder / "audit.anchor").read_text()
    add_person(opened(folder), "Ana", "operator")
    (folder / "audit.anchor").write_text(before)
    assert found(folder) == []


def verify(*arguments: object) -> tuple[int, str]:
    result = CliRunner().invoke(app, ["audit", "verify", *map(str, arguments)])
    return result.exit_code, result.output


def test_export_and_verify_by_command(made: Path, tmp_path: Path) -> None:
    out = tmp_path / "log.jsonl"
    result = CliRunner().invoke(app, ["audit", "export", str(out), "--data", str(made)])
    anchor = result.output.split()[-1]
    assert verify(out) == (0, f"{ACTS + 1} rows, none changed, none missing\n")
    assert verify("--data", made)[0] == 0
    assert verify(out, "--anchor", anchor)[0] == 0
    lines = out.read_text().splitlines()
    for changed in (lines[:-1], lines[1:], [*lines[:5], *lines[6:]], [lines[1], lines[0], *lines[2:]], lines[:-3]):
        out.write_text("\n".join(changed) + "\n")
        assert verify(out)[0] == 1, changed
    # Cut off with a last line made to fit: only what was kept elsewhere shows it.
    last = json.loads(lines[-3])
    end = audit.canonical({"end": {"seq": last["seq"], "hash": last["hash"]}, "exported_ms": 1})
    out.write_text("\n".join([*lines[:-2], end]) + "\n")
    assert verify(out)[0] == 0
    code, said = verify(out, "--anchor", anchor)
    assert code == 1
    assert "the end is missing" in said


@pytest.mark.parametrize(
    "arguments", [["nowhere.jsonl"], ["--data", "nowhere"], ["pyproject.toml", "--anchor", "12:zz"]]
)
def test_what_cannot_be_read_is_exit_code_2(arguments: list[str]) -> None:
    assert verify(*arguments)[0] == 2


def test_two_stores_write_one_chain(tmp_path: Path) -> None:
    """The hub and a command at the same time."""
    hub, command = opened(tmp_path / "hub"), opened(tmp_path / "hub")
    for n in range(5):
        add_person(hub, f"a{n}", "operator")
        add_person(command, f"b{n}", "operator")
    with hub.reading() as session:
        assert [r.seq for r in session.scalars(select(AuditRow).order_by(AuditRow.seq))] == list(range(1, 12))
    assert found(tmp_path / "hub") == []
