"""The hub's records, alarms, labels, people and bundles: SQLAlchemy models, Alembic migrations, one `Store`."""

from review.store.db import Store
from review.store.models import (
    ROLES,
    Base,
    Bundle,
    Halt,
    HaltEventRow,
    Label,
    LabelAssignment,
    Person,
    Record,
    Rollout,
    Station,
)

__all__ = [
    "ROLES",
    "Base",
    "Bundle",
    "Halt",
    "HaltEventRow",
    "Label",
    "LabelAssignment",
    "Person",
    "Record",
    "Rollout",
    "Station",
    "Store",
]
