"""`haltline bench inference`: what one inference costs, by provider, precision and threads, all taken in turns.

In turns, because a machine that is busy for a second must slow every row alike: only then are the ratios true.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from benchmarks.figures import Figure, percentile
from deploy.demo import newest_bundle
from edge.bundle_store import VerifiedBundle, read_bundle
from edge.config import BundleConfig
from edge.doctor import int8_pays
from edge.model_base import BundleModel
from edge.models import open_model
from inspection.bundle import MODEL_FILE
from inspection.model_io import to_input
from inspection.render import Seam
from inspection.types import Frame, Image
from training.int8 import golden_for, to_int8
from training.onnx_graph import checked, fold
from training.served import Served, open_session

TASKS = ("weld", "scratch")
ON_DEVICE = ("CPUExecutionProvider", "CUDAExecutionProvider", "TensorrtExecutionProvider")
FRAME = (2448, 2048)
FAST_INT8 = 1.8


@dataclass(slots=True)
class Row:
    """One line of the table; `ms` fills as the bench goes round."""

    task: str
    model: BundleModel
    precision: str
    threads: int
    ms: list[float]

    @property
    def name(self) -> str:
        plural = "" if self.threads == 1 else "s"
        return f"{self.task}, {self.model.provider}, {self.precision}, {self.threads} thread{plural}"


def measure(rounds: int, threads: tuple[int, ...]) -> Iterator[Figure]:
    """Three figures a row, then what int8 gains on each provider, then a large frame in tiles."""
    for task in TASKS:
        bundle, pictures = read_bundle(newest_bundle(task)), drawn(task)
        rows = list(_rows(task, bundle, pictures, threads))
        _go_round(rows, pictures, rounds)
        for row in rows:
            p50 = percentile(row.ms, 0.5)
            yield Figure(f"{row.name}, p50", round(p50, 2), "ms")
            yield Figure(f"{row.name}, p99", round(percentile(row.ms, 0.99), 2), "ms")
            yield Figure(f"{row.name}, rate", round(1000 / p50), "frames/s")
        yield from _gains(rows)
        yield from _tiled(task, bundle)


def drawn(task: str, count: int = 48) -> list[Image]:
    """Rendered frames of a good seam, fitted to the input of the task's bundle."""
    seam, spec = Seam(task, 7, length_mm=300, defects=[], speed_mm_s=30), read_bundle(newest_bundle(task)).manifest
    return [to_input(seam.frame(k * 6).image, spec.input)[0] for k in range(count)]


def _rows(task: str, bundle: VerifiedBundle, pictures: list[Image], threads: tuple[int, ...]) -> Iterator[Row]:
    for precision, made in _precisions(bundle, pictures):
        for provider in _providers():
            for count in threads:
                config = BundleConfig(path=Path("-"), provider=provider, threads=count)
                yield Row(task, open_model(made, config), precision, count, [])


def _providers() -> list[str]:
    found = [name for name in ON_DEVICE if name in ort.get_available_providers()]
    return [*found, "openvino"] if find_spec("openvino") else found


def _precisions(bundle: VerifiedBundle, pictures: list[Image]) -> Iterator[tuple[str, VerifiedBundle]]:
    """As released; folded, where it was exported before exports were; int8 made here, for speed only."""
    yield "fp32", bundle
    before = onnx.load_from_string(bundle.files[MODEL_FILE])
    folded = fold(before)
    if any(node.op_type == "Expand" for node in before.graph.node):
        yield "fp32 folded", _with_graph(bundle, checked(folded))
    yield "int8", _with_graph(bundle, to_int8(bundle.files[MODEL_FILE], bundle.manifest.input.name, pictures))


def _with_graph(bundle: VerifiedBundle, model: bytes) -> VerifiedBundle:
    golden = golden_for(Served(bundle.manifest, open_session(model)), bundle.files)
    manifest = bundle.manifest.model_copy(update={"golden": golden})
    return replace(bundle, manifest=manifest, files={**bundle.files, MODEL_FILE: model})


def _go_round(rows: list[Row], pictures: list[Image], rounds: int) -> None:
    for number in range(rounds):
        picture = pictures[number % len(pictures)]
        for row in rows:
            start = time.perf_counter()
            row.model.run(picture)
            row.ms.append((time.perf_counter() - start) * 1e3)


def _gains(rows: list[Row]) -> Iterator[Figure]:
    """int8 against float by provider and threads. Folded float where there is one: folding is no gain of int8's."""
    by_key = {(row.model.provider, row.threads, row.precision): row for row in rows}
    goal = f">= {FAST_INT8}" if int8_pays(_flags()).startswith("pays") else None
    for (provider, threads, precision), row in by_key.items():
        if precision != "int8":
            continue
        plain = by_key.get((provider, threads, "fp32 folded")) or by_key[provider, threads, "fp32"]
        # The fastest tenth: whatever else runs here only ever adds time, and adds most to the slower model.
        ratio = percentile(plain.ms, 0.1) / percentile(row.ms, 0.1)
        note = "of the fastest tenths" + ("; without VNNI nothing is promised" if goal is None else "")
        yield Figure(f"{row.name} against {plain.precision}", round(ratio, 2), "x", goal, note)


def _tiled(task: str, bundle: VerifiedBundle, runs: int = 5) -> Iterator[Figure]:
    """A frame of five megapixels at twice the trained scale, cut, judged and put together."""
    model = open_model(bundle, BundleConfig(path=Path("-"), max_tiles=64))
    noise = np.random.default_rng(0).integers(90, 110, (FRAME[1], FRAME[0], 3), np.uint8)
    frame, times = Frame("bench", 1, 0, 0, noise, 2 * bundle.manifest.input.px_per_mm), []
    for _ in range(runs):
        start = time.perf_counter()
        model.infer(frame)
        times.append((time.perf_counter() - start) * 1e3)
    where = f"{task}, {model.provider}, fp32, 2 threads"
    yield Figure(f"{where}, {FRAME[0]}x{FRAME[1]} in tiles, p50", round(percentile(times, 0.5), 1), "ms")


def _flags() -> str:
    try:
        cpu = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return ""
    return next((line for line in cpu.splitlines() if line.startswith("flags")), "")
