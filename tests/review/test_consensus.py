"""Labels weighed by reliability: on the page, in the export, and as far as the trainer's target."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspection.errors import DatasetError
from inspection.label_book import SCRATCH_BOOK
from review import adjudication
from review.export import export_folder
from review.labelling import encode_mask
from review.people import add_person
from tests.review.test_consistency import World


@pytest.fixture
def world(tmp_path: Path) -> World:
    world = World(tmp_path)
    add_person(world.hub.store, "Dan", "inspector")
    return world


def crew(world: World, count: int = 60) -> tuple[list[str], np.ndarray]:
    """Ann and Bob nearly never err; Dan calls every third frame wrong."""
    rng = np.random.default_rng(3)
    truth = rng.random(count) < 0.4
    uids = [world.frame() for _ in range(count)]
    for n, (uid, bad) in enumerate(zip(uids, truth, strict=True)):
        world.label(uid, "Ann", bool(bad))
        world.label(uid, "Bob", bool(bad))
        world.label(uid, "Dan", bool(bad != (n % 3 == 0)))
    return uids, truth


def exported(world: World, out: Path, *, soft: bool = False) -> dict[str, dict[str, object]]:
    export_folder(world.hub.store, world.hub.frames, out, soft=soft)
    return {s["source"][-32:]: s for s in map(json.loads, (out / "samples.jsonl").read_text().splitlines())}


def test_a_dispute_leaves_with_the_word_of_the_more_reliable(world: World, tmp_path: Path) -> None:
    crew(world)
    ann, dan = world.frame(), world.frame()
    for uid, by in ((ann, "Ann"), (dan, "Dan")):
        for person in ("Ann", "Dan"):
            world.label(uid, person, person == by)
    hard = exported(world, tmp_path / "hard")
    assert not {ann, dan} & set(hard)
    assert all(s["soft_labels"] is None for s in hard.values())
    soft = exported(world, tmp_path / "soft", soft=True)
    assert (soft[ann]["labels"], soft[dan]["labels"]) == (["scratch"], [])
    with_ann, with_dan = (soft[uid]["soft_labels"]["scratch"] for uid in (ann, dan))  # type: ignore[index]
    assert 0.5 < with_ann < 1
    assert 0 < with_dan < 0.5
    # Where the label says none but there may be one, no outline calls the place sound.
    assert soft[dan]["mask"] is None


def test_what_was_adjudicated_outranks_every_estimate(world: World, tmp_path: Path) -> None:
    crew(world)
    uid = world.frame()
    world.label(uid, "Ann", False)
    world.label(uid, "Dan", True)
    with world.hub.store.writing() as session:
        adjudication.decide(session, uid, "Cy", "1.8 mm by the gauge", 1, own={"scratch": 1.8})
    sample = exported(world, tmp_path / "soft", soft=True)[uid]
    assert (sample["labels"], sample["soft_labels"]) == (["scratch"], None)


def test_nobody_is_weighed_by_too_few_labels(world: World, tmp_path: Path) -> None:
    crew(world, count=10)
    with pytest.raises(DatasetError, match="too few to weigh people by"):
        exported(world, tmp_path / "soft", soft=True)
    assert not (tmp_path / "soft").exists()


def test_soft_labels_reach_the_trainers_target(world: World, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from training.dataset.build import Shares, build
    from training.dataset.item import Target
    from training.dataset.labelled import import_labelled
    from training.dataset.snapshot import read_snapshot
    from training.examples import collate, input_spec, load

    uids, _ = crew(world)
    image = np.random.default_rng(0).integers(0, 255, (60, 80, 3), np.uint8)
    disputed = world.frame(image=world.hub.frames.put(cv2.imencode(".png", image)[1].tobytes()))
    mask = np.zeros((60, 80), np.uint8)
    mask[10:20, 10:30] = 1
    world.label(disputed, "Ann", True, 1.8, mask=world.hub.frames.put(encode_mask(mask)))
    world.label(disputed, "Dan", False)
    soft = exported(world, tmp_path / "soft", soft=True)
    want = soft[disputed]["soft_labels"]["scratch"]  # type: ignore[index]
    target = Target("scratch", SCRATCH_BOOK)
    build(import_labelled(tmp_path / "soft", target), tmp_path / "snapshot", target, Shares(0, 0), ("hub",))
    snapshot = read_snapshot(tmp_path / "snapshot")
    (sample,) = [s for s in snapshot.samples if s.source.endswith(disputed)]
    assert sample.soft_labels == {"scratch": want}
    example = load(snapshot.folder, sample, input_spec(snapshot, 96, 64), SCRATCH_BOOK)
    assert example.target.tolist() == pytest.approx([want])
    assert collate([example, example], 4).target.ravel().tolist() == pytest.approx([want, want])
    assert len(uids) > 0


def test_the_page_says_how_reliable_each_person_is(world: World) -> None:
    cy = world.browser("Cy")
    crew(world, count=10)
    assert "of two people alone nobody can say who is right" in cy.get("/consistency?book=scratch").text
    crew(world, count=50)
    text = cy.get("/consistency?book=scratch").text
    assert "Calls a defect so" in text
    view = text[text.index("Calls a good one good") :]
    rows = re.findall(r"<td>(\w+)</td><td>60</td><td>([\d.]+) ", view)
    assert [person for person, _ in rows] == ["Ann", "Bob", "Dan"]
    ann, bob, dan = (float(value) for _, value in rows)
    assert min(ann, bob) > 0.9 > 0.8 > dan


def test_the_download_brings_soft_labels_when_asked_for(world: World) -> None:
    crew(world)
    cy = world.browser("Cy")
    assert "/labels/export.zip?soft=true" in cy.get("/label").text
    found = {}
    for query in ("", "?soft=true"):
        with zipfile.ZipFile(io.BytesIO(cy.get(f"/labels/export.zip{query}").content)) as archive:
            lines = archive.read("haltline-labels-scratch/samples.jsonl").splitlines()
        found[query] = [json.loads(line)["soft_labels"] for line in lines]
    assert not any(found[""])
    assert all(set(soft) == {"scratch"} for soft in found["?soft=true"] if soft)
    assert len(found["?soft=true"]) == 60
