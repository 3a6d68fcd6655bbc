"""The training loop. One readable pass: examples, loss, step, average, checkpoint.

Everything random follows from (seed, epoch, place) and the schedule from the step number, so the checkpoint needs no
state of any generator, and a run killed at any moment ends with the same weights as one left alone (same machine and
threads).
"""

from __future__ import annotations

import copy
import math
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inspection.errors import ConfigError, DatasetError
from training import checkpoint as ckpt
from training import loss
from training.checkpoint import Ask, RunConfig
from training.dataset.snapshot import Snapshot
from training.examples import Batch, Example, Window, can_be_windowed, collate, input_spec, load, order, vary
from training.network import HEAT_STRIDE, Network

CHECKPOINT_EVERY_S = 20.0
DEFAULT_EPOCHS = 20
WARM_UP = 0.15  # share of the steps in which the learning rate rises
WINDOW = (160, 128)
WINDOWED = 0.8  # share of the epochs that see windows of the frames, not whole ones
Report = Callable[[int, int, dict[str, float]], None]
"""Called after every step with steps done, steps in all, and what is known so far."""


@dataclass(slots=True)
class Trainer:
    """A run in memory. `step` counts optimizer steps over all epochs."""

    config: RunConfig
    network: Network
    average: Network
    optimizer: torch.optim.AdamW
    step: int
    history: list[dict[str, float]]
    running: dict[str, float]


def fit(snapshot: Snapshot, run: Path, ask: Ask, report: Report = lambda *_: None) -> RunConfig:
    """Train to the end, or go on with a run that was stopped. Returns the run's config; the rest is in `run`."""
    torch.set_num_threads(ask.threads)
    torch.use_deterministic_algorithms(True)
    trainer, examples = prepare(snapshot, run, ask)
    steps_per_epoch = math.ceil(len(examples) / ask.batch)
    total = trainer.config.epochs * steps_per_epoch
    whole_masks = can_be_windowed(examples)
    saved_at = time.monotonic()
    for epoch in range(trainer.step // steps_per_epoch, trainer.config.epochs):
        done = trainer.step - epoch * steps_per_epoch
        window = window_of(trainer.config, epoch) if whole_masks else None
        for batch in batches(examples, trainer.config, epoch, window, skip=done):
            parts = train_step(trainer, batch, total)
            trainer.step += 1
            for name, value in parts.items():
                trainer.running[name] = trainer.running.get(name, 0.0) + value / steps_per_epoch
            report(trainer.step, total, {"epoch": epoch + 1, **parts})
            if trainer.step % steps_per_epoch == 0:
                trainer.history.append({"epoch": epoch + 1, "step": trainer.step, **trainer.running})
                trainer.running = {}
            if trainer.step % steps_per_epoch == 0 or time.monotonic() - saved_at > CHECKPOINT_EVERY_S:
                _save(run, trainer)
                saved_at = time.monotonic()
    return trainer.config


def window_of(config: RunConfig, epoch: int) -> Window | None:
    """WINDOW for the first WINDOWED of the epochs, then whole frames: None.

    A defect covers a hundredth of a frame. Windows around it teach as much at a fraction of the cost; the last epochs
    get the network used to judging a frame at once.
    """
    if epoch >= round(WINDOWED * config.epochs):
        return None
    return min(WINDOW[0], config.input.width_px), min(WINDOW[1], config.input.height_px)


def batches(
    examples: list[Example], config: RunConfig, epoch: int, window: Window | None, skip: int = 0
) -> Iterator[Batch]:
    """The epoch's batches from the `skip`-th on; the last may be smaller."""
    seed, size, book = config.ask.seed, config.ask.batch, config.label_book
    visits = order(examples, np.random.default_rng((seed, epoch)))
    for start in range(skip * size, len(visits), size):
        places = enumerate(visits[start : start + size], start)
        varied = [vary(examples[k], np.random.default_rng((seed, epoch, place)), book, window) for place, k in places]
        yield collate(varied, config.heat_stride)


def train_step(trainer: Trainer, batch: Batch, total: int) -> dict[str, float]:
    config = trainer.config
    for group in trainer.optimizer.param_groups:
        group["lr"] = config.ask.lr * one_cycle(trainer.step / total)
    seg_share, dec_share = loss.shares(trainer.step / total)
    with low_precision(config.bf16):
        scores, maps = trainer.network(torch.from_numpy(batch.image))
    seg = loss.segmentation(maps.float(), torch.from_numpy(batch.maps), torch.from_numpy(batch.weights))
    dec = loss.decision(scores.float(), torch.from_numpy(batch.target))
    trainer.optimizer.zero_grad(set_to_none=True)
    (seg_share * seg + dec_share * dec).backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(trainer.network.parameters(), 5.0)
    trainer.optimizer.step()
    update_average(trainer.average, trainer.network, min(config.ema, (1 + trainer.step) / (10 + trainer.step)))
    return {"segmentation": float(seg.detach()), "decision": float(dec.detach())}


def one_cycle(progress: float) -> float:
    """Share of the top learning rate: up over WARM_UP, then a cosine to a hundredth (Smith and Topin 2018)."""
    if progress < WARM_UP:
        return 0.04 + 0.96 * progress / WARM_UP
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * (progress - WARM_UP) / (1 - WARM_UP)))


@torch.no_grad()
def update_average(average: nn.Module, network: nn.Module, keep: float) -> None:
    """Exponential moving average of weights and BatchNorm statistics: the last steps' jitter does not get released."""
    own = network.state_dict()
    for name, value in average.state_dict().items():
        if value.is_floating_point():
            value.lerp_(own[name], 1 - keep)
        else:
            value.copy_(own[name])


def low_precision(on: bool) -> AbstractContextManager[Any]:
    return torch.autocast("cpu", torch.bfloat16, enabled=on)


# ── starting and going on ───────────────────────────────────────────────────────────────────────────────────────


def prepare(snapshot: Snapshot, run: Path, ask: Ask) -> tuple[Trainer, list[Example]]:
    """The run as it stands and its training examples, in memory (0.3 MB each at 320x256)."""
    samples = snapshot.split("train")
    if len(samples) < 2:
        raise DatasetError(
            snapshot.folder, f"has {len(samples)} training pictures", "import more, or lower --val, --test"
        )
    if (run / ckpt.CHECKPOINT_FILE).exists():
        config = ckpt.read_config(run)
        _check_same(run, config, ask, snapshot)
    else:
        config = new_config(snapshot, ask)
    examples = [load(snapshot.folder, s, config.input, config.label_book) for s in samples]
    trainer = new_trainer(config)
    if (run / ckpt.CHECKPOINT_FILE).exists():
        restore(trainer, ckpt.load(run))
        return trainer, examples
    if ask.epochs is None and ask.minutes is not None:
        config = config.model_copy(update={"epochs": epochs_in(ask.minutes, config, examples)})
        trainer = new_trainer(config)
    run.mkdir(parents=True, exist_ok=True)
    ckpt.write_config(run, config)
    return trainer, examples


def new_config(snapshot: Snapshot, ask: Ask) -> RunConfig:
    manifest = snapshot.manifest
    return RunConfig(
        ask=ask,
        epochs=ask.epochs or DEFAULT_EPOCHS,
        snapshot=str(snapshot.folder),
        snapshot_id=manifest.id,
        snapshot_sha256=snapshot.sha256,
        task=manifest.task,
        classes=manifest.classes,
        label_book=manifest.label_book,
        input=input_spec(snapshot, ask.width_px, ask.height_px),
        heat_stride=HEAT_STRIDE,
        # Emulated bfloat16 is slower than float32; with the instructions a step takes half the time.
        bf16=bool(torch.cpu.get_capabilities().get("avx512_bf16", False)),
        parent=parent_name(ask.init),
        environment={"python": platform.python_version(), "torch": torch.__version__, "machine": platform.machine()},
    )


def parent_name(init: str | None) -> str | None:
    """What the lineage calls the model a run starts from, noted now: the folder may be gone when it is exported."""
    if init is None:
        return None
    from training.warm_start import parent_of

    return parent_of(Path(init))


def new_trainer(config: RunConfig) -> Trainer:
    torch.manual_seed(config.ask.seed)
    network = Network(len(config.classes), config.ask.channels)
    if config.ask.init:
        from training.warm_start import load_weights

        load_weights(network, Path(config.ask.init), config)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = copy.deepcopy(network).requires_grad_(False)
    optimizer = torch.optim.AdamW(_groups(network, config.weight_decay), lr=config.ask.lr)
    return Trainer(config, network.train(), average, optimizer, 0, [], {})


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices decay, biases and BatchNorm do not."""
    some = list(network.parameters())
    return [
        {"params": [p for p in some if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in some if p.ndim <= 1], "weight_decay": 0.0},
    ]


def epochs_in(minutes: float, config: RunConfig, examples: list[Example]) -> int:
    """How many epochs fit into `minutes`, by timing steps of a throwaway copy. Fixed from then on."""
    trial = new_trainer(config)
    windowed = WINDOWED if can_be_windowed(examples) else 0.0
    per_step = (1 - windowed) * _seconds_per_step(trial, examples, None)
    if windowed:
        per_step += windowed * _seconds_per_step(trial, examples, window_of(config, 0))
    return max(1, int(minutes * 60 / (per_step * math.ceil(len(examples) / config.ask.batch))))


def _seconds_per_step(trial: Trainer, examples: list[Example], window: Window | None) -> float:
    """Median of four steps, drawing the batch included; the first, which sets memory up, is not counted."""
    took, start = [], time.monotonic()
    for batch in islice(batches(examples * 5, trial.config, 0, window), 5):
        train_step(trial, batch, total=100)
        took.append(time.monotonic() - start)
        start = time.monotonic()
    return float(np.median(took[1:] or took))


def restore(trainer: Trainer, state: dict[str, Any]) -> None:
    trainer.network.load_state_dict(state["network"])
    trainer.average.load_state_dict(state["average"])
    trainer.optimizer.load_state_dict(state["optimizer"])
    trainer.step, trainer.history, trainer.running = state["step"], state["history"], state["running"]


def _save(run: Path, trainer: Trainer) -> None:
    state: dict[str, Any] = {
        "network": trainer.network.state_dict(),
        "average": trainer.average.state_dict(),
        "optimizer": trainer.optimizer.state_dict(),
        "step": trainer.step,
        "running": trainer.running,
    }
    ckpt.save(run, state, trainer.history)


def _check_same(run: Path, config: RunConfig, ask: Ask, snapshot: Snapshot) -> None:
    """A run goes on only as it began: other settings or pictures would make a model nobody can repeat."""
    if config.snapshot_id != snapshot.manifest.id:
        raise ConfigError(
            run, f"was trained on {config.snapshot_id}, not {snapshot.manifest.id}", "choose another --out"
        )
    for name in Ask.model_fields:
        was, now = getattr(config.ask, name), getattr(ask, name)
        if was != now:
            raise ConfigError(
                run, f"was started with {name} {was}, not {now}", "choose another --out, or the same value"
            )


def trained(run: Path) -> tuple[RunConfig, Network]:
    """The averaged network of a finished run, ready to judge. DatasetError when the run is not finished."""
    config, state = ckpt.read_config(run), ckpt.load(run)
    done = int(state["history"][-1]["epoch"]) if state["history"] else 0
    if done < config.epochs:
        raise DatasetError(
            run, f"is at epoch {done} of {config.epochs}", "run the same `haltline train` again: it goes on"
        )
    network = Network(len(config.classes), config.ask.channels)
    network.load_state_dict(state["average"])
    return config, network.eval()


@torch.no_grad()
def predict(network: Network, images: list[np.ndarray], batch: int = 16) -> tuple[Tensor, Tensor]:
    """Input-sized images -> score logits (N, C) and map probabilities (N, C, h, w), as the graph computes them."""
    scores, maps = [], []
    for start in range(0, len(images), batch):
        s, m = network(torch.from_numpy(np.stack(images[start : start + batch])))
        scores.append(s)
        maps.append(torch.sigmoid(m))
    return torch.cat(scores), torch.cat(maps)
