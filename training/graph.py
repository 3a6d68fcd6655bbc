"""Network + calibration -> the ONNX graph a bundle holds: uint8 NHWC BGR in, calibrated scores and a uint8 heat map
out.
"""

from __future__ import annotations

import contextlib
import io
import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import onnx
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from inspection.bundle import NOVELTY, InputSpec, OutputSpec, StateSpec
from inspection.types import Image
from training.calibrate import Platt
from training.network import SegmentAndDecide
from training.novelty import Novelty
from training.onnx_graph import checked, fold, strip
from training.parity import Answer
from training.streaming import StreamNetwork
from training.views import together, turned

Floats = NDArray[np.float32]


class Graph(nn.Module):
    """What is exported. Heat is rounded to 256 levels, so that it costs the edge a quarter of the memory traffic. With
    a `novelty`, of the picture as it is, it is a third output, (1,)."""

    scale: Tensor
    bias: Tensor

    def __init__(
        self, network: SegmentAndDecide, calibration: list[Platt], novelty: Novelty | None = None, views: int = 1
    ) -> None:
        super().__init__()
        self.network = network.eval()
        self.novelty = novelty
        self.views = views
        self.register_buffer("scale", torch.tensor([p.scale for p in calibration]))
        self.register_buffer("bias", torch.tensor([p.bias for p in calibration]))

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        # One view after another: as a batch, which leaves the processor's cache, two took 17 ms instead of 13.
        seen = [self.network.stages(self.network.see(view)) for view in turned(image, self.views)]
        logits, maps = zip(*(self.network.read(stages) for stages in seen), strict=True)
        said = self.finish(torch.cat(logits), torch.cat(maps)) if self.views > 1 else self.finish(logits[0], maps[0])
        return said if self.novelty is None else (*said, self.novelty(seen[0]))

    def finish(self, logits: Tensor, maps: Tensor) -> tuple[Tensor, Tensor]:
        logits, chances = together(logits, torch.sigmoid(maps), self.views)
        scores = torch.sigmoid(logits * self.scale + self.bias)
        return scores, (chances * 255).round().to(torch.uint8)


class StreamGraph(Graph):
    """The same for a network with a memory: takes the state after the picture and gives it after all else."""

    network: StreamNetwork

    def forward(self, image: Tensor, *past: Tensor) -> tuple[Tensor, ...]:
        stages, after = self.network.look(image, past)
        strange = () if self.novelty is None else (self.novelty(stages),)
        return (*self.finish(*self.network.read(stages)), *strange, *after)


def graph_of(
    network: SegmentAndDecide, calibration: list[Platt], novelty: Novelty | None = None, views: int = 1
) -> Graph:
    if isinstance(network, StreamNetwork):
        return StreamGraph(network, calibration, novelty)
    return Graph(network, calibration, novelty, views)


def state_of(network: SegmentAndDecide, spec: InputSpec) -> tuple[StateSpec, ...]:
    """What the manifest says of the graph's memory; empty without one."""
    if not isinstance(network, StreamNetwork):
        return ()
    shapes = enumerate(network.state_shapes(spec.width_px, spec.height_px))
    return tuple(StateSpec(input=f"state_in_{k}", output=f"state_out_{k}", shape=shape) for k, shape in shapes)


def to_onnx(graph: nn.Module, spec: InputSpec, outputs: OutputSpec) -> bytes:
    """Fixed shape, standard operators, weights inside. Checked by onnx's own checker.

    Constants are folded and nothing else: onnxruntime merges the BatchNorms when it loads, and the weights keep their
    names, so that training can start from a released bundle.
    """
    graph = graph.eval()
    example = torch.zeros((1, spec.height_px, spec.width_px, 3), dtype=torch.uint8)
    state = state_of(graph.network, spec) if isinstance(graph, Graph) else ()
    novelty = [NOVELTY] if isinstance(graph, Graph) and graph.novelty is not None else []
    past = tuple(torch.zeros(s.shape) for s in state)
    with tempfile.TemporaryDirectory() as folder, _quiet():
        path = Path(folder) / "model.onnx"
        torch.onnx.export(
            graph,
            (example, *past),
            path,
            dynamo=True,
            optimize=False,
            external_data=False,
            input_names=[spec.name, *(s.input for s in state)],
            output_names=[outputs.scores, outputs.heat, *novelty, *(s.output for s in state)],
            verbose=False,
        )
        data = path.read_bytes()
    model = fold(onnx.load_from_string(data))
    strip(model)
    return checked(model)


def torch_outputs(graph: Graph, image: Image, state: Sequence[Floats] = ()) -> tuple[Answer, list[Floats]]:
    """(H, W, 3) and the state -> what is said of it and the next state, as torch computes them in float32."""
    with torch.no_grad():
        scores, heat, *rest = graph(torch.from_numpy(image[None]), *(torch.from_numpy(s) for s in state))
    novelty = None if graph.novelty is None else float(rest.pop(0)[0])
    return Answer(scores[0].numpy(), heat[0].numpy(), novelty), [s.numpy() for s in rest]


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
