"""The stop key, from a finger to the line: real browser, hub, broker, edge and controller."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from benchmarks.station import TOPICS, end, plc_on, run_line, start_edge, trip_after, wait_for, write_station
from edge.line.plc_sim import PlcSim
from inspection.types import Code
from tests.review.factory import HubProcess

pytestmark = [pytest.mark.browser, pytest.mark.broker]
KEY = f"{TOPICS.site}~{TOPICS.line}~{TOPICS.station}"


@pytest.fixture(scope="module")
def config(mosquitto: int, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A browser's start takes both processors: what stops this line is the key, not a frame that came late."""
    return write_station(tmp_path_factory.mktemp("station"), mosquitto, policy="k: 2, n: 3, max_silence_ms: 5000")


@pytest.fixture(scope="module")
def edge(config: Path, hub: HubProcess) -> Iterator[subprocess.Popen[bytes]]:
    edge = start_edge(config)
    yield edge
    end(edge)


@pytest.fixture(scope="module")
def one_plc(mosquitto: int, edge: subprocess.Popen[bytes]) -> Iterator[PlcSim]:
    with plc_on(mosquitto) as plc:
        yield plc


@pytest.fixture
def plc(one_plc: PlcSim) -> PlcSim:
    """Of a line without a halt: a test that failed leaves one, which would fail its second try and the next test."""
    if one_plc.view()["halt"]:
        one_plc.press_reset()
    return one_plc


def stop_key(page: Page) -> None:
    """The first of two taps."""
    page.locator(f'[id="stop-{KEY}"] summary').click()


def test_two_taps_without_a_name_stop_the_line_and_a_reset_runs_it_again(
    page: Page, hub: HubProcess, plc: PlcSim, record_property: Callable[[str, object], None]
) -> None:
    run_line(plc)
    page.goto(hub.url)
    card = page.locator(f'[id="station-{KEY}"]')
    expect(card.locator(".state strong")).to_have_text("Running")
    stop_key(page)
    assert plc.view()["state"] == "RUNNING", "one tap is none"
    with page.expect_response("**/line/stations"):  # news of any station draws the cards anew
        page.evaluate("htmx.trigger('#stations', 'refetch')")
    page.wait_for_timeout(100)
    expect(card.locator(".sure")).to_be_visible()
    tapped_ns = time.monotonic_ns()
    card.get_by_role("button", name="STOP st1 now").click()
    after_s, why = trip_after(plc, tapped_ns)
    record_property("tap_to_trip_ms", round(after_s * 1000))
    print(f"tap to trip {after_s * 1000:.0f} ms")
    assert after_s < 1.0, "sooner than the edge's silence would have stopped it"
    assert f"code {int(Code.STOP)}" in why
    expect(page.locator("#stop-said")).to_contain_text("STOP CONFIRMED: st1 has no permit to run")
    expect(card.locator(".oldest strong")).to_have_text("Stop requested")
    assert not plc.press_start(), "no start without a permit"

    page.goto(f"{hub.url}/who")
    page.click("text=Ana")
    page.wait_for_url(f"{hub.url}/")
    card.locator(".oldest").click()
    expect(page.locator(".state .why")).to_have_text("stop requested by somebody not signed in")
    expect(page.get_by_role("button", name="Real defect")).to_have_count(0)
    page.get_by_role("button", name="Acknowledge").click()
    page.get_by_role("button", name="Reset").click()
    expect(page.locator(".say")).to_contain_text("this page never does")
    run_line(plc)
    assert plc.view()["halt"] == 0


def test_the_keyboard_stops_it_from_the_stations_page(page: Page, hub: HubProcess, plc: PlcSim) -> None:
    run_line(plc)
    page.goto(f"{hub.url}/stations/{KEY}")
    expect(page.locator(".state strong")).to_have_text("Running")
    page.keyboard.press("s")
    expect(page.locator(".stop .sure")).to_be_focused()
    page.keyboard.press("Escape")
    expect(page.locator(".stop .sure")).to_be_hidden()
    expect(page.locator(".stop summary")).to_be_focused()  # and not the top of the page
    page.keyboard.press("s")
    tapped_ns = time.monotonic_ns()
    page.keyboard.press("Enter")
    trip_after(plc, tapped_ns)
    expect(page.locator("#stop-said")).to_contain_text("The edge withdrew its permit")
    page.get_by_role("button", name="Understood").click()
    expect(page.locator("#stop-said")).to_be_hidden()
    # the Halt page has the key too; what it asks for is stopped already
    page.locator(".tools .oldest").click()
    expect(page.locator(".state strong")).to_have_text("Stop requested")
    stop_key(page)
    page.get_by_role("button", name="Do not stop").click()
    expect(page.locator(".stop .sure")).to_be_hidden()
    expect(page.locator(".stop summary")).to_be_focused()
    stop_key(page)
    page.get_by_role("button", name="STOP st1 now").click()
    expect(page.locator("#stop-said")).to_contain_text("It had no permit before either")
    assert plc.press_reset()
    run_line(plc)


def test_before_its_script_is_there_the_key_shows_nothing_that_does_nothing(
    browser: Browser, hub: HubProcess, plc: PlcSim
) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto(f"{hub.url}/stations/{KEY}")
        stop_key(page)
        expect(page.get_by_role("button", name="STOP st1 now")).to_be_visible()
        expect(page.locator(".stop .never")).to_be_hidden()
        stop_key(page)
        expect(page.locator(".stop .sure")).to_be_hidden()


def test_what_did_not_reach_the_edge_is_said_in_big_words(
    page: Page, hub: HubProcess, plc: PlcSim, edge: subprocess.Popen[bytes]
) -> None:
    """Last in this file: the edge is gone, then the hub."""
    page.goto(hub.url)
    edge.kill()
    edge.wait()
    wait_for(lambda: plc.view()["state"] == "TRIPPED", what="the silent edge's trip")
    stop_key(page)
    page.get_by_role("button", name="STOP st1 now").click()
    said = page.locator("#stop-said")
    expect(said).to_contain_text("STOP NOT CONFIRMED")
    expect(said).to_contain_text("Use the machine's own stop button now.")
    expect(said).to_contain_text("the edge is silent")
    size = said.locator(".do").evaluate("e => parseFloat(getComputedStyle(e).fontSize)")
    assert size >= 24
    page.get_by_role("button", name="Understood").click()
    hub.stop()
    stop_key(page)
    page.get_by_role("button", name="STOP st1 now").click()
    expect(said).to_contain_text("STOP NOT CONFIRMED")
    expect(said).to_contain_text("The hub did not answer")
