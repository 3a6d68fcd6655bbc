"""Frames drawn with exact truth, written as a labelled folder: what a first model learns from before a camera exists.

The mask shows every defect that was drawn. The label follows the label book: a scratch shorter than its limit glows in
the mask and is no label. So the map learns to see it and the score learns that it does not matter. Annotations list the
defects that count, with the length they were drawn at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2

from inspection.errors import DatasetError
from inspection.label_book import BOOKS, LabelBook
from inspection.render import TASKS, Rendered, rendered_samples
from inspection.render.clip import FPS, clip_spec, render_clip
from inspection.samples import HEADER_FILE, SAMPLES_FILE, Annotation, LabelledHeader, Sample
from training.dataset.clip_source import source_of
from training.dataset.whole import whole


def render_folder(task: str, out: Path, count: int, seed: int, clip_frames: int | None = None) -> Iterator[Sample]:
    """Write `count` frames to `out`, which must not exist, and yield each as it is done.

    With `clip_frames` they are clips of a moving weld, so many frames each, as many whole ones as `count` holds. The
    folder appears under its name only when it is whole. Same task, count and seed: the same bytes.
    """
    if task not in TASKS:
        raise DatasetError("render", f"there is no task {task!r}", f"choose one of {', '.join(TASKS)}")
    with whole(out, DatasetError(out, "exists already", "choose another name, or remove it first")) as partial:
        for name in ("images", "masks"):
            (partial / name).mkdir()
        book = BOOKS[task]
        header = LabelledHeader(task=task, classes=book.classes, label_book=book.id, made_by=f"rendered:seed={seed}")
        (partial / HEADER_FILE).write_text(header.model_dump_json(indent=2) + "\n")
        with (partial / SAMPLES_FILE).open("w") as lines:
            for index, (frame, clip) in enumerate(_drawn(task, count, seed, clip_frames)):
                sample = _write(partial, index, frame, book)
                if clip:
                    sample = sample.model_copy(update={"source": clip})
                lines.write(sample.model_dump_json() + "\n")
                yield sample


def _drawn(task: str, count: int, seed: int, clip_frames: int | None) -> Iterator[tuple[Rendered, str | None]]:
    """Frames, each with its place in a clip where there are clips."""
    if clip_frames is None:
        yield from ((frame, None) for frame in rendered_samples(task, count, seed))
        return
    if task != "weld" or count < clip_frames:
        raise DatasetError("--clip-frames", f"{clip_frames} of {count} frames of {task}", "draw weld, one clip or more")
    for k in range(count // clip_frames):
        own_seed = seed * 100_000 + k
        for number, frame in enumerate(render_clip(own_seed, clip_spec(seed, k, clip_frames))):
            yield frame, source_of(f"rendered-{own_seed}", FPS, number)


def _write(folder: Path, index: int, frame: Rendered, book: LabelBook) -> Sample:
    files = {f"images/{index:05d}.png": frame.image, f"masks/{index:05d}.png": frame.mask}
    digests = []
    for name, pixels in files.items():
        # Level 1: noise does not compress, and higher levels take five times as long over it.
        data = cv2.imencode(".png", pixels, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes()
        (folder / name).write_bytes(data)
        digests.append(hashlib.sha256(data).hexdigest())
    counted = [d for d in frame.defects if book.rule(d.cls).is_defect(d.length_mm)]
    image, mask = files
    return Sample(
        image=image,
        image_sha256=digests[0],
        width_px=frame.image.shape[1],
        height_px=frame.image.shape[0],
        mask=mask,
        mask_sha256=digests[1],
        px_per_mm=frame.px_per_mm,
        labels=tuple(cls for cls in book.classes if cls in {d.cls for d in counted}),
        annotations=tuple(Annotation(cls=d.cls, box_px=d.box_px, length_mm=d.length_mm) for d in counted),
        group=f"{frame.task}-scene-{frame.seed}",
        label_book=book.id,
        labelled_by=("renderer",),
        source=f"rendered:seed={frame.seed}",
    )
