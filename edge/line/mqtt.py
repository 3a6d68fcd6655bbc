"""The line over MQTT: the permit as a level, many times a second, and at once when it changes.

The permit has a connection of its own, so that no evidence can ever queue before it. It lapses by itself: when the
guard has not spoken within its lease, this publisher says run 0, whatever hangs behind it.
"""

from __future__ import annotations

import secrets
import threading
import time
from collections import deque
from collections.abc import Callable

import structlog

from edge.config import MqttConfig
from edge.line.connection import Connection, Received, client_id
from edge.line.outbox import Outbox
from edge.ports import Moment
from inspection.events import (
    Action,
    AnswerResume,
    AnswerStop,
    CountLoss,
    FaultFound,
    FaultOver,
    GiveVerdict,
    PartArrived,
    RaiseHalt,
    ResumeAsked,
    SetPermit,
    StateChanged,
    StopAsked,
)
from inspection.messages import (
    PERMIT_PERIOD_MS,
    PERMIT_SHORT_TOPIC,
    Conn,
    HaltEvent,
    Heartbeat,
    Permit,
    Resume,
    ResumeAnswer,
    Stop,
    StopAnswer,
    Topics,
    Trigger,
    VerdictEvent,
    halt_uid,
    record_uid,
)
from inspection.types import Code, HaltReport, Stages

log = structlog.get_logger()

U32 = 2**32

ECHO_NS = 5 * 10**9
"""Our own `state/conn` comes back within milliseconds; where it does not the broker delivers nothing of it."""
RIVALS, RIVALS_NS = 2, 10 * 10**9
"""Another edge's traces, so many in so long, mean that it runs now. One is there after every restart: our own."""


class MqttLine:
    """Implements `ports.LineControl`. `deliver` receives what the line asks for: stops, resumes and triggers, and
    the fault of a second edge under this one's name."""

    def __init__(
        self,
        config: MqttConfig,
        topics: Topics,
        boot: int,
        outbox: Outbox,
        deliver: Callable[[ResumeAsked | StopAsked | PartArrived | FaultFound | FaultOver], None],
    ) -> None:
        self.topics, self.boot = topics, boot
        self._outbox, self._deliver = outbox, deliver
        self._lock = threading.Lock()
        self._level = SetPermit(False, Code.STARTING, 0, time.monotonic_ns(), 0, changed=True)
        self._seq = 0
        self._echo = 0
        self._wake = threading.Event()
        self._closing = False
        self._sent_ns = 0
        self.lapses = 0
        self._name = secrets.token_hex(4)
        self._rivals: deque[int] = deque(maxlen=RIVALS)
        self._trouble = ""
        self._said_conn_ns = 0
        """When we last said who we are and did not hear it since; 0 once we did."""
        self.unheard: dict[str, str] = {}
        """As `Connection.refused`: of what the broker took the subscription and delivers nothing. Our own `state/conn`
        is all of which we can know; where its rule is wrong those of the other topics are likely to be."""
        self._saying = threading.Lock()
        self._asks = False
        will = (topics.of(Conn), Conn(state="BROKEN", boot=boot, edge=self._name).encode())
        self.connection = Connection(config, client_id(topics), will=will)
        self.connection.on(topics.of(Heartbeat), 0, self._on_heartbeat)
        self.connection.on(topics.of(Stop), 1, self._on_stop)
        self.connection.on(topics.of(Resume), 1, self._on_resume)
        self.connection.on(topics.of(Trigger), 1, self._on_trigger)
        self.connection.on(topics.of(Conn), 1, self._on_conn)
        self.connection.on_up(self._on_up)
        self._thread = threading.Thread(target=self._publish_forever, name="permit", daemon=True)

    def start(self) -> None:
        self.connection.start()
        self._thread.start()

    def close(self) -> None:
        """Say goodbye: run 0, OFFLINE. A crash says BROKEN instead, by the will."""
        with self._lock:
            self._closing = True  # the guard may still speak, and has nothing to say any more
            self._level = SetPermit(False, Code.STARTING, self._level.halt, self._level.judged_ns, 0, changed=True)
            self._publish(time.monotonic_ns())
        self._wake.set()
        self._thread.join(timeout=2)
        self._publish_conn("OFFLINE")
        self.connection.stop()

    def alive(self, now_ns: int) -> bool:
        """Whether the guard has spoken within its lease and the permit leaves in time, be it run or halt."""
        with self._lock:
            return not self._lapsed(now_ns) and now_ns - self._sent_ns < 4 * PERMIT_PERIOD_MS * 1_000_000

    def carry_out(self, action: Action, moment: Moment) -> None:
        """Never blocks, never raises: the frame path must go on, and the permit's lease covers what fails here."""
        try:
            self._carry_out(action, moment)
        except Exception:
            log.exception("line action failed", action=type(action).__name__)

    def _carry_out(self, action: Action, moment: Moment) -> None:
        match action:
            case SetPermit():
                self._set_level(action)
            case RaiseHalt(report):
                event = halt_event(report, self.topics, self.boot, moment, self._sent_ns)
                log.warning("HALT", halt=report.halt, reason=report.reason, stages_ms=event.stages_ms)
                self._outbox.publish_event(event)
            case GiveVerdict():
                self._tell(_verdict(action))
            case AnswerResume():
                log.info("resume", halt=action.halt, who=action.who, accepted=action.accepted, why=action.why)
                self._tell(_answer(action))
            case AnswerStop():
                log.warning("stop requested", who=action.who, halt=action.open and action.open.halt, why=action.why)
                self._tell(_stop_answer(action))
            case StateChanged(old, new, why):
                log.info("guard", old=old.value, new=new.value, why=why)
            case CountLoss():
                pass  # the recorder counts it
            case _:
                pass  # Keep is the recorder's

    def _tell(self, answer: VerdictEvent | ResumeAnswer | StopAnswer) -> None:
        """Somebody waits for it, it says who resumed, and no spool brings it later: where its own way is down it goes
        the permit's."""
        if not self._outbox.publish_event(answer):
            topic = self.topics.of(type(answer))
            if not self.connection.publish(topic, answer.encode(), answer.QOS, answer.RETAIN, answer.EXPIRY_S):
                log.warning("answer not sent", answer=repr(answer))

    # ── the permit ──────────────────────────────────────────────────────────────────────────────────────────────

    def _set_level(self, level: SetPermit) -> None:
        with self._lock:
            if self._closing:
                return
            lapsed = self._lapsed(time.monotonic_ns())
            self._level = level
            if level.changed or lapsed:
                self._publish(time.monotonic_ns())
        if level.changed:
            self._wake.set()

    def _lapsed(self, now_ns: int) -> bool:
        return now_ns > self._level.good_until_ns

    def _publish_forever(self) -> None:
        """Every 250 ms, and at the very moment a lease ends. Supervises the connections as well."""
        supervised_ns = 0
        while not self._closing:
            now_ns = time.monotonic_ns()
            with self._lock:
                self._publish(now_ns)
                until_lapse_ns = self._level.good_until_ns - now_ns
            if now_ns - supervised_ns > 1_000_000_000:
                supervised_ns = now_ns
                self.connection.supervise()
                self._outbox.connection.supervise()
                self._say_trouble(now_ns)
            wait_s = PERMIT_PERIOD_MS / 1000
            if 0 <= until_lapse_ns < PERMIT_PERIOD_MS * 1_000_000:
                wait_s = until_lapse_ns / 1e9 + 0.001
            self._wake.wait(wait_s)
            self._wake.clear()

    def _publish(self, now_ns: int) -> None:
        """Send the level as of now; the lock is held."""
        level = self._level
        run, code = level.run, level.code
        if run and self._lapsed(now_ns):
            run, code = False, Code.INTERNAL
            self.lapses += 1
        self._seq = (self._seq + 1) % U32
        permit = Permit(
            boot=self.boot,
            seq=self._seq,
            run=1 if run else 0,
            code=int(code),
            halt=level.halt,
            echo=self._echo,
            age_ms=min(U32 - 1, max(0, (now_ns - level.judged_ns) // 1_000_000)),
            ts_ms=time.time_ns() // 1_000_000,
        )
        # Whether the broker lets permits through it says of QoS 1 alone: one at each connect, and while it does not.
        qos = int(self._asks)
        if self.connection.publish(self.topics.of(Permit), permit.encode(), qos, True, Permit.EXPIRY_S):
            self._asks = False
        self._sent_ns = time.monotonic_ns()
        self.connection.publish(self.topics.of(PERMIT_SHORT_TOPIC), permit.short(), expiry_s=Permit.EXPIRY_S)

    # ── what the line sends ─────────────────────────────────────────────────────────────────────────────────────

    def _on_up(self) -> None:
        self._publish_conn("ONLINE")
        self._said_conn_ns = time.monotonic_ns()
        self._asks = True
        self._wake.set()

    def _on_conn(self, received: Received) -> None:
        """Two edges under one name throw each other out in turns, and each finds the other's word or will when it
        comes back. Nobody knows then whose picture the permit is about, so neither may give it."""
        if Conn.decode(received.payload).edge == self._name:
            self._said_conn_ns = 0
            if self.unheard:
                log.info("the broker delivers again", topic=received.topic)
            self.unheard = {}
            return
        now_ns = time.monotonic_ns()
        self._rivals.append(now_ns)
        if self._is_doubled(now_ns):
            self._say_trouble(now_ns)

    def _is_doubled(self, now_ns: int) -> bool:
        """Also until nothing was heard of the other for as long."""
        often = len(self._rivals) == RIVALS and self._rivals[-1] - self._rivals[0] <= RIVALS_NS
        return often and now_ns - self._rivals[-1] <= RIVALS_NS

    def _say_trouble(self, now_ns: int) -> None:
        """Why nobody can rely on this edge's permit, as a fault, each time that it is another reason: a line whose stop
        key reaches nobody must not run, and an edge that nobody hears must not say that it does."""
        refused, conn = self.connection.refused, self.topics.of(Conn)
        if f"send {conn}" in refused:
            self._publish_conn("ONLINE")
        elif self._said_conn_ns and self.connection.connected and f"hear {conn}" not in refused:
            self._look_for_echo(now_ns)
        permit = f"send {self.topics.of(Permit)}"
        self._asks |= permit in refused
        with self._saying:
            why = f"another edge runs as {self.topics.base}" if self._is_doubled(now_ns) else ""
            for what in (f"hear {self.topics.of(Stop)}", permit):
                if what in refused:
                    why = why or f"the broker does not let this edge {what}: {refused[what]}"
            if why == self._trouble:
                return
            self._trouble = why
            if why:
                log.error("no permit", why=why)
            self._deliver(FaultFound(now_ns, Code.INTERNAL, why) if why else FaultOver(now_ns, Code.INTERNAL))

    def _look_for_echo(self, now_ns: int) -> None:
        if now_ns - self._said_conn_ns <= ECHO_NS:
            return
        topic = self.topics.of(Conn)
        if not self.unheard:
            fix = "let it read what deploy/mosquitto/haltline.acl does; `haltline edge doctor` says what else is silent"
            log.error("the broker takes this edge's subscription and delivers nothing of it", topic=topic, fix=fix)
        self.unheard = {f"hear {topic}": "subscribed, and nothing comes"}
        self._publish_conn("ONLINE")  # heard as soon as the rules are mended
        self._said_conn_ns = now_ns

    def _publish_conn(self, state: str) -> None:
        conn = Conn.model_validate({"state": state, "boot": self.boot, "edge": self._name})
        self.connection.publish(self.topics.of(Conn), conn.encode(), qos=1, retain=True)

    def _on_heartbeat(self, received: Received) -> None:
        self._echo = Heartbeat.decode(received.payload).n

    def _on_resume(self, received: Received) -> None:
        if received.retained:  # an order of unknown age: a resume is never taken from the broker's memory
            log.warning("retained resume ignored", topic=received.topic)
            return
        r = Resume.decode(received.payload)
        self._deliver(ResumeAsked(time.monotonic_ns(), r.halt, r.who, r.nonce, r.boot, r.seq, self._seq))

    def _on_stop(self, received: Received) -> None:
        if received.retained:  # it would come with every reconnect and stop the line again after each reset
            log.warning("retained stop ignored", topic=received.topic)
            return
        s = Stop.decode(received.payload)
        self._deliver(StopAsked(time.monotonic_ns(), s.nonce, s.who, s.why))

    def _on_trigger(self, received: Received) -> None:
        if received.retained:
            log.warning("retained trigger ignored", topic=received.topic)
            return
        t = Trigger.decode(received.payload)
        self._deliver(PartArrived(time.monotonic_ns(), t.part, t.inspection, t.deadline_ms, t.frames))


def halt_event(report: HaltReport, topics: Topics, boot: int, moment: Moment, sent_ns: int) -> HaltEvent:
    """The halt for people: what was seen, by which model under which policy, and where the time went."""
    s = moment.stages
    camera = moment.frame.camera if moment.frame else ""
    stages = Stages(s.captured_ns, s.taken_ns, s.inferred_ns, s.decided_ns, sent_ns)
    return HaltEvent(
        halt=report.halt,
        uid=halt_uid(topics.base, report.halt),
        code=int(report.code),
        reason=report.reason[:400],
        cls=report.cls,
        score=report.score,
        limit=report.limit,
        length_mm=report.length_mm,
        limit_mm=report.limit_mm,
        frame_id=report.frame_id,
        part=report.part,
        model=moment.model,
        policy=moment.policy,
        records=(record_uid(topics.base, boot, camera, report.frame_id),) if camera else (),
        stages_ms=stages.ms(),
        ts_ms=moment.frame.wall_ms if moment.frame else time.time_ns() // 1_000_000,
    )


def _verdict(v: GiveVerdict) -> VerdictEvent:
    return VerdictEvent(
        part=v.part,
        inspection=v.inspection,
        verdict=v.verdict.value,
        cls=v.cls,
        score=v.score,
        length_mm=v.length_mm,
        frames=v.frames,
        why=v.why,
        ts_ms=time.time_ns() // 1_000_000,
    )


def _answer(a: AnswerResume) -> ResumeAnswer:
    return ResumeAnswer(
        halt=a.halt, who=a.who, nonce=a.nonce, accepted=a.accepted, why=a.why[:400], ts_ms=time.time_ns() // 1_000_000
    )


def _stop_answer(a: AnswerStop) -> StopAnswer:
    halt = a.open.halt if a.open else 0
    return StopAnswer(halt=halt, who=a.who, nonce=a.nonce, why=a.why[:400], ts_ms=time.time_ns() // 1_000_000)
