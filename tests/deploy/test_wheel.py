"""What is installed without the repository beside it (`pip install .`, as the deploy guide says) is whole."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
ROOMS = ("inspection", "edge", "review", "training", "benchmarks", "deploy", "models")
BESIDE = ("pyproject.toml", "README.md", "LICENSE", "haltline.py")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel's files, unpacked as pip does, built from a copy: setuptools writes beside what it builds."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for room in ROOMS:
        shutil.copytree(ROOT / room, source / room, ignore=shutil.ignore_patterns("__pycache__"))
    for name in BESIDE:
        shutil.copy(ROOT / name, source)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", str(out), "."]
    subprocess.run(build, cwd=source, check=True, timeout=120)
    (wheel,) = out.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(out / "site")
    return out / "site"


def test_a_training_that_is_installed_has_the_encoder_to_start_from_and_the_demo_its_bundles(installed: Path) -> None:
    ask = (
        "import training, deploy.demo as demo, training.defaults as d; from deploy.broker import CONF\n"
        "print(training.__file__, CONF.is_file(), *(demo.newest_bundle(task).name for task in ('weld', 'scratch')))\n"
        "print(*(d.encoder_weights('own', width, None) for width in d.ENCODERS))"
    )
    env = {**os.environ, "PYTHONPATH": str(installed)}
    done = subprocess.run([sys.executable, "-c", ask], cwd=installed.parent, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    first, second = done.stdout.splitlines()
    assert first.startswith(f"{installed}/training/__init__.py True weld-"), first
    assert second.split() == [f"{installed}/models/encoder-0.2.0", f"{installed}/models/encoder-24-0.1.0"]


def test_every_released_model_is_there_to_the_last_file(installed: Path) -> None:
    here = {p.relative_to(ROOT): p.stat().st_size for p in (ROOT / "models").rglob("*") if p.is_file()}
    there = {p.relative_to(installed): p.stat().st_size for p in (installed / "models").rglob("*") if p.is_file()}
    assert here == there
    assert len(here) > 50
