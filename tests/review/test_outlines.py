"""Outlines and weeks: what two people painted, compared in mm, and agreement by the week of the last label."""

from __future__ import annotations

import threading
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import ANY

import numpy as np
import pytest
from fastapi.testclient import TestClient

from inspection.label_book import BOOKS
from review import consistency, outlines, recent
from review.labelling import encode_mask
from tests.review.test_consistency import World

WEEK_MS = 7 * 24 * 3600 * 1000
MONDAY = int(datetime(2026, 11, 16, 9, 0).timestamp() * 1000)  # noqa: DTZ001 - a Monday, wherever the test runs


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def painted(world: World, uid: str, person: str, x: int) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[20:22, x : x + 30] = 1
    world.label(uid, person, True, mask=world.hub.frames.put(encode_mask(mask)))


def seen(world: World) -> outlines.View:
    with world.hub.store.reading() as session:
        of_class = consistency.frames(session, "scratch@1", "scratch", consistency.parts_of(session))
        return outlines.view(session, world.hub.frames, BOOKS["scratch"], "scratch", of_class)


def test_outlines_are_compared_in_mm_for_each_pair(world: World) -> None:
    for n in range(6):
        uid = world.frame()
        painted(world, uid, "Ann", 10)
        painted(world, uid, "Bob", 10 if n % 2 else 20)
    view = seen(world)
    assert view.overall
    assert (view.overall.pairs, view.overall.parts) == (6, 6)
    assert view.overall.iou.value == pytest.approx((1.0 + 20 / 40) / 2)
    # Ten px to the side at 20 px/mm: a quarter of each outline is up to half a millimetre off.
    assert 0 < view.overall.mean_mm.value < 0.25
    assert set(view.pairs) == {("Ann", "Bob")}


def test_one_outline_is_no_pair_and_a_lost_mask_is_counted(world: World) -> None:
    uid = world.frame()
    painted(world, uid, "Ann", 10)
    world.label(uid, "Bob", True)
    assert seen(world).overall is None
    painted(world, uid, "Cy", 10)
    painted(world, uid, "Dan", 10)
    lost = world.frame()
    painted(world, lost, "Ann", 10)
    world.label(lost, "Bob", True, mask="0" * 64)
    view = seen(world)
    assert view.unreadable == 1
    assert view.overall
    assert view.overall.pairs == 3


def test_weeks_are_those_of_the_last_label_newest_first(world: World) -> None:
    for n in range(25):
        uid = world.frame()
        world.label(uid, "Ann", n % 2 == 0, created_ms=MONDAY - WEEK_MS)
        world.label(uid, "Bob", n % 2 == 0, created_ms=MONDAY if n < 22 else MONDAY - WEEK_MS + 5)
    view = seen(world)
    assert [(w.agreement.units, w.agreement.enough) for w in view.weeks] == [(22, True), (3, False)]
    assert view.weeks[0].agreement.alpha.value == 1.0
    assert datetime.fromtimestamp(view.weeks[0].start_ms / 1000).astimezone().strftime("%d %H:%M") == "16 00:00"


def test_the_page_is_for_engineers_and_says_when_there_is_nothing(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recent, "WAIT_S", 30)
    client = TestClient(world.app, base_url="http://hub", follow_redirects=False)
    client.post("/who", data={"name": "Ann"})
    assert client.get("/consistency/outlines").status_code == 403
    client.post("/who", data={"name": "Cy"})
    assert "No frame was painted by two people" in client.get("/consistency/outlines").text
    uid = world.frame()
    painted(world, uid, "Ann", 10)
    painted(world, uid, "Bob", 10)
    text = client.get("/consistency/outlines?book=scratch&version=scratch@1&cls=scratch").text
    assert "Ann and Bob" in text
    assert "too few (n=1)" in text


def test_while_new_labels_are_counted_the_page_shows_what_it_knew_and_says_of_when(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = TestClient(world.app, base_url="http://hub", follow_redirects=False)
    client.post("/who", data={"name": "Cy"})
    address = "/consistency/outlines?book=scratch&version=scratch@1&cls=scratch"
    uid = world.frame()
    painted(world, uid, "Ann", 10)
    assert "As of" not in client.get(address).text
    slow, view = threading.Event(), outlines.view

    def slowly(*asked: Any) -> outlines.View:
        assert slow.wait(20)
        return view(*asked)

    monkeypatch.setattr(outlines, "view", slowly)
    painted(world, uid, "Bob", 10)
    for _ in range(2):  # asked twice, counted once
        text = client.get(address).text
        assert "As of" in text
        assert "No frame was painted by two people" in text
    slow.set()
    monkeypatch.setattr(recent, "WAIT_S", 30)
    text = client.get(address).text
    assert "As of" not in text
    assert "Ann and Bob" in text


def test_an_error_is_told_only_where_nothing_is_known() -> None:
    kept, fail = recent.Recent(), [True]

    def make() -> str:
        if fail[0]:
            raise ValueError("the disk")
        return "counted"

    with pytest.raises(ValueError, match="the disk"):
        kept.get("key", 1, make)
    fail[0] = False
    assert kept.get("key", 1, make) == recent.Counted("counted", 1, ANY)
    fail[0] = True
    old = kept.get("key", 2, make)
    assert (old.value, old.current) == ("counted", False)
    kept.close()
