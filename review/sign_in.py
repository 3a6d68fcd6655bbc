"""Signing in: a name tile and a secret make a row here and a random token in the cookie.

Reading the Line page and a halt needs none of this: an emergency never waits for a PIN. Times are Unix ms.
"""

from __future__ import annotations

import hashlib
import secrets

from sqlalchemy import select, update

from inspection.errors import HaltlineError
from review import audit, secret_hash
from review.language import _, raw
from review.store import Lockout, Person, SignIn, Store

FREE_TRIES = 3
"""Gloves slip; from the fourth wrong secret in a row on, each costs twice the wait of the one before."""
FIRST_WAIT_S = 5
LONGEST_WAIT_S = 15 * 60
SHIFT_MS = 12 * 3600 * 1000
"""A shift and its handover: nobody stays signed in for longer."""
TOUCH_MS = 60_000
"""How exactly it is known when somebody last acted; each finer step would be one more write."""


class WrongSecret(HaltlineError):
    """That was not it."""


class LockedOut(HaltlineError):
    """Too many wrong secrets; `wait_s` until the next one is looked at."""

    def __init__(self, wait_s: int) -> None:
        self.wait_s = wait_s
        super().__init__(_("too many wrong tries: wait %(s)s s", s=wait_s))


class NoSecretYet(HaltlineError):
    """This person has none and this is no demonstration."""


def wait_ms(failures: int, free: int = FREE_TRIES) -> int:
    """How long nothing is looked at after that many wrong secrets in a row."""
    over = failures - free
    return 0 if over <= 0 else 1000 * min(LONGEST_WAIT_S, FIRST_WAIT_S * 2 ** min(over - 1, 30))


def is_waiting(until_ms: int, now_ms: int) -> bool:
    """Not where it is longer than any wait: the hub's clock was ahead, and it would last until it is so late again."""
    return now_ms < until_ms <= now_ms + 1000 * LONGEST_WAIT_S


def enter(store: Store, person: Person, secret: str, now_ms: int, *, names_suffice: bool) -> str:
    """The token for the cookie. `names_suffice`: in a demonstration a person without a secret needs none."""
    if person.secret_hash is None:
        if not names_suffice:
            raise NoSecretYet(
                _("%(name)s has no %(kind)s yet", name=person.name, kind=raw(secret_hash.kind_for(person.role)))
            )
        return begin(store, person, now_ms, how="name")
    _count_try(store, person, now_ms)
    if secret_hash.matches(secret, person.secret_hash):
        return begin(store, person, now_ms, how=secret_hash.kind_for(person.role))
    with store.writing() as session:
        how = secret_hash.kind_for(person.role)
        audit.note(session, person.name, "login_refused", f"user {person.name}", how=how)
    raise WrongSecret(
        _("that is not the %(kind)s of %(name)s", kind=raw(secret_hash.kind_for(person.role)), name=person.name)
    )


def begin(store: Store, person: Person, now_ms: int, how: str) -> str:
    """Signed in. `how`, for the log: name, PIN, password or badge."""
    token = secrets.token_urlsafe(32)
    with store.writing() as session:
        # A badge says nothing about who knows the PIN: wrong ones before it count on.
        if how != "badge" and (lock := session.get(Lockout, person.id)) is not None:
            session.delete(lock)
        session.add(
            SignIn(token_sha256=_sha(token), person_id=person.id, created_ms=now_ms, seen_ms=now_ms, ended_why="")
        )
        audit.note(session, person.name, "login", f"user {person.name}", how=how)
    return token


def who_is(store: Store, token: str, now_ms: int, idle_ms: int) -> tuple[Person, SignIn] | None:
    """Whoever this token belongs to, while the sign-in holds and the person still works here."""
    with store.reading() as session:
        row = session.scalar(select(SignIn).where(SignIn.token_sha256 == _sha(token), SignIn.ended_ms.is_(None)))
    if row is None or row.person.left_ms is not None:
        return None
    if now_ms - row.seen_ms > idle_ms or now_ms - row.created_ms > SHIFT_MS:
        return None
    return row.person, row


def seen(store: Store, row: SignIn, now_ms: int) -> None:
    """This person has just done something. Refetches of an open page are not that, or no panel would ever be idle."""
    if now_ms - row.seen_ms > TOUCH_MS:
        with store.writing() as session:
            session.execute(update(SignIn).where(SignIn.id == row.id).values(seen_ms=now_ms))


def leave(store: Store, token: str, now_ms: int) -> None:
    with store.writing() as session:
        row = session.scalar(select(SignIn).where(SignIn.token_sha256 == _sha(token), SignIn.ended_ms.is_(None)))
        if row is not None:
            row.ended_ms, row.ended_why = now_ms, "signed out"
            audit.note(session, row.person.name, "logout", f"user {row.person.name}")


def _count_try(store: Store, person: Person, now_ms: int) -> None:
    """Counted before the secret is looked at: guesses that come together must not share one count."""
    with store.writing() as session:
        lock = session.get(Lockout, person.id, with_for_update=True)
        if lock is None:
            lock = Lockout(person_id=person.id, failures=0, until_ms=0)
            session.add(lock)
        if is_waiting(lock.until_ms, now_ms):
            raise LockedOut(-((now_ms - lock.until_ms) // 1000))
        lock.failures += 1
        lock.until_ms = now_ms + wait_ms(lock.failures)


def _sha(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
