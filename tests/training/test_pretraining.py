"""Drawn surfaces say what is on them, and an encoder that learnt from them can be started from."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from inspection.errors import ConfigError, DatasetError
from tests.training.pictures import tiny_ask
from training import checkpoint as ckpt
from training.backbones import Backbone
from training.cli import train
from training.dataset.snapshot import Snapshot
from training.fit import fit
from training.network import Network
from training.pretraining import run as room
from training.pretraining.marks import KINDS, Scene
from training.pretraining.run import Pretraining, pretrain
from training.pretraining.surface import CLASSES, draw
from training.pretraining.textures import FAMILIES, Texture, piece, textures
from training.streaming import StreamNetwork
from training.trained import trained
from training.warm_start import HEAD, load_encoder

SIZE = (128, 160)


@pytest.fixture(scope="module")
def few() -> tuple[Texture, ...]:
    return textures(len(FAMILIES), 3)


def test_textures_are_of_every_family_and_follow_from_the_seed(few: tuple[Texture, ...]) -> None:
    assert [t.family for t in few] == list(range(len(FAMILIES)))
    assert all(12 < t.grey.std() < 60 for t in few), "each has contrast"
    assert all(np.array_equal(a.grey, b.grey) for a, b in zip(few, textures(len(FAMILIES), 3), strict=True))
    assert not np.array_equal(few[0].grey, textures(1, 4)[0].grey)


@pytest.mark.parametrize("kind", range(len(KINDS)), ids=[name for name, _ in KINDS])
def test_a_mark_lies_where_its_outline_says(kind: int, few: tuple[Texture, ...]) -> None:
    """Inside the outline the picture changed more than outside of it, on nearly every draw."""
    clear, drawn = 0, 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        ground = 110 + 6 * piece(rng, few, SIZE)[1][..., None].repeat(3, 2)
        scene = Scene(ground.copy(), np.full(3, 6.0), None, few)
        inside = KINDS[kind][1](rng, scene)
        if not 3 <= inside.sum() <= 0.5 * inside.size:
            continue
        changed = np.abs(scene.image - ground).mean(2)
        drawn += 1
        clear += bool(changed[inside].mean() > 4 * changed[~inside].mean() + 1)
    assert drawn >= 25
    assert clear >= 0.9 * drawn


def test_a_surface_says_what_is_on_it(few: tuple[Texture, ...]) -> None:
    surfaces = [draw(np.random.default_rng((1, k)), few, SIZE) for k in range(150)]
    for s in surfaces:
        assert s.image.shape == (*SIZE, 3)
        marks = [k for k in range(len(KINDS)) if (s.mask == k + 1).sum() >= 3]
        assert list(np.flatnonzero(s.target[: len(KINDS)])) == marks
        assert s.grounds, "there is a ground"
        assert {few[k].family for k in s.grounds} == set(np.flatnonzero(s.target[len(KINDS) :]))
    seen = np.mean([s.target for s in surfaces], 0)
    assert len(seen) == len(CLASSES)
    assert (seen > 0.03).all(), "every class is to be learnt"
    assert 0.3 < np.mean([(s.mask > 0).any() for s in surfaces]) < 0.7, "good ones are there too"
    again = draw(np.random.default_rng((1, 5)), few, SIZE)
    assert np.array_equal(again.image, surfaces[5].image)


def test_which_texture_is_asked_for_and_each_counts_the_same() -> None:
    maps = torch.zeros(2, len(CLASSES), 8, 8)
    known = {"target": torch.zeros(2, len(CLASSES) + 4), "maps": maps, "weights": torch.ones_like(maps)}
    known |= {"boxed": torch.zeros(2, len(CLASSES)), "unplaced": torch.zeros(2, len(CLASSES))}
    known["target"][:, len(CLASSES)] = 1
    known["target"][1, len(CLASSES) + 1] = 1
    scores = torch.full((2, len(CLASSES) + 4), -20.0)
    scores[0, len(CLASSES)] = 20
    scores[1, len(CLASSES) : len(CLASSES) + 2] = 20
    right = room.losses(scores, maps - 20, known)["decision"]
    assert float(right) == pytest.approx(room.RECALL_SHARE * math.log(2) / 2, abs=1e-5), (
        "two grounds, half sure of each"
    )
    scores[0, len(CLASSES) :] = torch.tensor([-20.0, 20.0, -20.0, -20.0])
    assert float(room.losses(scores, maps - 20, known)["decision"] - right) == pytest.approx(room.RECALL_SHARE * 20)


@pytest.fixture
def short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(room, "EPOCH", 64)
    monkeypatch.setattr(room, "TEXTURES", 14)
    monkeypatch.setattr(room, "BATCH", 16)


ASKED = Pretraining(128, channels=8, threads=1)


@pytest.mark.usefixtures("short")
def test_a_stopped_run_goes_on_as_if_nothing_had_happened(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("training.fit.CHECKPOINT_EVERY_S", 0.0)

    class Stopped(Exception):
        pass

    def stop(step: int, total: int, _: dict[str, float]) -> None:
        assert total == 8
        if step == 6:
            raise Stopped

    with pytest.raises(Stopped):
        pretrain(tmp_path / "cut", ASKED, stop)
    assert ckpt.load(tmp_path / "cut")["step"] == 5
    pretrain(tmp_path / "cut", ASKED)
    pretrain(tmp_path / "whole", ASKED)
    cut, whole = (ckpt.load(tmp_path / name) for name in ("cut", "whole"))
    assert all(torch.equal(cut["average"][n], whole["average"][n]) for n in whole["average"])
    assert not whole["network"], "a finished run keeps what others start from, and no optimizer"
    assert len(whole["history"]) == 2


@pytest.mark.usefixtures("short")
def test_other_runs_start_from_it(tiny: Snapshot, tmp_path: Path) -> None:
    run = tmp_path / "encoder"
    pretrain(run, ASKED)
    network = Network(1, 8)
    load_encoder(network, run)
    kept = ckpt.load(run)["average"]
    assert torch.equal(network.state_dict()["stage16.1.two.0.weight"], kept["stage16.1.two.0.weight"])
    assert not {n.split(".")[0] for n in kept} & HEAD, "what answered here is of no use elsewhere"
    with pytest.raises(DatasetError, match="holds an encoder"):
        trained(run)
    films = StreamNetwork(1, 8, 4)
    load_encoder(films, run)
    assert torch.equal(films.state_dict()["past16.two.0.weight"], kept["stage16.1.two.0.weight"])
    config = fit(tiny, tmp_path / "next", tiny_ask(epochs=1, backbone=Backbone(weights=str(run))))
    assert config.parent == "run encoder on surfaces-0"
    with pytest.raises(ConfigError, match="was started otherwise"):
        pretrain(run, Pretraining(128, channels=8, threads=1, seed=1))
    before = (run / ckpt.CHECKPOINT_FILE).read_bytes()
    pretrain(run, Pretraining(128, channels=8, threads=2))
    assert (run / ckpt.CHECKPOINT_FILE).read_bytes() == before, "a finished one is left alone"


def test_several_processes_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(ConfigError, match="torchrun"):
        pretrain(tmp_path / "run", ASKED)
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("short")
def test_the_command(tmp_path: Path) -> None:
    run = tmp_path / "encoder"
    said = CliRunner().invoke(train, ["encoder", "--out", str(run), "--pictures", "70", "--channels", "8"])
    assert said.exit_code == 0, said.output
    told = " ".join(said.output.split())
    assert told.startswith("--pictures 70 becomes 64: surfaces are drawn by 64"), "before it takes its time"
    assert "of 64 surfaces; next" in told
    assert "--weights" in said.output
    assert ckpt.read_config(run).classes == CLASSES
    wrong = CliRunner().invoke(train, ["encoder", "--out", str(tmp_path / "x"), "--weights", str(tmp_path)])
    assert isinstance(wrong.exception, ConfigError)
    assert "no model of ours is there" in str(wrong.exception)
