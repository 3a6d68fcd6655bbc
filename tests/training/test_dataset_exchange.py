"""Out to COCO, Label Studio and YOLO and back: to the pixel, with part, people and rules; and what a diff says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from inspection.errors import DatasetError
from inspection.exchange import FORMS, KEPT, Form
from inspection.label_book import BOOKS
from inspection.outline import brush_rle, coco_counts, fill, from_brush_rle, from_coco_counts, regions
from tests.training.pictures import SCRATCH, Folder, picture, scratched
from training.dataset.build import Shares, build
from training.dataset.commands import dataset
from training.dataset.diff import diff
from training.dataset.export import export_snapshot
from training.dataset.snapshot import Snapshot, read_snapshot
from training.dataset.sources import Format, make_target, open_source


def imported(path: Path, out: Path, format: Format = Format.AUTO) -> Snapshot:
    source = open_source(path, format)
    target = make_target([source], None, None, None, None)
    build(source.items(target), out, target, Shares(0.2, 0.2), (str(path),))
    return read_snapshot(out)


def blob(seed: int, size: tuple[int, int] = (64, 80)) -> np.ndarray:
    """An uneven shape with a hole, and a crumb that touches it at a corner only."""
    mask = np.zeros(size, np.uint8)
    rng = np.random.default_rng(seed)
    points = np.array([[20, 12], [58, 15], [62, 48], [30, 52]]) + rng.integers(-4, 5, (4, 2))
    cv2.fillPoly(mask, [points.astype(np.int32)], 1)
    mask[25:32, 38:45] = 0
    mask[5:8, 5:9] = mask[8:10, 9:12] = 1
    return mask


@pytest.fixture
def source(tmp_path: Path) -> Snapshot:
    """A hub's folder: scratches, a shape with a hole, one under the limit, a good one, a box, a class without place."""
    folder = Folder(tmp_path / "hub")
    mark = {"cls": "scratch", "box_px": [6.0, 11.0, 40.0, 2.0], "length_mm": 4.25}
    who = {"labelled_by": ["Ann", "Bob"], "label_book": SCRATCH.id, "part": "P-7", "model": "scratch-0.1.0"}
    folder.add(*scratched(1, 40), labels=["scratch"], annotations=[mark], group="part-1", split="test", **who)
    folder.add(picture(2), blob(2), labels=["scratch"], group="part-2", **who)
    folder.add(*scratched(3, 8), labels=[], group="part-3", **who)  # drawn, measured, under 1.5 mm
    folder.add(picture(4), np.zeros((64, 80), np.uint8), labels=[], group="part-4", **who)
    box = {"cls": "scratch", "box_px": [10.25, 20.5, 30.75, 6.125], "length_mm": 3.1}
    folder.add(picture(5), None, labels=["scratch"], annotations=[box], group="part-5", **who)
    folder.add(picture(6), None, labels=["scratch"], group="part-6", soft_labels={"scratch": 0.7}, **who)
    return imported(folder.root, tmp_path / "snapshot")


def mask_of(snapshot: Snapshot, sample: Any) -> np.ndarray | None:
    return None if sample.mask is None else cv2.imread(str(snapshot.folder / sample.mask), cv2.IMREAD_UNCHANGED)


def by_image(snapshot: Snapshot) -> dict[str, Any]:
    return {s.image_sha256: s for s in snapshot.samples}


@pytest.mark.parametrize("form", ["coco", "label-studio"])
def test_a_round_trip_keeps_every_pixel_and_every_word(tmp_path: Path, source: Snapshot, form: Form) -> None:
    written = export_snapshot(source, form, tmp_path / "there")
    back = imported(tmp_path / "there", tmp_path / "back")
    before, after = by_image(source), by_image(back)
    assert len(after) == len(before) - len(written.left_out)
    for key, s in after.items():
        was, now = mask_of(source, before[key]), mask_of(back, s)
        assert (was is None) == (now is None)
        assert was is None or np.array_equal(was, now)
        for field in KEPT:
            assert getattr(s, field) == getattr(before[key], field), field
        assert s.labels == before[key].labels
        for a, b in zip(before[key].annotations, s.annotations, strict=False):
            assert a.length_mm == b.length_mm
            if before[key].mask is None or before[key].mask.endswith(".boxes.png"):
                assert np.abs(np.array(a.box_px) - b.box_px).max() < 0.5
    assert back.manifest.label_book == source.manifest.label_book


def test_label_studio_keeps_a_class_nobody_placed_and_coco_leaves_it_out(tmp_path: Path, source: Snapshot) -> None:
    lost = [s for s in source.samples if s.group == "part-6"][0].image  # noqa: RUF015
    assert export_snapshot(source, "label-studio", tmp_path / "ls").left_out == []
    assert export_snapshot(source, "coco", tmp_path / "coco").left_out == [lost]
    assert export_snapshot(source, "yolo", tmp_path / "yolo").left_out == [lost]
    assert not (tmp_path / "coco" / lost).exists()


def test_yolo_gives_the_boxes_of_what_was_painted_within_half_a_pixel(tmp_path: Path, source: Snapshot) -> None:
    export_snapshot(source, "yolo", tmp_path / "there")
    back = imported(tmp_path / "there", tmp_path / "back")
    for key, s in by_image(back).items():
        was = by_image(source)[key]
        assert (s.labels, s.group, s.split, s.labelled_by) == (was.labels, was.group, was.split, was.labelled_by)
        mask = mask_of(source, was)
        if was.labels and mask is not None and not was.mask.endswith(".boxes.png"):
            wanted = sorted(r.box_px for r in regions(mask == 1))
            assert np.abs(np.array(wanted) - sorted(a.box_px for a in s.annotations)).max() < 0.5
        for a, b in zip(was.annotations, s.annotations, strict=False):
            if mask is None or was.mask.endswith(".boxes.png"):
                assert np.abs(np.array(a.box_px) - b.box_px).max() < 0.5


def doubts(path: Path) -> dict[str, tuple[tuple[str, ...], str]]:
    """By group: the labels an import takes, and what it says of them."""
    opened = open_source(path)
    items = opened.items(make_target([opened], None, None, None, None))
    return {i.group: (tuple(i.labels or ()), i.doubt) for i in items}


def test_a_yolo_label_file_that_was_mended_counts_and_is_told(tmp_path: Path, source: Snapshot) -> None:
    export_snapshot(source, "yolo", tmp_path / "there")
    stem = {s.group: s.image_sha256 for s in source.samples}
    there = tmp_path / "there"
    before = doubts(there)
    assert before["part-3"] == ((), ""), "a scratch under the limit was drawn, and is no defect"
    assert not any(doubt for _, doubt in before.values())
    files = {group: there / "labels" / f"{stem[group]}.txt" for group in before}
    files["part-4"].write_text("0 .5 .5 .2 .2\n")  # a box on a good picture
    files["part-3"].write_text(files["part-3"].read_text().replace("0000 ", " ") + "0 .8 .8 .1 .1\n")
    files["part-1"].write_text("")
    own = there / "haltline.json"
    after = doubts(there)
    assert after["part-4"] == (
        ("scratch",),
        f"is good in {own} and scratch by the boxes in {files['part-4']}, which count",
    )
    assert after["part-3"][0] == ("scratch",)
    assert after["part-1"] == ((), f"is scratch in {own} and good by the boxes in {files['part-1']}, which count")
    assert after["part-5"] == before["part-5"]
    run = CliRunner().invoke(dataset, ["import", str(there), "--out", str(tmp_path / "back")], env={"COLUMNS": "999"})
    assert "3 in doubt" in run.output
    assert f"{there / 'images' / stem['part-4']}.png: is good in" in run.output


def test_a_yolo_export_of_before_says_of_no_box_that_it_is_none(tmp_path: Path, source: Snapshot) -> None:
    export_snapshot(source, "yolo", tmp_path / "there")
    path = tmp_path / "there" / "haltline.json"
    own = json.loads(path.read_text())
    for known in own["pictures"].values():
        del known["no_defects"]
    path.write_text(json.dumps(own))
    labels, doubt = doubts(tmp_path / "there")["part-3"]
    assert labels == ("scratch",), "nobody can tell it from a box that was drawn since"
    assert "is good in" in doubt


def test_a_class_changed_in_a_yolo_file_is_not_lost(tmp_path: Path, welds: Snapshot) -> None:
    export_snapshot(welds, "yolo", tmp_path / "there")
    stem = next(s.image_sha256 for s in welds.samples if s.group == "part-0")
    path = tmp_path / "there" / "labels" / f"{stem}.txt"
    path.write_text("".join(f"1{line[1:]}\n" for line in path.read_text().splitlines()))
    opened = open_source(tmp_path / "there")
    (item,) = (i for i in opened.items(make_target([opened], None, None, None, None)) if i.group == "part-0")
    assert (item.labels, item.soft_labels) == (("undercut",), None)
    assert "is porosity in" in item.doubt


def test_a_picture_moved_to_the_good_ones_of_mvtec_is_good_and_told(tmp_path: Path, source: Snapshot) -> None:
    export_snapshot(source, "mvtec", tmp_path / "there")
    stem = next(s.image_sha256 for s in source.samples if s.group == "part-1")
    (tmp_path / "there/test/scratch" / f"{stem}.png").rename(tmp_path / "there/train/good" / f"{stem}.png")
    labels, doubt = doubts(tmp_path / "there")["part-1"]
    assert labels == ()
    assert doubt == f"is scratch in {tmp_path / 'there/haltline.json'} and lies with the good ones, which counts"


@pytest.mark.parametrize("form", ["pairs", "mvtec"])
def test_folders_with_masks_come_back_with_every_outline_length_and_word(
    tmp_path: Path, source: Snapshot, form: Form
) -> None:
    written = export_snapshot(source, form, tmp_path / "there")
    back = imported(tmp_path / "there", tmp_path / "back")
    before, after = by_image(source), by_image(back)
    groups = {s.image: s.group for s in source.samples}
    assert {groups[name] for name in written.left_out} == {"part-5", "part-6"}, "nobody outlined them"
    assert len(after) == 4
    for key, s in after.items():
        for field in (*KEPT, "labels", "annotations"):
            assert getattr(s, field) == getattr(before[key], field), field
        was, now = mask_of(source, before[key]), mask_of(back, s)
        if form == "pairs" or s.labels:  # MVTec's good pictures have no mask
            assert was is not None
            assert now is not None
            assert np.array_equal(was, now)
    assert back.manifest.label_book == source.manifest.label_book


def test_a_mask_changed_elsewhere_is_judged_by_the_rules(tmp_path: Path, source: Snapshot) -> None:
    export_snapshot(source, "pairs", tmp_path / "there")
    key = next(s.image_sha256 for s in source.samples if s.group == "part-1")
    path = tmp_path / "there" / "masks" / f"{key}.png"
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert mask is not None
    mask[:, 12:] = 0  # 6 px are left of 40: 0.6 mm
    cv2.imwrite(str(path), mask)
    s = by_image(imported(tmp_path / "there", tmp_path / "back"))[key]
    assert (s.labels, s.annotations, s.part, s.labelled_by) == ((), (), "P-7", ("Ann", "Bob"))


@pytest.fixture
def welds(tmp_path: Path) -> Snapshot:
    """One pore with its length and a probability per class, one undercut, a good one."""
    folder = Folder(tmp_path / "welds", BOOKS["weld"])
    pore = {"cls": "porosity", "box_px": [20.0, 12.0, 40.0, 40.0], "length_mm": 4.25}
    soft = {"porosity": 0.4, "undercut": 0.6, "burn_through": 0.0}
    folder.add(picture(1), blob(1), labels=["porosity"], annotations=[pore], soft_labels=soft)
    folder.add(picture(2), blob(2) * np.uint8(2), labels=["undercut"])
    folder.add(picture(3), np.zeros((64, 80), np.uint8), labels=[])
    return folder.snapshot(tmp_path / "snapshot")


@pytest.mark.parametrize("form", ["coco", "label-studio", "yolo", "mvtec"])
def test_of_our_own_export_too_one_class_takes_every_defect(tmp_path: Path, welds: Snapshot, form: Form) -> None:
    export_snapshot(welds, form, tmp_path / "there")
    opened = open_source(tmp_path / "there")
    target = make_target([opened], "weld", "porosity", None, None)
    build(opened.items(target), tmp_path / "back", target, Shares(), ("there",))
    after = by_image(read_snapshot(tmp_path / "back"))
    assert {s.group: after[s.image_sha256].labels for s in welds.samples} == {
        "part-0": ("porosity",),
        "part-1": ("porosity",),
        "part-2": (),
    }
    pore = next(after[s.image_sha256] for s in welds.samples if s.group == "part-0")
    assert pore.soft_labels is None, "how sure people were of one class is not how sure of any"
    assert form == "yolo" or [a.length_mm for a in pore.annotations if a.length_mm] == [4.25]


@pytest.mark.parametrize("form", ["yolo", "mvtec"])
def test_a_class_that_the_snapshot_does_not_have_is_refused_and_not_lost(
    tmp_path: Path, welds: Snapshot, form: Form
) -> None:
    export_snapshot(welds, form, tmp_path / "there")
    path = tmp_path / "there" / "haltline.json"
    own = json.loads(path.read_text())
    key = next(s.image_sha256 for s in welds.samples if s.group == "part-0")
    own["pictures"][key]["labels"] = ["pore"]
    path.write_text(json.dumps(own))
    with pytest.raises(
        DatasetError, match=rf"haltline.json: {key}.png: the class 'pore' is not one of .*\n.*--classes"
    ):
        imported(tmp_path / "there", tmp_path / "back")


def test_the_second_class_comes_back_from_mvtec_as_people_called_it(tmp_path: Path) -> None:
    folder = Folder(tmp_path / "welds", BOOKS["weld"])
    mask = np.zeros((64, 80), np.uint8)
    mask[10:12, 6:12] = 2  # 0.6 mm of undercut, where the rule begins at 1
    groove = {"cls": "undercut", "box_px": [6.0, 10.0, 6.0, 2.0], "length_mm": 0.6}
    folder.add(picture(2), mask, labels=["undercut"], annotations=[groove])
    folder.add(picture(3), np.zeros((64, 80), np.uint8), labels=[])
    export_snapshot(folder.snapshot(tmp_path / "snapshot"), "mvtec", tmp_path / "there")
    back = imported(tmp_path / "there", tmp_path / "back").samples
    assert sorted((s.labels, [a.length_mm for a in s.annotations]) for s in back) == [((), []), (("undercut",), [0.6])]


def test_mvtec_folders_are_as_others_read_them(tmp_path: Path, source: Snapshot) -> None:
    export_snapshot(source, "mvtec", tmp_path / "there")
    masks = sorted((tmp_path / "there" / "ground_truth" / "scratch").iterdir())
    assert len(masks) == 2
    for path in masks:
        assert set(np.unique(cv2.imread(str(path), cv2.IMREAD_UNCHANGED))) == {0, 255}
        assert (tmp_path / "there" / "test" / "scratch" / f"{path.stem.removesuffix('_mask')}.png").is_file()
    assert not (tmp_path / "there" / "images").exists()


def test_lineage_names_people_rule_frame_part_and_model(source: Snapshot) -> None:
    run = CliRunner().invoke
    s = source.samples[0]
    one = run(dataset, ["lineage", str(source.folder), s.image_sha256[:12]])
    assert one.exit_code == 0, one.output
    for word in ("Ann, Bob", SCRATCH.id, "limit 1.5 mm", "P-7", "scratch-0.1.0", s.image):
        assert word in one.stdout, word
    every = run(dataset, ["lineage", str(source.folder), "--json"]).stdout.splitlines()
    assert len(every) == len(source.samples)
    assert json.loads(every[0])["model"] == "scratch-0.1.0"
    assert "6" in run(dataset, ["lineage", str(source.folder)]).stdout.split("scratch-0.1.0")[1]
    assert run(dataset, ["lineage", str(source.folder), "nothing"]).exit_code != 0


def test_what_was_changed_in_label_studio_holds(tmp_path: Path, source: Snapshot) -> None:
    export_snapshot(source, "label-studio", tmp_path / "there")
    path = tmp_path / "there" / "tasks.json"
    tasks = json.loads(path.read_text())
    good = next(t for t in tasks if t["data"]["haltline"]["group"] == "part-4")
    size = {"original_width": 80, "original_height": 64, "image_rotation": 0, "to_name": "image"}
    square = {"points": [[25, 25], [50, 25], [50, 50], [25, 50]], "closed": True, "polygonlabels": ["scratch"]}
    good["annotations"][0]["result"] = [
        {"id": "a", "type": "choices", "from_name": "classes", "value": {"choices": ["scratch"]}, **size},
        {"id": "b", "type": "polygonlabels", "from_name": "outline", "value": square, **size},
    ]
    path.write_text(json.dumps(tasks))
    back = imported(tmp_path / "there", tmp_path / "back")
    (sample,) = [s for s in back.samples if s.group == "part-4"]
    assert sample.labels == ("scratch",)
    mask = mask_of(back, sample)
    assert mask is not None
    assert (mask[16:32, 20:40] == 1).all()
    assert int(mask.sum()) == 16 * 20


def test_label_studio_from_elsewhere_boxes_turned_and_straight(tmp_path: Path) -> None:
    (tmp_path / "s" / "images").mkdir(parents=True)
    for n in range(4):
        cv2.imwrite(str(tmp_path / "s" / "images" / f"{n}.png"), picture(n))

    def box(rotation: float) -> dict[str, Any]:
        value = {"x": 50, "y": 25, "width": 25, "height": 12.5, "rotation": rotation, "rectanglelabels": ["Deep Crack"]}
        return {"type": "rectanglelabels", "value": value}

    def task(n: int, *results: dict[str, Any], **more: Any) -> dict[str, Any]:
        named = f"/data/local-files/?d=set/images/{n}.png"
        return {"data": {"image": named}, "annotations": [{"result": list(results), **more}]}

    tasks = [task(0, box(0)), task(1, box(90)), task(2), task(3, box(0), was_cancelled=True)]
    (tmp_path / "s" / "tasks.json").write_text(json.dumps(tasks))
    found = imported(tmp_path / "s", tmp_path / "out")
    assert found.manifest.classes == ("deep_crack",)
    assert len(found.samples) == 3, "a cancelled annotation says nothing"
    masks = {s.group: mask_of(found, s) for s in found.samples}
    straight, turned, good = masks["0"], masks["1"], masks["2"]
    assert straight is not None and turned is not None and good is not None  # noqa: PT018
    assert (straight[16:24, 40:60] == 1).all()
    assert int(straight.sum()) == 160
    assert (turned[16:36, 32:40] == 1).all()
    assert int(turned.sum()) == 160
    assert good.sum() == 0


@pytest.mark.parametrize(
    ("result", "what"),
    [
        ({"type": "keypointlabels", "value": {"keypointlabels": ["scratch"]}}, "keypointlabels"),
        ({"type": "polygonlabels", "value": {"polygonlabels": ["scratch"]}}, "does not read"),
        ({"type": "polygonlabels", "value": {"points": [[1, 1]], "polygonlabels": []}}, "without a label"),
        ({"type": "polygonlabels", "value": {"polygonlabels": ["scratch", "dent"]}}, "with the labels scratch, dent"),
        ({"type": "brushlabels", "value": {"rle": [1, 2, 3], "brushlabels": ["scratch"]}}, "does not read"),
    ],
)
def test_what_label_studio_says_wrong_is_named(tmp_path: Path, result: dict[str, Any], what: str) -> None:
    (tmp_path / "s" / "images").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "s" / "images" / "a.png"), picture(1))
    tasks = [{"data": {"image": "images/a.png"}, "annotations": [{"result": [result]}]}]
    (tmp_path / "s" / "tasks.json").write_text(json.dumps(tasks))
    source = open_source(tmp_path / "s")
    target = make_target([source], None, "scratch,dent", None, None)
    with pytest.raises(DatasetError, match=what) as e:
        build(source.items(target), tmp_path / "out", target, Shares(), ("s",))
    assert "tasks.json: task 1" in str(e.value)


def test_outlines_and_run_lengths_give_back_any_mask() -> None:
    rng = np.random.default_rng(0)
    for _ in range(40):
        shape = tuple(int(v) for v in rng.integers(1, 30, 2))
        mask = rng.random(shape) < rng.uniform(0.05, 0.95)
        back = np.zeros(shape, bool)
        for region in regions(mask):
            back |= region.bits if region.outline is None else fill(shape, [region.outline])  # type: ignore[arg-type]
        assert np.array_equal(back, mask)
        assert np.array_equal(from_coco_counts(coco_counts(mask), shape), mask)  # type: ignore[arg-type]
        assert np.array_equal(from_brush_rle(brush_rle(mask), shape), mask)  # type: ignore[arg-type]


def test_run_lengths_as_other_programs_write_them() -> None:
    """From pycocotools 2.0.11 and label-studio-sdk 2.1.2: a 4 x 5 mask with rows 1 and 2 of columns 1 to 3."""
    mask = np.zeros((4, 5), bool)
    mask[1:3, 1:4] = True
    assert np.array_equal(from_coco_counts("5220003", (4, 5)), mask)
    assert np.array_equal(
        from_brush_rle([0, 0, 0, 80, 57, 27, 254, 23, 0, 183, 255, 56, 5, 191, 252, 46, 0], (4, 5)), mask
    )


def test_a_thin_outline_does_not_vanish() -> None:
    assert fill((10, 10), [[(2, 3.1), (8, 3.1), (8, 3.2)]]).sum() >= 6


def rebuilt(source: Snapshot, tmp_path: Path, change: Any) -> Snapshot:
    opened = open_source(source.folder)
    target = make_target([opened], None, None, None, None)
    build([change(i) for i in opened.items(target) if change(i)], tmp_path / "b", target, Shares(), ("b",))
    return read_snapshot(tmp_path / "b")


def test_a_diff_names_each_kind_of_change(tmp_path: Path, source: Snapshot) -> None:
    from dataclasses import replace

    def change(item: Any) -> Any:
        match item.group:
            case "part-1":
                mask = item.mask.copy()
                mask[:, 6:16] = 0  # a quarter of the scratch is rubbed out
                return replace(item, mask=mask)
            case "part-2":
                return replace(item, labels=(), annotations=())
            case "part-3":
                return None
            case "part-4":
                return replace(item, split="val" if item.split != "val" else "train")
            case "part-5":
                return replace(item, group="part-9")
        return item

    b = rebuilt(source, tmp_path, change)
    image = {s.group: s.image for s in source.samples}
    found = diff(source, b)
    assert (found.added, found.removed) == ([], [image["part-3"]])
    assert [(r.image, r.before, r.after) for r in found.relabelled] == [(image["part-2"], ("scratch",), ())]
    assert [m[0] for m in found.moved] == [image["part-4"]]
    assert found.regrouped == [(image["part-5"], "part-5", "part-9")]
    assert [(r.image, r.iou) for r in found.redrawn] == [(image["part-1"], {"scratch": 0.75})]
    assert found.same == 1
    back = diff(b, source)
    assert back.added == [image["part-3"]]


def test_a_diff_also_tells_scale_likelihood_lengths_and_whether_somebody_looked(
    tmp_path: Path, source: Snapshot
) -> None:
    from dataclasses import replace

    def change(item: Any) -> Any:
        match item.group:
            case "part-1":
                (mark,) = item.annotations
                return replace(item, annotations=(mark.model_copy(update={"length_mm": 9.0}),))
            case "part-2":
                return replace(item, px_per_mm=50.0)
            case "part-4":
                return replace(item, mask=None)
            case "part-5":
                (box,) = item.annotations
                shifted = box.model_copy(update={"box_px": tuple(v + 1e-6 for v in box.box_px)})
                return replace(item, mask_is_boxes=False, annotations=(shifted,))
            case "part-6":
                return replace(item, soft_labels={"scratch": 0.2})
        return item

    b = rebuilt(source, tmp_path, change)
    found, image = diff(source, b), {s.group: s.image for s in source.samples}
    changes = {o.image: o.changes for o in found.other}
    assert changes.pop(image["part-1"]).keys() == {"annotations"}
    assert changes == {
        image["part-2"]: {"px_per_mm": (10.0, 50.0)},
        image["part-4"]: {"mask": ("outlines", "none")},
        image["part-5"]: {"mask": ("boxes", "outlines")},
        image["part-6"]: {"soft_labels": ({"scratch": 0.7}, {"scratch": 0.2})},
    }
    assert (found.same, found.redrawn) == (1, [])
    told = CliRunner().invoke(dataset, ["diff", str(source.folder), str(b.folder)])
    assert told.exit_code == 1
    assert f"{image['part-2']}: px_per_mm 10.0 -> 50.0" in told.stdout
    assert CliRunner().invoke(dataset, ["diff", str(source.folder), str(b.folder), "--json"]).stdout.count("0.7") == 1


def test_the_commands_export_and_compare(tmp_path: Path, source: Snapshot) -> None:
    run = CliRunner().invoke
    same = run(dataset, ["diff", str(source.folder), str(source.folder)])
    assert (same.exit_code, f"{len(source.samples)} pictures as they were" in same.stdout) == (0, True)
    for form in FORMS:
        done = run(dataset, ["export", str(source.folder), "--format", form, "--out", str(tmp_path / form)])
        assert done.exit_code == 0, done.output
    assert "1 left out" in run(
        dataset, ["export", str(source.folder), "--format", "coco", "--out", str(tmp_path / "again")]
    ).stdout.replace("\n", " ")
    b = rebuilt(source, tmp_path, lambda i: None if i.group == "part-3" else i)
    changed = run(dataset, ["diff", str(source.folder), str(b.folder), "--json"])
    assert changed.exit_code == 1
    assert len(json.loads(changed.stdout)["removed"]) == 1
