"""A bundle's graph in 8-bit integers, behind the same inputs and outputs.

Convolutions and what lies between them are quantized (static QDQ, a scale per output channel). What turns pixels into
numbers, the maps, the calibration and the sigmoids stay in float: they cost nothing, and errors there go straight into
a score or a length.
"""

from __future__ import annotations

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from onnxruntime.quantization import (
    CalibrationDataReader,
    CalibrationMethod,
    QuantFormat,
    QuantType,
    quantize_static,
)

from inspection.bundle import Golden
from inspection.types import Image
from training.dataset.item import decode
from training.onnx_graph import checked, fold, strip
from training.served import Served, golden_case

KINDS = ("Conv", "Add", "Relu")
"""Pools, resizes and joins gain nothing: onnxruntime measured slower with them quantized than without."""
GOLDEN_TOLERANCE, GOLDEN_HEAT_TOLERANCE = 0.1, 4.0
"""Int8 kernels round differently from processor to processor, a float's do not: where a golden frame lies on a steep
part of the sigmoid that is seen. Of one tiny model OpenVINO was 0.0005 off onnxruntime on one processor (AMX) and 0.065
on another; a runtime that computes in the wrong type is off by more."""


def to_int8(model: bytes, input_name: str, pictures: Sequence[Image], *, reduce_range: bool = False) -> bytes:
    """The graph in int8, ranges learnt from `pictures` (H, W, 3) at the input's size.

    `reduce_range`: weights of 7 bits. Without VNNI a processor adds two products in 16 bits, which 8-bit ones overflow.
    """
    with tempfile.TemporaryDirectory() as name, _quiet():
        plain, done = Path(name) / "plain.onnx", Path(name) / "int8.onnx"
        graph = merged(model, Path(name))
        onnx.save(graph, plain)
        quantize_static(
            plain,
            done,
            _Reader(input_name, pictures),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=list(KINDS),
            per_channel=True,
            reduce_range=reduce_range,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            nodes_to_exclude=kept_in_float(graph.graph),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"TensorQuantOverrides": exact_inputs(graph, pictures[0])},
        )
        quantized = onnx.load(done)
    strip(quantized)
    return checked(quantized)


def merged(model: bytes, folder: Path) -> onnx.ModelProto:
    """The graph with its BatchNorms in their convolutions and a name for every node, as a quantizer needs it."""
    options, out = ort.SessionOptions(), folder / "merged.onnx"
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.optimized_model_filepath = str(out)
    folded = fold(onnx.load_from_string(model)).SerializeToString()
    ort.InferenceSession(folded, options, providers=["CPUExecutionProvider"])
    graph = onnx.load(out)
    for number, node in enumerate(graph.graph.node):
        node.name = f"{node.op_type}_{number}"
    standard = [entry for entry in graph.opset_import if entry.domain == ""]
    del graph.opset_import[:]  # onnxruntime lists its own domains, though none of their operators is in here
    graph.opset_import.extend(standard)
    return graph


def kept_in_float(graph: onnx.GraphProto) -> list[str]:
    """Names of the nodes that must not be quantized: whatever only scores and novelty need, the convolution that draws
    the maps, and all behind it.

    The decision is three small convolutions, a fifteenth of the work, and an error in them goes straight into a score.
    Found from the outputs backwards, so that it holds for any network behind the bundle's contract.
    """
    made_by = {out: node for node in graph.node for out in node.output}
    maps = [out.name for out in graph.output if out.type.tensor_type.elem_type == onnx.TensorProto.UINT8]
    scores = [out.name for out in graph.output if out.name not in maps]
    for_maps = _before(maps, made_by)
    kept = _before(scores, made_by) - for_maps
    waiting = list(maps)
    while waiting:
        node = made_by.get(waiting.pop())
        if node is None or node.name in kept:
            continue
        kept.add(node.name)
        if node.op_type != "Conv":
            waiting += list(node.input)
    return sorted(kept)


def _before(tensors: list[str], made_by: dict[str, onnx.NodeProto]) -> set[str]:
    """Names of all nodes that the tensors rest on."""
    found: set[str] = set()
    waiting = list(tensors)
    while waiting:
        node = made_by.get(waiting.pop())
        if node is not None and node.name not in found:
            found.add(node.name)
            waiting += list(node.input)
    return found


def exact_inputs(model: onnx.ModelProto, picture: Image) -> dict[str, list[dict[str, Any]]]:
    """Ranges for what the first convolutions read: from black to white, whatever the pictures show.

    A pixel has 256 values already. On this grid each has its own integer and nothing is lost; on a grid fitted to the
    pictures all fall between, and a faint scratch is a few levels deep.
    """
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    [image] = probe.graph.input
    reach = {image.name}
    for node in probe.graph.node:  # in order of execution
        if node.op_type != "Conv" and reach & set(node.input):
            reach |= set(node.output)
    firsts = sorted({n.input[0] for n in probe.graph.node if n.op_type == "Conv" and n.input[0] in reach})
    probe.graph.output.extend(onnx.ValueInfoProto(name=name) for name in firsts)
    session = ort.InferenceSession(probe.SerializeToString(), providers=["CPUExecutionProvider"])
    black, white = (session.run(firsts, {image.name: np.full_like(picture[None], v)}) for v in (0, 255))
    found = {}
    for name, low, high in zip(firsts, black, white, strict=True):
        ends = np.array([min(low.min(), high.min()), max(low.max(), high.max())], np.float32)
        found[name] = [{"rmin": ends[0], "rmax": ends[1]}]
    return found


def golden_for(served: Served, files: dict[str, bytes]) -> Golden:
    """The parent's golden frames with this model's answers."""
    names = [case.image for case in served.manifest.golden.cases]
    cases = [golden_case(name, served.answer(decode(files[name], name))) for name in names]
    return Golden(tolerance=GOLDEN_TOLERANCE, heat_tolerance=GOLDEN_HEAT_TOLERANCE, cases=tuple(cases))


class _Reader(CalibrationDataReader):  # type: ignore[misc]
    def __init__(self, name: str, pictures: Sequence[Image]) -> None:
        self._feeds: Iterator[dict[str, Any]] = ({name: picture[None]} for picture in pictures)

    def get_next(self) -> dict[str, Any] | None:
        return next(self._feeds, None)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """The quantizer advises on models it did not look at; nothing of it helps whoever quantizes a bundle."""
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)
