"""A folder that appears under its name whole or not at all, whoever else writes it and whenever it is killed."""

from __future__ import annotations

import errno
import glob
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from inspection.errors import InputError

TAKEN = {errno.EEXIST, errno.ENOTDIR, errno.ENOTEMPTY}


@contextmanager
def whole(out: Path, exists: InputError) -> Iterator[Path]:
    """A folder to fill, which is `out` when the block ends well. `exists` is raised where somebody else was first."""
    if out.exists():
        raise exists
    partial = out.with_name(f".{out.name}.partial-{os.getpid()}")
    _sweep(out)
    # Of a process that had this one's number and was killed, as in a container where numbers begin anew.
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        yield partial
        try:
            partial.rename(out)
        except OSError as e:
            if e.errno in TAKEN:
                raise exists from e
            raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _sweep(out: Path) -> None:
    """What writers of this name left that were killed; one that still runs is left alone."""
    for left in out.parent.glob(f".{glob.escape(out.name)}.partial-*"):
        try:
            os.kill(int(left.name.rpartition("-")[2]), 0)
        except (ProcessLookupError, ValueError):
            shutil.rmtree(left, ignore_errors=True)
        except OSError:
            pass  # it is somebody's
