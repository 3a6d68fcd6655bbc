"""A station's card on the Line page, drawn once for as long as nothing on it changes.

After each piece of news every tab fetches the list of all stations anew, of which one has changed: with 200 stations
drawing the others again was a tenth of what a hub did.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from functools import lru_cache

from markupsafe import Markup

KEPT = 2048
"""Cards of about 2 kB: those of 200 stations in every language, and some to spare."""


@dataclass(frozen=True, slots=True)
class CardFacts:
    """All that `line_card.html` reads, so that equal facts are the same card. Times are Unix ms; `today` is there
    because a time of another day is written with its date. Words are in `language` already."""

    language: str
    today: date
    key: str
    site: str
    line: str
    station: str
    mode: str
    word: str
    why: str
    plc: str
    runs_without_permit: bool
    camera: str | None
    """Whose picture stands for the station; None before the first."""
    call: str
    picture_at_ms: int | None
    halt_id: int | None
    cause: str
    length_mm: float
    unacked: bool
    judged: bool
    asked: bool
    """The halt is a stop that a person asked for: nothing to judge."""
    halt_at_ms: int
    open_halts: int
    shelved: bool
    shelf_until_ms: int | None
    last_halt_ms: int | None
    bundle: str
    refused: str
    """The bundle the edge refused, or empty."""


@lru_cache(KEPT)
def drawn(facts: CardFacts) -> Markup:
    from review.deps import templates  # it has this function as a filter

    return Markup(templates.get_template("line_card.html").render(c=facts))
