"""An image for the edge holds no hub, and the package alone nothing that only some rooms need: the command says what to
install, and `--help` still works."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import haltline

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = """
import sys

absent = sys.argv.pop(1)

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name == absent:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Absent())
import haltline
haltline.main()
"""


def without(module: str, *words: str) -> subprocess.CompletedProcess[str]:
    args = [sys.executable, "-c", WITHOUT, module, *words]
    return subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_every_extra_that_is_named_can_be_installed() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert {extra for _, extra in haltline.COMMANDS.values()} - {""} <= set(extras)


def test_help_works_and_says_what_is_not_installed() -> None:
    done = without("review", "--help")
    assert done.returncode == 0, done.stderr
    assert "haltline[review]" in " ".join(done.stdout.replace("│", "").split())
    assert "plc-sim" in done.stdout


@pytest.mark.parametrize(
    ("absent", "words", "fix"),
    [
        ("review", ("review", "serve", "--port", "8080"), "'haltline[review]'"),
        ("sqlalchemy", ("review", "serve"), "'haltline[review]'"),
        ("torch", ("export", "run"), "'haltline[training]'"),
        ("onnx", ("bench", "memory"), "'haltline[dev]'"),
        ("edge", ("edge", "run", "edge.yaml"), "haltline"),
    ],
)
def test_a_command_says_how_to_install_what_it_needs(absent: str, words: tuple[str, ...], fix: str) -> None:
    done = without(absent, *words)
    assert done.returncode == 2, done.stderr
    assert f"needs {absent}\n  fix: pip install {fix}\n" in done.stderr
    assert "Traceback" not in done.stderr


def test_a_module_of_our_own_that_is_missing_is_our_mistake() -> None:
    done = without("review.settings", "review", "serve")
    assert done.returncode == 1
    assert "No module named 'review.settings'" in done.stderr
