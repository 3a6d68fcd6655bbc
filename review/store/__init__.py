"""The hub's records, alarms, labels, people and bundles: SQLAlchemy models, Alembic migrations, one `Store`."""

from review.store.blind import GoldChoice, Showing, Suspect
from review.store.books import Adjudication, BookFrame, BookRow
from review.store.db import Store
from review.store.escapes import TallyRow
from review.store.faults import Fault, FaultEventRow, Maintenance, SuppressionRule
from review.store.floor import (
    OF_STATION,
    AuditHead,
    AuditRow,
    BadgeTries,
    FilmRow,
    Handover,
    Lockout,
    Shelf,
    ShiftNote,
    SignIn,
)
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
    ids_by_key,
)

__all__ = [
    "OF_STATION",
    "ROLES",
    "Adjudication",
    "AuditHead",
    "AuditRow",
    "BadgeTries",
    "Base",
    "BookFrame",
    "BookRow",
    "Bundle",
    "Fault",
    "FaultEventRow",
    "FilmRow",
    "GoldChoice",
    "Halt",
    "HaltEventRow",
    "Handover",
    "Label",
    "LabelAssignment",
    "Lockout",
    "Maintenance",
    "Person",
    "Record",
    "Rollout",
    "Shelf",
    "ShiftNote",
    "Showing",
    "SignIn",
    "Station",
    "Store",
    "SuppressionRule",
    "Suspect",
    "TallyRow",
    "ids_by_key",
]
