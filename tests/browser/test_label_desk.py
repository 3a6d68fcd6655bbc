"""What a day at the label page takes: pace, pictures of the rules, a browser that dies, a pen."""

from __future__ import annotations

import shutil
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, Page

from inspection.render import DefectSpec, render
from review import label_books, publishing
from tests.browser.label_desk import Desk, World
from tests.review.factory import until

pytestmark = pytest.mark.browser
GREY = np.full((512, 640, 3), 128, np.uint8)
FRAMES, THINK_S = 15, 6.0
"""A person looks at a frame for as long as `THINK_S`; the rest of 12 s a frame is what server and page may take."""


@pytest.fixture
def world(tmp_path: Path, mosquitto: int, browser: Browser) -> Iterator[World]:
    world = World(tmp_path / "hub", mosquitto, browser)
    yield world
    for context in browser.contexts:
        context.close()
    world.stop()


def test_300_frames_an_hour_leave_six_seconds_to_think(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    """A scripted person with real pictures: a decision key, Ctrl+Enter, and the next frame can be judged."""
    for seed in range(FRAMES + 1):
        world.frame(render("scratch", seed, defects=[DefectSpec("scratch", 2.0)] if seed % 3 == 0 else []).image)
    ann = world.sign_in("Ann")
    ann.open()
    took = []
    for n in range(FRAMES):
        at = ann.page.url
        began = time.monotonic()
        ann.press("1" if n % 3 == 0 else "g", "Control+Enter")
        ann.page.wait_for_url(lambda url, at=at: url != at)  # type: ignore[misc]
        ann.ready()
        took.append(time.monotonic() - began)
    assert len(world.labels()) == FRAMES
    typical, slow = statistics.median(took), max(took)
    with capsys.disabled():
        print(
            f"\nserver and page: median {typical:.2f} s, worst {slow:.2f} s a frame; {3600 / (typical + THINK_S):.0f}/h"
        )
    assert 3600 / (typical + THINK_S) >= 300
    assert ann.errors == []


def test_the_label_book_shows_its_pictures_beside_the_canvas_but_not_the_frame_itself(world: World) -> None:
    uids = [world.frame(render("scratch", n, defects=[DefectSpec("scratch", 3.0)]).image) for n in range(5)]
    with world.hub.store.writing() as session:
        row = label_books.draft(session, "scratch", "Ann", "pictures", 1)
        kinds = ["example", "example", "counterexample", "borderline"]
        for uid, kind in zip(uids, kinds, strict=False):
            label_books.show_frame(session, row, "scratch", kind, uid, f"{kind} note", "Ann", 1)
        publishing.publish(session, row, "Ann", label_books.FramesNeeded(0, 0, 0), 2)
    ann = world.sign_in("Ann")
    ann.open(uids[4])
    assert [p.inner_text() for p in ann.page.locator(".label-shows p").all()] == ["Defect", "Borderline", "No defect"]
    pictures = ann.page.locator(".label-shows img")
    assert pictures.count() == 4
    pictures.last.scroll_into_view_if_needed()
    all_there = "[...document.querySelectorAll('.label-shows img')].every((i) => i.naturalWidth > 200)"
    until(lambda: ann.page.evaluate(all_there), 20)
    assert pictures.first.get_attribute("alt") == "Defect: example note"
    ann.open(uids[0])
    assert ann.page.locator(".label-shows img").count() == 3


def test_a_small_picture_is_cut_around_what_was_marked(world: World) -> None:
    image = GREY.copy()
    image[400:404, 500:540] = (0, 0, 255)
    uid = world.frame(image)
    ann = world.sign_in("Ann")
    ann.open(uid)
    ann.drag((500, 402), (540, 402))
    ann.save()
    with world.hub.store.writing() as session:
        row = label_books.draft(session, "scratch", "Ann", "pictures", 1)
        frame = label_books.show_frame(session, row, "scratch", "example", uid, "", "Ann", 1)
    answer = ann.page.request.get(f"{ann.base}/label-book/frames/{frame.id}.jpg")
    small = cv2.imdecode(np.frombuffer(answer.body(), np.uint8), cv2.IMREAD_COLOR)
    assert small.shape == (180, 240, 3)
    red = np.argwhere(small[..., 2].astype(int) - small[..., 0] > 100)
    assert np.abs(red.mean(0) - (90, 120)).max() < 25, "the mark is in the middle"
    assert ann.page.request.get(f"{ann.base}/label-book/frames/999.jpg").status == 404


def test_a_draft_is_kept_within_five_seconds_and_outlives_the_browser(world: World, tmp_path: Path) -> None:
    """Another browser process with the same profile: what only a page remembered would be gone."""
    uid = world.frame(GREY)
    kind = world.browser.browser_type
    path = _executable()
    options = {"executable_path": path, "args": ["--no-sandbox"], "viewport": {"width": 1280, "height": 800}}
    first = kind.launch_persistent_context(tmp_path / "profile", **options)  # type: ignore[arg-type]
    ann = Desk(first.new_page(), f"http://127.0.0.1:{world.port}", "Ann")
    ann.open(uid)
    ann.press("1", "b")
    ann.drag((100, 100), (180, 100))
    began = time.monotonic()
    until(lambda: _painted(ann.page), 5, "a draft within 5 s")
    assert time.monotonic() - began < 5
    drawn = _painted(ann.page)
    time.sleep(1)  # Chromium writes its storage behind the page's back; a person's pause is longer
    first.close()
    again = kind.launch_persistent_context(tmp_path / "profile", **options)  # type: ignore[arg-type]
    try:
        page = again.new_page()  # the profile still has Ann signed in
        page.goto(f"{ann.base}/label/{uid}")
        page.wait_for_selector("body[data-ready]")
        assert page.locator("#decision").inner_text().startswith("Scratch")
        assert _painted(page) == drawn > 0
    finally:
        again.close()


def test_a_pen_paints_where_it_touches(world: World) -> None:
    uid = world.frame(GREY)
    ann = world.sign_in("Ann")
    ann.open(uid)
    ann.press("1", "b")
    pen = ann.page.context.new_cdp_session(ann.page)
    for n, (kind, x) in enumerate(
        [("mousePressed", 200), ("mouseMoved", 260), ("mouseMoved", 320), ("mouseReleased", 320)]
    ):
        at = ann.at(x, 250)
        buttons = 0 if kind == "mouseReleased" else 1
        pen.send(
            "Input.dispatchMouseEvent",
            {
                "type": kind, "x": at[0], "y": at[1], "button": "left", "buttons": buttons, "clickCount": int(n == 0),
                "pointerType": "pen", "force": 0.5,
            },
        )  # fmt: skip
    ann.save()
    (label,) = world.labels()
    mask = cv2.imdecode(np.frombuffer(world.hub.frames.read(str(label.mask)), np.uint8), cv2.IMREAD_UNCHANGED)
    rows, columns = np.nonzero(mask)
    assert abs(rows.mean() - 250) < 2
    assert 195 < columns.min() + 3 < 205
    assert 315 < columns.max() - 3 < 325


def test_a_glove_hits_every_key_of_the_page(world: World) -> None:
    """Decisions at least 15 mm high on a touch screen, tools at least 12 mm, at 3.78 px a mm."""
    uid = world.frame(GREY)
    ann = world.sign_in("Ann", has_touch=True)
    ann.open(uid)
    for selector, least_mm in ((".label-decide .key", 15), (".label-class", 12), (".label-tools [data-tool]", 12)):
        for box in (key.bounding_box() for key in ann.page.locator(selector).all()):
            assert box
            assert box["height"] >= least_mm * 3.78 - 1, (selector, box)


def _painted(page: Page) -> int:
    """How many points the kept draft's first shape has."""
    draft = page.evaluate(
        "JSON.parse(Object.entries(localStorage).find(([k]) => k.startsWith('haltline.label.'))?.[1] ?? 'null')"
    )
    shapes = draft["shapes"] if draft else []  # the class key alone is a draft too
    return len(shapes[0]["points"]) if shapes else 0


def _executable() -> str:
    return str(shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome"))
