"""An encoder that learns from drawn surfaces, each seen once: which marks, where, and on which of 2,100 textures.

The run is one of `training.fit`: it can be stopped at any moment, and what it leaves can be given to `--weights`.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

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
from training.examples import Batch, Example
from training.network import HEAT_STRIDE, Network, Stages, hottest, mean
from training.pretraining.marks import KINDS
from training.pretraining.surface import CLASSES, draw
from training.pretraining.textures import Texture, textures
from training.run_folder import claimed
from training.warm_start import HEAD, load_encoder

TEXTURES = 2100
RECALL_SHARE = 0.25  # of the loss that asks which texture, beside those for marks
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

    @property
    def epochs(self) -> int:
        return max(1, round(self.pictures / EPOCH))


@dataclass(frozen=True, slots=True)
class SurfaceExample(Example):
    """`grounds`: places of the textures it stands on."""

    grounds: frozenset[int] = frozenset()


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
        return [SurfaceExample(drawn.image, drawn.mask, drawn.target, nothing, nothing, grounds=drawn.grounds)]

    def together(self, examples: Sequence[Example]) -> Batch:
        """`target` (N, C + T): the classes, then which of the textures are there."""
        batch, which = super().together(examples), np.zeros((len(examples), len(self.of)), np.float32)
        for row, example in zip(which, examples, strict=True):
            assert isinstance(example, SurfaceExample)
            row[list(example.grounds)] = 1
        return replace(batch, target=np.concatenate([batch.target, which], 1))


class SurfaceNetwork(Network):
    """Ours, with one more answer behind its scores: which of `textures` it stands on, from the last stage alone."""

    def __init__(self, textures: int, width: int) -> None:
        super().__init__(len(CLASSES), width)
        seen = 2 * self.last_channels
        self.which = nn.Sequential(nn.BatchNorm1d(seen), nn.Linear(seen, textures))

    def read(self, stages: Stages) -> tuple[Tensor, Tensor]:
        scores, maps = super().read(stages)
        which = self.which(torch.cat([hottest(stages.s16), mean(stages.s16)], 1))
        return torch.cat([scores, which], 1), maps


def losses(scores: Tensor, maps: Tensor, known: dict[str, Tensor]) -> dict[str, Tensor]:
    """Those of every run, and cross entropy with the textures that are there, each an equal share of 1 (Mahajan et al.
    2018)."""
    count, target = len(CLASSES), known["target"]
    parts = fit.losses(scores[:, :count], maps, known | {"target": target[:, :count]})
    which = target[:, count:]
    recall = F.cross_entropy(scores[:, count:], which / which.sum(1, keepdim=True))
    return {name: part + RECALL_SHARE * recall for name, part in parts.items()}  # whose shares add up to 1.2 to 1.3


def pretrain(run: Path, asked: Pretraining, report: fit.Report = lambda *_: None) -> RunConfig:
    """Train to the end, or go on. ConfigError when `run` was begun otherwise, or under torchrun: one process draws."""
    if os.environ.get("WORLD_SIZE", "1") != "1":
        raise ConfigError("torchrun", "starts several processes, and an encoder is learnt in one", "leave it out")
    torch.set_num_threads(asked.threads)
    torch.use_deterministic_algorithms(True, warn_only=asked.device == "cuda")
    with claimed(run):
        return _pretrained(run, asked, report)


def _pretrained(run: Path, asked: Pretraining, report: fit.Report) -> RunConfig:
    resumes = (run / ckpt.CHECKPOINT_FILE).exists()
    config = _config(asked)
    if resumes:
        began = ckpt.read_config(run)
        same = began.ask.model_dump(exclude={"threads"}) == config.ask.model_dump(exclude={"threads"})
        if not same or began.snapshot_sha256 != config.snapshot_sha256:
            raise ConfigError(run, "was started otherwise, or by another version", "choose another --out")
        config = began
    else:
        ckpt.write_config(run, config)
        (run / ckpt.PACKAGES_FILE).write_text(packages())
    torch.manual_seed(asked.seed)
    network = SurfaceNetwork(TEXTURES, asked.channels)
    if asked.weights and not resumes:
        load_encoder(network, Path(asked.weights))
    trainer = fit.trainer_of(network, config, of=losses)
    if resumes:
        state = ckpt.load(run)
        if not state["network"]:
            return config
        fit.restore(trainer, state, run)
    fit.learn(trainer, SurfaceCourse(config, textures(TEXTURES, asked.seed)), run, report)
    state = ckpt.load(run)
    encoder = {n: w for n, w in state["average"].items() if n.split(".")[0] not in HEAD}
    ckpt.save(run, {"network": {}, "average": encoder, "step": state["step"]}, state["history"])
    return config


def _config(asked: Pretraining) -> RunConfig:
    ask = Ask.of(
        epochs=asked.epochs,
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
        snapshot_id=f"{ckpt.SURFACES}-{asked.seed}",
        snapshot_sha256=how_they_are_drawn(),
        task=ckpt.SURFACES,
        classes=CLASSES,
        label_book=_book(),
        input=InputSpec(width_px=SIZE[0], height_px=SIZE[1], px_per_mm=PX_PER_MM),
        heat_stride=HEAT_STRIDE,
        bf16=fit.has_bf16(asked.device),
        parent=fit.parent_name(ask),
        environment=describe(asked.device),
    )


def how_they_are_drawn() -> str:
    """A hash of the lines that draw them: what stands for a snapshot's here."""
    files = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"".join(f.read_bytes() for f in files if f.name != Path(__file__).name)).hexdigest()


def _book() -> LabelBook:
    marks = {name for name, _ in KINDS}
    rules = tuple(
        ClassRule(cls=name, title=name, limit_mm=0, rule="Any" if name in marks else "Covers a twelfth of the picture")
        for name in CLASSES
    )
    reason = "what an encoder learns first"
    return LabelBook(name=ckpt.SURFACES, version=1, task=ckpt.SURFACES, rules=rules, reason=reason)
