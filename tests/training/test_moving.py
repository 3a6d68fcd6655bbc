"""The seam and the clips a bundle is judged over: as its camera would see them, and what counts as in view."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from inspection.bundle import InputSpec
from inspection.label_book import BOOKS
from training.judging import judge_stream
from training.moving import CLIP_FRAMES, clip_frames, seam_frames, whole_in_view
from training.served import read_bundle

ROOT = Path(__file__).parents[2]


def test_a_seam_says_what_is_in_view() -> None:
    frames = list(seam_frames("scratch", BOOKS["scratch"], seed=3, length_mm=200.0, speed_mm_s=150.0))
    assert len(frames) == 40
    named = {name for f in frames for name in f.visible}
    assert all("scratch" in name for name in named)
    assert any(not f.visible for f in frames)


@pytest.mark.parametrize(
    ("camera", "shape", "px_per_mm"),
    [
        (InputSpec(width_px=480, height_px=384, px_per_mm=7.5), (512, 640, 3), 10.0),
        (InputSpec(width_px=192, height_px=160, px_per_mm=5.0), (160, 192, 3), 5.0),
    ],
)
def test_a_seam_is_seen_at_the_scale_the_model_was_trained_for(
    camera: InputSpec, shape: tuple[int, ...], px_per_mm: float
) -> None:
    """The edge refuses frames of another scale; a model that saw crops was judged on frames twice as far away."""
    frame = next(seam_frames("weld", BOOKS["weld"], seed=3, length_mm=200.0, camera=camera))
    assert (frame.image.shape, frame.px_per_mm) == (shape, px_per_mm)


def test_a_bubble_is_one_from_its_first_whole_view_to_its_last() -> None:
    seen = {which: list(clip_frames(9000 + which, which)) for which in range(4)}
    for which, frames in seen.items():
        assert len(frames) == CLIP_FRAMES
        assert any(f.visible for f in frames) == bool(which % 2), "every second clip holds bubbles"
        assert not any(f.visible and f.edge_of_one for f in frames)
        named = [next(iter(f.visible), None) for f in frames]
        changes = [b for a, b in pairwise(named) if b and b != a]
        assert len(changes) == len(set(changes)), "a name that ended does not come back"
    assert any(f.edge_of_one for f in seen[1] + seen[3]), "it comes in by its edge"


def test_what_is_cut_by_a_side_is_not_whole() -> None:
    mask = np.zeros((20, 40), np.uint8)
    assert not whole_in_view(mask)
    mask[5:9, 36:40] = 1
    assert not whole_in_view(mask)
    mask[5:9, 10:14] = 1
    assert whole_in_view(mask)


def test_the_released_model_of_a_moving_weld_tells_bubbles_from_droplets() -> None:
    """At the rule of docs/training.md, behind the edge's own guard, on clips nobody trained on, one of each kind."""
    served = read_bundle(ROOT / "models/weld-moving-0.1.0")
    strict = tuple(c.model_copy(update={"hi": 0.995 if c.cls == "porosity" else 1.0}) for c in served.manifest.limits)
    served = replace(served, manifest=served.manifest.model_copy(update={"limits": strict}))
    seen = [judge_stream(served, clip_frames(77_000 + which, which), k=4, n=5) for which in range(12)]
    assert sum(s.defects for s in seen) >= 6
    assert sum(len(s.missed) for s in seen) <= 1, "of a thousand it misses six"
    assert sum(s.false_halts for s in seen) == 0


def test_its_card_says_what_it_saw_of_clips() -> None:
    card = (ROOT / "models/weld-moving-0.1.0/card.md").read_text()
    assert "Every picture was drawn by Haltline's renderer" in card
    assert "Moving seam, 2 of 3 frames" in card
