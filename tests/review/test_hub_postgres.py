"""The same hub on PostgreSQL: a server of the tests' own, or HALTLINE_TEST_POSTGRES=postgresql+psycopg://… (empty)."""

from __future__ import annotations

import contextlib
import os
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from fastapi.testclient import TestClient
from sqlalchemy import create_engine, event, select

from inspection.messages import Conn, HaltEvent, Message, ResumeAnswer, Tally, Topics
from review import audit, halts, ingest, people, retirement, rollout
from review.alarms import Cause, State, Verdict
from review.app import create_app
from review.frames import FolderFrames
from review.live import Live
from review.settings import Settings
from review.store import Base, Halt, HaltEventRow, Station, Store
from review.upkeep import Upkeep
from tests.conftest import free_port
from tests.review.factory import FakeEdge, HubProcess, until, wall_ms
from tests.review.postgres import server

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if given := os.environ.get("HALTLINE_TEST_POSTGRES"):
        yield given
        return
    with server() as own:
        yield own


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One for one database: a second folder would lack the anchor of its audit log, and the hub would say so."""
    return tmp_path_factory.mktemp("hub") / "data"


def test_what_postgresql_cannot_hold_is_refused_in_words(tmp_path: Path) -> None:
    """A NUL in an address or a form, which SQLite keeps, was "Internal Server Error" here."""
    with server() as own:
        app = create_app(Settings(data_dir=tmp_path, database_url=own, demo_people=True))
        people.add_demo_people(app.state.hub.store)
        client = TestClient(app, base_url="http://hub", follow_redirects=False, headers={"accept": "text/html"})
        assert client.post("/who", data={"name": "Chen (engineer)"}).status_code == 303
        for path in ("/alarms?cls=a%00b", "/audit?who=%00", "/label/a%00b", "/label-book/a%00"):
            answer = client.get(path)
            assert (answer.status_code, "<h1>Refused</h1>" in answer.text) == (422, True), path
        assert client.post("/handover/note", data={"text": "a\0b"}).status_code == 422
        assert client.post("/handover/note", data={"text": "nozzle 2 drips"}).status_code == 303
        app.state.hub.store.close()


def test_labels_rules_and_escapes_on_postgresql(mosquitto: int, data_dir: Path, url: str) -> None:
    """The tables of the label book, and the queries that read JSON as text, which differs between databases."""
    hub = HubProcess(data_dir, free_port(), mosquitto, "--database", url).start()
    edge = FakeEdge(mosquitto, hub.url, "pg-labels")
    try:
        ben, chen = hub.signed_in("Ben (inspector)"), hub.signed_in("Chen (engineer)")
        audit = edge.good(3)
        edge.send(Tally(uid=uuid.uuid4().hex, from_ms=wall_ms() - 60_000, to_ms=wall_ms(), frames_passed=500))
        until(lambda: len(edge.acked) == 2, what="the audit and the tally")
        for person in (ben, chen):
            assert f"/label/{audit.uid}" in person.get("/label").text
            answer = person.post(f"/label/{audit.uid}", json={"label_book": "weld@1", "classes": ["porosity"]})
            assert answer.status_code == 200, answer.text
        assert "1 of 1" in chen.get("/escapes").text
        assert chen.post("/label-book/weld/draft", data={"reason": "smaller pores"}).status_code == 303
        rule = {"cls": "porosity", "limit_mm": "0.4", "rule": "A pore 0.4 mm or more across."}
        assert chen.post("/label-book/weld/rule", data=rule).status_code == 303
        shown = {"cls": "porosity", "kind": "example", "uid": audit.uid}
        assert chen.post("/label-book/weld/frame", data=shown).status_code == 303
        text = chen.get("/label-book/weld").text
        assert "never measured" in text
        assert chen.post("/label-book/weld/publish").status_code == 422
        rule = {"name": "lens work", "why": "dark on purpose", "condition": "maintenance", "alarms": "picture/*"}
        assert chen.post("/alarms/rules", data=rule).status_code == 303
        assert "halt is never suppressed" in chen.post("/alarms/rules", data=rule | {"alarms": "*"}).text
        work = {"station": "1", "minutes": "15", "why": "the lens is cleaned"}
        assert chen.post("/alarms/maintenance", data=work).status_code == 303
        assert [ben.post("/who/badge", data={"read": "0012345678"}).status_code for _ in range(5)] == [401] * 4 + [429]
        for path in (
            "/alarms/rules",
            "/alarms",
            "/handover",
            "/consistency",
            "/consistency/report",
            "/adjudicate",
            "/performance",
            "/label",
        ):
            assert chen.get(path).status_code == 200, path
        assert chen.get("/labels/export.zip").status_code == 200
        system = chen.get("/system").text
        assert ("Back up now" in system, "not made here: pg_dump copies the database" in system) == (False, True)
    finally:
        edge.close()
        hub.stop()


def test_records_halts_and_resets_on_postgresql(mosquitto: int, data_dir: Path, url: str) -> None:
    hub = HubProcess(data_dir, free_port(), mosquitto, "--database", url).start()
    edge = FakeEdge(mosquitto, hub.url, "pg")
    try:
        edge.online()
        ana, event = hub.signed_in(), edge.halt()
        until(lambda: set(edge.acked) == {event.uid, *event.records})
        edge.record(uid=event.records[0])
        until(lambda: len(edge.acked) == 3, what="a duplicate is acknowledged again")
        halt_id = until(lambda: httpx.get(f"{hub.url}/api/halts").json())[0]["id"]
        ana.post(f"/halts/{halt_id}/verdict", data={"verdict": "real", "saw": event.records[0]})
        ana.post(f"/halts/{halt_id}/reset")
        until(lambda: httpx.get(f"{hub.url}/api/halts").json()[0]["state"] == "CLOSED")
        assert httpx.get(f"{hub.url}/alarms").status_code == 200
    finally:
        edge.close()
        hub.stop()
    with create_engine(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_a_halt_of_a_part_padded_with_nul_is_shown(mosquitto: int, data_dir: Path, url: str) -> None:
    """As an edge from before has it on its disk: PostgreSQL holds no U+0000, and would refuse it for good."""
    hub = HubProcess(data_dir, free_port(), mosquitto, "--database", url).start()
    edge = FakeEdge(mosquitto, hub.url, "pg-padded")
    try:
        halt = HaltEvent(uid=uuid.uuid4().hex, halt=7, code=1, reason="crack", part="A12", ts_ms=wall_ms())
        edge.raw("evt/halt", halt.encode().replace(b'"A12"', rb'"A12\u0000\u0000"'))
        until(lambda: edge.acked == [halt.uid], what="the halt")
        assert "A12" in [shown["part"] for shown in httpx.get(f"{hub.url}/api/halts").json()]
    finally:
        edge.close()
        hub.stop()


class AtOnce:
    """Two things done at once, each on a thread; neither goes on from where they `meet` before the other is there too,
    where both may."""

    def __init__(self, url: str, folder: Path) -> None:
        self.store = Store(url)
        self.store.migrate()
        audit.keep(self.store, folder)
        self.hub: Any = SimpleNamespace(
            store=self.store, news=SimpleNamespace(tell=lambda news: None), live=SimpleNamespace(get=lambda key: None)
        )
        self.name = uuid.uuid4().hex[:8]
        self._both = threading.Barrier(2)

    def halt(self, state: State) -> int:
        with self.store.writing() as session:
            station = Station(site="p", line="l", station=self.name)
            session.add(station)
            session.flush()
            row = Halt(
                station_id=station.id, halt=1, uid=uuid.uuid4().hex, code=1, reason="", records=[], stages_ms={},
                at_ms=1, received_ms=1, state=state,
            )  # fmt: skip
            session.add(row)
            session.flush()
            session.add(HaltEventRow(halt_id=row.id, kind=Cause.RESET_ASKED, who="Ana", at_ms=0, detail={}))
            return row.id

    def meet(self, *_: object) -> None:
        with contextlib.suppress(threading.BrokenBarrierError):
            self._both.wait(1)

    def do(self, *acts: Callable[[], object], meet_before_writing: bool = True) -> list[str]:
        """What went wrong with each; empty where nothing did."""
        wrong = ["", ""]

        def run(n: int, act: Callable[[], object]) -> None:
            try:
                act()
            except Exception as e:
                wrong[n] = str(e) or type(e).__name__

        if meet_before_writing:
            self.store.watchers.append(lambda session: event.listen(session, "before_flush", self.meet))
        threads = [threading.Thread(target=run, args=pair) for pair in enumerate(acts)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(20)
        return wrong

    def now(self, halt_id: int) -> Halt:
        with self.store.reading() as session:
            return halts.load(session, halt_id)


@pytest.fixture
def at_once(url: str, tmp_path: Path) -> Iterator[AtOnce]:
    made = AtOnce(url, tmp_path)
    yield made
    made.store.close()


def test_of_two_first_verdicts_at_once_the_second_is_refused_on_postgresql(at_once: AtOnce) -> None:
    halt = at_once.halt(State.ACTIVE_ACKED)
    wrong = at_once.do(
        lambda: halts.judge(at_once.hub, halt, "Ana", Verdict.REAL, "", was=halts.NO_VERDICT),
        lambda: halts.judge(at_once.hub, halt, "Ben", Verdict.FALSE_CALL, "", was=halts.NO_VERDICT),
    )
    assert sorted(map(bool, wrong)) == [False, True]
    assert "the verdict is now" in "".join(wrong)
    assert [e.kind for e in at_once.now(halt).events].count(Cause.VERDICT) == 1


def test_an_answer_that_comes_with_its_deadline_is_not_taken_back_on_postgresql(
    at_once: AtOnce, tmp_path: Path
) -> None:
    halt = at_once.halt(State.RESET_REQUESTED)
    answer = ResumeAnswer(halt=1, who="Ana", nonce="8d1f22c0aa", accepted=True, why="", ts_ms=1)

    def answered() -> None:
        with at_once.store.writing() as session:
            ingest.store(session, FolderFrames(tmp_path / "f"), Topics("p", "l", at_once.name), answer)

    assert at_once.do(answered, lambda: Upkeep(at_once.hub)._settle(halt, 0, 60_000)) == ["", ""]
    now = at_once.now(halt)
    kinds = [e.kind for e in now.events]
    # Whichever was first: a halt that its edge let go holds the line no longer.
    assert now.state not in (State.ACTIVE_ACKED, State.RESET_REQUESTED), kinds


# ── one order of locks ──────────────────────────────────────────────────────────────────────────────────────────────


def test_a_batch_of_messages_and_a_station_that_comes_back_wait_for_each_other_once_on_postgresql(
    at_once: AtOnce, tmp_path: Path
) -> None:
    """The batch held the station and wanted the log; who looks at the stations held the log and wanted the station."""
    at_once.halt(State.RESET_REQUESTED)
    at_once.hub.live.retired = lambda: ()
    with at_once.store.writing() as session:
        session.scalars(select(Station).where(Station.station == at_once.name)).one().retired_ms = 1
    topics = Topics("p", "l", at_once.name)
    messages = [
        Conn(state="ONLINE", boot=1),
        ResumeAnswer(halt=1, who="Ana", nonce="8d1f22c0ab", accepted=True, why="", ts_ms=1),
    ]

    def batch() -> None:
        with at_once.store.writing() as session:
            taken = ingest.Batch(session, FolderFrames(tmp_path / "f"), messages)
            taken.store(topics, messages[0])
            session.flush()  # as the next look into the database does
            at_once.meet()
            taken.store(topics, messages[1])
            taken.close()

    def look() -> None:
        with at_once.store.writing() as session:
            audit.in_turn(session)
            at_once.meet()
            retirement.bring_back(at_once.hub, session)

    assert at_once.do(batch, look, meet_before_writing=False) == ["", ""]
    with at_once.store.reading() as session:
        station = session.scalars(select(Station).where(Station.station == at_once.name)).one()
    assert (station.conn, station.retired_ms) == ("ONLINE", None)


def test_a_roll_out_of_a_new_bundle_and_a_retirement_wait_for_each_other_once_on_postgresql(
    at_once: AtOnce, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bundle's row held the log and its request wanted the station, which whoever retires it held."""
    at_once.halt(State.ACTIVE_ACKED)
    key = f"p~l~{at_once.name}"
    at_once.hub.live = Live()
    at_once.hub.live.know(Topics("p", "l", at_once.name), Conn(state="BROKEN", boot=1))
    keep_row, let_go = rollout.keep_row, retirement._let_go

    def kept_then_met(*given: Any) -> Any:
        row = keep_row(*given)
        at_once.meet()
        return row

    def met_then_let_go(*given: Any) -> None:
        at_once.meet()
        let_go(*given)

    monkeypatch.setattr(rollout, "keep_row", kept_then_met)
    monkeypatch.setattr(retirement, "_let_go", met_then_let_go)
    registry: Any = SimpleNamespace(folder=Path("bundles"), get=lambda bundle: None)
    bundle: Any = SimpleNamespace(id="weld-9.9.9", sha256="ab" * 32, url="/bundles/weld-9.9.9")
    sent: list[Message] = []

    def publish(_topics: Topics, message: Message) -> bool:
        sent.append(message)
        return True

    def ask() -> None:
        with at_once.store.writing() as session:
            station = rollout.find_station(session, key)
            rollout.ask(session, publish, registry, station, bundle, "Chen", 1, rollback=False)

    def retire() -> None:
        retirement.retire(at_once.hub, key, "Chen", 1)

    assert at_once.do(ask, retire, meet_before_writing=False) == ["", ""]
    assert len(sent) == 1
    with at_once.store.reading() as session:
        assert rollout.find_station(session, key).retired_ms == 1
