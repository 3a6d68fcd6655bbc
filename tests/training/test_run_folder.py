"""A run's folder is one run's, and one process at a time writes there."""

from __future__ import annotations

import fcntl
import signal
from pathlib import Path

import pytest
import torch

from inspection.errors import ConfigError
from tests.training.pictures import tiny_ask
from tests.training.test_fit import start
from training import checkpoint as ckpt
from training.dataset.snapshot import Snapshot
from training.fit import fit
from training.pretraining.run import Pretraining, pretrain
from training.run_folder import LOCK_FILE, claimed


def contents(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir() if p.is_file()}


@pytest.mark.parametrize("what", ["model", "encoder"])
def test_a_folder_that_is_no_run_is_left_as_it_is(tiny: Snapshot, tmp_path: Path, what: str) -> None:
    for name in ("checkpoint.pt", "d.txt", "metrics.jsonl", "notes.txt"):
        (tmp_path / name).write_text("mine")
    before = contents(tmp_path)
    holds = r"--out: .* holds checkpoint.pt, d.txt, metrics.jsonl and 1 more and no config.json: it is no run\n.*empty"
    with pytest.raises(ConfigError, match=holds):
        fit(tiny, tmp_path, tiny_ask()) if what == "model" else pretrain(tmp_path, Pretraining(64))
    assert contents(tmp_path) == before


def test_another_programs_config_is_not_written_over(tiny: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(ConfigError, match=r"config.json: is no run's, or one of another version: .*\n.*another folder"):
        fit(tiny, tmp_path, tiny_ask())
    assert contents(tmp_path).keys() == {"config.json"}


def test_an_empty_folder_or_what_a_kill_left_before_the_first_checkpoint_is_taken(
    tiny: Snapshot, tmp_path: Path
) -> None:
    (tmp_path / ".config.json.partial").write_text("half")
    (tmp_path / LOCK_FILE).touch()
    config = fit(tiny, tmp_path, tiny_ask(epochs=1))
    (tmp_path / ckpt.CHECKPOINT_FILE).unlink()
    assert fit(tiny, tmp_path, tiny_ask(epochs=1)) == config


@pytest.mark.timeout(120)
def test_of_two_who_train_one_run_the_second_is_refused_until_the_first_is_killed(
    tiny: Snapshot, tmp_path: Path
) -> None:
    run, ask = tmp_path / "run", tiny_ask(epochs=6)
    with start(tiny, run) as first:
        assert first.stdout
        first.stdout.readline()
        with pytest.raises(ConfigError, match=rf"--out: another haltline train is writing {run}\n.*goes on"):
            fit(tiny, run, ask)
        first.send_signal(signal.SIGKILL)
    fit(tiny, run, ask)
    assert len(ckpt.load(run)["history"]) == 6


def test_an_encoder_is_learnt_by_one(tmp_path: Path) -> None:
    with claimed(tmp_path / "run"), pytest.raises(ConfigError, match="another haltline train is writing"):
        pretrain(tmp_path / "run", Pretraining(64))


def test_where_nobody_may_write_a_finished_run_is_still_there(
    tiny: Snapshot, tiny_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("training.run_folder.os.open", refused)
    monkeypatch.setattr("training.run_folder.os.access", lambda *_: False)
    assert fit(tiny, tiny_run, tiny_ask()).epochs == 12


def test_a_file_system_without_locks_is_used_as_before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(*_: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(fcntl, "flock", unknown)
    with claimed(tmp_path / "run"):
        assert (tmp_path / "run").is_dir()


def test_a_checkpoint_that_finds_no_room_leaves_the_one_before_and_says_why(tmp_path: Path) -> None:
    """torch said "unexpected pos 1038656", after hours."""
    ckpt.save(tmp_path, {"step": 1, "values": torch.zeros(9)}, [])
    partial = tmp_path / f".{ckpt.CHECKPOINT_FILE}.partial"
    partial.symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        ckpt.save(tmp_path, {"step": 2, "values": torch.zeros(99_999)}, [])
    assert not partial.is_symlink()
    assert ckpt.load(tmp_path)["step"] == 1
