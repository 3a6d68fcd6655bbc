"""Layouts that other programs and public sets have: what is read of each, and what nobody said."""

from __future__ import annotations

import base64
import json
import os
import zipfile
import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspection.errors import DatasetError
from tests.training.pictures import picture, png
from training.dataset.build import Looking, Shares, build
from training.dataset.item import Item, Names, class_name, decode_mask
from training.dataset.snapshot import Snapshot, read_snapshot
from training.dataset.sources import Format, check_renamed, make_target, open_source

SIZE = (64, 80)
Files = dict[str, bytes | str]


def files(root: Path, named: Files) -> Path:
    for name, content in named.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    return root


def shot(seed: int) -> bytes:
    return png(picture(seed, SIZE))


def mask(*, empty: bool = False) -> bytes:
    pixels = np.zeros(SIZE, np.uint8)
    pixels[20:24, 10:22] = 0 if empty else 255
    return png(pixels)


def decoded() -> np.ndarray:
    return decode_mask(mask(), "")


def jpeg(pixels: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".jpg", pixels)[1].tobytes())


def items(
    root: Path, format: Format = Format.AUTO, *rename: str, unlabelled_good: bool = False, **asked: str
) -> dict[str, Item]:
    """By the way from `root`, a folder or a file in it."""
    names = Names.of(list(rename))
    source = open_source(root, format, names=names)
    check_renamed(names, [source])
    target = make_target([source], asked.get("task"), asked.get("classes"), None, None, names)
    target = replace(target, unlabelled_good=unlabelled_good)
    folder = root.parent if root.is_file() else root
    return {Path(item.where).relative_to(folder).as_posix(): item for item in source.items(target)}


def snapshot(root: Path, out: Path, *, unlabelled_good: bool = False) -> Snapshot:
    source = open_source(root)
    target = replace(make_target([source], None, None, None, None), unlabelled_good=unlabelled_good)
    build(source.items(target), out, target, Shares(), (str(root),), Looking.SKIP)
    return read_snapshot(out)


def test_a_name_of_another_encoding_is_refused_with_the_way_out(tmp_path: Path) -> None:
    """`Prüf.png` of an archive that Windows packed: a traceback."""
    root = files(tmp_path, {"images/a.png": shot(1), "masks/a.png": mask()})
    for folder in ("images", "masks"):
        (root / folder / "a.png").rename(os.fsdecode(os.fsencode(root / folder) + b"/Pr\xfcf.png"))
    with pytest.raises(DatasetError, match=r"no UTF-8: b'Pr\\xfcf.png'\n.*convmv"):
        items(root)


# ── a folder for each class ─────────────────────────────────────────────────────────────────────────────────────


def test_a_folder_for_each_class(tmp_path: Path) -> None:
    root = files(tmp_path, {"OK/a.png": shot(1), "Lack of fusion/b.jpg": shot(2), "pore+Riß/b.png": shot(3)})
    assert open_source(root).format is Format.FOLDERS
    found = items(root)
    assert {name: item.labels for name, item in found.items()} == {
        "OK/a.png": (),
        "Lack of fusion/b.jpg": ("lack_of_fusion",),
        "pore+Riß/b.png": ("pore", "riss"),
    }
    assert all(item.mask is None and item.split is None for item in found.values())
    assert len({item.group for item in found.values()}) == 3


def test_folders_below_parts_of_a_split_keep_it(tmp_path: Path) -> None:
    """Four folders of a classifier, which look like MVTec's but for the masks."""
    ways = [f"{part}/{kind}/1.png" for part in ("train", "test") for kind in ("good", "bad")]
    root = files(tmp_path, {way: shot(k) for k, way in enumerate(ways)})
    assert {name: (item.split, item.labels) for name, item in items(root).items()} == {
        "train/good/1.png": ("train", ()),
        "train/bad/1.png": ("train", ("bad",)),
        "test/good/1.png": ("test", ()),
        "test/bad/1.png": ("test", ("bad",)),
    }
    found = snapshot(root, tmp_path / "out")
    assert (found.manifest.classes, len(found.samples)) == (("bad",), 4)


def test_classes_without_a_good_one_are_asked_for_by_name(tmp_path: Path) -> None:
    root = files(tmp_path, {"crazing/a.png": shot(1), "patches/a.png": shot(2)})
    with pytest.raises(DatasetError, match=r"is in no format that is known here\n.*a class \(crazing, patches\) say"):
        open_source(root)
    assert {item.labels for item in items(root, Format.FOLDERS).values()} == {("crazing",), ("patches",)}


def test_a_folder_of_good_pictures_is_a_source(tmp_path: Path) -> None:
    root = files(tmp_path / "good", {"a.png": shot(1), ".thumbs/a.png": shot(2)})
    assert {name: item.labels for name, item in items(root, task="weld", classes="pore").items()} == {"a.png": ()}
    with pytest.raises(DatasetError, match=r"holds good pictures, and no source a name for the task\n.*--task"):
        items(root, classes="pore")


def test_a_picture_of_no_class_is_refused(tmp_path: Path) -> None:
    root = files(tmp_path, {"train/good/a.png": shot(1), "train/b.png": shot(2)})
    with pytest.raises(DatasetError, match=r"train/b.png: lies in train/ itself\n.*folder of its class"):
        items(root, classes="pore")


def test_masks_that_nothing_names_so_are_no_pictures(tmp_path: Path) -> None:
    """`1-mask.png` beside 1.png, or a folder defect_masks/: they were pictures of a class."""
    root = files(tmp_path, {"good/1.png": shot(1), "pore/1.png": shot(2), "pore/1-mask.png": mask()})
    with pytest.raises(DatasetError, match=r"1-mask.png: holds two values and no other, as a mask does\n.*x_mask"):
        items(root)
    (root / "pore/1-mask.png").unlink()
    assert len(items(root)) == 2


@pytest.mark.parametrize("value", [1, 255])
def test_a_mask_in_a_folder_of_several_is_of_its_class(tmp_path: Path, value: int) -> None:
    """One of 0 and 1 in pore/ was taken for crack, the first class."""
    named: Files = {f"{kind}/1.png": shot(k) for k, kind in enumerate(("crack", "pore"))}
    named |= {f"{kind}/1_mask.png": png(np.full(SIZE, value, np.uint8) * (decoded() > 0)) for kind in ("crack", "pore")}
    found = items(files(tmp_path / "beside", named), Format.AUTO, "crack=crack", "pore=pore")
    assert [np.unique(item.mask).tolist() for item in found.values() if item.mask is not None] == [[0, 1], [0, 2]]
    mvtec = {f"test/{name}": data for name, data in named.items() if "mask" not in name}
    mvtec |= {f"ground_truth/{name}": data for name, data in named.items() if "mask" in name}
    found = items(files(tmp_path / "mvtec", {"train/good/2.png": shot(3), **mvtec}))
    assert [np.unique(item.mask).tolist() for item in found.values() if item.mask is not None] == [[0, 1], [0, 2]]


def test_numbers_of_kinds_in_a_folder_of_one_class_lead_to_what_helps(tmp_path: Path) -> None:
    kinds = (decoded() > 0).astype(np.uint8)
    kinds[40:44, 10:22] = 2
    named: Files = {f"test/{kind}/1.png": shot(k) for k, kind in enumerate(("crack", "pore"))}
    named |= {f"ground_truth/{kind}/1_mask.png": png(kinds) for kind in ("crack", "pore")}
    root = files(tmp_path, {"train/good/2.png": shot(3), **named})
    with pytest.raises(DatasetError, match=r"its mask shows pore too\n.*all mean crack write 255 .*--classes defect"):
        items(root)
    assert {item.labels for item in items(root, classes="defect").values()} == {(), None}


def test_a_jpeg_of_class_numbers_is_refused(tmp_path: Path) -> None:
    root = files(tmp_path, {"images/1.png": shot(1), "masks/1.jpg": jpeg((decoded() > 0).astype(np.uint8) * 5)})
    with pytest.raises(DatasetError, match=r"1.jpg: is a JPEG of class numbers, which it blurs.*\n.*as PNG"):
        items(root, classes="a,b")


def test_a_folder_in_the_one_of_good_pictures_is_no_class(tmp_path: Path) -> None:
    """good/day1/ beside good/1.png: its pictures were defects of the class day1."""
    root = files(tmp_path, {"good/1.png": shot(1), "good/day1/2.png": shot(2), "pore/3.png": shot(3)})
    with pytest.raises(DatasetError, match=r"2.png: lies in good/day1, and day1 is not good"):
        items(root)


# ── a mask beside each picture ──────────────────────────────────────────────────────────────────────────────────


def test_masks_beside_pictures(tmp_path: Path) -> None:
    root = files(
        tmp_path,
        {
            "train/1.png": shot(1),
            "train/1_GT.png": mask(),
            "test/1.png": shot(2),
            "test/1_GT.png": mask(empty=True),
        },
    )
    found = items(root)
    assert {name: (item.split, bool(item.mask.any())) for name, item in found.items() if item.mask is not None} == {
        "train/1.png": ("train", True),
        "test/1.png": ("test", False),
    }
    assert len({item.group for item in found.values()}) == 2


def test_a_folder_of_masks_beside_pictures_is_one_part(tmp_path: Path) -> None:
    named: Files = {}
    for k in range(4):
        named |= {f"kos{k // 2}/Part{k}.jpg": shot(k), f"kos{k // 2}/Part{k}_label.png": mask()}
    assert sorted(i.group for i in items(files(tmp_path, named)).values()) == ["kos0", "kos0", "kos1", "kos1"]


@pytest.mark.parametrize(
    ("folders", "rename"),
    [
        (("set/train", "set/test"), ()),
        (("data",), ()),
        (("pore", "crack"), ()),
        (("k1", "k2"), ("k1=pore", "k2=crack")),
    ],
)
def test_a_folder_of_masks_beside_pictures_is_no_part(
    tmp_path: Path, folders: tuple[str, ...], rename: tuple[str, ...]
) -> None:
    """A part of a split below the set's own folder, all there is, a class: each was one group, for one side."""
    named: Files = {}
    for k, way in enumerate(f"{folder}/{n}" for folder in folders for n in range(2)):
        named |= {f"{way}.png": shot(k), f"{way}_mask.png": mask()}
    found = items(files(tmp_path, named), Format.AUTO, *rename)
    assert len({i.group for i in found.values()}) == 2 * len(folders)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"2.png": shot(2)}, r"2.png: has no mask that is called after it\n.*mask of zeros.*--unlabelled-good"),
        ({"3_GT.png": mask()}, "3_GT.png: has no picture called 3 below"),
        ({"1_mask.png": mask()}, r"1_mask.png: is a second mask of .*1.png, beside .*1_GT.png"),
        ({"good/2.png": shot(2), "good/2_GT.png": mask()}, r"2.png: lies with the good ones, and .*2_GT.png shows"),
    ],
)
def test_a_picture_or_a_mask_alone_is_refused(tmp_path: Path, more: Files, says: str) -> None:
    root = files(tmp_path, {"1.png": shot(1), "1_GT.png": mask(), **more})
    with pytest.raises(DatasetError, match=says):
        items(root)


DAGM: Files = {
    "Class1/Train/1.PNG": shot(1),
    "Class1/Train/2.PNG": shot(2),
    "Class1/Train/Label/2_label.PNG": mask(),
    "Class1/Test/2.PNG": shot(3),
    "Class1/Test/3.PNG": shot(4),
    "Class1/Test/Label/3_label.PNG": mask(),
}


def marked(found: dict[str, Item]) -> dict[str, bool]:
    """Whether each picture shows a defect, and where."""
    return {name: item.mask is not None and bool(item.mask.any()) for name, item in found.items()}


def test_masks_in_a_folder_of_their_own_and_pictures_without_one_are_good_only_when_somebody_says_so(
    tmp_path: Path,
) -> None:
    root = files(tmp_path, DAGM)
    with pytest.raises(DatasetError, match=r"Test/2.PNG: has no mask .*\n.*--unlabelled-good"):
        items(root)
    found = items(root, unlabelled_good=True)
    assert marked(found) == {
        name: ("2" in name and "Train" in name) or "3" in name for name in DAGM if "Label" not in name
    }
    assert found["Class1/Train/1.PNG"].labels == ()
    assert {name: item.split for name, item in found.items()} == {
        name: "train" if "Train" in name else "test" for name in found
    }
    assert len({item.group for item in found.values()}) == 4


def test_a_mask_finds_the_picture_in_the_folder_of_its_name(tmp_path: Path) -> None:
    """Two pictures are called 1: the one that lies in ko/ has a mask in ko/. Masks had been pictures of class ko."""
    root = files(
        tmp_path,
        {
            "train/ok/1.bmp": shot(1),
            "test/ok/1.bmp": shot(2),
            "test/ko/1.bmp": shot(3),
            "ground_truth/ko/1.png": mask(),
        },
    )
    assert marked(items(root)) == {"train/ok/1.bmp": False, "test/ok/1.bmp": False, "test/ko/1.bmp": True}
    named = items(root, Format.AUTO, "ko=crack")
    assert {name: item.mask is not None for name, item in named.items()} == marked(named)
    said = snapshot(root, tmp_path / "out").manifest
    assert (said.classes, said.counts["test"]["defect"], said.counts["test"]["good"]) == (("defect",), 1, 1)


MAGNETS: Files = {
    "MT_Blowhole/Imgs/1.jpg": shot(1),
    "MT_Blowhole/Imgs/1.png": mask(),
    "MT_Break/Imgs/2.jpg": shot(2),
    "MT_Break/Imgs/2.png": mask(),
    "MT_Free/Imgs/3.jpg": shot(3),
    "MT_Free/Imgs/3.png": mask(empty=True),
}


def test_a_mask_of_the_name_of_a_jpeg_and_folders_that_are_classes_once_they_are_named(tmp_path: Path) -> None:
    root = files(tmp_path, MAGNETS)
    assert marked(items(root)) == {
        "MT_Blowhole/Imgs/1.jpg": True,
        "MT_Break/Imgs/2.jpg": True,
        "MT_Free/Imgs/3.jpg": False,
    }
    named = items(root, Format.AUTO, "MT_Blowhole=blowhole", "MT_Break=break")
    assert [int(item.mask.max()) for item in named.values() if item.mask is not None] == [1, 2, 0]
    with pytest.raises(DatasetError, match=r"2.jpg: lies in MT_Break/Imgs, which --rename does not name"):
        items(root, Format.AUTO, "MT_Blowhole=blowhole")


@pytest.mark.parametrize(
    "lost", [{"test/ko/2.png": shot(5), "ground_truth/ko/1.png": mask()}, {"x/1_mask.png": mask(), "x/2.png": shot(6)}]
)
def test_a_mask_whose_picture_is_gone_is_of_no_other_picture_of_that_name(tmp_path: Path, lost: Files) -> None:
    """The defect's mask marked a picture that nobody called defective."""
    root = files(
        tmp_path, {"test/rest/1.png": shot(1), "ground_truth/ko/2.png": mask(), "test/ko/2.png": shot(2), **lost}
    )
    with pytest.raises(DatasetError, match="has no picture called 1 "):
        items(root, unlabelled_good=True)


@pytest.mark.parametrize("named", ["masks/1_mask{}.png", "pore/1_mask{}.png", "ground_truth/pore/1/00{}.png"])
def test_several_masks_of_one_picture_mark_all_they_show(tmp_path: Path, named: str) -> None:
    pixels = np.zeros((2, *SIZE), np.uint8)
    pixels[0, 5:9, 5:9], pixels[1, 40:50, 5:9] = 255, 254
    named_so = {named.format(k): png(one) for k, one in enumerate(pixels)}
    (item,) = items(files(tmp_path, {"pore/1.png": shot(1), **named_so})).values()
    assert item.mask is not None
    assert np.array_equal(item.mask > 0, pixels.any(0))


def test_a_picture_in_a_masks_place_is_none(tmp_path: Path) -> None:
    """1.jpg saved as 1.png as well: half of it was a defect."""
    grey = png(picture(1, SIZE)[..., 0] + 20)
    with pytest.raises(DatasetError, match=r"1.png: is taken for a mask .* many greys\n.*--format folders"):
        items(files(tmp_path, {"pore/1.jpg": shot(1), "pore/1.png": grey}))


def test_a_mask_in_the_transparency_alone_is_refused(tmp_path: Path) -> None:
    """Its colours are black all over, which had been a good picture."""
    pixels = np.zeros((*SIZE, 4), np.uint8)
    pixels[20:24, 10:22, 3] = 255
    with pytest.raises(DatasetError, match=r"a.png: has its marks in the transparency alone"):
        items(files(tmp_path, {"images/a.png": shot(1), "masks/a.png": png(pixels)}))


def test_masks_called_otherwise_than_their_pictures_are_not_passed_over(tmp_path: Path) -> None:
    """Of pictures that said to be good where no mask is, each was."""
    root = files(tmp_path, {"images/a.png": shot(1), "masks/a_mask.png": mask(), "images/b.png": shot(2)})
    assert marked(items(root, unlabelled_good=True)) == {"images/a.png": True, "images/b.png": False}
    root = files(root, {"masks/b.png": mask(empty=True)})
    with pytest.raises(DatasetError, match=r"a_mask.png: has no picture of its name in .*images"):
        items(root, unlabelled_good=True)


def test_mvtec_with_good_pictures_for_validation_and_a_mask_for_each_defect(tmp_path: Path) -> None:
    """As MVTec LOCO has them; what lay in validation/ was passed over."""
    named: Files = {f"{part}/good/0.png": shot(k) for k, part in enumerate(("train", "validation", "test"))}
    named |= {"test/pore/0.png": shot(4), "test/pore/1.png": shot(5), "ground_truth/pore/1_mask.png": mask()}
    root = files(tmp_path, named | {f"ground_truth/pore/0/{k}.png": mask() for k in range(2)})
    assert open_source(root).format is Format.MVTEC
    assert marked(items(root)) == {name: "pore" in name for name in named if "ground" not in name}


def test_numbers_of_kinds_in_a_mask_are_one_class_where_one_is_asked_for(tmp_path: Path) -> None:
    kinds = np.zeros(SIZE, np.uint8)
    kinds[4:9, 4:9], kinds[20:29, 20:29] = 1, 3
    root = files(tmp_path, {"a.png": shot(1), "a_mask.png": png(kinds)})
    (item,) = items(root, classes="defect").values()
    assert item.mask is not None
    assert np.array_equal(item.mask, (kinds > 0).astype(np.uint8))


# ── runs of pixels in a CSV ─────────────────────────────────────────────────────────────────────────────────────


def runs(*rows: str, head: str = "ImageId,ClassId,EncodedPixels") -> str:
    return "\n".join([head, *rows])


STEEL: Files = {"train_images/a.png": shot(1), "train_images/b.png": shot(2), "test_images/c.png": shot(3)}


def test_runs_of_pixels_count_from_one_down_the_columns(tmp_path: Path) -> None:
    """64 high: pixels 1 to 3 are the top of the first column, 65 is the top of the second."""
    root = files(tmp_path, {"train.csv": runs("a.png,1,1 3 65 1", "a.png,4,5057 64"), **STEEL})
    with pytest.raises(DatasetError, match=r"b.png: has no row in .*train.csv\n.*--unlabelled-good"):
        items(root)
    found = items(root / "train.csv", Format.AUTO, "1=scratch", unlabelled_good=True)
    drawn = found["train_images/a.png"].mask
    assert drawn is not None
    assert {(int(y), int(x)) for y, x in np.argwhere(drawn == 1)} == {(0, 0), (1, 0), (2, 0), (0, 1)}
    assert np.argwhere(drawn == 2).tolist() == [[y, 79] for y in range(64)]
    # Nothing of test_images/ is named: nobody looked at it.
    assert {name: item.labels for name, item in found.items()} == {
        "train_images/a.png": None,
        "train_images/b.png": (),
    }
    out = snapshot(root / "train.csv", tmp_path / "out", unlabelled_good=True)
    assert out.manifest.classes == ("defect_1", "defect_4")
    assert sorted(s.labels for s in out.samples) == [(), ("defect_1", "defect_4")]


def test_a_row_without_runs_says_that_there_is_none(tmp_path: Path) -> None:
    joined = runs("a.png_1,1 3", "a.png_2,", "b.png_1,", "b.png_2,", head="ImageId_ClassId,EncodedPixels")
    found = items(files(tmp_path, {"train.csv": joined, **STEEL}))
    assert {name: bool(item.mask.any()) for name, item in found.items() if item.mask is not None} == {
        "train_images/a.png": True,
        "train_images/b.png": False,
    }


def test_runs_keep_the_part_of_the_split_their_picture_lies_in(tmp_path: Path) -> None:
    """It had been kept of good pictures only: defects went to either side."""
    named: Files = {f"{part}/{part}{k}.png": shot(k) for part in ("train", "test") for k in range(2)}
    root = files(tmp_path, {"t.csv": runs("train0.png,1,1 3", "test0.png,1,1 3"), **named})
    found = items(root, unlabelled_good=True)
    assert {name: item.split for name, item in found.items()} == {name: name.partition("/")[0] for name in named}


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("a.png,1,1 3 9", r"train.csv:2: has 3 numbers\n.*pairs"),
        ("a.png,1,0 3", r"train.csv:2: has the run 0 3\n.*within the 5120 px"),
        ("a.png,1,5120 2", "train.csv:2: has the run 5120 2"),
        ("a.png,1,1 x", "train.csv:2: has the runs '1 x'"),
        ("a.png,1,1 99999999999999999999", "train.csv:2: has the runs '1 9999"),
        ("z.png,1,1 3", "train.csv:2: names z.png, which is nowhere below"),
        (",1,1 3", "train.csv:2: names no picture or no class"),
        ("a.png,1", "train.csv:2: names no picture or no class"),
    ],
)
def test_runs_that_cannot_be_read_are_refused(tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        items(files(tmp_path, {"train.csv": runs(row), **STEEL}), unlabelled_good=True, classes="defect")


# ── what nobody labelled ────────────────────────────────────────────────────────────────────────────────────────

ALONE: dict[str, Files] = {
    "yolo": {"classes.txt": "pore", "images/a.png": shot(1), "images/b.png": shot(2), "labels/a.txt": "0 .5 .5 .2 .2"},
    "pairs": {"images/a.png": shot(1), "images/b.png": shot(2), "masks/a.png": mask()},
    "labelme": {"a.png": shot(1), "b.png": shot(2), "a.json": json.dumps({"imagePath": "a.png", "shapes": []})},
}


@pytest.mark.parametrize("form", ALONE)
def test_a_picture_without_a_label_file_is_good_only_when_somebody_says_so(tmp_path: Path, form: str) -> None:
    root = files(tmp_path, ALONE[form])
    with pytest.raises(DatasetError, match="--unlabelled-good"):
        items(root, classes="pore")
    found = items(root, classes="pore", unlabelled_good=True)
    assert next(item.labels for name, item in found.items() if name.endswith("b.png")) == ()


@pytest.mark.parametrize("form", ["voc", "labelme", "cvat", "rle"])
def test_of_good_pictures_beside_labelled_ones_a_new_name_says_so(tmp_path: Path, form: str) -> None:
    """`PCB_USED=good`: it was no class of the source's, and refused."""
    said: dict[str, Files] = {
        "voc": {"a.xml": voc(boxed("pore"))},
        "labelme": {"a.json": labelme(shape("rectangle", (1, 1), (9, 9)))},
        "cvat": {"annotations.xml": cvat(drawn("box", BOX))},
        "rle": {"t.csv": runs("a.png,pore,1 3")},
    }
    root = files(tmp_path, {**said[form], "a.png": shot(1), "PCB_USED/b.png": shot(2)})
    found = items(root, Format.AUTO, "PCB_USED=good")
    assert (found["PCB_USED/b.png"].labels, found["PCB_USED/b.png"].mask) == ((), None)
    for wrong in ("PCB_USED=pore", "PCB_UESD=good"):
        with pytest.raises(DatasetError, match="no source calls a class so"):
            items(root, Format.AUTO, wrong)


@pytest.mark.parametrize("row", ['a.png,"crack,pore"', "a.png;crack,pore"])
def test_labels_of_a_row_that_a_comma_parts_are_not_one_class(tmp_path: Path, row: str) -> None:
    """They were crack_pore."""
    head = "image;label" if ";" in row else "image,label"
    root = files(tmp_path, {"a.png": shot(1), "weld.csv": f"{head}\n{row}"})
    for asked in ({}, {"classes": "crack,pore"}):
        with pytest.raises(DatasetError, match=r"weld.csv:2: has the label 'crack,pore'\n.*by \+; .*'crack,pore=NAME'"):
            items(root / "weld.csv", **asked)
    (found,) = items(root / "weld.csv", Format.AUTO, "crack,pore=crack").values()
    assert found.labels == ("crack",)


@pytest.mark.parametrize("at", ["weld.csv", "splits/weld.csv"])
def test_a_table_names_its_pictures_from_its_folder_or_the_one_above(tmp_path: Path, at: str) -> None:
    """As VisA's split_csv/1cls.csv."""
    table = "image,mask,label\nData/a.png,,normal\nData/b.png,Masks/b.png,anomaly"
    root = files(tmp_path, {"Data/a.png": shot(1), "Data/b.png": shot(2), "Masks/b.png": mask(), at: table})
    source = open_source(root / at)
    found = list(source.items(make_target([source], None, None, None, None)))
    assert [(item.labels, item.mask is None) for item in found] == [((), True), (None, False)]


def test_a_folder_with_a_table_says_so(tmp_path: Path) -> None:
    root = files(tmp_path, {"labels.csv": "image,label\na.png,good\n", "a.png": shot(1)})
    with pytest.raises(DatasetError, match=r"import the table itself, .*labels.csv"):
        open_source(root)


# ── Label Studio ────────────────────────────────────────────────────────────────────────────────────────────────


def test_uploads_to_label_studio_are_found_by_their_names(tmp_path: Path) -> None:
    """Their address is the program's own, `/data/upload/1/0a1b2c3d-a.png`, and only pictures beside the json were."""
    result = {"type": "choices", "value": {"choices": ["pore"]}}

    def told(*names: str) -> Files:
        tasks = [{"data": {"image": f"/data/upload/1/{n}"}, "annotations": [{"result": [result]}]} for n in names]
        return {"project.json": json.dumps(tasks)}

    here: Files = {"images/0a1b2c3d-a.png": shot(1), "more/b.png": shot(2)}
    root = files(tmp_path, told("0a1b2c3d-a.png", "11111111-b.png") | here)
    assert {name: item.labels for name, item in items(root).items()} == dict.fromkeys(here, ("pore",))
    with pytest.raises(DatasetError, match=r"22222222-b.png: is missing, which .*task 2 names"):
        items(files(root, told("11111111-b.png", "22222222-b.png")))
    with pytest.raises(DatasetError, match=r"task 1: may be of .*b.png and of .*b.png"):
        items(files(root, told("11111111-b.png") | {"even more/b.png": shot(3)}))


def test_of_a_split_without_val_it_is_taken_out_of_train(tmp_path: Path) -> None:
    """Most public sets come for train and test, and an export found nothing to choose its limits on."""
    ways = [f"{part}/{kind}/{k}.png" for part in ("train", "test") for kind in ("good", "bad") for k in range(20)]
    root = files(tmp_path, {way: shot(k) for k, way in enumerate(ways)})
    counts = snapshot(root, tmp_path / "out").manifest.counts
    assert counts["test"]["samples"] == 40
    assert 0 < counts["val"]["samples"] < 16
    assert counts["train"]["samples"] == 40 - counts["val"]["samples"]


# ── Pascal VOC ──────────────────────────────────────────────────────────────────────────────────────────────────


def voc(*objects: str, size: tuple[int, int] = (80, 64)) -> str:
    sides = f"<width>{size[0]}</width><height>{size[1]}</height>"
    return f"<annotation><filename>x</filename><size>{sides}</size>{''.join(objects)}</annotation>"


def boxed(name: str, left: float = 10, top: float = 20, right: float = 30, bottom: float = 28) -> str:
    sides = f"<xmin>{left}</xmin><ymin>{top}</ymin><xmax>{right}</xmax><ymax>{bottom}</ymax>"
    return f"<object><name>{name}</name><bndbox>{sides}</bndbox></object>"


@pytest.mark.parametrize("layout", ["Annotations/{}.xml JPEGImages/{}.png", "{}.xml {}.png"])
def test_pascal_voc(tmp_path: Path, layout: str) -> None:
    label, image = layout.split()
    named: Files = {image.format("a"): shot(1), image.format("b"): shot(2)}
    named |= {"SegmentationClass/a.png": mask(), image.format("._a"): b"of a Mac"}
    named |= {label.format("a"): voc(boxed("rolled-in_scale"), boxed("Pore", 50, 2, 60.5, 9)), label.format("b"): voc()}
    found = items(files(tmp_path, named))
    drawn, good = found[image.format("a")], found[image.format("b")]
    assert drawn.labels == ("rolled_in_scale", "pore")
    assert [a.box_px for a in drawn.annotations] == [(10, 20, 20, 8), (50, 2, 10.5, 7)]
    assert drawn.mask_is_boxes
    assert good.labels == ()
    assert good.mask is not None
    assert not good.mask_is_boxes


def test_pascal_voc_in_parts_of_a_split_finds_the_picture_of_the_same_part(tmp_path: Path) -> None:
    named: Files = {f"{p}/images/good/1.png": shot(k) for k, p in enumerate(("train", "valid"))}
    named["__MACOSX/._1.xml"] = b"of a Mac"
    named |= {"train/annotations/1.xml": voc(boxed("pore")), "valid/annotations/1.xml": voc()}
    found = items(files(tmp_path, named))
    assert {name: (item.split, item.labels) for name, item in found.items()} == {
        "train/images/good/1.png": ("train", ("pore",)),
        "valid/images/good/1.png": ("val", ()),
    }


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"a.xml": voc(boxed("pore")), "a.png": shot(1), "b.png": shot(2)}, r"b.png: has no .xml file\n.*called good"),
        ({"a.xml": voc(boxed("pore"))}, "a.xml: has no picture called a below"),
        ({"1/a.xml": voc(boxed("pore")), "1/b.png": shot(1), "2/a.png": shot(2)}, "a.xml: has no picture called a bel"),
        ({"a.xml": voc(boxed("pore")), "1/a.png": shot(1), "2/a.png": shot(2)}, "a.xml: may be of .*1/a.png and of"),
        ({"a.xml": voc(boxed("pore"), size=(64, 80)), "a.png": shot(1)}, "a.png: is 80x64 px, and .* says 64x80"),
        ({"a.xml": voc(boxed("pore")).replace("80", "wide"), "a.png": shot(1)}, "a.xml: has the width 'wide'"),
        ({"a.xml": voc(boxed("pore", 30, 2, 10, 9)), "a.png": shot(1)}, "object 1: holds the box 30, 2, -20, 7"),
        ({"a.xml": voc(boxed("pore").replace("10", "ten")), "a.png": shot(1)}, "object 1: holds a box that does not"),
        ({"a.xml": voc(boxed("")), "a.png": shot(1)}, "has an object without name"),
        ({"a.xml": voc(), "b.xml": "<?xml version='1.0' encoding='x'?><a/>", "a.png": shot(1)}, "b.xml: is in an enc"),
        ({"a.xml": voc(), "b.xml": "<annotation>\n<a>", "a.png": shot(1)}, r"b.xml:2: is no XML"),
    ],
)
def test_pascal_voc_that_cannot_be_read_is_refused(tmp_path: Path, named: Files, says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        items(files(tmp_path, named))


# ── LabelMe ─────────────────────────────────────────────────────────────────────────────────────────────────────


def labelme(*shapes: dict[str, object], image: str = "a.png", **more: object) -> str:
    return json.dumps({"version": "5.4.1", "shapes": shapes, "imagePath": image, "imageData": None, **more})


def shape(kind: str, *points: tuple[float, float], label: str = "pore") -> dict[str, object]:
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, "group_id": None}


def test_labelme(tmp_path: Path) -> None:
    polygon = shape("polygon", (10, 10), (30, 10), (30, 20), (10, 20), label="Lack of fusion")
    named: Files = {
        "a.json": labelme(polygon, shape("circle", (60, 40), (65, 40)), image="a.png"),
        "b.json": labelme(shape("rectangle", (30, 28), (10, 20)), image="..\\pictures\\b.png", imageWidth=80),
        "c.json": labelme(image="c.png"),
    }
    named |= {"a.png": shot(1), "pictures/b.png": shot(2), "c.png": shot(3)}
    found = items(files(tmp_path, named))
    outlined, box, good = (found[name] for name in ("a.png", "pictures/b.png", "c.png"))
    assert outlined.labels == ("lack_of_fusion", "pore")
    assert outlined.mask is not None
    assert not outlined.mask_is_boxes
    assert (outlined.mask == 1).sum() == 20 * 10
    assert (outlined.mask == 2).sum() == pytest.approx(np.pi * 25, rel=0.05)
    assert (box.mask_is_boxes, box.annotations[0].box_px) == (True, (10, 20, 20, 8))
    assert good.labels == ()


@pytest.mark.parametrize(
    ("named", "says"),
    [
        ({"a.json": labelme(shape("line", (1, 1), (9, 9))), "a.png": shot(1)}, "shape 1: is a line of 2 points"),
        ({"a.json": labelme(shape("polygon", (1, 1), (9, 9))), "a.png": shot(1)}, "has an outline of 4 numbers"),
        (
            {"a.json": labelme(shape("polygon", (101, 1), (109, 9), (103, 9))), "a.png": shot(1)},
            "shape 1: is an outline outside the picture",
        ),
        ({"a.json": labelme(shape("circle", (1, float("nan")), (9, 9))), "a.png": shot(1)}, "corner that is nowhere"),
        ({"a.json": labelme(imageWidth=64, imageHeight=80), "a.png": shot(1)}, "is 80x64 px, and .* says 64x80"),
        ({"a.json": labelme(), "a.png": shot(1), "b.png": shot(2)}, r"b.png: has no .json file\n.*called good"),
        ({"a.json": labelme(), "b.json": "{}", "a.png": shot(1)}, "b.json: shapes: field required"),
    ],
)
def test_labelme_that_cannot_be_read_is_refused(tmp_path: Path, named: Files, says: str) -> None:
    with pytest.raises(DatasetError, match=f"(?i){says}"):
        items(files(tmp_path, named), classes="pore")


# ── CVAT for images ─────────────────────────────────────────────────────────────────────────────────────────────


def cvat(*images: str) -> str:
    """Of pictures a.png, b.png ... what is drawn on each."""
    sides = 'width="80" height="64"'
    listed = "".join(f'<image id="{n}" name="{"abcdefg"[n]}.png" {sides}>{on}</image>' for n, on in enumerate(images))
    return f"<annotations><version>1.1</version><meta><task/></meta>{listed}</annotations>"


def drawn(kind: str, more: str = "", label: str = "pore") -> str:
    return f'<{kind} label="{label}" source="manual" occluded="0" z_order="0" {more}></{kind}>'


BOX = 'xtl="10" ytl="20" xbr="30.5" ybr="28"'


def test_cvat(tmp_path: Path) -> None:
    marks = [
        drawn("box", BOX),
        drawn("polygon", 'points="10.00,10.00;30.00,10.00;30.00,20.00;10.00,20.00"', "Lack of fusion"),
        drawn("mask", 'rle="1, 2, 2, 1" left="5" top="7" width="3" height="2"') + drawn("tag", label="crack"),
        drawn("mask", 'rle="1, 2, 2, 1" left="5" top="7" width="3" height="2"') + drawn("tag", label="pore"),
        drawn("tag", label="good"),
        drawn("ellipse", 'cx="40" cy="30" rx="10" ry="4" rotation="90.0"') + drawn("box", f'{BOX} rotation="90"'),
        "",
    ]
    named: Files = {f"images/{name}.png": shot(k) for k, name in enumerate("abcdefg")}
    root = files(tmp_path, {"annotations.xml": cvat(*marks), **named})
    assert (open_source(root).format, open_source(root / "annotations.xml").format) == (Format.CVAT, Format.CVAT)
    found = items(root)
    box, outlined, tagged, brushed, good, turned, bare = (found[name] for name in named)
    assert (box.labels, box.mask_is_boxes, box.annotations[0].box_px) == (("pore",), True, (10, 20, 20.5, 8))
    assert outlined.mask is not None
    assert (outlined.labels, (outlined.mask == 1).sum()) == (("lack_of_fusion",), 20 * 10)
    assert (tagged.labels, tagged.mask) == (("pore", "crack"), None)
    assert brushed.mask is not None
    assert [(int(x), int(y)) for y, x in np.argwhere(brushed.mask)] == [(6, 7), (7, 7), (7, 8)]
    assert (good.labels, bare.labels) == ((), ())
    assert (good.unmarked, bare.unmarked, tagged.unmarked) == (False, True, False)
    assert turned.mask is not None
    assert turned.mask[21:39, 40].all()
    assert not turned.mask[30, 45:].any()
    assert [round(v, 2) for v in turned.annotations[1].box_px or ()] == [16.25, 13.75, 8, 20.5]


@pytest.mark.parametrize(
    ("on", "says"),
    [
        (drawn("polyline", 'points="1,1;9,9"'), "mark 1: is a polyline, which has no area"),
        (drawn("box", BOX.replace("30.5", "wide")), "has xbr 'wide'"),
        (drawn("polygon", 'points="1,1;9,9"'), "has an outline of 4 numbers"),
        (drawn("polygon", 'points="101,1;109,9;103,9"'), "is an outline outside the picture"),
        (drawn("mask", 'rle="1, 2" left="5" top="7" width="3" height="2"'), "runs that do not fill 3x2 px"),
        (drawn("mask", 'rle="0, 6" left="78" top="7" width="3" height="2"'), "runs that do not fill 3x2 px"),
        (drawn("ellipse", 'cx="nan" cy="30" rx="10" ry="4"'), "has cx 'nan'"),
        (f"</image></annotations>{BOX}", "annotations.xml:1: is no XML"),
        ("</image><track/><image>", "is CVAT's export for video"),
        ('</image><image name="z.png">', "annotations.xml: has no picture called z below"),
    ],
)
def test_cvat_that_cannot_be_read_is_refused(tmp_path: Path, on: str, says: str) -> None:
    root = files(tmp_path, {"annotations.xml": cvat(on), "a.png": shot(1)})
    with pytest.raises(DatasetError, match=says):
        items(root, Format.CVAT, task="weld", classes="pore")


def test_pictures_of_a_task_that_was_not_exported_are_refused(tmp_path: Path) -> None:
    root = files(tmp_path, {"annotations.xml": cvat(drawn("box", BOX)), "a.png": shot(1), "b.png": shot(2)})
    with pytest.raises(DatasetError, match=r"b.png: is not in .*annotations.xml\n.*--unlabelled-good"):
        items(root)
    assert items(root, unlabelled_good=True)["b.png"].labels == ()
    assert make_target([open_source(root)], None, None, None, None).task == class_name(root.name, root)


def test_a_subset_of_cvat_is_a_part_of_the_split(tmp_path: Path) -> None:
    told = (
        cvat("", drawn("box", BOX))
        .replace('name="a', 'subset="Train" name="a')
        .replace('name="b', 'subset="Validation" name="b')
    )
    root = files(tmp_path, {"annotations.xml": told, "images/Train/a.png": shot(1), "images/Validation/b.png": shot(2)})
    assert sorted((i.split, i.labels) for i in items(root).values()) == [("train", ()), ("val", ("pore",))]


# ── Supervisely ─────────────────────────────────────────────────────────────────────────────────────────────────


def supervisely(*objects: dict[str, object], tags: tuple[str, ...] = ()) -> str:
    """Of a picture of SIZE, as its SDK and its export write it."""
    listed = [{"id": n, "classId": 7, "description": "", "tags": [], **o} for n, o in enumerate(objects, 1)]
    said = [{"id": n, "tagId": 3, "name": name, "value": None} for n, name in enumerate(tags, 1)]
    size = {"height": SIZE[0], "width": SIZE[1]}
    return json.dumps({"description": "", "tags": said, "size": size, "objects": listed})


def outlined(
    kind: str, *exterior: list[int], interior: tuple[object, ...] = (), title: str = "pore"
) -> dict[str, object]:
    points = {"exterior": exterior, "interior": interior}
    return {"geometryType": kind, "classTitle": title, "points": points}


def brushed(data: str, left: int = 5, top: int = 7) -> dict[str, object]:
    return {"geometryType": "bitmap", "classTitle": "pore", "bitmap": {"data": data, "origin": [left, top]}}


def packed(pixels: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(png(pixels))).decode()


def project(root: Path, *said: str, classes: tuple[str, ...] = ("Lack of fusion", "pore"), ds: str = "ds0") -> Path:
    """Of pictures a.png, b.png ..."""
    meta = {"classes": [{"title": title, "shape": "any", "color": "#ff0000"} for title in classes], "tags": []}
    named: Files = {f"{ds}/img/{'abcdefg'[k]}.png": shot(k) for k in range(len(said))}
    named |= {f"{ds}/ann/{'abcdefg'[k]}.png.json": told for k, told in enumerate(said)}
    return files(root, {"meta.json": json.dumps(meta), **named})


def test_supervisely(tmp_path: Path) -> None:
    corners = ([10, 10], [29, 10], [29, 19], [10, 19])
    hole = [[14, 13], [20, 13], [20, 16], [14, 16]]
    inside = np.zeros((2, 3, 4), np.uint8)
    inside[0, 1:, 3] = inside[1, 0, 3] = 255
    root = project(
        tmp_path,
        supervisely(outlined("rectangle", [29, 27], [10, 20]), tags=("val", "line 3")),
        supervisely(outlined("polygon", *corners, title="Lack of fusion")),
        supervisely(outlined("polygon", *corners, interior=(hole,)), tags=("Lack of fusion",)),
        supervisely(brushed(packed(inside))),
        supervisely(brushed(packed(np.array([[0, 255, 255], [255, 0, 0]], np.uint8)))),
        supervisely(tags=("good",)),
        supervisely(),
    )
    assert open_source(root).format is Format.SUPERVISELY
    box, filled, tagged, transparent, grey, good, bare = items(root).values()
    assert (box.labels, box.mask_is_boxes, box.split) == (("pore",), True, "val")
    assert box.annotations[0].box_px == (10, 20, 20, 8)
    assert filled.mask is not None
    assert (filled.labels, (filled.mask == 1).sum(), filled.split) == (("lack_of_fusion",), 20 * 10, None)
    assert (tagged.labels, tagged.mask) == (("pore", "lack_of_fusion"), None)
    for item in (transparent, grey):
        assert item.mask is not None
        assert [(int(x), int(y)) for y, x in np.argwhere(item.mask)] == [(6, 7), (7, 7), (5, 8)]
    assert (good.labels, good.unmarked, bare.labels, bare.unmarked) == ((), False, (), True)
    with pytest.raises(DatasetError, match=rf"import {root}, which looks like supervisely"):
        open_source(root / "ds0" / "img")


def test_a_hole_in_a_polygon_of_supervisely_is_none_of_it(tmp_path: Path) -> None:
    hole = [[14, 13], [20, 13], [20, 16], [14, 16]]
    rim = ([10, 10], [29, 10], [29, 19], [10, 19])
    (item,) = items(project(tmp_path, supervisely(outlined("polygon", *rim, interior=(hole,))))).values()
    assert item.mask is not None
    assert (item.mask[14, 17], item.mask[10, 10], item.mask[19, 29]) == (0, 1, 1)


def test_tags_of_supervisely_are_classes_where_it_has_no_other_and_else_told(tmp_path: Path) -> None:
    told = [supervisely(tags=("crack", "train")), supervisely(tags=("good",)), supervisely(tags=("line 3",))]
    found = items(project(tmp_path / "tags", *told[:2], classes=())).values()
    assert next((item.labels, item.mask, item.split) for item in found) == (("crack",), None, "train")
    root = project(tmp_path / "drawn", supervisely(outlined("rectangle", [1, 1], [9, 9])), *told)
    _, cracked, good, other = items(root).values()
    assert (cracked.labels, good.labels, good.doubt, other.labels) == ((), (), "", ())
    assert "is tagged 'crack', which is no class, and has no object: taken as good; a tag is a class" in cracked.doubt
    assert next(i for n, i in items(root, Format.AUTO, "crack=crack").items() if "b.png" in n).labels == ("crack",)


@pytest.mark.parametrize("ds", ["train", "good"])
def test_a_picture_without_a_file_of_supervisely_is_good_where_somebody_says_so(tmp_path: Path, ds: str) -> None:
    root = project(tmp_path, supervisely(outlined("rectangle", [1, 1], [9, 9])), ds="ds0")
    files(root, {f"{ds}/img/z.png": shot(9), f"{ds}/ann/.keep": ""})
    if ds == "train":
        with pytest.raises(DatasetError, match=r"z.png: has no z.png.json in .*ann\n.*--unlabelled-good"):
            items(root)
    found = items(root, unlabelled_good=ds == "train")[f"{ds}/img/z.png"]
    assert (found.labels, found.split) == ((), "train" if ds == "train" else None)


@pytest.mark.parametrize(
    ("on", "says"),
    [
        (outlined("line", [1, 1], [9, 9]), "object 1: is a line that has no area"),
        (outlined("polygon", [1, 1], [9, 9]), "has an outline of 4 numbers"),
        (outlined("polygon", [101, 1], [109, 9], [103, 9]), "is an outline outside the picture"),
        (outlined("rectangle", [101, 1], [109, 9]), "outside the picture of 80x64 px"),
        (brushed("no base64!"), "has a bitmap that does not read"),
        (brushed("AAAA"), "has a bitmap that does not read"),
        (brushed(base64.b64encode(zlib.compress(b"x")).decode()), "has a bitmap that is no PNG"),
        (brushed(packed(np.full((2, 3), 255, np.uint8)), left=78), "a bitmap of 3x2 px at 78, 7, outside the picture"),
        ({"classTitle": "pore"}, "a.png.json: .*geometryType"),
    ],
)
def test_supervisely_that_cannot_be_read_is_refused(tmp_path: Path, on: dict[str, object], says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        items(project(tmp_path, supervisely(on)), task="weld", classes="pore")


# ── VIA ─────────────────────────────────────────────────────────────────────────────────────────────────────────


def via(*regions: list[object] | dict[str, object], project: bool = False) -> str:
    """Of pictures a.png, b.png ..."""
    listed = {f"{n}123": {"filename": f"{'abcd'[n]}.png", "size": 123, "regions": r} for n, r in enumerate(regions)}
    return json.dumps({"_via_settings": {}, "_via_img_metadata": listed} if project else listed)


def region(kind: str, label: object = "pore", **attributes: object) -> dict[str, object]:
    said = label if isinstance(label, dict) else {"kind": label}
    return {"shape_attributes": {"name": kind, **attributes}, "region_attributes": said}


RECT: dict[str, object] = {"x": 10, "y": 20, "width": 20, "height": 8}
SQUARE: dict[str, object] = {"all_points_x": [10, 30, 30, 10], "all_points_y": [10, 10, 20, 20]}


@pytest.mark.parametrize("project", [False, True])
def test_via(tmp_path: Path, project: bool) -> None:
    marks: list[list[object] | dict[str, object]] = [
        [region("polygon", {"size": "big", "Class": "Lack of fusion"}, **SQUARE)],
        {"0": region("rect", {"kind": {"pore": True, "crack": False}}, **RECT)},
        [],
        [region("circle", "", cx=40, cy=30, r=5), region("ellipse", cx=40, cy=30, rx=9, ry=3, theta=np.pi / 2)],
    ]
    named: Files = {f"pictures/{name}.png": shot(k) for k, name in enumerate("abcd")}
    root = files(tmp_path, {"via_export.json": via(*marks, project=project), **named})
    assert open_source(root).format is open_source(root / "via_export.json").format is Format.VIA
    outlined, box, good, unnamed = (items(root)[name] for name in named)
    assert outlined.mask is not None
    assert (outlined.labels, (outlined.mask > 0).sum()) == (("lack_of_fusion",), 20 * 10)
    assert (box.labels, box.mask_is_boxes, box.annotations[0].box_px) == (("pore",), True, (10, 20, 20, 8))
    assert (good.labels, unnamed.labels) == ((), ("defect", "pore"))
    assert [item.unmarked for item in (outlined, box, good, unnamed)] == [False, False, True, False]
    assert unnamed.mask is not None
    assert unnamed.mask[22:38, 40].all()


def test_via_in_parts_of_a_split(tmp_path: Path) -> None:
    named: Files = {f"{part}/a.png": shot(k) for k, part in enumerate(("train", "val"))}
    named |= {"train/via.json": via([]), "val/via.json": via([region("rect", **RECT)])}
    found = items(files(tmp_path, named))
    assert {name: (item.split, item.labels) for name, item in found.items()} == {
        "train/a.png": ("train", ()),
        "val/a.png": ("val", ("pore",)),
    }
    assert len({item.group for item in found.values()}) == 2


@pytest.mark.parametrize(
    ("on", "says"),
    [
        ([region("polyline", **SQUARE)], "region 1: is a polyline, which has no area"),
        ([region("rect", x=1)], "region 1: does not read: 'y'"),
        ([region("polygon", all_points_x=[1, 2, 3], all_points_y=[1])], "region 1: does not read"),
        ([region("circle", cx=400, cy=30, r=5)], "region 1: is an outline outside the picture"),
        ([region("rect", {"a": "x", "b": "y"}, **RECT)], "has a region with a and b"),
        ([region("rect", {"a": {"x": True, "y": True}}, **RECT)], r"has a region of a x\+y"),
        ([region("circle", cx=float("nan"), cy=30, r=5)], "has an outline with a corner that is nowhere"),
        ([{}], "has regions without a shape"),
        ([{"shape_attributes": [], "region_attributes": {}}], "has regions without a shape"),
    ],
)
def test_via_that_cannot_be_read_is_refused(tmp_path: Path, on: list[object], says: str) -> None:
    with pytest.raises(DatasetError, match=says):
        items(files(tmp_path, {"via.json": via(on), "a.png": shot(1)}), classes="defect", task="weld")


def test_a_picture_via_does_not_list_is_refused(tmp_path: Path) -> None:
    root = files(tmp_path, {"via.json": via([region("rect", **RECT)]), "a.png": shot(1), "b.png": shot(2)})
    with pytest.raises(DatasetError, match=r"b.png: is not in .*via.json\n.*--unlabelled-good"):
        items(root)


# ── YOLO as ultralytics and Roboflow lay it out ─────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("layout", ["{what}/{part}/{name}", "{part}/{what}/{name}"])
@pytest.mark.parametrize("names", ["names: [pore, Bad Weld]\n", "names:\n  0: pore\n  1: Bad Weld\n"])
def test_yolo_in_parts_of_a_split(tmp_path: Path, layout: str, names: str) -> None:
    named: Files = {"data.yaml": f"train: ../train/images\nnc: 2\n{names}"}
    for k, part in enumerate(("train", "valid")):
        named[layout.format(what="images", part=part, name="._1.png")] = b"of a Mac"
        named[layout.format(what="images", part=part, name="1.png")] = shot(k)
        named[layout.format(what="labels", part=part, name="1.txt")] = "1 .5 .5 .25 .125" if k else ""
    found = items(files(tmp_path, named))
    assert sorted((item.split, item.labels, item.group) for item in found.values()) == [
        ("train", (), "train-1"),
        ("val", ("bad_weld",), "valid-1"),
    ]


def test_copies_that_roboflow_made_of_a_picture_are_of_its_group(tmp_path: Path) -> None:
    """Turned and lighter ones: dealt out one by one they would be on both sides of a split."""
    named: Files = {"data.yaml": "names: [pore]"}
    for k, name in enumerate(("w1_jpg.rf.0a1b", "w1_jpg.rf.2c3d", "w2_jpg.rf.4e5f")):
        named |= {f"train/images/{name}.png": shot(k), f"train/labels/{name}.txt": ""}
    assert sorted(item.group for item in items(files(tmp_path, named)).values()) == [
        "train-w1_jpg",
        "train-w1_jpg",
        "train-w2_jpg",
    ]


@pytest.mark.parametrize(
    ("yaml", "says"),
    [
        ("nc: 2\n", "data.yaml: names no class"),
        ("nc: 2\nnames: [pore\n", r"data.yaml:\d: is not YAML"),
        ("names: {1: pore}\n", "data.yaml: numbers its names 1"),
    ],
)
def test_names_that_cannot_be_read_are_refused(tmp_path: Path, yaml: str, says: str) -> None:
    root = files(tmp_path, {"data.yaml": yaml, "train/images/a.png": shot(1), "train/labels/a.txt": ""})
    with pytest.raises(DatasetError, match=says):
        items(root)


def test_a_folder_that_is_no_part_of_a_split_is_refused(tmp_path: Path) -> None:
    named: Files = {"data.yaml": "names: [pore]", "batch 7/images/a.png": shot(1), "batch 7/labels/a.txt": ""}
    with pytest.raises(DatasetError, match=r"lies in a folder that is no part of a split\n.*call it train"):
        items(files(tmp_path, named))


# ── what they call it, and what it is here ──────────────────────────────────────────────────────────────────────


def coco(*boxes: tuple[int, int], names: tuple[str, ...] = ("Good Weld", "1_pore")) -> str:
    """Boxes: (image, category)."""
    return json.dumps(
        {
            "images": [{"id": k, "file_name": f"{k}.png"} for k in range(2)],
            "annotations": [{"image_id": i, "category_id": c, "bbox": [2, 2, 9, 9]} for i, c in boxes],
            "categories": [{"id": k, "name": name} for k, name in enumerate(names)],
        }
    )


@pytest.mark.parametrize(("folder", "unmarked"), [("", True), ("new/", True), ("good/", False)])
def test_a_picture_coco_lists_without_a_mark_is_told_but_where_its_folder_says_that_it_is_good(
    tmp_path: Path, folder: str, unmarked: bool
) -> None:
    told = coco((1, 0), names=("pore",)).replace("0.png", f"{folder}0.png")
    root = files(tmp_path, {"a.json": told, f"{folder}0.png": shot(1), "1.png": shot(2)})
    assert [(item.labels, item.unmarked) for item in items(root).values()] == [((), unmarked), (("pore",), False)]


@pytest.mark.parametrize("at", ["deep", "deep/er", "deep/er/set/images", "deep/er/set/labels"])
@pytest.mark.parametrize("form", ["yolo", "coco"])
def test_a_folder_beside_the_one_that_is_meant_leads_to_it(tmp_path: Path, at: str, form: str) -> None:
    named: dict[str, Files] = {
        "yolo": {"labels/0.txt": "0 .5 .5 .2 .2", "classes.txt": "pore"},
        "coco": {"annotations/instances.json": coco((0, 0), names=("pore",)), "labels/unused.txt": ""},
    }
    files(tmp_path / "deep/er/set", {"images/0.png": shot(1), **named[form]})
    with pytest.raises(DatasetError, match=rf"fix: import {tmp_path}/deep/er/set, which looks like {form}; name it"):
        open_source(tmp_path / at)


@pytest.mark.parametrize(
    ("path", "task"),
    [
        ("Weld seam/t.csv", "t"),
        ("Weld seam/train.csv", "weld_seam"),
        ("Weld seam/export/annotations_2.csv", "weld_seam"),
        ("Weld seam/project-1-at-2026-05-04-08-10-1a2b3c4d.csv", "weld_seam"),
        ("Weld seam/data/export/via_export_csv.csv", None),
    ],
)
def test_a_task_is_not_called_train(tmp_path: Path, path: str, task: str | None) -> None:
    """Nor is its bundle then train-0.1.0."""
    files((tmp_path / path).parent, {"a.png": shot(1), Path(path).name: "image,label\na.png,pore"})
    source = open_source(tmp_path / path)
    if task:
        assert make_target([source], None, None, None, None).task == task
        return
    with pytest.raises(DatasetError, match=r"has no name that says what the task is\n.*--task weld"):
        make_target([source], None, None, None, None)


def test_an_archive_is_to_be_unpacked(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "export.zip", "w") as packed:
        packed.writestr("a.json", "{}")
    with pytest.raises(DatasetError, match=r"no format that is known here\n  fix: unpack it"):
        open_source(tmp_path / "export.zip")


def test_of_two_folders_that_may_be_meant_none_is_named(tmp_path: Path) -> None:
    for name in ("a", "b"):
        files(tmp_path / name, {"images/0.png": shot(1), "labels/0.txt": "", "classes.txt": "pore"})
    with pytest.raises(DatasetError, match="is in no format that is known here\n  fix: name it"):
        open_source(tmp_path)


def test_categories_of_mvtec_are_not_read_as_one(tmp_path: Path) -> None:
    """As masks anywhere below, the defects of all of them were of one class."""
    for category in ("bottle", "cable"):
        files(
            tmp_path / category,
            {"train/good/0.png": shot(1), "test/broken/0.png": shot(2), "ground_truth/broken/0_mask.png": mask()},
        )
    with pytest.raises(DatasetError, match=rf"is none\n  fix: import {tmp_path}/bottle, or with cable and others"):
        open_source(tmp_path)
    assert open_source(tmp_path, Format.MASKS_BESIDE).classes(Names()) == ("defect",)


def test_names_that_are_no_class_names_are_all_told_at_once(tmp_path: Path) -> None:
    root = files(tmp_path, {"0.xml": voc(boxed("1_pore"), boxed("crack"), boxed("2_gap")), "0.png": shot(1)})
    with pytest.raises(DatasetError, match=r"'1_pore', '2_gap' give.*\n.*'1_pore=NAME' --rename '2_gap=NAME'"):
        items(root)


TWO: Files = {"0.png": shot(1), "1.png": shot(2)}
RENAMED: dict[str, Files] = {
    "coco": {"a.json": coco((0, 0), (1, 0), (1, 1)), **TWO},
    "yolo": {
        **{f"images/{name}": data for name, data in TWO.items()},
        "labels/0.txt": "0 .5 .5 .2 .2",
        "labels/1.txt": "0 .5 .5 .2 .2\n1 .5 .5 .1 .1",
        "classes.txt": "Good Weld\n1_pore",
    },
    "voc": {"0.xml": voc(boxed("Good Weld")), "1.xml": voc(boxed("Good Weld"), boxed("1_pore", 50, 2, 60, 9)), **TWO},
    "labelme": {
        "0.json": labelme(shape("rectangle", (1, 1), (9, 9), label="Good Weld"), image="0.png"),
        "1.json": labelme(shape("rectangle", (1, 1), (9, 9), label="1_pore"), image="1.png"),
        **TWO,
    },
    "folders": {"Good Weld/0.png": shot(1), "1_pore/1.png": shot(2)},
    "mvtec": {
        "train/good/2.png": shot(3),
        "test/Good Weld/0.png": shot(1),
        "test/1_pore/1.png": shot(2),
        "ground_truth/1_pore/1_mask.png": mask(),
    },
    "table": {"t.csv": "image,mask_or_boxes,label,group\n0.png,,Good Weld,0\n1.png,,1_pore,1", **TWO},
}


@pytest.mark.parametrize("form", RENAMED)
def test_a_class_is_renamed_and_what_is_good_marks_nothing(tmp_path: Path, form: str) -> None:
    root = files(tmp_path, RENAMED[form])
    source = root / "t.csv" if form == "table" else root
    with pytest.raises(DatasetError, match=r"'1_pore' gives no class name\n.*--rename '1_pore=NAME'"):
        labels(source, Format(form), [])
    assert labels(source, Format(form), ["Good Weld=good", "1_pore=pore"]) == {"0": (), "1": ("pore",)}
    with pytest.raises(DatasetError, match="--rename: names 'good_wled', and no source calls a class so"):
        labels(source, Format(form), ["Good Wled=good", "1_pore=pore"])


def labels(path: Path, format: Format, rename: list[str]) -> dict[str, tuple[str, ...]]:
    """Of pictures 0 and 1."""
    source, names = open_source(path, format), Names.of(rename)
    check_renamed(names, [source])
    target = make_target([source], "task", None, None, None, names)
    found = {item.data: item for item in source.items(target)}
    return {name: _labels(found[data], target.classes) for name, data in (("0", shot(1)), ("1", shot(2)))}


def _labels(item: Item, classes: tuple[str, ...]) -> tuple[str, ...]:
    """Those it comes with, else what its mask shows."""
    if item.labels is not None:
        return item.labels
    return tuple(cls for k, cls in enumerate(classes, 1) if item.mask is not None and (item.mask == k).any())


def test_two_classes_become_one(tmp_path: Path) -> None:
    root = files(tmp_path, {"good/a.png": shot(1), "crack 1/b.png": shot(2), "crack 2/c.png": shot(3)})
    found = items(root, Format.AUTO, "crack 1=crack", "Crack_2=crack")
    assert sorted(item.labels or () for item in found.values()) == [(), ("crack",), ("crack",)]


@pytest.mark.parametrize("said", ["crack", "=crack", "crack=1"])
def test_a_new_name_that_is_none_is_refused(said: str) -> None:
    with pytest.raises(DatasetError, match="--rename"):
        Names.of([said])


# ── COCO of several parts ───────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("label", ["{}/_annotations.coco.json", "annotations/instances_{}2017.json"])
def test_coco_in_parts_of_a_split(tmp_path: Path, label: str) -> None:
    """As Roboflow writes it, with a category for the project, which is none of its own; and as COCO itself does."""
    over = {"id": 0, "name": "welds-2", "supercategory": "none"}
    pore = {"id": 1, "name": "pore", "supercategory": "welds-2"}
    named: Files = {}
    for k, part in enumerate(("train", "valid")):
        image = {"id": 0, "file_name": "1_jpg.rf.0a1b.png"}
        boxes = [{"image_id": 0, "category_id": 1, "bbox": [2, 2, 9, 9]}] if k else []
        told = {"images": [image], "annotations": boxes, "categories": [over, pore]}
        folder = part if "annotations/" not in label else f"{part}2017"
        named |= {label.format(part): json.dumps(told), f"{folder}/1_jpg.rf.0a1b.png": shot(k)}
    root = files(tmp_path, named)
    source = open_source(root)
    assert (source.format, source.classes(Names())) == (Format.COCO, ("pore",))
    found = items(root)
    assert sorted((item.split, item.labels, item.group) for item in found.values()) == [
        ("train", (), "train-1_jpg"),
        ("val", ("pore",), "valid-1_jpg"),
    ]


def test_two_coco_files_of_no_part_are_not_chosen_from(tmp_path: Path) -> None:
    root = files(tmp_path, {"a.json": coco((1, 1)), "b.json": coco(), **TWO})
    with pytest.raises(DatasetError, match=r"holds 2 COCO files, and not each says.*\n.*name the one"):
        open_source(root)


# ── a table ─────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "table",
    [
        "image,label\na.png,good\nb.png,pore\n",
        "Image;Label;Split;Mask\r\na.png;OK;;\r\nb.png;Pore;Test;b_mask.png\r\n",
        "\ufefflabel,image,suggested_split\n,a.png,\npore,b.png,train\n",
    ],
)
def test_a_table_of_pictures_and_labels(tmp_path: Path, table: str) -> None:
    """Also as Excel saves it where a comma parts decimals. Without groups each picture is its own."""
    root = files(tmp_path, {"t.csv": table, "a.png": shot(1), "b.png": shot(2), "b_mask.png": mask()})
    source = open_source(root / "t.csv")
    target = make_target([source], None, None, None, None)
    good, bad = source.items(target)
    assert (_labels(good, target.classes), _labels(bad, target.classes)) == ((), ("pore",))
    assert (good.group, bad.group) == ("a", "b")
    assert bad.split == (None if "plit" not in table else "test" if "Test" in table else "train")
