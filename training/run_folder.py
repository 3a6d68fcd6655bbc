"""A run's folder holds one run, and one process at a time writes there."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inspection.errors import ConfigError
from training.checkpoint import CONFIG_FILE, read_config
from training.dataset.snapshot import SNAPSHOT_FILE

LOCK_FILE = "lock"
NAMED = 3


@contextmanager
def claimed(run: Path) -> Iterator[None]:
    """Make the folder and lock it while the block runs. ConfigError where it is no run's, or where another process
    trains: of two, each would write its checkpoints over the other's. The lock ends with its process, also by a kill.
    """
    check(run)
    run.mkdir(parents=True, exist_ok=True)
    lock = _locked(run)
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


def _locked(run: Path) -> int | None:
    """The lock's descriptor. None where nobody can be kept out, nor needs to be: who may not write here writes over
    nobody, and can still have a finished run judged."""
    try:
        lock = os.open(run / LOCK_FILE, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o644)
    except OSError:
        if os.access(run, os.W_OK):
            raise
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as e:
        os.close(lock)
        raise ConfigError(
            "--out",
            f"another haltline train is writing {run}",
            "wait for it or end it, then the same command goes on from there; or choose another folder",
        ) from e
    except OSError:
        pass  # a file system that knows no locks, as some networks': it is as it was before there was one
    return lock


def check(run: Path) -> None:
    """Refuse a folder that holds something else: of equal names it would be written over, and what lies there would be
    taken for a part of the run."""
    if (run / SNAPSHOT_FILE).exists():
        raise ConfigError(
            "--out", f"{run} is a snapshot, which never changes", "choose a folder of its own for the run"
        )
    if run.is_file():
        raise ConfigError("--out", f"{run} is a file", "choose a folder")
    if (run / CONFIG_FILE).exists():
        read_config(run)  # other programs call theirs so too
        return
    # Hidden files are other programs' notes to themselves, or what a kill left of config.json.
    there = sorted(p.name for p in run.glob("[!.]*") if p.name != LOCK_FILE)
    if there:
        more = f" and {len(there) - NAMED} more" if len(there) > NAMED else ""
        raise ConfigError(
            "--out",
            f"{run} holds {', '.join(there[:NAMED])}{more} and no {CONFIG_FILE}: it is no run",
            "choose a folder that is empty or not there yet",
        )
