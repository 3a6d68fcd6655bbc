"""What makes a label valid, and what several add up to. Pure."""

from __future__ import annotations

import base64
import struct
import zlib

import numpy as np
import pytest
from pydantic import ValidationError

from inspection.errors import InputError
from inspection.label_book import SCRATCH_BOOK, WELD_BOOK
from inspection.samples import Annotation
from review.labelling import (
    LabelIn,
    Mark,
    Vote,
    check,
    consensus,
    decode_mask,
    encode_mask,
    merge_annotations,
    merge_masks,
)

W, H = 64, 48


def mask(*spots: tuple[int, int, int, int, int]) -> np.ndarray:
    """Each spot is value, x, y, width, height."""
    out = np.zeros((H, W), np.uint8)
    for value, x, y, w, h in spots:
        out[y : y + h, x : x + w] = value
    return out


def label(**fields: object) -> LabelIn:
    return LabelIn.model_validate({"label_book": "weld@1", **fields})


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def png(width: int, height: int, bits: int = 8, colour: int = 0, rows: bytes = b"") -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def test_a_whole_label_is_kept_in_the_books_order() -> None:
    sent = label(classes=["undercut", "porosity"], mask_png=b64(encode_mask(mask((1, 3, 4, 5, 6), (2, 30, 30, 10, 2)))))
    got = check(sent, WELD_BOOK, W, H)
    assert got.classes == ("porosity", "undercut")
    assert got.mask_png is not None
    assert np.array_equal(decode_mask(got.mask_png, W, H, 3), mask((1, 3, 4, 5, 6), (2, 30, 30, 10, 2)))
    assert [(m.cls, m.box_px, m.length_mm) for m in got.marks] == [
        ("porosity", (3, 4, 5, 6), None),
        ("undercut", (30, 30, 10, 2), None),
    ]


def test_a_painted_region_that_was_measured_gets_no_second_mark() -> None:
    measured = {"cls": "undercut", "box_px": [30, 30, 10, 1], "length_mm": 1.2}
    sent = label(classes=["undercut"], annotations=[measured], mask_png=b64(encode_mask(mask((2, 30, 29, 10, 3)))))
    assert [m.length_mm for m in check(sent, WELD_BOOK, W, H).marks] == [1.2]


def test_an_empty_mask_is_no_mask() -> None:
    sent = label(classes=["porosity"], mask_png=b64(encode_mask(mask())))
    assert check(sent, WELD_BOOK, W, H).mask_png is None


def test_a_short_scratch_may_be_measured_on_a_good_frame() -> None:
    short = {"cls": "scratch", "box_px": [1, 1, 20, 0], "length_mm": 1.0}
    got = check(LabelIn.model_validate({"label_book": "scratch@1", "annotations": [short]}), SCRATCH_BOOK, W, H)
    assert got.classes == ()
    assert got.marks[0].length_mm == 1.0


@pytest.mark.parametrize(
    ("fields", "where", "words"),
    [
        ({"label_book": "weld@2"}, "label_book", "reload"),
        ({"classes": ["scratch"]}, "classes", "not in weld@1"),
        ({"classes": ["porosity", "porosity"]}, "classes", "twice"),
        ({"classes": ["porosity"], "unsure": True}, "unsure", "no class"),
        ({"annotations": [{"cls": "dent"}]}, "annotations.0.cls", "dent"),
        ({"annotations": [{"cls": "porosity", "box_px": [60, 0, 5, 5]}]}, "annotations.0.box_px", "leaves the frame"),
        ({"annotations": [{"cls": "porosity", "box_px": [0, 0, -1, 5]}]}, "annotations.0.box_px", "leaves the frame"),
        ({"mask_png": "no base64!"}, "mask_png", "base64"),
        ({"mask_png": b64(b"GIF89a")}, "mask_png", "no PNG"),
        ({"mask_png": b64(encode_mask(mask((1, 0, 0, 2, 2))))}, "mask_png", "paints ['porosity']"),
    ],
)
def test_what_is_wrong_is_named(fields: dict[str, object], where: str, words: str) -> None:
    with pytest.raises(InputError) as refused:
        check(label(**fields), WELD_BOOK, W, H)
    assert refused.value.where == where
    assert words in str(refused.value)


@pytest.mark.parametrize(
    "fields", ['"box_px": [0, 0, NaN, 1]', '"box_px": [0, 0, Infinity, 1]', '"length_mm": NaN', '"length_mm": Infinity',
               '"points_px": [[0, NaN]]']
)  # fmt: skip
def test_numbers_that_are_none_are_refused(fields: str) -> None:
    body = '{"label_book": "weld@1", "annotations": [{"cls": "porosity", ' + fields + "}]}"
    with pytest.raises((InputError, ValidationError), match=r"annotations\.0"):
        check(LabelIn.model_validate_json(body), WELD_BOOK, W, H)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (encode_mask(np.zeros((W, H), np.uint8)), "the frame 64 x 48"),
        (png(60_000, 60_000), "60000 x 60000"),
        (png(W, H, colour=2, rows=bytes((3 * W + 1) * H)), "colour type 2"),
        (png(W, H, bits=16, rows=bytes((2 * W + 1) * H)), "16 bits"),
        (png(W, H)[:40], "does not decode"),
        (encode_mask(mask((4, 0, 0, 1, 1))), "value 4"),
        (b"", "no PNG"),
        (b"x" * (8 * 2**20 + 1), "more than"),
    ],
    ids=["turned", "vast", "colour", "16 bits", "cut off", "unknown class", "empty", "too many bytes"],
)
def test_a_mask_that_does_not_fit_is_refused_by_its_header(data: bytes, words: str) -> None:
    with pytest.raises(InputError, match=words):
        decode_mask(data, W, H, 3)


def vote(person: str, *classes: str, book: str = "weld@1", unsure: bool = False, **more: object) -> Vote:
    return Vote(person, book, classes, unsure, more.get("marks", ()), more.get("mask"))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("votes", "state"),
    [
        ([], "too_few"),
        ([vote("a", "porosity")], "too_few"),
        ([vote("a", "porosity"), vote("b", "porosity")], "agreed"),
        ([vote("a"), vote("b")], "agreed"),
        ([vote("a"), vote("b", "porosity")], "disputed"),
        ([vote("a", "porosity"), vote("b", "porosity", "undercut")], "disputed"),
        ([vote("a", "porosity"), vote("b"), vote("c", "porosity")], "majority"),
        ([vote("a", "porosity"), vote("b"), vote("c", "undercut")], "disputed"),
        ([vote("a", "porosity"), vote("b"), vote("c", "porosity"), vote("d")], "disputed"),
        ([vote("a", unsure=True), vote("b", unsure=True)], "disputed"),
        ([vote("a"), vote("b", unsure=True)], "disputed"),
        ([vote("a", "porosity"), vote("b", "porosity", book="weld@2")], "too_few"),
        ([vote("a"), vote("b", "porosity", book="weld@2"), vote("c", "porosity", book="weld@2")], "agreed"),
    ],
)
def test_consensus(votes: list[Vote], state: str) -> None:
    assert consensus(votes).state == state


def test_one_label_decides_only_when_asked_to() -> None:
    assert not consensus([vote("a", "porosity")]).votes
    assert consensus([vote("a", "porosity")], allow_single=True).state == "single"
    assert not consensus([vote("a", unsure=True)], allow_single=True).votes
    assert not consensus([vote("a"), vote("b", "porosity")], allow_single=True).votes


def test_masks_of_two_are_joined_and_of_three_outvoted() -> None:
    order = WELD_BOOK.classes
    a, b, c = mask((1, 0, 0, 10, 10)), mask((1, 5, 0, 10, 10)), mask((1, 5, 0, 5, 10))
    two = merge_masks([vote("a", mask=a), vote("b", mask=b)], ("porosity",), order, (H, W))
    three = merge_masks([vote("a", mask=a), vote("b", mask=b), vote("c", mask=c)], ("porosity",), order, (H, W))
    assert np.array_equal(two, mask((1, 0, 0, 15, 10)))
    assert np.array_equal(three, mask((1, 5, 0, 5, 10)))


def test_a_mask_never_calls_an_unpainted_defect_sound() -> None:
    painted = mask((1, 0, 0, 4, 4))
    order = WELD_BOOK.classes
    assert merge_masks([vote("a", mask=painted)], ("porosity", "undercut"), order, (H, W)) is None
    assert merge_masks([vote("a")], ("porosity",), order, (H, W)) is None
    good = merge_masks([vote("a"), vote("b")], (), order, (H, W))
    assert good is not None
    assert not good.any()


def test_marks_of_two_people_at_one_place_are_one_with_the_mean_length() -> None:
    a = Annotation(cls="undercut", box_px=(10, 10, 20, 0), length_mm=2.0)
    b = Annotation(cls="undercut", box_px=(12, 11, 20, 0), length_mm=2.4)
    near = Annotation(cls="undercut", box_px=(10, 11, 20, 0), length_mm=5.0)
    other = Annotation(cls="porosity", box_px=(10, 10, 3, 3))
    merged = merge_annotations([vote("a", marks=(a, near)), vote("b", marks=(b, other))], ("undercut",))
    assert [(m.length_mm, m.box_px) for m in merged] == [(2.2, (11, 10.5, 20, 0)), (5.0, (10, 11, 20, 0))]


def test_a_mark_keeps_its_corners_for_its_own_author_only() -> None:
    mark = Mark(cls="undercut", box_px=(0, 0, 3, 4), length_mm=0.5, points_px=((0, 0), (3, 4)))
    assert mark.annotation() == Annotation(cls="undercut", box_px=(0, 0, 3, 4), length_mm=0.5)
