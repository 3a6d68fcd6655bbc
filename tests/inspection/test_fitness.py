"""Whether a picture can be judged: what is found, how soon, and how often it is cried in vain."""

from __future__ import annotations

import copy
import os
import time
import timeit
from collections.abc import Callable
from functools import cache, partial
from pathlib import Path

import cv2
import numpy as np
import pytest

from inspection.errors import InputError
from inspection.fitness import Fitness, FitnessLimits, learned
from inspection.reference_view import ReferenceView, ViewLearner, parse_view
from inspection.render import Seam, render
from inspection.types import Image
from tests.inspection import camera_faults as faults

LENGTH_MM = 600.0
LEARNED = 500
FPS = 30


@cache
def seam(task: str, seed: int = 2) -> Seam:
    return Seam(task, seed, length_mm=LENGTH_MM, speed_mm_s=15)


@cache
def view(task: str, seed: int = 2) -> ReferenceView:
    learner = ViewLearner()
    for k in range(LEARNED):
        learner.add(seam(task, seed).frame(2 * k).image)  # every second frame: the whole strip
    return learned(learner, "cam1", "now")


START = 700


@cache
def shown(task: str, k: int) -> Image:
    return seam(task).frame(START + k).image


@cache
def watching(task: str) -> Fitness:
    """After 200 frames without a fault."""
    fitness = Fitness(reference=view(task))
    for k in range(START - 200, START):
        assert fitness.check(seam(task).frame(k).image) == ""
    return fitness


def delay(task: str, fault: Callable[[Image], Image]) -> tuple[int, str]:
    """Frames from the fault to the word, and the word; 0 when nothing is said within 2 s."""
    fitness = copy.deepcopy(watching(task))
    for k in range(2 * FPS):
        if why := fitness.check(fault(shown(task, k))):
            return k + 1, why
    return 0, ""


def noisy(level: float, seed: int = 0, sigma: float = 3.0) -> Image:
    return np.clip(np.random.default_rng(seed).normal(level, sigma, (512, 640, 3)), 0, 255).astype(np.uint8)


# ── hard checks, which need to know nothing ─────────────────────────────────────────────────────────────────────────


def test_a_frozen_picture_is_noticed_with_its_fifth_frame() -> None:
    fitness, still = Fitness(), noisy(100)
    said = [fitness.check(still) for _ in range(6)]
    assert said[:4] == [""] * 4
    assert said[4].startswith("frozen: 5")
    assert said[5].startswith("frozen: 6")
    assert fitness.check(noisy(100, 1)) == ""


def test_a_still_scene_is_not_frozen_as_long_as_the_sensor_lives() -> None:
    fitness = Fitness()
    assert all(fitness.check(noisy(100, k)) == "" for k in range(30))


def test_an_encoder_that_varies_a_stuck_picture_is_told_by_a_limit() -> None:
    still = noisy(100)

    def nearly(k: int) -> Image:
        out = still.copy()
        out[8 * (k % 60), :200] += 1
        return out

    assert all(Fitness().check(nearly(k)) == "" for k in range(10))
    lenient = Fitness(FitnessLimits(frozen_diff=0.15))
    assert [bool(lenient.check(nearly(k))) for k in range(5)] == [False] * 4 + [True]


@pytest.mark.parametrize("buffers", [2, 3, 4, 16])
def test_a_driver_that_hands_out_its_old_buffers_again_is_noticed_with_the_fourth(buffers: int) -> None:
    """The picture differs from the one before it every time, and nothing of it is new."""
    fitness, ring = Fitness(), [noisy(100, k) for k in range(buffers)]
    assert all(fitness.check(noisy(100, 100 + k)) == "" for k in range(20))
    said = [fitness.check(ring[k % buffers]) for k in range(buffers + 6)]
    assert not any(said[: buffers + 3])
    assert said[buffers + 3] == f"frozen: 4 frames in a row repeat one of the {buffers} before them"
    assert said[-1].startswith("frozen: 6 frames")
    assert fitness.check(noisy(100, 200)) == ""


def test_old_buffers_in_any_order_are_old() -> None:
    fitness, ring, rng = Fitness(), [noisy(100, k) for k in range(8)], np.random.default_rng(0)
    said = [fitness.check(ring[k]) for _ in range(5) for k in rng.permutation(8)]
    assert [why.partition(":")[0] for why in said] == [""] * 11 + ["frozen"] * 29


def test_pictures_that_come_again_later_or_one_by_one_are_not_stuck() -> None:
    many, new = [noisy(100, k) for k in range(17)], iter(range(1000, 2000))
    fitness = Fitness()
    assert all(fitness.check(many[k % 17]) == "" for k in range(60)), "a ring of 17 is beyond what is remembered"
    fitness = Fitness()
    assert all(fitness.check(noisy(100, next(new)) if k % 4 == 0 else many[k % 4]) == "" for k in range(60))


def test_where_few_pictures_are_looped_on_purpose_only_the_one_before_counts() -> None:
    fitness, ring = Fitness(FitnessLimits(frozen_within=1)), [noisy(100, k) for k in range(2)]
    assert all(fitness.check(ring[k % 2]) == "" for k in range(40))
    assert fitness.check(ring[1]) == ""
    assert [bool(fitness.check(ring[1])) for _ in range(3)] == [False, False, True]


def test_a_ring_that_an_encoder_varies_is_told_by_the_same_limit() -> None:
    ring = [noisy(100, k) for k in range(3)]

    def nearly(k: int) -> Image:
        out = ring[k % 3].copy()
        out[8 * (k % 60), :200] += 1
        return out

    assert all(Fitness().check(nearly(k)) == "" for k in range(20))
    lenient = Fitness(FitnessLimits(frozen_diff=0.15))
    assert [bool(lenient.check(nearly(k))) for k in range(8)] == [False] * 6 + [True] * 2


@pytest.mark.parametrize("quality", [0, 50])
def test_little_noise_is_noise_enough(quality: int) -> None:
    """A still scene under a quiet sensor, raw and as MJPEG, of which the grid sees one pixel in each of its blocks."""
    fitness, scene = Fitness(), shown("weld", 0).astype(np.float32)
    for k in range(100):
        image = np.clip(np.random.default_rng(k).normal(scene, 0.5), 0, 255).astype(np.uint8)
        if quality:
            _, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
            image = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
        assert fitness.check(image) == ""


@pytest.mark.parametrize(
    ("image", "why"),
    [
        (noisy(2), "dark"),
        (np.full((512, 640, 3), 254, np.uint8), "burnt out"),
        (np.full((512, 640, 3), 120, np.uint8), "covered"),
        (np.zeros((512, 640, 3), np.uint8), "dark"),
    ],
)
def test_what_shows_nothing_is_named_at_once(image: Image, why: str) -> None:
    assert Fitness().check(image).startswith(why)


@pytest.mark.parametrize(
    ("most", "rest", "share", "why"),
    [
        (11, 255, 0.009, "dark"),
        (11, 255, 0.011, ""),
        (12, 255, 0.009, ""),
        (251, 0, 0.09, "burnt out"),
        (251, 0, 0.11, ""),
        (250, 0, 0.09, ""),
    ],
)
def test_the_mean_clears_no_picture_that_the_percentiles_would_not(
    most: int, rest: int, share: float, why: str
) -> None:
    """Both limits, each from its two sides, with what is not in question as far away as can be."""
    grid = np.full(64 * 80, most, np.uint8)
    grid[: round(share * grid.size)] = rest
    image = cv2.merge([np.kron(grid.reshape(64, 80), np.ones((8, 8), np.uint8))] * 3)
    assert Fitness().check(np.asarray(image, np.uint8)).startswith(why)
    assert bool(Fitness().check(np.asarray(image, np.uint8))) == bool(why)


def test_where_dark_frames_are_normal_they_are_judged_by_nobody_and_a_long_run_is_a_fault() -> None:
    """A weld lit by its own sparks: between two sparks nothing is to be seen."""
    fitness = Fitness(FitnessLimits(dark_frames=6))
    for k in range(40):
        dark = k % 6 < 5
        assert fitness.check(noisy(2 if dark else 90, k)) == ""
        assert fitness.pending is dark
    assert fitness.check(noisy(90, 99)) == ""
    said = [fitness.check(noisy(2, k)) for k in range(8)]
    assert [bool(why) for why in said] == [False] * 5 + [True] * 3
    assert not fitness.pending


def test_a_sensor_without_noise_in_the_dark_is_dark_and_not_frozen() -> None:
    """One black picture is like another: between two sparks, and over many of them."""
    fitness, black = Fitness(FitnessLimits(dark_frames=6)), np.zeros((512, 640, 3), np.uint8)
    for k in range(40):
        assert fitness.check(black if k % 6 < 5 else noisy(90, k)) == ""
    said = [fitness.check(black) for _ in range(6)]
    assert said[-1].startswith("dark")
    sparks = [noisy(90, 100 + k) for k in range(3)]
    said = [fitness.check(sparks[k // 2 % 3] if k % 2 else black) for k in range(20)]
    assert said[13].startswith("frozen: 4 frames in a row repeat one of the 3"), "the dark between is no news"


def test_a_check_can_be_switched_off() -> None:
    off = FitnessLimits(dark_p99=0, burnt_p10=0, flat_std=0, frozen_frames=0)
    for image in (np.zeros((64, 64, 3), np.uint8), np.full((64, 64, 3), 255, np.uint8)):
        fitness = Fitness(off)
        assert all(fitness.check(image) == "" for _ in range(20))


# ── against the reference view ──────────────────────────────────────────────────────────────────────────────────────

FOUND = {
    "weld": {"hand on the lens", "paper before the lens", "half covered", "blur, sigma 1.5 px", "blur, sigma 5 px"}
    | {"exposure x0.5", "exposure x2", "moved 40 px across", "spatter, radius 45 px"},
    "scratch": {"hand on the lens", "paper before the lens", "half covered", "blur, sigma 1.5 px", "blur, sigma 5 px"}
    | {"exposure x0.5", "exposure x2", "spatter, radius 25 px", "spatter, radius 45 px"},
}
"""What is found within 2 s. Nothing stands still over a moving sheet, so that a shift of its camera shows nowhere."""


@pytest.mark.parametrize(("task", "fault"), [(task, fault) for task, known in FOUND.items() for fault in sorted(known)])
def test_faults_are_found_within_two_seconds(task: str, fault: str) -> None:
    frames, why = delay(task, faults.FAULTS[fault])
    assert frames, f"{fault} was not found"
    assert why


@pytest.mark.parametrize("task", ["weld", "scratch"])
def test_other_frames_of_the_same_seam_are_fit(task: str) -> None:
    fitness = Fitness(reference=view(task))
    for k in range(600):  # the frames that were not learned, under other light and noise
        assert fitness.check(seam(task).frame(2 * k + 1, flicker=5000 + k).image) == ""


@pytest.mark.parametrize("task", ["weld", "scratch"])
def test_a_line_that_stops_anywhere_is_fit(task: str) -> None:
    for stop in range(100, 1100, 250):
        fitness = Fitness(reference=view(task))
        for k in range(stop - 60, stop):
            assert fitness.check(seam(task).frame(k).image) == ""
        for k in range(150):
            assert fitness.check(seam(task).frame(stop, flicker=k).image) == "", f"stopped at {stop}, {k}"


def test_what_was_said_is_taken_back_when_it_is_over() -> None:
    fitness, blur = Fitness(reference=view("weld")), faults.blurred(3)
    said = [bool(fitness.check(blur(seam("weld").frame(k).image))) for k in range(40)]
    assert said[-1]
    after = [bool(fitness.check(seam("weld").frame(40 + k).image)) for k in range(90)]
    assert after[0], "a camera that flickers between fit and unfit must not let the line run"
    assert not after[-1]


def test_a_lens_cleaned_while_the_line_stands_lets_it_run_again() -> None:
    fitness, spot = Fitness(reference=view("scratch")), faults.spatter(45)
    said = [fitness.check(spot(seam("scratch").frame(k).image)) for k in range(220)]
    assert said[-1].startswith("dirt on the lens")
    said = [fitness.check(spot(seam("scratch").frame(220, flicker=k).image)) for k in range(60)]
    assert said[-1].startswith("dirt on the lens")
    said = [fitness.check(seam("scratch").frame(220, flicker=100 + k).image) for k in range(60)]
    assert said[-1] == ""


def test_another_picture_size_is_not_the_view_that_was_learned() -> None:
    fitness = Fitness(reference=view("weld"))
    assert "learn the view again" in fitness.check(noisy(100)[:256])


def test_a_view_survives_its_file_and_a_changed_file_is_refused() -> None:
    known = view("weld")
    assert parse_view(known.to_json(), "view.json") == known
    assert len(known.to_json()) < 60_000
    with pytest.raises(InputError, match="was changed"):
        parse_view(known.to_json().replace(b'"camera": "cam1"', b'"camera": "cam2"'), "view.json")
    with pytest.raises(InputError, match="is no reference view"):
        parse_view(b"[]", "view.json")


def test_too_few_frames_teach_nothing() -> None:
    learner = ViewLearner()
    learner.add(noisy(100))
    with pytest.raises(InputError, match="too few"):
        learner.view("cam1", "now")


def test_what_stands_still_is_known_and_so_is_an_unsteady_time() -> None:
    assert view("weld").still > 0.5
    learner = ViewLearner()
    for k in range(200):
        image = seam("weld").frame(2 * k).image
        learner.add(image if k < 100 else faults.exposed(0.5)(image))
    assert learned(learner, "cam1", "now").unsteady > 0.3


def test_the_cost_of_a_check() -> None:
    """Goal 0.5 ms for 640x512 px, measured 0.3 to 0.5 on idle cores. Threads off, the thread's own time, best of many;
    a core whose other half works for somebody else still takes half as long again, a slip here several times."""
    images = [seam("weld").frame(k).image for k in range(16)]
    before = cv2.getNumThreads()
    cv2.setNumThreads(1)
    try:
        fitness = Fitness(reference=view("weld"))
        spent = [
            min(timeit.repeat(partial(fitness.check, image), timer=time.thread_time, number=1, repeat=30))
            for image in images
        ]
    finally:
        cv2.setNumThreads(before)
    once = sum(spent) / len(spent)
    assert once < 1e-3, f"{once * 1e3:.2f} ms"


# ── real and rendered pictures nobody set up for ────────────────────────────────────────────────────────────────────


def test_the_hard_checks_pass_every_rendered_picture() -> None:
    for k in range(16):
        image = render("weld" if k % 2 else "scratch", 1000 + k).image
        assert Fitness().check(image) == ""


@pytest.mark.real
def test_the_hard_checks_pass_real_inspection_pictures() -> None:
    data = Path(os.environ.get("HALTLINE_DATA", "../shared/data"))
    if not data.is_dir():
        pytest.skip("no real images: set HALTLINE_DATA")
    said = {}
    paths = [
        p for s in ("weld_seg", "lohi_weld_100", "neu_seg_dedup", "magnetic_tile") for p in (data / s).rglob("*.jpg")
    ]
    for path in sorted(paths)[::6]:
        image = cv2.imread(str(path), cv2.IMREAD_COLOR)
        if image is not None and (why := Fitness().check(np.asarray(image, np.uint8))):
            said[path.name] = why
    assert not said
