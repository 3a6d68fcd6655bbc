"""Simulated people whose true rules are known: how well the size band finds them. `python -m benchmarks.consistency`.

Three people judge 150 parts twice each. Sizes spread from 0.4 to 4 mm, evenly in their logarithm; a person calls a
part a defect with the chance their own threshold and doubt say. `alike` ties the calls of one part together, since
what misleads on a part misleads again; each single chance stays what it was.
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Annotated

import numpy as np
import typer

from benchmarks.figures import Figure, tell
from inspection.size_band import Call, NotEnough, SizeBand, size_band

PARTS, TRIALS, SIZES_MM = 150, 2, (0.4, 4.0)


@dataclass(frozen=True, slots=True)
class Crew:
    """The truth: each person's threshold in mm and sigma of ln size."""

    thresholds_mm: tuple[float, ...] = (1.4, 1.5, 1.6)
    sigmas: tuple[float, ...] = (0.10, 0.12, 0.15)

    def chance(self, size_mm: float) -> float:
        pairs = zip(self.thresholds_mm, self.sigmas, strict=True)
        return sum(1 / (1 + math.exp(-(math.log(size_mm / t)) / s)) for t, s in pairs) / len(self.sigmas)

    def size_at(self, chance: float) -> float:
        low, high = 0.01, 100.0
        for _ in range(60):
            middle = math.sqrt(low * high)
            low, high = (middle, high) if self.chance(middle) < chance else (low, middle)
        return low


def label(crew: Crew, seed: int, parts: int = PARTS, trials: int = TRIALS, alike: float = 0.0) -> list[Call]:
    rng = np.random.default_rng(seed)
    sizes = np.exp(rng.uniform(math.log(SIZES_MM[0]), math.log(SIZES_MM[1]), parts))
    of_part, calls = rng.normal(size=parts), []
    for who, (threshold, sigma) in enumerate(zip(crew.thresholds_mm, crew.sigmas, strict=True)):
        logit = np.log(sizes / threshold) / sigma
        for _ in range(trials):
            luck = math.sqrt(alike) * of_part + math.sqrt(1 - alike) * rng.normal(size=parts)
            said = np.array([NormalDist().cdf(z) for z in luck]) < 1 / (1 + np.exp(-logit))
            calls += [
                Call(f"person {who}", f"part {n}", float(s), bool(d))
                for n, (s, d) in enumerate(zip(sizes, said, strict=True))
            ]
    return calls


@dataclass(slots=True)
class Found:
    """Errors in mm over the runs, and how often the interval held the truth."""

    threshold: list[float]
    edges: list[float]
    held: list[bool]
    differ: list[bool]
    refused: int = 0


def run(crew: Crew, runs: int, draws: int, parts: int = PARTS, alike: float = 0.0) -> Found:
    found = Found([], [], [], [])
    truth = {"threshold_mm": crew.size_at(0.5), "low_mm": crew.size_at(0.1), "high_mm": crew.size_at(0.9)}
    for seed in range(runs):
        band = size_band(label(crew, seed, parts, alike=alike), draws=draws, seed=seed)
        if isinstance(band, NotEnough):
            found.refused += 1
            continue
        _compare(found, band, crew, truth)
    return found


def _compare(found: Found, band: SizeBand, crew: Crew, truth: dict[str, float]) -> None:
    pairs = [(getattr(band, name), value) for name, value in truth.items()]
    pairs += [(p.threshold_mm, t) for p, t in zip(band.people, crew.thresholds_mm, strict=True)]
    found.threshold += [abs(e.value - v) for e, v in (pairs[0], *pairs[3:])]
    found.edges += [abs(e.value - v) for e, v in pairs[1:3]]
    found.held += [e.low <= v <= e.high for e, v in pairs]
    found.differ.append(band.different_rules)


def measure(runs: int, draws: int) -> Iterator[Figure]:
    """Every figure the consistency page's documentation quotes."""
    usual = run(Crew(), runs, draws)
    note = f"{runs} simulations of 3 people x {PARTS} parts x {TRIALS}"
    yield Figure("threshold error, 95 % of them within", _p95(usual.threshold), "mm", "<= 0.1", note)
    yield Figure("band edge error, 95 % of them within", _p95(usual.edges), "mm", "<= 0.25", note)
    yield Figure("intervals that hold the truth", 100 * _share(usual.held), "%", ">= 93", note)
    tied = run(Crew(), runs, draws, alike=0.3)
    yield Figure("the same where calls of a part are tied", 100 * _share(tied.held), "%", ">= 93", "correlation 0.3")
    one_rule = run(Crew((1.5, 1.5, 1.5), (0.12, 0.12, 0.12)), runs, draws)
    yield Figure("one rule called different rules", 100 * _share(one_rule.differ), "%", "<= 8", "5 % by design")
    unlike = run(Crew((1.2, 1.5, 1.9), (0.12, 0.12, 0.12)), runs, draws)
    yield Figure("different rules (1.2, 1.5, 1.9 mm) called so", 100 * _share(unlike.differ), "%", ">= 95")
    few = run(Crew(), runs, draws, parts=12)
    yield Figure("12 parts refused as not enough", 100 * few.refused / runs, "%", ">= 100")


def _p95(errors: Sequence[float]) -> float:
    return round(float(np.quantile(errors, 0.95)), 3)


def _share(flags: Sequence[bool]) -> float:
    return round(sum(flags) / max(1, len(flags)), 4)


def main(
    as_json: Annotated[bool, typer.Option("--json", help="A list of figure, value, unit, goal, ok, machine.")] = False,
    runs: Annotated[int, typer.Option(min=20, help="Simulations per figure.")] = 200,
    draws: Annotated[int, typer.Option(min=100, help="Bootstrap draws per simulation.")] = 400,
    cycle: Annotated[bool, typer.Option("--cycle", help="Instead: once round the loop in the hub's own code.")] = False,
    model: Annotated[bool, typer.Option("--model", help="Instead: what one rule does to people and model.")] = False,
    seeds: Annotated[
        int, typer.Option(min=2, max=5, help="With --cycle, --model or --crops: how often all of it is drawn anew.")
    ] = 5,
    crops: Annotated[
        bool, typer.Option("--crops", help="The same as --model with crops of real scratches (HALTLINE_DATA).")
    ] = False,
    plots: Annotated[Path | None, typer.Option(help="With --model or --crops: a folder for the pictures.")] = None,
) -> None:
    """Does the size band find the rules simulated people really follow?"""
    if cycle:
        from benchmarks import consistency_cycle

        tell(consistency_cycle.figures(seeds), as_json=as_json)
        return
    if model or crops:
        tell(_helped(model=model, crops=crops, seeds=seeds, plots=plots), as_json=as_json)
        return
    tell(measure(runs, draws), as_json=as_json)


def _helped(*, model: bool, crops: bool, seeds: int, plots: Path | None) -> Iterator[Figure]:
    """What one rule does, rendered and real. Asked for both, the real ones are left out where their pictures are."""
    from benchmarks import consistency_crops, consistency_cycle, consistency_model  # torch only when it is wanted

    if plots:
        plots.mkdir(parents=True, exist_ok=True)  # before an hour of work, not after
    if model:
        yield from consistency_cycle.figures()
        yield from consistency_model.figures(seeds, plots and plots / "consistency-model.svg")
    data = Path(os.environ.get("HALTLINE_DATA", "../shared/data"))
    if model and crops and not (data / "manifest.csv").is_file():
        sys.stderr.write(f"crops of real scratches are not measured: {data} holds no public images (HALTLINE_DATA)\n")
    elif crops:
        real = consistency_crops.source(data)
        yield from consistency_model.figures(
            seeds, plots and plots / "consistency-crops.svg", real, "crops of real scratches"
        )


if __name__ == "__main__":
    typer.run(main)
