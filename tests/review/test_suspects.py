"""Labels the model disagrees with: taken in, ranked, decided with a reason, and back in the labels."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from typer.testing import CliRunner

from inspection.errors import InputError
from inspection.suspects import SuspectLine
from review import adjudication, label_books, suspects
from review.cli import app
from review.export import Summary, export_folder
from review.store import AuditRow, Suspect
from tests.review.test_consistency import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def line(uid: str, quality: float, said: tuple[str, ...] = (), **more: Any) -> SuspectLine:
    fields: dict[str, Any] = {
        "source": f"hub:record={uid}", "image": "images/x.png", "cls": "scratch", "kind": "image", "labels": said,
        "label_book": "scratch@1", "snapshot": "scratch-0123456789ab", "p": 0.1 if said else 0.9, "quality": quality,
    }  # fmt: skip
    return SuspectLine(**{**fields, **more})


def taken(world: World, *lines: SuspectLine) -> suspects.Taken:
    with world.hub.store.writing() as session:
        return suspects.take_in(session, lines, 5)


def agreed(world: World, defect: bool) -> str:
    uid = world.frame()
    for person in ("Ann", "Bob"):
        world.label(uid, person, defect, 1.7 if defect else None)
    return uid


def listed(world: World) -> list[str]:
    with world.hub.store.reading() as session:
        return [s.record.uid for s in suspects.waiting(session, 99)[0]]


def exported(world: World, out: Path) -> tuple[dict[str, dict[str, Any]], Summary]:
    summary = export_folder(world.hub.store, world.hub.frames, out)
    return {s["source"][-32:]: s for s in map(json.loads, (out / "samples.jsonl").read_text().splitlines())}, summary


def test_the_most_doubtful_come_first_once_and_without_what_is_settled(world: World) -> None:
    a, b, done = agreed(world, True), agreed(world, False), agreed(world, True)
    with world.hub.store.writing() as session:
        adjudication.decide(session, done, "Cy", "gauge", 1, took=5)
    lines = [line(a, 0.3, ("scratch",)), line(b, 0.1), line(done, 0.0, ("scratch",)), line("f" * 32, 0.0)]
    assert taken(world, *lines) == suspects.Taken(added=2, unknown=1, decided=1, known=0)
    assert taken(world, *lines) == suspects.Taken(added=0, unknown=1, decided=1, known=2)
    assert listed(world) == [b, a]
    with world.hub.store.writing() as session:
        adjudication.decide(session, b, "Cy", "gauge", 1, own={})
    assert listed(world) == [a]


def test_decisions_go_back_into_the_labels(world: World, tmp_path: Path) -> None:
    keep, change, add, unclear = agreed(world, True), agreed(world, True), agreed(world, False), agreed(world, True)
    rest = agreed(world, False)
    said = ("scratch",)
    taken(world, line(keep, 0.1, said), line(change, 0.2, said), line(add, 0.3), line(unclear, 0.4, said))
    cy = world.browser("Cy")
    for n, decision in ((1, "keep"), (2, "change"), (3, "change"), (4, "ambiguous")):
        assert cy.post(f"/suspects/{n}", data={"decision": decision}).status_code == 422
        answer = cy.post(f"/suspects/{n}", data={"decision": decision, "reason": f"why {n}"}, follow_redirects=False)
        assert answer.status_code == 303
        assert cy.post(f"/suspects/{n}", data={"decision": "keep", "reason": "again"}).status_code == 422
    samples, summary = exported(world, tmp_path / "out")
    assert {uid: s["labels"] for uid, s in samples.items()} == {
        keep: ["scratch"], change: [], add: ["scratch"], rest: [],
    }  # fmt: skip
    assert (summary.adjudicated, summary.ambiguous) == (3, 1)
    assert samples[keep]["annotations"][0]["length_mm"] == 1.7
    with world.hub.store.reading() as session:
        rows = session.scalars(select(Suspect).order_by(Suspect.id)).all()
        told = [row for row in session.scalars(select(AuditRow)) if row.what == "suspect_decided"]
    assert [(r.decision, r.person, r.reason) for r in rows] == [
        ("keep", "Cy", "why 1"), ("change", "Cy", "why 2"), ("change", "Cy", "why 3"), ("ambiguous", "Cy", "why 4"),
    ]  # fmt: skip
    assert all(r.decided_ms for r in rows)
    assert len(told) == 4
    # Once somebody adjudicates it, the ambiguous frame leaves again.
    with world.hub.store.writing() as session:
        adjudication.decide(session, unclear, "Cy", "2 mm after all", 9, own={"scratch": 2.0})
    assert exported(world, tmp_path / "again")[0][unclear]["labels"] == ["scratch"]


def test_a_frame_adjudicated_meanwhile_is_not_decided_again_by_a_stale_page(world: World) -> None:
    uid = agreed(world, True)
    taken(world, line(uid, 0.1, ("scratch",)), line(uid, 0.2, ("scratch",), kind="mask"))
    cy = world.browser("Cy")
    assert cy.get("/suspects").text.count('name="decision" value="keep"') == 2
    with world.hub.store.writing() as session:
        adjudication.decide(session, uid, "Eve", "dust, wiped off", 9, own={})
    for n, decision in ((1, "keep"), (1, "change"), (2, "ambiguous")):
        refused = cy.post(f"/suspects/{n}", data={"decision": decision, "reason": "the label is right"})
        assert refused.status_code == 409
        assert "Eve decided it meanwhile: good (dust, wiped off)" in refused.text
    with world.hub.store.reading() as session:
        assert [d.person for d in adjudication.in_force(session, "scratch").values()] == ["Eve"]
        assert [s.decision for s in session.scalars(select(Suspect))] == ["", ""]


def test_an_ambiguous_frame_explains_the_rule(world: World) -> None:
    uid = agreed(world, True)
    taken(world, line(uid, 0.1, ("scratch",)))
    cy = world.browser("Cy")
    assert cy.post("/suspects/1/borderline").status_code == 422
    cy.post("/suspects/1", data={"decision": "ambiguous", "reason": "a smear or a scratch?"})
    assert cy.post("/suspects/1/borderline", follow_redirects=False).status_code == 303
    with world.hub.store.reading() as session:
        row = label_books.draft_of(session, "scratch")
        assert row is not None
        shown = label_books.frames_of(session, label_books.as_book(row))["scratch"]["borderline"]
    assert [(f.record.uid, f.note) for f in shown] == [(uid, "a smear or a scratch?")]


def test_an_outline_is_kept_or_drawn_again(world: World) -> None:
    uid = agreed(world, True)
    taken(world, line(uid, 0.1, ("scratch",), kind="mask"))
    cy = world.browser("Cy")
    text = cy.get("/suspects").text
    assert "the outline does not lie where the model sees it" in text
    assert f'href="/label/{uid}"' in text
    assert cy.post("/suspects/1", data={"decision": "change", "reason": "x"}).status_code == 422
    assert listed(world) == [uid]
    cy.post("/suspects/1", data={"decision": "keep", "reason": "the model follows a reflection"})
    assert "Nothing to review" in cy.get("/suspects").text


def test_the_page_says_what_each_says_and_is_for_engineers(world: World) -> None:
    taken(world, line(agreed(world, True), 0.1, ("scratch",)), line(agreed(world, False), 0.2))
    text = world.browser("Cy").get("/suspects").text
    assert "2 labels are in doubt" in text
    assert "Label: Scratch. Model: none, 0.10" in text
    assert "Label: no Scratch. Model: there is one, 0.90" in text
    assert world.browser("Ann").get("/suspects").status_code == 403


def test_the_command_takes_a_file_in_and_names_a_broken_line(world: World, tmp_path: Path) -> None:
    uid = agreed(world, True)
    file = tmp_path / "suspects.jsonl"
    file.write_text(line(uid, 0.1, ("scratch",)).model_dump_json() + "\n")
    told = ["suspects", str(file), "--data", str(world.hub.settings.data_dir)]
    done = CliRunner().invoke(app, told)
    assert done.exit_code == 0, done.output
    assert "1 labels in doubt added" in done.output
    file.write_text(file.read_text() + '{"cls": "scratch"}\n')
    with pytest.raises(InputError, match=r"suspects.jsonl:2"):
        suspects.read(file)
    assert CliRunner().invoke(app, told).exit_code == 2
