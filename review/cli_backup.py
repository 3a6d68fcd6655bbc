"""`haltline review backup` and `restore`: the first while the hub runs, the second into a new folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from inspection.errors import HaltlineError

Data = Annotated[Path, typer.Option("--data", help="Folder for database, frames and bundles.")]


def backup(
    data: Data = Path("var/hub"),
    out: Annotated[Path | None, typer.Option(help="Where backups go, best another disk; default DATA/backups.")] = None,
) -> None:
    """Copy the database as of now, with every frame and bundle and a list of their sha256; works while the hub runs."""
    from review.backup import make
    from review.clock import wall_ms
    from review.settings import Settings

    try:
        made = make(Settings(data_dir=data), out or data / "backups", wall_ms())
    except HaltlineError as e:
        _give_up(str(e))
    typer.echo(f"{made.path}: {made.files} files, {made.bytes / 2**20:.1f} MiB, {made.added} of them new")


def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="A folder that `backup` made.")],
    data: Annotated[Path, typer.Option("--data", help="A new folder for the hub.")],
) -> None:
    """Check every file of a backup against its list and put it into a new folder for `haltline review serve --data`."""
    from review.backup import restore as put_back

    try:
        files = put_back(source, data)
    except HaltlineError as e:
        _give_up(str(e))
    typer.echo(f"{data}: {files} files, each as it was. Check the log: haltline review audit verify --data {data}")


def _give_up(why: str) -> NoReturn:
    typer.echo(f"haltline review: {why}", err=True)
    raise typer.Exit(2)
