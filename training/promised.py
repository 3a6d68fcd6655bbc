"""A promise beside its run, and its limits in what is exported."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from pydantic import ValidationError

from inspection.bundle import ClassLimits
from inspection.errors import DatasetError
from training.calibrate import ClassCalibration
from training.checkpoint import write_atomically
from training.promise import Promise

PROMISE_FILE = "limits.json"


def write_promise(run: Path, promise: Promise) -> None:
    write_atomically(run / PROMISE_FILE, (promise.model_dump_json(indent=2) + "\n").encode())


def read_promise(run: Path, snapshot_id: str, views: int = 1) -> Promise | None:
    """The promise of `haltline train limits`; None where none was asked for. DatasetError when it is not this run's."""
    path = run / PROMISE_FILE
    if not path.exists():
        return None
    again = "run `haltline train limits` again, or remove the file"
    try:
        promise = Promise.model_validate_json(path.read_bytes())
    except (OSError, ValidationError) as e:
        raise DatasetError(path, f"is no promise: {e}", again) from e
    if promise.snapshot != snapshot_id:
        raise DatasetError(path, f"was made on {promise.snapshot}, the run on {snapshot_id}", again)
    if promise.views != views:
        fix = f"say --views {promise.views}, or run `haltline train limits … --views {views}`, or remove the file"
        raise DatasetError(path, f"promises of {promise.views} views of a picture, not of {views}", fix)
    return promise


def certified_limits(limits: Sequence[ClassLimits], promise: Promise) -> tuple[ClassLimits, ...]:
    sides = [promise.limits[m.cls] for m in limits]
    return tuple(m.model_copy(update={"lo": lo, "hi": hi}) for m, (lo, hi) in zip(limits, sides, strict=True))


def with_promise(classes: Sequence[ClassCalibration], promise: Promise | None) -> list[ClassCalibration]:
    """The calibrations with the promised limits; as they are without a promise."""
    if promise is None:
        return list(classes)
    kept = certified_limits([c.limits for c in classes], promise)
    return [replace(c, limits=m) for c, m in zip(classes, kept, strict=True)]


def promise_words(p: Promise) -> str:
    """The promise as the card has it, in Markdown."""
    if p.asked.rule == "crc":
        sure = "on average over calibrations (conformal risk control; no single calibration is bounded)"
    else:
        sure = f"both together with {p.asked.confidence:.0%} confidence (Learn then Test, exact binomial)"
    per_class = "\n".join(f"| {cls} | {b.k} of {b.n} | {b.at_most:.1%} |" for cls, b in p.miss_of.items())
    costs = ""
    if p.costs:
        of = "".join(f", {cls} {value:g}" for cls, value in p.costs.escape_of.items())
        costs = (
            f"\nCosts moved them further to the safe side: a passed defect {p.costs.escape:g}{of}, a false stop "
            f"{p.costs.stop:g}, a person's look {p.costs.review:g}.\n"
        )
    return f"""\
## Promised

At most **{p.asked.miss:.2%} of defective parts are passed** and at most **{p.asked.false_halt:.2%} of good parts stop
the line**, {sure}. Counted by groups (parts, scenes) of the test pictures, for parts like those: {p.miss.k} of
{p.miss.n} defective groups were passed, {p.false_halt.k} of {p.false_halt.n} good groups stopped, and
{p.uncertain:.1%} of the pictures went to a person.

The promise is about all classes together. Of each class alone less is known:

| class | groups passed | miss rate under |
| --- | --- | --- |
{per_class}
{costs}"""
