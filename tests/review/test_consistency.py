"""What labels say about people: the numbers, and the Consistency page over HTTP. Real app, real SQLite."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from inspection.size_band import NotEnough, SizeBand, size_band
from review import consistency, label_books, publishing
from review.app import create_app
from review.consistency_plot import band_svg
from review.people import add_person
from review.settings import Settings
from review.store import Adjudication, Label, Record, Station

DAY_MS = 24 * 3600 * 1000


class World:
    """The app with people of both kinds; frames and labels are put straight into its database."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.app = create_app(Settings(data_dir=folder, demo_people=True, **settings))
        self.hub = self.app.state.hub
        for name, role in (("Ann", "inspector"), ("Bob", "inspector"), ("Cy", "engineer")):
            add_person(self.hub.store, name, role)
        with self.hub.store.writing() as session:
            session.add(Station(site="p", line="l", station="press"))
        self.count = 0

    def frame(self, **more: Any) -> str:
        self.count += 1
        image = cv2.imencode(".png", np.full((60, 80, 3), self.count % 250, np.uint8))[1].tobytes()
        fields: dict[str, Any] = {
            "uid": f"{self.count:032x}", "station_id": 1, "why": ["uncertain"], "camera": "cam",
            "frame_id": self.count, "ts_ms": self.count * 100_000, "call": "uncertain", "scores": {}, "findings": [],
            "image": self.hub.frames.put(image), "heat": None, "heat_cls": "", "heat_to_frame": [], "px_per_mm": 20.0,
            "width_px": 80, "height_px": 60, "halt": 0, "part": f"P{self.count}", "model": "scratch-1", "policy": "",
            "label_book": "scratch@1", "stages_ms": {}, "received_ms": 0,
        }  # fmt: skip
        with self.hub.store.writing() as session:
            session.add(Record(**{**fields, **more}))
        return str(fields["uid"])

    def label(self, uid: str, person: str, defect: bool, size_mm: float | None = None, **more: Any) -> None:
        marks = [] if size_mm is None else [{"cls": "scratch", "length_mm": size_mm}]
        with self.hub.store.writing() as session:
            record = session.scalars(select(Record).where(Record.uid == uid)).one()
            fields: dict[str, Any] = {
                "label_book": "scratch@1", "classes": ["scratch"] if defect else [], "mask": None,
                "annotations": marks, "unsure": False, "created_ms": 0,
            }  # fmt: skip
            session.add(Label(record_id=record.id, person=person, **{**fields, **more}))

    def crew(self, parts: int, thresholds: dict[str, float], sigma: float = 0.12) -> None:
        """People with rules of their own label frames with scratches of 0.4 to 4 mm."""
        rng = np.random.default_rng(1)
        for size in np.exp(rng.uniform(math.log(0.4), math.log(4), parts)):
            uid = self.frame(call="defect" if size > 1.5 else "pass", findings=[{"cls": "scratch"}])
            for person, threshold in thresholds.items():
                defect = rng.uniform() < 1 / (1 + math.exp(-math.log(size / threshold) / sigma))
                self.label(uid, person, bool(defect), round(float(size), 2))

    def frames(self, book_id: str = "scratch@1", most: int | None = None) -> list[consistency.FrameLabels]:
        with self.hub.store.reading() as session:
            return consistency.frames(session, book_id, "scratch", consistency.parts_of(session), most)

    def browser(self, name: str) -> TestClient:
        client = TestClient(self.app, base_url="http://hub")
        client.post("/who", data={"name": name, "next": "/label"})
        return client


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_unsure_is_no_answer_and_versions_are_not_mixed(world: World) -> None:
    uid = world.frame()
    world.label(uid, "Ann", True, 2.0)
    world.label(uid, "Bob", False, unsure=True)
    world.label(uid, "Cy", False, 3.0, label_book="scratch@2")
    (frame,) = world.frames()
    assert frame.answers == {"Ann": "defect"}
    assert frame.size_mm == 2.0
    assert not frame.differs
    assert world.frames("scratch@2")[0].answers == {"Cy": "good"}


def test_a_correction_replaces_and_a_late_repeat_is_a_second_trial(world: World) -> None:
    uid = world.frame()
    world.label(uid, "Ann", True, superseded_ms=1000)
    world.label(uid, "Ann", False, created_ms=1000, superseded_ms=8 * DAY_MS)
    world.label(uid, "Ann", True, created_ms=8 * DAY_MS)
    world.label(uid, "Bob", True)
    (frame,) = world.frames()
    assert frame.trials == {"Ann": ["good", "defect"], "Bob": ["defect"]}
    ann = next(p for p in consistency.class_view([frame], "scratch").people if p.person == "Ann")
    assert (ann.repeats, ann.repeats_alike) == (1, 0)


def test_a_label_made_again_under_new_rules_was_no_correction(world: World) -> None:
    uid = world.frame()
    world.label(uid, "Ann", True, superseded_ms=1000)
    world.label(uid, "Ann", False, created_ms=1000, label_book="scratch@2")
    assert world.frames()[0].answers == {"Ann": "defect"}


def test_the_newest_frames_are_taken_where_there_are_very_many(world: World) -> None:
    uids = [world.frame() for _ in range(4)]
    for uid in uids:
        world.label(uid, "Ann", True)
    assert [f.record.uid for f in world.frames(most=3)] == uids[1:]


def test_a_person_alone_is_counted_alone(world: World) -> None:
    for n in range(24):
        uid = world.frame()
        for person in ("Ann", "Bob", "Cy"):
            world.label(uid, person, person == "Ann" if n < 6 else n % 2 == 0)
    view = consistency.class_view(world.frames(), "scratch")
    assert {p.person: p.alone for p in view.people} == {"Ann": 6, "Bob": 0, "Cy": 0}
    alpha = {p.person: p.agreement.alpha.value for p in view.people}
    assert alpha["Ann"] < alpha["Bob"], "what Bob and Cy make of each other does not count for Ann"
    assert len(view.differing) == 6


def test_the_model_is_compared_where_it_made_up_its_mind(world: World) -> None:
    for call, findings in (
        ("defect", [{"cls": "scratch"}]),
        ("defect", [{"cls": "dent"}]),
        ("pass", []),
        ("uncertain", []),
    ):
        world.label(world.frame(call=call, findings=findings), "Ann", True)
    said = [consistency.model_answer(f.record, "scratch") for f in world.frames()]
    assert said == ["defect", "good", "good", ""]
    view = consistency.class_view(world.frames(), "scratch")
    assert view.model["Ann", "model"].units == 3


def test_the_study_takes_its_reference_from_adjudication_and_the_label_book(world: World) -> None:
    decided, shown, unknown = world.frame(), world.frame(), world.frame()
    for uid in (decided, shown, unknown):
        world.label(uid, "Ann", True, 2.0, label_book="scratch@2")
    with world.hub.store.writing() as session:
        row = label_books.draft(session, "scratch", "Cy", "why", 1)
        label_books.show_frame(session, row, "scratch", "counterexample", shown, "", "Cy", 1)
        publishing.publish(session, row, "Cy", label_books.FramesNeeded(0, 0, 0), 2)
        session.add(
            Adjudication(
                record_id=1, person="Cy", label_book="scratch@2", classes=["scratch"], mask=None, annotations=[],
                reason="gauge", created_ms=1,
            )
        )  # fmt: skip
    frames = world.frames("scratch@2")
    assert {f.record.uid: f.reference for f in frames} == {decided: "defect", shown: "good", unknown: ""}
    study = consistency.attribute_study(frames)
    assert (study.trials, study.bad_parts) == (2, 1)
    assert study.people[0].false_alarm.value == 1.0


def test_the_band_is_found_and_its_proposal_becomes_a_draft(world: World) -> None:
    world.crew(90, {"Ann": 1.2, "Bob": 1.9})
    view = consistency.class_view(world.frames(), "scratch")
    assert isinstance(view.band, SizeBand)
    assert view.band.different_rules
    cy = world.browser("Cy")
    shown = cy.get("/consistency")
    assert "Different rules:" in shown.text
    assert "<svg" in shown.text
    form = {"book": "scratch", "version": "scratch@1", "cls": "scratch"}
    assert cy.post("/consistency/propose", data=form, follow_redirects=False).status_code == 303
    with world.hub.store.reading() as session:
        row = label_books.draft_of(session, "scratch")
        assert row is not None
        rule = label_books.as_book(row).rule("scratch")
        assert rule.limit_mm == pytest.approx(view.band.proposed_mm.value, abs=0.03)
        assert rule.limit_mm * 20 == pytest.approx(round(rule.limit_mm * 20)), "a limit a gauge can hold"
        assert rule.ambiguous_mm is not None
        assert rule.ambiguous_mm[0] < rule.limit_mm < rule.ambiguous_mm[1]
        assert row.reason.startswith("Scratch: 2 people on 90 parts")
        assert row.author == "Cy"


def test_a_proposal_keeps_the_drafts_author_and_what_was_typed_as_its_reason(world: World) -> None:
    world.crew(90, {"Ann": 1.2, "Bob": 1.9})
    add_person(world.hub.store, "Eve", "engineer")
    cy, eve = world.browser("Cy"), world.browser("Eve")
    cy.post("/label-book/scratch/draft", data={"reason": "customer complaint 4711"})
    form = {"book": "scratch", "version": "scratch@1", "cls": "scratch"}
    for _ in range(2):  # a second tap adds nothing
        assert eve.post("/consistency/propose", data=form, follow_redirects=False).status_code == 303
    with world.hub.store.reading() as session:
        row = label_books.draft_of(session, "scratch")
        assert row is not None
        assert row.author == "Cy"
        assert row.reason.startswith("customer complaint 4711; Scratch: 2 people on 90 parts")
        assert row.reason.count("90 parts") == 1


@pytest.mark.parametrize(("limit_mm", "sides"), [(0.5, ("end", "start")), (3.9, ("start", "end"))])
def test_the_plots_words_stand_on_their_own_sides(world: World, limit_mm: float, sides: tuple[str, str]) -> None:
    world.crew(40, {"Ann": 1.4, "Bob": 1.6})
    calls = consistency.calls(world.frames())
    band = size_band(calls, draws=50)
    assert isinstance(band, SizeBand)
    svg = str(band_svg(band, calls, limit_mm))
    anchors = {word: svg.split(f">{word} ")[0].rpartition('anchor="')[2].rstrip('"') for word in ("limit", "proposed")}
    assert (anchors["limit"], anchors["proposed"]) == sides


def test_twelve_double_labels_are_too_few(world: World) -> None:
    world.crew(12, {"Ann": 1.4, "Bob": 1.6})
    view = consistency.class_view(world.frames(), "scratch")
    assert isinstance(view.band, NotEnough)
    cy = world.browser("Cy")
    text = cy.get("/consistency").text
    assert text.count("Too few double labels (n=12)") == 3, "of agreement, of the band, of the people's reliability"
    assert "alpha</th>" not in text
    form = {"book": "scratch", "version": "scratch@1", "cls": "scratch"}
    assert cy.post("/consistency/propose", data=form).status_code == 409


def test_who_still_labels_blind_sees_nothing_of_it(world: World) -> None:
    uid = world.frame()
    world.label(uid, "Bob", True)
    ann = world.browser("Ann")
    for path in ("/consistency", "/consistency/report", "/adjudicate", f"/adjudicate/{uid}", "/adjudicate/next",
                 "/consistency/frames?book=scratch&version=scratch@1&cls=scratch"):  # fmt: skip
        assert ann.get(path, follow_redirects=False).status_code == 403, path
    assert 'href="/consistency"' not in ann.get("/label").text
    assert TestClient(world.app, base_url="http://hub").get("/consistency").status_code in (401, 403)


def test_the_frames_behind_a_number(world: World) -> None:
    both, differ = world.frame(call="pass"), world.frame(call="pass")
    world.label(both, "Ann", True, 3.0)
    world.label(both, "Bob", True, 3.2)
    world.label(differ, "Ann", True, 1.4)
    world.label(differ, "Bob", False, 1.2)
    cy = world.browser("Cy")

    def listed(more: str) -> set[str]:
        text = cy.get(f"/consistency/frames?book=scratch&version=scratch@1&cls=scratch{more}").text
        return {uid for uid in (both, differ) if uid in text}

    assert listed("") == {differ}
    assert listed("&only=all") == {both, differ}
    assert listed("&only=all&low_mm=1&high_mm=2") == {differ}
    assert listed("&only=alone&who=Ann") == {differ}
    assert listed("&who=Ann~Bob") == {differ}
    assert listed("&who=Ann~model") == {both, differ}
    assert listed("&who=Bob~model") == {both}
    assert listed("&who=Nobody&only=all") == set()


def test_the_report_says_what_it_lacks_and_prints(world: World) -> None:
    world.crew(12, {"Ann": 1.4, "Bob": 1.6})
    cy = world.browser("Cy")
    assert "Too few frames with a known answer (n=0)" in cy.get("/consistency/report").text
    with world.hub.store.writing() as session:
        for label in session.scalars(select(Label).where(Label.person == "Ann")).all():
            session.add(
                Adjudication(
                    record_id=label.record_id, person="Cy", label_book="scratch@1", classes=label.classes, mask=None,
                    annotations=[], reason="x", created_ms=1,
                )
            )  # fmt: skip
    text = cy.get("/consistency/report").text
    assert "100.0 % (73.5 to 100.0)" in text, "twelve right of twelve, with the exact interval"
    assert "Clopper" in text
    assert "@media print" in cy.get("/static/consistency.css").text


@pytest.mark.parametrize("query", ["?book=paint", "?book=scratch&version=scratch@9", "?book=weld&cls=scratch"])
def test_what_does_not_exist_is_not_found(world: World, query: str) -> None:
    assert world.browser("Cy").get(f"/consistency{query}").status_code == 404
