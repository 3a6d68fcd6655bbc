"""`python -m benchmarks.model_sizes`: what one inference of the sizes S, M and L costs, in float32 and in int8; and
of S with several views.

Weights are random: time does not depend on them. All variants take turns; the fastest tenth counts, since a machine
that is busy with other things only ever adds. On two threads, on onnxruntime and OpenVINO.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator

import numpy as np
import openvino as ov
import torch

from benchmarks.figures import Figure, tell
from inspection.bundle import InputSpec, OutputSpec
from training.calibrate import Platt
from training.graph import Graph, to_onnx
from training.int8 import to_int8
from training.network import HEAT_STRIDE, SIZES, Network, Size
from training.served import open_session
from training.views import SIDES

ROUNDS, THREADS, CLASSES = 60, 2, 3


def measure(rounds: int = ROUNDS) -> Iterator[Figure]:
    several = [(f"S, {views} views", SIZES["S"], views) for views in SIDES if views > 1]
    for name, size, views in [*((name, size, 1) for name, size in SIZES.items()), *several]:
        torch.manual_seed(0)
        network = Network(CLASSES, size.channels)
        weights = sum(p.numel() for p in network.parameters()) / 1e6
        runs = variants(network, size, views)
        picture = np.random.default_rng(0).integers(0, 256, (1, size.height_px, size.width_px, 3), np.uint8)
        took: dict[str, list[float]] = {variant: [] for variant in runs}
        for _ in range(rounds):
            for variant, run in runs.items():
                start = time.perf_counter()
                run(picture)
                took[variant].append((time.perf_counter() - start) * 1e3)
        shape = f"{size.channels} channels, {weights:.2f} M weights, {size.width_px}x{size.height_px}"
        best = {variant: float(np.percentile(ms, 10)) for variant, ms in took.items()}
        for variant, ms in best.items():
            yield Figure(f"{name}, {variant}", round(ms, 1), "ms", note=shape)
        fastest = min(best, key=best.__getitem__)
        goal = f"<= {size.goal_ms:g}" if views == 1 else None
        yield Figure(f"{name}, fastest", round(best[fastest], 1), "ms", goal=goal, note=fastest)


def variants(network: Network, size: Size, views: int = 1) -> dict[str, Callable[[np.ndarray], object]]:
    spec = InputSpec(width_px=size.width_px, height_px=size.height_px, px_per_mm=5)
    model = to_onnx(Graph(network, [Platt()] * CLASSES, views=views), spec, OutputSpec(heat_stride=HEAT_STRIDE))
    rng = np.random.default_rng(1)
    pictures = [rng.integers(0, 256, (size.height_px, size.width_px, 3), np.uint8) for _ in range(3)]
    found: dict[str, Callable[[np.ndarray], object]] = {}
    for precision, data in (("float32", model), ("int8", to_int8(model, spec.name, pictures))):
        found[f"onnxruntime {precision}"] = _onnx(data, spec.name)
        found[f"openvino {precision}"] = _openvino(data, spec.name)
    return found


def _onnx(model: bytes, name: str) -> Callable[[np.ndarray], object]:
    session = open_session(model, THREADS)
    return lambda picture: session.run(None, {name: picture})


def _openvino(model: bytes, name: str) -> Callable[[np.ndarray], object]:
    core = ov.Core()
    settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32", "NUM_STREAMS": 1}
    compiled = core.compile_model(core.read_model(model=model), "CPU", {**settings, "INFERENCE_NUM_THREADS": THREADS})
    request = compiled.create_infer_request()
    return lambda picture: request.infer({name: picture})


if __name__ == "__main__":
    tell(measure(), as_json="--json" in sys.argv)
