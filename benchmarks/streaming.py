"""`python -m benchmarks.streaming REMEMBERS [SINGLE] [--clips 48] [--choose 24]`: a model that remembers, alone or
against one of single frames.

Both bundles have the same width and input, so the same cost, and were trained on the same clips for the same time. Both
run frame by frame behind the edge's own guard, over clips nobody trained on. Each is given its best rule: every k of n
and every limit is tried on the first clips, the one with fewest false halts that misses at most as many bubbles as
allowed is taken, and judged on the others.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.cli import AsJson
from benchmarks.figures import Figure, tell
from inspection.errors import ConfigError, InputError
from inspection.escape import upper_bound
from inspection.model_io import to_input
from inspection.render.clip import FPS, render_clip
from training.moving import DROPLETS, clip_spec, weather, whole_in_view
from training.served import Served, read_bundle

CLIPS, SEED = 48, 900_000
KINDS = 12  # of clips; they come in turn
RULES = ((1, 1), (2, 2), (2, 3), (3, 3), (3, 4), (3, 5), (4, 5), (5, 6), (6, 8), (8, 10), (10, 12), (12, 14))
LEVELS = np.round(np.concatenate([np.linspace(0.02, 0.9, 23), [0.93, 0.95, 0.97, 0.98, 0.99, 0.995]]), 3)
MISSES_ALLOWED = 0.05
MORE_ALLOWED = (0.1, 0.2, 0.35, 0.5)
"""What fewer false halts would cost: where the goal is out of reach, whether it is by a little."""
AMBIENT = (0.6, 1.0, 1.6)


@dataclass(frozen=True, slots=True)
class Seen:
    """One clip through one model: `scores` (frames,) of porosity; `bubbles` (first, last) frame each is in view;
    `peeking` (frames,): some part of a bubble shows, so that a halt is not false.
    """

    scores: NDArray[np.float64]
    bubbles: tuple[tuple[int, int], ...]
    peeking: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`halted`: frames in which the rule asks for a halt, which is one halt however long it lasts. `delays` in frames
    from a bubble's first whole view to the halt, of those that were caught.
    """

    bubbles: int
    missed: int
    false_halts: int
    frames: int
    halted: int
    delays: tuple[int, ...]

    @property
    def per_hour(self) -> float:
        return self.false_halts / (self.frames / FPS / 3600)

    @property
    def miss_share(self) -> float:
        return self.missed / max(1, self.bubbles)


def clips(ambient: float, which: range) -> Iterator[tuple[list[NDArray[np.uint8]], list[NDArray[np.uint8]]]]:
    """Frames and masks."""
    for k in which:
        drawn = list(render_clip(SEED + k, clip_spec(k, ambient)))
        yield [f.image for f in drawn], [f.mask for f in drawn]


def watch(served: Served, ambient: float, which: range) -> tuple[list[Seen], list[float]]:
    """The clips through the model, and the ms of each inference."""
    place, seen, took = served.manifest.classes.index("porosity"), [], list[float]()
    for frames, masks in clips(ambient, which):
        runner, scores = served.in_order(), []
        for frame in frames:
            fitted = to_input(frame, served.manifest.input)[0]
            start = time.perf_counter()
            scores.append(float(runner.raw(fitted)[0][place]))
            took.append((time.perf_counter() - start) * 1e3)
        seen.append(Seen(np.array(scores), _bubbles(masks), np.array([bool(m.any()) for m in masks])))
    return seen, took


def _bubbles(masks: Sequence[NDArray[np.uint8]]) -> tuple[tuple[int, int], ...]:
    """(first, last) of the stretches in which a whole bubble is in view; two at once are one stretch."""
    whole = [whole_in_view(m) for m in masks]
    edges = np.diff(np.concatenate([[0], np.array(whole, int), [0]]))
    return tuple(zip(np.flatnonzero(edges == 1).tolist(), (np.flatnonzero(edges == -1) - 1).tolist(), strict=True))


def outcome(seen: Sequence[Seen], level: float, k: int, n: int) -> Outcome:
    """k of the last n frames at or above `level` halt; a person resumes at once; halts within half a second are one."""
    bubbles = missed = false_halts = frames = halted = 0
    delays = []
    for clip in seen:
        hot = (clip.scores >= level).astype(int)
        recent = np.convolve(hot, np.ones(n, int))[: len(hot)]
        halts = np.flatnonzero(recent >= k)
        frames += len(hot)
        halted += len(halts)
        for first, last in clip.bubbles:
            bubbles += 1
            here = halts[(halts >= first) & (halts <= last)]
            missed += not len(here)
            delays += [int(here[0]) - first] if len(here) else []
        # A halt rests on the last n frames: it is false when none of them showed any of a bubble.
        false = [int(h) for h in halts if not clip.peeking[max(0, h - n + 1) : h + 1].any()]
        false_halts += sum(b - a > FPS / 2 for a, b in zip([-1000, *false], false, strict=False))
    return Outcome(bubbles, missed, false_halts, frames, halted, tuple(delays))


def best_rule(seen: Sequence[Seen], allowed: float = MISSES_ALLOWED) -> tuple[float, int, int]:
    """(level, k, n) with the fewest false halts among those that miss few enough; of equals those that miss fewest, and
    of these the strictest: the quickest would be the one that is nearest to a false halt."""
    tried = [(outcome(seen, float(level), k, n), float(level), k, n) for level in LEVELS for k, n in RULES]
    good = [t for t in tried if t[0].miss_share <= allowed]
    if not good:
        best = min(tried, key=lambda t: (t[0].missed, t[0].false_halts))
        return best[1:]
    return min(good, key=lambda t: (t[0].false_halts, t[0].missed, -t[1], -t[2] / t[3], -t[3]))[1:]


def measure(bundles: dict[str, Path], count: int, choose: int) -> Iterator[Figure]:
    """`count` clips: the first `choose` to choose the rule, the others to judge it."""
    results: dict[str, Outcome] = {}
    judged = range(choose, count)
    for name, path in bundles.items():
        served = read_bundle(path)
        seen, took = watch(served, 1.0, range(count))
        level, k, n = best_rule(seen[:choose])
        found = results[name] = outcome(seen[choose:], level, k, n)
        note = f"halt at {k} of {n} frames from {level:g} on"
        yield Figure(f"{name}: missed", found.missed, f"of {found.bubbles}", note=note)
        yield _false_halts(f"{name}: false halts", found)
        for place, droplets in enumerate(DROPLETS):
            these = [seen[c] for c in judged if weather(c) == place]
            yield _false_halts(f"{name}: false halts at {droplets:g} droplets a frame", outcome(these, level, k, n))
        for allowed in MORE_ALLOWED:
            other = outcome(seen[choose:], *best_rule(seen[:choose], allowed))
            yield Figure(f"{name}: missed, {allowed:.0%} allowed", other.missed, f"of {other.bubbles}")
            yield _false_halts(f"{name}: false halts, {allowed:.0%} of misses allowed", other)
        yield Figure(f"{name}: delay, median", float(np.median(found.delays or [np.nan])), "frames", goal="<= 15")
        yield Figure(f"{name}: delay, p95", float(np.percentile(found.delays or [np.nan], 95)), "frames")
        yield Figure(f"{name}: ms a frame, p50", round(float(np.median(took)), 2), "ms", goal="<= 5")
        early, late = np.median(took[1:200]), np.median(took[-200:])
        yield Figure(f"{name}: last frames against first", round(float(late / early), 2), "times")
        for ambient in AMBIENT:
            if ambient != 1.0:
                other = outcome(watch(served, ambient, judged)[0], level, k, n)
                yield Figure(f"{name}: missed in {ambient:g} of the light", other.missed, f"of {other.bubbles}")
                yield _false_halts(f"{name}: false halts in {ambient:g} of the light", other)
    names = list(results)
    if len(names) == 2:
        clip, frame = (results[n].false_halts for n in names)
        yield Figure("false halts saved by remembering", round(100 * (1 - clip / max(1, frame))), "%", goal=">= 50")


def _false_halts(name: str, found: Outcome) -> Figure:
    most = upper_bound(found.false_halts, found.frames) * FPS * 3600
    minutes, halted = found.frames / FPS / 60, found.halted / found.frames
    note = (
        f"{found.false_halts} in {minutes:.1f} min, at most {most:.1f} an hour (95 %); {halted:.0%} of frames in a halt"
    )
    return Figure(name, round(found.per_hour, 1), "an hour", note=note)


def main(
    remembers: Annotated[Path, typer.Argument(help="The bundle trained with --frames.")],
    single: Annotated[Path | None, typer.Argument(help="The other, of single frames.")] = None,
    count: Annotated[int, typer.Option("--clips", min=2 * KINDS, help="Of 3.2 s each.")] = CLIPS,
    choose: Annotated[
        int | None, typer.Option(min=KINDS, help="So many of them choose the rule, the others judge it; default half.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """A model that remembers, alone or against one that sees single frames, behind the same search for a rule."""
    # Every weather in both parts.
    choose = (choose or count // 2) // KINDS * KINDS
    count -= count % KINDS
    if choose >= count:
        raise ConfigError("--choose", f"is {choose} of {count} clips", "leave some to judge")
    bundles = {"remembers": remembers} | ({"single frames": single} if single else {})
    tell(measure(bundles, count, choose), as_json=as_json)


if __name__ == "__main__":
    try:
        typer.run(main)
    except InputError as e:
        sys.exit(f"{e}")
