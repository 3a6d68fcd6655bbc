"""The flow's JavaScript runs here, under Node, on the stories the reference watchdog answers to."""

from __future__ import annotations

import json
import random
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from test_structured_text import MS, NAMES, VECTORS, random_story, reference_step

from deploy.plc_flow import FLOW, text
from inspection.messages import Heartbeat, Permit, PlcState, Resume, Stop
from inspection.watchdog import Watchdog, WatchdogLimits
from tests.conftest import missing

HARNESS = Path(__file__).with_name("run_flow.js")
LIMITS = {"watchdog_ms": 1000, "max_age_ms": 1000, "max_echo_lag": 4}


def play(stories: list[dict[str, Any]]) -> list[list[dict[str, Any]]]:
    """Every story through the function node of the shipped flow; permits as the edge writes them."""
    node = shutil.which("node") or shutil.which("nodejs")
    if node is None:
        missing("node")
    function = next(n for n in json.loads(FLOW.read_bytes()) if n["type"] == "function")
    for story in stories:
        for step in story["steps"]:
            if step["do"] == "permit" and "payload" not in step:
                permit = Permit(ts_ms=0, **{name: step[name] for name in NAMES})
                step["payload"] = permit.encode().decode()
            step.setdefault("payload", "{not json")
    done = subprocess.run(
        [str(node), str(HARNESS)],
        input=json.dumps({"func": function["func"], "stories": stories}),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    outcomes: list[list[dict[str, Any]]] = json.loads(done.stdout)
    return outcomes


def story(*steps: dict[str, Any]) -> dict[str, Any]:
    return {"limits": LIMITS, "hb": 1000, "steps": list(steps)}


def permit(at_ms: int, seq: int = 1, **fields: Any) -> dict[str, Any]:
    good = {"boot": 17, "run": 1, "code": 0, "halt": 0, "echo": 1000, "age_ms": 30, "retained": 0}
    return {"do": "permit", "at_ms": at_ms, "seq": seq, **good, **fields}


def test_the_flow_is_current() -> None:
    assert FLOW.read_text(encoding="utf-8") == text(), "run: python -m deploy.plc_flow"


def test_the_flow_hangs_together() -> None:
    nodes = json.loads(FLOW.read_bytes())
    ids = {n["id"] for n in nodes}
    assert len(ids) == len(nodes)
    wired = {target for n in nodes for wire in n.get("wires", []) for target in wire}
    assert wired <= ids
    permit_in = next(n for n in nodes if n["type"] == "mqtt in")
    assert permit_in["rap"] is False, "with retain as published a live permit would look like a retained one"
    outs = {n["topic"].split("weld1/")[1]: (n["qos"], n["retain"]) for n in nodes if n["type"] == "mqtt out"}
    orders = {"cmd/resume": ("1", "false"), "cmd/stop": ("1", "false")}
    assert outs == {"plc/hb": ("0", "false"), "plc/state": ("1", "true"), **orders}


def test_stories() -> None:
    for told, outcome in zip(VECTORS, play(VECTORS), strict=True):
        for number, (step, after) in enumerate(zip(told["steps"], outcome, strict=True), 1):
            assert after["line"] == step["line"], f"{told['name']}, step {number}: {step}; {after}"


def test_the_flow_and_the_reference_never_differ() -> None:
    rng = random.Random(11)
    stories = []
    for _ in range(300):
        hb, steps = random_story(rng, 60)
        # a controller scans between messages, and so does the flow
        scanned = [s for step in steps for s in (step, {"do": "tick", "at_ms": step["at_ms"]})]
        stories.append({"limits": LIMITS, "hb": hb, "steps": scanned})
    for told, outcome in zip(stories, play(stories), strict=True):
        dog = Watchdog(WatchdogLimits(), told["hb"])
        for step, after in zip(told["steps"], outcome, strict=True):
            if step["do"] == "start":
                dog.start(step["at_ms"] * MS)
            else:
                reference_step(dog, step) if step["do"] != "tick" else dog.tick(step["at_ms"] * MS)
            assert (after["line"], after["hb"]) == (dog.line.value, dog.hb), f"{step} {after} {dog.why}"
            if step["do"] == "tick":
                assert after["why"] == dog.why


@pytest.mark.parametrize(
    "payload",
    [
        "",
        "null",
        "[]",
        "17",
        "{}",
        '{"v":1}',
        '{"v":2,"boot":17,"seq":2,"run":1,"code":0,"halt":0,"echo":1000,"age_ms":30,"ts_ms":0}',
        '{"v":1,"boot":17,"seq":2,"run":true,"code":0,"halt":0,"echo":1000,"age_ms":30,"ts_ms":0}',
        '{"v":1,"boot":17,"seq":"2","run":1,"code":0,"halt":0,"echo":1000,"age_ms":30,"ts_ms":0}',
        '{"v":1,"boot":17,"seq":2,"run":1,"code":0,"halt":0,"echo":1000,"age_ms":-1,"ts_ms":0}',
        '{"v":1,"boot":17,"seq":2,"run":1,"code":0,"halt":0,"echo":1000,"ts_ms":0}',
        '{"v":1,"boot":17,"seq":2.5,"run":1,"code":0,"halt":0,"echo":1000,"age_ms":30,"ts_ms":0}',
        '{"v":1,"boot":17,"seq":2,"run":1,"code":0,"halt":0,"echo":1000,"age_ms":30,"ts_ms":0,"more":1}',
    ],
)
def test_what_does_not_read_renews_nothing(payload: str) -> None:
    bad = {"do": "permit", "at_ms": 1001, "payload": payload}
    told = story(permit(0), {"do": "start", "at_ms": 0}, {**bad, "at_ms": 900}, {"do": "tick", "at_ms": 1001})
    after = play([told])[0]
    assert after[2]["line"] == "RUNNING", "one bad payload is no stop order"
    assert after[3]["line"] == "TRIPPED"


def test_a_clock_that_steps_back_makes_the_permit_unknown() -> None:
    after = play([story(permit(5000), {"do": "start", "at_ms": 5000}, {"do": "tick", "at_ms": 1000})])[0]
    assert [a["line"] for a in after] == ["TRIPPED", "RUNNING", "TRIPPED"]


def test_what_it_sends_is_in_the_contract() -> None:
    halted = permit(10, seq=2, run=0, code=1, halt=170_001)
    steps = (permit(0), {"do": "start", "at_ms": 0}, {"do": "beat", "at_ms": 5}, halted, {"do": "reset", "at_ms": 20})
    after = play([story(*steps)])[0]
    assert Heartbeat.decode(after[2]["out"][0]["payload"].encode()).n == 1001
    assert PlcState.decode(after[1]["out"][1]["payload"].encode()).state == "RUNNING"
    assert after[1]["out"][2] == {"payload": True}
    told = PlcState.decode(after[3]["out"][1]["payload"].encode())
    assert (told.state, told.why) == ("TRIPPED", "halt 170001, code 1")
    assert after[3]["out"][2] == {"payload": False}
    resume = Resume.decode(after[4]["out"][3]["payload"].encode())
    assert (resume.halt, resume.boot, resume.seq) == (170_001, 17, 2)
    stopped = play([story(permit(0), {"do": "start", "at_ms": 0}, {"do": "stop", "at_ms": 10})])[0][2]
    assert stopped["line"] == "TRIPPED", "the controller stops by itself, and tells the edge"
    assert Stop.decode(stopped["out"][4]["payload"].encode()).who == "panel"
    no_halt = play([story(permit(0), {"do": "reset", "at_ms": 1})])[0]
    assert no_halt[1]["out"][3] is None
