"""The andon board has nothing to press and says what the Line page says; which halt a station's card leads to."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from inspection.messages import Permit, Topics
from review.alarms import State
from tests.review.floor import World


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def permit(world: World, station: str, halt: int = 0) -> None:
    level = Permit(boot=1, seq=1, run=int(not halt), code=int(bool(halt)), halt=halt, echo=0, age_ms=1, ts_ms=1)
    world.hub.live.permit(Topics("p", "l", station), level, time.monotonic_ns())


def test_it_is_read_only_and_needs_no_name(world: World) -> None:
    permit(world, "s1")
    text = world.ana.get("/andon").text
    assert not re.search(r"<(button|input|select|textarea|form|a)\b", text)
    assert "hx-post" not in text


def test_it_says_why_a_station_stands(world: World) -> None:
    permit(world, "s1", halt=170_001)
    permit(world, "s2")
    halt = world.halt(length_mm=1.6)
    board = world.ana.get("/andon/board").text
    assert "HALTED" in board
    assert "Porosity 1.6 mm" in board
    assert board.count("calls") == 1
    assert "Inspecting" in board
    world.shelve(halt)
    shelved = world.ana.get("/andon/board").text
    assert "calls" not in shelved
    assert "HALTED" in shelved


def test_a_card_leads_to_the_halt_that_holds_the_line_before_older_ones(world: World) -> None:
    unjudged = world.halt(state=State.CLEARED_ACKED)
    holds = world.halt("undercut", state=State.ACTIVE_ACKED)
    permit(world, "s1", halt=170_002)
    page = world.ana.get("/").text
    assert re.findall(r'class="oldest key[^"]*" href="/halts/(\d+)"', page) == [str(holds)], f"not {unjudged}"
    assert "2 open" in page
    calls = world.halt("spatter", state=State.CLEARED_UNACKED)
    assert f'href="/halts/{calls}"' in world.ana.get("/").text, "what calls comes before what was seen"
    now = world.halt("spatter", state=State.ACTIVE_UNACKED)
    assert f'href="/halts/{now}"' in world.ana.get("/").text, "of what calls, what holds the line"


def test_silence_is_not_inspecting(world: World) -> None:
    world.hub.live.know(Topics("p", "l", "s1"))
    assert "NOT INSPECTING" in world.ana.get("/andon/board").text


def test_with_many_stations_what_needs_somebody_comes_first_and_the_others_are_counted(world: World) -> None:
    for n in range(20):
        permit(world, f"s{n:02d}", halt=170_001 if n == 17 else 0)
    world.hub.live.know(Topics("p", "l", "s99"))
    board = world.ana.get("/andon/board").text
    assert board.count("<article") == 8
    assert re.findall(r'class="where">([^<]+)<', board)[:3] == ["s17", "s99", "s00"]
    assert "14 Inspecting" in board
    assert "--rows: 8" in board
