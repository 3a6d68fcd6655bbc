"""`python -m benchmarks.sequential`: does the promised rate of false halts hold, and how late does a halt come?

Simulated score streams whose truth is known: log-likelihood ratios of two normals `nats` apart, independent or
AR(1)-correlated, turned into calibrated scores. CUSUM at one false halt in 8 h at 30 fps against k of n whose limit
has been set, with full knowledge of the stream, to just that rate.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.figures import Figure, tell
from inspection.evidence import SHIFT_H, Cusum, level_for
from inspection.thinning import inflation

FPS = 30.0
SHIFT_FRAMES = SHIFT_H * 3600 * FPS
STREAMS = 4000
K, N = 3, 5
Row = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Stream:
    """Log-likelihood ratios with mean -nats (good) or +nats (defect) and variance 2 nats; `rho` to the neighbour."""

    nats: float
    rho: float = 0.0

    def rows(self, rng: np.random.Generator, width: int, *, defect_from: float = math.inf) -> Iterator[Row]:
        """One frame of `width` cameras after the other, for ever; the defect appears with this frame's number."""
        noise = rng.standard_normal(width)
        number = 0
        while True:
            mean = self.nats if number >= defect_from else -self.nats
            yield mean + math.sqrt(2 * self.nats) * noise
            noise = self.rho * noise + math.sqrt(1 - self.rho**2) * rng.standard_normal(width)
            number += 1


def added(test: Cusum, ratios: Row) -> Row:
    """`Cusum.nats` for many frames at once; a test holds them equal. The prior is 1/2, so a score's odds are e^l."""
    return (np.clip(ratios, -test.floor, test.clip) - test.take_back) / test.thin


def thin_of(stream: Stream, test: Cusum, frames: int = 20_000) -> float:
    """As a site would: from 11 minutes of good frames of one camera."""
    rng = np.random.default_rng(11)
    seen = [row[0] for row, _ in zip(stream.rows(rng, 1), range(frames), strict=False)]
    return inflation(added(replace(test, thin=1.0), np.array(seen))).upper


def false_halts(stream: Stream, test: Cusum, frames: int, seed: int = 1) -> int:
    """Halts on good frames, each resumed at once."""
    total, halts = np.zeros(STREAMS), 0
    rows = stream.rows(np.random.default_rng(seed), STREAMS)
    for row, _ in zip(rows, range(frames // STREAMS), strict=False):
        total = np.maximum(0, total + added(test, row))
        over = total >= test.h
        halts += int(over.sum())
        total[over] = 0
    return halts


def limit_of_k_of_n(stream: Stream, frames: int, seed: int = 2) -> float:
    """The limit on a frame's ratio at which k of n halts falsely once in a shift; one spell counts as one halt."""
    before, now = [], []
    last = np.full(STREAMS, -math.inf)
    rows = stream.rows(np.random.default_rng(seed), STREAMS)
    # Only what could matter is kept: far above where 3 of 5 good frames usually lie.
    low = -stream.nats + math.sqrt(2 * stream.nats) * 1.3
    for level, _ in zip(_kth(rows), range(frames // STREAMS), strict=False):
        some = level > low
        before.append(last[some])
        now.append(level[some])
        last = level
    was, is_now = np.concatenate(before), np.concatenate(now)
    bottom, top = low, float(is_now.max())
    for _ in range(40):
        limit = (bottom + top) / 2
        often = np.count_nonzero((was < limit) & (is_now >= limit)) > frames / SHIFT_FRAMES
        bottom, top = (limit, top) if often else (bottom, limit)
    return top


def _kth(rows: Iterator[Row]) -> Iterator[Row]:
    """The k-th largest of the last n frames: at a limit below it, k of n calls for a halt."""
    ring = np.full((N, STREAMS), -math.inf)
    for number, row in enumerate(rows):
        ring[number % N] = row
        yield np.partition(ring, N - K, axis=0)[N - K]


WARM = 300
"""Good frames before the defect, so that neither rule starts from nothing."""


def delay_of_cusum(stream: Stream, test: Cusum, most: int = 20_000) -> Row:
    """Frames from the defect's appearance to the halt, for each camera; it has no false halt waiting."""
    total, delay = np.zeros(STREAMS), np.zeros(STREAMS)
    for number, row in enumerate(stream.rows(np.random.default_rng(5), STREAMS, defect_from=WARM)):
        total = np.maximum(0, total + added(test, row))
        if number < WARM:
            total[total >= test.h] = 0
            continue
        delay[(delay == 0) & (total >= test.h)] = number - WARM + 1
        if delay.all() or number > most:
            break
    return np.where(delay == 0, math.inf, delay)


def delay_of_k_of_n(stream: Stream, limit: float, most: int = 20_000) -> Row:
    delay = np.zeros(STREAMS)
    rows = stream.rows(np.random.default_rng(5), STREAMS, defect_from=WARM)
    for number, level in enumerate(_kth(rows)):
        if number < WARM:
            continue
        delay[(delay == 0) & (level >= limit)] = number - WARM + 1
        if delay.all() or number > most:
            break
    return np.where(delay == 0, math.inf, delay)


def measure(shifts: float) -> list[Figure]:
    frames = int(shifts * SHIFT_FRAMES)
    plain = Cusum(h=level_for(1, FPS))
    figures: list[Figure] = []
    for rho in (0.0, 0.5, 0.8):
        figures += _rates(Stream(1.0, rho), plain, frames)
    for nats in (0.5, 1.0, 2.0, 4.0):
        figures += _delays(Stream(nats), plain, frames)
    figures += _delays(Stream(1.0, 0.8), replace(plain, thin=thin_of(Stream(1.0, 0.8), plain)), frames)
    return figures


def _rates(stream: Stream, plain: Cusum, frames: int) -> list[Figure]:
    test = replace(plain, thin=thin_of(stream, plain))
    shifts = frames / SHIFT_FRAMES
    halts = false_halts(stream, test, frames)
    name = f"AR(1) {stream.rho:g}" if stream.rho else "independent frames"
    note = f"95 % bound of {halts} in {shifts:.0f} shifts; thin {test.thin:.2f} by block bootstrap from 20,000 frames"
    figures = [Figure(f"CUSUM, {name}: false halts in 8 h", round(most_likely(halts) / shifts, 3), "", "<= 1", note)]
    if stream.rho:
        naive = false_halts(stream, plain, frames // 4) / shifts * 4
        figures.append(Figure(f"... the same without thinning, {name}", round(naive, 2), "", None, "why thin is there"))
    return figures


def most_likely(events: int, level: float = 0.95) -> float:
    """The exact upper bound of a Poisson mean of which so many events were seen (Garwood, 1936)."""
    bottom, top = 0.0, 10.0 * (events + 3)
    for _ in range(60):
        mean = (bottom + top) / 2
        term = below = math.exp(-mean)
        for k in range(1, events + 1):
            term *= mean / k
            below += term
        bottom, top = (mean, top) if below > 1 - level else (bottom, mean)
    return top


def _delays(stream: Stream, test: Cusum, frames: int) -> list[Figure]:
    sums = delay_of_cusum(stream, test) / FPS
    window = delay_of_k_of_n(stream, limit_of_k_of_n(stream, frames)) / FPS
    name = f"{stream.nats:g} nats a frame" + (f", AR(1) {stream.rho:g}" if stream.rho else "")
    goal = "<= 0.5" if stream == Stream(1.0) else None
    ratio = float(np.median(sums) / np.median(window))
    # k of n is the better rule where one frame says nearly everything: no goal there.
    ratio_goal = "<= 1" if stream.nats <= 1 else None
    return [
        Figure(f"CUSUM, {name}: median delay", round(float(np.median(sums)), 3), "s", goal, _p95(sums)),
        Figure(f"{K} of {N}, {name}: median delay", round(float(np.median(window)), 3), "s", None, _p95(window)),
        Figure(f"CUSUM / {K} of {N}, {name}", round(ratio, 3), "", ratio_goal, "at the same rate of false halts"),
    ]


def _p95(delays: Row) -> str:
    return f"p95 {float(np.quantile(delays, 0.95)):.2f} s"


def main(
    as_json: Annotated[bool, typer.Option("--json", help="A list of figure, value, unit, goal, ok, machine.")] = False,
    shifts: Annotated[float, typer.Option(min=5, help="How many shifts of 8 h are simulated for each rate.")] = 60,
) -> None:
    """False halts and delay of the sequential test; exit 1 on a miss."""
    tell(measure(shifts), as_json=as_json)


if __name__ == "__main__":
    typer.run(main)
