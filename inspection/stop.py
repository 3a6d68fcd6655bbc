"""The words of a stop that a person asked for, and who it was, read back from them.

They travel as the reason of a halt, which is one English sentence; pages in another language need its parts.
"""

from __future__ import annotations

import re

SOMEBODY = "somebody not signed in"
"""Who asked, where a page does not know: a stop needs no name."""
_WORDS = re.compile(r"stop requested by (?P<who>.+?)(?:: (?P<why>.*))?", re.DOTALL)


def stop_reason(who: str, why: str = "") -> str:
    """`stop requested by Ana: smoke`; `who` may be empty. A colon in a name would end it, so it becomes a comma."""
    said = f"stop requested by {who.replace(': ', ', ') or SOMEBODY}"
    return f"{said}: {why}" if why else said


def stop_asked_by(reason: str) -> tuple[str, str] | None:
    """(who, why) of a reason that `stop_reason` wrote, None for any other sentence."""
    found = _WORDS.fullmatch(reason)
    return (found["who"], found["why"] or "") if found else None
