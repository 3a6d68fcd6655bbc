"""Chromium on the operators' pages: one browser for the folder, a fresh context per test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

from inspection.messages import Conn
from tests.conftest import free_port
from tests.review.factory import FakeEdge, HubProcess, station_of


@pytest.fixture(scope="module")
def browser(chromium: Path) -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    """An operator's panel, 1280 x 800. Errors of the page's scripts fail the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    page = context.new_page()
    errors: list[str] = []
    page.on("pageerror", lambda e: errors.append(str(e)))
    yield page
    context.close()
    assert errors == []


@pytest.fixture(scope="module")
def hub(mosquitto: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """Tests that kill it start it again."""
    hub = HubProcess(tmp_path_factory.mktemp("hub") / "data", free_port(), mosquitto).start()
    yield hub
    hub.stop()


@pytest.fixture
def edge(mosquitto: int, hub: HubProcess, request: pytest.FixtureRequest) -> Iterator[FakeEdge]:
    edge = FakeEdge(mosquitto, hub.url, station_of(request.node))
    edge.online()
    yield edge
    edge.send(Conn(state="OFFLINE", boot=edge.boot))  # switched off: one that just falls silent is an alarm that sounds
    edge.close()
