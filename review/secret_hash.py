"""PINs and passwords as argon2id hashes. A PIN has few values: what protects it is the lockout, not the hash."""

from __future__ import annotations

import threading
from itertools import pairwise

from pwdlib import PasswordHash
from pwdlib.hashers.argon2 import Argon2Hasher

from inspection.errors import InputError
from review.store import Person

_HASHER = PasswordHash((Argon2Hasher(),))
_ONE_AT_A_TIME = threading.Lock()
"""Each check takes 64 MiB: guesses that come together must not take the hub's memory."""

MIN_PIN, MAX_PIN = 4, 8
MIN_PASSWORD = 10
MAX_PASSWORD = 128


def hashed(secret: str) -> str:
    with _ONE_AT_A_TIME:
        return _HASHER.hash(secret)


def matches(secret: str, kept: str) -> bool:
    with _ONE_AT_A_TIME:
        return len(secret) <= MAX_PASSWORD and _HASHER.verify(secret, kept)


def kind_for(role: str) -> str:
    """Operators wear gloves and have a PIN; everybody else a password."""
    return "PIN" if role == "operator" else "password"


def check(person: Person, secret: str) -> None:
    """InputError when this is no secret for that role."""
    if kind_for(person.role) == "PIN":
        if not (MIN_PIN <= len(secret) <= MAX_PIN and secret.isascii() and secret.isdigit()):
            raise InputError("PIN", "is not 4 to 8 digits", "digits only, longer is better")
        if _is_a_run(secret):
            raise InputError("PIN", "is a row of equal or counted digits", "one that nobody tries first")
    elif not MIN_PASSWORD <= len(secret) <= MAX_PASSWORD:
        raise InputError("password", f"has {len(secret)} characters", f"{MIN_PASSWORD} to {MAX_PASSWORD}")


def _is_a_run(digits: str) -> bool:
    steps = {(ord(b) - ord(a)) % 10 for a, b in pairwise(digits)}
    return len(steps) == 1 and steps <= {0, 1, 9}
