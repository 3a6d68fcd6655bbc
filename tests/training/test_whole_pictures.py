"""A line sees pictures, a model from crops parts of them: what is told and sent to others is of the pictures."""

from __future__ import annotations

from rich.table import Table

from inspection.label_book import WELD_BOOK
from inspection.types import Call
from tests.training.pictures import judged_picture
from training.card import _test
from training.evaluate import Figures, figures_of
from training.export import summary
from training.judging import JudgedPicture
from training.page import _whole
from training.report import figure_tables

CROPS, GOOD, BAD = 4, 30, 10


def crops() -> list[JudgedPicture]:
    """Of each picture four. Of every good one the second is stopped; of a bad one the third shows the defect, found in
    half of them, and the others are sound."""
    found = []
    for n in range(GOOD + BAD):
        for k in range(CROPS):
            bad = n >= GOOD and k == 2
            stopped = n % 2 == 0 if bad else n < GOOD // 10 and k == 1
            found.append(
                judged_picture(
                    n * CROPS + k, 0 if bad else None, 0, 0.9 if stopped else 0.1,
                    Call.DEFECT if stopped else Call.PASS,
                    source=f"weld#{n:016x}@{k * 8},0,8,8", group=f"part-{n}",
                )
            )  # fmt: skip
    return found


def figures() -> Figures:
    return figures_of("b-1", "s", "test", crops(), WELD_BOOK)


def test_a_tenth_of_the_pictures_is_stopped_where_a_fortieth_of_the_crops_is() -> None:
    found = figures()
    assert (found.false_stops, found.good) == (3, 4 * 40 - 10)
    whole = found.whole
    assert whole is not None
    assert (whole.pictures, whole.groups, whole.whole) == (40, 40, None)
    assert (whole.false_stops, whole.good, whole.caught, whole.missed, whole.defective) == (3, 30, 5, 5, 10)
    assert whole.stop_rate_below > 0.2
    assert found.false_stops_per_hour(600) < 15 < 50 < whole.false_stops_per_hour(600)
    assert whole.ms_p50 == CROPS, "a picture takes what its crops take"


def test_card_page_report_and_manifest_say_so() -> None:
    found = figures()
    card = _test(found)
    assert "160 crops of 40 groups" in card
    assert "Of the 40 whole pictures those crops were cut from" in card
    assert "10 defective: **5 caught**, **5 missed**" in card
    assert "30 good: **3 false stops**" in card
    page = _whole(found.whole)
    assert "3 of 30" in page
    assert "5 of 10" in page
    shown = [str(part) for part in figure_tables(found) if not isinstance(part, Table)]
    assert any("whole pictures" in line and "40 pictures" in line for line in shown)
    cells = [cell for part in figure_tables(found) if isinstance(part, Table) for c in part.columns for cell in c.cells]
    assert "nan" not in cells
    assert {key: summary(found)[key] for key in ("caught", "missed", "false_stops")} == {
        "caught": 5, "missed": 5, "false_stops": 3,
    }  # fmt: skip
    assert summary(found)["uncertain_share"] == 0


def test_without_a_good_picture_nothing_is_told_of_the_order() -> None:
    """Crops of pictures that all show a defect: it was an AP of 1.000."""
    bad = [p for p in crops() if int(p.sample.image[7:-4]) >= GOOD * CROPS]
    whole = figures_of("b-1", "s", "test", bad, WELD_BOOK).whole
    assert whole is not None
    assert (whole.defective, whole.good) == (10, 0)
    assert str(whole.classes[0].image_ap) == str(whole.classes[0].recall_at_1pc) == "-"


def test_pictures_that_are_whole_are_told_once() -> None:
    found = figures_of("b-1", "s", "test", [judged_picture(n, n % 2 or None, 0, 0.5) for n in range(12)], WELD_BOOK)
    assert found.whole is None
    assert "crops" not in _test(found)
