"""What did not reach the hub: whose it is, when it is sent, and when it is not. In a real browser."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from playwright.sync_api import Browser, Page, expect
from sqlalchemy import select

from review.alarms import State, Verdict
from review.clock import wall_ms
from review.halts import judge, load
from review.store import Halt, ShiftNote, SignIn
from tests.browser.label_desk import World
from tests.browser.where import wait_for_path
from tests.review.factory import until

pytestmark = [pytest.mark.browser, pytest.mark.broker]

HOURS_MS = 2 * 3_600_000
GREY = np.full((512, 640, 3), 128, np.uint8)


@pytest.fixture
def world(browser: Browser, mosquitto: int, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, mosquitto, browser)
    with world.hub.store.writing() as session:
        for n in (1, 2):
            session.add(
                Halt(
                    id=n, station_id=1, halt=170_000 + n, uid=f"{n:032x}", code=1, reason="", cls="porosity",
                    records=[], stages_ms={}, at_ms=wall_ms(), received_ms=wall_ms(), state=State.ACTIVE_UNACKED,
                )
            )  # fmt: skip
    yield world
    world.stop()


def at(world: World, path: str) -> str:
    return f"http://127.0.0.1:{world.port}{path}"


def sign_in(world: World, page: Page, name: str, path: str) -> None:
    page.goto(at(world, f"/who?next={path}"))
    page.locator(f'button[value="{name}"]').click()
    wait_for_path(page, path)
    expect(page.locator(".person")).to_have_text(name)


def press_without_a_hub(page: Page, key: str) -> None:
    """Until `hub_is_back`, verdicts do not get through."""
    page.wait_for_timeout(500)  # the page's own first refetch is over
    page.route("**/verdict", lambda route: route.abort())
    page.keyboard.press(key)
    expect(page.locator(".say")).to_contain_text("NOT YET SENT")


def hub_is_back(page: Page) -> None:
    page.unroute("**/verdict")


def said(world: World, halt: int) -> list[tuple[str, Any]]:
    with world.hub.store.reading() as session:
        return [(e.who, e.detail["verdict"]) for e in load(session, halt).events if e.kind == "verdict"]


def test_an_ended_sign_in_keeps_a_verdict_until_its_person_is_back(page: Page, world: World) -> None:
    sign_in(world, page, "Ann", "/halts/1")
    press_without_a_hub(page, "2")
    with world.hub.store.writing() as session:
        for row in session.query(SignIn):
            row.seen_ms -= HOURS_MS
    hub_is_back(page)
    page.goto(at(world, "/alarms"))
    expect(page.locator("#unsent")).to_have_text("NOT YET SENT: Ann")
    for width in (390, 1280):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.wait_for_timeout(1500)
    assert said(world, 1) == []
    page.goto(at(world, "/halts/1"))
    expect(page.locator(".say")).to_contain_text("sent when the hub is back and Ann is signed in on this screen")
    sign_in(world, page, "Ann", "/handover")  # any page will do
    expect(page.locator("#unsent")).to_be_hidden()
    assert said(world, 1) == [("Ann", "false_call")]


def test_a_verdict_is_never_sent_in_the_name_of_somebody_else(page: Page, world: World) -> None:
    sign_in(world, page, "Ann", "/halts/1")
    press_without_a_hub(page, "2")
    page.context.clear_cookies()
    hub_is_back(page)
    sign_in(world, page, "Bob", "/halts/2")
    expect(page.locator("#unsent")).to_have_text("NOT YET SENT: Ann")
    page.wait_for_timeout(1500)
    assert said(world, 1) == []
    sign_in(world, page, "Ann", "/alarms")
    until(lambda: said(world, 1) == [("Ann", "false_call")])


def test_a_verdict_that_comes_late_does_not_overwrite_a_newer_one_and_says_so(page: Page, world: World) -> None:
    sign_in(world, page, "Ann", "/halts/1")
    press_without_a_hub(page, "2")
    judge(world.hub, 1, "Bob", Verdict.REAL, "")
    hub_is_back(page)
    sign_in(world, page, "Ann", "/alarms")
    notice = page.locator("#not-recorded")
    expect(notice).to_contain_text("Ann, pressed while the hub was away: not recorded: the verdict is now “real”")
    expect(page.locator("#unsent")).to_be_hidden()
    page.goto(at(world, "/"))
    expect(notice).to_be_visible()  # until somebody has read it
    notice.get_by_role("button", name="Understood").click()
    expect(notice).to_be_hidden()
    page.reload()
    page.wait_for_timeout(500)
    expect(notice).to_be_hidden()
    assert said(world, 1) == [("Bob", "real")]


def test_without_a_name_nothing_is_kept_for_whoever_comes_next(page: Page, world: World) -> None:
    page.goto(at(world, "/halts/1"))
    page.wait_for_timeout(500)
    page.route("**/ack", lambda route: route.abort())
    page.keyboard.press("a")
    expect(page.locator(".say")).to_contain_text("nobody is signed in here")
    page.unroute("**/ack")
    sign_in(world, page, "Bob", "/halts/1")
    page.wait_for_timeout(1500)
    expect(page.locator(".state")).to_contain_text("Halted, not acknowledged")


def test_a_page_of_one_person_records_nothing_once_another_signed_in_elsewhere(page: Page, world: World) -> None:
    sign_in(world, page, "Bob", "/halts/1")
    uid = world.frame(GREY)
    label = page.context.new_page()
    label.goto(at(world, f"/label/{uid}"))
    label.wait_for_selector("body[data-ready]")
    other = page.context.new_page()
    sign_in(world, other, "Ann", "/alarms")

    label.keyboard.press("g")
    label.keyboard.press("Control+Enter")
    words = "this page is Bob's, and Ann has signed in since"
    expect(label.locator("#message")).to_contain_text(words)
    assert world.labels() == []
    page.get_by_role("button", name="Real defect").click()
    expect(page.locator("#not-recorded")).to_contain_text(words)
    expect(page.locator("#halt .key-row")).to_be_visible()  # the page stays what it was
    assert said(world, 1) == []

    sign_in(world, other, "Bob", "/alarms")
    label.keyboard.press("Control+Enter")
    until(lambda: [row.person for row in world.labels()] == ["Bob"])


def test_a_plain_form_of_one_persons_page_is_refused_once_another_signed_in_elsewhere(page: Page, world: World) -> None:
    sign_in(world, page, "Ann", "/handover")
    page.get_by_label("Note for the next shift").fill("nozzle 2 drips")
    other = page.context.new_page()
    sign_in(world, other, "Bob", "/alarms")
    page.get_by_role("button", name="Add the note").click()
    expect(page.locator("main")).to_contain_text("this page is Ann's, and Bob has signed in since")
    page.get_by_role("link", name="Back to the page").click()
    wait_for_path(page, "/handover")
    expect(page.locator(".person")).to_have_text("Bob")
    expect(page.get_by_label("Note for the next shift")).to_have_value("nozzle 2 drips")
    with world.hub.store.reading() as session:
        assert session.scalars(select(ShiftNote)).all() == []
    page.get_by_role("button", name="Add the note").click()
    wait_for_path(page, "/handover")
    expect(page.locator("main")).to_contain_text("nozzle 2 drips")
    with world.hub.store.reading() as session:
        assert [note.by for note in session.scalars(select(ShiftNote))] == ["Bob"]
