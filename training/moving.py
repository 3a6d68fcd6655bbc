"""The rendered seam a bundle is judged over, as its camera would see it: what passed, what was caught, false halts."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from inspection import model_io
from inspection.bundle import InputSpec
from inspection.label_book import LabelBook
from inspection.render import TASKS, DefectSpec, Seam, TaskSpec
from inspection.render import clip as clips
from training.judging import StreamFrame, StreamResult, judge_stream
from training.served import Served

FPS = 30.0
SEAMS = 4
SPACING_MM = 100.0  # a camera's width between two defects: a good stretch follows every bad one
CLIPS, CLIP_FRAMES = 24, 96
DROPLETS = (0.1, 0.4, 1.0)
"""A frame, from calm to a storm."""
IN_VIEW_PX = 3.0
"""A bubble counts as in view when its mask lies this far from the frame's sides."""


def evaluate_stream(served: Served, book: LabelBook, seed: int = 9000, k: int = 2, n: int = 3) -> dict[str, float]:
    """The model over a minute of seams it never saw, behind k of n; empty where its camera's view cannot be rendered.

    A model with a memory is shown clips in which only time tells a bubble from a droplet, each from nothing.
    """
    task = served.manifest.task
    if task not in TASKS:
        return {}
    if not served.manifest.state:
        streams = [seam_frames(task, book, seed + lap, camera=served.manifest.input) for lap in range(SEAMS)]
    elif task == "weld" and _sees(served.manifest.input, *clips.SIZE, clips.PX_PER_MM):
        streams = [clip_frames(seed + clip, clip) for clip in range(CLIPS)]
    else:
        return {}
    seen = sum((judge_stream(served, frames, k, n) for frames in streams), StreamResult(0, 0, 0, 0, ()))
    return {
        "k": k,
        "n": n,
        "fps": FPS,
        "minutes": seen.frames / FPS / 60,
        "defects": seen.defects,
        "caught": seen.caught,
        "missed": len(seen.missed),
        "false_halts": seen.false_halts,
        "false_halts_per_hour": seen.false_halts_per_hour(FPS),
    }


def _sees(camera: InputSpec, width_px: int, height_px: int, px_per_mm: float) -> bool:
    """Whether frames of this size have the scale at the input that the model was trained for."""
    scale = px_per_mm * model_io.fit(width_px, height_px, camera).scale
    return max(scale / camera.px_per_mm, camera.px_per_mm / scale) <= camera.scale_tolerance


# ── a seam ──────────────────────────────────────────────────────────────────────────────────────────────────────


def seam_frames(
    task: str,
    book: LabelBook,
    seed: int,
    length_mm: float = 600.0,
    speed_mm_s: float = 30.0,
    camera: InputSpec | None = None,
) -> Iterator[StreamFrame]:
    """One lap over a rendered seam, in the task's own frames, or in the input's where those would have another scale
    there. A defect counts as in view as long as any part of it is."""
    spec, rng = TASKS[task], np.random.default_rng((seed, 1))
    width_px, height_px, px_per_mm = _frame_of(spec, camera)
    low_y, high_y = (f * height_px / px_per_mm for f in (0.2, 0.8))
    defects = []
    for i in range(int(length_mm / SPACING_MM)):
        cls = str(rng.choice(spec.classes))
        low, high = spec.length_mm[cls]
        at = ((i + 0.5) * SPACING_MM, float(rng.uniform(low_y, high_y)))
        length = float(np.exp(rng.uniform(np.log(low), np.log(high))))
        defects.append(DefectSpec(cls, length, contrast=float(rng.uniform(0.65, 1.3)), at_mm=at))
    seam = Seam(
        task,
        seed,
        length_mm=length_mm,
        defects=defects,
        speed_mm_s=speed_mm_s,
        fps=FPS,
        width_px=width_px,
        height_px=height_px,
        px_per_mm=px_per_mm,
    )
    width_mm = width_px / px_per_mm
    for number in range(int(length_mm / speed_mm_s * FPS)):
        left = number * speed_mm_s / FPS
        frame = seam.frame(number)
        yield StreamFrame(frame.image, frame.px_per_mm, _in_view(defects, left, width_mm, length_mm, book))


def _frame_of(spec: TaskSpec, camera: InputSpec | None) -> tuple[int, int, float]:
    """Width, height and px/mm of what the camera sees."""
    if camera is None or _sees(camera, spec.width_px, spec.height_px, spec.px_per_mm):
        return spec.width_px, spec.height_px, spec.px_per_mm
    return camera.width_px, camera.height_px, camera.px_per_mm


def _in_view(
    defects: list[DefectSpec], left_mm: float, width_mm: float, lap_mm: float, book: LabelBook
) -> frozenset[str]:
    names = set()
    for number, d in enumerate(defects):
        assert d.at_mm is not None
        half = d.length_mm / 2
        from_left = (d.at_mm[0] - left_mm + half) % lap_mm - half
        if -half <= from_left <= width_mm + half and book.rule(d.cls).is_defect(d.length_mm):
            names.add(f"{d.cls} {d.length_mm:.1f} mm #{number}")
    return frozenset(names)


# ── clips ───────────────────────────────────────────────────────────────────────────────────────────────────────


def clip_spec(which: int, ambient: float = 1.0) -> clips.ClipSpec:
    """Half of the clips hold bubbles; every weather from calm to a storm; slow and fast. Twelve kinds, in turn."""
    return clips.ClipSpec(
        frames=CLIP_FRAMES,
        bubbles=(0, 2)[which % 2],
        flashes_per_frame=DROPLETS[weather(which)],
        speed_mm_s=(8.0, 14.0)[which // 6 % 2],
        ambient=ambient,
    )


def weather(which: int) -> int:
    """Its place in DROPLETS."""
    return which // 2 % len(DROPLETS)


def clip_frames(seed: int, which: int) -> Iterator[StreamFrame]:
    """The frames of one clip. A bubble is one for as long as a whole one is in view; two at once are one."""
    stretch, inside = 0, False
    for frame in clips.render_clip(seed, clip_spec(which)):
        whole = whole_in_view(frame.mask)
        stretch += whole and not inside
        inside = whole
        peeks = bool(frame.mask.any())
        visible = frozenset({f"porosity #{seed}.{stretch}"} if whole else ())
        yield StreamFrame(frame.image, frame.px_per_mm, visible, edge_of_one=peeks and not whole)


def whole_in_view(mask: np.ndarray) -> bool:
    """Whether some column run of the mask (H, W) lies whole within the frame."""
    columns = np.flatnonzero(mask.any(0))
    runs = np.split(columns, np.flatnonzero(np.diff(columns) > 1) + 1) if len(columns) else []
    return any(r[0] >= IN_VIEW_PX and r[-1] < mask.shape[1] - IN_VIEW_PX for r in runs)
