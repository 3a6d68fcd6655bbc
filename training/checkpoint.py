"""What a training run leaves in its folder, written so that a kill at any moment loses at most the last minute.

config.json      everything the run was asked for, resolved; the environment; the snapshot's id
packages.txt     every installed package with its version, as a constraints file
checkpoint.pt    weights, their average, optimizer, place in the schedule
metrics.jsonl    one line per epoch
lock             held by the process that writes all this (`run_folder.py`)
"""

from __future__ import annotations

import io
import json
import os
from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from inspection.bundle import InputSpec
from inspection.errors import ConfigError, DatasetError
from inspection.label_book import LabelBook
from inspection.samples import ClassName, Sha256
from training.augment import DEFAULT
from training.backbones import Backbone
from training.dataset.snapshot import first_error

CONFIG_FILE = "config.json"
CHECKPOINT_FILE = "checkpoint.pt"
METRICS_FILE = "metrics.jsonl"
PACKAGES_FILE = "packages.txt"
MOST_PX_A_SIDE = 4096
TOP_RATE = 2e-3
"""Of the learning rate, from random weights."""
SURFACES = "surfaces"
"""The task of a run that an encoder learnt from (`training/pretraining/`)."""


class Ask(BaseModel):
    """What the person asked for. A run that is resumed must be asked for the same.

    `frames` above 1: clips of so many frames, and a network that remembers. `augment`: names of `training/augment.py`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    epochs: int | None = Field(default=None, ge=1)
    minutes: float | None = Field(default=None, gt=0)
    seed: int = 0
    width_px: int = Field(default=320, ge=32, le=MOST_PX_A_SIDE, multiple_of=16)
    height_px: int = Field(default=256, ge=32, le=MOST_PX_A_SIDE, multiple_of=16)
    channels: int = Field(default=16, ge=8, multiple_of=4)
    batch: int = Field(default=16, ge=2)
    lr: float = Field(default=TOP_RATE, gt=0)
    init: str | None = None
    threads: int = Field(default=2, ge=1)
    backbone: Backbone = Backbone()
    augment: tuple[str, ...] = DEFAULT
    frames: int = Field(default=1, ge=1, le=64)
    device: Literal["cpu", "cuda"] = "cpu"

    @classmethod
    def of(cls, **asked: Any) -> Ask:
        """ConfigError names the option that cannot be."""
        try:
            return cls.model_validate(asked)
        except ValidationError as e:
            first = e.errors(include_url=False)[0]
            field = str(first["loc"][0]) if first["loc"] else "options"
            option = {"width_px": "size", "height_px": "size"}.get(field, field)
            raise ConfigError(f"--{option}", f"is {first['input']!r}", first["msg"].lower()) from e


class RunConfig(BaseModel):
    """`config.json`. `epochs` is what `minutes` came to on the machine where the run began."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    format: Literal[1] = 1
    ask: Ask
    epochs: int
    snapshot: str
    snapshot_id: str
    snapshot_sha256: Sha256
    task: str
    classes: tuple[ClassName, ...]
    label_book: LabelBook
    input: InputSpec
    heat_stride: int
    bf16: bool
    weight_decay: float = 0.02
    ema: float = 0.995
    parent: str | None = None
    environment: dict[str, str]


def read_config(run: Path) -> RunConfig:
    path = run / CONFIG_FILE
    try:
        return RunConfig.model_validate_json(path.read_bytes())
    except OSError as e:
        raise DatasetError(
            run, f"is no training run: it has no {CONFIG_FILE}", "train one with `haltline train`"
        ) from e
    except ValidationError as e:
        fix = "train again, into another folder"
        raise ConfigError(path, f"is no run's, or one of another version: {first_error(e)}", fix) from e


def write_config(run: Path, config: RunConfig) -> None:
    write_atomically(run / CONFIG_FILE, (config.model_dump_json(indent=2) + "\n").encode())


def save(run: Path, state: dict[str, Any], history: list[dict[str, float]]) -> None:
    """The checkpoint first: metrics.jsonl is written from its history and can always be written again."""
    made = io.BytesIO()  # torch, writing to a disk that is full, says "unexpected pos 1038656"
    torch.save({**state, "history": history}, made)
    partial = run / f".{CHECKPOINT_FILE}.partial"
    try:
        with partial.open("wb") as f:
            f.write(made.getbuffer())
            f.flush()
            os.fsync(f.fileno())
        partial.replace(run / CHECKPOINT_FILE)
    except OSError:
        partial.unlink(missing_ok=True)
        raise
    lines = "".join(json.dumps(line) + "\n" for line in history)
    write_atomically(run / METRICS_FILE, lines.encode())


def load(run: Path) -> dict[str, Any]:
    """The run's checkpoint, tensors and plain values only: a checkpoint from elsewhere must not run code here."""
    path = run / CHECKPOINT_FILE
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as e:
        raise DatasetError(path, "is missing: the run was stopped before its first checkpoint", "train it again") from e
    except Exception as e:  # torch raises many types for a broken file, pickle's among them
        raise DatasetError(path, f"is no checkpoint: {e}", "train it again") from e
    return state


def write_atomically(path: Path, data: bytes) -> None:
    partial = path.with_name(f".{path.name}.partial")
    with partial.open("wb") as f:
        f.write(data)
        f.flush()
        os.fsync(f.fileno())
    partial.replace(path)
