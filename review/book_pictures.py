"""Small pictures of the frames that explain a rule: the place that matters, at the size the inspector sees it."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from sqlalchemy import select
from sqlalchemy.orm import Session

from inspection.errors import StorageError
from review.frames import FrameStore
from review.store import BookFrame, Label

WIDTH_PX, HEIGHT_PX = 240, 180


def place_of(session: Session, frame: BookFrame) -> tuple[float, float] | None:
    """The middle of what somebody marked as the class there, frame px; None where nobody marked anything."""
    labels = session.scalars(
        select(Label).where(Label.record_id == frame.record_id, Label.superseded_ms.is_(None)).order_by(Label.id)
    )
    for label in labels:
        for mark in label.annotations:
            if mark["cls"] == frame.cls and mark.get("box_px"):
                x, y, w, h = mark["box_px"]
                return x + w / 2, y + h / 2
    for finding in frame.record.findings:
        if finding.get("cls") == frame.cls:
            x, y, w, h = finding["box_px"]
            return x + w / 2, y + h / 2
    return None


def thumbnail(frames: FrameStore, frame: BookFrame, place: Sequence[float] | None) -> bytes:
    """JPEG of `WIDTH_PX` x `HEIGHT_PX` at most: a cut around `place` in the frame's own pixels, else all of it."""
    sha = frame.record.image
    image = cv2.imdecode(np.frombuffer(frames.read(sha), np.uint8), cv2.IMREAD_COLOR) if sha else None
    if image is None:
        raise StorageError(f"the picture of record {frame.record.uid} does not decode")
    height, width = image.shape[:2]
    if place is None:
        scale = min(1.0, WIDTH_PX / width, HEIGHT_PX / height)
        shown = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    else:
        left = int(np.clip(place[0] - WIDTH_PX / 2, 0, max(0, width - WIDTH_PX)))
        top = int(np.clip(place[1] - HEIGHT_PX / 2, 0, max(0, height - HEIGHT_PX)))
        shown = image[top : top + HEIGHT_PX, left : left + WIDTH_PX]
    return cv2.imencode(".jpg", shown, [cv2.IMWRITE_JPEG_QUALITY, 88])[1].tobytes()
