"""The network a finished run left, and what it says of pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from inspection.errors import DatasetError
from training import checkpoint as ckpt
from training.checkpoint import RunConfig
from training.dataset.snapshot import SNAPSHOT_FILE, Snapshot, read_snapshot
from training.fit import network_of
from training.network import SegmentAndDecide
from training.streaming import StreamNetwork
from training.views import together, turned


def trained(run: Path) -> tuple[RunConfig, SegmentAndDecide]:
    """The averaged network of a finished run, ready to judge. DatasetError when there is none."""
    config, state = ckpt.read_config(run), ckpt.load(run)
    done = int(state["history"][-1]["epoch"]) if state["history"] else 0
    if done < config.epochs:
        raise DatasetError(
            run, f"is at epoch {done} of {config.epochs}", "run the same `haltline train` again: it goes on"
        )
    if "score.weight" not in state["average"]:
        raise DatasetError(
            run, "holds an encoder and judges nothing", f"train from it: `haltline train … --weights {run}`"
        )
    network = network_of(config, load=False)
    network.load_state_dict(network.fitted(state["average"]))
    return config, network.eval()


def snapshot_of(run: Path, config: RunConfig, named: Path | None = None) -> Snapshot:
    """What `run` was trained on, at `named` if it lies elsewhere now. DatasetError where it is not, or is another."""
    folder = named or Path(config.snapshot)
    if named is None and not (folder / SNAPSHOT_FILE).exists():
        raise DatasetError(
            run,
            f"the run's snapshot was {folder}, and it is not there",
            "name where it lies now with --snapshot, or put it back",
        )
    return checked_snapshot(run, config, read_snapshot(folder))


def checked_snapshot(run: Path, config: RunConfig, data: Snapshot) -> Snapshot:
    if data.manifest.id != config.snapshot_id:
        raise DatasetError(
            run, f"was trained on {config.snapshot_id}, not {data.manifest.id}", "name its own --snapshot"
        )
    return data


@torch.no_grad()
def predict(
    network: SegmentAndDecide, images: list[np.ndarray], batch: int = 16, *, views: int = 1
) -> tuple[Tensor, Tensor]:
    """Input-sized images -> score logits (N, C) and map probabilities (N, C, h, w), as the graph computes them."""
    scores, maps = [], []
    batch = max(1, batch // views)  # as much memory for several views as for one
    for start in range(0, len(images), batch):
        logits, cells = network(torch.cat(turned(torch.from_numpy(np.stack(images[start : start + batch])), views)))
        s, m = together(logits, torch.sigmoid(cells), views)
        scores.append(s)
        maps.append(m)
    return torch.cat(scores), torch.cat(maps)


@torch.no_grad()
def predict_runs(network: SegmentAndDecide, runs: list[list[np.ndarray]], views: int = 1) -> tuple[Tensor, Tensor]:
    """`predict` for frames that follow one another; a network with a memory begins each run from nothing."""
    if not isinstance(network, StreamNetwork):
        return predict(network, [image for run in runs for image in run], views=views)
    scores, maps = [], []
    for run in runs:
        past = network.nothing(run[0].shape[1], run[0].shape[0])
        for image in run:
            s, m, past = network.step(torch.from_numpy(image[None]), past)
            scores.append(s)
            maps.append(torch.sigmoid(m))
    return torch.cat(scores), torch.cat(maps)
