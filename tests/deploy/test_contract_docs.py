"""The page on the line contract says what the code does, and its promises are in it."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy.contract_docs import PAGE, filled, states
from inspection.messages import MESSAGES, PERMIT_PERIOD_MS, Permit
from inspection.policy import ClassPolicy, Policy
from inspection.states import TRANSITIONS
from inspection.watchdog import WatchdogLimits

ROOT = PAGE.parent.parent
TEXT = PAGE.read_text(encoding="utf-8")


def test_the_page_is_current() -> None:
    assert filled(TEXT) == TEXT, "run: python -m deploy.contract_docs"


def test_the_diagram_draws_every_transition() -> None:
    drawn = re.findall(r"^ {4}(\w+) --> (\w+):", states(), re.MULTILINE)
    assert sorted(drawn) == sorted((old.value, new.value) for (old, _), new in TRANSITIONS.items())


def test_every_message_is_on_the_page() -> None:
    for message in MESSAGES:
        assert f"| `{message.TOPIC}` |" in TEXT


def test_the_example_permit_decodes_and_is_what_the_edge_would_write() -> None:
    example = re.search(r"^\{.*\"boot\".*\}$", TEXT, re.MULTILINE)
    assert example
    permit = Permit.decode(example[0].encode())
    assert permit.encode() == example[0].encode()
    short = permit.short().decode()
    assert f"`{short}`" in TEXT


def test_the_numbers_are_those_of_the_code() -> None:
    limits, policy = WatchdogLimits(), Policy((ClassPolicy("x", 0.1, 0.9),))
    assert f"every {PERMIT_PERIOD_MS} ms" in TEXT
    assert f"`watchdog_ms` ({limits.watchdog_ms:,} ms" in TEXT
    assert f"`max_age_ms` ({limits.max_age_ms:,})" in TEXT
    assert f"at most {limits.max_echo_lag} counts behind" in TEXT
    assert f"`lease_ms` ({policy.lease_ms} ms)" in TEXT
    assert f"at most {policy.resume_max_permits} permits old" in TEXT


@pytest.mark.parametrize(
    "page",
    ["docs/line-contract.md", "docs/decisions/0001-quality-stop-not-safety.md", "deploy/plc/haltline_watchdog.st"],
)
def test_it_says_that_it_is_no_safety_function(page: str) -> None:
    text = " ".join((ROOT / page).read_text(encoding="utf-8").split())
    assert re.search(r"not a safety function|NOT a safety function", text)
    assert re.search(r"\bPL\b", text)
    assert re.search(r"\bSIL\b", text)
    assert "emergency-stop" in text


def test_links_lead_somewhere() -> None:
    for page in [PAGE, *(ROOT / "docs" / "decisions").glob("000[123]-*.md")]:
        for target in re.findall(r"\]\(([^)#]+?)\)", page.read_text(encoding="utf-8")):
            if "://" not in target:
                assert (page.parent / target).exists(), f"{page.name}: {target}"


def test_paths_in_the_text_exist() -> None:
    for path in re.findall(r"`((?:deploy|tests|docs)/[\w./-]+)`", TEXT):
        assert (ROOT / Path(path)).exists(), path
