"""`haltline dataset suspects`: labels a model disagrees with that never saw their pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from inspection.suspects import SUSPECTS_FILE
from training.dataset.snapshot import read_snapshot


def suspects(
    snapshot: Annotated[Path, typer.Argument(help="A snapshot that `haltline dataset import` made.")],
    out: Annotated[Path, typer.Option(help="A folder for the runs and suspects.jsonl. Stopped, it goes on here.")],
    folds: Annotated[int, typer.Option(min=2, max=20, help="Models trained, each without one part of the groups.")] = 5,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes of each model (default 20, more if there are few pictures).")
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="The networks' input in px, multiples of 16; default the pictures', shrunk to about 320x256."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures, same machine: the same list.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """List labels and outlines that are probably wrong (confident learning), for `haltline review suspects`."""
    data = read_snapshot(snapshot)
    from training.dataset.commands import parse_size
    from training.train_cli import one_thread_waits

    one_thread_waits()
    from training.defaults import ask_of, own_encoder
    from training.out_of_fold import out_of_fold
    from training.out_of_fold import suspects as doubtful

    in_px = parse_size(size, "--size") if size else None
    ask = ask_of(data, own_encoder(), in_px, epochs=epochs, seed=seed, threads=threads)
    console = Console()
    with console.status(f"training {folds} models") as status:
        found = out_of_fold(
            data, out, ask, folds, lambda step, total, _now: status.update(f"step {step} of {total}, {folds} models")
        )
    lines = doubtful(found, data.manifest.classes, data.manifest.id)
    (out / SUSPECTS_FILE).write_text("".join(line.model_dump_json() + "\n" for line in lines), encoding="utf-8")
    images = sum(line.kind == "image" for line in lines)
    console.print(
        f"{images} labels and {len(lines) - images} outlines of {len(data.samples)} pictures in doubt: "
        f"{out / SUSPECTS_FILE}; next: haltline review suspects {out / SUSPECTS_FILE}"
    )
