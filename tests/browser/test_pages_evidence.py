"""The Halt page's film and comparisons, and every camera of a station live: by mouse, keyboard and touch."""

from __future__ import annotations

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from inspection.render import DefectSpec, render
from tests.browser.test_pages_operator import card, fits, open_halt, sign_in
from tests.review.factory import FakeEdge, HubProcess, until

pytestmark = [pytest.mark.browser, pytest.mark.broker]


def station(hub: HubProcess, edge: FakeEdge) -> str:
    return f"{hub.url}/stations/plant~line-a~{edge.topics.station}"


def test_everything_a_decision_needs_is_on_one_screen(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    """A second halt of the same kind, its film, why, a good part, the label book's limit: and still no scrolling."""
    ana = hub.signed_in()
    edge.good(11)
    first = edge.halt()
    halt_id = until(lambda: halt_of(hub, edge))["id"]
    until(
        lambda: (
            ana.post(f"/halts/{halt_id}/verdict", data={"verdict": "false_call", "saw": first.records[0]}).is_success
        )
    )
    ana.post(f"/halts/{halt_id}/reset")
    until(lambda: edge.halt_id == 0)
    sign_in(page, hub)
    edge.film(edge.halt())
    open_halt(page, edge)
    expect(page.locator("#scrub")).to_be_visible()
    expect(page.locator(".because")).to_contain_text("3 of the last 5 frames call for a stop")
    expect(page.locator(".alike")).to_contain_text("1 false call · 1 in the same place")
    expect(page.locator(".alike img")).to_have_count(1)
    expect(page.locator(".measure").first).to_contain_text("limit 0.5 mm (weld@1)")
    expect(page.locator(".side-pictures img.photo")).to_have_count(2)
    assert fits(page)
    for key in page.locator(".key-row .key").all():
        box = key.bounding_box()
        assert box
        assert box["y"] + box["height"] <= 800
    page.locator(".alike a").click()
    page.wait_for_url(f"**/halts/{halt_id}")


def halt_of(hub: HubProcess, edge: FakeEdge) -> dict[str, object]:
    found = httpx.get(f"{hub.url}/api/halts").json()
    return next((h for h in found if h["station"].endswith(f"~{edge.topics.station}")), {})


def test_the_film_is_scrubbed_by_key_and_by_slider(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    sign_in(page, hub)
    event = edge.halt()
    edge.film(event)
    with page.expect_response("**/film.jpg") as sheet:  # before anybody asks for it
        open_halt(page, edge)
    assert sheet.value.ok
    tile, shown = page.locator("#tile"), page.locator("#shown")
    expect(page.locator("#scrub")).to_be_visible()
    expect(tile).to_be_hidden()
    page.keyboard.press("ArrowLeft")
    expect(tile).to_be_visible()
    expect(shown).to_have_text("1 frame before · score 0.93 · 1.6 mm · 2 of 3")
    where = tile.evaluate("e => getComputedStyle(e).backgroundPosition")
    for _ in range(9):
        page.keyboard.press("ArrowLeft")
    expect(shown).to_contain_text("10 frames before")
    assert tile.evaluate("e => getComputedStyle(e).backgroundPosition") != where
    expect(page.locator("#scrub")).to_have_attribute("aria-valuetext", shown.inner_text())
    page.keyboard.press("a")  # news of the halt redraws the panel; we go on looking at the same frame
    expect(page.locator(".history")).to_contain_text("acknowledged")
    expect(shown).to_contain_text("10 frames before")
    expect(tile).to_be_visible()
    box = page.locator("#scrub").bounding_box()
    assert box
    page.mouse.click(box["x"] + box["width"] * 0.5 / 21, box["y"] + box["height"] / 2)
    expect(shown).to_contain_text("20 frames before")
    page.mouse.click(box["x"] + box["width"] * 20.5 / 21, box["y"] + box["height"] / 2)
    expect(tile).to_be_hidden()
    expect(shown).to_have_text("What the camera saw")
    expect(page.locator(".main-picture img.photo")).to_be_visible()


def test_by_touch_on_a_phone(browser: Browser, hub: HubProcess, edge: FakeEdge) -> None:
    edge.film(edge.halt())
    halt_id = until(lambda: halt_of(hub, edge))["id"]
    context = browser.new_context(viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    page = context.new_page()
    sign_in(page, hub)
    page.goto(f"{hub.url}/halts/{halt_id}")
    expect(page.locator("#scrub")).to_be_visible()
    box = page.locator("#scrub").bounding_box()
    assert box
    page.touchscreen.tap(box["x"] + box["width"] * 10.5 / 21, box["y"] + box["height"] / 2)
    expect(page.locator("#shown")).to_contain_text("10 frames before")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.get_by_role("button", name="Real defect").tap()
    expect(page.get_by_role("button", name="Real defect")).to_have_attribute("aria-pressed", "true")
    context.close()


def test_an_edge_without_a_film_shows_the_other_frames(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    sign_in(page, hub)
    event = edge.halt()
    other = edge.good(12)
    edge.record(call="defect", why=("context",), halt=event.halt, frame_id=4810, image=other.image)
    open_halt(page, edge)
    expect(page.locator("#film")).to_have_count(0)
    expect(page.locator(".side-pictures .strip a")).to_have_count(1)
    assert fits(page)


# ── live ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def test_every_camera_is_live_with_what_is_inspected_and_hot(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    until(lambda: (answer := page.goto(station(hub, edge))) and answer.ok)  # its first word may be on its way yet
    expect(page.locator(".cameras .none")).to_have_text("No picture since the hub started")
    bad = render("weld", 5, defects=[DefectSpec("porosity", 2.0)]).image
    edge.picture(bad, 1, "defect", hot=True)
    edge.picture(bad, 1, "pass", camera="top")
    top, cam = (page.locator(f'[data-camera="{name}"]') for name in ("top", "cam"))
    expect(cam.locator(".call")).to_have_text("DEFECT")
    expect(top.locator(".call")).to_have_text("PASS")
    expect(cam.locator("rect")).to_have_class("call-defect")
    until(lambda: cam.locator("img.heat").evaluate("e => e.naturalWidth") > 0)
    expect(cam.locator("img.heat")).to_be_visible()
    expect(top.locator("img.heat")).to_be_hidden()  # cold
    page.keyboard.press("h")
    expect(cam.locator("img.heat")).to_be_hidden()
    page.keyboard.press("i")
    expect(cam.locator("svg")).to_be_hidden()
    page.get_by_role("button", name="Heat map").click()
    expect(cam.locator("img.heat")).to_be_visible()
    edge.picture(bad, 2, "pass")  # the defect has passed
    expect(cam.locator(".call")).to_have_text("PASS")
    expect(cam.locator("img.heat")).to_be_hidden()
    expect(cam.locator(".age")).to_have_class("age old", timeout=5000)
    assert fits(page)


def test_a_picture_out_of_sight_is_fetched_when_somebody_scrolls_to_it(
    page: Page, hub: HubProcess, edge: FakeEdge
) -> None:
    asked: list[str] = []
    page.on("request", lambda r: asked.append(r.url) if "/live/" in r.url and edge.topics.station in r.url else None)
    page.goto(hub.url)
    expect(card(page, edge)).to_be_visible()
    page.evaluate("document.body.prepend(Object.assign(document.createElement('div'), { style: 'height: 5000px' }))")
    edge.picture(render("weld", 3, defects=[]).image, 1, "uncertain")
    expect(card(page, edge).locator(".call")).to_have_text("UNCERTAIN")  # what it says is told all the same
    edge.picture(render("weld", 4, defects=[]).image, 2, "pass")
    expect(card(page, edge).locator(".call")).to_have_text("PASS")
    page.wait_for_timeout(500)
    assert asked == []
    card(page, edge).scroll_into_view_if_needed()
    until(lambda: card(page, edge).locator(".live img").evaluate("e => e.naturalWidth") > 0)
    until(lambda: asked)


def test_one_tap_leads_from_the_line_to_its_cameras(page: Page, hub: HubProcess, edge: FakeEdge) -> None:
    page.goto(hub.url)
    edge.picture(render("weld", 3, defects=[]).image, 1, camera="b")
    edge.picture(render("weld", 4, defects=[]).image, 1, "uncertain", camera="a")
    expect(card(page, edge).locator(".live")).to_have_attribute("data-camera", "a")
    edge.picture(render("weld", 3, defects=[]).image, 2, "defect", camera="b")
    page.wait_for_timeout(500)
    expect(card(page, edge).locator(".call")).to_have_text("UNCERTAIN")  # the first camera stands for the station
    card(page, edge).locator(".live a").click()
    page.wait_for_url("**/stations/**")
    expect(page.locator(".camera")).to_have_count(2)
