"""Who may act: people are added by the command line and named in everything they do."""

from __future__ import annotations

from sqlalchemy import select

from inspection.errors import ConfigError
from review import audit
from review.clock import wall_ms
from review.store import ROLES, Person, Store

DEMO_PEOPLE = (("Ana (operator)", "operator"), ("Ben (inspector)", "inspector"), ("Chen (engineer)", "engineer"))


def add_person(store: Store, name: str, role: str, by: str = "command line") -> bool:
    """True when added, False when the name is already there; ConfigError for a bad name or role."""
    name = " ".join(name.split())
    if not 1 <= len(name) <= 64 or not name.isprintable():
        raise ConfigError("name", f"{name!r} is no name of 1 to 64 letters", "give the name people call out")
    if role not in ROLES:
        raise ConfigError("role", f"{role!r} is no role", f"one of {', '.join(ROLES)}")
    with store.writing() as session:
        if session.scalar(select(Person.id).where(Person.name == name)) is not None:
            return False
        session.add(Person(name=name, role=role, created_ms=wall_ms()))
        audit.note(session, by, "user_added", f"user {name}", role=role)
    return True


def everybody(store: Store) -> list[Person]:
    with store.reading() as session:
        return list(session.scalars(select(Person).where(Person.left_ms.is_(None)).order_by(Person.name)))


def add_demo_people(store: Store) -> None:
    for name, role in DEMO_PEOPLE:
        add_person(store, name, role)
