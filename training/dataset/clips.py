"""Films of a process with the stretches somebody labelled -> items, one a frame, that know their place in the film.

    intervals.csv:  video,start_s,end_s,label
                    seam-1.mp4,0,12.5,good
                    seam-1.mp4,12.5,13.1,porosity

Frames in no interval were judged by nobody and are left out; the clip begins anew behind them. Every film is one group:
frames of one film never lie on both sides of a split.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2

from inspection.errors import DatasetError
from training.dataset.clip_source import source_of
from training.dataset.item import Item, Target, class_name, read_text

COLUMNS = ("video", "start_s", "end_s", "label")
GOOD = "good"
UNEVEN = 0.25
"""Of the mean time between two frames: so much more or less is told."""
END_SLACK_S = 0.5
"""People write full seconds, and players round a film's length up: so much later an interval may end."""


@dataclass(frozen=True, slots=True)
class Interval:
    """From `start_s` up to, not including, `end_s`; `labels` empty for good. `where` is `file:line`."""

    start_s: float
    end_s: float
    labels: tuple[str, ...]
    where: str


def read_intervals(path: Path) -> dict[str, list[Interval]]:
    """Video's file name -> its intervals in order. DatasetError names file, line and value of what is wrong.

    `label` is `good`, a class, or several joined by `+`. Intervals of one film must not overlap.
    """
    reader = csv.DictReader(read_text(path).splitlines())
    if missing := [c for c in COLUMNS if c not in (reader.fieldnames or ())]:
        raise DatasetError(f"{path}:1", f"has no column {missing[0]}", f"write the header {','.join(COLUMNS)}")
    found: dict[str, list[Interval]] = {}
    for row in reader:
        where = f"{path}:{reader.line_num}"
        if any(cell.strip() for cell in row.get(None, ())):
            raise DatasetError(where, f"goes on behind its last column: {','.join(row[None])}", "join labels by +")
        start, end = _seconds(row["start_s"], where), _seconds(row["end_s"], where)
        if not 0 <= start < end:
            raise DatasetError(where, f"runs from {start:g} to {end:g} s", "an interval ends after it starts")
        label = (row["label"] or "").strip()
        if not label:
            raise DatasetError(where, "has no label", f"write {GOOD}, or a class")
        labels = () if label == GOOD else tuple(class_name(part, where) for part in label.split("+"))
        found.setdefault((row["video"] or "").strip(), []).append(Interval(start, end, labels, where))
    for intervals in found.values():
        intervals.sort(key=lambda i: i.start_s)
        for before, after in pairwise(intervals):
            if after.start_s < before.end_s:
                raise DatasetError(
                    after.where, f"begins at {after.start_s:g} s, inside {before.where}", "mend one of them"
                )
    return found


def classes_in(intervals: dict[str, list[Interval]]) -> tuple[str, ...]:
    """The classes the labels name, sorted."""
    return tuple(sorted({label for some in intervals.values() for i in some for label in i.labels}))


def import_clips(
    videos: Sequence[Path], intervals: dict[str, list[Interval]], target: Target, every: int = 1
) -> Iterator[Item]:
    """One item per labelled frame, PNG. `every`: only each so-many-th frame, and so much lower a frame rate."""
    names = [v.name for v in videos]
    if strange := sorted(set(intervals) - set(names)):
        raise DatasetError(
            intervals[strange[0]][0].where,
            f"names the video {strange[0]!r}, which was not given",
            "name it, or drop it",
        )
    if twice := [n for n in names if names.count(n) > 1]:
        raise DatasetError(twice[0], "was given twice", "give films names of their own")
    if alike := [v for v in videos if [w.stem for w in videos].count(v.stem) > 1]:
        what = f"and {alike[1]} would be one clip, {alike[0].stem}"
        raise DatasetError(alike[0], what, "give films names of their own")
    for video in videos:
        yield from _frames(video, intervals.get(video.name, []), target, every)


def _frames(video: Path, intervals: list[Interval], target: Target, every: int) -> Iterator[Item]:
    film = cv2.VideoCapture(str(video))
    try:
        fps = film.get(cv2.CAP_PROP_FPS)
        if not film.isOpened() or not fps > 0:
            raise DatasetError(video, "cannot be played", "convert it to MP4 (H.264) or MJPEG")
        if not intervals:
            raise DatasetError(video, "has no interval", "label a stretch of it, or leave it out")
        waiting, number, at = list(intervals), -1, -1 / fps
        uneven, told_uneven = "", False
        while waiting and film.grab():
            number += 1
            before, at = at, _time_of(film, at, fps)
            while waiting and at >= waiting[0].end_s:
                waiting.pop(0)
            if number and not uneven and abs(at - before - 1 / fps) > UNEVEN / fps:
                uneven = (
                    f"frame {number} comes {at - before:.3f} s after the one before, and others every {1 / fps:.3f} s"
                )
            if not waiting or number % every or at < waiting[0].start_s:
                continue
            told, image = film.retrieve()
            if not told:
                raise DatasetError(video, f"breaks off at frame {number}", "convert it again")
            labels = tuple(target.class_of(label, waiting[0].where) for label in waiting[0].labels)
            yield Item(
                where=f"{video} frame {number}",
                data=cv2.imencode(".png", image, [cv2.IMWRITE_PNG_COMPRESSION, 1])[1].tobytes(),
                suffix=".png",
                group=video.stem,
                labels=labels,
                px_per_mm=target.px_per_mm,
                source=source_of(video.stem, fps / every, number // every),
                doubt=""
                if told_uneven or not uneven
                else f"{uneven}: a model that remembers counts frames, not seconds",
            )
            told_uneven = bool(uneven)
        ends = at + 1 / fps
        for left in waiting:
            if left.start_s >= ends:
                raise DatasetError(left.where, f"begins at {left.start_s:g} s, {video} ends at {ends:.2f} s", "mend it")
            if left.end_s > ends + END_SLACK_S:
                raise DatasetError(
                    left.where,
                    f"ends at {left.end_s:g} s, {video} ends at {ends:.2f} s",
                    f"write {ends:.2f} where all of it is meant; a film that breaks off is to be converted again",
                )
    finally:
        film.release()


def _time_of(film: cv2.VideoCapture, before: float, fps: float) -> float:
    """When the frame that was grabbed last is shown, in s: phones film at no even rate. Where the film does not say, as
    long after the one `before` as frames are apart on the whole."""
    at = round(film.get(cv2.CAP_PROP_POS_MSEC) / 1000, 6)
    return at if at > before else round(before + 1 / fps, 6)


def _seconds(text: str | None, where: str) -> float:
    try:
        return float(text or "")
    except ValueError:
        raise DatasetError(where, f"{text!r} is no time in seconds", "write e.g. 12.5") from None
