"""What the person at the line sees and can do, in a real browser."""

from __future__ import annotations

import re
import signal
import time
from urllib.parse import urlsplit

import httpx
import pytest
from playwright.sync_api import APIResponse, Locator, Page, Route, expect

from inspection.render import render
from tests.browser.where import wait_for_path
from tests.review.factory import FakeEdge, HubProcess, until

pytestmark = [pytest.mark.browser, pytest.mark.broker]


def sign_in(page: Page, hub: HubProcess) -> None:
    page.goto(f"{hub.url}/who")
    page.click("text=Ana")
    expect(page.locator(".person")).to_have_text("Ana (operator)")


def card(page: Page, edge: FakeEdge) -> Locator:
    """This edge's station on the Line page; the broker remembers those of other tests too."""
    return page.locator(f'[id="station-plant~line-a~{edge.topics.station}"]')


def word(page: Page, edge: FakeEdge) -> Locator:
    return card(page, edge).locator(".state strong")


def open_halt(page: Page, edge: FakeEdge) -> None:
    """From the Line page, with the picture there to be judged."""
    card(page, edge).locator(".oldest").click()
    expect(page.get_by_role("button", name="Real defect")).to_be_enabled()


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollHeight <= innerHeight"))


def test_a_halt_is_on_the_screen_within_a_second(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    page.goto(hub.url)
    expect(word(page, edge)).to_have_text("Running")
    expect(card(page, edge).locator(".quiet")).to_have_text("No halts on record")
    edge.picture(render("weld", 3, defects=[]).image, 41)
    expect(card(page, edge).locator(".live img")).to_be_visible()
    edge.run, edge.code, edge.halt_id = 0, 1, 170_001
    began = time.monotonic()
    edge.permit_now()
    expect(word(page, edge)).to_have_text("HALTED", timeout=1000)
    assert time.monotonic() - began < 1


def test_from_halt_to_reset_in_two_taps_without_scrolling(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    edge.good(11)
    sign_in(page, hub)
    edge.halt()
    open_halt(page, edge)
    expect(page.locator(".state strong")).to_have_text("Porosity, 1.6 mm")
    assert fits(page)
    for shown in (
        "Size 1.6 mm",
        "limit 0.5 mm",
        "Score 0.97",
        "13.5 ms",
        "weld-0.3.1",
        "weld@1",
        "Good part, same place",
    ):
        expect(page.locator("#halt")).to_contain_text(shown)
    expect(page.get_by_role("button", name="Reset")).to_be_disabled()
    page.get_by_role("button", name="Real defect").click()
    page.get_by_role("button", name="Reset").click()
    expect(page.locator(".say")).to_contain_text("this page never does")
    expect(page.locator(".history")).to_contain_text("reset accepted by the edge")
    page.goto(hub.url)
    expect(word(page, edge)).to_have_text("Running")
    expect(card(page, edge).locator(".quiet")).to_contain_text("No halts since")


def test_the_keyboard_does_the_same_and_shows_a_refusal(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    edge.on_resume = lambda _: (False, "no fresh frames: the camera is covered")
    sign_in(page, hub)
    edge.halt()
    open_halt(page, edge)
    page.keyboard.press("a")
    expect(page.locator(".state")).to_contain_text("Halted, acknowledged")
    page.keyboard.press("1")
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    page.keyboard.press("z")
    expect(page.get_by_role("button", name="Acknowledge")).to_be_disabled()
    expect(page.get_by_role("button", name="Real defect")).to_have_attribute("aria-pressed", "false")
    page.keyboard.press("2")
    expect(page.get_by_role("button", name="False call")).to_have_attribute("aria-pressed", "true")
    page.keyboard.press("h")
    expect(page.locator(".main-picture .heat")).to_be_visible()
    page.keyboard.press("r")
    expect(page.locator(".say")).to_contain_text("reset refused by the edge: no fresh frames: the camera is covered")


def test_who_works_without_a_mouse_goes_on_from_the_answer(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    """A key that is spent is disabled or gone, and the focus with it: the next Tab began at the top of the page."""
    sign_in(page, hub)
    edge.halt()
    open_halt(page, edge)
    page.get_by_role("button", name="Acknowledge").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".say")).to_be_focused()
    page.get_by_role("button", name="Real defect").focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Undo")).to_be_visible()
    expect(page.get_by_role("button", name="Real defect")).to_be_focused()
    page.get_by_role("button", name="Reset").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".say")).to_be_focused()
    expect(page.locator(".say")).to_contain_text("this page never does")


def test_a_late_answer_never_puts_the_page_back_under_a_finger(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    edge.good(11)
    sign_in(page, hub)
    edge.halt()
    open_halt(page, edge)
    page.wait_for_timeout(500)  # the page's own first refetch is over
    late: list[tuple[Route, APIResponse]] = []
    page.route("**/halts/*/panel*", lambda route: late.append((route, route.fetch())), times=1)
    page.evaluate("htmx.trigger('#halt', 'refetch')")
    while not late:
        page.wait_for_timeout(10)
    page.click("text=Real defect")
    reset = page.get_by_role("button", name="Reset")
    expect(reset).to_be_enabled()
    page.evaluate(
        """() => { window.wentBack = 0; const key = document.querySelector('#halt .reset');
        new MutationObserver(() => { wentBack += key.disabled; }).observe(key, { attributes: true }); }"""
    )
    route, response = late[0]
    with page.expect_response("**/halts/*/panel*"), page.expect_request("**/halts/*/panel*"):
        route.fulfill(response=response)  # what the page was before the verdict
    page.wait_for_timeout(300)
    assert page.evaluate("wentBack") == 0
    reset.click()
    expect(page.locator(".history")).to_contain_text("asked for a reset")


LOOKED_MS = 800
"""Longer than a page takes a press for one upon what it showed before."""


def two_on_one_halt(page: Page, hub: HubProcess, edge: FakeEdge) -> tuple[httpx.Client, str]:
    """Ana has the halt open; Chen's own client and the halt's address."""
    sign_in(page, hub)
    edge.shown = edge.halt().records[0]
    open_halt(page, edge)
    until(lambda: page.evaluate("document.readyState === 'complete'"))
    return hub.signed_in("Chen (engineer)"), urlsplit(page.url).path


def judge(chen: httpx.Client, halt: str, edge: FakeEdge, verdict: str) -> None:
    assert chen.post(f"{halt}/verdict", data={"verdict": verdict, "saw": edge.shown}).status_code == 200


def test_nobody_takes_back_anothers_verdict_with_the_key_that_acknowledged(
    page: Page, hub: HubProcess, edge: FakeEdge
) -> None:
    chen, halt = two_on_one_halt(page, hub, edge)
    first = page.locator(".key-row button").first
    expect(first).to_have_id("ack")
    judge(chen, halt, edge, "real")
    expect(page.locator(".history")).to_contain_text("Chen (engineer) said: Real defect")
    expect(first).to_have_id("ack")
    expect(first).to_be_disabled()
    ana = hub.signed_in()
    assert "by Chen (engineer): judge it anew instead" in ana.post(f"{halt}/undo").text
    assert chen.post(f"{halt}/undo").status_code == 200


def test_why_a_verdict_was_refused_is_not_taken_off_by_the_news(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    chen, halt = two_on_one_halt(page, hub, edge)
    held: list[Route] = []
    page.route("**/verdict", lambda route: held.append(route))
    page.keyboard.press("2")
    while not held:
        page.wait_for_timeout(10)
    judge(chen, halt, edge, "real")
    expect(page.locator(".history")).to_contain_text("said: Real defect")
    held[0].continue_()
    refused = "not recorded: the verdict is now “real”, by Chen (engineer)"
    expect(page.locator(".say")).to_contain_text(refused)
    judge(chen, halt, edge, "unsure")
    expect(page.locator(".history")).to_contain_text("said: Unsure")
    expect(page.locator(".say")).to_contain_text(refused)
    page.unroute("**/verdict")
    page.wait_for_timeout(LOOKED_MS)
    page.keyboard.press("1")
    expect(page.locator(".say")).to_contain_text("Reset asks the edge for its permit")


def test_who_presses_as_anothers_verdict_comes_is_told_and_overwrites_nothing(
    page: Page, hub: HubProcess, edge: FakeEdge
) -> None:
    chen, halt = two_on_one_halt(page, hub, edge)
    page.evaluate(
        """() => { const [real, falseCall] = document.querySelectorAll('#halt .verdict');
        new MutationObserver((_, seen) => {
          if (real.ariaPressed !== 'true') return;
          seen.disconnect();
          setTimeout(() => falseCall.click());
        }).observe(real, { attributes: true }); }"""
    )
    judge(chen, halt, edge, "real")
    expect(page.locator(".say")).to_contain_text("Not recorded: somebody else has judged it this moment")
    expect(page.locator(".history li")).to_have_count(3)
    page.wait_for_timeout(LOOKED_MS)
    page.keyboard.press("2")
    expect(page.locator(".history")).to_contain_text("Ana (operator) said: False call")


def test_a_verdict_waits_for_the_picture(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    sign_in(page, hub)
    held: list[Route] = []
    page.route("**/crop.jpg*", lambda route: held.append(route))
    edge.halt()
    card(page, edge).locator(".oldest").click()
    expect(page.get_by_role("button", name="Acknowledge")).to_be_enabled()
    until(lambda: page.evaluate("document.readyState !== 'loading'"))
    page.wait_for_timeout(500)
    expect(page.get_by_role("button", name="Real defect")).to_be_disabled()
    page.keyboard.press("1")
    for route in held:
        route.continue_()
    expect(page.get_by_role("button", name="Real defect")).to_be_enabled()
    expect(page.locator(".state")).to_contain_text("Halted, not acknowledged")


def test_without_a_name_a_tap_leads_to_the_names_and_back(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    page.goto(hub.url)
    edge.halt()
    card(page, edge).locator(".oldest").click()
    page.get_by_role("button", name="Acknowledge").click()
    wait_for_path(page, "/who")
    page.click("text=Ben")
    wait_for_path(page, "/halts/*")
    page.get_by_role("button", name="Acknowledge").click()
    expect(page.locator(".history")).to_contain_text("Ben (inspector) acknowledged")


def test_a_silent_edge_is_not_inspecting(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    page.goto(hub.url)
    edge.picture(render("weld", 3, defects=[]).image, 41)
    expect(word(page, edge)).to_have_text("Running")
    edge.permits.clear()
    expect(word(page, edge)).to_have_text("NOT INSPECTING")
    expect(card(page, edge).locator(".age")).to_have_class("age old", timeout=4000)


def test_a_dead_hub_makes_the_page_stale_and_a_new_one_mends_it(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    page.goto(hub.url)
    expect(word(page, edge)).to_have_text("Running")
    expect(page.locator("#stale")).to_be_hidden()
    hub.stop(signal.SIGKILL)
    page.wait_for_selector("#stale:visible", timeout=8000)
    expect(page.locator("#stale")).to_contain_text("STALE · NOT INSPECTING")
    box = page.locator("#stale").bounding_box()
    assert box
    assert box["width"] == 1280
    edge.run, edge.code, edge.halt_id = 0, 1, 170_001
    hub.start()
    expect(page.locator("#stale")).to_be_hidden(timeout=15_000)
    expect(word(page, edge)).to_have_text("HALTED")


def test_a_frozen_hub_makes_the_page_stale(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    """The connection stays open: only the missing tick shows it."""
    page.goto(hub.url)
    expect(word(page, edge)).to_have_text("Running")
    assert hub.process
    hub.process.send_signal(signal.SIGSTOP)
    try:
        page.wait_for_selector("#stale:visible", timeout=9000)
    finally:
        hub.process.send_signal(signal.SIGCONT)
    expect(page.locator("#stale")).to_be_hidden(timeout=10_000)


def test_a_verdict_without_a_hub_is_kept_and_sent_later_but_a_reset_is_not(
    page: Page, hub: HubProcess, edge: FakeEdge
) -> None:
    sign_in(page, hub)
    edge.halt()
    open_halt(page, edge)
    page.keyboard.press("2")
    expect(page.get_by_role("button", name="Reset")).to_be_enabled()
    hub.stop(signal.SIGKILL)
    page.keyboard.press("r")
    expect(page.locator(".say")).to_contain_text("NOT SENT")
    page.keyboard.press("1")
    expect(page.locator(".say")).to_contain_text("NOT YET SENT")
    page.wait_for_selector("#stale:visible", timeout=9000)
    hub.start()
    until(lambda: httpx.get(f"{hub.url}/api/halts").json()[0]["verdict"] == "real", 15)
    expect(page.get_by_role("button", name="Real defect")).to_have_attribute("aria-pressed", "true")
    assert edge.resumes == []


def test_keys_are_big_and_nothing_is_cut_off_on_a_phone(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    page.goto(hub.url)
    edge.halt()
    card(page, edge).locator(".oldest").click()
    expect(page.locator(".main-picture img.photo")).to_be_visible()
    for key in page.locator(".key:visible").all():
        box = key.bounding_box()
        assert box
        assert min(box["width"], box["height"]) >= 20 * 3.78 - 1
    page.set_viewport_size({"width": 390, "height": 844})
    for path in ("", "/alarms", "/who", page.url.removeprefix(hub.url)):
        page.goto(hub.url + path)
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, path


def test_a_tab_nobody_looks_at_gives_its_connection_back(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    def streams() -> str:
        return next(
            s for s in httpx.get(f"{hub.url}/metrics").text.splitlines() if s.startswith("haltline_hub_streams")
        )

    def look(away: bool) -> None:
        page.evaluate(f"Object.defineProperty(document, 'hidden', {{value: {str(away).lower()}, configurable: true}})")
        page.evaluate("document.dispatchEvent(new Event('visibilitychange'))")

    page.goto(hub.url)
    until(lambda: streams() == "haltline_hub_streams 1")
    look(away=True)
    until(lambda: streams() == "haltline_hub_streams 0")
    edge.run, edge.code, edge.halt_id = 0, 1, 170_001
    page.wait_for_timeout(1000)
    look(away=False)
    expect(word(page, edge)).to_have_text("HALTED", timeout=2000)
    expect(page.locator("#stale")).to_be_hidden()


def test_sound_repeats_until_acknowledged(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    page.add_init_script("""
        window.tones = 0;
        const create = AudioContext.prototype.createOscillator;
        AudioContext.prototype.createOscillator = function () { window.tones += 1; return create.call(this); };
    """)
    ana = hub.signed_in()
    for halt in httpx.get(f"{hub.url}/api/halts?open_only=true").json():
        ana.post(f"/halts/{halt['id']}/ack")
    for fault in re.findall(r"/alarms/faults/(\d+)/ack", ana.get("/alarms").text):
        ana.post(f"/alarms/faults/{fault}/ack")
    page.goto(hub.url)
    page.click("#sound")
    expect(page.locator("#sound")).to_have_text("Test sound")
    tested = page.evaluate("tones")
    edge.halt()
    edge.line("TRIPPED", "permit withdrawn")  # one that ran on would be an alarm of its own
    until(lambda: page.evaluate("tones") >= tested + 6)
    ana.post(f"/halts/{httpx.get(f'{hub.url}/api/halts').json()[0]['id']}/ack")
    expect(page.locator("#unacked")).to_be_hidden()
    quiet = page.evaluate("tones")
    page.wait_for_timeout(3000)
    assert page.evaluate("tones") == quiet
