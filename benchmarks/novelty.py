"""`python -m benchmarks.novelty BUNDLE SNAPSHOT [--json]`: does a bundle's novelty tell pictures of another kind?

Strange pictures are the other task's rendered frames, public photographs (HALTLINE_DATA, default ../shared/data; left
out where there are none), and the snapshot's own test pictures with something done to camera or light. Each kind is
held against the untouched test pictures: the area under the ROC curve, and the share above the manifest's threshold,
which the edge would send. Last, what the output costs: one thread's processor time with it and without, in turns.
"""

from __future__ import annotations

import csv
import os
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import cv2
import numpy as np
import onnx
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks.figures import Figure, tell
from inspection.bundle import MODEL_FILE, InputSpec
from inspection.errors import BundleError, InputError
from inspection.model_io import to_input
from inspection.render import TASKS, rendered_samples
from inspection.types import Image
from training.dataset.snapshot import read_snapshot
from training.examples import load
from training.served import open_session, read_bundle

PICTURES, ROUNDS = 40, 300
PUBLIC = ("weld_seg", "lohi_weld_100", "magnetic_tile", "neu_seg_dedup")


def measure(bundle: Path, snapshot: Path) -> Iterator[Figure]:
    served, data = read_bundle(bundle, threads=1), read_snapshot(snapshot)
    known, spec = served.manifest.novelty, served.manifest.input
    if known is None:
        raise BundleError(bundle, "has no novelty", "export it again")
    test = [load(data.folder, s, spec, data.manifest.label_book).image for s in data.split("test")]
    usual = np.array([served.answer(image).novelty for image in test], np.float64)
    note = f"{len(test)} test pictures, threshold {known.threshold} from {known.held_out}"
    yield Figure("sent of the test pictures", _percent(usual > known.threshold), "%", note=note)
    kinds = [(f"{task}, rendered", _rendered(task, spec)) for task in TASKS if task != served.manifest.task]
    kinds += [(name, _public(name, spec)) for name in PUBLIC]
    kinds += _disturbed(test[:PICTURES])
    for kind, pictures in kinds:
        if pictures:
            strange = np.array([served.answer(image).novelty for image in pictures], np.float64)
            truth = [0] * len(usual) + [1] * len(strange)
            auroc = float(roc_auc_score(truth, np.concatenate([usual, strange])))
            sent = f"{_percent(strange > known.threshold)} % of {len(pictures)} sent"
            yield Figure(kind, round(auroc, 3), "AUROC", note=sent)
    without, with_ = cost((bundle / MODEL_FILE).read_bytes(), known.output, spec)
    yield Figure("processor time without it", round(without, 2), "ms", note="fastest, one thread")
    yield Figure("processor time with it", round(with_, 2), "ms", goal=f"<= {1.02 * without:.2f}", note="2 % more")


def _percent(above: NDArray[np.bool_]) -> float:
    return round(100 * float(above.mean()), 1)


def _rendered(task: str, spec: InputSpec) -> list[Image]:
    return [to_input(frame.image, spec)[0] for frame in rendered_samples(task, PICTURES, seed=77)]


def _public(name: str, spec: InputSpec) -> list[Image]:
    """Photographs of one set, evenly taken; none where the folder is missing."""
    folder = Path(os.environ.get("HALTLINE_DATA", "../shared/data"))
    manifest = folder / "manifest.csv"
    if not manifest.is_file():
        return []
    with manifest.open(newline="") as file:
        paths = [row["image"] for row in csv.DictReader(file) if row["dataset"] == name]
    read = (cv2.imread(str(folder / path)) for path in paths[:: max(1, len(paths) // PICTURES)])
    return [to_input(np.asarray(image, np.uint8), spec)[0] for image in islice(read, PICTURES) if image is not None]


def _disturbed(pictures: list[Image]) -> list[tuple[str, list[Image]]]:
    """The same pictures after something happened to camera or light."""
    rng = np.random.default_rng(5)
    kinds: dict[str, list[Image]] = {}
    for picture in pictures:
        shape, plain = picture.shape, picture.astype(np.float32)
        covered = plain.copy()
        covered[:, : shape[1] // 3] = 35
        cloth = np.repeat(90 + 30 * _cloud(shape, 20, rng)[..., None], 3, 2)
        film = np.clip((_cloud(shape, 40, rng) - 0.5) * 6 + 0.5, 0, 1)[..., None]
        turned = cv2.resize(cv2.rotate(plain, cv2.ROTATE_90_CLOCKWISE), None, fx=1.5, fy=1.5)
        done = {
            "a third covered by dark cloth": covered,
            "covered whole by grey cloth": cloth,
            "out of focus, sigma 3 px": cv2.GaussianBlur(plain, (0, 0), 3),
            "oil film, soft in places": plain * (1 - film) + cv2.GaussianBlur(plain, (0, 0), 6) * film,
            "light x2": plain * 2,
            "light x0.5": plain * 0.5,
            "turned by 90 degrees": turned[: shape[0], : shape[1]],
        }
        for kind, image in done.items():
            noisy = image + 2 * rng.standard_normal(image.shape, np.float32)
            kinds.setdefault(kind, []).append(to_size(np.clip(noisy, 0, 255).astype(np.uint8), shape))
    return list(kinds.items())


def _cloud(shape: tuple[int, ...], sigma: float, rng: np.random.Generator) -> NDArray[np.float32]:
    """Smooth noise from 0 to 1."""
    soft = cv2.GaussianBlur(rng.standard_normal(shape[:2], np.float32), (0, 0), sigma)
    return np.asarray((soft - soft.min()) / (soft.max() - soft.min()), np.float32)


def to_size(image: Image, shape: tuple[int, ...]) -> Image:
    if image.shape == shape:
        return image
    return np.asarray(cv2.resize(image, (shape[1], shape[0])), np.uint8)


def cost(model: bytes, output: str, spec: InputSpec) -> tuple[float, float]:
    """Ms of processor time without and with the output: another program's share of the core is not in it."""
    graph = onnx.load_from_string(model)
    kept = [out for out in graph.graph.output if out.name != output]
    del graph.graph.output[:]
    graph.graph.output.extend(kept)
    sessions = [open_session(data, 1) for data in (graph.SerializeToString(), model)]
    picture = np.random.default_rng(0).integers(0, 256, (1, spec.height_px, spec.width_px, 3), np.uint8)
    took: list[list[float]] = [[], []]
    for _ in range(ROUNDS):
        for session, spent in zip(sessions, took, strict=True):
            start = time.process_time()
            session.run(None, {spec.name: picture})
            spent.append((time.process_time() - start) * 1e3)
    return min(took[0]), min(took[1])


def main(arguments: list[str]) -> None:
    paths = [Path(argument) for argument in arguments if not argument.startswith("-")]
    if len(paths) != 2:
        raise InputError("benchmarks.novelty", f"got {len(paths)} paths", "name a bundle and its snapshot")
    tell(measure(*paths), as_json="--json" in arguments)


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except InputError as e:
        sys.exit(f"{e}")
