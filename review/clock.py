"""The hub's wall clock, in the unit of every stored time."""

from __future__ import annotations

import time


def wall_ms() -> int:
    """Unix ms."""
    return time.time_ns() // 1_000_000
