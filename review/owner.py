"""Whose the hub's files are: a command run as root must leave none that the hub itself cannot read."""

from __future__ import annotations

import os
from pathlib import Path


def give(path: Path, like: Path | None = None) -> None:
    """As root: a file that was just made belongs to whom the folder it lies in, or `like`, belongs to."""
    if os.geteuid() == 0:
        owner = (like or path.parent).stat()
        os.chown(path, owner.st_uid, owner.st_gid, follow_symlinks=False)
