"""The PLC's watchdog against the line contract's rule. The stories stand in `watchdog_vectors.json`.

They are data so that every form of the watchdog (this reference, Structured Text, Node-RED) answers to the same ones.
A script: `limits`, the heartbeat count `hb` it begins with, and `steps`. Each step has a time `at_ms`, something to do
(`permit`, `start`, `beat`, `tick`, `unreadable`) and the state of the `line` after it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from inspection.messages import Permit
from inspection.watchdog import Line, Watchdog, WatchdogLimits

MS = 1_000_000
VECTORS: list[dict[str, Any]] = json.loads(Path(__file__).with_name("watchdog_vectors.json").read_bytes())
FIELDS = ("boot", "seq", "run", "code", "halt", "echo", "age_ms")


def permit(seq: int = 1, **fields: int) -> Permit:
    good = {"boot": 17, "run": 1, "code": 0, "halt": 0, "echo": 1000, "age_ms": 30, "ts_ms": 0}
    return Permit(seq=seq, **(good | fields))  # type: ignore[arg-type]


def take(dog: Watchdog, step: dict[str, Any]) -> bool | int:
    now_ns = step["at_ms"] * MS
    match step["do"]:
        case "permit":
            message = permit(**{name: step[name] for name in FIELDS})
            return dog.permit(now_ns, message, retained=bool(step["retained"]))
        case "start":
            return dog.start(now_ns)
        case "beat":
            return dog.beat()
        case "tick":
            return dog.tick(now_ns)
        case "unreadable":
            return dog.unreadable(now_ns)
    raise AssertionError(f"no such step: {step}")


@pytest.mark.parametrize("story", VECTORS, ids=[v["name"] for v in VECTORS])
def test_story(story: dict[str, Any]) -> None:
    dog = Watchdog(WatchdogLimits(**story["limits"]), story["hb"])
    for number, step in enumerate(story["steps"], 1):
        was = dog.line
        answer = take(dog, step)
        assert dog.line.value == step["line"], f"step {number}: {step}; {dog.why}"
        if step["do"] == "start":
            assert answer == (dog.line is Line.RUNNING)
        elif step["do"] != "beat":
            assert answer == (was is Line.RUNNING and dog.line is Line.TRIPPED)


def test_only_a_start_makes_a_line_run() -> None:
    """Over all stories at once: no other step may turn TRIPPED into RUNNING."""
    for story in VECTORS:
        states = ["TRIPPED", *(step["line"] for step in story["steps"])]
        for step, before in zip(story["steps"], states, strict=False):
            assert step["do"] == "start" or before == "RUNNING" or step["line"] == "TRIPPED", story["name"]


def test_the_first_reason_of_a_trip_is_the_one_to_show() -> None:
    dog = Watchdog(WatchdogLimits(), 1000)
    assert dog.why == "not started"
    dog.permit(0, permit(1), retained=False)
    assert dog.why == "not started"
    dog.start(1 * MS)
    dog.permit(2 * MS, permit(2, run=0, code=1, halt=170_001), retained=False)
    dog.tick(5000 * MS)
    assert dog.why == "halt 170001, code 1"


def test_a_line_that_never_got_a_permit_says_so() -> None:
    dog = Watchdog(WatchdogLimits(), 1000)
    dog.tick(0)
    assert dog.why == "no valid permit for 1000 ms"


def test_the_heartbeat_counts_up_and_wraps() -> None:
    dog = Watchdog(WatchdogLimits(), 2**32 - 2)
    assert [dog.beat(), dog.beat(), dog.beat()] == [2**32 - 1, 0, 1]
    assert Watchdog(WatchdogLimits(), 2**32 + 5).hb == 5
