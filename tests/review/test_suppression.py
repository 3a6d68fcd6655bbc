"""Station alarms and the rules that keep some of them quiet: what begins and ends one, what a rule may name, who is
told afterwards; and that a halt calls whatever anybody writes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal

import pytest

from inspection.errors import InputError
from inspection.messages import Conn, Permit, PlcState, Topics
from inspection.station_messages import About
from inspection.types import Code
from review import faults, suppression
from review.alarms import State
from review.live import Now, shown
from review.routes.events import _tick
from review.store import Fault, Maintenance, Shelf, Station, SuppressionRule
from review.suppression import Condition, Wanted
from tests.review.floor import MIN, NOW, World

S = 1_000_000_000
DARK = "dark: 99 % of the picture is below 12 of 255"


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        world = World(tmp_path_factory.mktemp("suppression"), patch)
        patch.setattr("review.routes.suppression.wall_ms", lambda: world.now)
        world.hub.mqtt.connected = True
        yield world


@pytest.fixture
def world(shared: World) -> Iterator[World]:
    yield shared
    with shared.hub.store.writing() as session:  # the next test begins with an empty floor
        for fault in session.query(Fault).filter(Fault.state != "CLOSED"):
            fault.state, fault.suppressed_by, fault.rule = "CLOSED", None, None
        for table in (SuppressionRule, Maintenance, Shelf):
            for row in session.query(table).filter(table.ended_ms.is_(None)):
                row.ended_ms = shared.now
    shared.upkeep._watch.forget()
    shared.hub.live._stations.clear()
    shared.now += MIN


# ── a plant whose clock the test holds ──────────────────────────────────────────────────────────────────────────────


class Plant:
    """Stations s1 and s2 of one line; `look` is what upkeep does each second; what is not silent is fresh."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.code = {1: 0, 2: 0}
        self.blind: dict[int, str] = {1: "no", 2: "no"}
        self.optional = True
        self.silent: set[int] = set()
        self.conn: Literal["ONLINE", "OFFLINE", "BROKEN"] = "ONLINE"
        self.plc = {1: "RUNNING", 2: "RUNNING"}
        self.run: dict[int, int] = {}
        self.state_trouble = "none"
        self.set_back_ms = 0
        """How far somebody has set the hub's clock back; the monotonic one does not know."""

    def now(self, n: int, ns: int) -> Now:
        run = self.run.get(n, 1)  # a site that lets the line run on
        permit = Permit(boot=1, seq=1, run=run, code=self.code[n], halt=0, echo=0, age_ms=1, ts_ms=self.world.now)  # type: ignore[arg-type]
        about = About(
            boot=1, config={},
            facts={
                "cameras": {"cam": {"blind": self.blind[n], "optional": self.optional}},
                "state": {"trouble": self.state_trouble if n == 1 else "none"},
            },
            disk_free_bytes=1, spool_pending=0, spool_bytes=0, spool_quota_bytes=1, ts_ms=self.world.now,
        )  # fmt: skip
        heard = ns - (60 * S if n in self.silent else 0)
        return Now(
            Topics("p", "l", f"s{n}"), permit=permit, permit_ns=heard, conn=Conn(state=self.conn, boot=1),
            plc=PlcState(state=self.plc[n], ts_ms=self.world.now), plc_ns=ns, about=about, about_ns=heard, skew_ms=0,  # type: ignore[arg-type]
        )  # fmt: skip

    def look(self, seconds: int = 11) -> list[tuple[str, str, bool]]:
        """After so many looks, a second apart: (kind, state, suppressed) of everything open."""
        for _ in range(seconds):
            self.world.now += 1000
            ns = (self.world.now + self.set_back_ms) * 1_000_000
            for n in (1, 2):
                self.world.hub.live._stations[f"p~l~s{n}"] = self.now(n, ns)
            self.world.upkeep._faults_due_ns = 0
            self.world.upkeep.look_at_faults(ns, self.world.now)
        with self.world.hub.store.reading() as session:
            return [(f.kind, f.state, f.suppressed_by is not None) for f in faults.open_faults(session)]

    def calls(self) -> int:
        return int(_tick(self.world.hub)["faults"])

    def rule(self, of: Condition, *alarms: str, **more: object) -> SuppressionRule:
        wanted = Wanted(None, "a rule", of, "", False, "*", alarms, "because it says nothing new")
        with self.world.hub.store.writing() as session:
            return suppression.define(session, replace(wanted, **more), "Chen (engineer)", self.world.now)  # type: ignore[arg-type]

    def events(self) -> list[str]:
        with self.world.hub.store.reading() as session:
            newest = session.query(Fault).order_by(Fault.id.desc()).first()
            return [e.kind for e in newest.events] if newest else []


@pytest.fixture
def plant(world: World) -> Plant:
    return Plant(world)


# ── what is an alarm ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_clock_that_is_set_back_keeps_no_alarm_away(plant: Plant) -> None:
    """What had begun within the ten seconds before was no alarm until the clock was that late again, and one that
    sounded called nobody again."""
    plant.code[1] = Code.CAMERA
    plant.look()
    plant.code[2] = Code.CAMERA
    plant.look(5)
    plant.set_back_ms = 60 * MIN
    plant.world.now -= plant.set_back_ms
    assert plant.look(10) == [("camera", "ACTIVE_UNACKED", False)] * 2
    before = len(plant.world.acts("realarmed"))
    for _ in range(3):
        plant.world.upkeep.call_again(plant.world.now)
    assert len(plant.world.acts("realarmed")) == before + 1, "the older one, and once"
    assert plant.events() == ["raised"]


def test_an_edge_that_never_saw_since_its_start_calls_and_says_why(plant: Plant) -> None:
    """It was "starting" for ever, without a word, behind a lens cap as at a scale the model does not know."""
    plant.code[1], plant.run[1], plant.optional = 5, 0, False
    plant.plc[1] = "TRIPPED"
    assert plant.look() == [], "a start takes as long as it takes"
    plant.blind[1] = "dark: 99 % of the picture is below 4 of 255"
    assert plant.look(10) == []
    assert plant.look(1) == [("camera", "ACTIVE_UNACKED", False)]
    ns = plant.world.now * 1_000_000
    why = shown(plant.now(1, ns), ns).why
    assert why == "cam: picture dark (99 % of the picture is below 4 of 255)"
    plant.code[1], plant.run[1], plant.blind[1] = 0, 1, "no"
    assert plant.look(1) == [("camera", "CLEARED_UNACKED", False)]


def test_a_condition_must_last_and_then_calls_until_it_is_over_and_seen(plant: Plant) -> None:
    plant.code[1] = 2
    assert plant.look(10) == []
    assert plant.look(1) == [("camera", "ACTIVE_UNACKED", False)]
    assert plant.calls() == 1
    plant.code[1] = 0
    assert plant.look(1) == [("camera", "CLEARED_UNACKED", False)]
    with plant.world.hub.store.reading() as session:
        (fault,) = faults.open_faults(session)
    assert plant.world.ana.post(f"/alarms/faults/{fault.id}/ack").status_code == 303
    assert plant.look(1) == []
    assert plant.calls() == 0
    assert plant.events() == ["raised", "gone", "ack"]
    assert ("Ana (operator)", f"station alarm {fault.id}") in plant.world.acts("ack")


def test_a_camera_that_must_see_is_one_alarm_that_says_why(plant: Plant) -> None:
    plant.optional, plant.code[1], plant.run[1], plant.blind[1] = False, 2, 0, "blurred: sharpness 3 of 40"
    plant.plc[1] = "TRIPPED"
    assert plant.look() == [("camera", "ACTIVE_UNACKED", False)]
    with plant.world.hub.store.reading() as session:
        (fault,) = faults.open_faults(session)
        assert fault.why == "cam: picture blurred (sharpness 3 of 40); the edge withdraws its permit"


def test_a_state_folder_that_cannot_be_written_is_a_storage_fault(plant: Plant) -> None:
    plant.state_trouble = "[Errno 28] No space left on device"
    assert plant.look() == [("storage", "ACTIVE_UNACKED", False)]
    with plant.world.hub.store.reading() as session:
        (fault,) = faults.open_faults(session)
        assert fault.why == "an open halt would not outlive a restart: [Errno 28] No space left on device"
    plant.silent.add(1)
    plant.state_trouble = "none"
    assert ("storage", "ACTIVE_UNACKED", False) in plant.look(2), "not seen behind a silent edge"
    plant.silent.clear()
    assert ("storage", "CLEARED_UNACKED", False) in plant.look(2)


def test_what_comes_and_goes_calls_nobody_and_a_new_one_is_a_new_row(plant: Plant) -> None:
    for _ in range(4):
        plant.code[1] = 2
        plant.look(8)
        plant.code[1] = 0
        assert plant.look(1) == []
    plant.code[1] = 3
    assert plant.look(12) == [("model", "ACTIVE_UNACKED", False)]
    plant.code[1] = 0
    plant.look(1)
    plant.code[1] = 3
    assert plant.look(12) == [("model", "ACTIVE_UNACKED", False), ("model", "CLEARED_UNACKED", False)][::-1]


def test_behind_a_silent_edge_nothing_else_begins_or_ends(plant: Plant) -> None:
    plant.blind[1] = DARK
    plant.look()
    plant.silent.add(1)
    plant.blind[1] = "no"
    plant.plc[1] = "TRIPPED"
    assert {(k, s) for k, s, _ in plant.look()} == {
        ("picture/dark", "ACTIVE_UNACKED"),
        ("edge/silent", "ACTIVE_UNACKED"),
    }
    plant.silent.clear()
    assert ("picture/dark", "CLEARED_UNACKED", False) in plant.look(2)


def test_an_edge_that_was_switched_off_is_no_alarm(plant: Plant) -> None:
    plant.conn, plant.plc[1] = "OFFLINE", "TRIPPED"
    plant.silent.add(1)
    assert plant.look() == []
    plant.conn = "BROKEN"
    assert plant.look() == [("edge/silent", "ACTIVE_UNACKED", False)]
    plant.conn = "OFFLINE"
    assert plant.look(1) == [("edge/silent", "CLEARED_UNACKED", False)]


def test_a_line_that_runs_on_behind_a_silent_edge_is_told(plant: Plant) -> None:
    plant.silent.add(1)
    assert {kind for kind, _state, _held in plant.look()} == {"edge/silent", "line/runs"}


def test_a_hub_without_its_broker_raises_nothing(plant: Plant) -> None:
    plant.look(1)
    plant.world.hub.mqtt.connected = False
    plant.silent |= {1, 2}
    try:
        assert plant.look(30) == []
    finally:
        plant.world.hub.mqtt.connected = True
    assert plant.look(9) == [], "what it sees afterwards must last anew"


# ── rules ───────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_camera_fault_keeps_its_followers_quiet_and_they_call_again_when_it_ends(plant: Plant) -> None:
    plant.rule(Condition.ALARM, "picture/*", kind="camera")
    plant.code[1], plant.blind[1] = 2, DARK
    assert plant.look() == [("camera", "ACTIVE_UNACKED", False), ("picture/dark", "ACTIVE_UNACKED", True)]
    assert plant.calls() == 1
    page = plant.world.ana.get("/alarms").text
    assert "1 alarm is suppressed by rule" in page
    assert "a rule" in page
    plant.blind[2] = DARK
    assert plant.look()[-1][2], "the other station's own dark picture is not its camera fault's"
    assert plant.calls() == 2
    plant.code[1] = 0
    assert ("picture/dark", "ACTIVE_UNACKED", True) not in plant.look(1)
    assert plant.calls() == 3
    with plant.world.hub.store.reading() as session:
        dark = session.query(Fault).filter(Fault.kind == "picture/dark", Fault.station_id == 1).all()[-1]
        assert [e.kind for e in dark.events] == ["raised", "suppressed", "released", "realarmed"]
    assert ("hub", f"station alarm {dark.id}") in plant.world.acts("realarmed")


def test_seen_before_and_still_there_afterwards_calls_again(plant: Plant) -> None:
    plant.code[1] = 2
    plant.look()
    with plant.world.hub.store.reading() as session:
        (fault,) = faults.open_faults(session)
    plant.world.ana.post(f"/alarms/faults/{fault.id}/ack")
    plant.rule(Condition.MAINTENANCE, "camera")
    form = {"station": 1, "minutes": 15, "why": "lens is cleaned"}
    assert plant.world.ana.post("/alarms/maintenance", data=form).status_code == 303
    assert plant.look(1) == [("camera", "ACTIVE_ACKED", True)]
    plant.world.now += 15 * MIN - 4_000
    assert plant.look(2) == [("camera", "ACTIVE_ACKED", True)]
    assert plant.look(3) == [("camera", "ACTIVE_UNACKED", False)], "maintenance ends by itself"
    assert plant.calls() == 1
    assert plant.world.acts("maintenance_ended")[-1] == ("hub", "station 1")


def test_what_came_and_went_while_suppressed_asks_nobody(plant: Plant) -> None:
    plant.rule(Condition.MAINTENANCE, "camera")
    plant.world.ana.post("/alarms/maintenance", data={"station": 1, "minutes": 60, "why": "lens is cleaned"})
    plant.code[1] = 2
    plant.look()
    plant.code[1] = 0
    assert plant.look(1) == []
    assert plant.events() == ["raised", "suppressed", "gone"]


def test_somebody_who_works_at_the_station_by_order_of_the_edge_is_maintenance(plant: Plant) -> None:
    plant.rule(Condition.MAINTENANCE, "picture/*")
    plant.blind[1] = plant.blind[2] = DARK
    plant.code[1], plant.run[1], plant.plc[1] = Code.MAINTENANCE, 0, "TRIPPED"
    assert plant.look() == [("picture/dark", "ACTIVE_UNACKED", False), ("picture/dark", "ACTIVE_UNACKED", True)]
    assert plant.calls() == 1, "no edge fault: the edge says what it is"
    plant.world.hub.live._stations["p~l~s1"] = plant.now(1, time.monotonic_ns())
    assert "ordered at the edge" in plant.world.ana.get("/alarms/rules").text
    plant.code[1], plant.run[1] = 0, 1
    assert [suppressed for _, _, suppressed in plant.look(1)] == [False, False]
    assert plant.calls() == 2


def test_a_reason_from_an_edge_of_tomorrow_stops_no_look(plant: Plant) -> None:
    plant.code[1], plant.run[1], plant.plc[1] = 200, 0, "TRIPPED"
    plant.code[2] = 2
    assert plant.look() == [("camera", "ACTIVE_UNACKED", False)]


# ── the shelf, and calling again ────────────────────────────────────────────────────────────────────────────────────


def test_a_station_alarm_lies_on_the_shelf_until_its_minute(plant: Plant) -> None:
    plant.code[1] = plant.code[2] = 2
    plant.look()
    assert plant.calls() == 2
    with plant.world.hub.store.reading() as session:
        first, _second = faults.open_faults(session)
    ana = plant.world.ana
    assert f'href="/alarms/shelve?fault={first.id}"' in ana.get("/alarms").text
    form = ana.get("/alarms/shelve", params={"fault": first.id}).text
    assert "Camera fault at s1" in form
    asked = {"fault": first.id, "minutes": 15, "why": "lens on order"}
    assert ana.post("/alarms/shelve", data={**asked, "why": "x"}).status_code == 422
    assert ana.post("/alarms/shelve", data=asked).status_code == 303
    assert plant.calls() == 1
    listed = ana.get("/alarms").text
    assert "lens on order" in listed
    assert f'id="fault-{first.id}"' in listed, "shelved is not hidden"
    assert plant.world.acts("shelved")[-1] == ("Ana (operator)", f"station {first.station_id} camera")
    plant.world.now += 15 * MIN
    assert plant.calls() == 2
    assert ana.post("/alarms/shelve", data={"minutes": 15, "why": "of nothing"}).status_code == 422


def test_a_line_that_runs_without_a_permit_lies_on_no_shelf(plant: Plant) -> None:
    plant.silent.add(1)
    plant.look()
    with plant.world.hub.store.reading() as session:
        (runs,) = (f for f in faults.open_faults(session) if f.kind == "line/runs")
    assert f"/alarms/shelve?fault={runs.id}" not in plant.world.ana.get("/alarms").text
    answer = plant.world.chen.post("/alarms/shelve", data={"fault": runs.id, "minutes": 15, "why": "it is noisy"})
    assert (answer.status_code, "never kept quiet" in answer.text) == (422, True)


def test_a_station_alarm_nobody_acknowledges_calls_again_and_louder(plant: Plant) -> None:
    patience_ms = plant.world.hub.settings.realarm_min * MIN
    plant.code[1] = 2
    plant.look()
    called = plant.world.now

    def told(after_ms: int) -> tuple[int, bool]:
        plant.world.now = called + after_ms
        plant.world.upkeep.call_again(plant.world.now)
        return plant.events().count("realarmed"), bool(_tick(plant.world.hub)["urgent"])

    assert told(patience_ms - 1) == (0, False)
    assert told(patience_ms) == (1, True)
    assert told(2 * patience_ms - 1) == (1, True)
    assert told(2 * patience_ms) == (2, True)
    with plant.world.hub.store.reading() as session:
        (fault,) = faults.open_faults(session)
    plant.world.ana.post(f"/alarms/faults/{fault.id}/ack")
    assert told(4 * patience_ms) == (2, False)


def test_a_line_that_stood_before_is_quiet_and_one_that_the_fault_stopped_is_not(plant: Plant) -> None:
    plant.rule(Condition.LINE_STOPPED, "camera", "picture/*")
    plant.code[1] = 2
    plant.look(2)
    plant.plc[1] = "TRIPPED"
    assert plant.look() == [("camera", "ACTIVE_UNACKED", False)], "the alarm's own stop must not silence it"
    plant.code[1] = 0
    plant.plc[2] = "READY"
    plant.look(6)
    plant.code[2] = 2
    assert ("camera", "ACTIVE_UNACKED", True) in plant.look()
    plant.plc[2] = "RUNNING"
    plant.run[2] = 1
    assert ("camera", "ACTIVE_UNACKED", True) not in plant.look(1)
    assert plant.events()[-2:] == ["released", "realarmed"]


def test_a_rule_for_one_line_and_one_for_any_station_of_it(plant: Plant) -> None:
    plant.rule(Condition.ALARM, "picture/*", kind="camera", whole_line=True, stations="p/l/s2")
    plant.code[1], plant.blind[1], plant.blind[2] = 2, DARK, DARK
    plant.look()
    with plant.world.hub.store.reading() as session:
        held = {f.station.station for f in faults.open_faults(session) if f.suppressed_by}
    assert held == {"s2"}


def test_a_changed_rule_is_a_new_version_an_ended_one_lets_go_and_the_log_has_all(plant: Plant) -> None:
    first = plant.rule(Condition.ALARM, "picture/dark", kind="camera")
    plant.code[1], plant.blind[1] = 2, DARK
    plant.look()
    second = plant.rule(Condition.ALARM, "picture/*", kind="camera", rule=first.rule)
    assert (second.rule, second.version) == (first.rule, 2)
    assert plant.look(1)[-1] == ("picture/dark", "ACTIVE_UNACKED", True), "the new version takes over without a call"
    page = plant.world.chen.get("/alarms/rules").text
    assert "version 2" in page
    assert "suppresses 1 alarm now" in page
    assert "Ended by Chen (engineer)" in page
    assert plant.world.ana.post(f"/alarms/rules/{first.rule}/end").status_code == 403
    assert plant.world.chen.post(f"/alarms/rules/{first.rule}/end").status_code == 303
    assert plant.look(1)[-1] == ("picture/dark", "ACTIVE_UNACKED", False)
    said = plant.world.acts("suppression_rule")[-2:]
    assert said == [("Chen (engineer)", f"rule {first.rule} version {v}") for v in (1, 2)]
    assert plant.world.acts("suppression_rule_ended")[-1] == ("Chen (engineer)", f"rule {first.rule} version 2")
    assert "a rule" in plant.world.ana.get("/performance").text


# ── what a rule may not ─────────────────────────────────────────────────────────────────────────────────────────────

HALTS = ("halt", "halt/porosity", "halt/*", "*", "h*", "?alt/x", "[h]alt*", "halt*", "hal?/porosity")


@pytest.mark.parametrize("pattern", HALTS)
def test_a_rule_that_could_match_halts_is_refused(plant: Plant, pattern: str) -> None:
    with pytest.raises(InputError, match="a halt is never suppressed"):
        plant.rule(Condition.MAINTENANCE, "camera", pattern)
    form = {"name": "all quiet", "why": "so that nobody is called", "condition": "maintenance", "alarms": pattern}
    answer = plant.world.chen.post("/alarms/rules", data=form)
    assert answer.status_code == 422
    assert "a halt is never suppressed" in answer.text
    assert 'value="all quiet"' in answer.text, "what was typed stays"


def test_whatever_is_in_force_a_halt_calls(plant: Plant) -> None:
    plant.rule(Condition.MAINTENANCE, "camera", "picture/*", "edge/*", "model", "storage", "clock", "line/silent")
    plant.world.ana.post("/alarms/maintenance", data={"station": 1, "minutes": 480, "why": "everything is tried"})
    before = _tick(plant.world.hub)["unacked"]
    plant.world.halt()
    plant.look()
    assert _tick(plant.world.hub)["unacked"] == before + 1


def test_a_line_that_runs_without_a_permit_is_never_suppressed(plant: Plant) -> None:
    for pattern in ("line/runs", "line/*", "l*"):
        with pytest.raises(InputError, match="runs without a permit"):
            plant.rule(Condition.MAINTENANCE, pattern)
    plant.rule(Condition.MAINTENANCE, "camera", "edge/*")
    plant.world.ana.post("/alarms/maintenance", data={"station": 1, "minutes": 15, "why": "lens is cleaned"})
    plant.code[1], plant.run[1] = 2, 0
    assert set(plant.look()) == {("camera", "ACTIVE_UNACKED", True), ("line/runs", "ACTIVE_UNACKED", False)}


@pytest.mark.parametrize(
    ("more", "said"),
    [
        ({"alarms": ()}, "none is named"),
        ({"alarms": ("porosity",)}, "is a halt, which is never suppressed"),
        ({"name": "x"}, "3 to 64"),
        ({"why": " "}, "3 to 200"),
        ({"stations": "q/*"}, "is none that has reported"),
        ({"condition": Condition.ALARM, "kind": ""}, "names no alarm"),
        ({"condition": Condition.ALARM, "kind": "camera"}, "keep itself quiet"),
        ({"rule": 999}, "not in force"),
    ],
)
def test_a_bad_rule_says_what_is_wrong(plant: Plant, more: dict[str, object], said: str) -> None:
    with pytest.raises(InputError, match=said):
        plant.rule(Condition.MAINTENANCE, *more.pop("alarms", ("camera",)), **more)  # type: ignore[misc]


def test_two_rules_may_not_keep_each_other_quiet(plant: Plant) -> None:
    plant.rule(Condition.ALARM, "picture/*", kind="camera")
    plant.rule(Condition.ALARM, "clock", kind="picture/dark")
    with pytest.raises(InputError, match="keep itself quiet"):
        plant.rule(Condition.ALARM, "camera", kind="clock")


def test_the_handover_names_maintenance_and_what_is_quiet(plant: Plant) -> None:
    plant.rule(Condition.MAINTENANCE, "camera", name="lens work")
    plant.world.ana.post("/alarms/maintenance", data={"station": 2, "minutes": 60, "why": "new lens"})
    plant.code[2] = 2
    plant.look()
    page = plant.world.ana.get("/handover").text
    assert "in maintenance by Ana (operator): new lens" in page
    assert "lens work" in page


def test_a_station_without_a_row_yet_is_left_alone(plant: Plant) -> None:
    watch, now = faults.Watch(), plant.now(1, NOW)
    assert watch.look([now], {}, NOW, NOW) == ({}, set(), {}, set())
    with plant.world.hub.store.reading() as session:
        assert session.query(Station).count() == 2
    assert State.CLOSED not in faults.OPEN
