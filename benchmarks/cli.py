"""`haltline bench …`: every figure the README quotes."""

from __future__ import annotations

from typing import Annotated

import typer

app = typer.Typer(
    no_args_is_help=True, add_completion=False, help="Measure on this machine what the README quotes; exit 1 on a miss."
)

AsJson = Annotated[bool, typer.Option("--json", help="A list of figure, value, unit, goal, ok, machine.")]


@app.callback()
def _main() -> None:
    """Keeps the group a group."""


@app.command()
def edge(
    as_json: AsJson = False,
    halts: Annotated[int, typer.Option(min=10, help="How many halts are timed.")] = 300,
    blocks: Annotated[int, typer.Option(min=3, help="How many pairs of throughput runs.")] = 9,
    seconds: Annotated[float, typer.Option(min=2, help="How long the edge runs at 30 frames/s.")] = 20,
) -> None:
    """Halt latency over a real broker, throughput against bare onnxruntime, memory, CPU, start-up."""
    from benchmarks.edge import measure
    from benchmarks.figures import tell
    from edge.cli import set_up_logging

    set_up_logging("quiet")
    tell(measure(halts, blocks, seconds), as_json=as_json)
