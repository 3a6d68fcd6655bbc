"""The label page in a real browser, on the real app: keys, pointer, touch, draft, blindness, where the mask ends up."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest
from playwright.sync_api import Browser, expect

from inspection.label_book import SCRATCH_BOOK
from inspection.render import DefectSpec, render
from inspection.samples import Sample
from review.export import export_folder
from review.store import BookRow, Label, Record
from tests.browser.label_desk import World
from tests.browser.where import wait_for_path
from tests.review.factory import until

pytestmark = pytest.mark.browser


@pytest.fixture
def world(tmp_path: Path, mosquitto: int, browser: Browser) -> Iterator[World]:
    world = World(tmp_path / "hub", mosquitto, browser)
    yield world
    for context in browser.contexts:
        context.close()
    world.stop()


def stored_mask(world: World, label: Label) -> np.ndarray:
    data = world.hub.frames.read(str(label.mask))
    return np.asarray(cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED))


def _assert_no_trace(world: World, label: Label, seen: bytes) -> None:
    mark = label.annotations[0]
    for trace in (label.person, mark["length_mm"], mark["points_px"][0], mark["box_px"], label.mask):
        assert _text(trace) not in seen, trace
    assert world.hub.frames.read(str(label.mask)) not in seen


def _text(value: object) -> bytes:
    return json.dumps(value).strip('[]"').encode()


GREY = np.full((512, 640, 3), 128, np.uint8)


def test_two_people_label_one_frame_blind_and_it_leaves_with_the_mask_in_place(world: World, tmp_path: Path) -> None:
    spec = DefectSpec("scratch", 4.0)
    uid = world.frame(render("scratch", 3, defects=[spec]).image)
    start, end = (200.0, 120.0), (263.0, 197.0)  # 99.5 px: 4.97 mm at 20 px/mm
    ann = world.sign_in("Ann")
    ann.page.click("#start")
    ann.ready()
    ann.press("1")
    ann.drag(start, end)
    assert ann.decision() == "Scratch 5.0 mm"
    assert "5.0 mm, from 1.5 mm on: defect" in ann.message()
    ann.save()
    wait_for_path(ann.page, "/label")

    bob = world.sign_in("Bob")
    bob.listen()  # from here on: the badge page names everybody, and is no label
    bob.page.goto(f"{bob.base}/label")
    bob.open(uid)
    assert bob.decision() == "Not decided yet"
    bob.page.locator("#heat").click()
    bob.page.wait_for_timeout(200)
    bob.stop_listening()
    assert any(b"data-ready" in body or b"<canvas" in body for body in bob.bodies), "the page itself was heard"
    _assert_no_trace(world, world.labels()[0], b"".join(bob.bodies))
    bob.press("1")
    bob.drag((start[0] + 1, start[1]), (end[0] + 1, end[1]))
    bob.save()
    assert not ann.errors + bob.errors

    summary = export_folder(world.hub.store, world.hub.frames, tmp_path / "out")
    assert (summary.agreed, summary.exported) == (1, 1)
    sample = Sample.model_validate_json((tmp_path / "out" / "samples.jsonl").read_text())
    assert sample.labelled_by == ("Ann", "Bob")
    assert sample.labels == ("scratch",)
    assert sample.annotations[0].length_mm == pytest.approx(4.974, abs=1 / 20)  # one px
    mask = cv2.imread(str(tmp_path / "out" / str(sample.mask)), cv2.IMREAD_UNCHANGED)
    ys, xs = np.nonzero(mask)
    half = 2.5  # the line is painted 0.25 mm wide
    expected = (start[0] - half, start[1] - half, end[0] + 1 + half, end[1] + half)
    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == pytest.approx(expected, abs=1)


def test_image_level_labels_take_two_keystrokes_each(world: World) -> None:
    for _ in range(3):
        world.frame(GREY)
    ann = world.sign_in("Ann")
    ann.open()
    for number, key in enumerate(("g", "1", "u"), start=1):
        ann.press(key)
        ann.save()
        if number < 3:
            ann.page.wait_for_url(re.compile(rf"/label/0*{number + 1}$"))
            ann.ready()
    assert [(row.classes, row.unsure, row.mask) for row in world.labels()] == [
        ([], False, None),
        (["scratch"], False, None),
        ([], True, None),
    ]


def test_nothing_is_saved_undecided_and_a_short_scratch_is_no_defect_until_overruled(world: World) -> None:
    world.frame(GREY)
    ann = world.sign_in("Ann")
    ann.open()
    ann.press("Control+Enter")
    assert "Decide first" in ann.message()
    ann.press("1")
    ann.drag((100, 100), (120, 100))
    assert "1.0 mm, under 1.5 mm: no defect" in ann.message()
    assert "People differ at this size" in ann.message()
    assert ann.decision() == "Not decided yet"
    ann.press("1")
    assert ann.decision() == "Scratch 1.0 mm"
    ann.press("z", "g")
    ann.save()
    label = world.labels()[0]
    assert (label.classes, label.mask) == ([], None)
    assert label.annotations[0]["length_mm"] == pytest.approx(1.0, abs=0.05)


def test_every_tool_paints_where_it_is_used_and_undo_takes_it_back(world: World) -> None:
    world.frame(GREY, "weld", 10.0)
    ann = world.sign_in("Ann")
    ann.open()
    ann.press("2", "b", "]", "]")
    ann.drag((50, 50), (90, 50))
    ann.press("p")
    for x, y in ((200, 200), (260, 200), (260, 240), (200, 240)):
        ann.page.mouse.click(*ann.at(x, y))
    ann.press("Enter", "3", "l")
    for x, y in ((300, 300), (340, 300), (340, 330)):
        ann.page.mouse.click(*ann.at(x, y))
    ann.press("Enter")
    assert ann.decision() == "Undercut + Burn-through 7.0 mm"
    ann.press("e", "]", "]", "]")
    ann.drag((230, 190), (230, 250))
    ann.press("b")
    ann.drag((400, 400), (420, 400))
    ann.press("z")
    ann.save()
    label = world.labels()[0]
    mask = stored_mask(world, label)
    assert label.classes == ["undercut", "burn_through"]
    assert mask[50, 70] == 2
    assert (mask[202, 202], mask[238, 258]) == (2, 2)
    assert mask[220, 230] == 0  # erased
    assert (mask[300, 320], mask[315, 340]) == (3, 3)
    assert not mask[390:410, 390:430].any()  # undone
    assert abs(int((mask[195:245, 195:265] == 2).sum()) - 60 * 40) < 60 * 14
    bent = next(a for a in label.annotations if a["length_mm"])
    assert bent["length_mm"] == pytest.approx(7.0, abs=0.2)


def test_a_draft_survives_a_reload_belongs_to_its_author_and_ends_with_saving(world: World) -> None:
    uid = world.frame(GREY)
    world.frame(GREY)
    ann = world.sign_in("Ann")
    ann.open(uid)
    ann.press("1")
    ann.drag((100, 100), (200, 100))
    ann.page.wait_for_timeout(1500)
    ann.page.reload()
    ann.ready()
    assert ann.decision() == "Scratch 5.0 mm"
    assert "Your draft" in ann.message()
    ann.page.goto(f"{ann.base}/who?next=/label")
    ann.page.get_by_role("button", name="Bob").click()
    wait_for_path(ann.page, "/label")
    ann.open(uid)
    assert ann.decision() == "Not decided yet"
    ann.page.goto(f"{ann.base}/who?next=/label")
    ann.page.get_by_role("button", name="Ann").click()
    wait_for_path(ann.page, "/label")
    ann.open(uid)
    ann.save()
    ann.page.wait_for_url(re.compile("/label/0*2$"))
    assert not ann.page.evaluate("Object.keys(localStorage).filter((k) => k.includes('label.Ann'))")
    assert np.count_nonzero(stored_mask(world, world.labels()[0])) > 400


def test_marks_drawn_while_the_rules_changed_come_back_and_are_judged_by_the_new_ones(world: World) -> None:
    ann = world.sign_in("Ann")
    ann.open(world.frame(GREY))
    ann.drag((100, 100), (200, 100))  # 5.0 mm
    ann.drag((100, 200), (140, 200))  # 2.0 mm, from 1.5 on a defect
    with world.hub.store.writing() as session:
        rule = SCRATCH_BOOK.rules[0].model_copy(update={"limit_mm": 4.0})
        session.add(
            BookRow(
                name="scratch", version=2, task="scratch", rules=[rule.model_dump(mode="json")], created_ms=1,
                published_ms=1,
            )
        )  # fmt: skip
    ann.press("Control+Enter")
    expect(ann.page.locator("#message")).to_contain_text("now scratch@2 holds (reload the page)")
    assert "press Ctrl+Enter" not in ann.message(), "it would be refused again"
    ann.page.reload()
    ann.ready()
    assert "is from before scratch@2: its marks are back, judge it again" in ann.message()
    assert ann.decision() == "Scratch 5.0 mm"
    ann.save()
    label = world.labels()[0]
    assert (label.label_book, [mark["length_mm"] for mark in label.annotations]) == ("scratch@2", [5.0, 2.0])
    mask = stored_mask(world, label)
    assert mask[95:105, 100:200].any()
    assert not mask[195:205].any(), "too short now"


def test_my_label_comes_back_as_i_left_it_and_can_be_changed(world: World) -> None:
    uid = world.frame(GREY)
    ann = world.sign_in("Ann")
    ann.open(uid)
    ann.drag((100, 100), (200, 100))
    ann.save()
    before = stored_mask(world, world.labels()[0])
    ann.open(uid)
    assert ann.decision() == "Scratch 5.0 mm"
    ann.press("b")
    ann.drag((300, 300), (320, 300))
    ann.save()
    after = stored_mask(world, world.labels()[1])
    assert np.array_equal(after[:200], before[:200])
    assert after[300, 310] == 1
    ann.open(uid)
    ann.press("1")
    assert ann.decision() == "Not decided yet"
    ann.press("z")
    assert ann.decision() == "Scratch 5.0 mm"


def test_when_the_hub_refuses_the_work_stays_and_the_reason_is_shown(world: World) -> None:
    uid = world.frame(GREY)
    ann = world.sign_in("Ann")
    ann.open(uid)
    ann.press("1")
    ann.page.route(
        f"**/label/{uid}", lambda route: route.abort() if route.request.method == "POST" else route.continue_()
    )
    ann.press("Control+Enter")
    expect(ann.page.locator("#message")).to_contain_text("Not saved")
    ann.page.unroute(f"**/label/{uid}")
    with world.hub.store.writing() as session:
        session.query(Record).one().width_px = 641
    ann.press("g", "1")
    ann.drag((100, 100), (200, 100))
    ann.press("Control+Enter")
    expect(ann.page.locator("#message")).to_contain_text("is 640 x 512 px, the frame 641 x 512")
    assert ann.decision() == "Scratch 5.0 mm"


def test_zoomed_in_every_frame_pixel_is_a_sharp_square(world: World) -> None:
    board = np.zeros((64, 64, 3), np.uint8)
    board[::2, ::2] = board[1::2, 1::2] = 255
    world.frame(board)
    ann = world.sign_in("Ann")
    ann.open()
    greys = ann.page.evaluate(
        """() => { const c = document.getElementById('stage'), x = c.getContext('2d');
        const row = x.getImageData(c.width / 2 - 100, c.height / 2 + 3, 200, 1).data;
        return [...new Set(Array.from({length: 200}, (_, i) => row[4 * i]))]; }"""
    )
    assert sorted(greys) == [0, 255]


RASTER = """async ([shapes, w, h]) => {
    const { paint, toPng, lengthPx } = await import('/static/label.raster.js');
    const mask = new Uint8Array(w * h);
    for (const shape of shapes) paint(mask, w, h, shape);
    const bytes = new Uint8Array(await (await toPng(mask, w, h)).arrayBuffer());
    return btoa(String.fromCharCode(...bytes));
}"""


def test_shapes_become_the_pixels_whose_centres_they_cover(world: World) -> None:
    world.frame(GREY)
    ann = world.sign_in("Ann")
    rng = np.random.default_rng(5)
    for _ in range(12):
        w, h = (int(v) for v in rng.integers(20, 70, 2))
        a, b = rng.uniform(-10, 75, (2, 2))
        corners = rng.uniform(-10, 75, (5, 2))
        width = float(rng.uniform(1, 14))
        shapes = [
            {"kind": "poly", "value": 2, "points": corners.tolist()},
            {"kind": "line", "value": 1, "width": width, "points": [a.tolist(), b.tolist()]},
        ]
        png = base64.b64decode(ann.page.evaluate(RASTER, [shapes, w, h]))
        got = cv2.imdecode(np.frombuffer(png, np.uint8), cv2.IMREAD_UNCHANGED)
        assert got.shape == (h, w)
        x, y = np.meshgrid(np.arange(w) + 0.5, np.arange(h) + 0.5)
        want = np.where(inside(corners, x, y), 2, 0)
        t = np.clip(((x - a[0]) * (b - a)[0] + (y - a[1]) * (b - a)[1]) / ((b - a) @ (b - a)), 0, 1)
        want[np.hypot(x - a[0] - t * (b - a)[0], y - a[1] - t * (b - a)[1]) <= width / 2] = 1
        assert np.array_equal(got, want)


def inside(corners: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Even-odd rule."""
    odd = np.zeros(x.shape, bool)
    for (x1, y1), (x2, y2) in zip(corners, np.roll(corners, 1, axis=0), strict=True):
        crosses = (y1 > y) != (y2 > y)
        odd ^= crosses & (x < x1 + (y - y1) * (x2 - x1) / (y2 - y1))
    return odd


def test_on_a_phone_a_finger_draws_two_fingers_zoom_and_all_keys_are_in_reach(world: World) -> None:
    world.frame(GREY, "weld", 10.0)
    ann = world.sign_in("Ann", viewport={"width": 390, "height": 844}, has_touch=True, is_mobile=True)
    ann.open()
    page = ann.page
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    for key in ("#good", "#unsure", "#save", "#skip"):
        box = page.locator(key).bounding_box()
        assert box
        assert box["y"] + box["height"] <= 844
        assert box["height"] >= 56
    stage = page.locator("#stage").bounding_box()
    assert stage
    assert stage["height"] >= 300
    page.tap("[data-class='2']")
    touch = page.context.new_cdp_session(page)

    def send(kind: str, *points: tuple[float, float]) -> None:
        spots = [{"x": x, "y": y, "id": n} for n, (x, y) in enumerate(points)]
        touch.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": spots})

    send("touchStart", ann.at(100, 100))
    send("touchMove", ann.at(200, 100))
    send("touchEnd")
    assert ann.decision() == "Undercut 10.0 mm"
    middle = ann.at(320, 256)
    send("touchStart", (middle[0] - 20, middle[1]), (middle[0] + 20, middle[1]))
    send("touchMove", (middle[0] - 60, middle[1]), (middle[0] + 60, middle[1]))
    send("touchEnd")
    assert ann.decision() == "Undercut 10.0 mm"  # a pinch draws nothing
    page.tap("#save")
    wait_for_path(page, "/label")
    assert stored_mask(world, world.labels()[0])[100, 150] == 2
    assert not ann.errors


def test_back_to_a_frame_that_was_saved_it_can_be_changed(world: World, chromium: Path, browser: Browser) -> None:
    """As browsers do it: they bring the page itself back, which Playwright switches off."""
    for seed in (1, 2):
        world.frame(render("scratch", seed, defects=[]).image)
    kept = ["--disable-back-forward-cache"]
    own = browser.browser_type.launch(executable_path=chromium, args=["--no-sandbox"], ignore_default_args=kept)
    try:
        world.browser = own
        ann = world.sign_in("Ann")
        ann.page.add_init_script("addEventListener('pageshow', (e) => { window.cameBack = e.persisted; })")
        ann.open()
        first = ann.page.url
        ann.press("g")
        ann.save()
        ann.ready()
        ann.page.evaluate("history.back()")  # go_back() waits for a load that does not come
        ann.page.wait_for_timeout(500)
        until(lambda: ann.page.url == first and ann.page.evaluate("window.cameBack"))
        ann.press("u")
        kept_draft = "Object.keys(localStorage).some((k) => k.startsWith('haltline.label.'))"
        until(lambda: ann.page.evaluate(kept_draft))
        ann.save()
        assert [(label.record_id, label.unsure) for label in world.labels()] == [(1, False), (1, True)]
    finally:
        own.close()
