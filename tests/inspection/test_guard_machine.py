"""Guard, publisher and watchdog joined by a network that drops, delays, doubles, reorders and replays.

What must hold after every 50 ms of any such history is in `Factory.check` and `Factory.send`. The edge's publisher is
modelled here as the line contract has it: the level every 250 ms, at once on change, run 0 when its lease is over.

A permit carries the PLC's own heartbeat, at most 4 counts old: so one that counts was sent at most 1,250 ms ago
(5 beats of 250 ms), whatever the network did. Together with the watchdog's 1,000 ms that bounds how long a line can run
on after a halt: 1,000 ms, and as much again as the newest valid permit was delayed, never more than 1,250 ms.

HALTLINE_FULL=1 runs 10,000 histories.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace

import hypothesis.strategies as st
import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test

from inspection.decision import LineGuard
from inspection.events import (
    AnswerResume,
    AnswerStop,
    CannotJudge,
    Event,
    FaultFound,
    FaultOver,
    Judged,
    MaintenanceOrdered,
    PartArrived,
    PolicyChanged,
    RaiseHalt,
    ResumeAsked,
    SetPermit,
    State,
    StateChanged,
    StopAsked,
    Tick,
)
from inspection.messages import Permit
from inspection.policy import ClassPolicy, Policy
from inspection.states import TRANSITIONS
from inspection.types import Code, Finding, HaltReport
from inspection.watchdog import Line, Watchdog, WatchdogLimits

FULL = os.environ.get("HALTLINE_FULL") == "1"
MS = 1_000_000
SCAN_MS = 50
BEAT_MS = 250
LIMITS = WatchdogLimits()
MAX_DELAY_MS = (LIMITS.max_echo_lag + 1) * BEAT_MS
SCORES = {"good": 0.1, "unsure": 0.5, "bad": 0.9, "nan": float("nan")}
SCENES = ("good", "good", "unsure", "bad", "nan", "unfit", "dark")
MET: Counter[str] = Counter()
"""What happened over all histories: a machine that never runs a line proves nothing."""


@dataclass(frozen=True)
class Sent:
    """A permit on its way; sent when, by the wall and by the PLC, whose time stands while it stalls."""

    permit: Permit
    sent_ms: int
    sent_plc_ms: int
    due_ms: int


class Factory(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        MET["histories"] += 1
        self.ms = self.plc_ms = 0
        # the edge, and what its disk keeps over a restart
        self.boot, self.open_halt, self.halt_since_ms = 0, None, 0
        self.halt_ids: set[int] = set()
        self.boot_ms = 0
        self.scene = "good"
        self.captured_ms = 0
        # the network
        self.wire: list[Sent] = []
        self.beats: list[tuple[int, int]] = []
        self.history: list[Sent] = []
        self.asked: list[ResumeAsked] = []
        self.stops: list[StopAsked] = []
        self.stop_due = False
        """Somebody asked for a stop and nobody has resumed from a halt that says so."""
        self.delay_ms, self.cut = 0, False
        self.retained: Sent | None = None
        # the line
        self.dog = Watchdog(LIMITS, 1000)
        self.newest: tuple[int, int] | None = None
        self.valid: Sent | None = None
        self.valid_ms = 0
        self.started = False

    @initialize(
        k=st.integers(1, 2),
        blind_runs=st.booleans(),
        lease_ms=st.sampled_from([100, 400]),
        warm=st.sampled_from([True, True, True, False]),
    )
    def power_on(self, k: int, blind_runs: bool, lease_ms: int, warm: bool) -> None:
        scratch = ClassPolicy("scratch", 0.3, 0.7, limit_mm=1.5, k=k, n=3)
        self.policy = Policy((scratch,), blind_runs=blind_runs, lease_ms=lease_ms)
        self.start_edge()
        if warm:
            self.people_put_it_right(5)

    # ── the edge ────────────────────────────────────────────────────────────────────────────────────────────────

    def start_edge(self) -> None:
        self.boot += 1
        self.boot_ms = self.ms
        self.stops = []  # requests are known for one start: after it a copy stops the line once more
        self.working_until_ms = 0
        self.doubled = False
        self.guard = LineGuard(self.policy, ["cam"], self.boot, self.ms * MS, self.open_halt)
        self.seq = self.echo = self.frame_id = 0
        self.level = SetPermit(False, Code.STARTING, 0, self.ms * MS, 0, changed=True)
        self.published_ms = -BEAT_MS

    def handle(self, event: Event) -> None:
        was = self.guard.state
        actions = self.guard.handle(event)
        assert isinstance(actions[0], SetPermit), "the permit is the first action of every event"
        assert not any(isinstance(a, SetPermit) for a in actions[1:])
        if self.open_halt and self.open_halt.code is Code.STOP:
            self.stop_due &= not any(isinstance(a, AnswerResume) and a.accepted for a in actions)
        lapsed = self.lapsed()
        self.level = actions[0]
        if self.level.changed or lapsed:
            self.publish()
        for action in actions:
            match action:
                case StateChanged(old, new):
                    assert old is was
                    assert new in {TRANSITIONS[pair] for pair in TRANSITIONS if pair[0] is old}
                    was = new
                    MET[f"-> {new.value}"] += 1
                case RaiseHalt(report):
                    self.note_halt(report)
                case AnswerResume():
                    MET["resume accepted" if action.accepted else "resume refused"] += 1
                    if action.accepted:
                        assert self.open_halt
                        assert action.halt == self.open_halt.halt
                        self.open_halt = None
                case AnswerStop():
                    MET["stop was a copy" if action.why == "this request came before" else "stop taken"] += 1
                    self.open_halt = action.open
        assert self.guard.state is was, "every change of state is told"
        assert (self.guard.state is State.HALTED) == (self.open_halt is not None)

    def note_halt(self, report: HaltReport) -> None:
        assert self.open_halt is None, "halts do not repeat while halted"
        assert report.halt not in self.halt_ids
        self.halt_ids.add(report.halt)
        self.open_halt, self.halt_since_ms = report, self.ms

    def frame(self, captured_ms: int) -> None:
        self.frame_id += 1
        if self.scene == "unfit":
            return self.handle(CannotJudge("cam", self.frame_id, self.ms * MS, Code.CAMERA, "covered"))
        score = SCORES[self.scene]
        if score == score:
            self.captured_ms = max(self.captured_ms, captured_ms)
        found = (Finding("scratch", score, (0, 0, 9, 9), 5.0, 1.0),)
        return self.handle(
            Judged("cam", self.frame_id, self.ms * MS, captured_ms * MS, {"scratch": score}, found),
        )

    def lapsed(self) -> bool:
        return self.ms * MS > self.level.good_until_ns

    def publish(self) -> None:
        run, code = self.level.run, self.level.code
        if run and self.lapsed():
            run, code = False, Code.INTERNAL
        self.seq += 1
        self.published_ms = self.ms
        age_ms = max(0, self.ms - self.level.judged_ns // MS)
        self.send(
            Permit(
                boot=self.boot,
                seq=self.seq,
                run=1 if run else 0,
                code=int(code),
                halt=self.level.halt,
                echo=self.echo,
                age_ms=age_ms,
                ts_ms=0,
            )
        )

    def send(self, permit: Permit) -> None:
        """What an edge may never send, whatever happened to it."""
        if permit.run:
            MET["run sent"] += 1
            assert permit.halt == 0
            assert not self.stop_due, "no line runs on through a requested stop"
            assert self.ms >= self.working_until_ms, "no line runs while an engineer works on it"
            assert not self.doubled, "no line runs while two edges have one name"
            if not self.policy.blind_runs:
                assert self.ms - self.captured_ms <= self.policy.max_silence_ms + self.policy.lease_ms
                assert permit.code == 0
        Permit.decode(permit.encode())
        if self.cut:
            return
        sent = Sent(permit, self.ms, self.plc_ms, self.ms + self.delay_ms)
        self.wire.append(sent)
        self.history.append(sent)
        self.retained = sent

    def publisher_turn(self) -> None:
        lapses = self.level.run and self.lapsed() and self.published_ms * MS <= self.level.good_until_ns
        if self.ms - self.published_ms >= BEAT_MS or lapses:
            self.publish()

    def hear_beats(self) -> None:
        for due_ms, n in [b for b in self.beats if b[0] <= self.ms]:
            self.beats.remove((due_ms, n))
            self.echo = n

    # ── the PLC ─────────────────────────────────────────────────────────────────────────────────────────────────

    def receive(self, sent: Sent, *, retained: bool = False) -> None:
        """The contract's rule once more, in the fewest words, beside the watchdog under test."""
        p = sent.permit
        was = self.dog.line
        gap_ms = self.ms - self.valid_ms
        self.dog.permit(self.ms * MS, p, retained=retained)
        if was is Line.RUNNING and gap_ms > LIMITS.watchdog_ms:
            assert self.dog.line is Line.TRIPPED, "a late permit bridges no gap"
        if was is Line.TRIPPED:
            assert self.dog.line is Line.TRIPPED, "a permit starts nothing"
        newer = self.newest is None or (p.boot, p.seq) > self.newest
        if retained and not p.run:
            assert self.dog.line is Line.TRIPPED, "a retained halt is honoured at once"
        if retained or not newer:
            return
        self.newest = (p.boot, p.seq)
        if not p.run or p.age_ms > LIMITS.max_age_ms:
            assert self.dog.line is Line.TRIPPED, "a halt is honoured at once"
        elif 0 <= self.dog.hb - p.echo <= LIMITS.max_echo_lag:
            self.valid, self.valid_ms = sent, self.ms
            assert self.plc_ms - sent.sent_plc_ms <= MAX_DELAY_MS

    def plc_turn(self) -> None:
        self.plc_ms += SCAN_MS
        if self.plc_ms % BEAT_MS == 0:
            beat = (self.ms + self.delay_ms, self.dog.beat())
            if not self.cut:
                self.beats.append(beat)
        arrived = [s for s in self.wire if s.due_ms <= self.ms]
        self.wire = [s for s in self.wire if s.due_ms > self.ms]
        for sent in arrived:
            self.receive(sent)
        self.dog.tick(self.ms * MS)
        self.check()

    def check(self) -> None:
        """What must hold whenever the PLC has scanned."""
        if self.dog.line is Line.TRIPPED:
            self.started = False
            return
        MET["scans while running"] += 1
        assert self.started, "nothing runs without a start pressed after the last trip"
        assert self.valid
        assert self.ms - self.valid_ms <= LIMITS.watchdog_ms, "a line runs on a fresh permit"
        delay_ms = self.valid_ms - self.valid.sent_ms
        if self.open_halt:
            MET["scans between a halt and its trip"] += 1
            assert self.ms - self.halt_since_ms <= LIMITS.watchdog_ms + delay_ms, "no line runs on through a halt"
        if self.valid.permit.boot != self.boot:
            assert self.ms - self.boot_ms <= LIMITS.watchdog_ms + delay_ms, "no line runs on a dead edge's word"

    # ── time ────────────────────────────────────────────────────────────────────────────────────────────────────

    def scan(self, *, edge: bool = True, guard: bool = True, plc: bool = True) -> None:
        self.ms += SCAN_MS
        if edge:
            self.hear_beats()
            if guard:
                if self.scene != "dark":
                    self.frame(self.ms)
                self.handle(Tick(self.ms * MS))
            self.publisher_turn()
        if plc:
            self.plc_turn()

    @rule(scans=st.sampled_from([1, 2, 5, 10, 20, 30]))
    def time_passes(self, scans: int) -> None:
        for _ in range(scans):
            self.scan()

    @rule(scans=st.sampled_from([1, 5, 10, 30]), publisher_first=st.booleans())
    def edge_hangs(self, scans: int, publisher_first: bool) -> None:
        """SIGSTOP and SIGCONT: whichever thread wakes first, and the frame it was judging."""
        captured_ms = self.ms
        for _ in range(scans):
            self.scan(edge=False)
        if publisher_first:
            self.publisher_turn()
        self.hear_beats()
        if self.scene != "dark":
            self.frame(captured_ms)
        self.plc_turn()

    @rule(scans=st.sampled_from([1, 5, 10, 30]))
    def inference_hangs(self, scans: int) -> None:
        """The guard's thread is stuck in a frame while the publisher lives on."""
        captured_ms = self.ms
        for _ in range(scans):
            self.scan(guard=False)
        if self.scene != "dark":
            self.frame(captured_ms)

    @rule(scans=st.sampled_from([1, 5, 10, 30]))
    def plc_stalls(self, scans: int) -> None:
        for _ in range(scans):
            self.scan(plc=False)
        self.plc_turn()

    # ── what people and machines do ─────────────────────────────────────────────────────────────────────────────

    @rule(scene=st.sampled_from(SCENES))
    def camera_shows(self, scene: str) -> None:
        self.scene = scene

    @rule(delay_ms=st.sampled_from([0, 50, 900, 1200]), lost=st.booleans())
    def a_defect_passes(self, delay_ms: int, lost: bool) -> None:
        """And the network is at its worst: what is on the wire comes late, the halt later or never."""
        self.delay_ms = delay_ms
        self.time_passes(delay_ms // SCAN_MS)
        self.scene, self.cut = "bad", lost
        self.time_passes(2)
        self.scene = "good"

    @rule()
    def press_start(self) -> None:
        MET["starts"] += 1
        if self.dog.start(self.ms * MS):
            MET["starts honoured"] += 1
            self.started = True
        assert (self.dog.line is Line.RUNNING) <= self.started

    @rule(stale=st.sampled_from([0, 0, 0, 5, 30]), who=st.sampled_from(["ann", "bo"]))
    def ask_resume(self, stale: int, who: str) -> None:
        halt = self.open_halt.halt if self.open_halt else 1
        nonce = f"{who}{len(self.asked)}"
        asked = ResumeAsked(self.ms * MS, halt, who, nonce, self.boot, max(0, self.seq - stale), self.seq)
        self.asked.append(asked)
        self.handle(asked)

    @rule(copy_of=st.none() | st.integers(0, 50), twice=st.booleans())
    def ask_stop(self, copy_of: int | None, twice: bool) -> None:
        """By a person who needs no name; or an old request again, or one twice, as QoS 1 may deliver it: it must not
        stop the line twice."""
        if copy_of is not None and self.stops:
            known = replace(self.stops[copy_of % len(self.stops)], now_ns=self.ms * MS)
            before = self.open_halt
            self.handle(known)
            assert self.open_halt is before, "a request stops once"
            return
        asked = StopAsked(self.ms * MS, f"stop{self.boot}-{len(self.stops)}")
        self.stops.append(asked)
        self.stop_due = True
        self.handle(asked)
        assert self.guard.state is State.HALTED
        if twice:
            before = self.open_halt
            self.handle(asked)
            assert self.open_halt is before, "a request stops once"

    @rule(scans=st.sampled_from([0, 5, 20]))
    def people_put_it_right(self, scans: int) -> None:
        self.scene, self.cut, self.delay_ms = "good", False, 0
        self.an_engineer_works(0)
        for code in (Code.STORAGE, Code.MODEL, Code.INTERNAL):
            self.fault(code, over=True)
        self.time_passes(10)
        for _ in range(2):  # a stop that waited for the first halt's end is the second
            if self.open_halt:
                self.ask_resume(0, "ann")
        self.time_passes(1)
        self.press_start()
        self.time_passes(scans)

    @precondition(lambda self: self.asked)
    @rule(index=st.integers(0, 50))
    def a_resume_comes_again(self, index: int) -> None:
        """Replayed or queued: the request as it was, at another time."""
        asked = self.asked[index % len(self.asked)]
        before = self.open_halt
        self.handle(replace(asked, now_ns=self.ms * MS, seq_now=self.seq))
        assert self.open_halt is before, "a resume works once"

    @rule(code=st.sampled_from([Code.STORAGE, Code.MODEL, Code.INTERNAL]), over=st.booleans())
    def fault(self, code: Code, over: bool) -> None:
        now_ns = self.ms * MS
        if code is Code.INTERNAL:
            MET["another edge"] += not over
            self.doubled = not over
        self.handle(FaultOver(now_ns, code) if over else FaultFound(now_ns, code, "a fault"))

    @rule(works_ms=st.sampled_from([0, 100, 3000]))
    def an_engineer_works(self, works_ms: int) -> None:
        MET["maintenance"] += works_ms > 0
        self.working_until_ms = self.ms + works_ms
        self.handle(MaintenanceOrdered(self.ms * MS, self.working_until_ms * MS, "eve"))

    @rule(k=st.integers(1, 2))
    def policy_changes(self, k: int) -> None:
        self.policy = replace(self.policy, classes=(replace(self.policy.classes[0], k=k),))
        self.handle(PolicyChanged(self.ms * MS, self.policy))

    @rule(inspection=st.integers(1, 5))
    def part_arrives(self, inspection: int) -> None:
        self.handle(PartArrived(self.ms * MS, f"p{inspection}", inspection, 200, 2))

    # ── what is done to the network and the machines ────────────────────────────────────────────────────────────

    @rule(delay_ms=st.sampled_from([0, 0, 50, 200, 900, 1200, 1300, 3000]))
    def network_delays(self, delay_ms: int) -> None:
        self.delay_ms = delay_ms

    @rule(cut=st.booleans())
    def network_is_cut(self, cut: bool) -> None:
        self.cut = cut

    @rule(every=st.integers(1, 3))
    def network_drops(self, every: int) -> None:
        self.wire = [s for k, s in enumerate(self.wire) if k % every]

    @rule(random=st.randoms(use_true_random=False))
    def network_reorders(self, random: object) -> None:
        random.shuffle(self.wire)  # type: ignore[attr-defined]
        self.wire = [replace(s, due_ms=self.ms) for s in self.wire]

    @precondition(lambda self: self.history)
    @rule(back=st.integers(0, 60), retained=st.booleans())
    def network_replays(self, back: int, retained: bool) -> None:
        """Any permit ever sent, live or as a broker's restored copy."""
        self.receive(self.history[-1 - back % len(self.history)], retained=retained)
        self.check()

    @precondition(lambda self: self.retained)
    @rule()
    def plc_reconnects(self) -> None:
        assert self.retained
        self.receive(self.retained, retained=True)
        self.check()

    @precondition(lambda self: self.asked or self.history)
    @rule(n=st.integers(0, 40))
    def an_old_beat_comes_again(self, n: int) -> None:
        self.echo = max(0, self.dog.hb - n)

    @rule()
    def plc_restarts(self) -> None:
        """Its count is kept and jumps, so that no permit from before echoes a near one."""
        self.dog = Watchdog(LIMITS, self.dog.hb + 1000)
        self.newest = self.valid = None
        self.started = False
        if self.retained:
            self.receive(self.retained, retained=True)
        self.check()

    @rule()
    def edge_restarts(self) -> None:
        self.start_edge()


@pytest.mark.timeout(4 * 3600 if FULL else 120)
def test_a_running_line_has_a_fresh_permit_and_no_open_halt(record_property: Callable[[str, object], None]) -> None:
    MET.clear()
    run_state_machine_as_test(
        Factory,
        settings=settings(
            max_examples=10_000 if FULL else 150,
            stateful_step_count=50,
            deadline=None,
            derandomize=not FULL,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
    print(dict(MET))
    for name, count in MET.items():
        record_property(name, count)
    for needed in (
        "scans while running",
        "-> halted",
        "-> blind",
        "resume accepted",
        "resume refused",
        "maintenance",
        "stop taken",
        "stop was a copy",
        "another edge",
    ):
        assert MET[needed] > 10, f"the histories hardly met: {needed}"
    assert MET["scans between a halt and its trip"] > 0
    assert MET["starts honoured"] < MET["starts"]
