"""What is done to a graph between its exporter and a bundle. No torch here: quantizing needs none."""

from __future__ import annotations

import onnx
from onnxscript import ir, optimizer

from inspection.errors import BundleError


def fold(model: onnx.ModelProto) -> onnx.ModelProto:
    """Compute what does not depend on the picture; the weights keep their names and values.

    torch's exporter writes each BatchNorm's shift as Shape, CastLike and Expand of a constant. onnxruntime computes
    those at load, but only after it looked for BatchNorms to merge into their convolutions: on weld-0.1.0 all 24
    stayed, and a frame cost 1.8 times as much.
    """
    graph = ir.from_proto(model)
    optimizer.fold_constants(graph)
    optimizer.remove_unused_nodes(graph)
    return ir.to_proto(graph)


def strip(model: onnx.ModelProto) -> None:
    """Drop the exporter's notes: they hold this machine's paths and are a tenth of the file."""
    del model.metadata_props[:]
    for part in (*model.graph.node, *model.graph.input, *model.graph.output, *model.graph.value_info, model.graph):
        part.doc_string = ""
        del part.metadata_props[:]


def checked(model: onnx.ModelProto) -> bytes:
    """The graph's bytes, checked by onnx's own checker: standard operators only, weights inside."""
    onnx.checker.check_model(model, full_check=True)
    if foreign := sorted({n.domain for n in model.graph.node} - {"", "ai.onnx"}) or [f.name for f in model.functions]:
        raise BundleError(
            "model.onnx", f"needs operators from {foreign}", "export with the pinned torch and onnxscript"
        )
    return bytes(model.SerializeToString())
