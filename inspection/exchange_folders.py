"""Folders of pictures with masks beside them, as other programs read them: the layout of MVTec AD, and image + mask.

    mvtec    train/good, test/good, test/<class>/x.png, ground_truth/<class>/x_mask.png (0 and 255)
    pairs    images/x.png, masks/x.png (0 sound, k as mask-values.txt says)

Both carry `haltline.json` with what the folders cannot say. It holds of a picture as long as its mask is the one that
was written: what somebody drew otherwise in another program follows from the new mask and the label book.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.exchange import GOOD, KEY, Entry, Written, beside
from inspection.label_book import LabelBook

Mask = NDArray[np.uint8]


def mask_id(mask: Mask) -> str:
    """Of the pixels, whatever file they lie in."""
    return hashlib.sha256(repr(mask.shape).encode() + np.ascontiguousarray(mask).tobytes()).hexdigest()


def write_folders(form: Literal["mvtec", "pairs"], entries: Iterable[Entry], book: LabelBook, done: Written) -> None:
    """Fill `done`. Pictures are left out where a label has no outline, and of MVTec those with two classes."""
    known: dict[str, Any] = {}
    for entry in entries:
        s = entry.sample
        name = s.image.rpartition("/")[2]
        stem, mask = name.rpartition(".")[0], _outlined(entry, book)
        if mask is None or (form == "mvtec" and len(s.labels) > 1):
            done.left_out.append(s.image)
            continue
        if form == "pairs":
            done.pictures[s.image] = f"images/{name}"
            done.documents[f"masks/{stem}.png"] = _png(mask)
        else:
            cls = s.labels[0] if s.labels else GOOD
            # Its training part has good pictures only; the split itself is in haltline.json.
            part = "train" if cls == GOOD and s.split in (None, "train") else "test"
            done.pictures[s.image] = f"{part}/{cls}/{name}"
            if s.labels:
                mask = (mask == book.classes.index(cls) + 1).astype(np.uint8)
                done.documents[f"ground_truth/{cls}/{stem}_mask.png"] = _png(mask * np.uint8(255))
        known[stem] = beside(entry) | {
            "labels": list(s.labels),
            "annotations": [a.model_dump(mode="json") for a in s.annotations],
            "mask_id": mask_id(mask),
        }
    if form == "pairs":
        values = "".join(f"{k} {cls}\n" for k, cls in enumerate(("sound", *book.classes)))
        done.documents["mask-values.txt"] = values.encode()
    beside_them = {"label_book": book.model_dump(mode="json"), "pictures": known}
    done.documents[f"{KEY}.json"] = (json.dumps(beside_them, ensure_ascii=False) + "\n").encode()


def _outlined(entry: Entry, book: LabelBook) -> Mask | None:
    """The mask, of zeros for a good picture nobody painted; None where a class is labelled and not outlined."""
    s = entry.sample
    mask = np.zeros((s.height_px, s.width_px), np.uint8) if entry.mask is None else entry.mask
    drawn = {book.classes[k - 1] for k in np.unique(mask) if k}
    return mask if set(s.labels) <= drawn else None


def _png(mask: Mask) -> bytes:
    return cv2.imencode(".png", mask)[1].tobytes()
