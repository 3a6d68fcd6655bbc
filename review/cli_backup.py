"""`haltline review backup` and `restore`: the first while the hub runs, the second into a new folder."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, NoReturn

import typer

from inspection.errors import HaltlineError

DAMAGED = 1
Data = Annotated[Path, typer.Option("--data", help="Folder for database, frames and bundles.")]


def backup(
    data: Data = Path("var/hub"),
    out: Annotated[Path | None, typer.Option(help="Where backups go, best another disk; default DATA/backups.")] = None,
) -> None:
    """Copy the database as of now, with every frame and bundle and a list of their sha256; works while the hub runs.
    Exit code 1 when it was made and the hub's own copy of a frame turned out to be damaged."""
    from review.backup import make
    from review.clock import wall_ms
    from review.settings import Settings

    try:
        made = make(Settings(data_dir=data), out or data / "backups", wall_ms())
    except HaltlineError as e:
        _give_up(str(e))
    typer.echo(f"{made.path}: {made.files} files, {made.bytes / 2**20:.1f} MiB, {made.added} of them new")
    if made.damaged:
        _list(
            f"{len(made.damaged)} of the hub's own files are DAMAGED, their bytes are not what they were:", made.damaged
        )
        typer.echo(
            f"  fix: mend the disk; what an earlier backup kept whole lies in {made.path.parent / 'pool'}", err=True
        )
        raise typer.Exit(DAMAGED)


def restore(
    source: Annotated[Path, typer.Argument(metavar="BACKUP", help="A folder that `backup` made.")],
    data: Annotated[Path, typer.Option("--data", help="A new folder for the hub.")],
    without_damaged: Annotated[
        bool, typer.Option("--without-damaged", help="Restore the rest where files are missing or damaged; list those.")
    ] = False,
) -> None:
    """Check every file of a backup against its list and put it into a new folder for `haltline review serve --data`."""
    from review.backup import restore as put_back

    try:
        done = put_back(source, data, without_damaged=without_damaged)
    except HaltlineError as e:
        _give_up(str(e))
    typer.echo(f"{data}: {done.files} files, each as it was. Check the log: haltline review audit verify --data {data}")
    if done.missing:
        _list(f"{len(done.missing)} files are missing or damaged in the backup and were left out:", done.missing)


def _list(what: str, paths: tuple[str, ...]) -> None:
    typer.echo(f"haltline review: {what}", err=True)
    for path in paths:
        typer.echo(f"  {path}", err=True)


def _give_up(why: str) -> NoReturn:
    typer.echo(f"haltline review: {why}", err=True)
    raise typer.Exit(2)
