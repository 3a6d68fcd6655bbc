"""Labels of real sets flipped on purpose: how many confident learning finds. `python -m benchmarks.label_errors`.

Features are a frozen ImageNet network's, pooled; out-of-fold probabilities are a logistic regression's, in 5 folds by
group. That is far weaker than a trained model and takes minutes instead of hours: what is reported is a lower bound.
The sets have wrong labels of their own, and whoever finds one of those is counted as wrong here.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import torch
import typer
from numpy.typing import NDArray
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GroupKFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.figures import Figure, tell
from inspection.errors import DatasetError
from training.backbones import Backbone, open_backbone
from training.label_errors import image_errors, mask_quality, share_found

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

WEIGHTS = "backbones/mobilenet_v2_1.0_224_imagenet_dequant.pth"
SIDE, TILE, STRIDE = 256, 256, 8
FOLDS, TOP = 5, 0.10
SHARES = (0.034, 0.05, 0.10)
SETS = ("magnetic_tile", "neu_seg_dedup", "weld_seg")
NEU = ("inclusion", "patches", "scratches")


@dataclass(frozen=True, slots=True)
class RealSet:
    """`features` (N, F); `present` (N, C) as labelled; `groups` (N,). For outlines: `cells` (N, h, w, G) features and
    `masks` (N, h, w), 0 sound, k the k-th class."""

    name: str
    features: Floats
    present: Bools
    groups: NDArray[np.int64]
    cells: NDArray[np.float32]
    masks: NDArray[np.uint8]


class Eye:
    """The frozen network: pictures -> features."""

    def __init__(self, weights: Path) -> None:
        backbone = Backbone(name="mobilenetv2_100", weights=str(weights), pixels="signed", frozen=True)
        module, _ = open_backbone(backbone)
        self._network = module.eval()

    @torch.no_grad()
    def see(self, image: NDArray[np.uint8]) -> tuple[Floats, NDArray[np.float32]]:
        """(pooled features, (h, w, G) features of cells of 8 px) of one picture of SIDE x SIDE."""
        pixels = torch.from_numpy(image[None, ..., ::-1].copy()).permute(0, 3, 1, 2).float() / 127.5 - 1
        maps: list[Any] = list(self._network(pixels))
        pooled = [torch.cat([m.mean((2, 3)), m.amax((2, 3)), m.std((2, 3))], 1) for m in maps[1:]]
        fine = torch.nn.functional.interpolate(maps[2], size=maps[1].shape[2:], mode="bilinear")
        cells = torch.cat([maps[1], fine], 1)[0].permute(1, 2, 0)
        return torch.cat(pooled, 1)[0].numpy().astype(np.float64), cells.numpy().astype(np.float32)


def read_set(name: str, data: Path, eye: Eye) -> RealSet:
    """Every picture of the set (`weld_seg`: tiles of it), seen by the network."""
    features, present, groups, cells, masks = [], [], [], [], []
    for image, mask, row in _pictures(name, data):
        pooled, fine = eye.see(cv2.resize(image, (SIDE, SIDE), interpolation=cv2.INTER_AREA))
        side = SIDE // STRIDE
        small = cv2.resize(mask, (side, side), interpolation=cv2.INTER_NEAREST)
        features.append(pooled)
        cells.append(fine.astype(np.float16))
        masks.append(small)
        present.append(_present(name, mask, row))
        groups.append(row["group"])
    _, index = np.unique(groups, return_inverse=True)
    return RealSet(
        name, np.stack(features), np.stack(present), index.astype(np.int64), np.stack(cells), np.stack(masks)
    )


def _pictures(name: str, data: Path) -> Iterator[tuple[NDArray[np.uint8], NDArray[np.uint8], dict[str, str]]]:
    with (data / "manifest.csv").open(newline="") as lines:
        rows = [row for row in csv.DictReader(lines) if row["dataset"] == name]
    for row in rows:
        image = cv2.imread(str(data / row["image"]), cv2.IMREAD_COLOR)
        assert image is not None
        mask = np.zeros(image.shape[:2], np.uint8)
        if row["mask_or_boxes"]:
            read = cv2.imread(str(data / row["mask_or_boxes"]), cv2.IMREAD_GRAYSCALE)
            assert read is not None
            mask = read if name == "neu_seg_dedup" else (read > 127).astype(np.uint8)
        if name != "weld_seg":
            yield np.asarray(image, np.uint8), np.asarray(mask, np.uint8), row
            continue
        for y in range(0, image.shape[0] - TILE + 1, TILE):
            for x in range(0, image.shape[1] - TILE + 1, TILE):
                here = np.s_[y : y + TILE, x : x + TILE]
                share = float((mask[here] > 0).mean())
                if share == 0 or share > 0.01:  # a sliver at a tile's edge is neither
                    yield np.asarray(image[here], np.uint8), np.asarray(mask[here], np.uint8), row


def _present(name: str, mask: NDArray[np.uint8], row: dict[str, str]) -> Bools:
    if name == "neu_seg_dedup":
        return np.array([cls in row["label"].split("+") for cls in NEU])
    if name == "magnetic_tile":
        return np.array([row["label"] != "MT_Free"])
    return np.array([bool(mask.any())])


# -- labels of pictures -----------------------------------------------------------------------------------------------


def chances(features: Floats, labels: Bools, groups: NDArray[np.int64], seed: int) -> Floats:
    """(N, C) out of fold by group; learnt from the labels as they are, planted errors and all."""
    found = np.zeros(labels.shape)
    for learn, judge in GroupKFold(FOLDS, shuffle=True, random_state=seed).split(features, groups=groups):
        for k in range(labels.shape[1]):
            model = make_pipeline(
                StandardScaler(), PCA(96, random_state=seed), LogisticRegression(C=0.03, max_iter=500)
            )
            model.fit(features[learn], labels[learn, k])
            found[judge, k] = model.predict_proba(features[judge])[:, 1]
    return found


@dataclass(frozen=True, slots=True)
class Found:
    """Of planted errors: precision and recall of what is suspected, and the share in the top tenth of the ranking."""

    precision: float
    recall: float
    top: float


def picture_labels(real: RealSet, share: float, seed: int) -> Found:
    """Flip one label of a share of the pictures, look for them, and compare."""
    rng = np.random.default_rng(seed)
    n, classes = real.present.shape
    hit = rng.choice(n, round(share * n), replace=False)
    labels, planted = real.present.copy(), np.zeros(real.present.shape, bool)
    of_class = rng.integers(0, classes, len(hit))
    labels[hit, of_class] ^= True
    planted[hit, of_class] = True
    errors = image_errors(labels, chances(real.features, labels, real.groups, seed))
    right = int((errors.suspected & planted).sum())
    worst = np.nanmin(errors.quality, axis=1)
    return Found(
        right / max(1, int(errors.suspected.sum())),
        right / int(planted.sum()),
        share_found(np.argsort(worst, kind="stable"), np.asarray(planted.any(axis=1)), TOP),
    )


# -- outlines ---------------------------------------------------------------------------------------------------------


def outlines(real: RealSet, share: float, seed: int) -> float:
    """Move, halve or give to another class a share of the outlines; the share of them in the top tenth."""
    rng = np.random.default_rng(seed)
    painted = np.flatnonzero(real.masks.any((1, 2)))
    classes = real.present.shape[1]
    masks, planted = real.masks.copy(), np.zeros(len(painted), bool)
    for at in rng.choice(len(painted), round(share * len(painted)), replace=False):
        masks[painted[at]] = _spoilt(masks[painted[at]], classes, rng)
        planted[at] = True
    heat = _heat(real, masks, classes, seed)
    quality = mask_quality(masks[painted], heat[painted])
    return share_found(np.argsort(quality, kind="stable"), planted, TOP)


def _spoilt(mask: NDArray[np.uint8], classes: int, rng: np.random.Generator) -> NDArray[np.uint8]:
    """A mistake people make: the wrong class, the wrong place, only part of it."""
    how = rng.integers(0, 3 if classes > 1 else 2)
    if how == 2:
        return np.where(mask > 0, (mask - 1 + rng.integers(1, classes)) % classes + 1, 0).astype(np.uint8)
    if how == 1:
        half = mask.copy()
        ys, xs = np.nonzero(mask)
        half[(np.indices(mask.shape)[1] > np.median(xs)) & (mask > 0)] = 0
        return half if half.any() and len(ys) > 1 else np.zeros_like(mask)
    return np.roll(mask, (mask.shape[0] // 3, mask.shape[1] // 3), (0, 1))


def _heat(real: RealSet, masks: NDArray[np.uint8], classes: int, seed: int) -> Floats:
    """(N, C, h, w) out of fold: a logistic regression on single cells."""
    rng, heat = np.random.default_rng(seed), np.zeros((len(masks), classes, *masks.shape[1:]))
    for learn, judge in GroupKFold(FOLDS, shuffle=True, random_state=seed).split(masks, groups=real.groups):
        x = real.cells[learn].reshape(-1, real.cells.shape[3])
        y = masks[learn].ravel()
        on, off = np.flatnonzero(y), np.flatnonzero(y == 0)
        drawn = np.concatenate([rng.permutation(on)[:12_000], rng.permutation(off)[:12_000]])
        model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200))
        model.fit(x[drawn].astype(np.float32), y[drawn])
        odds = model.predict_proba(real.cells[judge].reshape(-1, real.cells.shape[3]).astype(np.float32))
        for column, value in enumerate(model.classes_):
            if value:
                heat[judge, value - 1] = odds[:, column].reshape(len(judge), *masks.shape[1:])
    return heat


def measure(data: Path, seeds: int, sets: tuple[str, ...] = SETS) -> Iterator[Figure]:
    """Precision and recall per set and share, then the goal's figure."""
    eye = Eye(data / WEIGHTS)
    for name in sets:
        real = read_set(name, data, eye)
        note = f"{len(real.present)} pictures in {len(np.unique(real.groups))} groups, {seeds} seeds"
        for share in SHARES:
            found = [picture_labels(real, share, seed) for seed in range(seeds)]
            what = f"{name}, {100 * share:g} % flipped:"
            yield Figure(f"{what} precision", _percent(f.precision for f in found), "%", None, note)
            yield Figure(f"{what} recall", _percent(f.recall for f in found), "%")
            goal = ">= 80" if share == 0.05 else None
            yield Figure(f"{what} in the top 10 %", _percent(f.top for f in found), "%", goal)
        spoilt = [outlines(real, 0.05, seed) for seed in range(min(seeds, 3))]
        yield Figure(f"{name}, 5 % of outlines spoilt: in the top 10 %", _percent(spoilt), "%", None, note)


def _percent(values: Any) -> float:
    return round(100 * float(np.mean(list(values))), 1)


def main(
    as_json: Annotated[bool, typer.Option("--json", help="A list of figure, value, unit, goal, ok, machine.")] = False,
    seeds: Annotated[int, typer.Option(min=1, help="How often errors are planted anew.")] = 5,
    only: Annotated[str | None, typer.Option(help=f"One of {', '.join(SETS)}.")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 1,
) -> None:
    """How many labels flipped on purpose does confident learning find in real sets?"""
    torch.set_num_threads(threads)
    data = Path(os.environ.get("HALTLINE_DATA", "../shared/data"))
    if not (data / "manifest.csv").is_file():
        raise DatasetError(data, "holds no manifest.csv", "name the folder of public images with HALTLINE_DATA")
    if only is not None and only not in SETS:
        raise DatasetError("--only", f"{only!r} is none of the sets", f"one of {', '.join(SETS)}")
    tell(measure(data, seeds, (only,) if only else SETS), as_json=as_json)


if __name__ == "__main__":
    typer.run(main)
