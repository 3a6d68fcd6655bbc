"""A device's own clock and frame numbers, made ours: its time on this machine's monotonic clock, its ids whole."""

from __future__ import annotations

WINDOW_NS = 10_000_000_000
WRAP = 65_535
"""GigE Vision 1 numbers blocks from 1 to 65,535 and begins again at 1."""


class DeviceClock:
    """Device time in ns -> monotonic time in ns.

    The least time by which a frame's arrival lags its device time within the last 10 to 20 s is taken as the clocks'
    offset: what comes on top is transport and waiting, which is what a capture time must not contain. Two windows, so
    that clocks may drift.
    """

    def __init__(self) -> None:
        self._least: int | None = None
        self._least_before: int | None = None
        self._since_ns = 0
        self._last_ns = 0

    def captured(self, device_ns: int, arrived_ns: int) -> int:
        """Never later than the arrival; the arrival itself where the device has no clock."""
        if device_ns <= self._last_ns:  # none, or it began anew
            self._last_ns, self._least, self._least_before = device_ns, None, None
            return arrived_ns
        self._last_ns = device_ns
        lag = arrived_ns - device_ns
        if self._least is None or arrived_ns - self._since_ns > WINDOW_NS:
            self._least_before, self._least, self._since_ns = self._least, lag, arrived_ns
        self._least = min(self._least, lag)
        before = self._least_before
        return device_ns + (self._least if before is None else min(self._least, before))


class WholeIds:
    """A device's frame ids as one growing number: a gap stays a gap, a wrap or a restart is none."""

    def __init__(self) -> None:
        self._device: int | None = None
        self._whole = 0

    def whole(self, device_id: int) -> int:
        if self._device is not None:
            step = device_id - self._device
            if step <= 0:
                wrapped = self._device > WRAP * 3 // 4 and device_id < WRAP // 4 and self._device <= WRAP
                step = step + WRAP if wrapped else 1
            self._whole += step
        self._device = device_id
        return self._whole
