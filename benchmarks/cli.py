"""`haltline bench …`: every figure the README quotes."""

from __future__ import annotations

from pathlib import Path
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
    seconds: Annotated[float, typer.Option(min=2, help="How long the edge is watched at 30 frames/s.")] = 20,
) -> None:
    """Halt latency over a real broker, throughput against bare onnxruntime, memory, CPU, start-up."""
    from benchmarks.edge import measure
    from benchmarks.figures import tell
    from inspection.log import set_up_logging

    set_up_logging("quiet")
    tell(measure(halts, blocks, seconds), as_json=as_json)


@app.command()
def review(
    as_json: AsJson = False,
    quick: Annotated[bool, typer.Option(help="20 s and a fiftieth of the rows instead of 15 minutes.")] = False,
    keep: Annotated[Path | None, typer.Option(help="Folder that keeps the filled database for the next run.")] = None,
    only: Annotated[str, typer.Option(help="load, or pages: one half of it.")] = "",
) -> None:
    """A hub with 200 stations, 20 browsers, 1,000,000 alarms and 10,000,000 records (docs/hub.md)."""
    from benchmarks.figures import tell
    from benchmarks.review import FULL, QUICK, measure

    if only not in ("", "load", "pages"):
        raise typer.BadParameter(f"{only!r} is neither load nor pages", param_hint="--only")
    if keep is not None:
        keep.mkdir(parents=True, exist_ok=True)
    tell(measure(QUICK if quick else FULL, keep, only), as_json=as_json)


@app.command()
def memory(
    as_json: AsJson = False,
    frames: Annotated[int, typer.Option(min=1000, help="So many frames are judged.")] = 100_000,
    task: Annotated[str, typer.Option(help="weld, scratch, or tiny for a model that takes a millisecond.")] = "weld",
) -> None:
    """Whether an edge stays as small as it began, over many frames (docs/speed.md)."""
    from benchmarks.figures import tell
    from benchmarks.memory import measure

    if task not in ("weld", "scratch", "tiny"):
        raise typer.BadParameter(f"{task!r} is none of weld, scratch, tiny", param_hint="--task")
    tell(measure(frames, task), as_json=as_json)


@app.command()
def inference(
    as_json: AsJson = False,
    rounds: Annotated[int, typer.Option(min=10, help="Inferences of each row, taken in turns.")] = 100,
    threads: Annotated[str, typer.Option(help="Threads of one inference, e.g. 1,2,4.")] = "1,2",
) -> None:
    """One inference by provider, precision and threads; what int8 gains; a large frame in tiles (docs/inference.md)."""
    from benchmarks.figures import tell
    from benchmarks.inference import measure
    from inspection.errors import ConfigError

    try:
        counts = tuple(int(part) for part in threads.split(","))
    except ValueError:
        counts = ()
    if not counts or not all(1 <= count <= 64 for count in counts):
        raise ConfigError("--threads", f"is {threads!r}", "give numbers from 1 to 64, e.g. 1,2")
    tell(measure(rounds, counts), as_json=as_json)
