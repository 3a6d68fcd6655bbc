"""The training loop. One readable pass: examples, loss, step, average, checkpoint.

Everything random follows from (seed, epoch, place) and the schedule from the step number, so the checkpoint needs no
state of any generator, and a run killed at any moment ends with the same weights as one left alone (same machine and
threads).
"""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inspection.errors import ConfigError, DatasetError
from training import backbones, loss, parallel
from training import checkpoint as ckpt
from training.augment import Window
from training.checkpoint import Ask, RunConfig
from training.clips import ClipCourse, in_clips
from training.course import Course, FrameCourse, Share, ahead
from training.dataset.snapshot import Snapshot
from training.environment import describe, packages
from training.examples import Batch, input_spec, load
from training.network import HEAT_STRIDE, SegmentAndDecide
from training.parallel import Team
from training.run_folder import claimed
from training.streaming import StreamNetwork

CHECKPOINT_EVERY_S, CHECKPOINT_AT_AN_END_S = 20.0, 2.0
"""A checkpoint takes 30 ms and 8 MB: of fifty pictures an epoch takes no longer."""
DEFAULT_EPOCHS = 20
FEWEST_SHOWN = 9600
"""Pictures of one run: with few of them 20 epochs are too little to learn anything (docs/training.md)."""
WARM_UP = 0.15  # share of the steps in which the learning rate rises
WINDOW = (160, 128)
WINDOWED = 0.8  # share of the epochs that see windows of the frames, not whole ones
Report = Callable[[int, int, dict[str, float]], None]
"""Called after every step with steps done, steps in all, and what is known so far."""
Losses = Callable[[Tensor, Tensor, dict[str, Tensor]], dict[str, Tensor]]
"""Logits of scores and maps, and what the labels say -> "segmentation" and "decision", which are to become small."""


@dataclass(slots=True)
class Trainer:
    """A run in memory. `step` counts optimizer steps over all epochs."""

    config: RunConfig
    network: SegmentAndDecide
    average: SegmentAndDecide
    optimizer: torch.optim.AdamW
    losses: Losses
    step: int = 0
    history: list[dict[str, float]] = field(default_factory=list)
    running: dict[str, float] = field(default_factory=dict)
    team: Team = field(default_factory=Team)


def fit(snapshot: Snapshot, run: Path, ask: Ask, report: Report = lambda *_: None) -> RunConfig:
    """Train to the end, or go on with a run that was stopped. Returns the run's config; the rest is in `run`.

    Under torchrun every process calls this: each does its share, and the first one writes the run.
    """
    torch.set_num_threads(ask.threads)
    # Two of the network's backward passes have no repeatable kernel on GPUs; there it warns instead of refusing.
    torch.use_deterministic_algorithms(True, warn_only=ask.device == "cuda")
    team = parallel.join()
    if len(snapshot.split("train")) < 2:
        raise DatasetError(
            snapshot.folder,
            f"has {len(snapshot.split('train'))} training pictures",
            "import more, or lower --val, --test",
        )
    if ask.batch % team.size:
        raise ConfigError("--batch", f"{ask.batch} is no multiple of {team.size} processes", "choose one that is")
    # The others write nothing, and would find the folder taken by the first.
    with claimed(run) if team.leads else nullcontext():
        trainer, course = prepare(snapshot, run, ask, team)
        return learn(trainer, course, run, report)


def learn(trainer: Trainer, course: Course, run: Path, report: Report) -> RunConfig:
    """From where `trainer` stands to the end of its course; checkpoints are left in `run`."""
    steps_per_epoch, team = course.steps_per_epoch, trainer.team
    total = trainer.config.epochs * steps_per_epoch
    saved_at = time.monotonic()
    for epoch in range(trainer.step // steps_per_epoch, trainer.config.epochs):
        done = trainer.step - epoch * steps_per_epoch
        window = window_of(trainer.config, epoch) if course.windowed else None
        for share in ahead(course.batches(epoch, window, skip=done, team=team)):
            parts = train_step(trainer, share, total)
            trainer.step += 1
            for name, value in parts.items():
                trainer.running[name] = trainer.running.get(name, 0.0) + value / steps_per_epoch
            report(trainer.step, total, {"epoch": epoch + 1, **parts})
            if trainer.step % steps_per_epoch == 0:
                trainer.history.append({"epoch": epoch + 1, "step": trainer.step, **trainer.running})
                trainer.running = {}
            since, ends = time.monotonic() - saved_at, trainer.step % steps_per_epoch == 0
            due = trainer.step == total or since > (CHECKPOINT_AT_AN_END_S if ends else CHECKPOINT_EVERY_S)
            if due and team.leads:
                _save(run, trainer)
                saved_at = time.monotonic()
    team.wait()
    return trainer.config


def window_of(config: RunConfig, epoch: int) -> Window | None:
    """WINDOW for the first WINDOWED of the epochs, then whole frames: None.

    A defect covers a hundredth of a frame. Windows around it teach as much at a fraction of the cost; the last epochs
    get the network used to judging a frame at once.
    """
    if epoch >= round(WINDOWED * config.epochs):
        return None
    return min(WINDOW[0], config.input.width_px), min(WINDOW[1], config.input.height_px)


def train_step(trainer: Trainer, share: Share, total: int) -> dict[str, float]:
    config, network, device = trainer.config, trainer.network, trainer.config.ask.device
    for group in trainer.optimizer.param_groups:
        group["lr"] = config.ask.lr * one_cycle(trainer.step / total)
    parallel.set_split(network, share.split)
    with low_precision(device, config.bf16):
        scores, maps = network(torch.from_numpy(share.batch.image).to(device))
    known = tensors(share.batch, device)
    if share.split:
        scores, maps = parallel.gathered(scores, trainer.team), parallel.gathered(maps, trainer.team)
        known = {name: parallel.gathered(value, trainer.team) for name, value in known.items()}
    parts = trainer.losses(scores.float(), maps.float(), known)
    seg_share, dec_share = loss.shares(trainer.step / total)
    trainer.optimizer.zero_grad(set_to_none=True)
    (seg_share * parts["segmentation"] + dec_share * parts["decision"]).backward()  # type: ignore[no-untyped-call]
    if share.split:
        parallel.sum_gradients(network.parameters())
    nn.utils.clip_grad_norm_(network.parameters(), 5.0)
    trainer.optimizer.step()
    update_average(trainer.average, network, min(config.ema, (1 + trainer.step) / (10 + trainer.step)))
    return {name: float(value.detach()) for name, value in parts.items()}


def tensors(batch: Batch, device: str) -> dict[str, Tensor]:
    """What the labels say of a batch."""
    said = {name: getattr(batch, name) for name in ("target", "maps", "weights", "boxed", "unplaced")}
    return {name: torch.from_numpy(value).to(device) for name, value in said.items()}


def losses(scores: Tensor, maps: Tensor, known: dict[str, Tensor]) -> dict[str, Tensor]:
    """Logits and labels -> what is to become small. Outlines, boxes and picture labels teach what each knows."""
    where = loss.segmentation(maps, known["maps"], known["weights"])
    if known["unplaced"].any():
        where = where + loss.presence(maps, known["target"], known["unplaced"])
    if known["boxed"].any():
        where = where + loss.boxes(maps, known["maps"], known["boxed"])
    return {"segmentation": where, "decision": loss.decision(scores, known["target"])}


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


def low_precision(device: str, on: bool) -> AbstractContextManager[Any]:
    return torch.autocast(device, torch.bfloat16, enabled=on)


# ── starting and going on ───────────────────────────────────────────────────────────────────────────────────────


def prepare(snapshot: Snapshot, run: Path, ask: Ask, team: Team | None = None) -> tuple[Trainer, Course]:
    """The run as it stands and what it is shown, in memory (0.3 MB a frame at 320x256)."""
    team = team or Team()
    resumes = (run / ckpt.CHECKPOINT_FILE).exists()
    config = ckpt.read_config(run) if resumes else new_config(snapshot, ask)
    if resumes:
        _check_same(run, config, ask, snapshot)
    course = course_of(snapshot, config)
    if resumes:
        trainer = new_trainer(config, team, load=False)
        restore(trainer, ckpt.load(run), run)
        return trainer, course
    if team.leads:
        if ask.epochs is None:
            epochs = epochs_in(ask.minutes, config, course) if ask.minutes else default_epochs(course)
            config = config.model_copy(update={"epochs": epochs})
        ckpt.write_config(run, config)
        (run / ckpt.PACKAGES_FILE).write_text(packages())
    team.wait()
    return new_trainer(ckpt.read_config(run), team), course


def course_of(snapshot: Snapshot, config: RunConfig) -> Course:
    def read(sample: Any) -> Any:
        return load(snapshot.folder, sample, config.input, config.label_book)

    if config.ask.frames > 1:
        return ClipCourse(config, [[read(s) for s in clip] for clip in in_clips(snapshot, "train")])
    return FrameCourse(config, [read(s) for s in snapshot.split("train")])


def new_config(snapshot: Snapshot, ask: Ask) -> RunConfig:
    manifest = snapshot.manifest
    return RunConfig(
        ask=ask,
        epochs=ask.epochs or DEFAULT_EPOCHS,
        snapshot=str(snapshot.folder.resolve()),
        snapshot_id=manifest.id,
        snapshot_sha256=snapshot.sha256,
        task=manifest.task,
        classes=manifest.classes,
        label_book=manifest.label_book,
        input=input_spec(snapshot, ask.width_px, ask.height_px),
        heat_stride=HEAT_STRIDE,
        bf16=has_bf16(ask.device),
        parent=parent_name(ask),
        environment=describe(ask.device),
    )


def has_bf16(device: str) -> bool:
    """Emulated bfloat16 is slower than float32; with the instructions a step takes half the time."""
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return bool(torch.cpu.get_capabilities().get("avx512_bf16", False))


def parent_name(ask: Ask) -> str | None:
    """What the lineage calls the model a run starts from, noted now: the folder may be gone when it is exported."""
    own = ask.backbone.weights if ask.backbone.name == backbones.OWN else None
    if not (source := ask.init or own):
        return None
    from training.warm_start import parent_of

    return parent_of(Path(source))


def network_of(config: RunConfig, *, load: bool) -> SegmentAndDecide:
    """The network a run asked for. `load` False leaves a backbone's file alone: a checkpoint brings the weights."""
    ask = config.ask
    if ask.frames == 1:
        return backbones.build(ask.backbone, len(config.classes), ask.channels, load=load)
    if ask.backbone.name != backbones.OWN:
        raise ConfigError("--backbone", f"{ask.backbone.name} has no memory for clips", "leave it out")
    network = StreamNetwork(len(config.classes), ask.channels, ask.frames)
    if load and ask.backbone.weights:
        from training.warm_start import load_encoder

        load_encoder(network, Path(ask.backbone.weights))
    return network


def new_trainer(config: RunConfig, team: Team | None = None, *, load: bool = True) -> Trainer:
    """`load` False leaves earlier weights alone, which may be gone: a checkpoint brings the run's own."""
    torch.manual_seed(config.ask.seed)
    network = network_of(config, load=load)
    if config.ask.init and load:
        from training.warm_start import load_weights

        load_weights(network, Path(config.ask.init), config)
    return trainer_of(network, config, team)


def trainer_of(network: SegmentAndDecide, config: RunConfig, team: Team | None = None, of: Losses = losses) -> Trainer:
    """At the start of a run, for what `of` wants small."""
    network = network.to(memory_format=torch.channels_last).to(config.ask.device)  # type: ignore[call-overload]
    average = copy.deepcopy(network).requires_grad_(False)
    if team and team.size > 1:
        parallel.shared(network)
    optimizer = torch.optim.AdamW(_groups(network, config.weight_decay), lr=config.ask.lr)
    return Trainer(config, network.train(), average, optimizer, of, team=team or Team())


def _groups(network: nn.Module, decay: float) -> list[dict[str, Any]]:
    """Matrices decay, biases and BatchNorm do not; what is frozen is in neither."""
    some = [p for p in network.parameters() if p.requires_grad]
    return [
        {"params": [p for p in some if p.ndim > 1], "weight_decay": decay},
        {"params": [p for p in some if p.ndim <= 1], "weight_decay": 0.0},
    ]


def default_epochs(course: Course) -> int:
    """DEFAULT_EPOCHS, or as many as show FEWEST_SHOWN pictures."""
    return max(DEFAULT_EPOCHS, math.ceil(FEWEST_SHOWN / (course.steps_per_epoch * course.config.ask.batch)))


def epochs_in(minutes: float, config: RunConfig, course: Course) -> int:
    """How many epochs fit into `minutes`, by timing steps of a throwaway copy. Fixed from then on."""
    trial = new_trainer(config)
    windowed = WINDOWED if course.windowed else 0.0
    per_step = (1 - windowed) * _seconds_per_step(trial, course, None)
    if windowed:
        per_step += windowed * _seconds_per_step(trial, course, window_of(config, 0))
    return max(1, int(minutes * 60 / (per_step * course.steps_per_epoch)))


def _seconds_per_step(trial: Trainer, course: Course, window: Window | None) -> float:
    """Median of up to four steps, drawing the batch included; the first, which sets memory up, is not counted."""
    took, start = [], time.monotonic()
    for share in islice(ahead(course.batches(0, window)), 5):
        train_step(trial, share, total=100)
        took.append(time.monotonic() - start)
        start = time.monotonic()
    return float(np.median(took[1:] or took))


def restore(trainer: Trainer, state: dict[str, Any], run: Path) -> None:
    had, has = (s["score.weight"].shape for s in (state["network"], trainer.network.state_dict()))
    if had != has:  # its optimizer's moments are of the old shape too
        raise DatasetError(run, "was begun when the score read less of the encoder", "choose another --out")
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
    was, now = _said(config.ask, config.parent), _said(ask, parent_name(ask))
    if other := [name for name in was if was[name] != now[name]]:
        began, asks = (" and ".join(f"{n} {said[n]}" for n in other) for said in (was, now))
        raise ConfigError(run, f"was started with {began}, not {asks}", "choose another --out, or the same values")


def _said(ask: Ask, parent: str | None) -> dict[str, str]:
    """What was asked for, by option. A model it starts from goes by its name: the folder may have moved."""
    fields = ask.model_dump(exclude={"backbone", "width_px", "height_px"})
    own = ask.backbone.name == backbones.OWN
    fields |= {f"backbone {name}": value for name, value in ask.backbone.model_dump().items()}
    fields |= {"size": f"{ask.width_px}x{ask.height_px}", "init": ask.init and parent}
    if own and ask.backbone.weights:
        fields["backbone weights"] = parent
    return {n: "left out" if value is None else str(value) for n, value in fields.items()}
