"""`haltline review user …`: people, their roles and secrets. Works while the hub runs."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from inspection.errors import HaltlineError

if TYPE_CHECKING:
    from review.store import Store

app = typer.Typer(no_args_is_help=True, add_completion=False, help="People who may act.")

BAD_INPUT = 2
Data = Annotated[Path, typer.Option("--data", help="The hub's data folder.")]
Database = Annotated[str | None, typer.Option(help="SQLAlchemy address instead of DATA/hub.db.")]
HUB = Path("var/hub")


@contextmanager
def _store(data: Path, database: str | None) -> Iterator[Store]:
    """The hub's database with its audit log kept; a HaltlineError inside is a plain message and exit code 2."""
    from review import audit
    from review.settings import Settings
    from review.store import Store

    try:
        store = Store(Settings(data_dir=data, database_url=database).database)
        store.migrate()
        audit.keep(store, data)
        yield store
        store.close()
    except HaltlineError as e:
        typer.echo(f"haltline review: {e}", err=True)
        raise typer.Exit(BAD_INPUT) from e


@app.command()
def add(
    name: str,
    role: Annotated[str, typer.Option(help="operator, inspector, engineer or admin")] = "operator",
    data: Data = HUB,
    database: Database = None,
) -> None:
    """Add somebody to the names on the badge page."""
    from review.people import add_person

    with _store(data, database) as store:
        added = add_person(store, name, role)
    typer.echo(f"{name} is {role}" if added else f"{name} is already there, nothing changed")
    if added:
        typer.echo(f'next: haltline review user pin "{name}"')


@app.command("list")
def list_people(data: Data = HUB, database: Database = None) -> None:
    """Everybody who may act, with role and whether they have a secret."""
    from review.people import everybody

    with _store(data, database) as store:
        for person in everybody(store):
            ways = [("a badge", person.badge), ("a secret", person.secret_hash)]
            has = " and ".join(way for way, kept in ways if kept)
            typer.echo(f"{person.name}\t{person.role}\t{f'has {has}' if has else 'NO SECRET YET'}")


@app.command()
def pin(
    name: str,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read it from standard input, for scripts.")] = False,
    data: Data = HUB,
    database: Database = None,
) -> None:
    """Set a PIN (operators, 4 to 8 digits) or a password (everybody else); signs them out everywhere."""
    from review.people import set_secret

    secret = sys.stdin.readline().rstrip("\n") if stdin else typer.prompt("PIN or password", hide_input=True)
    if not stdin and typer.prompt("Once more", hide_input=True) != secret:
        typer.echo("haltline review: the two differ, nothing changed", err=True)
        raise typer.Exit(BAD_INPUT)
    with _store(data, database) as store:
        set_secret(store, name, secret)
    typer.echo(f"{name} can sign in")


@app.command()
def badge(
    name: str,
    revoke: Annotated[bool, typer.Option("--revoke", help="It was lost, or is for somebody else now.")] = False,
    stdin: Annotated[bool, typer.Option("--stdin", help="Read it from standard input, for scripts.")] = False,
    data: Data = HUB,
    database: Database = None,
) -> None:
    """Enrol an operator's badge in place of the one before, or revoke it; signs them out everywhere."""
    from review import badges
    from review.settings import Settings

    if revoke:
        with _store(data, database) as store:
            revoked = badges.revoke(store, name)
        typer.echo(f"{name}'s badge is revoked" if revoked else f"{name} has no badge, nothing changed")
        return
    read = sys.stdin.readline() if stdin else typer.prompt("Hold the badge to the reader", hide_input=True)
    if not stdin and typer.prompt("Once more", hide_input=True) != read:
        typer.echo("haltline review: the two differ, nothing changed", err=True)
        raise typer.Exit(BAD_INPUT)
    with _store(data, database) as store:
        badges.enrol(store, Settings(data_dir=data).badge_key(), name, read)
    typer.echo(f"{name} can sign in with this badge")


@app.command()
def role(name: str, new_role: Annotated[str, typer.Argument()], data: Data = HUB, database: Database = None) -> None:
    """Give somebody another role; signs them out everywhere."""
    from review.people import set_role

    with _store(data, database) as store:
        needs_secret = set_role(store, name, new_role)
    typer.echo(f"{name} is {new_role}" + (f'; next: haltline review user pin "{name}"' if needs_secret else ""))


@app.command()
def remove(name: str, data: Data = HUB, database: Database = None) -> None:
    """Somebody leaves: no sign-in any more. What they did keeps their name."""
    from review.people import remove as remove_person

    with _store(data, database) as store:
        remove_person(store, name)
    typer.echo(f"{name} is removed")


@app.command("sign-out")
def sign_out(name: str, data: Data = HUB, database: Database = None) -> None:
    """Sign somebody out of every browser at once, as when a panel was stolen."""
    from review.people import sign_out_everywhere

    with _store(data, database) as store:
        ended = sign_out_everywhere(store, name)
    typer.echo(f"{name} was signed in at {ended} browser(s), now at none")
