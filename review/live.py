"""What every station does right now, in memory only: permits arrive four times a second and are never stored.

A station counts as inspecting only while fresh permits arrive *here*. A retained one proves nothing about now.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum

from inspection.live_picture import LivePicture
from inspection.messages import Conn, ModelReported, Permit, PlcState, StopAnswer, Topics
from inspection.station_messages import About, CameraAnswer
from inspection.types import Code
from review.clock import wall_ms
from review.fault_kinds import KINDS, OTHER, kind_of
from review.language import N_, _, number, raw

PERMIT_STALE_MS = 1500
"""Six missed permits. The PLC trips at 1,000 ms; the page must not claim less than it knows for longer."""
PLC_STALE_MS = 3000
ABOUT_STALE_MS = 150_000
"""An edge tells about itself once a minute; what is older says nothing about now."""
STOPS_KEPT = 16
NEVER_MS = 10**12


class Mode(StrEnum):
    """What a station is shown as. Every mode has an icon, a word and a colour of its own."""

    RUNNING = "running"
    STOPPED = "stopped"
    HALTED = "halted"
    BLIND = "blind"


@dataclass(frozen=True, slots=True)
class Shown:
    """`why` says in one line what a person would ask next."""

    mode: Mode
    word: str
    why: str


@dataclass(frozen=True, slots=True)
class Seen:
    """A camera's picture and when it came, by this machine's monotonic clock."""

    picture: LivePicture
    at_ns: int


@dataclass(frozen=True, slots=True)
class Now:
    """One station's newest facts. `*_ns` are this machine's monotonic clock, 0 = never."""

    topics: Topics
    permit: Permit | None = None
    permit_ns: int = 0
    conn: Conn | None = None
    plc: PlcState | None = None
    plc_ns: int = 0
    model: ModelReported | None = None
    picture: LivePicture | None = None
    """The newest of the first camera by name: what stands for the station."""
    picture_ns: int = 0
    pictures: Mapping[str, Seen] = field(default_factory=dict)
    """The newest of each camera."""
    about: About | None = None
    about_ns: int = 0
    answers: Mapping[str, CameraAnswer] = field(default_factory=dict)
    """Each camera's last test."""
    stops: tuple[StopAnswer, ...] = ()
    """The last answers to requested stops."""
    skew_ms: int | None = None
    """How far the edge's clock is ahead of the hub's; what a message was under way (ms) makes it look late."""

    @property
    def key(self) -> str:
        return f"{self.topics.site}~{self.topics.line}~{self.topics.station}"

    def permit_age_ms(self, now_ns: int) -> int:
        return _age_ms(self.permit_ns, now_ns)

    def picture_age_ms(self, now_ns: int) -> int:
        return _age_ms(self.picture_ns, now_ns)

    def plc_silent(self, now_ns: int) -> bool:
        return _age_ms(self.plc_ns, now_ns) > PLC_STALE_MS

    def tells(self, now_ns: int) -> bool:
        """Whether what the edge tells of itself is of now."""
        return self.about is not None and _age_ms(self.about_ns, now_ns) <= ABOUT_STALE_MS


def _age_ms(at_ns: int, now_ns: int) -> int:
    return (now_ns - at_ns) // 1_000_000 if at_ns else NEVER_MS


UNKEPT = {
    "state": N_("an open halt would not outlive a restart"),
    "spool": N_("evidence cannot be stored"),
    "maintenance": N_("an order for maintenance cannot be read"),
    "upload": N_("evidence stays on the edge"),
}
"""Section of an edge's facts -> what its `trouble` means."""


def unkept(now: Now) -> list[str]:
    """What the edge's disk or state folder does not let it do, and why in the edge's words."""
    facts = now.about.facts if now.about else {}
    told = [(words, facts[what].get("trouble")) for what, words in UNKEPT.items() if isinstance(facts.get(what), dict)]
    return [f"{raw(words)}: {why}"[:400] for words, why in told if why and why != "none"]


BLIND_WHY = {
    Code.OK: N_("the edge gives no permit and says no reason"),
    Code.DEFECT: N_("the edge gives no permit"),
    Code.CAMERA: N_("camera: no picture that can be judged"),
    Code.MODEL: N_("model: it cannot judge pictures"),
    Code.STORAGE: N_("storage: evidence cannot be kept"),
    Code.STARTING: N_("the edge is starting"),
    Code.INTERNAL: N_("a fault inside the edge"),
    Code.STOP: N_("a stop was requested"),
    Code.MAINTENANCE: N_("maintenance: somebody works at the station"),
}


def shown(now: Now, now_ns: int) -> Shown:
    """What to show for a station. Silence is never shown as running."""
    permit, age_ms = now.permit, now.permit_age_ms(now_ns)
    if permit is None or age_ms > PERMIT_STALE_MS:
        return Shown(Mode.BLIND, _("NOT INSPECTING"), _why_silent(now, age_ms))
    if permit.halt:
        return Shown(Mode.HALTED, _("HALTED"), _("halt %(n)s: the line has no permit to run", n=permit.halt))
    if not permit.run:
        return Shown(Mode.BLIND, _("NOT INSPECTING"), _why_blind(now, permit, now_ns))
    if permit.code:
        why = _("%(why)s; this site lets the line run on", why=_why_blind(now, permit, now_ns))
        return Shown(Mode.BLIND, _("NOT INSPECTING"), why)
    return _line(now, now_ns)


def _why_blind(now: Now, permit: Permit, now_ns: int) -> str:
    """An edge of a later version may have a reason that this hub does not know."""
    # One that has not seen since its start will not by itself where a camera has a reason.
    if permit.code in (Code.CAMERA, Code.STARTING) and (why := unseen(now, now_ns)):
        return why
    words = raw(BLIND_WHY[Code(permit.code if permit.code in BLIND_WHY else Code.DEFECT)])
    words_of_edge = said(now, permit.code, now_ns)
    return f"{words} ({words_of_edge})" if words_of_edge else words


def cannot_see(now: Now, *, optional: bool) -> list[tuple[str, str]]:
    """(camera, why it cannot be judged, in the edge's words) of the optional cameras, or of those that must see."""
    cameras = now.about.facts.get("cameras") if now.about else None
    facts = [(name, f) for name, f in cameras.items() if isinstance(f, dict)] if isinstance(cameras, dict) else []
    whys = [(name, str(f.get("blind", "no"))) for name, f in facts if bool(f.get("optional", True)) is optional]
    return [(name, why) for name, why in whys if why != "no"]


def unseen(now: Now, now_ns: int) -> str:
    """Why the cameras that must see do not, by name: what somebody can go and mend. Empty where the edge says none."""
    if not now.tells(now_ns):
        return ""
    found = [f"{name}: {_in_words(why)}" for name, why in cannot_see(now, optional=False)]
    return "; ".join(found)[:400] or said(now, Code.CAMERA, now_ns)  # silence has no picture


def said(now: Now, code: int, now_ns: int) -> str:
    """The edge's own words for why it is blind, if they are of this code: it tells of itself after its permit."""
    guard = now.about.facts.get("guard") if now.about and now.tells(now_ns) else None
    if not isinstance(guard, dict) or guard.get("state") != "blind" or guard.get("code") != code:
        return ""
    return str(guard.get("why", ""))[:400]


def _in_words(why: str) -> str:
    kind = kind_of(why)
    return why if kind == OTHER else f"{raw(KINDS[kind])} ({why.partition(':')[2].strip() or why})"


def _line(now: Now, now_ns: int) -> Shown:
    """The permit is there: what the line makes of it."""
    if now.plc is None:
        return Shown(Mode.RUNNING, _("Inspecting"), _("permit given; this line does not report whether it moves"))
    if now.plc_silent(now_ns):
        return Shown(Mode.STOPPED, _("Line silent"), _("permit given; the line's controller says nothing"))
    if now.plc.state == "RUNNING":
        return Shown(Mode.RUNNING, _("Running"), _("inspecting, permit given"))
    if now.plc.state == "READY":
        return Shown(Mode.STOPPED, _("Ready"), _("permit given: start the line at its own panel"))
    return Shown(
        Mode.STOPPED,
        _("Stopped"),
        _("permit given; the line is tripped: %(why)s", why=now.plc.why or _("reset at its own panel")),
    )


def _why_silent(now: Now, age_ms: int) -> str:
    conn = now.conn.state if now.conn else ""
    words = {"BROKEN": N_("the edge's connection broke"), "OFFLINE": N_("the edge was switched off")}
    said = raw(words.get(conn, N_("no permit")))
    if age_ms >= NEVER_MS:
        return _("%(said)s; never heard", said=said)
    return _("%(said)s; last permit %(s)s s ago", said=said, s=number(age_ms / 1000, 0))


class Live:
    """Filled by the MQTT thread, read by pages. Values are frozen, so a reader never sees half an update."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stations: dict[str, Now] = {}
        self._retired: frozenset[str] = frozenset()

    def retire(self, key: str) -> None:
        """Forget it until it is heard live."""
        with self._lock:
            self._retired |= {key}
            self._stations.pop(key, None)

    def retired(self) -> frozenset[str]:
        return self._retired

    def ignores(self, topics: Topics, *, retained: bool) -> bool:
        """Whether a message is only the broker's memory of a retired station; a live one ends its retirement."""
        if not self._retired or (key := Now(topics).key) not in self._retired:
            return False
        if not retained:
            with self._lock:
                self._retired -= {key}
        return retained

    def stations(self) -> list[Now]:
        with self._lock:
            return sorted(self._stations.values(), key=lambda now: now.key)

    def get(self, key: str) -> Now | None:
        with self._lock:
            return self._stations.get(key)

    def know(self, topics: Topics, conn: Conn | None = None, plc: PlcState | None = None) -> None:
        """A station the database knows: shown, as not inspecting, before its first message."""
        with self._lock:
            now = Now(topics, conn=conn, plc=plc)
            self._stations.setdefault(now.key, now)

    def permit(self, topics: Topics, permit: Permit, now_ns: int) -> None:
        self._update(topics, permit=permit, permit_ns=now_ns, skew_ms=permit.ts_ms - wall_ms())

    def conn(self, topics: Topics, conn: Conn) -> None:
        self._update(topics, conn=conn)

    def plc(self, topics: Topics, plc: PlcState) -> None:
        self._update(topics, plc=plc)

    def heartbeat(self, topics: Topics, now_ns: int) -> None:
        self._update(topics, plc_ns=now_ns)

    def model(self, topics: Topics, model: ModelReported) -> None:
        self._update(topics, model=model)

    def picture(self, topics: Topics, picture: LivePicture, now_ns: int) -> None:
        with self._lock:
            before = self._stations.get(Now(topics).key) or Now(topics)
            pictures = {**before.pictures, picture.camera: Seen(picture, now_ns)}
            first = pictures[min(pictures)]
            after = replace(before, pictures=pictures, picture=first.picture, picture_ns=first.at_ns)
            self._stations[after.key] = after

    def about(self, topics: Topics, about: About, now_ns: int) -> None:
        self._update(topics, about=about, about_ns=now_ns)

    def answer(self, topics: Topics, answer: CameraAnswer) -> None:
        with self._lock:
            before = self._stations.get(Now(topics).key) or Now(topics)
            self._stations[before.key] = replace(before, answers={**before.answers, answer.camera: answer})

    def stop_answer(self, topics: Topics, answer: StopAnswer) -> None:
        with self._lock:
            before = self._stations.get(Now(topics).key) or Now(topics)
            self._stations[before.key] = replace(before, stops=(*before.stops, answer)[-STOPS_KEPT:])

    def _update(self, topics: Topics, **facts: object) -> None:
        with self._lock:
            key = Now(topics).key
            self._stations[key] = replace(self._stations.get(key) or Now(topics), **facts)  # type: ignore[arg-type]
