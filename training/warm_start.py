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

HEAD = frozenset({"side4", "side8", "side16", "smooth8", "smooth4", "to_map", "decide", "score", "which"})
"""What lies behind the encoder (`SegmentAndDecide.build_head`, `SurfaceNetwork`)."""


def load_weights(network: SegmentAndDecide, source: Path, config: RunConfig) -> None:
    """Fill `network` from `source`; of a model of other classes its encoder only, the head begins anew: kept, it cost
    more than it brought (docs/training.md). BundleError when it is of another kind."""
    state, classes = _read(source)
    fix = "use the same --channels, or train from scratch"
    _fill(network, state, source, fix, whole=classes == config.classes)


def is_ours(source: Path) -> bool:
    """Whether a bundle or a run lies there."""
    return (source / MANIFEST_FILE).is_file() or (source / ckpt.CONFIG_FILE).is_file()


def saw_surfaces(source: Path) -> bool:
    """Whether what lies there is a run of `haltline train encoder`."""
    return not (source / MANIFEST_FILE).exists() and ckpt.read_config(source).task == ckpt.SURFACES


def load_encoder(network: SegmentAndDecide, source: Path) -> None:
    """Fill the encoder only: whatever classes the earlier model knew, its features serve."""
    width = int(network.state_dict()["stem.0.weight"].shape[0])
    fix = f"choose a model of ours, {width} channels wide"
    _fill(network, _read(source)[0], source, fix, whole=False)


def _fill(network: SegmentAndDecide, state: dict[str, Tensor], source: Path, fix: str, *, whole: bool) -> None:
    own, state = network.state_dict(), network.fitted(state)
    taken = [n for n in own if whole or n.split(".")[0] not in HEAD]
    floats = [n for n in taken if own[n].is_floating_point()]
    wrong = sorted(n for n in floats if n not in state or state[n].shape != own[n].shape)
    if wrong:
        raise BundleError(source, f"has other layers: {wrong[0]} does not fit", fix)
    network.load_state_dict(own | {n: state[n] for n in taken if n in state})


def top_rate(source: Path, classes: tuple[str, ...]) -> float:
    """The top learning rate for a start from `source`: gentle where its head is kept as well, half of that from nothing
    where a new head must be learnt (docs/training.md: by trial on magnet tiles and rolled steel)."""
    return ckpt.TOP_RATE / (4 if knows_same(source, classes) else 2)


def knows_same(source: Path, classes: tuple[str, ...]) -> bool:
    """Whether it tells just these classes apart: then its head is of use too."""
    return _classes_of(source) == classes


def parent_of(source: Path) -> str:
    """What the lineage calls it: a bundle's id, or the run's task and snapshot."""
    if (source / MANIFEST_FILE).exists():
        return parse_manifest((source / MANIFEST_FILE).read_bytes(), source / MANIFEST_FILE).id
    return f"run {source.name} on {ckpt.read_config(source).snapshot_id}"


def _read(source: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    """Weights by name, and the classes they tell apart."""
    return _from_bundle(source) if (source / MANIFEST_FILE).exists() else _from_run(source)


def _from_run(run: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    config = ckpt.read_config(run)
    return ckpt.load(run)["average"], config.classes


def _from_bundle(bundle: Path) -> tuple[dict[str, Tensor], tuple[str, ...]]:
    manifest = parse_manifest((bundle / MANIFEST_FILE).read_bytes(), bundle / MANIFEST_FILE)
    graph = onnx.load_from_string((bundle / MODEL_FILE).read_bytes()).graph
    weights = {i.name: torch.from_numpy(numpy_helper.to_array(i).copy()) for i in graph.initializer}
    prefix = "network."
    return {n.removeprefix(prefix): w for n, w in weights.items() if n.startswith(prefix)}, manifest.classes


def _classes_of(source: Path) -> tuple[str, ...]:
    if (source / MANIFEST_FILE).exists():
        return parse_manifest((source / MANIFEST_FILE).read_bytes(), source / MANIFEST_FILE).classes
    return ckpt.read_config(source).classes


def size_of(source: Path) -> tuple[int, int]:
    """Width and height of the earlier model's input: what learned at one scale is worth little at another."""
    if (source / MANIFEST_FILE).exists():
        spec = parse_manifest((source / MANIFEST_FILE).read_bytes(), source / MANIFEST_FILE).input
    else:
        spec = ckpt.read_config(source).input
    return spec.width_px, spec.height_px
