"""A run learns, repeats, and survives being killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from inspection.bundle import MANIFEST_FILE, parse_manifest
from inspection.errors import ConfigError, DatasetError
from tests.training.pictures import tiny_ask
from training import checkpoint as ckpt
from training.dataset.snapshot import Snapshot
from training.examples import load
from training.fit import fit, network_of, one_cycle
from training.network import SIZES, Network
from training.trained import predict, trained
from training.warm_start import load_weights


def test_a_run_learns_what_it_is_shown(tiny: Snapshot, tiny_run: Path) -> None:
    config, network = trained(tiny_run)
    examples = [load(tiny.folder, s, config.input, config.label_book) for s in tiny.split("test")]
    scores, maps = predict(network, [e.image for e in examples])
    bad = torch.tensor([bool(e.target[0]) for e in examples])
    assert scores[bad].min() > scores[~bad].max()
    assert maps[bad].amax((1, 2, 3)).min() > maps[~bad].amax((1, 2, 3)).max()


def test_a_run_says_what_it_was(tiny: Snapshot, tiny_run: Path) -> None:
    config = ckpt.read_config(tiny_run)
    assert config.snapshot_id == tiny.manifest.id
    assert config.snapshot == str(tiny.folder.resolve()), "it is found from any folder"
    assert config.label_book == tiny.manifest.label_book
    assert config.environment["torch"] == torch.__version__
    lines = [json.loads(line) for line in (tiny_run / "metrics.jsonl").read_text().splitlines()]
    assert [line["epoch"] for line in lines] == list(range(1, 13))
    assert lines[-1]["segmentation"] < lines[0]["segmentation"]


SCRIPT = """
import sys
from pathlib import Path
from tests.training.pictures import tiny_ask
from training import fit as room
from training.dataset.snapshot import read_snapshot
room.CHECKPOINT_EVERY_S = 0.0  # after every step, so that a kill falls anywhere
snapshot, run = read_snapshot(Path(sys.argv[1])), Path(sys.argv[2])
room.fit(snapshot, run, tiny_ask(epochs=6), lambda *now: print(*now[:2], flush=True))
"""


def start(tiny: Snapshot, run: Path) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", SCRIPT, str(tiny.folder), str(run)]
    root = Path(__file__).parents[2]
    env = {**os.environ, "PYTHONPATH": str(root)}
    return subprocess.Popen(command, cwd=root, env=env, stdout=subprocess.PIPE, text=True)


@pytest.mark.timeout(180)
def test_killed_twice_and_resumed_ends_with_the_same_weights(tiny: Snapshot, tmp_path: Path) -> None:
    with start(tiny, tmp_path / "whole") as left_alone:
        steps = len(list(left_alone.stdout or ()))
    assert left_alone.returncode == 0
    for until in (3, steps // 2):
        with start(tiny, tmp_path / "killed") as process:
            assert process.stdout
            for line in process.stdout:
                if int(line.split()[0]) >= until:
                    time.sleep(0.01 * until)  # somewhere in the middle of what follows, perhaps of a write
                    process.send_signal(signal.SIGKILL)
                    break
        assert process.returncode == -signal.SIGKILL
    with start(tiny, tmp_path / "killed") as resumed:
        rest = len(list(resumed.stdout or ()))
    assert resumed.returncode == 0
    assert 0 < rest < steps, "it went on, it did not begin again"
    one, two = (ckpt.load(tmp_path / name) for name in ("whole", "killed"))
    assert one["step"] == two["step"] == steps
    for part in ("network", "average"):
        assert all(torch.equal(one[part][n], two[part][n]) for n in one[part])
    assert one["history"] == two["history"]
    assert (tmp_path / "whole/metrics.jsonl").read_text() == (tmp_path / "killed/metrics.jsonl").read_text()


def test_a_finished_run_has_nothing_left_to_do(tiny: Snapshot, tiny_run: Path) -> None:
    before = (tiny_run / ckpt.CHECKPOINT_FILE).read_bytes()
    fit(tiny, tiny_run, tiny_ask())
    assert (tiny_run / ckpt.CHECKPOINT_FILE).read_bytes() == before


def test_a_run_goes_on_only_as_it_began(tiny: Snapshot, tiny_run: Path) -> None:
    with pytest.raises(ConfigError, match=r"was started with lr 0.004, not lr 0.001\n.*choose another --out"):
        fit(tiny, tiny_run, tiny_ask(lr=1e-3))


def test_an_unfinished_run_is_not_exported(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "cut"
    run.mkdir()
    (run / "config.json").write_bytes((tiny_run / "config.json").read_bytes())
    state = ckpt.load(tiny_run)
    ckpt.save(run, {**state, "step": 3}, state["history"][:5])
    with pytest.raises(DatasetError, match="is at epoch 5 of 12"):
        trained(run)


def test_a_checkpoint_may_not_carry_code(tmp_path: Path) -> None:
    run = tmp_path / "hostile"
    run.mkdir()
    torch.save({"network": os.system}, run / ckpt.CHECKPOINT_FILE)
    with pytest.raises(DatasetError, match="is no checkpoint"):
        ckpt.load(run)


def test_minutes_become_epochs_once(tiny: Snapshot, tmp_path: Path) -> None:
    ask = tiny_ask(epochs=None, minutes=0.02)
    config = fit(tiny, tmp_path / "short", ask)
    assert config.epochs >= 1
    assert fit(tiny, tmp_path / "short", ask).epochs == config.epochs


def test_a_new_run_starts_from_an_earlier_one(tiny: Snapshot, tiny_run: Path, tmp_path: Path) -> None:
    config = fit(tiny, tmp_path / "next", tiny_ask(epochs=1, init=str(tiny_run), lr=1e-5))
    assert config.parent == f"run tiny on {tiny.manifest.id}"
    old, new = ckpt.load(tiny_run)["average"], ckpt.load(tmp_path / "next")["average"]
    drift = max(float((old[n] - new[n]).abs().max()) for n in old if "running" not in n and old[n].is_floating_point())
    assert drift < 0.01
    with pytest.raises(Exception, match="has other layers"):
        fit(tiny, tmp_path / "wider", tiny_ask(epochs=1, init=str(tiny_run), channels=16))


def test_a_model_of_other_classes_lends_its_encoder(tiny_run: Path) -> None:
    config = ckpt.read_config(tiny_run).model_copy(update={"classes": ("pore", "crack")})
    network = network_of(config, load=False)
    fresh = {n: v.clone() for n, v in network.state_dict().items()}
    load_weights(network, tiny_run, config)
    lent, old = network.state_dict(), ckpt.load(tiny_run)["average"]
    assert torch.equal(lent["stem.0.weight"], old["stem.0.weight"])
    assert torch.equal(lent["stage16.1.two.1.running_mean"], old["stage16.1.two.1.running_mean"])
    anew = [n for n in lent if n.split(".")[0] not in ("stem", "stage4", "stage8", "stage16")]
    assert {"to_map.weight", "side16.0.weight", "decide.1.0.weight", "score.weight"} <= set(anew)
    assert all(torch.equal(lent[n], fresh[n]) for n in anew)


def test_a_model_of_before_says_what_it_said(tiny_run: Path) -> None:
    """Released when the score did not read the encoder's last stage: the same logits, up to its calibration."""
    bundle = Path(__file__).parents[2] / "models" / "scratch-0.2.0"
    manifest = parse_manifest((bundle / MANIFEST_FILE).read_bytes())
    config = ckpt.read_config(tiny_run).model_copy(update={"classes": manifest.classes})
    network = Network(len(config.classes), SIZES["S"].channels).eval()
    load_weights(network, bundle, config)
    assert not network.score.weight[:, -2 * network.last_channels :].any()
    cases = manifest.golden.cases
    logits = predict(network, [cv2.imread(str(bundle / c.image)) for c in cases])[0].numpy()[:, 0]
    said = np.array([c.scores[0] for c in cases])
    line = np.polyfit(logits, np.log(said / (1 - said)), 1)
    assert np.ptp(logits) > 1
    assert np.polyval(line, logits) == pytest.approx(np.log(said / (1 - said)), abs=0.01)


def test_a_run_of_before_does_not_go_on(tiny: Snapshot, tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "before"
    run.mkdir()
    (run / "config.json").write_bytes((tiny_run / "config.json").read_bytes())
    state = ckpt.load(tiny_run)
    for weights in (state["network"], state["average"]):
        weights["score.weight"] = weights["score.weight"][:, :-96]
    ckpt.save(run, {**state, "step": 3}, state["history"][:5])
    with pytest.raises(DatasetError, match="choose another --out"):
        fit(tiny, run, ckpt.read_config(run).ask)


def test_the_schedule_rises_and_falls() -> None:
    rates = [one_cycle(p / 100) for p in range(101)]
    top = rates.index(max(rates))
    assert rates[top] == pytest.approx(1.0)
    assert 10 <= top <= 20
    assert rates[:top] == sorted(rates[:top])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert rates[-1] == pytest.approx(0.01)
