"""The Label book page: everybody reads the rules, engineers draft and publish, a refusal says what is missing."""

from __future__ import annotations

import html
import re
from pathlib import Path

import pytest
from fastapi.testclient import TestClient

from review import label_books, people, publishing
from tests.review.test_consistency import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def publish(browser: TestClient) -> int:
    """As from the page: with the fingerprint it shows."""
    seen = re.findall(r'name="seen" value="(\w+)"', browser.get("/label-book/scratch").text)[0]
    return browser.post("/label-book/scratch/publish", data={"seen": seen}, follow_redirects=False).status_code


def test_everybody_reads_and_only_engineers_write(world: World) -> None:
    ann = world.browser("Ann")
    assert ann.get("/label-book", follow_redirects=False).headers["location"] == "/label-book/weld"
    text = ann.get("/label-book/scratch").text
    assert "A scratch 1.5 mm or longer" in text
    assert "/draft" not in text
    refused = ann.post("/label-book/scratch/draft", data={"reason": "mine"})
    assert refused.status_code == 403
    assert "Ann is inspector: this is for the roles engineer, admin" in refused.text
    assert ann.get("/label-book/paint").status_code == 404
    assert ann.get("/label-book/scratch/7").status_code == 404


def test_from_draft_to_a_published_rule_that_labellers_see(world: World) -> None:
    uids = [world.frame() for _ in range(10)]
    for person in ("Ann", "Bob"):
        world.label(uids[0], person, True, 1.7)
    cy = world.browser("Cy")
    cy.post("/label-book/scratch/draft", data={"reason": "people differ below 2 mm"})
    rule = {"cls": "scratch", "limit_mm": "2", "rule": "A scratch 2 mm or longer.", "low_mm": "1.6", "high_mm": "2.4"}
    cy.post("/label-book/scratch/rule", data=rule)
    early = cy.post("/label-book/scratch/publish")
    assert early.status_code == 422
    assert "4 more examples (0 of 4)" in early.text
    for n, uid in enumerate(uids):
        kind = "example" if n < 4 else "counterexample" if n < 7 else "borderline"
        cy.post("/label-book/scratch/frame", data={"cls": "scratch", "kind": kind, "uid": uid, "note": f"no. {n}"})
    draft = cy.get("/label-book/scratch").text
    assert "<strong>2</strong> labels were made under a limit that changes" in draft
    assert "between 1.5 and 2 mm" in draft
    assert publish(cy) == 303
    text = cy.get("/label-book/scratch").text
    assert "scratch@2 is in force" in text
    assert "<strong>2</strong> labels wait to be made again" in text
    assert "no. 3" in text
    ann = world.browser("Ann")
    page = ann.get(f"/label/{uids[0]}").text
    assert "from 2 mm on" in page
    assert "You labelled this under scratch@1" in page
    old = ann.post(f"/label/{uids[0]}", json={"label_book": "scratch@1", "classes": ["scratch"]})
    assert old.status_code == 422, "a page that was open while the rule changed must not save under the old one"
    assert ann.post(f"/label/{uids[0]}", json={"label_book": "scratch@2"}).status_code == 200
    with world.hub.store.reading() as session:
        assert publishing.waiting_to_relabel(session, "scratch") == 1
    assert "is an earlier version" in cy.get("/label-book/scratch/1").text


def test_what_is_no_rule_is_refused_in_words(world: World) -> None:
    cy = world.browser("Cy")
    assert "has no draft" in cy.post("/label-book/scratch/publish").text
    cy.post("/label-book/scratch/draft", data={"reason": "x"})
    rule = {"cls": "scratch", "limit_mm": "-2", "rule": "x"}
    refused = cy.post("/label-book/scratch/rule", data=rule)
    assert refused.status_code == 422
    assert "limit_mm" in refused.text
    assert (
        cy.post("/label-book/scratch/frame", data={"cls": "scratch", "kind": "example", "uid": "0" * 32}).status_code
        == 422
    )


def test_what_a_draft_lacks_and_every_refusal_is_said_in_german_too(world: World) -> None:
    uid, cy = world.frame(), world.browser("Cy")
    world.label(uid, "Ann", True, 1.7)
    cy.headers["accept-language"] = "de"

    def said(path: str, **form: str) -> str:
        return html.unescape(cy.post(f"/label-book/scratch/{path}", data=form).text)

    assert "hat keinen Entwurf" in said("publish")
    page = said("draft", reason=" ")
    assert "der Grund dieser Version" in page
    assert "Scratch: noch 4 Beispiele (0 von 4)" in page
    assert "Scratch: noch 3 Grenzfälle (0 von 3)" in page
    assert "limit_mm: muss 0 oder mehr sein" in said("rule", cls="scratch", limit_mm="-2", rule="x")
    rule = {"cls": "scratch", "limit_mm": "2", "rule": "x"}
    assert "count.within_mm: fehlt" in said("rule", **rule, regions="3")
    assert "count.within_mm: muss größer als 0 sein" in said("rule", **rule, regions="3", within_mm="0")
    assert "ist keine Klasse von scratch" in said("rule", **rule | {"cls": "rust"})
    assert "zwischen 1,5 und 2 mm" in said("rule", **rule)
    assert "ist kein Datensatz mit Bild" in said("frame", cls="scratch", kind="example", uid="nope")
    assert "ist keine Klasse und Art dieses Buchs" in said("frame", cls="rust", kind="example", uid=uid)
    assert "kann nicht veröffentlicht werden, es fehlt der Grund dieser Version; Scratch:" in said("publish")


def test_how_many_frames_a_book_needs_is_the_sites_choice(tmp_path: Path) -> None:
    world = World(tmp_path, book_frames=(1, 0, 0))
    uid = world.frame()
    cy = world.browser("Cy")
    cy.post("/label-book/scratch/draft", data={"reason": "x"})
    assert "1 more example (0 of 1)" in cy.get("/label-book/scratch").text
    cy.post("/label-book/scratch/frame", data={"cls": "scratch", "kind": "example", "uid": uid})
    assert publish(cy) == 303


def test_nothing_is_published_that_the_page_did_not_show(tmp_path: Path) -> None:
    world = World(tmp_path, book_frames=(0, 0, 0))
    people.add_person(world.hub.store, "Eve", "engineer")
    uid, cy, eve = world.frame(), world.browser("Cy"), world.browser("Eve")

    def seen() -> dict[str, str]:
        return {"seen": re.findall(r'name="seen" value="(\w+)"', cy.get("/label-book/scratch").text)[0]}

    rule = {"cls": "scratch", "limit_mm": "3", "rule": "trying out"}
    frame = {"cls": "scratch", "kind": "example", "uid": uid}
    cy.post("/label-book/scratch/draft", data={"reason": "smaller ones"})
    for path, change in (("rule", rule), ("reason", {"reason": "mine"}), ("frame", frame)):
        page = seen()
        assert eve.post(f"/label-book/scratch/{path}", data=change, follow_redirects=False).status_code == 303
        refused = cy.post("/label-book/scratch/publish", data=page)
        assert refused.status_code == 409, path
        assert "was changed since the page showed it" in refused.text
        assert "Draft of scratch@2" in refused.text
    assert cy.post("/label-book/scratch/publish").status_code == 409, "a page that says nothing of what it showed"
    assert publish(cy) == 303


def test_a_count_and_a_depth_are_kept_shown_and_taken_back(world: World) -> None:
    uid = world.frame()
    cy, ann = world.browser("Cy"), world.browser("Ann")
    cy.post("/label-book/scratch/draft", data={"reason": "small ones together"})
    rule = {"cls": "scratch", "limit_mm": "1.5", "rule": "A scratch."}
    half = cy.post("/label-book/scratch/rule", data=rule | {"regions": "3"})
    assert half.status_code == 422
    assert "count.within_mm" in half.text
    more = {"regions": "3", "within_mm": "10", "depth_mm": "0.3", "sign": "dark edge", "sign_mm": "0.8"}
    assert cy.post("/label-book/scratch/rule", data=rule | more).status_code == 200
    with world.hub.store.writing() as session:
        row = label_books.draft_of(session, "scratch")
        assert row
        publishing.publish(session, row, "Cy", label_books.FramesNeeded(0, 0, 0), 2)
    text = ann.get("/label-book/scratch").text
    assert "3 or more within 10 mm (0.30 per mm)" in text
    assert "0.3 mm deep, to be seen by: dark edge, 0.8 mm" in text
    assert "Or 3 within 10 mm" in ann.get(f"/label/{uid}").text
    cy.post("/label-book/scratch/draft", data={"reason": "by length only"})
    cy.post("/label-book/scratch/rule", data=rule)
    with world.hub.store.reading() as session:
        row = label_books.draft_of(session, "scratch")
        assert row
        kept = label_books.as_book(row).rule("scratch")
    assert (kept.count, kept.depth) == (None, None)
