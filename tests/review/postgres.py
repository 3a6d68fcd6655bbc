"""A PostgreSQL server of the tests' own: a fresh cluster on a free port, run by somebody who is not root."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.conftest import free_port, missing, wait_for_port


def binary(name: str) -> Path | None:
    """Debian keeps the servers' programs out of PATH, a folder a version; the newest is taken."""
    found = shutil.which(name)
    installed = sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"), key=lambda p: float(p.parts[-3]))
    return Path(found) if found else installed[-1] if installed else None


@contextmanager
def server() -> Iterator[str]:
    """Yields the SQLAlchemy address of an empty database; without a server installed the test skips, on CI it fails."""
    initdb, postgres = binary("initdb"), binary("postgres")
    if initdb is None or postgres is None:
        missing("postgresql")
    # Not under pytest's folder, which only its owner may enter: PostgreSQL refuses to run as root.
    folder = Path(tempfile.mkdtemp(prefix="haltline-pg-"))
    who: dict[str, Any] = {}
    if os.geteuid() == 0:
        nobody = pwd.getpwnam("nobody")
        os.chown(folder, nobody.pw_uid, nobody.pw_gid)
        who = {"user": nobody.pw_uid, "group": nobody.pw_gid, "extra_groups": []}
    data, port = folder / "data", free_port()
    try:
        made = [str(initdb), "-D", str(data), "-U", "haltline", "-A", "trust", "-E", "UTF8", "--no-sync"]
        subprocess.run(made, check=True, capture_output=True, cwd=folder, env={"LC_ALL": "C"}, **who)
        asked = [str(postgres), "-D", str(data), "-k", str(folder), "-h", "127.0.0.1", "-p", str(port)]
        with (folder / "log").open("wb") as log:
            process = subprocess.Popen(asked, cwd=folder, stdout=log, stderr=log, env={"LC_ALL": "C"}, **who)
        try:
            wait_for_port(port)
            yield f"postgresql+psycopg://haltline@127.0.0.1:{port}/postgres"
        finally:
            process.send_signal(signal.SIGINT)  # "fast": whoever is connected is thrown out
            process.wait(timeout=20)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
