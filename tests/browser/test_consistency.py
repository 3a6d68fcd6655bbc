"""An engineer at a browser: adjudicating by keys, and pages that fit a panel, a phone and paper."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from review import adjudication
from review.labelling import encode_mask
from review.people import add_person
from review.store import Adjudication, Label, Record
from tests.browser.label_desk import Desk, World

pytestmark = pytest.mark.browser
LINE = [{"cls": "scratch", "length_mm": 2.0, "box_px": [100, 100, 40, 6], "points_px": []}]


@pytest.fixture
def world(mosquitto: int, tmp_path: Path, browser: Browser) -> Iterator[World]:
    world = World(tmp_path / "hub", mosquitto, browser)
    add_person(world.hub.store, "Cy", "engineer")
    yield world
    world.stop()


def differing(world: World, n: int) -> list[str]:
    """Frames Ann calls a scratch, with a mask, and Bob good."""
    uids = [world.frame(np.full((256, 320, 3), 90 + i, np.uint8)) for i in range(n)]
    mask = np.zeros((256, 320), np.uint8)
    mask[100:106, 100:140] = 1
    sha = world.hub.frames.put(encode_mask(mask))
    with world.hub.store.writing() as session:
        for record in session.query(Record).all():
            for person, classes, stored in (("Ann", ["scratch"], sha), ("Bob", [], None)):
                session.add(
                    Label(
                        record_id=record.id, person=person, label_book="scratch@1", classes=classes, mask=stored,
                        annotations=LINE, unsure=False, created_ms=1,
                    )
                )  # fmt: skip
    return uids


def decisions(world: World) -> dict[int, tuple[str, str]]:
    with world.hub.store.reading() as session:
        return {i: (a.took, a.reason) for i, a in adjudication.in_force(session, "scratch").items()}


def test_a_b_e_and_s_by_keys_each_with_a_reason(world: World) -> None:
    uids = differing(world, 4)
    desk = world.sign_in("Cy")
    page = desk.page
    page.goto(f"{desk.base}/adjudicate/next")
    page.wait_for_load_state("load")
    assert page.url.endswith(uids[0])
    for image in page.locator(".side img").all():
        assert image.evaluate("i => i.complete && i.naturalWidth > 0")
    desk.press("a")  # without a reason it leads to the field and decides nothing
    expect(page.locator("#reason")).to_be_focused()
    assert decisions(world) == {}
    page.keyboard.type("2.0 mm by the gauge, as bad as sabe")  # letters of keys are letters here
    desk.press("Enter")  # of three buttons it would press the first, "good"
    page.wait_for_timeout(300)
    assert decisions(world) == {}
    desk.press("Escape", "a")
    page.wait_for_url(f"**/{uids[1]}")
    desk.press("s")
    page.wait_for_url(f"**/{uids[2]}")
    page.locator("#reason").fill("a shadow")
    desk.press("Escape", "b")
    page.wait_for_url(lambda url: uids[2] not in url)
    desk.press("e")
    page.locator("input[name=cls]").check()
    page.locator("input[name=length_mm]").fill("1.9")
    page.locator("#reason").fill("both ends were missed")
    with page.expect_navigation():
        page.get_by_role("button", name="Decide").click()
    assert sorted(decisions(world).values()) == sorted(
        [("Ann", "2.0 mm by the gauge, as bad as sabe"), ("Bob", "a shadow"), ("", "both ends were missed")]
    )
    assert desk.errors == []


@pytest.mark.parametrize("size", [(1280, 800), (390, 844)])
def test_pages_fit_the_screen(world: World, size: tuple[int, int]) -> None:
    uid = differing(world, 1)[0]
    desk = world.sign_in("Cy", viewport={"width": size[0], "height": size[1]})
    for path in ("/consistency", "/consistency/report", "/label-book/scratch", "/adjudicate", f"/adjudicate/{uid}",
                 "/consistency/frames?book=scratch&version=scratch@1&cls=scratch"):  # fmt: skip
        desk.page.goto(desk.base + path)
        assert desk.page.evaluate("document.documentElement.scrollWidth") <= size[0], path
    expect_few(desk)
    assert desk.errors == []


def expect_few(desk: Desk) -> None:
    desk.page.goto(f"{desk.base}/consistency")
    expect(desk.page.get_by_text("Too few double labels (n=1)")).to_have_count(3)


def test_the_report_prints_whole_and_without_buttons(world: World) -> None:
    """On A4 less 14 mm on each side, 688 px at 96 a inch, no table is cut off: the result stands in the last column."""
    differing(world, 2)
    with world.hub.store.writing() as session:
        for record in session.query(Record).all():
            session.add(
                Adjudication(
                    record_id=record.id, person="Cy", label_book="scratch@1", classes=["scratch"], mask=None,
                    annotations=[], reason="by the gauge", created_ms=2,
                )
            )  # fmt: skip
    desk = world.sign_in("Cy", viewport={"width": 688, "height": 1000})
    desk.page.goto(f"{desk.base}/consistency/report")
    desk.page.emulate_media(media="print")
    expect(desk.page.locator(".bar")).to_be_hidden()
    expect(desk.page.locator("h1")).to_be_visible()
    expect(desk.page.get_by_text("2 frames somebody called otherwise than the reference")).to_be_visible()
    expect(desk.page.get_by_text("Approved by, date")).to_be_visible()
    for table in desk.page.locator("table:visible").all():
        box = table.bounding_box()
        assert box
        assert box["x"] + box["width"] <= 688, table.inner_text()
