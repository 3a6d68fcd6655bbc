"""The life of alarms as a state machine against the real database: people, edges and the clock in any order, twice,
late, or never. What ISA-18.2 and OPC UA Part 9 promise must hold after each step."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from review import audit, faults, ingest, shelving, suppression
from review.alarms import OPEN, UNACKED, Cause, State, why_no_undo, why_not
from review.store import Fault, FaultEventRow, Halt, HaltEventRow, Station, Store
from review.suppression import Condition, Wanted

PEOPLE = st.sampled_from(["Ana", "Ben"])
PERSONS = {Cause.ACK, Cause.VERDICT, Cause.UNDONE, Cause.RESET_ASKED}
MEMORY = Path("/dev/shm")
FULL = os.environ.get("HALTLINE_FULL") == "1"


class AlarmLife(RuleBasedStateMachine):
    """Every cause may come to every alarm at any time; `ingest.change` is the one door they all take."""

    alarms = Bundle("alarms")

    def __init__(self) -> None:
        super().__init__()
        # In memory where there is such a folder: thousands of commits, each synced, would wait for the disk.
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.store = Store(f"sqlite:///{Path(self.folder.name) / 'hub.db'}")
        self.store.migrate()
        audit.keep(self.store, Path(self.folder.name))
        with self.store.writing() as session:
            session.add(Station(id=1, site="p", line="l", station="s"))
        self.number = 0
        self.history: dict[int, list[tuple[str, str]]] = {}
        self.closed: set[int] = set()
        self.was: dict[int, str] = {}

    @rule(target=alarms)
    def an_alarm_comes(self) -> int:
        self.number += 1
        with self.store.writing() as session:
            row = Halt(
                station_id=1, halt=self.number, uid=f"{self.number:032x}", code=1, reason="r", records=[],
                stages_ms={}, at_ms=self.number, received_ms=self.number, state=State.ACTIVE_UNACKED,
            )  # fmt: skip
            session.add(row)
            session.flush()
            self.history[row.id], self.was[row.id] = [], row.state
            return row.id

    @rule(alarm=alarms, cause=st.sampled_from(list(Cause)), who=PEOPLE, verdict=st.sampled_from(["real", "false_call"]))
    def something_happens(self, alarm: int, cause: Cause, who: str, verdict: str) -> None:
        who = who if cause in PERSONS else "hub"
        with self.store.writing() as session:
            row = session.get_one(Halt, alarm)
            if cause in PERSONS - {Cause.UNDONE} and why_not(State(row.state), cause, judged=row.verdict is not None):
                return  # the doors for people refuse it, and nothing may have changed
            detail: dict[str, str | None] = {}
            if cause is Cause.VERDICT:
                detail, row.verdict = {"verdict": verdict, "was": row.verdict}, verdict
            if cause is Cause.UNDONE:
                newest = row.events[-1] if row.events else None
                was = newest.detail.get("was") if newest else None
                if why_no_undo(State(row.state), newest.kind if newest else "", was):
                    return
                detail, row.verdict = {"verdict": row.verdict}, was
            ingest.change(session, row, cause, who, **detail)
        self.history[alarm].append((cause, who))

    @rule(alarm=consumes(alarms))
    def nobody_looks_again(self, alarm: int) -> None:
        """It stays in the database and is still checked."""

    @rule()
    def the_hub_starts_again(self) -> None:
        url = f"sqlite:///{Path(self.folder.name) / 'hub.db'}"
        self.store.close()
        self.store = Store(url)
        self.store.migrate()
        audit.keep(self.store, Path(self.folder.name))

    @invariant()
    def what_was_promised_holds(self) -> None:
        with self.store.reading() as session:
            rows = list(session.query(Halt).order_by(Halt.id))
            told = list(session.query(HaltEventRow).order_by(HaltEventRow.id))
        for row in rows:
            mine = [(e.kind, e.who) for e in told if e.halt_id == row.id]
            kinds = [kind for kind, _who in mine]
            # Append-only, in the order it happened, nothing left out.
            assert mine == self.history[row.id]
            # An alarm never becomes unseen again, and never reactivates.
            assert not (self.was[row.id] not in UNACKED and row.state in UNACKED)
            assert not (row.id in self.closed and row.state in OPEN)
            # Whatever is seen was acknowledged by somebody.
            assert row.state in UNACKED or Cause.ACK in kinds
            # Nothing closes without having been judged.
            assert row.state != State.CLOSED or row.verdict
            # RESET is the edge's word, never the person's.
            assert row.state != State.RESET or Cause.ACCEPTED in kinds
            self.was[row.id] = row.state
            if row.state == State.CLOSED:
                self.closed.add(row.id)

    def teardown(self) -> None:
        assert audit.stored_problems(self.store, Path(self.folder.name))[1] == []
        self.store.close()
        self.folder.cleanup()


CONDITIONS = st.sampled_from([(1, "camera"), (1, "picture/dark"), (2, "picture/dark"), (1, "clock")])
RULES = (
    Wanted(None, "followers", Condition.ALARM, "camera", False, "*", ("picture/*",), "the camera fault says it"),
    Wanted(None, "lens work", Condition.MAINTENANCE, "", False, "p/l/s1", ("camera", "picture/*"), "somebody is there"),
    Wanted(None, "break", Condition.LINE_STOPPED, "", False, "*", ("picture/dark", "clock"), "the lights are off"),
)


class FaultLife(RuleBasedStateMachine):
    """Station alarms beside halts: conditions come, go and hide, people acknowledge, rules come and go, stations are
    worked at, lines stand, alarms are shelved; in any order. Held against what a person was promised, not against the
    table."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None)
        self.store = Store(f"sqlite:///{Path(self.folder.name) / 'hub.db'}")
        self.store.migrate()
        audit.keep(self.store, Path(self.folder.name))
        with self.store.writing() as session:
            session.add_all([Station(id=n, site="p", line="l", station=f"s{n}") for n in (1, 2)])
        self.now, self.halts = 1_000_000, 0
        with self.store.writing() as session:  # in force from the start: what they do is looked at more often then
            for wanted in RULES:
                suppression.define(session, wanted, "Chen", self.now)
        self.present: dict[faults.Key, int] = {}
        self.unknown: set[faults.Key] = set()
        self.stands: dict[int, int] = {}
        self.ordered: set[int] = set()
        self.shelves: dict[faults.Key, int] = {}
        self.told: dict[int, list[str]] = {}
        self.closed: set[int] = set()

    @rule(key=CONDITIONS)
    def a_condition_comes_or_goes(self, key: faults.Key) -> None:
        if self.present.pop(key, None) is None:
            self.present[key] = self.now

    @rule(key=CONDITIONS)
    def it_is_hidden_or_seen_again(self, key: faults.Key) -> None:
        self.unknown ^= {key}

    @rule(station=st.sampled_from([1, 2]))
    def the_line_stops_or_starts(self, station: int) -> None:
        if self.stands.pop(station, None) is None:
            self.stands[station] = self.now

    @rule(which=st.sampled_from(RULES))
    def an_engineer_writes_or_ends_a_rule(self, which: Wanted) -> None:
        with self.store.writing() as session:
            known = next((r for r in suppression.in_force(session) if r.name == which.name), None)
            if known is not None:
                assert suppression.end(session, known.rule, "Chen", self.now)
            else:
                suppression.define(session, which, "Chen", self.now)

    @rule()
    def somebody_begins_or_ends_work_at_the_first_station(self) -> None:
        with self.store.writing() as session:
            if row := suppression.in_maintenance(session, self.now).get(1):
                suppression.end_maintenance(session, row, "Ana", self.now)
            else:
                suppression.begin_maintenance(session, 1, "Ana", "a new lens", 15, self.now)

    @rule()
    def the_edge_of_the_first_station_is_in_maintenance_or_not(self) -> None:
        self.ordered ^= {1}

    @rule(which=st.integers(0, 2))
    def somebody_shelves_or_gives_back(self, which: int) -> None:
        with self.store.writing() as session:
            rows = faults.open_faults(session)
            if not rows:
                return
            key = (row := rows[which % len(rows)]).station_id, row.kind
            if lies := shelving.current(session, self.now).get(shelving.cause_of_fault(*key)):
                shelving.give_back(session, lies, "Ana", self.now)
                del self.shelves[key]
            else:
                shelving.shelve(session, row, "Ana", "a spare is on its way", 15, self.now)
                self.shelves[key] = self.now + 15 * 60_000

    @rule(who=PEOPLE, which=st.integers(0, 2))
    def somebody_acknowledges(self, who: str, which: int) -> None:
        with self.store.writing() as session:
            rows = faults.open_faults(session)
            if rows:
                faults.acknowledge(session, rows[which % len(rows)].id, who, self.now)

    @rule()
    def a_halt_comes(self) -> None:
        self.halts += 1
        with self.store.writing() as session:
            session.add(
                Halt(
                    station_id=1, halt=self.halts, uid=f"{self.halts:032x}", code=2, reason="r", records=[],
                    stages_ms={}, at_ms=self.now, received_ms=self.now, state=State.ACTIVE_UNACKED,
                )
            )  # fmt: skip

    @rule(seconds=st.sampled_from([1, 6, 1000]))
    def time_passes(self, seconds: int) -> None:
        self.now += 1000 * seconds

    @invariant()
    def what_was_promised_holds(self) -> None:
        present = {key: ("why", began) for key, began in self.present.items() if key not in self.unknown}
        seen = present, self.unknown, self.stands, self.ordered
        with self.store.writing() as session:
            before = {f.id: (f.state, f.suppressed_by) for f in faults.open_faults(session)}
            hidden = {f.id for f in faults.open_faults(session) if (f.station_id, f.kind) in self.unknown}
            suppression.end_due(session, self.now)
            faults.settle(session, *seen, self.now)
        with self.store.reading() as session:
            assert not faults.settle(session, *seen, self.now), "once is enough"
        with self.store.reading() as session:
            rows = list(session.query(Fault).order_by(Fault.id))
            working = {*suppression.in_maintenance(session, self.now), *self.ordered}
            names = {r.name for r in suppression.in_force(session)}
            calls = faults.count_calling(session, self.now)
            halts = shelving.count_calling(session, self.now)
        # A halt is never suppressed, whatever is in force.
        assert halts == self.halts
        active = {(f.station_id, f.kind) for f in rows if f.state in faults.ACTIVE}
        # Of one cause at most one alarm is active, and what is present is one.
        assert len(active) == sum(f.state in faults.ACTIVE for f in rows)
        assert present.keys() <= active <= present.keys() | self.unknown
        for f in rows:
            assert f.id not in hidden or before[f.id][0] not in faults.ACTIVE or f.state in faults.ACTIVE, "unseen"
            quiet = f.state in faults.OPEN and self._quiet(f, names, working, active)
            assert (f.suppressed_by is not None and f.state in faults.OPEN) == quiet
            self._history(f, before.get(f.id))
        shelved = {key for key, until_ms in self.shelves.items() if self.now < until_ms}
        loud = [f for f in rows if f.state in UNACKED and f.suppressed_by is None]
        assert calls == sum((f.station_id, f.kind) not in shelved for f in loud)

    def _quiet(self, f: Fault, names: set[str], working: set[int], active: set[faults.Key]) -> bool:
        """What a person reads in the three rules."""
        dark = f.kind == "picture/dark"
        stood = self.stands.get(f.station_id, self.now) + suppression.STOOD_BEFORE_MS <= f.began_ms
        return (
            ("followers" in names and dark and (f.station_id, "camera") in active)
            or ("lens work" in names and f.station_id == 1 in working and f.kind != "clock")
            or ("break" in names and f.kind != "camera" and f.station_id in self.stands and stood)
        )

    def _history(self, f: Fault, before: tuple[str, int | None] | None) -> None:
        with self.store.reading() as session:
            kinds = [e.kind for e in session.query(FaultEventRow).filter_by(fault_id=f.id).order_by(FaultEventRow.id)]
        assert kinds[: len(self.told.get(f.id, []))] == self.told.get(f.id, []), "appended to, never edited"
        new = kinds[len(self.told.get(f.id, [])) :]
        self.told[f.id] = kinds
        assert not (f.id in self.closed and f.state != State.CLOSED), "closed is for ever"
        if f.state == State.CLOSED:
            self.closed.add(f.id)
            # Nobody was passed over: it was seen, or it never called.
            assert Cause.ACK in kinds or f.called_ms is None
        if before and before[1] is not None and f.suppressed_by is None and f.state in faults.ACTIVE:
            assert new[-2:] == [Cause.RELEASED, Cause.REALARMED]
            assert f.state == State.ACTIVE_UNACKED, "what is still there calls again"

    def teardown(self) -> None:
        assert audit.stored_problems(self.store, Path(self.folder.name))[1] == []
        self.store.close()
        self.folder.cleanup()


for life in (AlarmLife, FaultLife):
    life.TestCase.settings = settings(
        max_examples=1000 if FULL else 6 if life is AlarmLife else 4,
        stateful_step_count=30 if life is AlarmLife else 60,
        deadline=None,
        suppress_health_check=list(HealthCheck),
    )
test_an_alarms_life = AlarmLife.TestCase
test_a_station_alarms_life = FaultLife.TestCase
