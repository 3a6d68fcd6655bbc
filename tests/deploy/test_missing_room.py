"""An image for the edge holds no hub: the command says what to install, and `--help` still works."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WITHOUT = """
import sys

class NoHub:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] == "review":
            raise ModuleNotFoundError("No module named 'review'", name="review")

sys.meta_path.insert(0, NoHub())
sys.argv[0] = "haltline"
import haltline
haltline.main()
"""


def without_the_hub(*words: str) -> subprocess.CompletedProcess[str]:
    args = [sys.executable, "-c", WITHOUT, *words]
    return subprocess.run(args, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)


def test_help_works_and_says_what_is_not_installed() -> None:
    done = without_the_hub("--help")
    assert done.returncode == 0, done.stderr
    assert "haltline[review]" in " ".join(done.stdout.replace("│", "").split())
    assert "plc-sim" in done.stdout


def test_a_command_of_an_absent_room_says_how_to_install_it() -> None:
    done = without_the_hub("review", "serve", "--port", "8080")
    assert done.returncode == 2
    assert "pip install 'haltline[review]'" in done.stderr
    assert "Traceback" not in done.stderr
