"""What is slow to work out of all labels, kept until a label, a decision or a label book changes.

The key holds the newest row of each table that counts: rows there are only ever added, or superseded by an added one.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Hashable
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from review.store import Adjudication, BookFrame, BookRow, Label, Showing

T = TypeVar("T")
MOST = 24
"""Of each class of each version there are two or three."""

_lock = threading.Lock()
_kept: OrderedDict[Hashable, Any] = OrderedDict()


def version(session: Session) -> tuple[int | None, ...]:
    """Differs once a label, a decision or a label book changed."""
    newest = (Label.id, Adjudication.id, Showing.id, BookFrame.id, BookRow.id, BookRow.published_ms)
    return tuple(session.scalar(select(func.max(column))) for column in newest)


def remembered(session: Session, key: Hashable, make: Callable[[], T]) -> T:
    """What `make` gives for `key`. It is shared: nobody may change it, and rows in it must have been read whole."""
    full = (str(session.get_bind().engine.url), version(session), key)
    with _lock:
        if full in _kept:
            _kept.move_to_end(full)
            found: T = _kept[full]
            return found
    made = make()
    with _lock:
        _kept[full] = made
        while len(_kept) > MOST:
            _kept.popitem(last=False)
    return made
