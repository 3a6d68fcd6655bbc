"""Blind double labelling: frames dealt out, repeats and gold frames put among them, and nothing that tells."""

from __future__ import annotations

import random
import re
from itertools import combinations
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from sqlalchemy import select

from review import blind_plan, consistency, label_queue, mirror
from review.adjudication import decide
from review.clock import wall_ms
from review.labelling import LabelIn, check
from review.people import add_person
from review.store import GoldChoice, Label, LabelAssignment, Person, Record, Showing
from tests.review.test_consistency import DAY_MS
from tests.review.test_label_pages import H, W, World, b64, stroke
from tests.review.test_label_pages import Person as Browser

WORDS = ("repeat", "gold", "mirror", "flip", "washout", "showing", "check")


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def plan(world: World, now_ms: int | None = None, **settings: Any) -> int:
    told = world.hub.settings.model_copy(update=settings)
    return blind_plan.plan(world.hub.store, told, now_ms or wall_ms(), random.Random(1))


def showings(world: World, kind: str = "") -> list[Showing]:
    with world.hub.store.reading() as session:
        rows = session.scalars(select(Showing).order_by(Showing.id)).all()
    return [s for s in rows if kind in ("", s.kind)]


def age(world: World, days: float) -> None:
    """As if every label had been made that long ago."""
    with world.hub.store.writing() as session:
        for row in session.scalars(select(Label)):
            row.created_ms -= int(days * DAY_MS)


def structured(world: World, **more: Any) -> str:
    """A frame that looks different in every mirror."""
    image = np.zeros((H, W, 3), np.uint8)
    image[:10, :20], image[:10, 20:] = (10 * (world.count % 20) + 5, 80, 200), (90, 40, 10)
    return world.frame(image=world.hub.frames.put(cv2.imencode(".png", image)[1].tobytes()), **more)


def labelled(world: World, *names: str, count: int = 10) -> list[str]:
    uids = [structured(world) for _ in range(count)]
    for name in names:
        person = world.person(name)
        for uid in uids:
            assert person.save(uid, classes=["porosity"]).status_code == 200
    return uids


# -- dealing out ------------------------------------------------------------------------------------------------------


def test_every_frame_is_dealt_to_two_people_and_every_pair_shares_frames(world: World) -> None:
    add_person(world.hub.store, "Dan", "inspector")
    crew = ("Ann", "Bob", "Cy", "Dan")
    for name in crew:  # whoever labelled lately is dealt to
        world.person(name).save(world.frame())
    with world.hub.store.writing() as session:
        session.query(Record).update({"why": ["context"]})
    uids = [world.frame() for _ in range(24)]
    assert plan(world) == 48
    with world.hub.store.reading() as session:
        rows = session.scalars(select(LabelAssignment)).all()
        of = {r.id: r.uid for r in session.scalars(select(Record))}
    pairs = {uid: tuple(sorted(r.person for r in rows if of[r.record_id] == uid)) for uid in uids}
    assert {len(set(p)) for p in pairs.values()} == {2}
    shared = [sum(p == pair for p in pairs.values()) for pair in combinations(crew, 2)]
    assert (min(shared), max(shared)) == (4, 4)
    assert plan(world) == 0
    for name in crew:
        with world.hub.store.reading() as session:
            person = session.scalars(select(Person).where(Person.name == name)).one()
            asked = {t.uid for t in label_queue.waiting_for(session, person, 100).tasks}
        assert asked == {uid for uid, pair in pairs.items() if name in pair}


def test_a_dealt_frame_gets_exactly_its_labels_and_is_anybodys_after_a_shift(world: World) -> None:
    for name in ("Ann", "Bob"):
        world.person(name).save(world.frame())
    with world.hub.store.writing() as session:
        session.query(Record).update({"why": ["context"]})
    uid = world.frame()
    plan(world)
    cy = world.person("Cy")
    assert cy.next() == ""
    world.person("Ann").save(uid)
    assert cy.next() == ""  # Bob was asked
    with world.hub.store.writing() as session:
        session.query(LabelAssignment).update({"created_ms": wall_ms() - label_queue.RESERVED_MS - 1})
    assert cy.next() == uid
    with world.hub.store.writing() as session:  # the hub's clock was ahead when it was dealt
        session.query(LabelAssignment).update({"created_ms": wall_ms() + 2 * label_queue.RESERVED_MS})
    assert cy.next() == uid
    cy.save(uid)
    assert world.person("Bob").next() == ""


def test_three_labels_a_frame_where_the_hub_was_told_so(world: World) -> None:
    world.app.state.hub.settings = world.hub.settings.model_copy(update={"labels_per_frame": 3})
    uid = world.frame()
    for name in ("Ann", "Bob", "Cy"):
        person = world.person(name)
        assert person.next() == uid
        person.save(uid)
    add_person(world.hub.store, "Dan", "inspector")
    assert world.person("Dan").next() == ""


def test_with_too_few_people_frames_stay_open(world: World) -> None:
    uid = world.frame()
    world.person("Ann").save(uid)
    assert plan(world) == 0
    assert (world.person("Bob").next(), world.person("Cy").next()) == (uid, uid)


# -- repeats ----------------------------------------------------------------------------------------------------------


def test_a_tenth_is_asked_again_after_a_week_and_mirrored(world: World) -> None:
    labelled(world, "Ann", count=20)
    for _ in range(15):
        structured(world)
    plan(world)
    assert showings(world) == []  # Ann still remembers
    age(world, 6.9)
    plan(world)
    assert showings(world) == []
    age(world, 0.2)
    plan(world)
    kinds = sorted(s.kind for s in showings(world))
    assert kinds == ["mirror", "mirror", "repeat", "repeat"]
    assert {s.flip for s in showings(world)} <= {"h", "v", "hv"}
    assert plan(world) == 0


def test_frames_under_replaced_rules_are_not_repeated(world: World) -> None:
    labelled(world, "Ann", count=20)
    age(world, 8)
    with world.hub.store.writing() as session:
        session.query(Label).update({"label_book": "weld@0"})
    plan(world)
    assert showings(world, "repeat") == []


def a_check(world: World, kind: str = "repeat", **label: Any) -> tuple[Browser, str, Showing]:
    """Ann labelled frames long ago; one of them waits for her again, beside an ordinary frame."""
    uids = labelled(world, "Ann", count=10)
    ann = world.person("Ann")
    if label:
        for uid in uids:
            ann.save(uid, **label)
    age(world, 8)
    ordinary = structured(world)
    plan(world, gold_share=0.0)
    with world.hub.store.writing() as session:
        session.query(Showing).filter(Showing.kind == "mirror").delete()
    (shown,) = showings(world, kind)
    return ann, ordinary, shown


def test_a_repeat_is_no_label_of_the_frame_and_never_comes_with_the_first(world: World) -> None:
    ann, _, shown = a_check(world)
    assert ann.data(shown.uid)["mine"] is None
    assert ann.save(shown.uid, classes=[]).json()["saved"] == shown.uid
    with world.hub.store.reading() as session:
        (frame,) = session.scalars(select(Record).where(Record.id == shown.record_id)).all()
        current = session.scalars(select(Label).where(Label.record_id == frame.id, Label.superseded_ms.is_(None))).one()
        assert current.classes == ["porosity"]
        seen = {f.record.id: f for f in consistency.frames(session, "weld@1", "porosity", {})}
    assert seen[frame.id].trials == {"Ann": ["defect", "good"]}
    assert seen[frame.id].answers == {"Ann": "defect"}
    # Corrected at once, the correction is the second trial, and there is no third.
    assert ann.data(shown.uid)["mine"]["good"] is True
    ann.save(shown.uid, classes=["porosity"])
    assert ann.data(frame.uid)["mine"]["present"] == [1]
    with world.hub.store.reading() as session:
        seen = {f.record.id: f for f in consistency.frames(session, "weld@1", "porosity", {})}
    assert seen[frame.id].trials == {"Ann": ["defect", "defect"]}
    alike = consistency.self_agreement(list(seen.values()))["Ann"]
    assert (alike.value, alike.n) == (1.0, 1)
    world.person("Bob").save(frame.uid)
    with world.hub.store.writing() as session:
        decide(session, frame.uid, "Cy", "gauge", wall_ms(), own={"porosity": 1.0})
    report = world.person("Cy").get("/consistency/report?book=weld&cls=porosity").text
    assert "Each person with themselves, all frames judged twice" in report
    assert "100.0 % (2.5 to 100.0)" in report


def masked(body: bytes, uid: str) -> bytes:
    return re.sub(rb"\d+(?= waits? for you)", b"N", body.replace(uid.encode(), b"UID"))


def test_no_response_tells_a_repeat_from_an_ordinary_frame(world: World) -> None:
    """Every body and header of the label flow, with the ids masked, is the same for both, before and after saving."""
    ann, ordinary, shown = a_check(world)
    frame_uid = next(r for r in [shown.record.uid])
    told: dict[str, list[Any]] = {ordinary: [], shown.uid: []}
    for uid, got in told.items():
        other = ordinary if uid == shown.uid else shown.uid
        for path in (f"/label/{uid}", f"/label/{uid}/frame", f"/label/{uid}/heat", f"/label/{uid}/mine"):
            answer = ann.get(path)
            headers = {k: v for k, v in answer.headers.items() if k not in ("content-length", "set-cookie", "date")}
            body = b"" if path.endswith("/frame") else masked(answer.content.replace(other.encode(), b"OTHER"), uid)
            got.append((answer.status_code, headers, body))
        assert frame_uid.encode() not in ann.seen
    assert told[ordinary] == told[shown.uid]
    marks = [{"cls": "porosity", "box_px": [3, 4, 5, 6], "length_mm": 0.7, "points_px": [[3, 4], [8, 10]]}]
    for uid in (ordinary, shown.uid):
        saved = ann.save(uid, classes=["porosity"], annotations=marks, mask_png=b64(stroke(1, 3, 4, 5, 6)))
        assert saved.status_code == 200
        assert set(saved.json()) == {"saved", "next"}
    after = [ann.data(uid) for uid in (ordinary, shown.uid)]
    for uid, data in zip((ordinary, shown.uid), after, strict=True):
        for key in ("uid", "frame", "save", "skip"):
            data[key] = str(data[key]).replace(uid, "UID")
        data["mine"]["mask"] = re.sub(r"\?v=\d+", "", data["mine"]["mask"].replace(uid, "UID"))
    assert after[0] == after[1]
    assert not [w for w in WORDS if w.encode() in ann.seen.lower().replace(b'type="checkbox"', b"")]
    assert frame_uid.encode() not in ann.seen


def test_the_queue_counts_checks_like_frames(world: World) -> None:
    ann, ordinary, shown = a_check(world)
    assert '<strong id="waiting">2</strong>' in ann.get("/label").text
    before = re.search(r"<strong>(\d+)</strong>", ann.get("/label").text)
    ann.save(shown.uid)
    text = ann.get("/label").text
    assert '<strong id="waiting">1</strong>' in text
    after = re.search(r"<strong>(\d+)</strong>", text)
    assert before
    assert after
    assert int(after[1]) == int(before[1]) + 1
    assert shown.uid not in text
    assert ann.next() == ordinary


def test_checks_stand_among_the_frames_and_skipping_passes_them_in_order(world: World) -> None:
    ann, ordinary, shown = a_check(world)
    with world.hub.store.writing() as session:
        later = world.count + 1
        session.query(Showing).update({"place_ms": world.count * 100_000})
    last = structured(world)
    assert later == world.count
    order, at = [], ann.next()
    for _ in range(4):
        order.append(at)
        where = ann.client.get(f"/label/next?after={at}", follow_redirects=False).headers["location"]
        at = where.removeprefix("/label/")
    assert order == [ordinary, shown.uid, last, ordinary]


def test_somebody_elses_check_is_not_found(world: World) -> None:
    _, _, shown = a_check(world)
    bob = world.person("Bob")
    nowhere = bob.get(f"/label/{'f' * 32}")
    for path in ("", "/frame", "/mine"):
        answer = bob.get(f"/label/{shown.uid}{path}")
        assert answer.status_code == 404
        assert answer.text == nowhere.text.replace("f" * 32, shown.uid)
    assert bob.save(shown.uid, classes=[]).status_code == 404


# -- mirrored ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flip", mirror.FLIPS)
def test_what_is_drawn_on_a_mirrored_frame_is_kept_where_the_frame_has_it(world: World, flip: str) -> None:
    ann, _, shown = a_check(world)
    with world.hub.store.writing() as session:
        session.query(Showing).update({"flip": flip})
    with world.hub.store.reading() as session:
        sha = session.scalars(select(Record.image).where(Record.id == shown.record_id)).one()
    taken = cv2.imdecode(np.frombuffer(world.hub.frames.read(sha), np.uint8), cv2.IMREAD_COLOR)
    seen = cv2.imdecode(np.frombuffer(ann.get(f"/label/{shown.uid}/frame").content, np.uint8), cv2.IMREAD_COLOR)
    assert taken is not None
    code = {"h": 1, "v": 0, "hv": -1}[flip]
    assert np.array_equal(seen, cv2.flip(taken, code))
    assert not np.array_equal(seen, taken)
    drawn = stroke(1, 3, 4, 5, 6)
    marks = [{"cls": "porosity", "box_px": [3, 4, 5, 6], "length_mm": 0.78, "points_px": [[3, 4], [8, 10]]}]
    ann.save(shown.uid, classes=["porosity"], mask_png=b64(drawn), annotations=marks)
    with world.hub.store.reading() as session:
        kept = session.scalars(select(Label).where(Label.showing_id == shown.id)).one()
    assert kept.mask
    mask = cv2.imdecode(np.frombuffer(world.hub.frames.read(kept.mask), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(mask, cv2.flip(drawn, code))
    ys, xs = np.nonzero(mask)
    x, y, w, h = kept.annotations[0]["box_px"]
    assert (x, y, x + w, y + h) == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    corners = {tuple(p) for p in kept.annotations[0]["points_px"]}
    assert corners <= {(x, y), (x + w, y), (x, y + h), (x + w, y + h)}
    # What Ann sees of it again is what she drew.
    mine = ann.data(shown.uid)["mine"]
    assert mine["lines"] == [{"value": 1, "points": [[3, 4], [8, 10]]}]
    again = cv2.imdecode(np.frombuffer(ann.get(mine["mask"]).content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(again, drawn)


@pytest.mark.parametrize("flip", mirror.FLIPS)
def test_a_mirrored_heat_map_lies_over_the_mirrored_frame(flip: str) -> None:
    """A map pixel that lies over a frame pixel lies over the mirrored frame pixel once both are mirrored."""
    to_frame, (mw, mh) = (9.0, 0.5, 4.0, -0.25, 8.0, 3.5), (8, 6)
    turned = mirror.affine(to_frame, flip, (W, H), (mw, mh))

    def at(a: Any, x: float, y: float) -> tuple[float, float]:
        return a[0] * x + a[1] * y + a[2], a[3] * x + a[4] * y + a[5]

    for x, y in ((0, 0), (7, 5), (2, 3)):
        fx, fy = at(to_frame, x, y)
        want = (W - 1 - fx if "h" in flip else fx, H - 1 - fy if "v" in flip else fy)
        there = (mw - 1 - x if "h" in flip else x, mh - 1 - y if "v" in flip else y)
        assert at(turned, *there) == pytest.approx(want)


def test_a_mirrored_ordinary_frame_is_labelled_like_any_other(world: World) -> None:
    ordinary = structured(world)
    with world.hub.store.writing() as session:
        session.add(Showing(uid="a" * 32, record_id=1, person="Ann", kind="mirror", flip="h", place_ms=1, created_ms=1))
    ann = world.person("Ann")
    assert ann.next() == "a" * 32
    ann.save("a" * 32, classes=["porosity"], mask_png=b64(stroke(1, 0, 0, 5, 5)))
    assert ann.next() == ""
    with world.hub.store.reading() as session:
        row = session.scalars(select(Label)).one()
        assert row.superseded_ms is None
        assert row.mask
        mask = cv2.imdecode(np.frombuffer(world.hub.frames.read(row.mask), np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(mask, stroke(1, W - 5, 0, 5, 5))
    assert world.person("Bob").next() == ordinary


def test_mirroring_twice_gives_the_label_back() -> None:
    marks = [{"cls": "porosity", "box_px": [3, 4, 5, 6], "points_px": [[3, 4], [8, 10]]}]
    sent = {
        "label_book": "weld@1",
        "classes": ["porosity"],
        "annotations": marks,
        "mask_png": b64(stroke(1, 1, 2, 3, 4)),
    }
    from inspection.label_book import WELD_BOOK

    made = check(LabelIn.model_validate(sent), WELD_BOOK, W, H)
    for flip in mirror.FLIPS:
        twice = mirror.label(mirror.label(made, flip, W, H), flip, W, H)
        assert twice.marks == made.marks
        assert made.mask_png
        assert twice.mask_png
        a, b = (cv2.imdecode(np.frombuffer(m, np.uint8), 0) for m in (made.mask_png, twice.mask_png))
        assert np.array_equal(a, b)


# -- gold -------------------------------------------------------------------------------------------------------------


def decided(world: World, count: int = 4) -> list[str]:
    """Bob and Cy differed on frames, Dan decided them: porosity."""
    add_person(world.hub.store, "Dan", "engineer")
    uids = [structured(world) for _ in range(count)]
    for uid in uids:
        world.person("Bob").save(uid, classes=["porosity"])
        world.person("Cy").save(uid)
        with world.hub.store.writing() as session:
            decide(session, uid, "Dan", "0.8 mm by the gauge", wall_ms(), own={"porosity": 0.8})
    return uids


def test_gold_frames_test_who_knows_nothing_of_them_and_count_against_the_reference(world: World) -> None:
    uids = decided(world)
    labelled(world, "Ann", "Dan", count=20)
    for _ in range(20):
        structured(world)
    plan(world, repeat_share=0.0)
    gold = showings(world, "gold")
    # Bob and Cy labelled them just now, Dan decided: only Ann is tested.
    assert {s.person for s in gold} == {"Ann"}
    assert {s.record.uid for s in gold} <= set(uids)
    ann = world.person("Ann")
    ann.save(gold[0].uid, classes=[])
    with world.hub.store.reading() as session:
        of_class = consistency.frames(session, "weld@1", "porosity", {})
    (line,) = [p for p in consistency.class_view(of_class, "porosity").people if p.person == "Ann"]
    assert (line.gold, line.gold_right) == (1, 0)
    study = consistency.attribute_study(of_class)
    (of_ann,) = [p for p in study.people if p.person == "Ann"]
    assert (of_ann.miss.value, of_ann.miss.n) == (1.0, 1)


def test_a_frame_may_be_kept_from_testing_and_a_new_decision_withdraws_a_check(world: World) -> None:
    uids = decided(world)
    labelled(world, "Ann", count=20)
    with world.hub.store.writing() as session:
        for record in session.scalars(select(Record).where(Record.uid.in_(uids[1:]))):
            session.add(GoldChoice(record_id=record.id, use=False, person="Dan", reason="too blurred", created_ms=1))
    plan(world, repeat_share=0.0)
    (shown,) = showings(world, "gold")
    assert shown.record.uid == uids[0]
    with world.hub.store.writing() as session:
        session.add(GoldChoice(record_id=shown.record_id, use=False, person="Dan", reason="no", created_ms=2))
    plan(world, repeat_share=0.0)
    assert showings(world, "gold")[0].done_ms is not None
    assert shown.uid not in world.person("Ann").get("/label").text
