"""Network + calibration -> the ONNX graph a bundle holds: uint8 NHWC BGR in, calibrated scores and a uint8 heat map
out.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspection.bundle import InputSpec, OutputSpec
from training.calibrate import Platt
from training.network import SegmentAndDecide
from training.onnx_graph import checked, fold, strip

Floats = NDArray[np.float32]


class Graph(nn.Module):
    """What is exported. Heat is rounded to 256 levels, so that it costs the edge a quarter of the memory traffic."""

    def __init__(self, network: SegmentAndDecide, calibration: list[Platt]) -> None:
        super().__init__()
        self.network = network.eval()
        self.register_buffer("scale", torch.tensor([p.scale for p in calibration]))
        self.register_buffer("bias", torch.tensor([p.bias for p in calibration]))

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        logits, maps = self.network(image)
        scores = torch.sigmoid(logits * self.scale + self.bias)
        return scores, (torch.sigmoid(maps) * 255).round().to(torch.uint8)


def to_onnx(graph: Graph, spec: InputSpec, outputs: OutputSpec) -> bytes:
    """Fixed shape, standard operators, weights inside. Checked by onnx's own checker.

    Constants are folded and nothing else: onnxruntime merges the BatchNorms when it loads, and the weights keep their
    names, so that training can start from a released bundle.
    """
    graph = graph.eval()
    example = torch.zeros((1, spec.height_px, spec.width_px, 3), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            graph,
            (example,),
            path,
            dynamo=True,
            optimize=False,
            external_data=False,
            input_names=[spec.name],
            output_names=[outputs.scores, outputs.heat],
            verbose=False,
        )
        data = path.read_bytes()
    model = fold(onnx.load_from_string(data))
    strip(model)
    return checked(model)


def torch_outputs(graph: Graph, image: NDArray[np.uint8]) -> tuple[Floats, NDArray[np.uint8]]:
    """(H, W, 3) -> scores (C,), heat (C, h, w), as torch computes them in float32."""
    with torch.no_grad():
        scores, heat = graph(torch.from_numpy(image[None]))
    return scores[0].numpy(), heat[0].numpy()


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The exporter prints progress and warns of its own internals; neither helps whoever exports a model."""
    level = logging.getLogger("torch.onnx").level
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.getLogger("torch.onnx").setLevel(level)
