"""What the Halt page compares a halt with, and how it says why the guard stopped the line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy.orm import Session

from inspection.messages import Topics
from inspection.station_messages import FilmEvent, FilmFrame, FilmRule, film_uid
from review import ingest, people
from review.app import create_app
from review.halt_film import CHART_H, strip_of, why
from review.halt_view import view
from review.halts import load
from review.hub import Hub
from review.language import chance
from review.pictures import jpeg_size, picture_size
from review.settings import Settings
from review.similar import WEEK_MS, good_reference, week_before
from review.store import Adjudication, FilmRow, Halt, Label, Record, Station

NOW = 1_800_000_000_000
HOUR = 3_600_000


class Desk:
    """A hub without a broker, one station, and rows as edges would have made them."""

    def __init__(self, folder: Path) -> None:
        self.app = create_app(Settings(data_dir=folder, demo_people=True))
        self.hub: Hub = self.app.state.hub
        people.add_demo_people(self.hub.store)
        self.png = cv2.imencode(".png", np.full((512, 640, 3), 90, np.uint8))[1].tobytes()
        self.sha = self.hub.frames.put(self.png)
        with self.hub.store.writing() as session:
            session.add_all([Station(id=n, site="p", line="l", station=f"s{n}") for n in (1, 2)])

    def halt(self, session: Session, n: int, at_ms: int = NOW, **more: Any) -> Halt:
        fields = {
            "station_id": 1, "halt": 170_000 + n, "uid": f"{n:032x}", "code": 1, "reason": "pore", "cls": "porosity",
            "score": 0.9, "limit": 0.62, "length_mm": 1.6, "limit_mm": 0.5, "frame_id": 100 * n, "records": [],
            "stages_ms": {}, "at_ms": at_ms, "received_ms": at_ms, "state": "ACTIVE_UNACKED",
        }  # fmt: skip
        row = Halt(**{"id": n} | fields | more)
        session.add(row)
        session.flush()
        return row

    def record(self, session: Session, n: int, **more: Any) -> Record:
        fields = {
            "uid": f"{n:032x}", "station_id": 1, "why": ["audit"], "camera": "cam", "frame_id": n, "ts_ms": NOW - HOUR,
            "call": "pass", "scores": {}, "findings": [], "image": self.sha, "heat": None, "heat_to_frame": [],
            "px_per_mm": 10.0, "width_px": 640, "height_px": 512, "label_book": "weld@1", "stages_ms": {},
            "received_ms": NOW,
        }  # fmt: skip
        row = Record(**fields | more)
        session.add(row)
        session.flush()
        return row

    def evidence(self, session: Session, halt: Halt, x: float = 300, y: float = 250) -> Record:
        box = {"cls": halt.cls, "score": 0.9, "box_px": [x, y, 16, 16], "length_mm": halt.length_mm, "area_mm2": 1.0}
        return self.record(
            session, 900_000 + halt.id, call="defect", why=["halt"], halt=halt.halt, frame_id=halt.frame_id,
            findings=[box], ts_ms=halt.at_ms, station_id=halt.station_id,
        )  # fmt: skip


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    desk = Desk(tmp_path)
    yield desk
    desk.hub.store.close()


# ── a good frame beside it ──────────────────────────────────────────────────────────────────────────────────────────


def test_the_reference_is_the_newest_good_frame_before_the_halt(desk: Desk) -> None:
    with desk.hub.store.writing() as session:
        halt = desk.halt(session, 1)
        main = desk.evidence(session, halt)
        assert good_reference(session, halt, main) is None
        after = desk.record(session, 1, ts_ms=NOW + HOUR)
        assert good_reference(session, halt, main) is after, "better than none"
        before = desk.record(session, 2, ts_ms=NOW - 2 * HOUR)
        assert good_reference(session, halt, main) is before
        desk.record(session, 3, ts_ms=NOW - HOUR, halt=halt.halt, why=["context"])
        desk.record(session, 4, ts_ms=NOW - HOUR, camera="other")
        desk.record(session, 5, ts_ms=NOW - HOUR, station_id=2)
        desk.record(session, 6, ts_ms=NOW - HOUR, call="uncertain")
        desk.record(session, 7, ts_ms=NOW - HOUR, width_px=320)
        assert good_reference(session, halt, main) is before, "none of these shows a good part at this place"


def test_a_frame_that_people_called_a_defect_is_no_reference_though_it_passed(desk: Desk) -> None:
    said = {"label_book": "weld@1", "mask": None, "annotations": [], "created_ms": NOW}
    with desk.hub.store.writing() as session:
        false = desk.halt(session, 1, NOW - HOUR, verdict="false_call", state="CLOSED")
        shown = desk.evidence(session, false)
        halt = desk.halt(session, 2)
        main = desk.evidence(session, halt)
        good, labelled, decided = (desk.record(session, n, ts_ms=NOW - (9 - n) * HOUR // 8) for n in (2, 3, 4))
        assert good_reference(session, halt, main) is decided
        session.add(Adjudication(record_id=decided.id, person="Cy", classes=["porosity"], reason="2 mm", **said))
        assert good_reference(session, halt, main) is labelled
        session.add(Label(record_id=labelled.id, person="Ann", classes=["porosity"], **said))
        session.add(Label(record_id=good.id, person="Ann", classes=[], **said))
        session.add(Label(record_id=good.id, person="Bob", classes=["porosity"], superseded_ms=NOW, **said))
        assert good_reference(session, halt, main) is good, "called good, and a defect only before that"
        session.add(Label(record_id=good.id, person="Bob", classes=["porosity"], **said))
        assert good_reference(session, halt, main) is shown
        session.add(Label(record_id=shown.id, person="Bob", classes=["porosity"], **said))
        assert good_reference(session, halt, main) is None, "called a false call once, and a defect since"


def test_a_frame_that_a_person_called_false_is_a_reference_too(desk: Desk) -> None:
    with desk.hub.store.writing() as session:
        false = desk.halt(session, 1, NOW - HOUR, verdict="false_call", state="CLOSED")
        shown = desk.evidence(session, false)
        halt = desk.halt(session, 2)
        main = desk.evidence(session, halt)
        desk.record(session, 1, ts_ms=NOW - 5 * HOUR)
        assert good_reference(session, halt, main) is shown, "the more recent of the two"
        passed = desk.record(session, 2, ts_ms=NOW - HOUR // 2)
        assert good_reference(session, halt, main) is passed


# ── similar halts ───────────────────────────────────────────────────────────────────────────────────────────────────


def test_similar_is_the_same_class_and_station_within_a_week(desk: Desk) -> None:
    with desk.hub.store.writing() as session:
        halt = desk.halt(session, 10)
        main = desk.evidence(session, halt)
        near = desk.halt(session, 1, NOW - 100, verdict="real", length_mm=1.5)
        desk.evidence(session, near, x=320, y=260)
        far = desk.halt(session, 2, NOW - 50, verdict="false_call")
        desk.evidence(session, far, x=20, y=20)
        large = desk.halt(session, 3, NOW - 40, length_mm=9.0)
        desk.evidence(session, large)
        desk.halt(session, 4, NOW - WEEK_MS - 1)
        desk.halt(session, 5, NOW - 10, cls="undercut")
        desk.halt(session, 6, NOW - 10, station_id=2)
        desk.halt(session, 7, NOW + 10)
        week = week_before(session, halt, main)
    assert week.total == 3
    assert week.verdicts == {"real": 1, "false_call": 1}
    assert [(s.halt.id, s.same_place) for s in week.shown] == [(1, True), (3, False), (2, False)]
    assert week.same_place == 1


def test_without_its_picture_a_halt_still_has_its_week(desk: Desk) -> None:
    with desk.hub.store.writing() as session:
        halt = desk.halt(session, 2)
        desk.halt(session, 1, NOW - 100)
        week = week_before(session, halt, None)
    assert [(s.halt.id, s.record, s.same_place) for s in week.shown] == [(1, None, False)]


# ── size against the label book ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("site_mm", "book", "limit"),
    [
        (0.5, "weld@1", "limit 0.5 mm (weld@1)"),
        (0.8, "weld@1", "limit 0.5 mm (weld@1) · this site: limit 0.8 mm"),
        (0.0, "weld@1", "limit 0.5 mm (weld@1) · this site: any size stops the line"),
        (0.8, "unheard@7", "limit 0.8 mm"),
    ],
)
def test_size_stands_against_the_label_books_limit(desk: Desk, site_mm: float, book: str, limit: str) -> None:
    with desk.hub.store.writing() as session:
        halt = desk.halt(session, 1, limit_mm=site_mm)
        desk.evidence(session, halt).label_book = book
        size = view(session, halt).measures[0]
    assert (size.value, size.limit) == ("1.6 mm", limit)
    shown_mm = 0.5 if book == "weld@1" else site_mm
    assert size.limit_share / size.share == pytest.approx(shown_mm / 1.6)


# ── the film and the decision in words ──────────────────────────────────────────────────────────────────────────────


def frame(n: int, score: float | None, hits: int = 0, nats: float = 0.0, hi: float = 0.7) -> dict[str, Any]:
    return FilmFrame(
        frame_id=n, ts_ms=n, score=score, stop=score is not None and score >= hi, hits=hits, nats=nats
    ).model_dump()  # fmt: skip


WINDOW = FilmRule(lo=0.3, hi=0.7, limit_mm=0.5, k=2, n=3).model_dump()
SUM = FilmRule(lo=0.3, hi=0.7, limit_mm=0.5, k=1, n=1, window=False, h=5.0).model_dump()
SEEN = [frame(1, 0.1), frame(2, 0.9, 1), frame(3, None, 1), frame(4, 0.8, 2)]


def test_a_window_is_told_by_its_frames() -> None:
    assert why(SEEN, WINDOW) == (
        "2 of the last 3 frames call for a stop, 2 are enough: 2, 4.",
        "1 frame could not be judged.",
    )


def test_one_frame_that_is_enough_is_told_as_such() -> None:
    rule = {**WINDOW, "k": 1, "n": 1}
    assert why([frame(1, 0.1), frame(2, 0.91, 1)], rule) == ("One frame is enough here: score 0.91, limit 0.70.",)


def test_what_is_cut_to_two_digits_is_never_surer_than_it_is() -> None:
    rule = {**WINDOW, "k": 1, "n": 1}
    assert why([frame(1, 0.1), frame(2, 0.997, 1)], rule) == ("One frame is enough here: score 0.99, limit 0.70.",)
    assert [chance(p) for p in (0.997, 0.5, 0.003, 0.0, 1.0)] == ["0.99", "0.50", "0.01", "0.00", "1.00"]


def test_a_sum_is_told_by_how_long_it_took() -> None:
    frames = [frame(1, 0.1), frame(2, 0.5, nats=0.0), *(frame(n, 0.8, nats=n - 1.0) for n in (3, 4, 5, 6))]
    assert why(frames, SUM) == ("The evidence added up to its limit of 5.0 within the last 4 frames.",)
    alone = [frame(1, 0.1), frame(2, 0.99, nats=3.0)]
    assert why(alone, SUM) == ("The last frame alone was enough: score 0.99.",)
    assert why(SEEN, {}) == ()
    assert why([frame(1, 0.9, 1)], WINDOW) == (), "one of two is no reason"


def test_the_chart_has_a_column_per_frame_and_the_limits_where_they_are() -> None:
    film = FilmRow(
        rule=WINDOW, frames=SEEN, columns=7, tile_w_px=480, tile_h_px=384, image="a" * 64, station_id=1, halt=1
    )
    strip = strip_of(film)
    assert [c.kind for c in strip.columns] == ["pass", "stop", "fault", "stop"]
    assert [round(c.height) for c in strip.columns] == [10, 90, 0, 80]
    assert (strip.lo_y, strip.hi_y) == (pytest.approx(0.7 * CHART_H), pytest.approx(0.3 * CHART_H))
    # Evidence 0, 1, 1 and 2 of 2: from the bottom over the middle to the top.
    assert strip.steps == "M0 100.0H10L10 50.0H20L20 50.0H30L30 0.0H40"
    assert strip.told[1] == "2 frames before · score 0.90 · 1 of 2"
    assert strip.told[2] == "1 frame before · nobody judged it"
    assert strip.told[3].startswith("the frame that stopped the line · score 0.80")
    assert strip.tile_rows == 1


def test_a_film_is_kept_once_and_only_with_its_picture(desk: Desk) -> None:
    jpeg = cv2.imencode(".jpg", np.full((64, 560, 3), 90, np.uint8))[1].tobytes()
    topics = Topics("p", "l", "s1")
    event = FilmEvent(
        uid=film_uid(topics.base, 170_001), halt=170_001, camera="cam", cls="porosity", rule=FilmRule(**WINDOW),
        frames=(FilmFrame(frame_id=1, ts_ms=1, score=0.9, stop=True, hits=1),), image="0" * 64, columns=7,
        tile_w_px=80, tile_h_px=64,
    )  # fmt: skip
    with desk.hub.store.writing() as session:
        desk.evidence(session, desk.halt(session, 1))
        missing = ingest.store(session, desk.hub.frames, topics, event)
        event = event.model_copy(update={"image": desk.hub.frames.put(jpeg)})
        first, second = (ingest.store(session, desk.hub.frames, topics, event) for _ in range(2))
    assert (missing.count, missing.ack) == ("frames_missing", "")
    assert (first.count, first.ack, [n.key for n in first.news]) == ("stored", event.uid, ["1"])
    assert (second.count, second.ack) == ("duplicates", event.uid)
    client = TestClient(desk.app)
    answer = client.get("/halts/1/film.jpg")
    assert (answer.status_code, answer.content, answer.headers["content-type"]) == (200, jpeg, "image/jpeg")
    assert client.get("/halts/2/film.jpg").status_code == 404
    page = client.get("/halts/1").text
    assert 'id="scrub"' in page
    assert "Why the line was stopped" not in page, "one hit of two would be no reason"


# ── JPEG by its header ──────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("size", [(16, 9), (640, 512), (3360, 1152)])
@pytest.mark.parametrize("progressive", [0, 1])
def test_a_jpegs_size_is_read_from_its_header(size: tuple[int, int], progressive: int) -> None:
    image = np.full((size[1], size[0], 3), 7, np.uint8)
    data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_PROGRESSIVE, progressive])[1].tobytes()
    assert jpeg_size(data) == picture_size(data) == size


@pytest.mark.parametrize(
    "data", [b"", b"\xff\xd8\xff", b"\xff\xd8\xff\xe0\x00", b"GIF89a" + bytes(40), b"\xff\xd8" * 99]
)
def test_what_is_no_jpeg_has_no_size(data: bytes) -> None:
    assert jpeg_size(data) is None


def test_an_edge_may_send_a_jpeg_and_nothing_else_new(desk: Desk) -> None:
    import hashlib

    client = TestClient(desk.app)
    good = cv2.imencode(".jpg", np.zeros((8, 8, 3), np.uint8))[1].tobytes()
    for data, code in ((good, 201), (b"GIF89a" + bytes(40), 422), (good[:2] + b"\x00" * 60, 422)):
        answer = client.put(f"/api/edge/frames/{hashlib.sha256(data).hexdigest()}", content=data)
        assert answer.status_code == code, answer.text


# ── a verdict that comes late ───────────────────────────────────────────────────────────────────────────────────────


def test_a_verdict_upon_another_one_than_stands_now_is_refused_and_told_whose_that_is(desk: Desk) -> None:
    with desk.hub.store.writing() as session:
        desk.halt(session, 1)

    def judged(who: str, verdict: str, **more: str) -> tuple[int, str]:
        client = TestClient(desk.app, base_url="http://hub", headers={"hx-request": "true"})
        client.post("/who", data={"name": who})
        answer = client.post("/halts/1/verdict", data={"verdict": verdict, **more})
        return answer.status_code, answer.text

    ana, ben, chen = "Ana (operator)", "Ben (inspector)", "Chen (engineer)"
    assert judged(chen, "real", was="none")[0] == 200
    status, told = judged(ana, "false_call", was="none")
    assert (status, "the verdict is now “real”, by Chen (engineer)" in told) == (409, True)
    assert judged(chen, "real", was="none")[0] == 200, "the same once more: the answer to it was lost"
    assert judged(ana, "false_call", was="real")[0] == 200
    assert judged(ben, "unsure")[0] == 200, "who says nothing of it is asked nothing"
    with desk.hub.store.reading() as session:
        facts = [(e.who, e.detail["verdict"]) for e in load(session, 1).events if e.kind == "verdict"]
    assert facts == [(chen, "real"), (ana, "false_call"), (ben, "unsure")]


def test_an_undo_that_comes_late_takes_back_nobody_elses_verdict(desk: Desk) -> None:
    with desk.hub.store.writing() as session:
        desk.halt(session, 1)
    client = TestClient(desk.app, base_url="http://hub", headers={"hx-request": "true"})
    client.post("/who", data={"name": "Ana (operator)"})
    client.post("/halts/1/verdict", data={"verdict": "real"})
    assert client.post("/halts/1/undo", data={"was": "false_call"}).status_code == 409
    assert client.post("/halts/1/undo", data={"was": "real"}).status_code == 200
    late = client.post("/halts/1/verdict", data={"verdict": "unsure", "was": "real"})
    assert (late.status_code, "Ana (operator) took the verdict back meanwhile" in late.text) == (409, True)


def test_what_a_page_sends_is_refused_when_somebody_else_is_signed_in(desk: Desk) -> None:
    with desk.hub.store.writing() as session:
        desk.halt(session, 1)
    client = TestClient(desk.app, base_url="http://hub")
    client.post("/who", data={"name": "Ana (operator)"})
    for path in ("/halts/1/verdict", "/halts/1/ack", "/halts/1/reset", f"/label/{'1' * 32}"):
        answer = client.post(path, data={"verdict": "real"}, headers={"Haltline-Person": "Ben%20(inspector)"})
        assert (answer.status_code, answer.headers["hx-reswap"]) == (409, "none"), path
        assert answer.text == (
            "this page is Ben (inspector)'s, and Ana (operator) has signed in since: reload it, or sign in again\n"
        )
    assert client.post("/halts/1/ack", headers={"Haltline-Person": "Ana%20(operator)"}).status_code == 200
