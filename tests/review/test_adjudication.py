"""Adjudication: what comes up and in which order, decisions with their reason, and that they outrank labels."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from sqlalchemy import select

from inspection.errors import InputError
from review import adjudication, blind_plan, label_books, label_queue, people, publishing
from review.export import export_folder
from review.labelling import encode_mask
from review.store import LabelAssignment, Person, Record
from tests.review.test_consistency import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def listed(world: World) -> list[str]:
    with world.hub.store.reading() as session:
        return [d.record.uid for d in adjudication.disputes(session)]


def pair(world: World, ann: bool, bob: bool, ann_mm: float | None = None, bob_mm: float | None = None) -> str:
    uid = world.frame()
    world.label(uid, "Ann", ann, ann_mm)
    world.label(uid, "Bob", bob, bob_mm)
    return uid


def test_lowest_agreement_first_then_the_largest_difference_in_mm(world: World) -> None:
    near, far, alike = pair(world, True, False, 1.6, 1.4), pair(world, True, False, 2.4, 1.0), pair(world, True, True)
    third = pair(world, True, False)
    world.label(third, "Cy", True)
    assert listed(world) == [far, near, third]
    assert alike not in listed(world)
    with world.hub.store.reading() as session:
        found = {d.record.uid: d for d in adjudication.disputes(session)}
    assert found[far].apart_mm == pytest.approx(1.4)
    assert (found[far].agreement, found[third].agreement) == (0.0, pytest.approx(1 / 3))
    assert found[third].apart_mm is None


def test_labels_under_different_rules_are_no_dispute(world: World) -> None:
    uid = world.frame()
    world.label(uid, "Ann", True)
    world.label(uid, "Bob", False, label_book="scratch@2")
    assert listed(world) == []


def test_unsure_against_a_decision_is_a_dispute(world: World) -> None:
    uid = world.frame()
    world.label(uid, "Ann", True)
    world.label(uid, "Bob", False, unsure=True)
    good = world.frame()
    world.label(good, "Ann", False)
    world.label(good, "Bob", False, unsure=True)
    assert listed(world) == [uid, good]


def test_a_decision_needs_a_reason_and_a_label_that_is_there(world: World) -> None:
    uid = pair(world, True, False)
    with world.hub.store.writing() as session:
        with pytest.raises(InputError, match="say why"):
            adjudication.decide(session, uid, "Cy", "  ", 1, took=1)
        with pytest.raises(InputError, match="replaced meanwhile"):
            adjudication.decide(session, uid, "Cy", "gauge", 1, took=99)
        with pytest.raises(InputError, match="not in"):
            adjudication.decide(session, uid, "Cy", "gauge", 1, own={"rust": 1.0})
        with pytest.raises(InputError, match="no labelled frame"):
            adjudication.decide(session, "nope", "Cy", "gauge", 1, took=1)
    unsure = world.frame()
    world.label(unsure, "Ann", True)
    world.label(unsure, "Bob", False, unsure=True)
    with world.hub.store.writing() as session, pytest.raises(InputError, match="decides nothing"):
        adjudication.decide(session, unsure, "Cy", "gauge", 1, took=4)


def test_a_later_decision_supersedes_and_both_stay(world: World) -> None:
    uid = pair(world, True, False)
    with world.hub.store.writing() as session:
        adjudication.decide(session, uid, "Cy", "1.6 mm by the gauge", 1, took=1)
        adjudication.decide(session, uid, "Cy", "the gauge was off", 2, own={})
    with world.hub.store.reading() as session:
        record = label_queue.find(session, uid)
        assert record is not None
        assert [(a.took, a.classes, a.superseded_ms) for a in adjudication.history(session, record)] == [
            ("", [], None), ("Ann", ["scratch"], 2),
        ]  # fmt: skip
    assert listed(world) == []


def test_nobody_is_asked_for_a_third_label_of_what_is_decided(world: World) -> None:
    uid = pair(world, True, False)
    with world.hub.store.reading() as session:
        cy = session.query(Person).filter_by(name="Cy").one()
        assert label_queue.waiting_for(session, cy, 5).total == 1
    with world.hub.store.writing() as session:
        adjudication.decide(session, uid, "Cy", "gauge", 1, took=1)
    with world.hub.store.reading() as session:
        assert label_queue.waiting_for(session, cy, 5).total == 0


def exported(world: World, out: Path) -> dict[str, dict[str, object]]:
    export_folder(world.hub.store, world.hub.frames, out)
    return {s["source"][-32:]: s for s in map(json.loads, (out / "samples.jsonl").read_text().splitlines())}


def test_a_decision_outranks_labels_in_the_export(world: World, tmp_path: Path) -> None:
    """Also the majority, and also a pair who agreed on what the adjudicator calls wrong."""
    mask = np.zeros((60, 80), np.uint8)
    mask[10:20, 10:30] = 1
    sha = world.hub.frames.put(encode_mask(mask))
    disputed = world.frame()
    world.label(disputed, "Ann", True, 1.7, mask=sha)
    world.label(disputed, "Bob", False)
    agreed = pair(world, True, True, 1.4, 1.4)
    assert set(exported(world, tmp_path / "before")) == {agreed}
    with world.hub.store.writing() as session:
        adjudication.decide(session, disputed, "Cy", "1.7 mm by the gauge", 1, took=1)
        adjudication.decide(session, agreed, "Cy", "both measured the shadow", 1, own={})
    after = exported(world, tmp_path / "after")
    assert after[disputed]["labels"] == ["scratch"]
    assert after[disputed]["labelled_by"] == ["Cy"]
    assert after[agreed]["labels"] == []
    stored = cv2.imread(str(tmp_path / "after" / str(after[disputed]["mask"])), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(stored, mask)


def test_labels_under_newer_rules_end_an_old_decision(world: World, tmp_path: Path) -> None:
    uid = pair(world, True, False, 1.7, 1.6)
    with world.hub.store.writing() as session:
        adjudication.decide(session, uid, "Cy", "gauge", 1, took=1)
        row = label_books.draft(session, "scratch", "Cy", "2 mm from now on", 2)
        label_books.set_rule(session, row, "scratch", limit_mm=2.0)
        publishing.publish(session, row, "Cy", label_books.FramesNeeded(0, 0, 0), 3)
        assert adjudication.in_force(session, "scratch")
    for person in ("Ann", "Bob"):
        with world.hub.store.writing() as session:
            session.query(label_books.Label).filter_by(person=person).update({"superseded_ms": 4})
        world.label(uid, person, False, 1.7, label_book="scratch@2")
    with world.hub.store.reading() as session:
        assert adjudication.in_force(session, "scratch") == {}
    sample = exported(world, tmp_path / "out")[uid]
    assert (sample["labels"], sample["label_book"]) == ([], "scratch@2")


def test_the_page_decides_and_goes_on_to_the_next(world: World) -> None:
    first, second = pair(world, True, False, 3.0, 1.0), pair(world, True, False, 1.6, 1.4)
    cy = world.browser("Cy")
    assert cy.get("/adjudicate/next", follow_redirects=False).headers["location"] == f"/adjudicate/{first}"
    skipped = cy.get(f"/adjudicate/next?after={first}", follow_redirects=False)
    assert skipped.headers["location"] == f"/adjudicate/{second}"
    text = cy.get(f"/adjudicate/{first}").text
    assert "2.00 mm apart" in text
    assert "scratch 3.00 mm" in text
    refused = cy.post(f"/adjudicate/{first}", data={"took": "1"})
    assert refused.status_code == 422
    assert "say why" in refused.text
    bad = {"took": "own", "reason": "x", "cls": "scratch", "length_cls": "scratch", "length_mm": "two"}
    assert cy.post(f"/adjudicate/{first}", data=bad).status_code == 422
    done = cy.post(f"/adjudicate/{first}", data={**bad, "length_mm": "2.1"}, follow_redirects=False)
    assert done.headers["location"].startswith("/adjudicate/next")
    with world.hub.store.reading() as session:
        decision = next(iter(adjudication.in_force(session, "scratch").values()))
    assert (decision.person, decision.classes) == ("Cy", ["scratch"])
    assert decision.annotations[0]["length_mm"] == 2.1
    cy.post(f"/adjudicate/{second}", data={"took": "4", "reason": "scale reads 1.4"})
    assert "No disagreements" in cy.get("/adjudicate").text


def test_what_somebody_else_decided_meanwhile_is_seen_before_it_is_superseded(world: World) -> None:
    uid = pair(world, True, False)
    people.add_person(world.hub.store, "Eve", "engineer")
    cy, eve = world.browser("Cy"), world.browser("Eve")

    def newest(page: str) -> str:
        return re.findall(r'name="newest" value="(\d+)"', page)[0]

    shown = [newest(browser.get(f"/adjudicate/{uid}").text) for browser in (cy, eve)]
    first = {"took": "1", "reason": "1.2 mm under the microscope", "newest": shown[0]}
    assert cy.post(f"/adjudicate/{uid}", data=first, follow_redirects=False).status_code == 303
    other = {"took": "2", "reason": "looks fine", "newest": shown[1]}
    refused = eve.post(f"/adjudicate/{uid}", data=other)
    assert refused.status_code == 409
    assert "Cy decided it meanwhile: scratch (1.2 mm under the microscope)" in refused.text
    assert 'value="looks fine"' in refused.text, "what was typed stays"
    with world.hub.store.reading() as session:
        assert [d.person for d in adjudication.in_force(session, "scratch").values()] == ["Cy"]
    again = other | {"newest": newest(refused.text)}
    assert eve.post(f"/adjudicate/{uid}", data=again, follow_redirects=False).status_code == 303
    with world.hub.store.reading() as session:
        assert [d.person for d in adjudication.in_force(session, "scratch").values()] == ["Eve"]


def test_a_refusal_is_said_in_german_too(world: World) -> None:
    uid, cy = pair(world, True, False), world.browser("Cy")
    cy.headers["accept-language"] = "de"
    own = {"took": "own", "reason": "x", "cls": "scratch", "length_cls": "scratch", "length_mm": "zwei"}
    for form, said in (
        ({"took": "1"}, "Grund: hat 0 Zeichen. Abhilfe: nennen Sie den Grund, in 1 bis 2000 Zeichen"),
        ({"reason": "x"}, "Entscheidung: nennt kein Label. Abhilfe: wählen Sie A, B oder E"),
        ({"took": "99", "reason": "x"}, "Label: wurde inzwischen ersetzt"),
        (own, "Länge: 'zwei' ist keine Zahl"),
        (own | {"length_mm": "-1"}, "Länge: -1 mm kann nicht sein"),
        (own | {"cls": "rust"}, "Klassen: rust: nicht in scratch@1. Abhilfe: möglich: scratch"),
    ):
        refused = cy.post(f"/adjudicate/{uid}", data=form)
        assert (refused.status_code, said in html.unescape(refused.text)) == (422, True), said


def test_a_painted_mask_is_shown_bright(world: World) -> None:
    mask = np.zeros((60, 80), np.uint8)
    mask[10:20, 10:30] = 1
    uid = world.frame()
    world.label(uid, "Ann", True, mask=world.hub.frames.put(encode_mask(mask)))
    world.label(uid, "Bob", False)
    cy = world.browser("Cy")
    answer = cy.get(f"/adjudicate/{uid}/mask/1")
    shown = cv2.imdecode(np.frombuffer(answer.content, np.uint8), cv2.IMREAD_COLOR)
    assert shown is not None
    assert np.array_equal(shown.max(axis=2) > 100, mask > 0)
    assert cy.get(f"/adjudicate/{uid}/mask/2").status_code == 404


def test_an_engineer_may_answer_a_frame_nobody_labelled(world: World) -> None:
    uid = world.frame()
    cy = world.browser("Cy")
    assert cy.get(f"/adjudicate/{uid}").status_code == 200
    own = {
        "took": "own",
        "reason": "2.1 mm by the gauge",
        "cls": "scratch",
        "length_cls": "scratch",
        "length_mm": "2.1",
    }
    assert cy.post(f"/adjudicate/{uid}", data=own, follow_redirects=False).status_code == 303
    with world.hub.store.reading() as session:
        assert [g.classes for g in blind_plan.gold(session)] == [["scratch"]]


def test_a_decided_frame_nobody_labelled_is_exported_and_asked_of_nobody(world: World, tmp_path: Path) -> None:
    decided, other = world.frame(), world.frame()
    with world.hub.store.writing() as session:
        session.query(Record).update({"why": ["uncertain"]})
        ids = {r.uid: r.id for r in session.query(Record)}
        session.add_all(
            LabelAssignment(record_id=ids[uid], person="Ann", why=label_queue.BLIND, created_ms=1) for uid in ids
        )
    ann, bob = world.browser("Ann"), world.browser("Bob")
    assert ann.get("/label/next", follow_redirects=False).headers["location"] == f"/label/{decided}"
    own = {"took": "own", "reason": "by the gauge", "cls": "scratch", "length_cls": "scratch", "length_mm": "2.1"}
    assert world.browser("Cy").post(f"/adjudicate/{decided}", data=own, follow_redirects=False).status_code == 303
    for browser in (ann, bob):
        assert browser.get("/label/next", follow_redirects=False).headers["location"] == f"/label/{other}"
    with world.hub.store.reading() as session:
        assert session.scalars(select(Record.uid).where(label_queue.short_of_labels(3))).all() == []
    summary = export_folder(world.hub.store, world.hub.frames, tmp_path / "alone")
    assert (summary.exported, summary.adjudicated) == (1, 1)
    for person in ("Ann", "Bob"):
        world.label(other, person, False)
    both = exported(world, tmp_path / "both")
    assert {uid: s["labels"] for uid, s in both.items()} == {decided: ["scratch"], other: []}
    assert both[decided]["group"]
    # Labels under newer rules end the decision: the frame is short of one label again.
    world.label(decided, "Ann", False, label_book="scratch@2")
    assert bob.get("/label/next", follow_redirects=False).headers["location"] == f"/label/{decided}"


def test_a_decided_disagreement_becomes_a_borderline_case_with_its_reason(world: World) -> None:
    first, second = pair(world, True, False, 1.7, 1.4), pair(world, True, False)
    cy = world.browser("Cy")
    decision = {"took": "1", "reason": "1.6 mm under the microscope", "borderline": "scratch"}
    cy.post(f"/adjudicate/{first}", data=decision)
    cy.post(f"/adjudicate/{second}", data={"took": "4", "reason": "a shadow"})
    page = cy.get("/adjudicate").text
    assert f'action="/adjudicate/{second}/borderline"' in page
    assert f'action="/adjudicate/{first}/borderline"' not in page
    assert cy.post(f"/adjudicate/{second}/borderline", data={"cls": "rust"}).status_code == 422
    cy.post(f"/adjudicate/{second}/borderline", data={"cls": "scratch"})
    with world.hub.store.reading() as session:
        row = label_books.draft_of(session, "scratch")
        assert row is not None
        shown = label_books.frames_of(session, label_books.as_book(row))["scratch"]["borderline"]
    assert [(f.record.uid, f.note, f.added_by) for f in shown] == [
        (first, "1.6 mm under the microscope", "Cy"), (second, "a shadow", "Cy"),
    ]  # fmt: skip
    undecided = pair(world, True, False)
    assert cy.post(f"/adjudicate/{undecided}/borderline", data={"cls": "scratch"}).status_code == 422


def test_keeping_a_frame_from_testing_needs_a_reason(world: World) -> None:
    uid = pair(world, True, False)
    cy = world.browser("Cy")
    cy.post(f"/adjudicate/{uid}", data={"took": "1", "reason": "gauge"})
    assert cy.post(f"/adjudicate/{uid}/gold", data={"use": "false"}).status_code == 422
    with world.hub.store.reading() as session:
        assert len(blind_plan.gold(session)) == 1
    cy.post(f"/adjudicate/{uid}/gold", data={"use": "false", "reason": "blurred"})
    with world.hub.store.reading() as session:
        assert blind_plan.gold(session) == []
    assert "Let it test" in cy.get("/adjudicate").text
    ann = world.browser("Ann")
    assert ann.post(f"/adjudicate/{uid}/gold", data={"use": "true", "reason": "x"}).status_code == 403
