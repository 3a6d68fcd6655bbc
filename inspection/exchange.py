"""Labelled pictures in other programs' formats: COCO, Label Studio's JSON, YOLO, and by `inspection.exchange_folders`
folders with masks. Pure: names, numbers and bytes, no files.

What these formats have no word for (part, split, label-book version, who labelled, mm) travels beside their own fields
under the key `haltline`; whoever does not know it passes over it. Coordinates are px with the origin at the corner of
the picture's first pixel, as COCO has them; Label Studio's are per cent of the picture.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from inspection.label_book import LabelBook
from inspection.outline import Region, brush_rle, coco_counts, regions
from inspection.samples import Annotation, Sample

KEY = "haltline"
GOOD = "good"
Form = Literal["coco", "label-studio", "yolo", "mvtec", "pairs"]
FORMS: tuple[Form, ...] = ("coco", "label-studio", "yolo", "mvtec", "pairs")
KEPT = ("px_per_mm", "group", "split", "label_book", "labelled_by", "soft_labels", "source", "part", "model")
"""Of a sample, what travels under `haltline`."""


@dataclass(frozen=True, slots=True)
class Entry:
    """A sample and its mask (H, W), k = the k-th class of the book; None where nobody painted."""

    sample: Sample
    mask: NDArray[np.uint8] | None


def beside(entry: Entry) -> dict[str, Any]:
    """What other formats have no word for. `painted`: a mask says where, also that nothing is anywhere."""
    kept = entry.sample.model_dump(mode="json", include=set(KEPT), exclude_none=True)
    return kept | {"painted": entry.mask is not None}


def unplaced(entry: Entry, book: LabelBook) -> list[str]:
    """Classes the picture is labelled with and nobody said where. COCO and YOLO would call such a picture good."""
    return sorted(set(entry.sample.labels) - {cls for cls, _, _ in places(entry, book)})


@dataclass(slots=True)
class Written:
    """`documents`: file name -> content, beside the pictures; `pictures`: name -> name there; `left_out`: pictures the
    format has no word for."""

    documents: dict[str, bytes]
    pictures: dict[str, str]
    left_out: list[str]


def write(form: Form, entries: Iterable[Entry], book: LabelBook, made_by: str) -> Written:
    """Everything but the pictures themselves. Entries are read once, one at a time."""
    done = Written({}, {}, [])
    if form in ("mvtec", "pairs"):
        from inspection.exchange_folders import write_folders  # which takes its words from here

        write_folders(form, entries, book, done)
        return done
    if form == "label-studio":
        tasks = label_studio(_noted(entries, done), book)
        done.documents = {"tasks.json": _json(tasks), "label-config.xml": label_studio_config(book).encode()}
        return done
    kept = _noted(_placed(entries, book, done), done)
    if form == "coco":
        done.documents = {"annotations.json": _json(coco(kept, book, made_by))}
        return done
    known: dict[str, Any] = {}
    for entry in kept:
        stem = entry.sample.image.rpartition("/")[2].rpartition(".")[0]
        lines = yolo(entry, book)
        done.documents[f"labels/{stem}.txt"] = "".join(f"{line}\n" for line in lines).encode()
        # A line has no word for what is drawn and no defect, such as a scratch under the limit.
        defects = {str(book.classes.index(cls)) for cls in entry.sample.labels}
        passed = [line for line in lines if line.split()[0] not in defects]
        known[stem] = beside(entry) | {"labels": list(entry.sample.labels), "no_defects": passed}
    done.documents["classes.txt"] = "".join(f"{cls}\n" for cls in book.classes).encode()
    done.documents[f"{KEY}.json"] = _json({"label_book": book.model_dump(mode="json"), "pictures": known})
    return done


def _noted(entries: Iterable[Entry], done: Written) -> Iterator[Entry]:
    for entry in entries:
        done.pictures[entry.sample.image] = entry.sample.image
        yield entry


def _placed(entries: Iterable[Entry], book: LabelBook, done: Written) -> Iterator[Entry]:
    for entry in entries:
        if unplaced(entry, book):
            done.left_out.append(entry.sample.image)
        else:
            yield entry


def _json(content: object) -> bytes:
    return (json.dumps(content, ensure_ascii=False) + "\n").encode()


def places(entry: Entry, book: LabelBook) -> Iterator[tuple[str, Region | None, Annotation | None]]:
    """(class, painted region, its mark) of everything that has a place: painted regions with the mark that touches
    them, then marks nobody painted."""
    left = [a for a in entry.sample.annotations if a.box_px is not None]
    if entry.mask is not None:
        for value, cls in enumerate(book.classes, start=1):
            for region in regions(entry.mask == value):
                mark = next((a for a in left if a.cls == cls and _touch(a, region)), None)
                if mark is not None:
                    left.remove(mark)
                yield cls, region, mark
    for mark in left:
        yield mark.cls, None, mark


# ── COCO ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def coco(entries: Iterable[Entry], book: LabelBook, made_by: str) -> dict[str, Any]:
    """The content of one COCO json file. A region with a hole is written as run lengths, the others as polygons."""
    images: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for number, entry in enumerate(entries, start=1):
        s = entry.sample
        images.append(
            {"id": number, "file_name": s.image, "width": s.width_px, "height": s.height_px, KEY: beside(entry)}
        )
        for cls, region, mark in places(entry, book):
            shape = _coco_shape(region, mark)
            # A region may be drawn and be no defect: a scratch under the limit.
            said = {"length_mm": mark.length_mm if mark else None, "defect": cls in s.labels}
            extra = {"attributes": {k: v for k, v in said.items() if v is not None}}
            own = {"id": len(found) + 1, "image_id": number, "category_id": book.classes.index(cls) + 1, "iscrowd": 0}
            found.append(own | shape | extra)
    categories = [{"id": k, "name": cls} for k, cls in enumerate(book.classes, start=1)]
    info = {"description": made_by, KEY: {"label_book": book.model_dump(mode="json")}}
    return {"info": info, "images": images, "annotations": found, "categories": categories}


def _coco_shape(region: Region | None, mark: Annotation | None) -> dict[str, Any]:
    if region is None:
        assert mark is not None
        assert mark.box_px is not None
        return {"bbox": list(mark.box_px), "area": mark.box_px[2] * mark.box_px[3]}
    size = list(region.bits.shape)
    outline: Any = {"size": size, "counts": coco_counts(region.bits)}
    if region.outline is not None:
        outline = [region.outline.ravel().tolist()]
    return {"bbox": list(region.box_px), "area": int(region.bits.sum()), "segmentation": outline}


# ── Label Studio ────────────────────────────────────────────────────────────────────────────────────────────────────


def label_studio(entries: Iterable[Entry], book: LabelBook) -> list[dict[str, Any]]:
    """Tasks for Label Studio's import, one a picture."""
    return [_task(number, entry, book) for number, entry in enumerate(entries, start=1)]


def label_studio_config(book: LabelBook) -> str:
    """The labelling interface that shows the tasks: an image, its classes as a whole, polygons, boxes and a brush."""

    def choices(tag: str) -> str:
        lines = [f'    <{tag} value="{r.cls}" background="{r.color}"/>' for r in book.rules]
        return "\n".join(lines)

    return "\n".join(
        [
            "<View>",
            '  <Image name="image" value="$image" zoom="true"/>',
            '  <Choices name="classes" toName="image" choice="multiple">',
            *(f'    <Choice value="{cls}"/>' for cls in (*book.classes, GOOD)),
            "  </Choices>",
            f'  <PolygonLabels name="outline" toName="image">\n{choices("Label")}\n  </PolygonLabels>',
            f'  <RectangleLabels name="box" toName="image">\n{choices("Label")}\n  </RectangleLabels>',
            f'  <BrushLabels name="brush" toName="image">\n{choices("Label")}\n  </BrushLabels>',
            "</View>",
            "",
        ]
    )


def _task(number: int, entry: Entry, book: LabelBook) -> dict[str, Any]:
    s = entry.sample
    said = list(s.labels) or [GOOD]
    result = [_result(f"{number}-0", "choices", "classes", s, {"choices": said})]
    for n, (cls, region, mark) in enumerate(places(entry, book), start=1):
        drawn = _drawn(f"{number}-{n}", cls, region, mark, s)
        if mark is not None and mark.length_mm is not None:
            drawn["meta"] = {"text": [f"{mark.length_mm:g} mm"]}
        result.append(drawn)
    who = {"completed_by": {"email": s.labelled_by[0]}} if s.labelled_by else {}
    own = beside(entry) | {"classes": list(book.classes), "book": book.model_dump(mode="json")}
    return {"id": number, "data": {"image": s.image, KEY: own}, "annotations": [{"result": result, **who}]}


def _drawn(ident: str, cls: str, region: Region | None, mark: Annotation | None, s: Sample) -> dict[str, Any]:
    wide, high = 100 / s.width_px, 100 / s.height_px
    if region is None:
        assert mark is not None
        assert mark.box_px is not None
        x, y, w, h = mark.box_px
        box = {"x": x * wide, "y": y * high, "width": w * wide, "height": h * high, "rotation": 0}
        return _result(ident, "rectanglelabels", "box", s, box | {"rectanglelabels": [cls]})
    if region.outline is None:
        rle = {"format": "rle", "rle": brush_rle(region.bits), "brushlabels": [cls]}
        return _result(ident, "brushlabels", "brush", s, rle)
    points = (region.outline * (wide, high)).tolist()
    return _result(ident, "polygonlabels", "outline", s, {"points": points, "closed": True, "polygonlabels": [cls]})


def _result(ident: str, kind: str, name: str, s: Sample, value: dict[str, Any]) -> dict[str, Any]:
    size = {"original_width": s.width_px, "original_height": s.height_px, "image_rotation": 0}
    return {"id": ident, "type": kind, "from_name": name, "to_name": "image", **size, "value": value}


# ── YOLO ────────────────────────────────────────────────────────────────────────────────────────────────────────────


def yolo(entry: Entry, book: LabelBook) -> list[str]:
    """One line a box: class, middle and size as shares of the picture. Outlines become their boxes."""
    s, lines = entry.sample, []
    for cls, region, mark in places(entry, book):
        box: Sequence[float] | None = region.box_px if region else mark.box_px if mark else None
        assert box is not None
        x, y, w, h = box
        shares = ((x + w / 2) / s.width_px, (y + h / 2) / s.height_px, w / s.width_px, h / s.height_px)
        lines.append(" ".join([str(book.classes.index(cls)), *(f"{v:.8f}" for v in shares)]))
    return lines


def _touch(mark: Annotation, region: Region) -> bool:
    assert mark.box_px is not None
    (ax, ay, aw, ah), (bx, by, bw, bh) = mark.box_px, region.box_px
    return ax <= bx + bw and bx <= ax + aw and ay <= by + bh and by <= ay + ah
