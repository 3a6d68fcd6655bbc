"""Station alarms and their rules at the screen: an engineer writes one, its condition holds and ends, and what is still
there calls again; on the panel and on a phone, in both languages."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, Locator, Page, expect

from review import faults, people
from review.store import Fault, SuppressionRule
from tests.browser.label_desk import World
from tests.browser.where import wait_for_path
from tests.review.factory import FakeEdge

pytestmark = [pytest.mark.browser, pytest.mark.broker]

DARK = {
    "cam": {"type": "genicam", "frame": "640x512", "px_per_mm": 10.0, "blind": "dark: 99 % of it is below 12 of 255"}
}
FINE = {"cam": {**DARK["cam"], "blind": "no"}}


@pytest.fixture(scope="module")
def world(browser: Browser, mosquitto: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(faults, "ON_DELAY_MS", 300)
        world = World(tmp_path_factory.mktemp("hub"), mosquitto, browser)
        people.add_person(world.hub.store, "Chen", "engineer")
        world.hub.live._stations.clear()  # its own station never speaks, which is an alarm by itself
        yield world
        world.stop()


@pytest.fixture(scope="module")
def edge(world: World, mosquitto: int) -> Iterator[FakeEdge]:
    edge = FakeEdge(mosquitto, f"http://127.0.0.1:{world.port}", "weld-9")
    edge.online()
    edge.about()
    yield edge
    edge.close()


def as_chen(world: World, size: tuple[int, int] = (1280, 800), locale: str = "en") -> Page:
    context = world.browser.new_context(viewport={"width": size[0], "height": size[1]}, locale=locale)
    page = context.new_page()
    page.goto(f"http://127.0.0.1:{world.port}/who?next=/alarms/rules")
    page.get_by_role("button", name="Chen").click()
    wait_for_path(page, "/alarms/rules")
    return page


def reason(page: Page) -> Locator:
    return page.locator("form[action='/alarms/rules'] input[name=why]")


def write_a_rule(page: Page) -> None:
    page.get_by_label("Name").fill("camera fault says it")
    page.get_by_label("while another alarm is active").check()
    page.get_by_label("Which alarm").select_option("camera")
    page.get_by_role("checkbox", name="picture dark").check()
    page.get_by_role("checkbox", name="picture blurred").check()
    page.get_by_label("Stations").fill("plant/line-a/*")
    page.locator("form", has=page.get_by_label("Stations")).get_by_label("Reason").fill(
        "a dark picture follows from it"
    )
    page.get_by_role("button", name="Put in force").click()


def test_a_rule_is_written_holds_lets_go_and_what_is_left_calls(world: World, edge: FakeEdge) -> None:
    page = as_chen(world)
    expect(page.locator("#suppression")).to_contain_text("No rule is in force")
    write_a_rule(page)
    expect(page.locator("#rule-1")).to_contain_text("suppresses nothing now")
    page.goto(f"http://127.0.0.1:{world.port}/alarms")
    expect(page.locator("#alarm-list")).to_contain_text("No station alarms")
    edge.code, edge.run = 2, 0
    edge.line("TRIPPED", "permit withdrawn")
    edge.about(cameras=DARK)
    calling = page.locator(".faults li.unacked")
    expect(calling).to_have_count(1)
    expect(calling).to_contain_text("Camera fault")
    expect(page.locator("#alarm-list")).to_contain_text("1 alarm is suppressed by rule")
    expect(page.locator(".faults li", has_text="Picture dark")).to_contain_text("suppressed by rule 1")
    expect(page.locator("#faults")).to_have_text("▲ 1")
    expect(page.locator("#unacked")).to_be_hidden()
    calling.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("#faults")).to_be_hidden()
    page.goto(f"http://127.0.0.1:{world.port}/alarms/rules")
    expect(page.locator("#rule-1")).to_contain_text("suppresses 1 alarm now")
    page.goto(f"http://127.0.0.1:{world.port}/alarms")
    edge.code, edge.run = 0, 1
    edge.line("RUNNING")
    expect(calling).to_have_count(1)
    expect(calling).to_contain_text("Picture dark")
    expect(page.locator("#faults")).to_have_text("▲ 1")
    edge.about(cameras=FINE)
    expect(calling).to_contain_text("over, not acknowledged")
    calling.get_by_role("button", name="Acknowledge").click()
    expect(page.locator("#alarm-list")).to_contain_text("No station alarms")
    with world.hub.store.reading() as session:
        dark = session.query(Fault).filter_by(kind="picture/dark").one()
        assert [e.kind for e in dark.events] == ["raised", "suppressed", "released", "realarmed", "gone", "ack"]
    page.context.close()


def test_a_rule_for_halts_is_refused_on_the_page_and_what_was_typed_stays(world: World, edge: FakeEdge) -> None:
    page = as_chen(world)
    page.get_by_role("checkbox", name="camera fault").evaluate("e => { e.value = '*'; }")
    page.get_by_label("Name").fill("all quiet")
    reason(page).fill("nobody wants to be called")
    page.get_by_role("checkbox", name="camera fault").check()
    page.get_by_role("button", name="Put in force").click()
    expect(page.locator(".say[data-bad]")).to_contain_text("a halt is never suppressed")
    expect(page.get_by_label("Name")).to_have_value("all quiet")
    with world.hub.store.reading() as session:
        assert session.query(SuppressionRule).filter_by(name="all quiet").count() == 0
    page.context.close()


@pytest.mark.parametrize("locale", ["en", "de"])
@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_maintenance_and_rules_fit_the_panel_and_a_phone(
    world: World, edge: FakeEdge, size: tuple[int, int], locale: str
) -> None:
    page = as_chen(world, size, locale)
    form = page.locator("form[action='/alarms/maintenance']")
    form.locator("select").select_option(label="plant · line-a · weld-9")
    form.locator("input[name=why]").fill(f"Düse wird gewechselt {size[0]} {locale}")
    form.locator("button[value='60']").click()
    expect(page.locator("#suppression")).to_contain_text(f"Düse wird gewechselt {size[0]} {locale}")
    page.wait_for_load_state()
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]
    for box in page.locator("main button:visible").all():
        bounds = box.bounding_box()
        assert bounds
        assert bounds["height"] >= 15 * 3.78 - 1
    page.context.close()
