"""`haltline review …`: start the hub, add people. Imports little, so that `--help` is instant."""

from __future__ import annotations

import typer

app = typer.Typer(no_args_is_help=True, help="The hub: operators' pages, alarms, labels, models.")
user = typer.Typer(no_args_is_help=True, help="People who may act.")
app.add_typer(user, name="user")
