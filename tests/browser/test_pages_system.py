"""The System page in a browser: test a camera, back up, and what it shows when things fail."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import httpx
import pytest
from playwright.sync_api import Page, expect

from tests.browser.where import wait_for_path
from tests.conftest import free_port
from tests.review.factory import FakeEdge, HubProcess, until

pytestmark = [pytest.mark.browser, pytest.mark.broker]


def enter(page: Page, hub: HubProcess, name: str) -> None:
    page.goto(f"{hub.url}/who?next=/system")
    page.get_by_role("button", name=name).click()
    wait_for_path(page, "/system")


def test_an_engineer_sees_what_runs_and_backs_it_up(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    enter(page, hub, "Chen")
    row = page.locator(f'[id="edge-plant~line-a~{edge.topics.station}"]')
    expect(row).to_contain_text("has not said what it runs on")
    edge.about()
    expect(row).to_contain_text("Really runs on")
    expect(row).to_contain_text("CPUExecutionProvider")
    expect(row).to_contain_text("41.0 GiB free")
    expect(row).to_contain_text("in step with the hub")
    row.get_by_text("Configuration").click()
    expect(row.locator("pre")).to_contain_text('"k": 3')
    page.evaluate(
        """() => new Promise((done) => {
          document.addEventListener('htmx:after:swap', () => done(), { once: true });
          htmx.trigger('#system', 'refetch');
        })"""
    )
    expect(row.locator("pre")).to_be_visible()  # what was opened to be read stays open
    page.get_by_role("button", name="Back up now").click()
    until(lambda: any((hub.data / "backups").glob("*Z/files.jsonl")), 15, "a backup")
    expect(page.locator(".hub")).to_contain_text("files,", timeout=15_000)
    assert page.evaluate("document.documentElement.scrollWidth") <= 1280


def test_a_camera_is_tested_and_says_what_is_wrong(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    edge.about()
    enter(page, hub, "Ana")
    row = page.locator(f'[id="edge-plant~line-a~{edge.topics.station}"]')
    expect(row.locator("details")).to_have_count(0)  # the configuration is for engineers
    expect(page.get_by_role("button", name="Back up now")).to_have_count(0)
    row.get_by_role("button", name="Test camera").click()
    expect(row.locator(".answer")).to_contain_text("✓ frames come and can be judged")
    assert [(t.camera, t.who) for t in edge.tests] == [("cam", "Ana (operator)")]
    edge.sees = False
    row.get_by_role("button", name="Test camera").click()
    expect(row.locator(".answer")).to_contain_text("▲ cam: the picture is dark")


def test_without_a_name_the_page_reads_and_nothing_can_be_pressed(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    edge.about()
    page.goto(f"{hub.url}/system")
    expect(page.locator(f'[id="edge-plant~line-a~{edge.topics.station}"]')).to_contain_text("Really runs on")
    expect(page.locator("#system button")).to_have_count(0)


def test_a_clock_that_is_wrong_is_marked(
    page: Page, hub: HubProcess, edge: FakeEdge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tests.review.factory.wall_ms", lambda: time.time_ns() // 1_000_000 - 60_000)
    edge.about()
    page.goto(f"{hub.url}/system")
    row = page.locator(f'[id="edge-plant~line-a~{edge.topics.station}"]')
    expect(row.locator(".bad")).to_contain_text("60.", timeout=15_000)
    expect(row.locator(".bad")).to_contain_text("behind the hub")


def test_safe_mode_says_what_fails_and_what_still_works(page: Page, mosquitto: int, tmp_path: Path) -> None:
    """The database is taken from under the hub while an engineer looks."""
    hub = HubProcess(tmp_path / "data", free_port(), mosquitto).start()
    try:
        enter(page, hub, "Chen")
        expect(page.locator(".safe-mode")).to_have_count(0)
        (hub.data / "hub.db").write_bytes(b"this is no database" * 4096)
        for path in hub.data.glob("hub.db-*"):
            path.unlink()
        until(lambda: httpx.get(f"{hub.url}/healthz").status_code == 503, 20, "the hub notices")
        page.goto(f"{hub.url}/system")
        expect(page.locator(".safe-mode h1")).to_have_text("SAFE MODE")
        expect(page.locator(".safe-mode")).to_contain_text("Database")
        expect(page.locator(".safe-mode")).to_contain_text("the line stays guarded")
    finally:
        hub.stop(signal.SIGKILL)
