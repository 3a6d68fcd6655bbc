"""Badges: a number from a reader that types like a keyboard, and who it belongs to. For operators only.

Kept is `HMAC-SHA256(key, scrypt(number))` and never the number. The key lies beside the database, not in it: whoever
has the database alone cannot try numbers at all, and whoever has both pays scrypt for each number they try.
A wrong badge names nobody, so tries are counted per screen and for the whole hub. Times are Unix ms.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import threading

from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from inspection.errors import InputError
from review import audit, people, secret_hash, sign_in
from review.language import _
from review.store import BadgeTries, Person, Store

MIN_LENGTH, MAX_LENGTH = 6, 64
"""Characters of a number once everything but letters and digits is gone. Up to 8 digits alone would be a PIN."""
SCRYPT_N, SCRYPT_R, SCRYPT_P = 2**15, 8, 1
"""32 MiB and about 0.2 s for each number, also for whoever tries all of them."""
HOUR_MS = 3_600_000
HUB = "hub"
FREE_OF_HUB = 60
"""So many wrong ones an hour over all screens before every badge waits. A screen has as many as a PIN."""
READER = "badge reader"
"""Who the log names where the badge belongs to nobody."""

_ONE_AT_A_TIME = threading.Lock()


class UnknownBadge(sign_in.WrongSecret):
    """Nobody has this badge."""


def cleaned(read: str) -> str:
    """The number as it is compared: readers differ in case and in what they put around it. InputError when none."""
    number = re.sub(r"[^0-9A-Z]", "", read.upper()) if read.isascii() else ""
    if not MIN_LENGTH <= len(number) <= MAX_LENGTH:
        what = f"has {len(number)} letters and digits"
        raise InputError("badge", what, f"{MIN_LENGTH} to {MAX_LENGTH}: hold it to the reader again")
    if len(number) <= secret_hash.MAX_PIN and number.isdigit():
        raise InputError("badge", "could be a PIN", "set the reader to 10 digits or to hexadecimal")
    if len(set(number)) == 1:
        raise InputError("badge", "is one digit only", "hold it to the reader again")
    return number


def digest(number: str, key: bytes) -> str:
    """What is kept of a cleaned number; the same number and key give the same 64 hex digits."""
    with _ONE_AT_A_TIME:  # each takes 32 MiB: reads that come together must not take the hub's memory
        slow = hashlib.scrypt(
            number.encode(), salt=b"haltline badge", n=SCRYPT_N, r=SCRYPT_R, p=SCRYPT_P, maxmem=2**26, dklen=32
        )
    return hmac.digest(key, slow, "sha256").hex()


def enrol(store: Store, key: bytes, name: str, read: str) -> None:
    """The badge read is this operator's from now on, and the one before no longer. InputError for a badge that is none
    or somebody else's, and for other roles, which need a password."""
    kept = digest(cleaned(read), key)
    with store.writing() as session:
        person = people.find(session, name)
        if person.role != "operator":
            what = f"{name} is {person.role}, whom a password lets in"
            raise InputError("badge", what, "badges are for operators")
        if (owner := _owner(session, kept)) is not None and owner is not person:
            raise InputError(
                "badge", f"is {owner.name}'s", f'first: haltline review user badge "{owner.name}" --revoke'
            )
        replaced, person.badge = person.badge is not None, kept
        people.sign_out(session, person, "new badge")
        audit.note(session, people.COMMAND, "user_badge_set", f"user {name}", replaced=replaced)


def revoke(store: Store, name: str) -> bool:
    """False when there was none. Signs out: it may have been lost."""
    with store.writing() as session:
        person = people.find(session, name)
        if person.badge is None:
            return False
        person.badge = None
        people.sign_out(session, person, "badge revoked")
        audit.note(session, people.COMMAND, "user_badge_revoked", f"user {name}")
        return True


def enter(store: Store, key: bytes, read: str, screen: str, now_ms: int) -> tuple[Person, str]:
    """Whose badge it is and the token for their cookie. `screen`: the address it was read at. Raises UnknownBadge, and
    LockedOut while that screen or the hub has had too many of them."""
    _count_try(store, screen, now_ms)
    try:
        kept = digest(cleaned(read), key)
    except InputError:
        kept = ""
    with store.reading() as session:
        person = _owner(session, kept) if kept else None
    if person is not None:
        _forgive(store, screen, now_ms)
        return person, sign_in.begin(store, person, now_ms, how="badge")
    with store.writing() as session:
        audit.note(session, READER, "login_refused", f"screen {screen}", how="badge")
    raise UnknownBadge(_("nobody here has this badge"))


def _owner(session: Session, kept: str) -> Person | None:
    who = (Person.badge == kept, Person.left_ms.is_(None), Person.role == "operator")
    return session.scalar(select(Person).where(*who))


def _count_try(store: Store, screen: str, now_ms: int) -> None:
    """Counted before it is looked at, as with PINs. A right badge forgives only itself: with one's own badge between
    guesses nobody guesses for ever."""
    with store.writing() as session:
        counters = _counters(session, screen, now_ms)
        if sign_in.is_waiting(until := max(c.until_ms for c, _free in counters), now_ms):
            raise sign_in.LockedOut(-((now_ms - until) // 1000))
        for counter, free in counters:
            counter.failures += 1
            counter.until_ms = now_ms + sign_in.wait_ms(counter.failures, free)
        # Screens that were quiet for an hour: an address is kept no longer than it counts.
        session.execute(delete(BadgeTries).where(BadgeTries.from_ms < now_ms - HOUR_MS, BadgeTries.origin != HUB))


def _forgive(store: Store, screen: str, now_ms: int) -> None:
    with store.writing() as session:
        for counter, _free in _counters(session, screen, now_ms):
            counter.failures, counter.until_ms = max(0, counter.failures - 1), now_ms


def _counters(session: Session, screen: str, now_ms: int) -> list[tuple[BadgeTries, int]]:
    """The hub's and this screen's count within the hour, with how many are free of a wait. The hub's row is always
    there and is locked first, so that two who come together do not both make the screen's."""
    found = [(session.get_one(BadgeTries, HUB, with_for_update=True), FREE_OF_HUB)]
    row = session.get(BadgeTries, origin := f"screen {screen}"[:64])
    if row is None:
        row = BadgeTries(origin=origin, failures=0, until_ms=0, from_ms=now_ms)
        session.add(row)
    found.append((row, sign_in.FREE_TRIES))
    for counter, _free in found:
        if abs(now_ms - counter.from_ms) > HOUR_MS:  # ahead: the hub's clock was set back
            counter.failures, counter.from_ms = 0, now_ms
    return found
