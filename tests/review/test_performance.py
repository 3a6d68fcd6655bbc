"""Alarm performance: numbers counted by hand, every number a link to what it counts, and a bounded time."""

from __future__ import annotations

import html
import re
import time
from pathlib import Path

import pytest
from sqlalchemy import insert

from review import performance
from review.alarms import State
from review.store import Halt
from tests.review.floor import NOW, World

HOUR = performance.HOUR_MS
TEN_MIN = performance.FLOOD_MS


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    return World(tmp_path, monkeypatch)


def put(world: World, times: list[int], cls: str = "porosity", station: int = 1, verdict: str | None = None) -> None:
    back = world.now
    for at in times:
        world.now = at
        world.halt(cls, station, State.CLOSED, verdict=verdict)
    world.now = back


def measured(world: World, days: int = 1) -> performance.Report:
    with world.hub.store.reading() as session:
        return performance.report(session, world.now - days * 24 * HOUR, world.now, performance.Counted())


def full_hour_ago(hours: int) -> int:
    return (NOW // HOUR - hours) * HOUR


def test_an_empty_time_divides_by_nothing(world: World) -> None:
    r = measured(world)
    assert (r.total, r.per_hour, r.false_share, r.top_share, r.flood_count) == (0, 0, None, 0, 0)
    assert "No halts in this time" in world.ana.get("/performance").text


def test_rate_false_calls_and_causes(world: World) -> None:
    start = full_hour_ago(5)
    put(world, [start + n * 120_000 for n in range(6)], verdict="false_call")
    put(world, [start + HOUR + n * 120_000 for n in range(2)], verdict="real")
    put(world, [start + 2 * HOUR], "undercut", 2, verdict="unsure")
    put(world, [NOW - 25 * HOUR], "undercut", 2, verdict="real")
    r = measured(world)
    assert (r.total, r.judged, r.false_calls) == (9, 8, 6)
    assert r.per_hour == pytest.approx(9 / 24)
    assert r.false_share == 0.75
    assert [(c.cls, c.count, c.false_share) for c in r.top] == [("porosity", 8, 0.75), ("undercut", 1, None)]
    assert r.top_share == 1


@pytest.mark.parametrize(("count", "floods"), [(10, 0), (11, 1)])
def test_a_flood_is_more_than_ten_in_ten_minutes(world: World, count: int, floods: int) -> None:
    start = full_hour_ago(3)
    put(world, [start + n * 50_000 for n in range(count)])
    r = measured(world)
    assert (r.flood_count, r.hours_over) == (floods, 0)
    assert [(p.from_ms, p.count) for p in r.floods] == [(start, count)] * floods


def test_the_time_before_and_after_a_flood_does_not_count(world: World) -> None:
    put(world, [full_hour_ago(3) + TEN_MIN - 6 * 60_000 + n * 60_000 for n in range(12)])
    assert measured(world).flood_count == 0


def test_an_hour_over_the_most(world: World) -> None:
    put(world, [full_hour_ago(3) + n * 300_000 for n in range(13)])
    r = measured(world)
    assert r.hours_over == 0, "the thirteenth is in the next hour"
    put(world, [full_hour_ago(3) + 1])
    assert [(p.from_ms, p.count) for p in measured(world).hours] == [(full_hour_ago(3), 13)]


def test_chattering_is_one_cause_three_times_within_a_minute(world: World) -> None:
    start = full_hour_ago(3)
    put(world, [start, start + 30_000, start + 60_000, start + 90_000])
    put(world, [start, start + 30_000, start + 60_001], "undercut")
    put(world, [start], "spatter", 1)
    put(world, [start + 1, start + 2], "spatter", 2)
    assert [(c.cls, c.count) for c in measured(world).chattering] == [("porosity", 2)]


def test_every_number_leads_to_the_alarms_it_counts(world: World) -> None:
    start = full_hour_ago(3)
    put(world, [start + n * 20_000 for n in range(12)], verdict="false_call")
    put(world, [start + HOUR], "undercut", 2, verdict="real")
    text = world.ana.get("/performance").text
    links = {html.unescape(link) for link in re.findall(r'href="(/alarms\?[^"]+)"', text)}

    def counts(link: str) -> int:
        listed = world.ana.get(link).text
        return (
            sum(int(n) for n in re.findall(r"All (\d+)</summary>", listed))
            + listed.count('<li class="" id="row-')
            - len(re.findall(r"All \d+</summary>", listed))
        )

    found = sorted(counts(link) for link in links)
    # The false calls, the flood, porosity and its hour: 12 each; undercut and its hour: 1; all: 13; empty hours: 0.
    assert [n for n in found if n] == [1, 1, 12, 12, 12, 12, 13]
    for anchor in re.findall(r'href="#(\w+)"', text):
        assert f'id="{anchor}"' in text, anchor


def test_what_is_remembered_is_counted_anew_when_a_halt_of_it_comes_late_or_is_judged(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(performance.Counted, "REREAD", 0)
    days = world.hub.counted
    start = full_hour_ago(76)
    put(world, [start + n * 20_000 for n in range(4)] + [start + 24 * HOUR], verdict="real")

    def both() -> performance.Report:
        with world.hub.store.reading() as session:
            kept = performance.report(session, NOW - 7 * 24 * HOUR, NOW, days)
            assert kept == performance.report(session, NOW - 7 * 24 * HOUR, NOW, performance.Counted())
        return kept

    assert both().total == 5
    calls: list[int] = []
    counted = performance.counted
    monkeypatch.setattr(performance, "counted", lambda *a: calls.append(a[2] - a[1]) or counted(*a))
    with world.hub.store.reading() as session:
        for _ in range(2):
            calls.clear()
            performance.report(session, NOW - 7 * 24 * HOUR - 1_500_000, NOW - 1_500_000, days)
    assert sum(calls) == HOUR, "what of the hours at both ends is asked for"
    put(world, [start + 80_000])
    assert (both().total, both().chattering[0].count) == (6, 3)
    with world.hub.store.reading() as session:
        first = session.query(Halt).order_by(Halt.id).first()
    assert first
    assert world.ana.post(f"/halts/{first.id}/verdict", data={"verdict": "false_call"}).status_code == 200
    assert both().false_calls == 1
    hour = (start + 100_000) // HOUR * HOUR + HOUR
    put(world, [hour - 10_000, hour + 10_000])
    chatters = both().chattering[0].count
    put(world, [hour - 5_000])
    assert both().chattering[0].count == chatters + 1, "the third came late, and in the hour before"
    assert sum(bar.count for bar in both().bars) == 9


def test_few_causes_are_not_called_above_the_target(world: World) -> None:
    put(world, [full_hour_ago(3)])
    assert measured(world).top_within is None
    for n in range(10):
        put(world, [full_hour_ago(4)], f"c{n}")
    assert measured(world).top_within is False


@pytest.mark.parametrize("days", ["0", "2", "31", "999999999999", "x"])
def test_only_offered_times(world: World, days: str) -> None:
    assert world.ana.get(f"/performance?days={days}").status_code == 422


def test_a_month_with_50_000_halts_takes_little_longer_than_its_rows(world: World) -> None:
    rows = [
        {
            "station_id": 1 + n % 2, "halt": n, "uid": f"{n:032x}", "code": 1, "reason": "", "cls": f"c{n % 30}",
            "records": [], "stages_ms": {}, "at_ms": NOW - 1 - n * 51_000, "received_ms": NOW, "state": "CLOSED",
            "verdict": ("real", "false_call", "unsure")[n % 3], "score": 0.0, "limit": 0.0, "length_mm": 0.0,
            "limit_mm": 0.0, "frame_id": -1, "part": "", "model": "", "policy": "",
        }
        for n in range(50_000)
    ]  # fmt: skip
    with world.hub.store.writing() as session:
        session.execute(insert(Halt), rows)
    began = time.perf_counter()
    r = measured(world, 30)
    assert r.total == 50_000
    assert time.perf_counter() - began < 3
