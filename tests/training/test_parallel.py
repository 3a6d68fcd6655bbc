"""Two processes under torchrun end with the weights of one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from inspection.errors import ConfigError
from tests.training.pictures import tiny_ask
from training import checkpoint as ckpt
from training import fit as room
from training.dataset.snapshot import Snapshot
from training.fit import fit

SCRIPT = """
import sys
from pathlib import Path
from tests.training.pictures import tiny_ask
from training import fit as room, parallel
from training.dataset.snapshot import read_snapshot
room.has_bf16 = lambda device: False  # it rounds the same sums to other values
room.fit(read_snapshot(Path(sys.argv[1])), Path(sys.argv[2]), tiny_ask(epochs=int(sys.argv[3]), batch=6, lr=1e-3))
parallel.leave()
"""


def under_torchrun(tiny: Snapshot, run: Path, script: Path, epochs: int, processes: int = 2) -> None:
    root = Path(__file__).parents[2]
    script.write_text(SCRIPT)
    command = [sys.executable, "-m", "torch.distributed.run", f"--nproc-per-node={processes}", "--standalone"]
    env = {**os.environ, "PYTHONPATH": str(root), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, str(script), str(tiny.folder), str(run), str(epochs)],
        cwd=root,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.timeout(240)
def test_two_processes_train_the_model_of_one(tiny: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Half of 48 pictures are for training: batches of 6, and every share has 3.
    monkeypatch.setattr(room, "has_bf16", lambda device: False)
    one_ask = tiny_ask(epochs=2, batch=6, lr=1e-3)
    fit(tiny, tmp_path / "one", one_ask)
    under_torchrun(tiny, tmp_path / "two", tmp_path / "run.py", epochs=2)
    one, two = (ckpt.load(tmp_path / name) for name in ("one", "two"))
    assert one["step"] == two["step"] == 8
    for a, b in zip(one["history"], two["history"], strict=True):
        assert a["segmentation"] == pytest.approx(b["segmentation"], rel=5e-3)
        assert a["decision"] == pytest.approx(b["decision"], rel=5e-3)
    for part in ("network", "average"):
        values = [(v, two[part][n]) for n, v in one[part].items() if v.is_floating_point()]
        apart = max(float((a - b).abs().mean() / (a.abs().mean() + 1e-3)) for a, b in values)
        # AdamW turns the last digit of a tiny gradient into a whole step.
        assert apart < 2e-2, f"{part}: weights are {apart:.2g} of themselves apart"
    assert ckpt.read_config(tmp_path / "two").environment["processes"] == "2"


@pytest.mark.timeout(240)
def test_two_processes_go_on_with_the_run_of_one(tiny: Snapshot, tmp_path: Path) -> None:
    run = tmp_path / "run"
    fit(tiny, run, tiny_ask(epochs=1, batch=6, lr=1e-3))
    config = ckpt.read_config(run)
    longer = config.model_copy(update={"epochs": 2, "ask": config.ask.model_copy(update={"epochs": 2})})
    ckpt.write_config(run, longer)
    under_torchrun(tiny, run, tmp_path / "run.py", epochs=2)
    assert [line["epoch"] for line in ckpt.load(run)["history"]] == [1, 2]


def test_a_batch_that_cannot_be_shared_is_refused(
    tiny: Snapshot, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from training import parallel

    monkeypatch.setattr(parallel, "join", lambda: parallel.Team(0, 3))
    with pytest.raises(ConfigError, match="no multiple of 3 processes"):
        fit(tiny, tmp_path / "run", tiny_ask(batch=8))
