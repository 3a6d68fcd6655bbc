"""Evidence over frames: when what single frames say adds up to a halt. Two rules, one per class and camera.

*k of n* is the rule people can read: k of the last n judged frames call for a stop. *CUSUM* (E. S. Page, 1954) adds
up log-likelihood ratios, S = max(0, S + l), and is complete at S >= h. As long as good frames have E[e^l] <= 1, the
mean time between two false halts is at least e^h frames, whatever the distribution (G. Lorden, 1971, theorem 2), so h
follows from the rate a site can bear. docs/guard.md derives what is used here.
"""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass
from typing import Protocol

SHIFT_H = 8.0
"""False halts are promised per shift."""
SHOWN_FRAMES = 64
"""So many frames of one halt's evidence are named; a weak defect may have gathered it over many more."""


@dataclass(frozen=True, slots=True)
class Cusum:
    """A sequential test on calibrated scores.

    `h`: evidence in nats that makes a halt. `prior`: share of frames with the class at which the scores are
    calibrated; too large a value only makes the test slower. `clip`: the most one frame can add, so that no single
    mistake halts; `floor`: the most it can take back, so that no single good frame clears a defect. `thin`: how many
    frames say as much as one, 1 = independent. `release`: share of h under which a completed test no longer stands.
    `at_once`: a frame with this score that calls for a stop is enough by itself; None = never. It is outside the
    promised rate.
    """

    h: float
    prior: float = 0.5
    clip: float = 4.0
    floor: float = 3.0
    thin: float = 1.0
    release: float = 0.5
    at_once: float | None = None

    def __post_init__(self) -> None:
        if not (0 < self.prior < 1 and 0 < self.h < math.inf and 1 <= self.thin < math.inf):
            raise ValueError(f"need 0 < prior < 1, h > 0 and thin >= 1, not {self}")
        if not (0 < self.floor < math.inf and self.clip > self.take_back and 0 <= self.release <= 1):
            raise ValueError(f"need floor > 0, clip > {self.take_back:.3f} and a release from 0 to 1, not {self}")
        if self.at_once is not None and not 0 <= self.at_once <= 1:
            raise ValueError(f"at_once is a score from 0 to 1, not {self.at_once}")

    @property
    def take_back(self) -> float:
        """E[e^max(l, -floor)] <= E[e^l] + e^-floor: this much is taken off each frame for what the floor gives it."""
        return math.log1p(math.exp(-self.floor))

    def nats(self, score: float) -> float:
        """What a frame with this calibrated score (0..1) adds to the evidence."""
        ratio = log_odds(score) - log_odds(self.prior)
        return (min(self.clip, max(-self.floor, ratio)) - self.take_back) / self.thin

    @property
    def worst_delay_frames(self) -> int:
        """So many frames of a defect that nobody could miss, one after another, make a halt from nothing."""
        return math.ceil(self.h * self.thin / (self.clip - self.take_back))


def log_odds(p: float) -> float:
    if p <= 0:
        return -math.inf
    return math.inf if p >= 1 else math.log(p / (1 - p))


def level_for(false_halts_per_8h: float, fps: float, streams: int = 1) -> float:
    """The h, in nats, at which `streams` tests (classes x cameras) of `fps` frames/s together halt falsely so often.

    One in 8 h at 30 fps: ln 864,000 = 13.67. ValueError when the rate is more than one halt in ten frames.
    """
    frames = SHIFT_H * 3600 * fps * streams
    if not 0 < false_halts_per_8h <= frames / 10:
        raise ValueError(f"{false_halts_per_8h} false halts in 8 h is no rate for {frames:.0f} frames")
    return math.log(frames / false_halts_per_8h)


@dataclass(frozen=True, slots=True)
class Level:
    """How much evidence there is: `hits` frames of the window call for a stop, the sum stands at `nats`."""

    hits: int = 0
    nats: float = 0.0


class Evidence(Protocol):
    """One class at one camera, frame after frame."""

    def add(self, frame_id: int, score: float, *, hit: bool, small: bool) -> bool:
        """Whether the evidence is complete with this frame. `hit`: the frame calls for a stop; `small`: what it shows
        is clearly under the class's limit, and so no reason to stop whatever the score."""

    @property
    def stands(self) -> bool:
        """Whether this camera still says that there is a defect, for the vote of several cameras."""

    @property
    def frames(self) -> tuple[int, ...]:
        """Ids of the frames the evidence comes from."""

    @property
    def why(self) -> str:
        """How much there is of how much, for people."""

    @property
    def level(self) -> Level:
        """The same as numbers."""


class KOfN:
    def __init__(self, k: int, n: int) -> None:
        self._k = k
        self._window: deque[tuple[int, bool]] = deque(maxlen=n)

    def add(self, frame_id: int, score: float, *, hit: bool, small: bool) -> bool:
        self._window.append((frame_id, hit))
        # Without a hit in this frame the window was as full before, and that halt has been resumed or outvoted.
        return hit and self.stands

    @property
    def stands(self) -> bool:
        return len(self.frames) >= self._k

    @property
    def frames(self) -> tuple[int, ...]:
        return tuple(frame_id for frame_id, hit in self._window if hit)

    @property
    def why(self) -> str:
        return f"{len(self.frames)} of {len(self._window)} frames"

    @property
    def level(self) -> Level:
        return Level(hits=len(self.frames))


class Sum:
    """The running sum of a CUSUM test."""

    def __init__(self, test: Cusum) -> None:
        self._test = test
        self._stands = False
        self._frames: deque[int] = deque(maxlen=SHOWN_FRAMES)
        self.nats = 0.0

    def add(self, frame_id: int, score: float, *, hit: bool, small: bool) -> bool:
        test = self._test
        nats = test.nats(score)
        if small:
            nats = min(0.0, nats)
        if nats > 0:
            self._frames.append(frame_id)
        # Not beyond h: how long a resumed or outvoted defect has been in view must not delay the release.
        self.nats = min(test.h, max(0.0, self.nats + nats))
        if self.nats == 0:
            self._frames.clear()
        alone = hit and test.at_once is not None and score >= test.at_once
        complete = (nats > 0 and self.nats >= test.h) or alone
        self._stands = complete or (self._stands and self.nats >= test.release * test.h)
        return complete

    @property
    def stands(self) -> bool:
        return self._stands

    @property
    def frames(self) -> tuple[int, ...]:
        return tuple(self._frames)

    @property
    def why(self) -> str:
        return f"{self.nats:.1f} of {self._test.h:.1f} nats from {len(self._frames)} frames"

    @property
    def level(self) -> Level:
        return Level(nats=self.nats)


class Either:
    """k of n beside the sum: what many frames are sure of need not wait for a sum, nor the other way round."""

    def __init__(self, window: KOfN, total: Sum) -> None:
        self._window, self._total = window, total

    def add(self, frame_id: int, score: float, *, hit: bool, small: bool) -> bool:
        by_window = self._window.add(frame_id, score, hit=hit, small=small)
        return self._total.add(frame_id, score, hit=hit, small=small) or by_window

    @property
    def stands(self) -> bool:
        return self._window.stands or self._total.stands

    @property
    def _rule(self) -> Evidence:
        return self._total if self._total.stands else self._window

    @property
    def frames(self) -> tuple[int, ...]:
        return self._rule.frames

    @property
    def why(self) -> str:
        return self._rule.why

    @property
    def level(self) -> Level:
        return Level(self._window.level.hits, self._total.nats)
