"""The command itself: what it says of paths that cannot be used."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
import typer

import haltline
from deploy import demo

ROOT = Path(__file__).resolve().parents[2]


def test_it_says_which_version_it_is() -> None:
    command = [sys.executable, "-m", "haltline", "--version"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, f"haltline {version('haltline')}\n")


@pytest.mark.parametrize(
    "words",
    [
        ("render", "scratch", "{file}/x", "--count", "1"),
        ("demo", "--folder", "{file}/demo"),
        ("review", "serve", "--data", "{file}"),
        ("review", "serve", "--data", "{file}/hub"),
    ],
)
def test_a_folder_that_cannot_be_written_ends_with_2_and_says_what_to_do(
    words: tuple[str, ...], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.touch()
    command = [sys.executable, "-m", "haltline", *(w.format(file=file) for w in words)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2, done.stderr
    assert f"{file}" in done.stderr
    assert "fix: name a path" in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("error", [OSError("nameless"), BrokenPipeError(32, "gone")])
def test_a_failure_that_no_other_path_mends_stays_one(error: OSError, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(haltline, "app", fail)
    with pytest.raises(OSError, match=r".") as raised:
        haltline.main()
    assert raised.value is error


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (OSError(28, "No space left"), ""),
        (OSError(28, "No space left", "there"), "there: "),
        (OSError(122, "Quota exceeded", "from", None, "there"), "there: "),
    ],
)
def test_a_full_disk_is_a_failure_that_says_so(
    error: OSError, where: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It was a traceback of each command that writes."""

    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(haltline, "app", fail)
    with pytest.raises(SystemExit) as ended:
        haltline.main()
    assert ended.value.code == 1
    assert (
        capsys.readouterr().err
        == f"{where}{error.strerror}\n  fix: make room on the disk it is written to, and type it again\n"
    )


def test_the_newest_bundle_is_one_of_that_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("weld-0.9.0", "weld-0.10.0", "weld-moving-1.0.0"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "manifest.json").touch()
    monkeypatch.setattr(demo, "MODELS", tmp_path)
    assert demo.newest_bundle("weld").name == "weld-0.10.0"
    assert demo.newest_bundle("weld-moving").name == "weld-moving-1.0.0"


def options(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    for inside in command.list_commands(None) if hasattr(command, "list_commands") else ():
        yield from options(command.get_command(None, inside), f"{name} {inside}")
    yield from ((f"{name} {p.opts[0]}", p) for p in command.params if p.param_type_name == "option")


def test_every_option_says_what_it_is() -> None:
    found = dict(options(typer.main.get_command(haltline.app), "haltline"))
    assert len(found) > 200
    assert [name for name, option in found.items() if not option.help] == []
