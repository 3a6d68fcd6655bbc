"""The `haltline` command: mounts each room's commands when they are asked for, so that the edge never loads torch."""

from __future__ import annotations

import errno
import importlib
import sys
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape
from typer.core import TyperGroup

from inspection.errors import HaltlineError, InputError

COMMANDS: Mapping[str, tuple[str, str]] = {
    "demo": ("deploy.demo:demo", "demo"),
    "edge": ("edge.cli:app", ""),
    "plc-sim": ("edge.cli:plc_sim", ""),
    "review": ("review.cli:app", "review"),
    "render": ("training.cli:render", "training"),
    "dataset": ("training.cli:dataset", "training"),
    "train": ("training.cli:train", "training"),
    "evaluate": ("training.cli:evaluate", "training"),
    "export": ("training.cli:export", "training"),
    "quantize": ("training.cli:quantize", "training"),
    "bench": ("benchmarks.cli:app", "dev"),
}
"""Command -> where it lives, and the extra of the package that brings what it needs; the edge needs none."""
OURS = ("inspection", "edge", "review", "training", "deploy", "benchmarks")
WRONG_PATH = {errno.EACCES, errno.EEXIST, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR}
WRONG_PATH |= {errno.EPERM, errno.EROFS}
"""What a person mends by another path or by rights. A full or a broken disk is a failure: the edge is started again."""
FULL = {errno.ENOSPC, errno.EDQUOT}


class LazyGroup(TyperGroup):
    """Looks a command up by importing its room at that moment."""

    def list_commands(self, ctx: Any) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        if cmd_name not in COMMANDS:
            return None
        module, _, name = COMMANDS[cmd_name][0].partition(":")
        try:
            found = getattr(importlib.import_module(module), name)
        except ModuleNotFoundError as e:
            return _not_installed(cmd_name, _needs(cmd_name, e))
        app = found if isinstance(found, typer.Typer) else _single(found)
        command = typer.main.get_command(app)
        command.name = cmd_name
        return command


def _single(function: Any) -> typer.Typer:
    app = typer.Typer(add_completion=False)
    app.command()(function)
    return app


def _needs(command: str, error: ModuleNotFoundError) -> InputError:
    """What to install. A whole room may be absent, as in an image for the edge, or what a room needs; a module missing
    inside one of ours is our mistake."""
    room, _, inside = (error.name or "").partition(".")
    if command not in COMMANDS or (inside and room in OURS):
        raise error
    extra = COMMANDS[command][1]
    how = f"pip install 'haltline[{extra}]'" if extra else "pip install haltline"
    return InputError(f"haltline {command}", f"needs {error.name}", how)


def _not_installed(name: str, needs: InputError) -> Any:
    def tell() -> None:
        raise needs

    tell.__doc__ = f"(not installed: {escape(needs.fix)})"
    lone = typer.Typer(add_completion=False)
    # Whatever was asked of it, the answer is the same.
    lone.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})(tell)
    command = typer.main.get_command(lone)
    command.name = name
    return command


app = typer.Typer(
    cls=LazyGroup,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Haltline watches a production step and stops the line at a defect. Try `haltline demo` first.",
)


def _tell_version(asked: bool) -> None:
    if asked:
        typer.echo(f"haltline {version('haltline')}")
        raise typer.Exit


@app.callback()
def _main(
    _version: Annotated[
        bool, typer.Option("--version", callback=_tell_version, is_eager=True, help="Say which version this is.")
    ] = False,
) -> None:
    """Keeps the group a group, whatever is mounted."""


def main() -> None:
    """Exit codes: 0 done, 1 failed or found not ok, 2 wrong input, which the message says how to mend."""
    try:
        app(prog_name="haltline")
    except ModuleNotFoundError as e:
        # Commands load what they need when they run, so that `--help` does not wait for torch.
        sys.stderr.write(f"{_needs(next(iter(sys.argv[1:]), ''), e)}\n")
        raise SystemExit(2) from None
    except InputError as e:
        sys.stderr.write(f"{e}\n")
        raise SystemExit(2) from None
    except HaltlineError as e:
        sys.stderr.write(f"{type(e).__name__}: {e}\n")
        raise SystemExit(1) from None
    except OSError as e:
        # An edge whose disk or device comes back must start again, which systemd does after any end but 2.
        if sys.argv[1:3] == ["edge", "run"]:
            raise
        if e.errno in FULL:
            where = f"{e.filename2 or e.filename}: " if e.filename else ""
            sys.stderr.write(f"{where}{e.strerror}\n  fix: make room on the disk it is written to, and type it again\n")
            raise SystemExit(1) from None
        if not isinstance(e.filename, str | Path) or e.errno not in WRONG_PATH:
            raise
        fix = "name a path that you may read or write there, or mend its rights"
        sys.stderr.write(f"{InputError(e.filename, e.strerror or str(e), fix)}\n")
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
