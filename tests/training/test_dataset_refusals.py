"""Every way a data set can be wrong is refused with the file, what was found and what to do."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from inspection.errors import DatasetError
from inspection.label_book import BOOKS
from tests.training.pictures import Folder, picture, png, scratched
from training.dataset.build import Shares, build
from training.dataset.crops import Cut, crop_items
from training.dataset.item import Target, class_name, decode_mask
from training.dataset.snapshot import BOXES_SUFFIX, read_snapshot
from training.dataset.sources import Format, make_target, open_source, plain_book
from training.dataset.whole import whole

EMPTY = np.zeros((64, 80), np.uint8)
BORDERED = np.pad(np.pad(np.ones((16, 20), np.uint8), 2, constant_values=255), ((20, 24), (30, 26)))
"""A defect of class number 1 with a border of 255 around it, in which nobody judged."""
TWELVE_BIT = (1030 + np.indices((64, 80)).sum(0) % 50).astype(np.uint16)


def refused(made: Folder, *words: str) -> None:
    out = made.root.parent / "snapshot"
    with pytest.raises(DatasetError) as caught:
        made.snapshot(out)
    for word in words:
        assert word in str(caught.value)
    assert not out.exists()
    assert not list(made.root.parent.glob(".snapshot*")), "a refused import leaves nothing behind"


def test_unreadable_image(folder: Folder) -> None:
    line = folder.add(picture(1), EMPTY)
    data = b"this is no PNG"
    (folder.root / line["image"]).write_bytes(data)
    line["image_sha256"] = hashlib.sha256(data).hexdigest()
    folder.save()
    refused(folder, "samples.jsonl:1", "is not a readable image", "fix: export it again as PNG or JPEG")


def test_changed_image(folder: Folder) -> None:
    line = folder.add(picture(1), EMPTY)
    (folder.root / line["image"]).write_bytes(png(picture(2)))
    refused(folder, "images/0.png", "does not have the sha256 its line states")


def test_missing_file(folder: Folder) -> None:
    line = folder.add(picture(1), EMPTY)
    (folder.root / line["mask"]).unlink()
    refused(folder, "masks/0.png", "cannot be read", "samples.jsonl:1 names")


def test_mask_of_another_size(folder: Folder) -> None:
    folder.add(picture(1), np.zeros((32, 80), np.uint8))
    refused(folder, "samples.jsonl:1", "the mask is 80x32 px, the picture 80x64")


def test_mask_value_beyond_the_classes(folder: Folder) -> None:
    mask = EMPTY.copy()
    mask[5, 5:30] = 2
    folder.add(picture(1), mask)
    refused(folder, "samples.jsonl:1", "the mask holds the value 2, but there are 1 classes")


def test_label_without_pixels(folder: Folder) -> None:
    folder.add(picture(1), EMPTY, labels=["scratch"])
    refused(folder, "samples.jsonl:1", "is labelled scratch, but its mask shows none")


def test_unknown_class(folder: Folder) -> None:
    folder.add(picture(1), None, labels=["dent"])
    refused(folder, "samples.jsonl:1", "the class 'dent' is not one of ['scratch']")


def test_group_on_both_sides(folder: Folder) -> None:
    folder.add(picture(1), EMPTY, group="part-7", split="train")
    folder.add(picture(2), EMPTY, group="part-7", split="test")
    refused(folder, "samples.jsonl:2", "group 'part-7' is in test here and in train in", "samples.jsonl:1")


def test_one_picture_two_labels(folder: Folder) -> None:
    image, mask = scratched(3, 30)
    folder.add(image, mask, labels=["scratch"])
    folder.add(image, EMPTY)
    refused(folder, "samples.jsonl:2", "is the same picture as", "labelled good here and scratch there", "settle")


def test_one_picture_two_outlines(folder: Folder) -> None:
    image, mask = scratched(3, 30)
    folder.add(image, mask, labels=["scratch"])
    folder.add(image, np.roll(mask, 9, 0), labels=["scratch"])
    refused(folder, "samples.jsonl:2", "is the same picture as", "samples.jsonl:1", "outlined otherwise there", "leave")


def test_one_picture_in_two_groups_that_lie_on_both_sides(folder: Folder) -> None:
    folder.add(picture(1), EMPTY, group="a")
    folder.add(picture(2), EMPTY, group="a", split="train")
    third = folder.add(picture(1), EMPTY, group="b", split="test")
    refused(folder, "samples.jsonl:2: group 'a' is in train here and in test in", "samples.jsonl:1 (also", "jsonl:3)")
    del third["split"]
    folder.add(picture(3), EMPTY, group="b", split="test")
    refused(folder, "samples.jsonl:4: is for test", "samples.jsonl:2, which is for train", "--resplit")


def test_broken_line(folder: Folder) -> None:
    folder.add(picture(1), EMPTY)
    folder.add(picture(2), EMPTY, width_px=-3)
    refused(folder, "samples.jsonl:2", "width_px", "greater than 0")


def test_labels_of_another_book_without_a_mask(folder: Folder) -> None:
    folder.add(picture(1), None, label_book="scratch@9")
    refused(folder, "samples.jsonl:1", "was labelled under scratch@9, the snapshot's rules are scratch@1")


def test_classes_of_another_source(tmp_path: Path) -> None:
    weld = Folder(tmp_path / "weld", BOOKS["weld"])
    weld.add(picture(1), EMPTY)
    target = Target("scratch", BOOKS["scratch"])
    source = open_source(weld.root)
    with pytest.raises(DatasetError, match=r"its classes are \['porosity'.*the snapshot's \['scratch'\]"):
        build(source.items(target), tmp_path / "out", target, Shares(), ("weld",))


def test_unknown_label_book(folder: Folder) -> None:
    folder.add(picture(1), EMPTY)
    header = json.loads((folder.root / "labelled.json").read_text())
    (folder.root / "labelled.json").write_text(json.dumps({**header, "label_book": "scratch@4"}))
    with pytest.raises(DatasetError, match=r"labelled under scratch@4, which is not known here\n.*--label-book"):
        make_target([open_source(folder.root)], None, None, None, None)


def test_shares_that_leave_nothing_to_train_on() -> None:
    with pytest.raises(DatasetError, match=r"are 0.5 and 0.5\n.*below 1"):
        Shares(val=0.5, test=0.5)


def test_a_folder_of_nothing(tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="is in no format that is known here"):
        open_source(tmp_path)
    with pytest.raises(DatasetError, match="does not exist"):
        open_source(tmp_path / "nowhere")


def write(root: Path, files: dict[str, bytes | str]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


GOOD_IMAGE, BINARY = png(picture(1)), png(np.uint8(255) * (np.indices((64, 80))[0] < 9).astype(np.uint8))


def tiff(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".tif", pixels)[1].tobytes())


def import_all(root: Path, format: Format, out: Path) -> None:
    source = open_source(root, format)
    target = make_target([source], "task", "pore" if format != "yolo" else None, None, None)
    build(source.items(target), out, target, Shares(), ("source",))


@pytest.mark.parametrize(
    ("files", "format", "message"),
    [
        ({"images/a.png": GOOD_IMAGE, "masks/b.png": BINARY}, "pairs", "a.png: has no mask in"),
        ({"images/a.png": GOOD_IMAGE, "masks/a.png": b"?"}, "pairs", "a.png: is not a readable mask"),
        ({"images/a.png": GOOD_IMAGE, "masks/a.png": png(picture(3))}, "pairs", r"is a mask of \(64, 80, 3\)"),
        ({"images/a.png": GOOD_IMAGE, "classes.txt": "pore"}, "yolo", "a.txt: is missing for a.png"),
        ({"images/a.png": GOOD_IMAGE, "labels/a.txt": "", "classes.txt": ""}, "yolo", "names no class"),
        (
            {"images/a.png": GOOD_IMAGE, "labels/a.txt": "0 .5 .5 .1 .1\n3 .5 .5 .1 .1", "classes.txt": "pore"},
            "yolo",
            r"a.txt:2: names class 3, classes.txt has 1",
        ),
        (
            {"images/a.png": GOOD_IMAGE, "labels/a.txt": "0 .5 .5 x .1", "classes.txt": "pore"},
            "yolo",
            "a.txt:1: is '0 .5 .5 x .1'",
        ),
        (
            {"images/a.png": GOOD_IMAGE, "labels/a.txt": "0 30 40 5 5", "classes.txt": "pore"},
            "yolo",
            "holds a box outside the picture",
        ),
        ({"t.csv": "image,group\na.png,1"}, "table", "t.csv:1: has no column 'label'"),
        (
            {"t.csv": "image,mask_or_boxes,label,group,suggested_split\na.png,,good,1,maybe", "a.png": GOOD_IMAGE},
            "table",
            "t.csv:2: has the split 'maybe'",
        ),
        (
            {"t.csv": "image,mask_or_boxes,label,group\nb.png,,good,1"},
            "table",
            r"b.png: cannot be read, which .*t.csv:2 names",
        ),
        ({"c.json": '{"images": [], "annotations": [], "categories": []}'}, "coco", "c.json: images"),
        (
            {
                "c.json": json.dumps(
                    {
                        "images": [{"id": 1, "file_name": "a.png"}],
                        "annotations": [{"image_id": 2, "category_id": 1, "bbox": [1, 1, 5, 5]}],
                        "categories": [{"id": 1, "name": "pore"}],
                    }
                ),
                "a.png": GOOD_IMAGE,
            },
            "coco",
            "annotation 0 names image 2, which is not listed",
        ),
    ],
)
def test_foreign_formats(tmp_path: Path, files: dict[str, Any], format: str, message: str) -> None:
    root = write(tmp_path / "source", files)
    if format in ("table", "coco"):
        root = next(p for p in root.iterdir() if p.suffix in (".csv", ".json"))
    with pytest.raises(DatasetError, match=message):
        import_all(root, Format(format), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def coco(**annotation: Any) -> dict[str, bytes | str]:
    told = {
        "images": [{"id": 1, "file_name": "a.png"}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 1, **annotation}],
        "categories": [{"id": 1, "name": "pore"}],
    }
    return {"c.json": json.dumps(told), "a.png": GOOD_IMAGE}


def coco_images(*images: dict[str, Any]) -> dict[str, bytes | str]:
    told = {"images": images, "annotations": [], "categories": [{"id": 1, "name": "pore"}]}
    return {"c.json": json.dumps(told), "a.png": GOOD_IMAGE, "b.png": png(picture(2))}


def coco_categories(*categories: dict[str, Any]) -> dict[str, bytes | str]:
    told = coco(bbox=[5, 5, 9, 9])
    return told | {"c.json": json.dumps(json.loads(str(told["c.json"])) | {"categories": categories})}


def pair(mask: np.ndarray, image: bytes = GOOD_IMAGE, **more: bytes | str) -> dict[str, bytes | str]:
    return {"images/a.png": image, "masks/a.png": png(mask), **more}


def yolo(line: str | bytes, **more: bytes | str) -> dict[str, bytes | str]:
    return {"images/a.png": GOOD_IMAGE, "labels/a.txt": line, "classes.txt": "pore", **more}


def table(*rows: str) -> dict[str, bytes | str]:
    head = "image,mask_or_boxes,label,group,suggested_split"
    masks = {"m.png": BINARY, "k.png": png((decode_mask(BINARY, "m.png") > 0).astype(np.uint8)), "e.png": png(EMPTY)}
    return {"t.csv": "\n".join([head, *rows]), "a.png": GOOD_IMAGE, **masks}


@pytest.mark.parametrize(
    ("files", "format", "message"),
    [
        (coco(bbox=[-40, -40, 20, 20]), "coco", r"id 7 of a.png: holds the box -40, -40, 20, 20, outside the picture"),
        (coco(bbox=[5, 5, 0, 9]), "coco", r"id 7 of a.png: holds the box 5, 5, 0, 9\n.*above 0"),
        (coco(bbox=[5, 5, float("nan"), 9]), "coco", "c.json: "),
        (coco(segmentation=[[1, 1, 9, 1, 9]]), "coco", "has an outline of 5 numbers"),
        (coco(segmentation=[[1, 1, 9, 1, 9, 1e300]]), "coco", "a corner that is nowhere"),
        (coco(segmentation=[[-9, -9, -5, -9, -5, -5]]), "coco", "is an outline outside the picture"),
        (coco(category_id=4), "coco", r"id 7 names category 4, which is not listed\n.*use one of 1"),
        (yolo("0 .5 .5 .1 .1 .9"), "yolo", "a.txt:1: holds 5 numbers behind the class"),
        (yolo(b"0 .5 .5 .1 .1\n0 \xff"), "yolo", r"a.txt:2: is not UTF-8"),
        (yolo("", **{"images/a.jpg": GOOD_IMAGE}), "yolo", "a.png: and a.jpg would share one label"),
        ({"images/a.png": GOOD_IMAGE, "labels/a.txt": "", "classes.txt": "Good"}, "yolo", "'Good' is no class of"),
        ({"images/a.png": GOOD_IMAGE, "labels/a.txt": "", "classes.txt": "Риска"}, "yolo", "gives no class name"),
        (table("a.png,m.png,good,1,"), "table", "t.csv:2: is labelled 'good', and its mask shows a defect"),
        (table("a.png,m.png"), "table", "t.csv:2: ends before the column 'label'"),
        (table("a.png,m.png,pore, ,"), "table", "t.csv:2: has no group"),
        (table("a.png,m.png,pore,1,train", "a.png,m.png,pore,1,test"), "table", "for test here and for train there"),
        ({"t.csv": "image;label"}, "table", r"t.csv: has no row\n.*a picture each"),
        (
            table("a.png,,pore,hole,1,train"),
            "table",
            r"t.csv:2: goes on behind its last column: train\n.*join the labels",
        ),
        (pair(BORDERED), "pairs", r"a.png: is a mask that holds 1, a class number, and 255 as well\n.*0 and 255 alone"),
        (pair(EMPTY, png(TWELVE_BIT)), "pairs", r"a.png: holds 16 bits a value, 1030 to 1079, and 8 are"),
        (pair(EMPTY, tiff(TWELVE_BIT)), "pairs", r"holds 16 bits a value.*\n.*the camera's own scaling"),
        (pair(EMPTY, **{"images/lot/b.png": GOOD_IMAGE}), "pairs", "images: holds pictures in a folder inside it"),
        (yolo("", **{"images/val/b.png": GOOD_IMAGE}), "yolo", "none are read: val/b.png\n.*move what is in val/ up"),
        (
            yolo("0 .5 .5 .1 .1", **{"classes.txt": "crack\n\npore"}),
            "yolo",
            "classes.txt:2: is blank, and names follow",
        ),
        (
            coco_images({"id": 1, "file_name": "a.png"}, {"id": 1, "file_name": "b.png"}),
            "coco",
            "c.json: gives a.png and b.png the same id 1",
        ),
        (
            coco_categories({"id": 1, "name": "pore"}, {"id": 2, "name": "dent"}, {"id": 1, "name": "Crack"}),
            "coco",
            r"c.json: gives the categories 'pore' and 'Crack' the same id 1\n.*number them anew",
        ),
        (
            coco_images({"id": 1, "file_name": "a.png", "width": 160, "height": 128}),
            "coco",
            "a.png: is 80x64 px, and .*c.json says 160x128",
        ),
    ],
)
def test_what_used_to_pass_unseen(tmp_path: Path, files: dict[str, Any], format: str, message: str) -> None:
    test_foreign_formats(tmp_path, files, format, message)


def test_a_row_that_names_a_defect_nobody_outlined_is_no_good_picture(tmp_path: Path) -> None:
    write(tmp_path / "t", table("a.png,e.png,pore,1,", "b.png,m.png,pore,2,") | {"b.png": png(picture(2))})
    (item, outlined) = open_source(tmp_path / "t" / "t.csv").items(Target("t", plain_book("t", ("pore",))))
    assert (item.labels, item.mask, item.where) == (("pore",), None, f"{tmp_path / 't' / 't.csv'}:2")
    assert (
        item.doubt == f"is called pore, and {tmp_path / 't' / 'e.png'} shows nothing: taken as a defect without a place"
    )
    assert (outlined.mask is None, outlined.doubt) == (False, "")
    left_out: list[str] = []
    assert {c.group for c in crop_items([item, outlined], Cut(32, 32, 32), left_out)} == {"2"}
    assert left_out == [item.where], "a crop of it might be called good and show the defect"


def rows_with_boxes(*rows: str) -> dict[str, bytes | str]:
    """b/0.txt is empty, b/1.txt has a box of crack, b/2.txt one of pore, b/3.txt one of each."""
    lines = ("", "0 .5 .5 .2 .2\n", "1 .2 .2 .1 .1\n")
    files = {f"b/{n}.txt": text for n, text in enumerate((*lines, lines[1] + lines[2]))}
    table = "\n".join(["image,mask_or_boxes,label,group", *rows])
    return {"t.csv": table, "a.png": GOOD_IMAGE, "classes.txt": "crack\npore\n", **files}


CRACK_PORE = Target("t", plain_book("t", ("crack", "pore")))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("a.png,b/1.txt,good,1", "t.csv:2: is labelled good, .*1.txt holds boxes of crack\n.*mend one of them"),
        ("a.png,b/2.txt,crack,1", "t.csv:2: is labelled crack, .*2.txt holds boxes of pore"),
        ("a.png,b/3.txt,crack,1", "t.csv:2: is labelled crack, .*3.txt holds boxes of crack.pore"),
        ("a.png,b/1.txt,0+1,1", "t.csv:2: is labelled 0.1, .*1.txt holds boxes of crack"),
        ("a.png,b/0.txt,defect,1", "t.csv:2: is labelled defect, .*0.txt holds no box"),
        ("a.png,b/1.txt,7,1", "t.csv:2: names class 7, classes.txt has 2"),
        ("a.png,b/1.txt,dent,1", "t.csv:2: the class 'dent' is not one of"),
    ],
)
def test_a_row_that_does_not_say_what_its_boxes_say(tmp_path: Path, row: str, message: str) -> None:
    write(tmp_path / "t", rows_with_boxes(row))
    with pytest.raises(DatasetError, match=message):
        list(open_source(tmp_path / "t" / "t.csv").items(CRACK_PORE))


def test_a_row_names_the_classes_of_its_boxes_their_numbers_or_just_a_defect(tmp_path: Path) -> None:
    said = ("good", "crack", "1", "pore+crack", "defect")
    rows = (f"a.png,b/{min(n, 3)}.txt,{label},{n}" for n, label in enumerate(said))
    source = open_source(write(tmp_path / "t", rows_with_boxes(*rows)) / "t.csv")
    both = ("crack", "pore")
    assert [i.labels for i in source.items(CRACK_PORE)] == [(), ("crack",), ("pore",), both, both]
    merged = Target("t", plain_book("t", ("flaw",)), merge=True)
    assert [i.labels for i in source.items(merged)] == [(), *[("flaw",)] * 4]
    nowhere = open_source(write(tmp_path / "n", rows_with_boxes("a.png,b/0.txt,crack,1")) / "t.csv")
    (item,) = nowhere.items(CRACK_PORE)
    assert (item.labels, item.mask, item.where) == (("crack",), None, f"{tmp_path / 'n' / 't.csv'}:2")
    assert (
        item.doubt
        == f"is called crack, and {tmp_path / 'n' / 'b' / '0.txt'} shows nothing: taken as a defect without a place"
    )


def test_a_row_whose_mask_shows_a_class_more_than_it_names(tmp_path: Path) -> None:
    mask = EMPTY.copy()
    mask[5:9, 5:30], mask[40:50, 40:50] = 1, 2
    write(tmp_path / "t", table("a.png,c.png,crack,1,") | {"c.png": png(mask)})
    with pytest.raises(DatasetError, match=r"t.csv:2: is labelled crack, and its mask shows pore too\n.*crack.pore"):
        list(open_source(tmp_path / "t" / "t.csv").items(CRACK_PORE))


@pytest.mark.parametrize("quality", [90, 99])
def test_blur_around_0_and_255_is_no_class_number(tmp_path: Path, quality: int) -> None:
    """As JPEG leaves it, in a mask that is a JPEG file and, where it has more values, in one saved as PNG since."""
    mask = EMPTY.copy()
    mask[20:34, 12:33] = 255
    jpeg = bytes(cv2.imencode(".jpg", mask, [cv2.IMWRITE_JPEG_QUALITY, quality])[1].tobytes())
    blurred = decode_mask(jpeg, "a.jpg")
    assert {0, 1, 255} == set(np.unique(blurred)) if quality == 99 else 1 in blurred
    files = {"images/a.png": GOOD_IMAGE, "masks/a.jpg": jpeg}
    files |= {"images/b.png": GOOD_IMAGE, "masks/b.png": png(blurred)} if quality < 99 else {}
    items = open_source(write(tmp_path / "p", files)).items(Target("t", plain_book("t", ("pore",))))
    assert {int((i.mask == 1).sum()) for i in items if i.mask is not None} == {int((mask > 0).sum())}


def greys(*values: int) -> np.ndarray:
    """Areas of 10x12 px beside one another."""
    mask = EMPTY.copy()
    for n, value in enumerate(values):
        mask[20:30, 8 + 12 * n : 20 + 12 * n] = value
    return mask


MVTEC = {"train/good/a.png": GOOD_IMAGE, "test/crack/b.png": png(picture(2)), "test/pore/c.png": png(picture(3))}


@pytest.mark.parametrize("ending", [".png", ".jpg"])
@pytest.mark.parametrize(
    ("values", "classes", "message"),
    [
        ((200, 255), None, r"b_mask.png: is a mask with areas of 200 and 255, which .*\n.*class numbers from 1"),
        ((85, 170, 255), None, r"areas of 85, 170 and 255"),
        ((85, 170, 255), "flaw", r"areas of 85, 170 and 255, which .*\n.*write 255 where the defect is"),
    ],
)
def test_a_mask_of_greys_is_not_taken_for_one_of_0_and_255(
    tmp_path: Path, values: tuple[int, ...], classes: str | None, message: str, ending: str
) -> None:
    mask = bytes(cv2.imencode(ending, greys(*values))[1].tobytes())
    shown = {"ground_truth/crack/b_mask.png": mask, "ground_truth/pore/c_mask.png": BINARY}
    source = open_source(write(tmp_path / "mvtec", MVTEC | shown))
    target = make_target([source], "t", classes, None, None)
    with pytest.raises(DatasetError, match=message):
        list(source.items(target))


def smoothed(mask: np.ndarray) -> dict[str, np.ndarray]:
    half = cv2.resize(mask, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
    return {
        "blurred": cv2.GaussianBlur(mask, (0, 0), 2.5),
        "resized": cv2.resize(half, None, fx=2, fy=2, interpolation=cv2.INTER_LINEAR),
    }


def test_any_grey_from_128_on_is_a_single_class_and_smooth_edges_are_no_marks(tmp_path: Path) -> None:
    single = open_source(write(tmp_path / "p", pair(greys(200, 255))))
    (item,) = single.items(make_target([single], "t", None, None, None))
    assert item.mask is not None
    assert int((item.mask == 1).sum()) == 240
    disc = cv2.ellipse(EMPTY.copy(), (40, 30), (24, 12), 30, 0, 360, 255, -1)
    cv2.line(disc, (3, 3), (70, 3), 255, 1)
    for name, mask in smoothed(disc).items():
        shown = {"ground_truth/crack/b_mask.png": png(mask), "ground_truth/pore/c_mask.png": BINARY}
        source = open_source(write(tmp_path / name, MVTEC | shown))
        items = list(source.items(make_target([source], "t", None, None, None)))
        assert [i.mask is not None and int((i.mask == 1).sum()) == int((mask > 127).sum()) for i in items][1], name


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        ("m.png", "m.png: is a mask of 0 and 255, and there are 2 classes"),
        ("k.png", "t.csv:2: is labelled pore, but its mask shows none"),
    ],
)
def test_a_row_of_two_classes_whose_mask_shows_one(tmp_path: Path, mask: str, message: str) -> None:
    write(tmp_path / "t", table(f"a.png,{mask},hole+pore,1,"))
    with pytest.raises(DatasetError, match=message):
        list(open_source(tmp_path / "t" / "t.csv").items(Target("t", plain_book("t", ("hole", "pore")))))


def test_a_yolo_outline_is_an_outline_and_excels_mark_is_no_letter(tmp_path: Path) -> None:
    write(tmp_path / "y", yolo("0 .25 .25 .75 .25 .75 .75 .25 .75"))
    import_all(tmp_path / "y", Format.YOLO, tmp_path / "one")
    (sample,) = read_snapshot(tmp_path / "one").samples
    assert not str(sample.mask).endswith(BOXES_SUFFIX)
    mask = decode_mask((tmp_path / "one" / str(sample.mask)).read_bytes(), "mask")
    assert (int(mask.sum()), mask[32, 40], mask[8, 40]) == (32 * 40, 1, 0)
    files = table("a.png,m.png,pore,1,")
    write(tmp_path / "t", files | {"t.csv": b"\xef\xbb\xbf" + str(files["t.csv"]).encode()})
    import_all(tmp_path / "t" / "t.csv", Format.TABLE, tmp_path / "two")
    assert read_snapshot(tmp_path / "two").samples[0].labels == ("pore",)


@pytest.mark.parametrize(
    ("json_at", "picture_at"),
    [
        ("annotations/c.json", "images/a.png"),
        ("annotations/instances_train2017.json", "train2017/a.png"),
        ("c.json", "images/a.png"),
    ],
)
def test_pictures_of_coco_lie_where_its_tools_put_them(tmp_path: Path, json_at: str, picture_at: str) -> None:
    told = coco(bbox=[5, 5, 9, 9])
    write(tmp_path / "c", {json_at: told["c.json"], picture_at: GOOD_IMAGE})
    import_all(tmp_path / "c", Format.COCO, tmp_path / "out")
    assert read_snapshot(tmp_path / "out").samples[0].labels == ("pore",)


def test_letters_with_marks_are_written_out_and_not_lost() -> None:
    assert class_name("Lötfehler", "x") == "loetfehler"
    assert class_name("Riß", "x") == "riss"
    assert class_name("Éclat / brûlé", "x") == "eclat_brule"


def test_what_a_killed_import_left_goes_with_the_next_and_a_running_ones_stays(folder: Folder) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    out = folder.root.parent / "snapshot"
    left, running = (out.with_name(f".snapshot.partial-{pid}") for pid in (dead.pid, os.getppid()))
    for path in (left, running):
        (path / "images").mkdir(parents=True)
    for k in range(2):
        folder.add(picture(k), EMPTY)
    folder.snapshot(out)
    assert not left.exists()
    assert running.exists()


def test_of_two_who_write_one_folder_the_second_is_refused_and_what_a_killed_one_left_goes(tmp_path: Path) -> None:
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    out = tmp_path / "out"
    (tmp_path / f".out.partial-{dead.pid}").mkdir()
    (tmp_path / f".out.partial-{os.getpid()}" / "half").mkdir(parents=True)  # numbers begin anew in a container
    with pytest.raises(DatasetError, match="exists already"), whole(out, DatasetError(out, "exists already")):
        (out / "of somebody else").mkdir(parents=True)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
