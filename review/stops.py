"""A stop that somebody asks for at a page. It needs no login, and the answer says what is known of it and no more.

A quality stop, never a safety function (docs/decisions/0001): what stops the machine is its controller, and a page can
only say that the edge took the request and that its permit is gone.
"""

from __future__ import annotations

import asyncio
import secrets
import time
from dataclasses import dataclass

import structlog

from inspection.messages import Stop, Topics
from inspection.stop import SOMEBODY
from review import audit
from review.clock import wall_ms
from review.hub import Hub
from review.language import _, number
from review.live import PERMIT_STALE_MS, Now

log = structlog.get_logger("review.stops")

CONFIRM_S = 2.0
"""So long the person waits at most. An edge answers in a few frames, and a permit comes every 250 ms."""
REPEAT_S = 0.5
LOOK_S = 0.01


@dataclass(frozen=True, slots=True)
class Outcome:
    """`confirmed`: the edge said that it took the request, and a permit with run 0 came after the press. `after_ms`:
    from the press until both were here, or until nothing more was waited for. `ran`: there was a permit to withdraw.
    `sent`: the broker may have it, so it may still arrive. `why`: what is missing, in the reader's words. `halt`: the
    edge's number of the halt that holds the line."""

    confirmed: bool
    after_ms: int
    ran: bool
    sent: bool = True
    why: str = ""
    halt: int = 0
    nonce: str = ""


async def ask(hub: Hub, topics: Topics, who: str) -> Outcome:
    """Sends the request until the edge answers, at most CONFIRM_S. Waits for neither disk nor database."""
    key, began_ns = Now(topics).key, time.monotonic_ns()
    before = hub.live.get(key)
    ran = before is not None and _permitted(before, began_ns)
    request = Stop(nonce=secrets.token_urlsafe(16), who=who[:64], ts_ms=wall_ms())

    def after_ms() -> int:
        return (time.monotonic_ns() - began_ns) // 1_000_000

    repeat_ms, sent = 0, False
    while after_ms() < CONFIRM_S * 1000:
        if after_ms() >= repeat_ms:
            # The same request, which stops once: the first may have met an edge that was just connecting again.
            repeat_ms += round(REPEAT_S * 1000)
            if not hub.publish(topics, request):
                why = _("the hub has lost the broker") if sent else _("not sent: the hub has lost the broker")
                return Outcome(confirmed=False, after_ms=after_ms(), ran=ran, sent=sent, why=why, nonce=request.nonce)
            sent = True
        halt = _confirmed(hub.live.get(key), request.nonce, began_ns)
        if halt:
            return Outcome(confirmed=True, after_ms=after_ms(), ran=ran, halt=halt, nonce=request.nonce)
        await asyncio.sleep(LOOK_S)
    why = _missing(hub.live.get(key), time.monotonic_ns())
    return Outcome(confirmed=False, after_ms=after_ms(), ran=ran, why=why, nonce=request.nonce)


def note(hub: Hub, key: str, who: str, host: str, outcome: Outcome) -> None:
    """For the audit log, once the person has been answered: a stop does not wait for a disk."""
    told: dict[str, object] = {"confirmed": outcome.confirmed, "after_ms": outcome.after_ms, "sent": outcome.sent}
    told |= {"why": outcome.why, "halt": outcome.halt}
    try:
        with hub.store.writing() as session:
            audit.note(
                session, who or SOMEBODY, "stop_requested", f"station {key}", nonce=outcome.nonce, host=host, **told
            )
    except Exception:
        log.exception("a requested stop is not in the audit log", station=key, who=who, host=host, **told)


def _permitted(now: Now, now_ns: int) -> bool:
    return now.permit is not None and now.permit.run == 1 and now.permit_age_ms(now_ns) <= PERMIT_STALE_MS


def _confirmed(now: Now | None, nonce: str, began_ns: int) -> int:
    """The halt that holds the line since this request, 0 as long as that is not known."""
    if now is None or now.permit is None or now.permit_ns < began_ns or now.permit.run:
        return 0
    return next((answer.halt for answer in now.stops if answer.nonce == nonce), 0)


def _missing(now: Now | None, now_ns: int) -> str:
    if now is None or now.permit is None or (age_ms := now.permit_age_ms(now_ns)) > PERMIT_STALE_MS:
        s = number(age_ms / 1000, 0) if now and now.permit else None
        return _("the edge is silent: no permit for %(s)s s", s=s) if s else _("the edge has not been heard")
    if now.permit.run:
        return _("the edge still gives its permit")
    return _("there is no permit at the moment, but the edge has not said that it took the request")
