"""Parses command lines of documents and configurations as the `haltline` command itself would, running nothing."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from typing import Any

import typer

import haltline


def parse(words: Sequence[str]) -> dict[str, Any]:
    """`["edge", "run", "x.yaml"]` -> its parameters; click's error when a command, option or value is unknown."""
    command: Any = typer.main.get_command(haltline.app)
    rest, name = list(words), "haltline"
    while hasattr(command, "resolve_command"):
        context = command.context_class(command, info_name=name)
        found, command, rest = command.resolve_command(context, rest)
        assert command is not None, f"no command {found or rest[:1]} in {' '.join(words)}"
        name = found or name
    parameters: dict[str, Any] = command.make_context(name, rest).params
    return parameters


def in_shell_blocks(text: str) -> list[list[str]]:
    """The words of every command in ```sh blocks, with continued lines joined."""
    blocks = text.split("```sh\n")[1:]
    lines = "\n".join(block.split("```")[0] for block in blocks).replace("\\\n", " ").splitlines()
    return [shlex.split(line, comments=True) for line in lines if line.strip()]
