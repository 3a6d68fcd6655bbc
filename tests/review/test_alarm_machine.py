"""The life of alarms as a state machine against the real database: people, edges and the clock in any order, twice,
late, or never. What ISA-18.2 and OPC UA Part 9 promise must hold after each step."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule

from review import audit, ingest
from review.alarms import OPEN, UNACKED, Cause, State, why_no_undo, why_not
from review.store import Halt, HaltEventRow, Station, Store

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


AlarmLife.TestCase.settings = settings(
    max_examples=1000 if FULL else 6,
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)
test_an_alarms_life = AlarmLife.TestCase
