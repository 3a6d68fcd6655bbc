"""Which frames are worth sending to people, each with the reason why. Pure: time and chance come in as data.

What the model was unsure of teaches the next one most; a random audit of what passed is the only unbiased estimate
of what it silently misses. So an audit is drawn from the frame's name alone, before anybody looks at its score, and
its budget is spent on what was drawn, whatever the frame turns out to show.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field

from inspection.policy import FrameCall, Policy
from inspection.types import Call

HOUR_NS = 3600 * 10**9
NEIGHBOURS = 8
"""So many frames of one camera are looked at for a score that flips."""

MARGIN, DISAGREEMENT, AUDIT = "margin", "disagreement", "audit"
GROUPS = {
    "uncertain": MARGIN,
    "defect": MARGIN,
    "unstable": MARGIN,
    "disagreement": DISAGREEMENT,
    "novel": DISAGREEMENT,
    "audit": AUDIT,
}
"""Reason -> the share of the budget it draws on. Halts, what led to them and faults are always kept."""
SHARES: Mapping[str, float] = {MARGIN: 0.6, DISAGREEMENT: 0.2, AUDIT: 0.2}


class TokenBucket:
    """At most `per_h` an hour and `burst` at once. Over any span: at most burst + per_h * hours."""

    def __init__(self, per_h: float, burst: float | None = None) -> None:
        self._per_ns = per_h / HOUR_NS
        self._burst = max(1.0, per_h / 4 if burst is None else burst) if per_h > 0 else 0.0
        self._tokens, self._at_ns = self._burst, None if per_h > 0 else 0

    def take(self, now_ns: int) -> bool:
        if self._at_ns is not None:
            self._tokens = min(self._burst, self._tokens + max(0, now_ns - self._at_ns) * self._per_ns)
        self._at_ns = max(now_ns, self._at_ns or now_ns)
        if self._tokens < 1:
            return False
        self._tokens -= 1
        return True


class Budget:
    """`per_h` frames an hour in all, in fixed shares: a day of low margins must not starve the audit."""

    def __init__(self, per_h: float, shares: Mapping[str, float] = SHARES) -> None:
        self._buckets = {group: TokenBucket(per_h * share) for group, share in shares.items()}
        self.refused: dict[str, int] = dict.fromkeys(self._buckets, 0)

    def allows(self, why: tuple[str, ...], now_ns: int) -> bool:
        """Whether a frame kept for these reasons may be sent. An audit has been counted where it was drawn: turning
        it away here, for whatever else the frame is, would bend the sample."""
        groups = {GROUPS.get(reason) for reason in why}
        if AUDIT in groups or None in groups:
            return True
        for group in sorted(g for g in groups if g):
            if self._buckets[group].take(now_ns):
                return True
            self.refused[group] += 1
        return False


class Draw:
    """The audit's lottery: by a hash of the frame's name, so that a replay draws the same frames."""

    def __init__(self, boot: int) -> None:
        self._boot = boot
        self._bucket: TokenBucket | None = None
        self._per_h: float | None = None

    def drawn(self, policy: Policy, camera: str, frame_id: int, part: str, now_ns: int) -> bool:
        # The draw costs a hash, which a site without audits need not pay for every frame.
        chosen = policy.audit_share > 0 and _chance(f"{self._boot}:{camera}:{frame_id}") < policy.audit_share
        chosen |= bool(part) and _chance(f"{self._boot}:{part}") < policy.audit_part_share
        if policy.audits_per_h != self._per_h:
            self._per_h = policy.audits_per_h
            self._bucket = None if self._per_h is None else TokenBucket(self._per_h)
        return chosen and (self._bucket is None or self._bucket.take(now_ns))


def _chance(name: str) -> float:
    # A CRC is linear: two cameras' draws would be one pattern shifted, and neighbours' numbers alike.
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=4).digest(), "big") / 2**32


@dataclass(slots=True)
class _Eye:
    kept_ns: int | None = None
    novel_ns: int | None = None
    spell: bool = False
    sides: dict[str, deque[bool]] = field(default_factory=dict)


class Selector:
    """Why the frames of one station are kept, apart from halts and faults."""

    def __init__(self, boot: int) -> None:
        self._draw = Draw(boot)
        self._eyes: dict[str, _Eye] = {}

    def reasons(
        self,
        policy: Policy,
        camera: str,
        frame_id: int,
        call: FrameCall,
        part: str,
        now_ns: int,
        novelty: float | None = None,
    ) -> tuple[str, ...]:
        """Called for every judged frame, kept or not: the lottery and the neighbours need them all. `novelty`: None
        also where the frame cannot be kept."""
        why: list[str] = []
        drawn = self._draw.drawn(policy, camera, frame_id, part, now_ns)
        eye = self._eyes.setdefault(camera, _Eye())
        unstable = _is_unstable(policy, eye, call)
        new = _is_new(policy, eye, call)
        if ((call.call is not Call.PASS and new) or unstable) and _is_due(policy, eye, now_ns):
            why += [call.call.value] * (call.call is not Call.PASS) + ["unstable"] * unstable
        if _is_novel(policy, eye, novelty, now_ns):
            why.append("novel")
        if call.call is Call.PASS and drawn:
            why.append("audit")
        return tuple(why)


def _is_due(policy: Policy, eye: _Eye, now_ns: int) -> bool:
    """At 30 fps a slow scratch would otherwise fill the spool with one scene."""
    if eye.kept_ns is not None and now_ns - eye.kept_ns < policy.uncertain_every_ms * 1_000_000:
        return False
    eye.kept_ns = now_ns
    return True


def _is_novel(policy: Policy, eye: _Eye, novelty: float | None, now_ns: int) -> bool:
    """Above the threshold, and the first in a while: the model's own quantile says that even of frames like those it
    learned on some are, and after a change of the scene all are. A pause of its own: what is new must not wait for
    what is unsure, nor take its place."""
    if policy.novel_from is None or novelty is None or novelty <= policy.novel_from:  # a NaN is novel
        return False
    if eye.novel_ns is not None and now_ns - eye.novel_ns < policy.novel_every_ms * 1_000_000:
        return False
    eye.novel_ns = now_ns
    return True


def _is_new(policy: Policy, eye: _Eye, call: FrameCall) -> bool:
    """Not of the spell that is already open. A spell begins at `lo` and ends below `release`, so that a score which
    hovers at the limit is one event and not twenty. Only classes with a release level have spells."""
    held = [rule for rule in policy.classes if rule.release is not None]
    scores = call.scores
    was = eye.spell
    eye.spell = any(scores[rule.cls] >= (rule.release if was else rule.lo) for rule in held if rule.release is not None)
    if not (was and eye.spell):
        return True
    names = {rule.cls for rule in held}
    return any(rule.cls not in names and scores[rule.cls] >= rule.lo for rule in policy.classes)


def _is_unstable(policy: Policy, eye: _Eye, call: FrameCall) -> bool:
    """Whether a class's score has flipped around the middle of its band, in this frame too, often enough."""
    if not policy.unstable_flips:
        return False
    found = False
    for rule in policy.classes:
        sides = eye.sides.setdefault(rule.cls, deque(maxlen=NEIGHBOURS))
        sides.append(call.scores[rule.cls] >= (rule.lo + rule.hi) / 2)
        flips = [a != b for a, b in zip(sides, list(sides)[1:], strict=False)]
        found |= bool(flips) and flips[-1] and sum(flips) >= policy.unstable_flips
    return found
