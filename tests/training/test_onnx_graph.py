"""An exported graph must be one that onnxruntime can make fast."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import torch

from inspection.bundle import InputSpec, OutputSpec
from training.calibrate import Platt
from training.graph import Graph, to_onnx, torch_outputs
from training.network import HEAT_STRIDE, Network


def test_onnxruntime_merges_every_batch_norm_of_an_export_at_load(tmp_path: Path) -> None:
    network = Network(1, width=8)
    for layer in network.modules():  # as after training: fresh statistics would merge into nothing
        if isinstance(layer, torch.nn.BatchNorm2d):
            layer.running_mean.uniform_(-1, 1)
            layer.running_var.uniform_(0.5, 2)
    graph, spec = Graph(network, [Platt()]), InputSpec(width_px=64, height_px=48, px_per_mm=5)
    data = to_onnx(graph, spec, OutputSpec(heat_stride=HEAT_STRIDE))
    loaded = tmp_path / "loaded.onnx"
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(loaded)
    session = ort.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(loaded).graph.node]
    assert "Conv" in kinds
    assert "BatchNormalization" not in kinds

    image = np.random.default_rng(0).integers(0, 256, (48, 64, 3), np.uint8)
    (scores, heat, _), _ = torch_outputs(graph, image)
    got = session.run(["scores", "heat"], {spec.name: image[None]})
    assert np.abs(got[0][0] - scores).max() < 1e-4
    assert np.abs(got[1][0].astype(int) - heat.astype(int)).max() <= 1
