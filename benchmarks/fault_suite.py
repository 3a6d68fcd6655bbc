"""Faults 8, 22 and 23: those whose full numbers are the suite's own tests, run as they stand and counted one by one.

A test that was skipped or did not run counts as one that failed: a row that checks nothing must not look well.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from benchmarks.figures import Figure

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True, slots=True)
class Case:
    """One test's outcome and what it recorded about itself."""

    name: str
    passed: bool
    properties: dict[str, str]


def run_tests(path: str, *, full: bool) -> list[Case]:
    """The tests of one file, in a pytest of their own; `full` asks them for their full numbers."""
    if not (ROOT / path).is_file():
        raise FileNotFoundError(f"{path} is not here: the faults run from a checkout, not from an installed package")
    with tempfile.TemporaryDirectory() as name:
        report = Path(name) / "report.xml"
        options = ["-q", "-p", "no:cacheprovider", "-o", "junit_family=xunit1", f"--junitxml={report}"]
        env = {**os.environ, "HALTLINE_FULL": "1" if full else "0"}
        args = [sys.executable, "-m", "pytest", path, *options]
        done = subprocess.run(args, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
        if not report.exists():
            raise RuntimeError(f"pytest wrote no report: {done.stdout[-500:]}{done.stderr[-500:]}")
        return [_case(node) for node in ET.parse(report).iter("testcase")]


def _case(node: ET.Element) -> Case:
    outcomes = {child.tag for child in node}
    properties = {p.get("name", ""): p.get("value", "") for p in node.iter("property")}
    return Case(node.get("name", ""), not outcomes & {"failure", "error", "skipped"}, properties)


def fault_8(*, full: bool) -> list[Figure]:
    """Guard, publisher, network and watchdog as one state machine, driven by hypothesis."""
    cases = run_tests("tests/inspection/test_guard_machine.py", full=full)
    (case,) = [case for case in cases if case.name == "test_a_running_line_has_a_fresh_permit_and_no_open_halt"]
    histories = int(case.properties.get("histories", 0))
    running = case.properties.get("scans while running", "0")
    return [
        Figure("histories without a breach", histories if case.passed else 0, "", f">= {10_000 if full else 150}"),
        Figure("the same: scans of a running line in them", int(running), "", ">= 1000"),
    ]


def fault_22(*, full: bool) -> list[Figure]:
    """Hostile bundles, each offered to a running rollout: refused by a check, and the old model serves on."""
    cases = run_tests("tests/edge/test_rollout.py", full=full)
    hostile = [case for case in cases if case.name.startswith("test_a_hostile_bundle_is_refused")]
    hostile += [case for case in cases if case.name == "test_links_are_refused"]
    good = [case for case in cases if case.name.startswith("test_a_good_bundle_is_served")]
    return [
        Figure("hostile bundles refused, the old model serving", sum(c.passed for c in hostile), "", ">= 60"),
        _failed(hostile, "hostile bundles not refused by a check"),
        _failed(good, "good bundles refused"),
    ]


REFUSED: dict[str, Callable[[str], bool]] = {
    "strangers: no certificate, another CA, no TLS": lambda name: "strangers" in name,
    "forged messages: another edge, an unknown name, a PLC's permit, a hub's heartbeat": lambda name: "forged" in name,
    "commands of another station": lambda name: "nobody_reads" in name,
    "1,000 malformed payloads, each refused and logged": lambda name: "malformed_payloads" in name,
    "garbage instead of TLS and instead of MQTT": lambda name: "garbage" in name,
    "and what each may do it can": lambda name: "what_each_may_do" in name or "halt_a_reset" in name,
}


def fault_23(*, full: bool) -> list[Figure]:
    """The shipped plant broker with TLS and ACL, a running line, and everybody who must change nothing there."""
    cases = run_tests("tests/edge/test_tls.py", full=full)
    by_kind = {what: [case for case in cases if mine(case.name)] for what, mine in REFUSED.items()}
    return [_failed(found, f"{what}: tests failed, of {len(found)}") for what, found in by_kind.items()]


def _failed(cases: list[Case], figure: str) -> Figure:
    """How many did not pass; without any test at all, one."""
    wrong = [case.name for case in cases if not case.passed]
    return Figure(figure, len(wrong) if cases else 1, "", "<= 0", ", ".join(wrong[:3]))
