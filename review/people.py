"""Who may act, with which role and secret. Nobody is deleted: history names them. Every change signs out."""

from __future__ import annotations

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from inspection.errors import ConfigError
from review import audit, secret_hash
from review.clock import wall_ms
from review.store import ROLES, Lockout, Person, SignIn, Store

DEMO_PEOPLE = (("Ana (operator)", "operator"), ("Ben (inspector)", "inspector"), ("Chen (engineer)", "engineer"))
COMMAND = "command line"
"""Who the log names where the command line was used: whoever may run it on the hub's machine."""


def add_person(store: Store, name: str, role: str, by: str = COMMAND) -> bool:
    """True when added, False when the name is already there; ConfigError for a bad name or role."""
    name = " ".join(name.split())
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise ConfigError("name", f"{name!r} is no name of 1 to 64 letters", "give the name people call out")
    _check_role(role)
    with store.writing() as session:
        if session.scalar(select(Person.id).where(Person.name == name)) is not None:
            return False
        session.add(Person(name=name, role=role, created_ms=wall_ms()))
        audit.note(session, by, "user_added", f"user {name}", role=role)
    return True


def set_secret(store: Store, name: str, secret: str) -> None:
    """A PIN for an operator, a password for everybody else; InputError when it is none."""
    with store.reading() as session:
        secret_hash.check(find(session, name), secret)
    kept = secret_hash.hashed(secret)
    with store.writing() as session:
        person = find(session, name)
        person.secret_hash = kept
        session.query(Lockout).filter(Lockout.person_id == person.id).delete()
        sign_out(session, person, "new secret")
        audit.note(session, COMMAND, "user_secret_set", f"user {name}", kind=secret_hash.kind_for(person.role))


def speak(store: Store, person_id: int, language: str) -> None:
    """The language of this person's pages, wherever they sign in. No act on the plant, so the audit log has none."""
    with store.writing() as session:
        session.execute(update(Person).where(Person.id == person_id).values(language=language))


def set_role(store: Store, name: str, role: str) -> bool:
    """True when the person now needs a new secret, because a PIN is none for the new role."""
    _check_role(role)
    with store.writing() as session:
        person = find(session, name)
        was, person.role = person.role, role
        if secret_hash.kind_for(was) != secret_hash.kind_for(role):
            person.secret_hash = person.badge = None
        sign_out(session, person, "new role")
        audit.note(session, COMMAND, "user_role", f"user {name}", was=was, role=role)
        return person.secret_hash is None


def remove(store: Store, name: str) -> None:
    with store.writing() as session:
        person = find(session, name)
        person.left_ms, person.secret_hash, person.badge = wall_ms(), None, None
        sign_out(session, person, "removed")
        audit.note(session, COMMAND, "user_removed", f"user {name}")


def sign_out_everywhere(store: Store, name: str) -> int:
    """How many browsers were signed in."""
    with store.writing() as session:
        ended = sign_out(session, find(session, name), f"by {COMMAND}")
        audit.note(session, COMMAND, "user_signed_out", f"user {name}", browsers=ended)
        return ended


def sign_out(session: Session, person: Person, why: str) -> int:
    still_in = (SignIn.person_id == person.id, SignIn.ended_ms.is_(None))
    ended = session.scalars(select(SignIn.id).where(*still_in)).all()
    session.execute(update(SignIn).where(*still_in).values(ended_ms=wall_ms(), ended_why=why[:64]))
    return len(ended)


def everybody(store: Store) -> list[Person]:
    with store.reading() as session:
        return list(session.scalars(select(Person).where(Person.left_ms.is_(None)).order_by(Person.name)))


def add_demo_people(store: Store) -> None:
    for name, role in DEMO_PEOPLE:
        add_person(store, name, role, "demonstration")


def find(session: Session, name: str) -> Person:
    """ConfigError when nobody who still works here is called so."""
    found = session.scalar(select(Person).where(Person.name == name, Person.left_ms.is_(None)))
    if found is None:
        raise ConfigError("name", f"nobody is called {name!r}", "`haltline review user list` names everybody")
    return found


def _check_role(role: str) -> None:
    if role not in ROLES:
        raise ConfigError("role", f"{role!r} is no role", f"one of {', '.join(ROLES)}")
