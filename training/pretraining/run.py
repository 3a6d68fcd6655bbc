"""An encoder that learns from drawn surfaces, each seen once: which marks, where, and on which textures.

The run is one of `training.fit`: it can be stopped at any moment, and what it leaves can be given to `--weights`.
"""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from inspection.bundle import InputSpec
from inspection.errors import ConfigError
from inspection.label_book import ClassRule, LabelBook
from training import checkpoint as ckpt
from training import fit
from training.augment import Window
from training.backbones import OWN, Backbone
from training.checkpoint import Ask, RunConfig
from training.course import Course
from training.environment import describe, packages
from training.examples import Example
from training.network import HEAT_STRIDE
from training.parallel import Team
from training.pretraining.marks import KINDS
from training.pretraining.surface import CLASSES, draw
from training.pretraining.textures import Texture, textures

TASK = "surfaces"
TEXTURES = 700
SIZE = (160, 128)
BATCH = 32
EPOCH = 3200
"""Pictures between two lines of metrics.jsonl: nothing comes twice, so that an epoch has no other meaning."""
PX_PER_MM = 10.0  # of an input that is nothing in particular; lengths play no part


@dataclass(frozen=True, slots=True)
class Pretraining:
    """What is asked for. `weights`: a bundle or run of ours to start from; None: random ones."""

    pictures: int
    channels: int = 16
    weights: str | None = None
    lr: float = ckpt.TOP_RATE
    seed: int = 0
    threads: int = 2
    device: Any = "cpu"


class SurfaceCourse(Course):
    """Drawn surfaces without end; the textures they are cut from are drawn once."""

    windowed = False

    def __init__(self, config: RunConfig, of: tuple[Texture, ...]) -> None:
        super().__init__(config, EPOCH, config.ask.batch)
        self.of = of

    def visits(self, epoch: int) -> NDArray[np.int64]:
        return np.arange(self.units)

    def draw(self, visit: int, rng: np.random.Generator, window: Window | None) -> list[Example]:
        drawn = draw(rng, self.of, (self.config.input.height_px, self.config.input.width_px))
        nothing = np.full(len(CLASSES), np.nan, np.float32)
        return [Example(drawn.image, drawn.mask, drawn.target, nothing, nothing)]


def pretrain(run: Path, asked: Pretraining, report: fit.Report = lambda *_: None) -> RunConfig:
    """Train to the end, or go on. ConfigError when `run` was begun otherwise, or under torchrun: one process draws."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("torchrun", "starts several processes, and an encoder is learnt in one", "leave it out")
    torch.set_num_threads(asked.threads)
    torch.use_deterministic_algorithms(True, warn_only=asked.device == "cuda")
    resumes = (run / ckpt.CHECKPOINT_FILE).exists()
    config = _config(asked)
    if resumes:
        began = ckpt.read_config(run)
        same = began.ask.model_dump(exclude={"threads"}) == config.ask.model_dump(exclude={"threads"})
        if not same or began.snapshot_sha256 != config.snapshot_sha256:
            raise ConfigError(run, "was started otherwise, or by another version", "choose another --out")
        config = began
    else:
        run.mkdir(parents=True, exist_ok=True)
        ckpt.write_config(run, config)
        (run / ckpt.PACKAGES_FILE).write_text(packages())
    trainer = fit.new_trainer(config, Team(), load=not resumes)
    if resumes:
        state = ckpt.load(run)
        if not state["network"]:
            return config
        fit.restore(trainer, state, run)
    fit.learn(trainer, SurfaceCourse(config, textures(TEXTURES, asked.seed)), run, report)
    state = ckpt.load(run)
    ckpt.save(run, {"network": {}, "average": state["average"], "step": state["step"]}, state["history"])
    return config


def _config(asked: Pretraining) -> RunConfig:
    ask = Ask.of(
        epochs=max(1, round(asked.pictures / EPOCH)),
        seed=asked.seed,
        width_px=SIZE[0],
        height_px=SIZE[1],
        channels=asked.channels,
        batch=BATCH,
        lr=asked.lr,
        threads=asked.threads,
        augment=(),
        backbone=Backbone(name=OWN, weights=asked.weights),
        device=asked.device,
    )
    return RunConfig(
        ask=ask,
        epochs=ask.epochs or 1,
        snapshot="drawn as they are needed",
        snapshot_id=f"{TASK}-{asked.seed}",
        snapshot_sha256=_how_they_are_drawn(),
        task=TASK,
        classes=CLASSES,
        label_book=_book(),
        input=InputSpec(width_px=SIZE[0], height_px=SIZE[1], px_per_mm=PX_PER_MM),
        heat_stride=HEAT_STRIDE,
        bf16=fit.has_bf16(asked.device),
        parent=fit.parent_name(ask),
        environment=describe(asked.device),
    )


def _how_they_are_drawn() -> str:
    """A hash of the lines that draw them: what stands for a snapshot's here."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files if f.name != Path(__file__).name)).hexdigest()


def _book() -> LabelBook:
    marks = {name for name, _ in KINDS}
    rules = tuple(
        ClassRule(cls=name, title=name, limit_mm=0, rule="Any" if name in marks else "Covers a twelfth of the picture")
        for name in CLASSES
    )
    return LabelBook(name=TASK, version=1, task=TASK, rules=rules, reason="what an encoder learns first")
