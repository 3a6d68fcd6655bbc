"""What eyes get: grey while all is well, contrast in both schemes, letters read from 10 m, and nothing axe-core finds
serious on any page."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect

from deploy import vendor
from inspection.render import render
from tests.conftest import _mosquitto, free_port
from tests.review.factory import REPO, FakeEdge, HubProcess, until

HERE = Path(__file__).parent
CSS = (REPO / "review" / "static" / "haltline.css").read_text()
SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")
SIZES = ((1280, 800), (390, 844))
STATION = "/stations/plant~line-a~weld-1"
MOST_CHROMA = 28
"""Largest minus smallest of R, G and B. The greys are a little blue (10); the palest warning is far above 100."""


# ── the palette ─────────────────────────────────────────────────────────────────────────────────────────────────────


def palette(scheme: str) -> dict[str, str]:
    blocks = re.findall(r":root \{(.*?)\}", CSS, re.DOTALL)
    light = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", blocks[0]))
    dark = light | dict(re.findall(r"--([\w-]+): (#[0-9a-f]{3,6})", blocks[1]))
    return light if scheme == "light" else dark


def luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    if len(digits) == 3:
        digits = "".join(2 * d for d in digits)
    values = [int(digits[i : i + 2], 16) / 255 for i in (0, 2, 4)]
    r, g, b = (v / 12.92 if v <= 0.04045 else ((v + 0.055) / 1.055) ** 2.4 for v in values)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(a: str, b: str) -> float:
    """WCAG 2: 1 to 21."""
    high, low = sorted((luminance(a), luminance(b)), reverse=True)
    return (high + 0.05) / (low + 0.05)


TEXT = [(ink, on) for ink in ("ink", "dim") for on in ("bg", "surface", "sunk")]
TEXT += [("key-ink", "key"), ("on-halt", "halt"), ("on-blind", "blind"), ("on-stop", "stop"), ("bg", "ink")]
SHAPES = [("halt", "surface"), ("stop", "surface"), ("key-line", "surface"), ("focus", "bg")]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_text_has_a_contrast_of_4_5_and_shapes_of_3(scheme: str) -> None:
    colours = palette(scheme)
    wanted = [(pair, 4.5) for pair in TEXT] + [(pair, 3.0) for pair in SHAPES]
    found = {pair: round(contrast(colours[pair[0]], colours[pair[1]]), 2) for pair, _ in wanted}
    assert {pair: found[pair] for pair, least in wanted if found[pair] < least} == {}


def test_the_vendored_checker_is_the_one_that_was_reviewed() -> None:
    assert vendor.wrong() == []
    assert (HERE / "vendor" / "axe-core" / "LICENSE").read_text().startswith("Mozilla Public License")


# ── pages ───────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def plant(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubProcess, FakeEdge]]:
    """A broker, a hub and one running station of its own: all is well, which other tests' halts would spoil."""
    for port in _mosquitto(tmp_path_factory.mktemp("mosquitto")):
        hub = HubProcess(tmp_path_factory.mktemp("hub") / "data", free_port(), port).start()
        edge = FakeEdge(port, hub.url)
        edge.online()
        edge.good(11)
        yield hub, edge
        edge.close()
        hub.stop()


def opened(browser: Browser, hub: HubProcess, scheme: Literal["light", "dark"], size: tuple[int, int]) -> Page:
    """A page of an engineer, who sees every entry of the menu."""
    context = browser.new_context(
        viewport={"width": size[0], "height": size[1]}, color_scheme=scheme, reduced_motion="reduce"
    )
    page = context.new_page()
    page.goto(f"{hub.url}/who")
    page.click("text=Chen")
    page.wait_for_url(f"{hub.url}/")
    return page


def chroma(page: Page) -> int:
    """The largest of any pixel outside camera pictures, which show the world as it is."""
    hide = "img:not(.bar img) { visibility: hidden !important }"
    image = cv2.imdecode(np.frombuffer(page.screenshot(style=hide), np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    pixels = image.astype(int)
    return int((pixels.max(axis=2) - pixels.min(axis=2)).max())


@pytest.mark.browser
@pytest.mark.broker
@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("size", SIZES)
def test_while_all_is_well_no_pixel_is_saturated(
    browser: Browser, plant: tuple[HubProcess, FakeEdge], scheme: Literal["light", "dark"], size: tuple[int, int]
) -> None:
    hub, edge = plant
    page = opened(browser, hub, scheme, size)
    expect(page.locator(".station .state strong")).to_have_text("Running")
    edge.picture(render("weld", 3, defects=[]).image, 41)
    expect(page.locator(".live img")).to_be_visible()
    expect(page.locator(".age")).to_have_class("age")  # a picture of another test would rightly be red
    found = {}
    for path in (
        "/",
        "/andon",
        "/alarms",
        "/alarms/rules",
        "/handover",
        "/performance",
        "/models",
        "/label",
        "/who",
        "/audit",
        STATION,
        "/system",
    ):
        if path != "/":
            edge.picture(render("weld", 3, defects=[]).image, 41)  # one that grows old would rightly be red
            page.goto(hub.url + path)
        page.wait_for_timeout(100)
        found[path] = chroma(page)
    page.context.close()
    assert {path: worst for path, worst in found.items() if worst > MOST_CHROMA} == {}


@pytest.mark.browser
@pytest.mark.broker
def test_the_board_is_read_from_10_m_and_beats(browser: Browser, plant: tuple[HubProcess, FakeEdge]) -> None:
    hub, _edge = plant
    page = opened(browser, hub, "light", (1280, 800))
    page.goto(f"{hub.url}/andon")
    # A letter is read from 200 times its height: 50 mm. A 55 inch panel has 1218 mm / 1280 px; capitals are 0.73 em.
    em_px = float(page.locator(".state strong").first.evaluate("e => parseFloat(getComputedStyle(e).fontSize)"))
    assert em_px * 0.73 * 1218 / 1280 >= 50
    beat = page.locator("#beat")
    before = beat.get_attribute("class")
    until(lambda: beat.get_attribute("class") != before, 5, "the heartbeat moves")
    assert page.evaluate("document.documentElement.scrollHeight <= innerHeight")
    page.context.close()


# Last in the file: from here on a halt is open and not all is well.


def serious(page: Page, source: str) -> list[str]:
    page.evaluate(source)  # past the page's own policy, as only a test can
    result: dict[str, Any] = page.evaluate("axe.run(document, { resultTypes: ['violations'] })")
    return [
        f"{v['id']}: {v['help']} at {v['nodes'][0]['target']}"
        for v in result["violations"]
        if v["impact"] in ("serious", "critical")
    ]


@pytest.mark.browser
@pytest.mark.broker
@pytest.mark.parametrize(("scheme", "size"), list(zip(SCHEMES, SIZES, strict=True)))
def test_axe_finds_nothing_serious_on_any_page(
    browser: Browser, plant: tuple[HubProcess, FakeEdge], scheme: Literal["light", "dark"], size: tuple[int, int]
) -> None:
    hub, edge = plant
    source = (HERE / "vendor" / "axe-core" / "axe.min.js").read_text()
    page = opened(browser, hub, scheme, size)
    if not page.request.get(f"{hub.url}/api/halts").json():
        edge.halt()
    halt = until(lambda: page.request.get(f"{hub.url}/api/halts").json())[0]["id"]
    paths = ["/", "/andon", "/alarms", f"/halts/{halt}", f"/alarms/shelve?halt={halt}", "/handover", "/performance"]
    paths += [
        "/alarms/rules",
        "/models",
        "/label",
        "/label/next",
        "/who",
        "/audit?check=true",
        "/label-book",
        "/consistency",
        "/adjudicate",
        "/system",
        STATION,
    ]
    found = {}
    for path in paths:
        answer = page.goto(hub.url + path)
        assert answer
        assert answer.status == 200, path
        page.wait_for_timeout(150)
        found[path] = serious(page, source)
        if path == STATION:  # the stop key, opened, and what is said after it
            page.keyboard.press("s")
            found["stop"] = serious(page, source)
            page.keyboard.press("Enter")
            expect(page.locator(".stop-said strong")).to_contain_text("STOP CONFIRMED")
            found["stopped"] = serious(page, source)
    page.context.close()
    assert {path: what for path, what in found.items() if what} == {}
