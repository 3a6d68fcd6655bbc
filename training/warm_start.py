"""Start from what an earlier model learned: a run's folder, or a released bundle, whose graph keeps its weights by
name.
"""

from __future__ import annotations

from pathlib import Path

import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from inspection.bundle import MANIFEST_FILE, MODEL_FILE, parse_manifest
from inspection.errors import BundleError
from training import checkpoint as ckpt
from training.checkpoint import RunConfig
from training.network import SegmentAndDecide

ENCODER = ("stem", "stage4", "stage8", "stage16")
OF_CLASSES = ("to_map.", "score.", "decide.0.")
"""Layers whose shape or meaning hangs on which classes there are."""


def load_weights(network: SegmentAndDecide, source: Path, config: RunConfig) -> None:
    """Fill `network` from `source`; of a model of other classes, all but the layers that tell them apart, which begin
    anew. BundleError when it is of another kind."""
    state, classes = _from_bundle(source) if (source / MANIFEST_FILE).exists() else _from_run(source)
    own = network.state_dict()
    if classes != config.classes:
        state |= {n: v for n, v in own.items() if n.startswith(OF_CLASSES)}
    wrong = sorted(n for n, v in own.items() if v.is_floating_point() and (n not in state or state[n].shape != v.shape))
    if wrong:
        raise BundleError(
            source, f"has other layers: {wrong[0]} does not fit", "use the same --channels, or train from scratch"
        )
    network.load_state_dict({n: state.get(n, v) for n, v in own.items()})


def load_encoder(network: SegmentAndDecide, source: Path) -> None:
    """Fill the encoder only: whatever classes the earlier model knew, its features serve."""
    state, _ = _from_bundle(source) if (source / MANIFEST_FILE).exists() else _from_run(source)
    own = network.state_dict()
    names = [n for n, v in own.items() if n.split(".")[0] in ENCODER and v.is_floating_point()]
    wrong = [n for n in names if n not in state or state[n].shape != own[n].shape]
    if wrong:
        raise BundleError(source, f"has other layers: {wrong[0]} does not fit", "choose a model of our own, 16 wide")
    network.load_state_dict({n: state[n] if n in names else v for n, v in own.items()})


def parent_of(source: Path) -> str:
    """What the lineage calls it: a bundle's id, or the run's task and snapshot."""
    if (source / MANIFEST_FILE).exists():
        return parse_manifest((source / MANIFEST_FILE).read_bytes(), source / MANIFEST_FILE).id
    return f"run {source.name} on {ckpt.read_config(source).snapshot_id}"


def _from_run(run: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    config = ckpt.read_config(run)
    return ckpt.load(run)["average"], config.classes


def _from_bundle(bundle: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    manifest = parse_manifest((bundle / MANIFEST_FILE).read_bytes(), bundle / MANIFEST_FILE)
    graph = onnx.load_from_string((bundle / MODEL_FILE).read_bytes()).graph
    weights = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    prefix = "network."
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}, manifest.classes


def input_size(source: Path) -> tuple[int, int]:
    """Width and height of the earlier model's input: what learned at one scale is worth little at another."""
    if (source / MANIFEST_FILE).exists():
        spec = parse_manifest((source / MANIFEST_FILE).read_bytes(), source / MANIFEST_FILE).input
    else:
        spec = ckpt.read_config(source).input
    return spec.width_px, spec.height_px
