"""States are told apart by people who do not see red and green as others do: by shape, word and contrast."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Literal

import numpy as np
import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from tests.browser.colour_vision import contrast, decode, difference, ground_and_ink, seen_by
from tests.conftest import _mosquitto, free_port
from tests.review.factory import FakeEdge, HubProcess

WORDS = {"running": "Running", "stopped": "Ready", "halted": "HALTED", "blind": "NOT INSPECTING"}
EYES = {"normal": 4.5, "deuteranopia": 4.5, "protanopia": 4.0}
"""The least contrast of the words, all of them bold and large, for which WCAG asks 3."""
APART = 12.0
"""Of CIE 1976: five times what is just noticeable."""


def test_the_simulation_is_the_published_one() -> None:
    grey = np.array([[[120, 120, 120]]], np.uint8)
    red, green = (np.array([[c]], np.uint8) for c in ((200, 0, 0), (90, 110, 0)))
    for kind in list(EYES)[1:]:
        assert seen_by(kind, grey) == pytest.approx(seen_by("normal", grey), abs=2e-3), "greys stay grey"
        apart = difference(seen_by(kind, red)[0, 0], seen_by(kind, green)[0, 0])
        assert apart < difference(seen_by("normal", red)[0, 0], seen_by("normal", green)[0, 0]) / 2
    white, black = (np.array([v, v, v], np.float64) for v in (1.0, 0.0))
    assert contrast(white, black) == pytest.approx(21)


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    """A hub with one station in each state."""
    for port in _mosquitto(tmp_path_factory.mktemp("mosquitto")):
        hub = HubProcess(tmp_path_factory.mktemp("hub") / "data", free_port(), port).start()
        edges = {mode: FakeEdge(port, hub.url, mode) for mode in WORDS}
        for mode, edge in edges.items():
            edge.online(plc="READY" if mode == "stopped" else "RUNNING")
        edges["halted"].halt()
        edges["blind"].permits.clear()
        yield hub
        for edge in edges.values():
            edge.close()
        hub.stop()


def state_of(page: Page, mode: str) -> Locator:
    return page.locator(f'[id="station-plant~line-a~{mode}"] > .state')


@pytest.mark.browser
@pytest.mark.broker
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_state_is_read_and_told_from_every_other(
    browser: Browser, plant: HubProcess, scheme: Literal["light", "dark"]
) -> None:
    page = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme).new_page()
    page.goto(plant.url)
    pictures, shapes = {}, {}
    for mode, word in WORDS.items():
        expect(state_of(page, mode).locator("strong")).to_have_text(word, timeout=8000)
        shapes[mode] = state_of(page, mode).locator(".icon").inner_html()
    for mode in WORDS:
        pictures[mode] = decode(state_of(page, mode).screenshot())
    page.context.close()
    assert len(set(shapes.values())) == len(WORDS), "each state has a shape of its own"
    for kind in EYES:
        seen = {mode: ground_and_ink(picture, kind) for mode, picture in pictures.items()}
        unread = {mode: round(contrast(ground, ink), 1) for mode, (ground, ink) in seen.items()}
        assert {mode: c for mode, c in unread.items() if c < EYES[kind]} == {}, kind
        alike = {(a, b): round(difference(seen[a][0], seen[b][0]), 1) for a, b in combinations(WORDS, 2)}
        assert {pair: d for pair, d in alike.items() if d < APART} == {}, kind


@pytest.mark.browser
@pytest.mark.broker
def test_the_chart_of_a_halt_tells_a_stop_from_a_pass_without_colour(browser: Browser, plant: HubProcess) -> None:
    """Bars that call for a stop also stand above the line."""
    import httpx

    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    halt = httpx.get(f"{plant.url}/api/halts").json()[0]
    page.goto(f"{plant.url}/halts/{halt['id']}")
    for kind in EYES:
        bar = decode(page.locator(".measure .track").first.screenshot())
        full, empty = seen_by(kind, bar[3, 4]), seen_by(kind, bar[3, -3])
        assert contrast(full, empty) >= 2, kind
    page.context.close()
