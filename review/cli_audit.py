"""`haltline review audit …`: take the log out, and check that nobody changed it."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Annotated

import typer

from inspection.errors import HaltlineError, StorageError

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Who did what: export and check the log.")

TAMPERED, BAD_INPUT = 1, 2
Data = Annotated[Path | None, typer.Option("--data", help="The hub's data folder.")]
Database = Annotated[str | None, typer.Option(help="SQLAlchemy address instead of DATA/hub.db.")]


@app.command()
def export(
    out: Annotated[Path, typer.Argument(help="New file of JSON lines, one per act.")],
    data: Data = Path("var/hub"),
    database: Database = None,
) -> None:
    """Write the whole log; its last line says where it ended."""
    from review import audit
    from review.settings import Settings
    from review.store import Store

    assert data is not None
    try:
        _hub_in(data, database)
        store = Store(Settings(data_dir=data, database_url=database).database)
        store.migrate()
        with out.open("x", encoding="utf-8") as file:
            file.writelines(audit.export(store))
        head = audit.newest(store)
        store.close()
    except (HaltlineError, OSError) as e:
        typer.echo(f"haltline review audit: {e}", err=True)
        raise typer.Exit(BAD_INPUT) from e
    typer.echo(f"{out}: {head.seq} acts. Keep this apart from the file: {head.seq}:{head.hash}")


@app.command()
def verify(
    file: Annotated[Path | None, typer.Argument(help="An export; without one, the hub's own log.")] = None,
    data: Data = None,
    database: Database = None,
    anchor: Annotated[
        list[str] | None, typer.Option(help="SEQ:HASH from a handover on paper or an earlier export; may be repeated.")
    ] = None,
) -> None:
    """Exit code 0 when nothing was changed, 1 with what was, 2 when it cannot be read."""
    from sqlalchemy.exc import SQLAlchemyError

    try:
        count, wrong = _problems(file, data, database, anchor or [])
    except (HaltlineError, SQLAlchemyError, OSError, UnicodeDecodeError) as e:
        typer.echo(f"haltline review audit: {e}", err=True)
        raise typer.Exit(BAD_INPUT) from e
    for line in wrong[:20]:
        typer.echo(line)
    if wrong:
        typer.echo(f"CHANGED: {len(wrong)} finding(s) in {count} rows")
        raise typer.Exit(TAMPERED)
    typer.echo(f"{count} rows, none changed, none missing")


@app.command()
def anchor(data: Data = Path("var/hub"), database: Database = None) -> None:
    """Begin `audit.anchor` anew where it is lost or no longer fits; the log says so. Works while the hub runs."""
    from sqlalchemy.exc import SQLAlchemyError

    from review import audit
    from review.people import COMMAND
    from review.settings import Settings
    from review.store import Store

    assert data is not None
    try:
        _hub_in(data, database)
        store = Store(Settings(data_dir=data, database_url=database).database)
        store.migrate()
        begun = audit.begin_anchor(store, data, COMMAND)
        store.close()
    except (HaltlineError, SQLAlchemyError, OSError) as e:
        typer.echo(f"haltline review audit: {e}", err=True)
        raise typer.Exit(BAD_INPUT) from e
    typer.echo(f"{begun.source} begins anew at {begun.seq}:{begun.hash}")
    typer.echo("An end that was cut off before is shown by paper alone: haltline review audit verify --anchor SEQ:HASH")


def _hub_in(data: Path, database: str | None) -> None:
    """None is made by a look at one, and a folder without one is said plainly."""
    from review.store.db import must_hold_hub

    if database is None:
        try:
            must_hold_hub(data / "hub.db")
        except sqlite3.Error as e:
            raise StorageError(f"{data / 'hub.db'} cannot be read: {e}") from e


def _problems(file: Path | None, data: Path | None, database: str | None, given: list[str]) -> tuple[int, list[str]]:
    from review import audit
    from review.settings import Settings
    from review.store import Store

    anchors = [audit.parse_anchor(text) for text in given]
    if file is not None:
        with file.open(encoding="utf-8") as lines:
            return audit.file_problems(lines, anchors)
    data = data or Path("var/hub")
    _hub_in(data, database)
    store = Store(Settings(data_dir=data, database_url=database).database)
    try:
        # Looked at as it is: a migration here would touch what is to be judged.
        return audit.stored_problems(store, data, anchors)
    finally:
        store.close()
