"""deploy/plc/haltline_watchdog.st runs here, as written, on the stories the reference watchdog answers to."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest
import st

from inspection.messages import Permit
from inspection.watchdog import Line, Watchdog, WatchdogLimits

ROOT = Path(__file__).resolve().parents[2]
TEXT = ROOT / "deploy" / "plc" / "haltline_watchdog.st"
VECTORS: list[dict[str, Any]] = json.loads((ROOT / "tests" / "inspection" / "watchdog_vectors.json").read_bytes())
NAMES = {"boot": "udiBoot", "seq": "udiSeq", "run": "udiRun", "code": "udiCode", "halt": "udiHalt"}
NAMES |= {"echo": "udiEcho", "age_ms": "udiAgeMs"}
MS = 1_000_000
WHY = ("not started", "no valid permit", "halt", "retained halt", "newest judged frame", "started")
"""The beginnings of the reference's reasons, in the order of the block's uiWhy."""


class Controller:
    """A controller around the block: one scan per step, `hb` counted outside, the clock starting anywhere."""

    def __init__(
        self, limits: dict[str, int], hb: int, *, wide: bool = True, clock0_ms: int = 0, text: Path = TEXT
    ) -> None:
        self.block = st.load(text, "FB_HaltlineWatchdog", wide=wide)
        self.hb, self.clock0_ms, self.flickered = hb % 2**32, clock0_ms, False
        self.limits = {
            "udiWatchdogMs": limits["watchdog_ms"],
            "udiMaxAgeMs": limits["max_age_ms"],
            "udiMaxEchoLag": limits["max_echo_lag"],
        }
        self.scan(0)

    def scan(self, at_ms: int, *, arrived: bool = False, start: bool = False, **fields: Any) -> None:
        now = (self.clock0_ms + at_ms) % 2**32
        self.block(xArrived=arrived, xStart=start, udiHb=self.hb, udiNowMs=now, **self.limits, **fields)

    def take(self, step: dict[str, Any]) -> None:
        at_ms = step["at_ms"]
        if step["do"] == "permit":
            fields = {st_name: step[name] for name, st_name in NAMES.items()}
            self.scan(at_ms, arrived=True, xRetained=bool(step["retained"]), **fields)
        elif step["do"] == "start":
            self.scan(at_ms, start=True)
            self.flickered = bool(self.block.xRun)
            self.scan(at_ms)  # the button is let go
            self.flickered &= not self.block.xRun
        else:
            if step["do"] == "beat":
                self.hb = (self.hb + 1) % 2**32
            self.scan(at_ms)

    @property
    def line(self) -> str:
        """FLICKERED: it ran for one scan only, which is one too many."""
        return "FLICKERED" if self.flickered else "RUNNING" if self.block.xRun else "TRIPPED"


@pytest.mark.parametrize("clock0_ms", [0, 2**32 - 600], ids=["clock", "clock wraps"])
@pytest.mark.parametrize("wide", [False, True], ids=["32 bits", "64 bits"])
@pytest.mark.parametrize("story", VECTORS, ids=[v["name"] for v in VECTORS])
def test_story(story: dict[str, Any], wide: bool, clock0_ms: int) -> None:
    plc = Controller(story["limits"], story["hb"], wide=wide, clock0_ms=clock0_ms)
    for number, step in enumerate(story["steps"], 1):
        plc.take(step)
        assert plc.line == step["line"], f"step {number}: {step}; why {plc.block.uiWhy}"


def reference_step(dog: Watchdog, step: dict[str, Any]) -> None:
    """The reference, scanned as a controller scans: each step is followed by a tick of the same moment."""
    now_ns = step["at_ms"] * MS
    if step["do"] == "permit":
        permit = Permit(ts_ms=0, **{name: step[name] for name in NAMES})
        dog.permit(now_ns, permit, retained=bool(step["retained"]))
    elif step["do"] == "start":
        dog.tick(now_ns)
        dog.start(now_ns)
    elif step["do"] == "beat":
        dog.beat()
    dog.tick(now_ns)


def random_story(rng: random.Random, length: int) -> tuple[int, list[dict[str, Any]]]:
    """Mostly a healthy line, near the wraps of every counter, with everything that goes wrong mixed in."""
    hb = first = rng.choice([1000, 2**32 - 3, 0])
    boot, seq, at_ms = rng.choice([17, 2**32 - 1]), rng.choice([5, 2**32 - 4]), 0
    steps: list[dict[str, Any]] = []
    for _ in range(length):
        at_ms += rng.choice([0, 5, 250, 250, 250, 999, 1000, 1001, 1500])
        do = rng.choices(["permit", "start", "beat", "tick", "unreadable"], [10, 4, 5, 4, 1])[0]
        step: dict[str, Any] = {"do": do, "at_ms": at_ms}
        if do == "beat":
            hb = (hb + 1) % 2**32
        if do == "permit":
            seq = (seq + rng.choice([1, 1, 1, 1, 0, -2, 2**31, 1000])) % 2**32
            boot = (boot + rng.choices([0, 1, -1], [20, 1, 1])[0]) % 2**32
            run = rng.choices([1, 0], [6, 1])[0]
            step |= {"boot": boot, "seq": seq, "run": run, "code": 0 if run else 1, "halt": 0 if run else 170_001}
            step |= {"echo": (hb - rng.choice([0, 1, 4, 5, -1])) % 2**32, "age_ms": rng.choice([30, 1000, 1001])}
            step["retained"] = rng.random() < 0.1
        steps.append(step)
    return first, steps


@pytest.mark.parametrize("wide", [False, True], ids=["32 bits", "64 bits"])
def test_the_text_and_the_reference_never_differ(wide: bool) -> None:
    """Line, readiness, reason and what a reset must name, after every step of 300 random stories."""
    rng = random.Random(7)
    seen: set[str] = set()
    for _ in range(300):
        hb, steps = random_story(rng, 60)
        plc = Controller({"watchdog_ms": 1000, "max_age_ms": 1000, "max_echo_lag": 4}, hb, wide=wide, clock0_ms=2**31)
        dog = Watchdog(WatchdogLimits(), hb)
        dog.tick(0)
        for number, step in enumerate(steps):
            plc.take(step)
            reference_step(dog, step)
            told = f"{steps[max(0, number - 6) : number + 1]}: {dog.why!r} against {plc.block.uiWhy}"
            assert plc.line == dog.line.value, told
            assert plc.block.xReady == dog.ready(step["at_ms"] * MS), told
            assert dog.why.startswith(WHY[plc.block.uiWhy]), told
            if dog.newest:
                newest = (dog.newest.boot, dog.newest.seq, dog.newest.halt, dog.newest.code)
                block = plc.block
                assert newest == (block.udiNewestBoot, block.udiNewestSeq, block.udiOpenHalt, block.udiOpenCode), told
            seen.add(dog.why.split(" ")[0])
            seen.add(dog.line.value)
    assert {Line.RUNNING.value, "halt", "retained", "newest", "no"} <= seen, "the stories must reach every reason"


def test_a_dead_permit_does_not_come_alive_when_the_clock_has_gone_round() -> None:
    plc = Controller({"watchdog_ms": 1000, "max_age_ms": 1000, "max_echo_lag": 4}, 1000)
    permit = {"do": "permit", "boot": 1, "seq": 1, "run": 1, "code": 0, "halt": 0, "echo": 1000, "age_ms": 1}
    plc.take({**permit, "retained": 0, "at_ms": 0})
    assert plc.block.xReady
    plc.take({"do": "tick", "at_ms": 5000})
    plc.take({"do": "start", "at_ms": 2**32 + 10})
    assert plc.line == "TRIPPED"


def test_a_button_held_at_power_up_or_held_through_a_trip_starts_nothing() -> None:
    block = st.load(TEXT, "FB_HaltlineWatchdog", wide=False)
    good: dict[str, Any] = {"xArrived": True, "xRetained": False, "udiBoot": 1, "udiRun": 1, "udiEcho": 7, "udiHb": 7}
    block(udiSeq=1, udiNowMs=0, xStart=True, **good)
    assert not block.xRun
    block(udiSeq=2, udiNowMs=10, xStart=False, **good)
    block(udiSeq=3, udiNowMs=20, xStart=True, **good)
    assert block.xRun
    block(udiSeq=4, udiNowMs=30, **{**good, "udiRun": 0})
    block(udiSeq=5, udiNowMs=40, **good)
    assert not block.xRun
    assert block.xReady


def test_the_heartbeat_starts_at_its_seed_counts_every_250_ms_and_wraps() -> None:
    beat = st.load(TEXT, "FB_HaltlineHeartbeat", wide=True)
    sent = []
    for at_ms in range(0, 1010, 10):
        beat(udiSeed=2**32 - 2, udiNowMs=(2**32 - 300 + at_ms) % 2**32)
        if beat.xSend:
            sent.append((at_ms, beat.udiHb))
    assert sent == [(0, 2**32 - 2), (250, 2**32 - 1), (500, 0), (750, 1), (1000, 2)]


WRONG = [
    ("IF xArrived AND NOT (xRetained AND udiRun = 1) THEN", "IF xArrived THEN"),
    ("udiDiff < 16#80000000", "udiDiff > 0"),
    ("xNewer := udiDiff > 0 AND", "xNewer := udiDiff >= 0 AND"),
    ("udiDiff > udiWatchdogMs", "udiDiff >= udiWatchdogMs"),
    ("udiAgeMs > udiMaxAgeMs", "udiAgeMs >= udiMaxAgeMs"),
    ("udiDiff <= udiMaxEchoLag", "udiDiff < udiMaxEchoLag"),
    ("AND NOT xStartWas AND xValid", "AND NOT xStartWas"),
    ("IF xRun AND NOT xValid THEN", "IF FALSE AND NOT xValid THEN"),
    ("        udiNewestBoot := udiBoot;", "        udiNewestBoot := udiNewestBoot;"),
    ("ELSIF udiRun <> 1 THEN", "ELSIF FALSE THEN"),
    ("    xRun := FALSE;", "    xRun := xRun;"),
]


@pytest.mark.parametrize(("right", "wrong"), WRONG, ids=[w for _, w in WRONG])
def test_the_stories_notice_a_wrong_text(right: str, wrong: str, tmp_path: Path) -> None:
    text = TEXT.read_text(encoding="utf-8")
    assert right in text
    broken = tmp_path / "broken.st"
    broken.write_text(text.replace(right, wrong, 1), encoding="utf-8")

    def holds(story: dict[str, Any]) -> bool:
        plc = Controller(story["limits"], story["hb"], text=broken)
        return all((plc.take(step), plc.line == step["line"])[1] for step in story["steps"])

    assert not all(holds(story) for story in VECTORS)
