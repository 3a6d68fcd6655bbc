"""Labels leave the hub as COCO, Label Studio and YOLO and come back to a snapshot with the same pixels and rules."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from fastapi.testclient import TestClient
from typer.testing import CliRunner

from review import label_books, publishing
from review.cli import app as cli
from review.labelling import encode_mask
from tests.review.test_consistency import World
from training.dataset.build import Shares, build
from training.dataset.snapshot import Snapshot, read_snapshot
from training.dataset.sources import make_target, open_source


def blob(hole: bool) -> np.ndarray:
    mask = np.zeros((60, 80), np.uint8)
    cv2.circle(mask, (40, 30), 17, 1, -1)
    if hole:
        cv2.circle(mask, (38, 28), 6, 0, -1)
    return mask


@pytest.fixture
def world(tmp_path: Path) -> World:
    """Two painted frames and a good one, each agreed by two, under a version published on this hub."""
    world = World(tmp_path / "hub")
    with world.hub.store.writing() as session:
        row = label_books.draft(session, "scratch", "Cy", "a limit of our own", 1)
        label_books.set_rule(session, row, "scratch", limit_mm=2.25)
        publishing.publish(session, row, "Cy", label_books.FramesNeeded(0, 0, 0), 2)
    for hole in (False, True, None):
        uid = world.frame()
        mask = None if hole is None else world.hub.frames.put(encode_mask(blob(hole)))
        for person in ("Ann", "Bob"):
            size = None if hole is None else 1.7
            world.label(uid, person, hole is not None, size, mask=mask, label_book="scratch@2")
    return world


def taken_in(folder: Path, out: Path) -> Snapshot:
    source = open_source(folder)
    target = make_target([source], None, None, None, None)
    build(source.items(target), out, target, Shares(), (str(folder),))
    return read_snapshot(out)


def downloaded(world: World, tmp_path: Path, form: str) -> Path:
    client = TestClient(world.app, base_url="http://hub")
    client.post("/who", data={"name": "Cy"})
    answer = client.get(f"/labels/export.zip?form={form}")
    assert answer.status_code == 200, answer.text
    with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
        archive.extractall(tmp_path / form)
    (folder,) = (tmp_path / form).iterdir()
    return folder


def painted(snapshot: Snapshot) -> list[np.ndarray]:
    masks = [cv2.imread(str(snapshot.folder / s.mask), cv2.IMREAD_UNCHANGED) for s in snapshot.samples if s.mask]
    return sorted((m for m in masks if m is not None), key=lambda m: int(m.sum()))


@pytest.mark.parametrize("form", ["labelled", "coco", "label-studio", "pairs"])
def test_masks_rules_and_people_come_back_unchanged(world: World, tmp_path: Path, form: str) -> None:
    back = taken_in(downloaded(world, tmp_path, form), tmp_path / "snapshot")
    assert (back.manifest.label_book.id, back.manifest.label_book.rules[0].limit_mm) == ("scratch@2", 2.25)
    wanted: list[Any] = [np.zeros((60, 80), np.uint8), blob(True), blob(False)]
    assert all(np.array_equal(a, b) for a, b in zip(wanted, painted(back), strict=True))
    assert {s.label_book for s in back.samples} == {"scratch@2"}
    assert {s.labelled_by for s in back.samples} == {("Ann", "Bob")}
    assert {s.group.split("/")[-1] for s in back.samples} == {"P1", "P2", "P3"}
    assert sorted(s.labels for s in back.samples) == [(), ("scratch",), ("scratch",)]
    assert {s.part for s in back.samples} == {"P1", "P2", "P3"}
    assert {s.model for s in back.samples} == {"scratch-1"}
    assert all(s.source.startswith("hub:record=") for s in back.samples)


def test_yolo_comes_back_as_boxes_within_half_a_pixel(world: World, tmp_path: Path) -> None:
    back = taken_in(downloaded(world, tmp_path, "yolo"), tmp_path / "snapshot")
    boxes = [a.box_px for s in back.samples for a in s.annotations]
    assert len(boxes) == 2
    assert np.abs(np.array(boxes) - (23, 13, 35, 35)).max() < 0.5
    assert {s.label_book for s in back.samples} == {"scratch@2"}


def test_the_command_writes_the_same_and_refuses_an_unknown_form(world: World, tmp_path: Path) -> None:
    data = str(world.hub.settings.data_dir)
    done = CliRunner().invoke(cli, ["export", str(tmp_path / "ls"), "--data", data, "--format", "label-studio"])
    assert done.exit_code == 0, done.output
    assert (tmp_path / "ls" / "tasks.json").is_file()
    assert not (tmp_path / "ls" / "labelled.json").exists()
    wrong = CliRunner().invoke(cli, ["export", str(tmp_path / "no"), "--data", data, "--format", "voc"])
    assert wrong.exit_code != 0
    assert not (tmp_path / "no").exists()


def test_a_form_nobody_knows_is_no_error_of_the_hub(world: World) -> None:
    client = TestClient(world.app, base_url="http://hub")
    client.post("/who", data={"name": "Cy"})
    assert client.get("/labels/export.zip?form=voc").status_code == 422
