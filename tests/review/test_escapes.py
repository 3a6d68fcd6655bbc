"""Escapes: rates counted by hand from tallies, audits and labels; the page, the ingest, and what is left out."""

from __future__ import annotations

import uuid
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from inspection.escape import clopper_pearson, more_audits
from inspection.messages import Tally, Topics
from review import escapes, ingest
from review.escapes import ANY, FRAME, PART, ClassRate, LineRates
from review.store import Adjudication, Label, Record, Station, TallyRow
from tests.review.test_consistency import World

HOUR_MS = 3_600_000
NOW = datetime(2026, 11, 18, 12, 0)  # noqa: DTZ001 - a Wednesday, wherever the test runs
NOW_MS = int(NOW.timestamp() * 1000)
THIS_WEEK = NOW_MS - HOUR_MS
LAST_WEEK = int((NOW - timedelta(days=7)).timestamp() * 1000)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def tally(world: World, at_ms: int, station: int = 1, audited: tuple[str, ...] = (), **counts: int) -> str:
    uid = uuid.uuid4().hex
    zero = dict.fromkeys(("frames_passed", "parts_passed", "parts_uncertain", "parts_defect", "parts_fault"), 0)
    span = {"from_ms": at_ms, "to_ms": at_ms + HOUR_MS // 4, "received_ms": at_ms}
    with world.hub.store.writing() as session:
        session.add(TallyRow(uid=uid, station_id=station, audited=list(audited), **span, **{**zero, **counts}))
    return uid


def audit(world: World, at_ms: int, *answers: bool, part: str = "", **more: Any) -> str:
    """A frame that passed and was drawn; one answer a person."""
    uid = world.frame(why=["audit"], call="pass", ts_ms=at_ms, part=part, **more)
    for person, defect in zip(("Ann", "Bob", "Cy"), answers, strict=False):
        world.label(uid, person, defect)
    return uid


def lines(world: World, weeks: int = 4) -> list[LineRates]:
    with world.hub.store.reading() as session:
        return escapes.rates(session, NOW_MS, weeks)


def signed_in(world: World, name: str) -> TestClient:
    client = TestClient(world.app, base_url="http://hub", follow_redirects=False)
    assert client.post("/who", data={"name": name}).status_code == 303
    return client


def only(world: World, cls: str = ANY) -> ClassRate:
    (line,) = lines(world)
    return next(c for c in line.classes if c.cls == cls)


def test_a_rate_is_found_by_hand(world: World) -> None:
    tally(world, THIS_WEEK, frames_passed=10_000)
    for n in range(40):
        audit(world, THIS_WEEK + n, n < 2, n < 2)
    (line,) = lines(world)
    assert (line.place.line, line.place.unit, line.passed, line.audited, line.open) == ("l", FRAME, 10_000, 40, 0)
    for cls in (ANY, "scratch"):
        found, truth = only(world, cls), clopper_pearson(2, 40)
        assert (found.rate.rate.low, found.rate.rate.value, found.rate.rate.high) == pytest.approx(
            (truth.low, 0.05, truth.high)
        )
        assert found.rate.defects == 2
    assert only(world).more
    assert 80 < only(world).more < 200


def test_weeks_are_strata_weighted_by_what_passed(world: World) -> None:
    tally(world, LAST_WEEK, frames_passed=9_000)
    tally(world, THIS_WEEK, frames_passed=1_000)
    for n in range(10):
        audit(world, LAST_WEEK + n, n < 1, n < 1)
        audit(world, THIS_WEEK + n, n < 5, n < 5)
    found = only(world)
    assert found.rate.rate.value == pytest.approx(0.9 * 0.1 + 0.1 * 0.5)
    assert found.rate.rate.n < 20, "unequal sampling costs certainty"
    old, new = found.weeks[-2:]
    assert (old.defects, old.cell.audited, old.cell.passed) == (1, 10, 9_000)
    assert (new.defects, new.cell.audited, new.cell.passed) == (5, 10, 1_000)
    assert (old.more, new.more) == (more_audits(clopper_pearson(1, 10), 10), more_audits(clopper_pearson(5, 10), 10))
    assert old.more
    assert clopper_pearson(0.1 * (10 + old.more), 10 + old.more).width <= old.share.width / 2
    assert found.weeks[0].more is None, "nobody looked"


def test_a_week_nobody_looked_at_is_named_and_left_out(world: World) -> None:
    tally(world, LAST_WEEK, frames_passed=9_000)
    tally(world, THIS_WEEK, frames_passed=1_000)
    audit(world, THIS_WEEK, False, False)
    assert len(only(world).rate.unseen) == 1
    assert only(world).rate.audited == 1


def test_an_audit_counts_when_two_agree_or_somebody_decided(world: World) -> None:
    tally(world, THIS_WEEK, frames_passed=100)
    audit(world, THIS_WEEK, True)
    disputed = audit(world, THIS_WEEK + 1, True, False)
    audit(world, THIS_WEEK + 2, False, False)
    (line,) = lines(world)
    assert (line.open, line.audited, only(world).rate.defects) == (2, 1, 0)
    with world.hub.store.writing() as session:
        record = session.scalars(select(Record).where(Record.uid == disputed)).one()
        session.add(
            Adjudication(
                record_id=record.id, person="Cy", label_book="scratch@1", took="Ann", classes=["scratch"],
                annotations=[], reason="gauge", created_ms=1,
            )
        )  # fmt: skip
    (line,) = lines(world)
    assert (line.open, line.audited, only(world).rate.defects) == (1, 2, 1)


def test_only_what_was_drawn_from_passes_is_an_audit(world: World) -> None:
    tally(world, THIS_WEEK, frames_passed=100)
    unsure = world.frame(why=["audit"], call="uncertain", ts_ms=THIS_WEEK)
    world.label(unsure, "Ann", True)
    world.label(unsure, "Bob", True)
    other = world.frame(why=["unstable"], call="pass", ts_ms=THIS_WEEK)
    world.label(other, "Ann", True)
    world.label(other, "Bob", True)
    (line,) = lines(world)
    assert (line.audited, line.open) == (0, 0)
    both = world.frame(why=["unstable", "audit"], call="pass", ts_ms=THIS_WEEK)
    world.label(both, "Ann", True)
    world.label(both, "Bob", True)
    assert lines(world)[0].audited == 1


def test_a_part_is_one_unit_and_bad_when_one_of_its_frames_is(world: World) -> None:
    tally(world, THIS_WEEK, audited=("P-1", "P-2", "P-3"), parts_passed=500, frames_passed=1_000)
    audit(world, THIS_WEEK + 1, False, False, part="P-1")
    audit(world, THIS_WEEK + 2, True, True, part="P-1")
    audit(world, THIS_WEEK + 3, False, False, part="P-2")
    audit(world, THIS_WEEK + 4, True, True, part="P-3")
    audit(world, THIS_WEEK + 5, part="P-3")  # its second frame waits for people
    audit(world, THIS_WEEK + 6, True, True, part="P-9")  # that part did not pass
    audit(world, LAST_WEEK, True, True, part="P-2")  # another part of this name, long before
    (line,) = lines(world)
    assert (line.place.unit, line.passed, line.audited, line.open) == (PART, 500, 2, 1)
    assert only(world).rate.defects == 1


def test_each_line_has_its_own_rate(world: World) -> None:
    with world.hub.store.writing() as session:
        session.add(Station(id=2, site="p", line="k", station="saw"))
    tally(world, THIS_WEEK, frames_passed=100)
    tally(world, THIS_WEEK, station=2, frames_passed=50)
    audit(world, THIS_WEEK, True, True)
    audit(world, THIS_WEEK, False, False, station_id=2)
    assert [(r.place.line, r.passed, r.classes[0].rate.defects) for r in lines(world)] == [("k", 50, 0), ("l", 100, 1)]


def test_counts_that_died_with_an_edge_are_said_and_break_nothing(world: World) -> None:
    tally(world, THIS_WEEK, frames_passed=1)
    audit(world, THIS_WEEK, False, False)
    audit(world, THIS_WEEK + 1, False, False)
    (line,) = lines(world)
    assert (line.lost, line.passed, line.audited) == (1, 2, 2)


def test_time_is_bounded_and_weeks_begin_on_monday(world: World) -> None:
    starts = escapes.week_starts(NOW_MS, 4)
    assert [datetime.fromtimestamp(at / 1000).astimezone().strftime("%a %H:%M") for at in starts] == ["Mon 00:00"] * 4
    tally(world, starts[0] - 1, frames_passed=5)
    assert lines(world) == []
    tally(world, starts[0], frames_passed=5)
    assert lines(world)[0].classes[0].weeks[0].cell.passed == 5


def test_a_tally_sent_twice_is_counted_once(world: World) -> None:
    message = Tally(uid="a" * 32, from_ms=THIS_WEEK, to_ms=THIS_WEEK + 1, frames_passed=7, audited=("x",))
    outcomes = []
    for _ in range(2):
        with world.hub.store.writing() as session:
            outcomes.append(ingest.store(session, world.hub.frames, Topics("p", "l", "press"), message))
    assert [(o.count, o.ack) for o in outcomes] == [("stored", "a" * 32), ("duplicates", "a" * 32)]
    (line,) = lines(world)
    assert (line.place.unit, line.passed) == (PART, 0)


def test_the_page_says_rate_interval_and_what_is_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("review.routes.escapes.wall_ms", lambda: NOW_MS)
    cy = signed_in(world, "Cy")
    assert "Nothing has passed in this time" in cy.get("/escapes").text
    tally(world, THIS_WEEK, frames_passed=5_000)
    assert "No audit is decided yet (n=0)" in cy.get("/escapes").text
    for n in range(20):
        audit(world, THIS_WEEK + n, n < 1, n < 1)
    audit(world, THIS_WEEK + 30, True)
    text = cy.get("/escapes?weeks=4").text
    assert "5.0 % (0.1 to 24.9)" in text
    assert "1 of 20" in text
    assert "1 audit waits for people." in text
    assert cy.get("/escapes?weeks=5").status_code == 422
    assert signed_in(world, "Ann").get("/escapes").status_code == 403


def test_audits_are_read_as_columns(world: World) -> None:
    """55,000 of eight weeks took 8 s as whole rows, findings and places of all labels included."""
    tally(world, THIS_WEEK, frames_passed=100)
    audit(world, THIS_WEEK, True, True)
    with world.hub.store.reading() as session:
        assert escapes.rates(session, NOW_MS, 4)[0].audited == 1
        assert not [row for row in session.identity_map.values() if isinstance(row, Record | Label)]
