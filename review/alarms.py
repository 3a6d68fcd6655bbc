"""The life of an alarm, as a table. Pure; the names are those of ISA-18.2 and OPC UA Part 9, for a latching halt.

    ACTIVE_UNACKED --ack--> ACTIVE_ACKED --reset asked--> RESET_REQUESTED --accepted--> RESET --gone--> CLOSED
                                 ^-------- refused, unanswered --------'
    ACTIVE_UNACKED --accepted, gone--> CLEARED_UNACKED --ack--> CLEARED_ACKED --verdict--> CLOSED
    ACTIVE_ACKED   --accepted, gone--> CLEARED_ACKED

Active: the edge holds the halt. Cleared: it let go without this page, by a reset at the machine's own panel.
Acknowledging, judging and resetting are three facts, each with who and when. An alarm never reactivates.
"""

from __future__ import annotations

from enum import StrEnum

from inspection.types import Code
from review.language import _


class State(StrEnum):
    ACTIVE_UNACKED = "ACTIVE_UNACKED"
    ACTIVE_ACKED = "ACTIVE_ACKED"
    RESET_REQUESTED = "RESET_REQUESTED"
    RESET = "RESET"
    CLEARED_UNACKED = "CLEARED_UNACKED"
    CLEARED_ACKED = "CLEARED_ACKED"
    CLOSED = "CLOSED"


class Cause(StrEnum):
    ACK = "ack"  # a person has seen it
    VERDICT = "verdict"  # a person said what it was; a later one replaces it, also when the alarm is closed
    UNDONE = "undone"  # a person took back the verdict just given: what was said before holds again
    RESET_ASKED = "reset_asked"  # a person asked the edge to let go
    ACCEPTED = "accepted"  # the edge let go because somebody asked
    REFUSED = "refused"  # the edge did not, and said why
    UNANSWERED = "unanswered"  # the edge said nothing in time
    GONE = "gone"  # a fresh permit no longer names this halt
    STOP_ASKED = "stop_asked"  # a person asked for a stop; no state of its own
    REALARMED = "realarmed"  # nobody acknowledged in time, or its suppression ended: it calls again
    # Only of a station's own alarms; a halt knows neither.
    RAISED = "raised"  # its condition has lasted long enough
    SUPPRESSED = "suppressed"  # a rule's condition holds: it calls nobody; beside the state, not one of its own
    RELEASED = "released"  # no rule holds any more


class Verdict(StrEnum):
    """What a person says the halt was."""

    REAL = "real"
    FALSE_CALL = "false_call"
    UNSURE = "unsure"


TABLE: dict[tuple[State, Cause], State] = {
    (State.ACTIVE_UNACKED, Cause.ACK): State.ACTIVE_ACKED,
    (State.ACTIVE_UNACKED, Cause.ACCEPTED): State.CLEARED_UNACKED,
    (State.ACTIVE_UNACKED, Cause.GONE): State.CLEARED_UNACKED,
    (State.ACTIVE_ACKED, Cause.RESET_ASKED): State.RESET_REQUESTED,
    (State.ACTIVE_ACKED, Cause.ACCEPTED): State.CLEARED_ACKED,
    (State.ACTIVE_ACKED, Cause.GONE): State.CLEARED_ACKED,
    (State.RESET_REQUESTED, Cause.ACCEPTED): State.RESET,
    (State.RESET_REQUESTED, Cause.REFUSED): State.ACTIVE_ACKED,
    (State.RESET_REQUESTED, Cause.UNANSWERED): State.ACTIVE_ACKED,
    # The permit and the answer travel on two connections: either may be first.
    (State.RESET_REQUESTED, Cause.GONE): State.CLOSED,
    (State.RESET, Cause.GONE): State.CLOSED,
    (State.CLEARED_UNACKED, Cause.ACK): State.CLEARED_ACKED,
    (State.CLEARED_ACKED, Cause.VERDICT): State.CLOSED,
}
"""A pair that is not listed changes nothing."""

FAULT_TABLE: dict[tuple[State, Cause], State] = {
    (State.ACTIVE_UNACKED, Cause.ACK): State.ACTIVE_ACKED,
    (State.ACTIVE_UNACKED, Cause.GONE): State.CLEARED_UNACKED,
    (State.ACTIVE_ACKED, Cause.GONE): State.CLOSED,
    (State.CLEARED_UNACKED, Cause.ACK): State.CLOSED,
    # Seen before it was suppressed, and still there afterwards: seen is not for ever.
    (State.ACTIVE_ACKED, Cause.RELEASED): State.ACTIVE_UNACKED,
}
"""A station's own alarm: it does not latch and nobody judges it. Shelves and rules lie beside its state."""

UNACKED = frozenset({State.ACTIVE_UNACKED, State.CLEARED_UNACKED})
OPEN = frozenset(set(State) - {State.CLOSED})
"""For queries: "not closed" would read every alarm there ever was, a list of states reads the open ones."""
ACTIVE = frozenset({State.ACTIVE_UNACKED, State.ACTIVE_ACKED, State.RESET_REQUESTED, State.RESET})


def is_judged(code: int, verdict: str | None) -> bool:
    """Whether nothing is left to say about it: a stop that a person asked for is neither real nor a false call."""
    return verdict is not None or code == Code.STOP


def step(state: State, cause: Cause, *, judged: bool) -> State:
    """The state after `cause`. `judged`: a verdict has been given (counting this cause)."""
    after = TABLE.get((state, cause), state)
    # Nothing is left to ask about an alarm that is over, seen and judged.
    return State.CLOSED if after is State.CLEARED_ACKED and judged else after


def fault_step(state: State, cause: Cause, *, called: bool) -> State:
    """The state of a station's own alarm after `cause`. `called`: it has called somebody; one that came and went while
    suppressed asks nobody anything."""
    after = FAULT_TABLE.get((state, cause), state)
    return State.CLOSED if after is State.CLEARED_UNACKED and not called else after


def why_not(state: State, cause: Cause, *, judged: bool) -> str:
    """Why a person cannot do this now, in words for the page; empty when they can."""
    if state is State.CLOSED:
        return "" if cause is Cause.VERDICT else _("this halt is closed")
    if cause is Cause.ACK:
        return "" if state in UNACKED else _("already acknowledged")
    if cause is Cause.VERDICT:
        return _("acknowledge first") if state in UNACKED else ""
    if cause is Cause.RESET_ASKED:
        return _why_no_reset(state, judged=judged)
    return "" if (state, cause) in TABLE else _("%(cause)s means nothing while %(state)s", cause=cause, state=state)


def why_no_undo(state: State, newest: str, was: str | None) -> str:
    """Why the verdict cannot be taken back; empty when it can. `newest`: the newest fact's kind; `was`: the verdict
    before it. A closed alarm never opens again, so its verdict can be another one but not none."""
    if newest != Cause.VERDICT:
        return _("only a verdict is taken back, and only while it is the newest act")
    if state is State.CLOSED and was is None:
        return _("this halt is closed: judge it anew instead")
    return ""


def _why_no_reset(state: State, *, judged: bool) -> str:
    if state in UNACKED:
        return _("acknowledge and judge first")
    if state in (State.RESET_REQUESTED, State.RESET):
        return _("a reset has been asked for")
    if state is State.CLEARED_ACKED:
        return _("the machine's own panel has reset it already")
    return "" if judged else _("say first what it was: real, false call or unsure")
