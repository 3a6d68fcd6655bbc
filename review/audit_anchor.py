"""The audit log's newest link, kept outside its table: what shows that the log's end is missing.

It is made once, with the log, and only follows from then on: one made beside a log whose end is gone would know only
what is left. A person who has compared with paper begins it anew.
"""

from __future__ import annotations

import json
import threading
from dataclasses import dataclass
from pathlib import Path

import structlog
from sqlalchemy import select
from sqlalchemy.exc import SQLAlchemyError

from inspection.errors import InputError
from review.owner import give
from review.store import AuditRow, Store

log = structlog.get_logger("review.audit")

ANEW = "compare the newest link with a handover on paper, then: haltline review audit anchor"


@dataclass(frozen=True, slots=True)
class Anchor:
    """What somebody knows from outside the table: the row `seq` had this hash. `source` says who knows."""

    seq: int
    hash: str
    source: str


class AnchorFile:
    """`data_dir/audit.anchor`. It may be behind the table for a moment, or for good after a crash; never ahead."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / "audit.anchor"
        self._told = False
        self._lock = threading.Lock()

    def read(self) -> Anchor | None:
        """None when there is none; InputError when it is no anchor, because then somebody wrote into it."""
        if not self._path.exists():
            return None
        try:
            found = json.loads(self._path.read_text())
            anchor = Anchor(int(found["seq"]), str(found["hash"]), str(self._path))
        except (ValueError, KeyError, TypeError, OverflowError, OSError) as e:
            raise InputError(self._path, f"is no anchor: {e}", "compare with the newest handover on paper") from e
        if not 0 < anchor.seq < 2**63:
            what = f"is no anchor: seq {anchor.seq} is no row's number"
            raise InputError(self._path, what, "compare with the newest handover on paper")
        return anchor

    def problem(self, store: Store, known: Anchor | None) -> str:
        """Why what was read does not vouch for the log's end; empty when it does."""
        if known is None:
            return f"{self._path} is missing: whether the end was cut off cannot be said. {ANEW}"
        with store.reading() as session:
            digest = session.scalar(select(AuditRow.hash).where(AuditRow.seq == known.seq))
        if digest == known.hash:
            return ""
        found = "has another one there" if digest else "does not reach it"
        return (
            f"{known.source} knows row {known.seq}, the log {found}: its end was cut off or changed, or an older "
            f"backup was put back. {ANEW}"
        )

    def follow(self, store: Store, began: tuple[int, str], head: tuple[int, str]) -> None:
        """The log went from `began` on to `head`."""
        with self._lock:
            try:
                known = self.read()
                # Where an act goes on from the very row that is known, nobody has to look whether the log has that.
                goes_on = known is not None and (known.seq, known.hash) == began
                why = "" if goes_on else self.problem(store, known)
                if why:
                    # It stays as it is, and missing: made here it would know only what is left, and the acts that come
                    # after a cut would do away with the one thing that shows it.
                    if not self._told:  # once: every act comes by here
                        log.error("audit anchor does not follow", why=why)
                # A command and the hub may both write; the newer one stays.
                elif known and known.seq < head[0]:
                    self._write(head)
                self._told = bool(why)
            except (OSError, InputError, SQLAlchemyError) as e:
                _not_written(e)

    def make(self, head: tuple[int, str]) -> None:
        """With the log itself, where there is none."""
        with self._lock:
            try:
                if not self._path.exists():
                    self._write(head)
            except OSError as e:
                _not_written(e)

    def begin(self, head: tuple[int, str]) -> None:
        """Whatever was there; OSError when the disk would not."""
        with self._lock:
            self._write(head)

    def _write(self, head: tuple[int, str]) -> None:
        fresh = self._path.with_suffix(".new")
        fresh.write_text(json.dumps({"seq": head[0], "hash": head[1]}, separators=(",", ":")) + "\n")
        give(fresh)
        fresh.replace(self._path)


def _not_written(why: Exception) -> None:
    """The act is committed and stays; what is lost is that a missing end would be found."""
    log.error("audit anchor not written", why=str(why))


def failing(store: Store, data_dir: Path) -> str:
    """Why the anchor file does not vouch for the log's end; empty when it does. One row is looked up, not the chain."""
    file = AnchorFile(data_dir)
    try:
        # Before the row: whatever is appended meanwhile only makes the log longer than its anchor.
        return file.problem(store, file.read())
    except InputError as e:
        return str(e)
