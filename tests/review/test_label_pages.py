"""The label pages over HTTP: blind, checked, kept. Real app, real SQLite; the broker is not needed."""

from __future__ import annotations

import base64
import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select

from inspection.bundle import sha256
from inspection.samples import Sample
from review import label_books, label_queue, publishing
from review.app import create_app
from review.labelling import encode_mask
from review.people import add_person, remove
from review.settings import Settings
from review.store import Label, LabelAssignment, Record, Station

W, H = 80, 60


class World:
    """The app, three people, and `frame` to add a record."""

    def __init__(self, folder: Path) -> None:
        self.app = create_app(Settings(data_dir=folder, demo_people=True))
        self.hub = self.app.state.hub
        for name, role in (("Ann", "inspector"), ("Bob", "inspector"), ("Cy", "engineer")):
            add_person(self.hub.store, name, role)
        with self.hub.store.writing() as session:
            session.add(Station(site="p", line="l", station="press"))
        self.count = 0

    def frame(self, *why: str, book: str = "weld@1", ts_ms: int | None = None, **more: Any) -> str:
        self.count += 1
        png = cv2.imencode(".png", np.full((H, W, 3), self.count, np.uint8))[1].tobytes()
        fields: dict[str, Any] = {
            "uid": f"{self.count:032x}", "station_id": 1, "why": list(why) or ["uncertain"], "camera": "cam",
            "frame_id": self.count, "ts_ms": ts_ms or self.count * 100_000, "call": "uncertain",
            "scores": {"porosity": 0.4321}, "findings": [], "image": self.hub.frames.put(png), "heat": None,
            "heat_cls": "", "heat_to_frame": [], "px_per_mm": 10.0, "width_px": W, "height_px": H, "halt": 0,
            "part": "", "model": "weld-1.0.0", "policy": "", "label_book": book, "stages_ms": {}, "received_ms": 0,
        }  # fmt: skip
        with self.hub.store.writing() as session:
            session.add(Record(**{**fields, **more}))
        return str(fields["uid"])

    def person(self, name: str) -> Person:
        return Person(self, name)


class Person:
    """Somebody's browser; everything they were ever sent is kept in `seen`."""

    def __init__(self, world: World, name: str) -> None:
        self.name = name
        self.client = TestClient(world.app, base_url="http://hub")
        self.seen = b""
        self.client.post("/who", data={"name": name, "next": "/label"})

    def get(self, path: str) -> Any:
        answer = self.client.get(path)
        self.seen += answer.content + repr(dict(answer.headers)).encode()
        return answer

    def save(self, uid: str, **label: object) -> Any:
        answer = self.client.post(f"/label/{uid}", json={"label_book": "weld@1"} | label)
        self.seen += answer.content
        return answer

    def next(self) -> str:
        """Uid of the frame the queue gives next, or "" when none waits."""
        where = self.client.get("/label/next", follow_redirects=False).headers["location"]
        return str(where).removeprefix("/label").removeprefix("/")

    def data(self, uid: str) -> dict[str, Any]:
        text = self.get(f"/label/{uid}").text
        found = re.search(r'id="label-data">(.*?)</script>', text, re.DOTALL)
        assert found
        return dict(json.loads(found[1]))


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def stroke(value: int, x: int, y: int, w: int, h: int) -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    mask[y : y + h, x : x + w] = value
    return mask


def b64(mask: np.ndarray) -> str:
    return base64.b64encode(encode_mask(mask)).decode()


def test_the_queue_gives_the_oldest_first_and_only_what_is_worth_a_label(world: World) -> None:
    young = world.frame("audit", ts_ms=3000)
    world.frame("context", ts_ms=1000)
    world.frame("uncertain", ts_ms=1500, image=None)
    world.frame("uncertain", ts_ms=1600, book="")
    old = world.frame("halt", "context", ts_ms=2000)
    ann = world.person("Ann")
    assert ann.next() == old
    assert ann.save(old).json() == {"saved": old, "next": f"/label/{young}"}
    assert ann.save(young).json()["next"] == "/label"
    assert ann.next() == ""
    assert "1 frame of late names no label book" in ann.get("/label").text


def test_two_labels_are_enough_and_an_assignment_asks_for_more(world: World) -> None:
    uid = world.frame()
    for name in ("Ann", "Bob"):
        person = world.person(name)
        assert person.next() == uid
        person.save(uid)
    cy = world.person("Cy")
    assert cy.next() == ""
    with world.hub.store.writing() as session:
        session.add(LabelAssignment(record_id=1, person="Cy", why="second look", created_ms=1))
    assert cy.next() == uid
    cy.save(uid)
    assert cy.next() == ""


def new_rule(world: World, limit_mm: float) -> None:
    with world.hub.store.writing() as session:
        row = label_books.draft(session, "weld", "Cy", "smaller pores", 1)
        label_books.set_rule(session, row, "porosity", limit_mm=limit_mm)
        publishing.publish(session, row, "Cy", label_books.FramesNeeded(0, 0, 0), 2)


def test_after_a_new_rule_the_label_of_somebody_who_left_is_anybodys_to_give(world: World) -> None:
    uid, mark = world.frame(), {"cls": "porosity", "box_px": [1, 1, 8, 2], "length_mm": 0.6}
    people = [world.person(name) for name in ("Ann", "Bob", "Cy")]
    for person in people[:2]:
        person.save(uid, classes=["porosity"], annotations=[mark])
    remove(world.hub.store, "Ann")
    new_rule(world, 0.8)
    bob, cy = people[1], people[2]
    with world.hub.store.reading() as session:
        assert publishing.asked(session, "weld") == [("Bob", uid)], "not of whoever left"
    assert (bob.next(), cy.next()) == (uid, "")
    assert bob.save(uid, label_book="weld@2", classes=["porosity"]).status_code == 200
    assert (bob.next(), cy.next()) == ("", uid), "Ann's was made under other rules"
    cy.save(uid, label_book="weld@2", classes=["porosity"])
    assert cy.next() == ""
    assert "1 frames in 1 groups (1 agreed" in cy.client.get("/labels/export.zip").headers["X-Haltline-Export"]


def test_a_label_that_is_made_again_after_a_new_rule_waits_for_its_person(world: World) -> None:
    uid, half = world.frame(), world.frame()
    ann, bob, cy = (world.person(name) for name in ("Ann", "Bob", "Cy"))
    for person in (ann, bob):
        person.save(uid, classes=["porosity"])
    ann.save(half, classes=["porosity"])
    new_rule(world, 0.8)
    assert (ann.next(), bob.next(), cy.next()) == (uid, uid, half)
    bob.save(uid, label_book="weld@2")
    assert cy.next() == half, "the other waits for Ann, who is here"
    bob.save(half, label_book="weld@2")
    assert cy.next() == ""
    with world.hub.store.reading() as session:
        due = session.scalars(select(Record.uid).where(label_queue.short_of_labels(2))).all()
    assert due == [], "nor is it dealt out"
    remove(world.hub.store, "Ann")
    assert cy.next() == uid, "once Ann left, it is anybody's"
    with world.hub.store.reading() as session:
        assert publishing.waiting_to_relabel(session, "weld") == 0
        due = session.scalars(select(Record.uid).where(label_queue.short_of_labels(2))).all()
    assert set(due) == {uid, half}


def test_where_two_differ_an_engineer_is_asked_for_the_third_label(world: World) -> None:
    differ, agree = world.frame(), world.frame()
    for name, classes in (("Ann", ["porosity", "undercut"]), ("Bob", ["porosity"])):
        world.person(name).save(differ, classes=classes)
        world.person(name).save(agree, classes=["porosity", "undercut"][:: 1 if name == "Ann" else -1])
    cy = world.person("Cy")
    assert cy.next() == differ
    assert cy.data(differ)["mine"] is None
    cy.save(differ, classes=["porosity"])
    assert cy.next() == ""
    add_person(world.hub.store, "Dee", "engineer")
    assert world.person("Dee").next() == ""


def test_skipping_goes_on_and_comes_round(world: World) -> None:
    first, second = world.frame(), world.frame()
    client = world.person("Ann").client
    after = client.get(f"/label/next?after={first}", follow_redirects=False).headers["location"]
    assert after == f"/label/{second}"
    after = client.get(f"/label/next?after={second}", follow_redirects=False).headers["location"]
    assert after == f"/label/{first}"


def test_blind_nothing_of_anns_label_reaches_bob(world: World) -> None:
    uid = world.frame()
    ann, bob, mask = world.person("Ann"), world.person("Bob"), stroke(2, 10, 20, 30, 3)
    line = [[10.5, 20.5], [39.5, 21.5]]
    marks = [{"cls": "undercut", "box_px": [10.5, 20.5, 29, 1], "length_mm": 3.217, "points_px": line}]
    assert ann.save(uid, classes=["undercut"], mask_png=b64(mask), annotations=marks).status_code == 200
    for path in ("/label", "/label/next", f"/label/{uid}", f"/label/{uid}/frame", f"/label/{uid}/mine"):
        bob.get(path)
    bob.get("/labels/export.zip")
    assert bob.data(uid)["mine"] is None
    bob.save(uid, classes=["undercut"])
    for trace in (b"3.217", b"10.5", b"29.0", b"Ann", encode_mask(mask), sha256(encode_mask(mask)).encode()):
        assert trace not in bob.seen
    assert b"0.4321" not in bob.seen  # nor what the model said
    assert b"uncertain" not in bob.seen


def test_my_own_label_comes_back_and_a_new_one_supersedes_it(world: World) -> None:
    uid = world.frame()
    ann, mask = world.person("Ann"), stroke(2, 10, 20, 30, 3)
    marks = [{"cls": "undercut", "box_px": [10, 20, 30, 1], "length_mm": 3.0, "points_px": [[10, 20], [40, 21]]}]
    ann.save(uid, classes=["undercut"], mask_png=b64(mask), annotations=marks)
    mine = ann.data(uid)["mine"]
    assert (mine["present"], mine["good"], mine["lines"]) == (
        [2],
        False,
        [{"value": 2, "points": [[10, 20], [40, 21]]}],
    )
    shown = cv2.imdecode(np.frombuffer(ann.get(mine["mask"]).content, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(shown, mask)
    ann.save(uid)
    mine = ann.data(uid)["mine"]
    assert (mine["present"], mine["good"], mine["mask"]) == ([], True, None)
    with world.hub.store.reading() as session:
        rows = session.query(Label).order_by(Label.id).all()
    assert [(row.classes, row.superseded_ms is None) for row in rows] == [(["undercut"], False), ([], True)]


def test_a_label_under_older_rules_is_asked_for_again(world: World) -> None:
    uid = world.frame()
    ann = world.person("Ann")
    ann.save(uid)
    with world.hub.store.writing() as session:
        session.query(Label).one().label_book = "weld@0"
    assert ann.data(uid)["mine"] is None
    assert "under weld@0" in ann.get(f"/label/{uid}").text


@pytest.mark.parametrize(
    ("label", "where", "words"),
    [
        ({"classes": ["rust"]}, "classes", "not in weld@1"),
        ({"label_book": "weld@7"}, "label_book", "reload"),
        ({"classes": "porosity"}, "classes", "valid"),
        ({"surprise": 1}, "surprise", "not permitted"),
        ({"classes": ["porosity"], "mask_png": "AAAA"}, "mask_png", "no PNG"),
        ({"classes": ["porosity"], "mask_png": b64(np.zeros((W, H), np.uint8))}, "mask_png", "the frame 80 x 60"),
        ({"classes": ["porosity"], "mask_png": b64(stroke(9, 1, 1, 2, 2))}, "mask_png", "value 9"),
    ],
)
def test_a_bad_label_is_refused_in_words_and_leaves_no_trace(
    world: World, label: dict[str, object], where: str, words: str
) -> None:
    uid = world.frame()
    answer = world.person("Ann").save(uid, **label)
    assert answer.status_code == 422
    assert answer.json()["where"] == where
    assert words in answer.json()["what"] + answer.json()["fix"]
    with world.hub.store.reading() as session:
        assert session.query(Label).count() == 0


def test_bodies_are_bounded_and_json(world: World) -> None:
    uid = world.frame()
    client = world.person("Ann").client
    assert client.post(f"/label/{uid}", content=b"x" * (12 * 2**20)).status_code == 413
    assert client.post(f"/label/{uid}", content=b"not json").status_code == 422
    assert client.post(f"/label/{'f' * 32}", json={"label_book": "weld@1"}).status_code == 404
    evil = {"Origin": "http://evil.example"}
    assert client.post(f"/label/{uid}", json={"label_book": "weld@1"}, headers=evil).status_code == 403


def test_without_a_name_nothing_is_shown_or_kept(world: World) -> None:
    uid = world.frame()
    client = TestClient(world.app, base_url="http://hub")
    for path in ("/label", f"/label/{uid}", f"/label/{uid}/frame", "/labels/export.zip", "/models"):
        assert client.get(path).status_code == 401
    assert client.post(f"/label/{uid}", json={"label_book": "weld@1"}).status_code == 401


def test_the_model_suggestion_is_a_request_of_its_own(world: World) -> None:
    heat = world.hub.frames.put(cv2.imencode(".png", np.full((6, 8), 200, np.uint8))[1].tobytes())
    uid = world.frame(heat=heat, heat_cls="porosity", heat_to_frame=[10.0, 0.0, 4.5, 0.0, 10.0, 4.5])
    ann = world.person("Ann")
    assert ann.data(uid)["heat"] == {"url": f"/label/{uid}/heat", "affine": [10.0, 0.0, 4.5, 0.0, 10.0, 4.5]}
    assert ann.get(f"/label/{uid}/heat").headers["content-type"] == "image/png"
    assert ann.get(f"/label/{world.frame()}/heat").status_code == 404


def test_engineers_download_what_two_agree_on(world: World) -> None:
    uid = world.frame(part="P1")
    for name, x in (("Ann", 10), ("Bob", 12)):
        world.person(name).save(uid, classes=["porosity"], mask_png=b64(stroke(1, x, 5, 6, 6)))
    assert world.person("Ann").get("/labels/export.zip").status_code == 403
    cy = world.person("Cy")
    assert "Download labels" in cy.get("/label").text
    answer = cy.client.get("/labels/export.zip")
    assert "1 agreed" in answer.headers["x-haltline-export"]
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        sample = Sample.model_validate_json(archive.read("haltline-labels-weld/samples.jsonl"))
        mask = archive.read(f"haltline-labels-weld/{sample.mask}")
    assert sample.labelled_by == ("Ann", "Bob")
    assert sample.source == f"hub:record={uid}"
    shown = cv2.imdecode(np.frombuffer(mask, np.uint8), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(shown, stroke(1, 10, 5, 8, 6))
    assert cy.client.get("/labels/export.zip?task=nothing").status_code == 422


@pytest.mark.parametrize(("each", "leaves"), [(1, True), (2, True), (3, False)])
def test_a_download_waits_for_as_many_labels_as_the_hub_wants(world: World, each: int, leaves: bool) -> None:
    world.hub.settings = world.hub.settings.model_copy(update={"labels_per_frame": each})
    uid = world.frame()
    for name in ("Ann", "Bob")[:each]:
        world.person(name).save(uid, classes=[])
    answer = world.person("Cy").client.get("/labels/export.zip")
    assert (answer.status_code == 200) == leaves
    if not leaves:
        assert "3 people label the same frames" in answer.text
