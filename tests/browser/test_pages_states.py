"""Every operator's page empty, busy, stale and failing; and what somebody types while the hub restarts."""

from __future__ import annotations

import signal
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from tests.browser.where import wait_for_path
from tests.conftest import _mosquitto, free_port
from tests.review.factory import FakeEdge, HubProcess, until

pytestmark = [pytest.mark.browser, pytest.mark.broker]

PAGES = ("/", "/alarms", "/handover", "/andon", "/performance", "/system", "/who")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[HubProcess, int]]:
    """A hub and a broker of its own that no edge has spoken to."""
    for port in _mosquitto(tmp_path_factory.mktemp("mosquitto")):
        hub = HubProcess(tmp_path_factory.mktemp("hub") / "data", free_port(), port).start()
        yield hub, port
        hub.stop()


def as_chen(browser: Browser, hub: HubProcess) -> Page:
    page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
    page.goto(f"{hub.url}/who")
    page.get_by_role("button", name="Chen").click()
    page.wait_for_url(f"{hub.url}/")
    return page


EMPTY = {
    "/": "No station has reported yet",
    "/alarms": "Nothing to review",
    "/handover": "None",
    "/andon": "No station",
    "/performance": "0",
    "/system": "No station has reported yet",
}


def test_empty_every_page_says_so_in_words(browser: Browser, fresh: tuple[HubProcess, int]) -> None:
    page = as_chen(browser, fresh[0])
    for path, words in EMPTY.items():
        page.goto(fresh[0].url + path)
        expect(page.locator("body")).to_contain_text(words)
        assert page.evaluate("document.documentElement.scrollWidth") <= 1280, path
    page.context.close()


# From here on there are stations.


def test_busy_with_twelve_stations_and_open_halts_nothing_is_cut_off(
    browser: Browser, fresh: tuple[HubProcess, int]
) -> None:
    hub, port = fresh
    edges = [FakeEdge(port, hub.url, f"a-rather-long-station-name-{n:02d}") for n in range(12)]
    for edge in edges:
        edge.online()
    for edge in edges[:5]:
        edge.halt()
    until(lambda: len(httpx.get(f"{hub.url}/api/halts?open_only=true").json()) == 5)
    page = as_chen(browser, hub)
    for size in ((1280, 800), (390, 844)):
        page.set_viewport_size({"width": size[0], "height": size[1]})
        for path in PAGES:
            page.goto(hub.url + path)
            expect(page.locator("main, body").first).to_be_visible()
            assert page.evaluate("document.documentElement.scrollWidth") <= size[0], (path, size)
    page.goto(hub.url)
    expect(page.locator(".station")).to_have_count(12)
    expect(page.locator("#unacked")).to_have_text("5")
    page.context.close()
    for edge in edges:
        edge.close()


def test_stale_no_page_says_running(browser: Browser, fresh: tuple[HubProcess, int]) -> None:
    """The hub is frozen: every page with live content hides it behind the banner within 6 s and a bit."""
    hub, port = fresh
    edge = FakeEdge(port, hub.url, "weld-9")
    edge.online()
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    pages = {}
    for path in ("/", "/andon", "/alarms", "/system", "/performance", "/handover"):
        pages[path] = context.new_page()
        pages[path].goto(hub.url + path)
        pages[path].wait_for_load_state()
    assert hub.process
    hub.process.send_signal(signal.SIGSTOP)
    try:
        for path, page in pages.items():
            page.wait_for_selector("#stale:visible", timeout=9000)
            assert "NOT INSPECTING" in page.locator("#stale").inner_text(), path
        word = pages["/"].locator(".state strong").first.evaluate("e => getComputedStyle(e).fontSize")
        assert word == "0px", "the word Running is not on the screen"
    finally:
        hub.process.send_signal(signal.SIGCONT)
    for page in pages.values():
        expect(page.locator("#stale")).to_be_hidden(timeout=10_000)
    context.close()
    edge.close()


def test_failing_without_a_broker_every_page_says_that_nothing_arrives(
    browser: Browser, tmp_path_factory: pytest.TempPathFactory
) -> None:
    hub = HubProcess(tmp_path_factory.mktemp("alone") / "data", free_port(), free_port())
    hub._answers = lambda: _alive(hub.url)  # type: ignore[method-assign]
    hub.start()
    try:
        page = browser.new_context(viewport={"width": 1280, "height": 800}).new_page()
        for path in PAGES:
            page.goto(hub.url + path)
            expect(page.locator("#stale")).to_be_visible()
            expect(page.locator("#stale-why")).to_contain_text("has lost the message broker")
        page.goto(f"{hub.url}/system")
        expect(page.locator(".safe-mode")).to_contain_text("no station is heard")
        page.context.close()
    finally:
        hub.stop()


def _alive(url: str) -> bool:
    try:
        return httpx.get(f"{url}/healthz", timeout=1).status_code == 503
    except httpx.HTTPError:
        return False


def test_what_is_typed_survives_a_restart_of_the_hub(browser: Browser, fresh: tuple[HubProcess, int]) -> None:
    hub, _port = fresh
    page = as_chen(browser, hub)
    page.goto(f"{hub.url}/handover")
    note = page.get_by_label("Note for the next shift")
    note.fill("nozzle 2 drips, look at it every ")
    hub.stop(signal.SIGKILL)
    note.press_sequentially("hour")
    page.get_by_role("button", name="Add the note").click()
    expect(page.locator(".not-sent")).to_contain_text("NOT SENT")
    expect(note).to_have_value("nozzle 2 drips, look at it every hour")
    page.wait_for_selector("#stale:visible", timeout=9000)
    hub.start()
    expect(page.locator("#stale")).to_be_hidden(timeout=15_000)
    expect(note).to_have_value("nozzle 2 drips, look at it every hour")
    page.reload()
    note = page.get_by_label("Note for the next shift")
    expect(note).to_have_value("nozzle 2 drips, look at it every hour")
    page.get_by_role("button", name="Add the note").click()
    expect(page.locator(".draft")).to_contain_text("look at it every hour")
    expect(page.get_by_label("Note for the next shift")).to_have_value("")
    page.context.close()


def test_a_reason_is_kept_when_one_goes_and_comes_back(browser: Browser, fresh: tuple[HubProcess, int]) -> None:
    hub, _port = fresh
    page = as_chen(browser, hub)
    halt = httpx.get(f"{hub.url}/api/halts").json()[0]["id"]
    page.goto(f"{hub.url}/alarms/shelve?halt={halt}")
    page.get_by_label("Reason").fill("lamp is changed")
    page.goto(f"{hub.url}/alarms")
    page.go_back()
    expect(page.get_by_label("Reason")).to_have_value("lamp is changed")
    page.get_by_role("button", name="15 min").click()
    wait_for_path(page, "/alarms")
    expect(page.locator(".shelf")).to_contain_text("lamp is changed")
    page.goto(f"{hub.url}/alarms/shelve?halt={halt}")
    expect(page.get_by_label("Reason")).to_have_value("")
    page.context.close()


def test_every_page_is_walked_by_keyboard_alone(browser: Browser, fresh: tuple[HubProcess, int]) -> None:
    """Tab reaches every link, button and field of a page, each with a visible focus."""
    hub, _port = fresh
    page = as_chen(browser, hub)
    for path in ("/", "/alarms", "/handover", "/system", "/performance", "/who"):
        page.goto(hub.url + path)
        page.wait_for_load_state()
        kinds = "a[href], button:not(:disabled), input:not([type=hidden]), select, summary"
        wanted = page.evaluate(f"[...document.querySelectorAll('{kinds}')].filter(e => e.checkVisibility()).length")
        reached = set()
        for _ in range(wanted + 12):
            page.keyboard.press("Tab")
            here = page.evaluate(
                "(() => { const e = document.activeElement; if (e === document.body) return null;"
                " const all = [...document.querySelectorAll('*')];"
                " return [all.indexOf(e), getComputedStyle(e).outlineStyle, getComputedStyle(e).outlineWidth]; })()"
            )
            if here:
                assert here[1] != "none", path
                assert float(here[2].removesuffix("px")) >= 2, path
                reached.add(here[0])
        assert len(reached) >= wanted, path
    page.context.close()


def test_what_is_typed_is_still_there_after_signing_in_again(browser: Browser, fresh: tuple[HubProcess, int]) -> None:
    """The sign-in has ended meanwhile; the hub has the text only once it has said so."""
    hub, _port = fresh
    page = as_chen(browser, hub)
    page.goto(f"{hub.url}/handover")
    page.get_by_label("Note for the next shift").fill("second nozzle leaks as well")
    page.context.clear_cookies()
    page.get_by_role("button", name="Add the note").click()
    wait_for_path(page, "/who")
    page.locator('button[value="Chen (engineer)"]').click()
    wait_for_path(page, "/handover")
    note = page.get_by_label("Note for the next shift")
    expect(note).to_have_value("second nozzle leaks as well")
    page.get_by_role("button", name="Add the note").click()
    expect(page.locator(".draft")).to_contain_text("second nozzle leaks as well")
    expect(note).to_have_value("")
    halt = httpx.get(f"{hub.url}/api/halts").json()[0]["id"]
    page.goto(f"{hub.url}/alarms/shelve?halt={halt}")
    page.get_by_label("Reason").fill("n  ")  # too short: the hub says so and has not got it
    page.get_by_role("button", name="15 min").click()
    expect(page.locator("[data-bad]")).to_be_visible()
    page.goto(f"{hub.url}/alarms/shelve?halt={halt}")
    expect(page.get_by_label("Reason")).to_have_value("n  ")
    page.get_by_label("Reason").fill("")
    page.context.close()
