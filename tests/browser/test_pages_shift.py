"""A shift at the panel, by glove: the PIN pad, a shelf, a burst acknowledged at once, a handover between two people."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect

from review import badges, people
from review.alarms import State
from review.broadcast import News
from review.clock import wall_ms
from review.store import Halt
from tests.browser.label_desk import World
from tests.browser.where import wait_for_path

pytestmark = [pytest.mark.browser, pytest.mark.broker]

PIN = "402817"


@pytest.fixture
def world(browser: Browser, mosquitto: int, tmp_path: Path) -> Iterator[World]:
    world = World(tmp_path, mosquitto, browser)
    people.add_person(world.hub.store, "Olga", "operator")
    people.set_secret(world.hub.store, "Olga", PIN)
    yield world
    world.stop()


def halts(world: World, *states: State, **more: Any) -> None:
    now_ms = wall_ms()
    with world.hub.store.writing() as session:
        first = session.query(Halt).count() + 1
        for n, state in enumerate(states, start=first):
            session.add(
                Halt(
                    station_id=1, halt=170_000 + n, uid=f"{n:032x}", code=1, reason="", records=[], stages_ms={},
                    at_ms=now_ms + n, received_ms=now_ms + n, state=state,
                    **{"cls": "porosity"} | more,
                )
            )  # fmt: skip


def at_panel(world: World, page: Page, path: str) -> None:
    """Olga signs in by glove."""
    page.goto(f"http://127.0.0.1:{world.port}/who?next={path}")
    page.get_by_role("button", name="Olga").click()
    for digit in PIN:
        page.locator(f'[data-digit="{digit}"]').click()
    page.get_by_role("button", name="Enter").click()
    wait_for_path(page, path)


def test_the_pad_takes_digits_erases_and_refuses(page: Page, world: World) -> None:
    page.goto(f"http://127.0.0.1:{world.port}/who")
    page.get_by_role("button", name="Olga").click()
    field = page.locator("#secret")
    expect(field).to_be_focused()
    page.wait_for_load_state()  # the pad's script comes after the page
    for digit in "123456789":
        page.locator(f'[data-digit="{digit}"]').click()
    expect(field).to_have_value("12345678")
    page.get_by_role("button", name="Erase").click()
    expect(field).to_have_value("1234567")
    for key in page.locator(".pad .key").all():
        box = key.bounding_box()
        assert box
        assert min(box["width"], box["height"]) >= 20 * 3.78 - 1
    page.get_by_role("button", name="Enter").click()
    expect(page.locator(".say")).to_have_text("that is not the PIN of Olga")
    expect(field).to_have_value("")
    expect(field).to_be_focused()
    page.keyboard.type(PIN)
    page.keyboard.press("Enter")
    expect(page.locator(".person")).to_have_text("Olga")


def test_a_tick_and_the_focus_stay_with_their_row_while_others_come_and_go(page: Page, world: World) -> None:
    halts(world, State.CLEARED_UNACKED)
    for cls in ("undercut", "crack"):
        halts(world, State.CLEARED_UNACKED, cls=cls)
    at_panel(world, page, "/alarms")
    page.get_by_label("Choose Porosity").check()
    page.get_by_label("Choose Crack").check()
    page.get_by_role("link", name="Shelve Undercut").focus()
    with world.hub.store.writing() as session:  # as for a page that was hidden: all of it is in one refetch
        session.get_one(Halt, 1).state = State.CLOSED
    halts(world, State.CLEARED_UNACKED, cls="undercut")
    world.hub.news.tell(News("halt", "1"))
    expect(page.locator("#pick li")).to_have_count(2)
    expect(page.locator("#pick .times")).to_have_text("×2")
    expect(page.get_by_role("link", name="Shelve Undercut")).to_be_focused()
    expect(page.get_by_label("Choose Undercut")).not_to_be_checked()
    expect(page.get_by_label("Choose Crack")).to_be_checked()
    halts(world, State.CLEARED_UNACKED, cls="crack")
    world.hub.news.tell(News("halt", "5"))
    expect(page.locator("#pick .times")).to_have_count(2)
    expect(page.get_by_label("Choose Crack")).not_to_be_checked()  # not for the one that nobody has seen


def test_an_alarm_that_comes_is_said_once_to_who_cannot_see_the_list(page: Page, world: World) -> None:
    halts(world, State.CLEARED_UNACKED)
    at_panel(world, page, "/alarms")
    expect(page.locator("#pick li")).to_have_count(1)
    said = page.get_by_role("status")
    expect(said).to_be_empty()  # what was there is read with the page
    halts(world, State.CLEARED_UNACKED, cls="crack")
    world.hub.news.tell(News("halt", "2"))
    expect(said).to_contain_text("New alarms:")
    expect(said).to_contain_text("Crack")
    assert "Porosity" not in said.inner_text()
    halts(world, State.CLEARED_UNACKED)
    world.hub.news.tell(News("halt", "3"))
    expect(said).to_contain_text("Porosity ×2")  # one more in a row that was there
    assert "Crack" not in said.inner_text()
    said.evaluate("said => { said.textContent = '' }")
    halts(world, State.CLOSED, cls="undercut")
    world.hub.news.tell(News("halt", "4"))
    expect(page.locator("#alarm-list li")).to_have_count(3)
    expect(said).to_be_empty()


def keys(page: Page, typed: str, gap_ms: int) -> None:
    """Key presses that are `gap_ms` apart for the page, however long this busy machine takes to deliver them."""
    cdp = page.context.new_cdp_session(page)
    at_s = time.time() + 0.5  # well after whatever was typed before
    for key in [*typed, "Enter"]:
        at_s += gap_ms / 1000
        known = {"key": key, "timestamp": at_s, "windowsVirtualKeyCode": 13 if key == "Enter" else ord(key)}
        cdp.send("Input.dispatchKeyEvent", {"type": "keyDown", "text": "\r" if key == "Enter" else key, **known})
        cdp.send("Input.dispatchKeyEvent", {"type": "keyUp", **known})
    cdp.detach()


def test_a_badge_signs_in_from_anywhere_on_the_page(page: Page, world: World) -> None:
    badges.enrol(world.hub.store, world.hub.settings.badge_key(), "Olga", "0012345678")
    who = f"http://127.0.0.1:{world.port}/who?next=/alarms"
    page.goto(who)
    keys(page, "0012345679", 4)
    expect(page.locator(".say")).to_have_text("nobody here has this badge")
    page.get_by_role("button", name="Olga").focus()
    keys(page, "0012345678", 4)
    wait_for_path(page, "/alarms")
    expect(page.locator(".person")).to_have_text("Olga")
    page.goto(who + "&name=Olga")
    page.keyboard.type(PIN[:3])
    keys(page, ";00-1234-5678?", 15)
    wait_for_path(page, "/alarms")


def test_a_pin_is_typed_as_before_however_fast(page: Page, world: World) -> None:
    for gap_ms in (1, 30, 60):
        page.goto(f"http://127.0.0.1:{world.port}/who?name=Olga&next=/alarms")
        expect(page.locator("#secret")).to_be_focused()  # autofocus comes after the load event
        keys(page, PIN, gap_ms)
        wait_for_path(page, "/alarms")
    # By hand, even what looks like a badge goes into the field.
    page.goto(f"http://127.0.0.1:{world.port}/who?name=Olga")
    expect(page.locator("#secret")).to_be_focused()
    keys(page, "0012345678", 60)
    expect(page.locator(".say")).to_have_text("that is not the PIN of Olga")


def test_a_burst_is_shelved_with_a_reason_and_comes_back(page: Page, world: World) -> None:
    halts(world, *3 * [State.ACTIVE_UNACKED])
    at_panel(world, page, "/alarms")
    row = page.locator(".rows li").first
    expect(row).to_contain_text("×3")
    expect(page.locator("#unacked")).to_have_text("3")
    row.get_by_role("link", name="Shelve").click()
    page.get_by_label("Reason").fill("ab")
    page.get_by_role("button", name="15 min").click()
    expect(page.get_by_label("Reason")).to_have_value("ab")  # too short: the form says so and keeps it
    page.get_by_label("Reason").fill("nozzle is changed")
    page.get_by_role("button", name="15 min").click()
    wait_for_path(page, "/alarms")
    expect(page.locator("#unacked")).to_be_hidden()
    expect(page.locator(".rows.shelf")).to_contain_text("by Olga: nozzle is changed")
    page.get_by_role("button", name="Unshelve").click()
    expect(page.locator("#unacked")).to_have_text("3")


def test_alarms_are_filtered_by_either_choice_or_none(page: Page, world: World) -> None:
    """A form says its empty choices too, and the page refused "any": a station alone could not be asked for."""
    halts(world, State.CLOSED, verdict="real")
    halts(world, State.CLOSED, verdict="false_call")
    page.goto(f"http://127.0.0.1:{world.port}/alarms")
    for station, verdict, found in ((1, "", "×2"), (1, "real", "Real"), (0, "false_call", "False call"), (0, "", "×2")):
        page.locator("[name=station]").select_option(index=station)
        page.locator("[name=verdict]").select_option(verdict)
        page.get_by_role("button", name="Show").click()
        expect(page.locator("#alarm-list .rows li")).to_have_count(1)
        expect(page.locator("#alarm-list .rows li")).to_contain_text(found)


def test_what_holds_no_line_is_acknowledged_at_once_and_then_handed_over(page: Page, world: World) -> None:
    halts(world, *4 * [State.CLEARED_UNACKED])
    at_panel(world, page, "/handover")
    expect(page.get_by_role("button", name="Sign and leave")).to_be_disabled()
    page.get_by_role("link", name="4 halts are not acknowledged").click()
    page.get_by_role("checkbox").check()
    with page.expect_navigation():
        page.get_by_role("button", name="Acknowledge chosen").click()
    expect(page.locator("#unacked")).to_be_hidden()
    page.goto(f"http://127.0.0.1:{world.port}/handover")
    page.get_by_label("Note for the next shift").fill("watch nozzle 2")
    with page.expect_navigation():
        page.get_by_role("button", name="Add the note").click()
    page.get_by_role("button", name="Sign and leave").click()
    expect(page.locator(".waits")).to_contain_text("Somebody other than Olga takes over")
    page.goto(f"http://127.0.0.1:{world.port}/who?next=/handover")
    page.get_by_role("button", name="Bob").click()
    wait_for_path(page, "/handover")
    for item in page.locator(".check input").all():
        item.check()
    page.get_by_role("button", name="I take over").click()
    expect(page.locator(".waits")).to_have_count(0)
    expect(page.locator(".hand")).to_contain_text("Olga → Bob")


def signed_in_as_bob(world: World, page: Page, path: str) -> None:
    page.goto(f"http://127.0.0.1:{world.port}/who?next={path}")
    page.locator('button[value="Bob"]').click()
    wait_for_path(page, path)


def facts(world: World) -> list[tuple[str, str]]:
    with world.hub.store.reading() as session:
        return [(e.who, e.kind) for halt in session.query(Halt) for e in halt.events]


@pytest.mark.parametrize("gap_ms", [1, 4, 20])
def test_a_badge_read_at_a_halt_signs_in_there_and_presses_none_of_its_keys(
    page: Page, world: World, gap_ms: int
) -> None:
    badges.enrol(world.hub.store, world.hub.settings.badge_key(), "Olga", "0013724510")
    halts(world, State.ACTIVE_UNACKED)
    signed_in_as_bob(world, page, "/halts/1")
    page.wait_for_timeout(500)  # the page's own first refetch is over
    page.get_by_role("button", name="False call").focus()  # what Enter would press
    keys(page, "0013724510", gap_ms)
    expect(page.locator(".person")).to_have_text("Olga")
    wait_for_path(page, "/halts/1")
    page.wait_for_timeout(300)
    assert facts(world) == []


def test_what_a_reader_types_presses_no_key_whoever_has_it(page: Page, world: World) -> None:
    halts(world, State.ACTIVE_UNACKED)
    signed_in_as_bob(world, page, "/halts/1")
    page.wait_for_timeout(500)
    keys(page, "12312312", 4)  # as short as a PIN
    page.keyboard.type("0013724510", delay=3)  # no Enter
    page.wait_for_timeout(400)
    assert facts(world) == []
    keys(page, "0013724510", 4)
    expect(page.locator(".say").first).to_have_text("nobody here has this badge")
    assert facts(world) == []


def test_a_key_pressed_by_hand_acts_at_once(page: Page, world: World) -> None:
    """Within 50 ms, and what this busy machine takes itself."""
    page.add_init_script("addEventListener('keydown', (e) => { window.downAt = e.timeStamp; }, true);")
    halts(world, State.ACTIVE_UNACKED)
    signed_in_as_bob(world, page, "/halts/1")
    page.wait_for_timeout(500)
    page.evaluate("document.addEventListener('click', () => { window.took = performance.now() - downAt; })")
    page.keyboard.press("a")
    expect(page.locator(".state")).to_contain_text("Halted, acknowledged")
    assert page.evaluate("took") < 150
    page.keyboard.press("1")
    page.keyboard.press("r")  # two in a row, as fast as they come
    expect(page.get_by_role("button", name="Real defect")).to_have_attribute("aria-pressed", "true")
    assert facts(world)[:2] == [("Bob", "ack"), ("Bob", "verdict")]


def test_a_text_field_takes_what_is_typed_however_fast(page: Page, world: World) -> None:
    badges.enrol(world.hub.store, world.hub.settings.badge_key(), "Olga", "0013724510")
    signed_in_as_bob(world, page, "/handover")
    page.get_by_label("Note for the next shift").focus()
    keys(page, "0013724510", 4)
    expect(page.locator(".draft")).to_contain_text("0013724510")
    expect(page.locator(".person")).to_have_text("Bob")
