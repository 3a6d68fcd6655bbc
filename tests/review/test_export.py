"""Labels -> a labelled folder: what leaves, what does not, and where the mask lies. Real SQLite, real files."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from inspection.bundle import sha256
from inspection.errors import DatasetError
from inspection.label_book import SCRATCH_BOOK
from inspection.samples import HEADER_FILE, SAMPLES_FILE, LabelledHeader, Sample
from review.cli import app as cli
from review.export import ARRIVING, Moment, _part, export_folder, export_zip, groups_of
from review.frames import FolderFrames
from review.hub import Hub
from review.label_queue import save
from review.labelling import CheckedLabel, Mark, encode_mask
from review.settings import Settings
from review.store import Record, Station, Store
from tests.review.factory import REPO

W, H = 80, 60


class World:
    """A hub's store with one station; `frame` adds a record, `label` a person's label of it."""

    def __init__(self, folder: Path) -> None:
        self.store = Store(f"sqlite:///{folder / 'hub.db'}")
        self.store.migrate()
        self.frames = FolderFrames(folder / "frames")
        self.count = 0
        with self.store.writing() as session:
            station = Station(site="p", line="l", station="s")
            session.add(station)
            session.flush()
            self.station_id = station.id

    def frame(self, *, ts_ms: int | None = None, part: str = "", halt: int = 0, book: str = "scratch@1") -> str:
        self.count += 1
        image = np.full((H, W, 3), self.count, np.uint8)
        row = Record(
            uid=f"{self.count:032x}", station_id=self.station_id, why=["uncertain"], camera="cam", frame_id=self.count,
            ts_ms=ts_ms if ts_ms is not None else self.count * 100_000, call="uncertain", scores={}, findings=[],
            image=self.frames.put(cv2.imencode(".png", image)[1].tobytes()), heat=None, heat_cls="", heat_to_frame=[],
            px_per_mm=10.0, width_px=W, height_px=H, halt=halt, part=part, model="", policy="", label_book=book,
            stages_ms={}, received_ms=0,
        )  # fmt: skip
        with self.store.writing() as session:
            session.add(row)
        return row.uid

    def label(self, uid: str, person: str, *classes: str, mask: np.ndarray | None = None, mm: float = 0) -> None:
        marks = (Mark(cls="scratch", box_px=(10, 10, 20, 2), length_mm=mm),) if mm else ()
        png = None if mask is None else encode_mask(mask)
        checked = CheckedLabel(SCRATCH_BOOK.id, classes, False, marks, png)
        sha = None if png is None else self.frames.put(png)
        with self.store.writing() as session:
            save(session, uid, person, checked, sha, 1)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def stroke(x: int, y: int, w: int, h: int) -> np.ndarray:
    mask = np.zeros((H, W), np.uint8)
    mask[y : y + h, x : x + w] = 1
    return mask


def read(folder: Path) -> dict[str, Sample]:
    """Uid -> sample, each line held to the format and each file to its sha256."""
    header = LabelledHeader.model_validate_json((folder / HEADER_FILE).read_bytes())
    assert header.classes == SCRATCH_BOOK.classes
    assert header.label_book == "scratch@1"
    samples = {}
    for line in (folder / SAMPLES_FILE).read_text().splitlines():
        sample = Sample.model_validate_json(line)
        assert sha256((folder / sample.image).read_bytes()) == sample.image_sha256
        if sample.mask is not None:
            assert sha256((folder / sample.mask).read_bytes()) == sample.mask_sha256
        samples[sample.source.removeprefix("hub:record=")] = sample
    return samples


def test_what_two_people_agree_on_leaves_with_both_names_and_the_joined_mask(world: World, tmp_path: Path) -> None:
    uid = world.frame(part="A7")
    world.label(uid, "ann", "scratch", mask=stroke(10, 10, 20, 2), mm=2.0)
    world.label(uid, "bob", "scratch", mask=stroke(11, 11, 20, 2), mm=2.2)
    summary = export_folder(world.store, world.frames, tmp_path / "out")
    assert (summary.exported, summary.agreed, len(summary.disputed)) == (1, 1, 0)
    sample = read(tmp_path / "out")[uid]
    assert sample.labelled_by == ("ann", "bob")
    assert sample.labels == ("scratch",)
    assert sample.group == "p~l~s/cam/part/A7"
    assert (sample.px_per_mm, sample.label_book) == (10.0, "scratch@1")
    assert [(a.cls, a.length_mm) for a in sample.annotations] == [("scratch", 2.1)]
    mask = cv2.imread(str(tmp_path / "out" / str(sample.mask)), cv2.IMREAD_UNCHANGED)
    assert np.array_equal(mask, np.maximum(stroke(10, 10, 20, 2), stroke(11, 11, 20, 2)))


def test_good_frames_leave_with_a_sound_mask_and_measured_short_scratches_without(world: World, tmp_path: Path) -> None:
    uid = world.frame()
    world.label(uid, "ann", mm=1.0)
    world.label(uid, "bob")
    export_folder(world.store, world.frames, tmp_path / "out")
    sample = read(tmp_path / "out")[uid]
    assert sample.labels == ()
    assert sample.annotations == ()
    assert not cv2.imread(str(tmp_path / "out" / str(sample.mask)), cv2.IMREAD_UNCHANGED).any()


def test_disputes_and_single_labels_stay_and_are_counted(world: World, tmp_path: Path) -> None:
    agreed, disputed, single = world.frame(), world.frame(), world.frame()
    for person in ("ann", "bob"):
        world.label(agreed, person, "scratch")
    world.label(disputed, "ann", "scratch")
    world.label(disputed, "bob")
    world.label(single, "ann")
    summary = export_folder(world.store, world.frames, tmp_path / "out")
    assert (summary.exported, summary.disputed, summary.too_few) == (1, [disputed], 1)
    assert read(tmp_path / "out")[agreed].mask is None  # a scratch nobody painted: no mask that calls it sound
    assert "1 to adjudicate" in summary.line()
    with_single = export_folder(world.store, world.frames, tmp_path / "single", allow_single=True)
    assert set(read(tmp_path / "single")) == {agreed, single}
    assert with_single.single == 1


def test_a_third_label_settles_a_dispute_and_a_relabel_supersedes(world: World, tmp_path: Path) -> None:
    outvoted, changed = world.frame(), world.frame()
    world.label(outvoted, "ann", "scratch")
    world.label(outvoted, "bob")
    world.label(outvoted, "cy", "scratch")
    world.label(changed, "ann", "scratch")
    world.label(changed, "bob")
    world.label(changed, "ann")
    summary = export_folder(world.store, world.frames, tmp_path / "out")
    samples = read(tmp_path / "out")
    assert (summary.majority, summary.agreed) == (1, 1)
    assert samples[outvoted].labelled_by == ("ann", "cy")
    assert samples[changed].labels == ()


def test_a_lost_picture_is_named_and_the_rest_leaves(world: World, tmp_path: Path) -> None:
    lost, kept = world.frame(), world.frame()
    for uid in (lost, kept):
        world.label(uid, "ann")
        world.label(uid, "bob")
    with world.store.reading() as session:
        sha = session.get(Record, 1).image  # type: ignore[union-attr]
    (tmp_path / "frames" / str(sha)[:2] / str(sha)).unlink()
    summary = export_folder(world.store, world.frames, tmp_path / "out")
    assert summary.unreadable == [lost]
    assert set(read(tmp_path / "out")) == {kept}


def test_nothing_half_is_left_behind(world: World, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="labelled yet"):
        export_folder(world.store, world.frames, tmp_path / "out")
    world.label(world.frame(), "ann")
    with pytest.raises(DatasetError, match="nothing to export"):
        export_folder(world.store, world.frames, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "x").touch()
    with pytest.raises(DatasetError, match="not empty"):
        export_folder(world.store, world.frames, tmp_path / "taken")


def test_a_form_without_a_word_for_them_leaves_nothing_in_the_next_ones_way(world: World, tmp_path: Path) -> None:
    """The refused export's own folder stayed, under the name that was asked for, and the next was refused for it."""
    uid = world.frame()
    for person in ("ann", "bob"):
        world.label(uid, person, "scratch")  # as a class for the frame, nobody painted
    data = ["--data", str(tmp_path)]
    run = CliRunner().invoke
    refused = run(cli, ["export", str(tmp_path / "out"), *data, "--format", "coco"])
    assert (refused.exit_code, "nobody painted" in refused.output) == (2, True)
    done = run(cli, ["export", str(tmp_path / "out"), *data, "--format", "label-studio"])
    assert done.exit_code == 0, done.output
    assert not list(tmp_path.glob(".out*"))


def test_an_export_that_is_killed_leaves_nothing_half_and_what_it_had_made_goes(world: World, tmp_path: Path) -> None:
    """Killed for real while it moves pictures: the folder was there with some of its pictures gone, and the copies of
    the rest stayed beside it for ever."""
    uid = world.frame()
    for person in ("ann", "bob"):
        world.label(uid, person)
    command = [sys.executable, "-c", f"""
import os, signal
from pathlib import Path
from review.cli import app
Path.rename = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
app(["export", {str(tmp_path / "out")!r}, "--data", {str(tmp_path)!r}, "--format", "coco"])
"""]  # fmt: skip
    assert subprocess.run(command, cwd=REPO).returncode == -signal.SIGKILL
    assert not (tmp_path / "out").exists()
    assert [path.name for path in tmp_path.glob(".out*")] == [".out.export.part"]
    with pytest.raises(DatasetError, match="another export"), _part(tmp_path / "out"):
        export_folder(world.store, world.frames, tmp_path / "out")
    export_folder(world.store, world.frames, tmp_path / "out", form="coco")
    assert not list(tmp_path.glob(".out*"))


def test_the_zip_holds_one_folder(world: World, tmp_path: Path) -> None:
    uid = world.frame()
    world.label(uid, "ann")
    world.label(uid, "bob")
    path, _ = export_zip(world.store, world.frames, tmp_path)
    with zipfile.ZipFile(path) as archive:
        archive.extractall(tmp_path / "unpacked")
        assert json.loads(archive.read(f"haltline-labels-scratch/{HEADER_FILE}"))["task"] == "scratch"
    assert set(read(tmp_path / "unpacked" / "haltline-labels-scratch")) == {uid}


def moment(uid: str, ts_ms: int, *, part: str = "", halt: int = 0, place: str = "s/cam") -> Moment:
    return Moment(uid, place, ts_ms, part, halt)


def test_frames_of_one_event_share_a_group() -> None:
    groups = groups_of([moment("a", 0), moment("b", 1500), moment("c", 2900), moment("d", 9000)])
    assert groups["a"] == groups["b"] == groups["c"] != groups["d"]


def test_a_part_is_a_group_however_far_apart_its_frames() -> None:
    groups = groups_of([moment("a", 0, part="7"), moment("b", 10**9, part="7"), moment("c", 10, part="8")])
    assert groups["a"] == groups["b"] == "s/cam/part/7"
    assert groups["c"] == "s/cam/part/8"


def test_a_halt_holds_its_frames_together_and_with_what_led_to_it() -> None:
    groups = groups_of([moment("before", 0), moment("halt", 500, halt=9), moment("late", 50_000, halt=9)])
    assert groups["before"] == groups["halt"] == groups["late"]


def test_another_camera_is_another_group_and_an_event_ends_after_a_minute() -> None:
    stream = [moment(f"{n:03}", n * 1000) for n in range(120)]
    groups = groups_of([*stream, moment("x", 0, place="s/other")])
    assert len({groups[m.uid] for m in stream}) == 2
    assert groups["x"] != groups["000"]


def test_the_command_exports_and_names_the_disputes(world: World, tmp_path: Path) -> None:
    agreed, disputed = world.frame(), world.frame()
    for uid, classes in ((agreed, ()), (disputed, ("scratch",))):
        world.label(uid, "ann", *classes)
        world.label(uid, "bob")
    run = CliRunner().invoke
    done = run(cli, ["export", str(tmp_path / "out"), "--data", str(tmp_path)])
    assert done.exit_code == 0
    assert f"to adjudicate: /label/{disputed}" in done.output
    assert set(read(tmp_path / "out")) == {agreed}
    missing = run(cli, ["export", str(tmp_path / "out2"), "--data", str(tmp_path / "nowhere")])
    assert (missing.exit_code, "holds no hub.db" in missing.output) == (2, True)


def test_what_a_killed_hub_was_packing_goes_with_a_later_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    old, young = (Path(tempfile.mkdtemp(prefix=ARRIVING)) for _ in range(2))
    (old / "labels.zip").write_bytes(b"half")
    os.utime(old, (0, 0))
    Hub.build(Settings(data_dir=tmp_path / "hub")).store.close()
    assert (old.exists(), young.exists()) == (False, True)
