"""Why the guard decided so: the film before a halt as a strip, a small chart and a sentence. Pure: a row in, words and
numbers out; the template draws them as inline SVG."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from review.language import _, ngettext, number, score_words
from review.store import FilmRow

CHART_H = 100.0
"""The chart's height in its own units; a frame is 10 wide."""
FRAME_W = 10.0


@dataclass(frozen=True, slots=True)
class Column:
    """One frame. `height`: its score, `kind`: pass, uncertain, stop or fault; `told`: the frame in words."""

    x: float
    height: float
    kind: str
    told: str


@dataclass(frozen=True, slots=True)
class Strip:
    """`steps`: the evidence after each frame as an SVG path, 1 = what halts. `lo_y`, `hi_y`: the limits, None without a
    rule. `why`: sentences."""

    columns: tuple[Column, ...]
    width: float
    steps: str
    lo_y: float | None
    hi_y: float | None
    why: tuple[str, ...]
    tile_columns: int
    tile_rows: int
    tile_ratio: float
    sha: str

    @property
    def told(self) -> list[str]:
        return [column.told for column in self.columns]


def strip_of(film: FilmRow) -> Strip:
    rule, frames = film.rule, film.frames
    columns = tuple(_column(n, frame, len(frames), rule) for n, frame in enumerate(frames))
    levels = [_level(frame, rule) for frame in frames]
    path = "".join(
        f"{'M' if n == 0 else 'L'}{n * FRAME_W:g} {_y(level):.1f}H{(n + 1) * FRAME_W:g}"
        for n, level in enumerate(levels)
    )
    return Strip(
        columns=columns,
        width=len(frames) * FRAME_W,
        steps=path if rule else "",
        lo_y=_y(rule["lo"]) if rule else None,
        hi_y=_y(rule["hi"]) if rule else None,
        why=why(frames, rule),
        tile_columns=film.columns,
        tile_rows=-(-len(frames) // film.columns),
        tile_ratio=film.tile_w_px / film.tile_h_px,
        sha=film.image,
    )


def why(frames: list[Any], rule: dict[str, Any]) -> tuple[str, ...]:
    """The decision in words a person can check against the frames."""
    if not rule or not frames:
        return ()
    last = frames[-1]
    said = []
    if rule["window"] and last["hits"] >= rule["k"]:
        said.append(_by_window(frames, rule))
    if rule["h"] > 0 and last["nats"] >= rule["h"] - 1e-6:
        rising = _rising(frames)
        said.append(
            ngettext(
                "The evidence added up to its limit of %(h)s within the last frame.",
                "The evidence added up to its limit of %(h)s within the last %(num)s frames.",
                rising,
                h=number(rule["h"]),
            )
        )
    if not said and rule["h"] > 0 and last["stop"]:
        said.append(_("The last frame alone was enough: score %(score)s.", score=score_words(last["score"] or 0)))
    unjudged = sum(frame["score"] is None for frame in frames)
    if unjudged:
        said.append(ngettext("%(num)s frame could not be judged.", "%(num)s frames could not be judged.", unjudged))
    return tuple(said)


def _by_window(frames: list[Any], rule: dict[str, Any]) -> str:
    judged = [frame for frame in frames if frame["score"] is not None]
    stops = [frame["frame_id"] for frame in judged[-rule["n"] :] if frame["stop"]]
    if rule["k"] == 1 and rule["n"] == 1:
        score, hi = score_words(frames[-1]["score"] or 0), score_words(rule["hi"])
        return _("One frame is enough here: score %(score)s, limit %(hi)s.", score=score, hi=hi)
    return _(
        "%(hits)s of the last %(n)s frames call for a stop, %(k)s are enough: %(frames)s.",
        hits=frames[-1]["hits"],
        n=rule["n"],
        k=rule["k"],
        frames=", ".join(str(frame_id) for frame_id in stops),
    )


def _rising(frames: list[Any]) -> int:
    """Frames since the sum last stood at nothing, within the film."""
    for back, frame in enumerate(reversed(frames)):
        if frame["nats"] <= 0 and back:
            return back
    return len(frames)


def _column(n: int, frame: dict[str, Any], count: int, rule: dict[str, Any]) -> Column:
    score = frame["score"]
    before = count - 1 - n
    where = _("the frame that stopped the line") if before == 0 else ngettext(
        "%(num)s frame before", "%(num)s frames before", before
    )  # fmt: skip
    if score is None:
        return Column(n * FRAME_W, 0.0, "fault", f"{where} · {_('nobody judged it')}")
    words = [where, _("score %(score)s", score=score_words(score))]
    if frame["length_mm"] > 0:
        words.append(f"{number(frame['length_mm'])} mm")
    if rule:
        if rule["window"]:
            words.append(_("%(hits)s of %(k)s", hits=frame["hits"], k=rule["k"]))
        if rule["h"] > 0:
            words.append(_("sum %(nats)s of %(h)s", nats=number(frame["nats"]), h=number(rule["h"])))
    low = rule["lo"] if rule else 0.5
    kind = "stop" if frame["stop"] else "uncertain" if score >= low else "pass"
    return Column(n * FRAME_W, max(1.5, min(1.0, score) * CHART_H), kind, " · ".join(words))


def _level(frame: dict[str, Any], rule: dict[str, Any]) -> float:
    """The evidence as a share of what halts: whichever rule is nearer."""
    shares = [0.0]
    if rule and rule["window"]:
        shares.append(frame["hits"] / rule["k"])
    if rule and rule["h"] > 0:
        shares.append(frame["nats"] / rule["h"])
    return min(1.0, max(shares))


def _y(share: float) -> float:
    return CHART_H * (1 - min(1.0, max(0.0, share)))
