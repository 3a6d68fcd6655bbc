"""Small runs that answer one question on the snapshot at hand: which encoder, which variations.

Judged on the validation groups: the test groups answer one question only, how good the released model is.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np

from inspection.bundle import OutputSpec
from inspection.errors import DatasetError
from training.augment import DEFAULT, NAMES
from training.backbones import Backbone
from training.calibrate import Platt
from training.checkpoint import Ask
from training.dataset.snapshot import Snapshot
from training.defaults import ask_of, own_encoder
from training.examples import Example, collate, load
from training.fit import fit
from training.graph import graph_of, to_onnx
from training.metrics import average_precision, pixel_average_precision, recall_at_false_calls
from training.served import open_session
from training.trained import predict, trained

TIMED_RUNS = 60
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Row:
    """One setting. Figures are means over the classes that validation holds, and over seeds. `ms` of one inference."""

    name: str
    weights: int
    epochs: int
    image_ap: float
    pixel_ap: float
    recall: float
    ms_p50: float
    ms_p99: float
    start: str = ""


def compare(
    data: Snapshot,
    backbones: Sequence[tuple[Backbone, int]],
    size: tuple[int, int] | None,
    minutes: float,
    seed: int,
    threads: int,
    out: Path | None,
    tell: Tell,
) -> list[Row]:
    """Each (encoder, width) trained for `minutes`, best image AP first."""
    rows = []
    with _folder(out) as folder:
        for backbone, width in backbones:
            name = backbone.name if width == 16 else f"{backbone.name}:{width}"
            begins = Path(backbone.weights).name if backbone.weights else "nothing"
            tell(f"{name}: training for {minutes:g} minutes")
            ask = ask_of(data, backbone, size, minutes=minutes, channels=width, seed=seed, threads=threads)
            run = folder / f"{name.replace(':', '-')}-from-{begins}"
            rows.append(replace(_run(data, run, ask, name, timed=True), start=begins))
        rows.sort(key=lambda r: -r.image_ap)
        _keep(out, rows)
    return rows


def ablation(
    data: Snapshot,
    size: tuple[int, int] | None,
    epochs: int,
    seeds: int,
    threads: int,
    only: Sequence[str],
    out: Path | None,
    tell: Tell,
) -> list[Row]:
    """The default recipe first, then with each variation left out, or put in where the default has it not."""
    settings: list[tuple[str, tuple[str, ...]]] = [("the default", DEFAULT)]
    for name in only or NAMES:
        changed = tuple(n for n in NAMES if (n in DEFAULT) != (n == name))
        settings.append((f"{'without' if name in DEFAULT else 'with'} {name}", changed))
    rows = []
    with _folder(out) as folder:
        for title, augment in settings:
            runs = []
            for seed in range(seeds):
                tell(f"{title}, seed {seed}")
                ask = ask_of(data, own_encoder(), size, epochs=epochs, seed=seed, threads=threads, augment=augment)
                runs.append(_run(data, folder / f"{title.replace(' ', '-')}-{seed}", ask, title, timed=False))
            rows.append(_mean(runs))
        _keep(out, rows)
    return rows


def _run(data: Snapshot, run: Path, ask: Ask, name: str, *, timed: bool) -> Row:
    config = fit(data, run, ask)
    _, network = trained(run)
    examples = [load(data.folder, s, config.input, config.label_book) for s in data.split("val")]
    if not examples:
        raise DatasetError(
            data.folder, "has no validation pictures to judge by", "import again: larger --val, or another --seed"
        )
    logits, maps = predict(network, [e.image for e in examples])
    ap, pixel, recall = figures(logits.double().numpy(), (maps * 255).byte().numpy(), examples, config.heat_stride)
    ms = (0.0, 0.0)
    if timed:
        plain = [Platt()] * len(config.classes)
        model = to_onnx(graph_of(network, plain), config.input, OutputSpec(heat_stride=config.heat_stride))
        ms = latency(model, (config.input.width_px, config.input.height_px), ask.threads)
    count = sum(p.numel() for p in network.parameters())
    return Row(name, count, config.epochs, ap, pixel, recall, *ms)


def figures(
    logits: np.ndarray, heat: np.ndarray, examples: Sequence[Example], stride: int
) -> tuple[float, float, float]:
    """(image AP, pixel AP, recall at 1 % false calls), means over the classes present; NaN where none can be had."""
    target = np.array([e.target for e in examples]) > 0.5
    cells = collate(examples, stride)
    outlined = [k for k, e in enumerate(examples) if not e.boxes and (e.mask is not None or not e.target.any())]
    found = []
    for c in range(target.shape[1]):
        if not target[:, c].any():
            continue
        pixel = pixel_average_precision([heat[k, c] for k in outlined], [cells.maps[k, c] > 0 for k in outlined])
        scores = logits[:, c]
        found.append((average_precision(scores, target[:, c]), pixel, recall_at_false_calls(scores, target[:, c])))
    if not found:
        return (float("nan"),) * 3
    image_ap, pixel_ap, recall = np.nanmean(np.array(found), 0)
    return float(image_ap), float(pixel_ap), float(recall)


def latency(model: bytes, size: tuple[int, int], threads: int) -> tuple[float, float]:
    """(p50, p99) ms of one inference on onnxruntime."""
    session = open_session(model, threads)
    picture = np.random.default_rng(0).integers(0, 256, (1, size[1], size[0], 3), np.uint8)
    took = []
    for _ in range(TIMED_RUNS):
        start = time.perf_counter()
        session.run(None, {session.get_inputs()[0].name: picture})
        took.append((time.perf_counter() - start) * 1e3)
    return float(np.percentile(took[5:], 50)), float(np.percentile(took[5:], 99))


def _mean(rows: Sequence[Row]) -> Row:
    values = [[r.image_ap, r.pixel_ap, r.recall] for r in rows]
    ap, pixel, recall = np.mean(values, 0)
    return Row(rows[0].name, rows[0].weights, rows[0].epochs, float(ap), float(pixel), float(recall), 0.0, 0.0)


@contextmanager
def _folder(out: Path | None) -> Iterator[Path]:
    """Where runs go: kept under `out`, where a study that was stopped goes on; thrown away without."""
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
        yield out
        return
    folder = Path(tempfile.mkdtemp(prefix="haltline-study-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _keep(out: Path | None, rows: Sequence[Row]) -> None:
    if out is not None:
        (out / "table.json").write_text(json.dumps([asdict(r) for r in rows], indent=2) + "\n")
