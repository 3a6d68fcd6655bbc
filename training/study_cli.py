"""`haltline train compare-backbones | ablate | good-parts`: small studies, and a model from good parts only.

Importing this file loads no torch.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Column, Table

from inspection.errors import ConfigError
from training.dataset.snapshot import read_snapshot
from training.train_cli import (
    PixelRange,
    PixelsOption,
    SizeOption,
    SnapshotFolder,
    chosen_variations,
    input_size_of,
    one_thread_waits,
    read_key,
    train,
)

if TYPE_CHECKING:
    from training.backbones import Backbone


@train.command("compare-backbones")
def compare_backbones(
    snapshot: SnapshotFolder,
    names: Annotated[
        str, typer.Option("--backbones", help="Encoders with commas: own, own:24 for another width, timm names.")
    ] = "own,own:24",
    weights: Annotated[
        list[str] | None,
        typer.Option(
            help="NAME=FILE, NAME=hub or NAME=none, once for each backbone; for own a bundle or run (default the "
            "released one for 16 channels)."
        ),
    ] = None,
    pixels: PixelsOption = PixelRange.IMAGENET,
    frozen: Annotated[bool, typer.Option("--frozen", help="Leave timm's weights as they are.")] = False,
    minutes: Annotated[float, typer.Option(help="Training time of each.")] = 2.0,
    size: SizeOption = None,
    seed: Annotated[int, typer.Option(help="Same seed, same order of pictures.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Keep the runs and the table as JSON here.")] = None,
) -> None:
    """Train each encoder for the same time and say what it reaches on this task, on validation groups, and costs."""
    data = read_snapshot(snapshot)
    one_thread_waits()
    from training.backbones import Backbone
    from training.defaults import encoder_weights
    from training.network import SIZES
    from training.studies import compare

    files = dict(_named_weights(weights or []))
    chosen, used = list[tuple["Backbone", int]](), set[str]()
    for name in filter(None, names.split(",")):
        bare, _, width = name.partition(":")
        if width and not re.fullmatch("[0-9]{1,3}", width):
            raise ConfigError("--backbones", f"names {name!r}", "write a width as a number, e.g. own:24")
        wide = int(width or SIZES["S"].channels)
        used |= {name, bare} & set(files)
        begins = encoder_weights(bare, wide, files.get(name, files.get(bare)))
        options = {} if bare == "own" else {"pixels": pixels.value, "frozen": frozen}
        chosen.append((Backbone(name=bare, weights=begins, **options), wide))
    if not chosen:
        raise ConfigError("--backbones", "names none", "e.g. own,own:24")
    if left := sorted(set(files) - used):
        raise ConfigError("--weights", f"names {left[0]}, which is not compared", "add it to --backbones")
    in_px = input_size_of(size) if size else None
    rows = compare(data, chosen, in_px, minutes, seed, threads, out, _tell)
    figures = ("weights M", "epochs", "image AP", "pixel AP", "recall at 1 %", "ms p50", "ms p99")
    # Names are folded, not cut: on 80 columns a row must still say which encoder it is.
    table = Table(
        *(Column(c, overflow="fold") for c in ("encoder", "starts from")), *figures, padding=(0, 0), pad_edge=False
    )
    for r in rows:
        table.add_row(
            r.name, r.start, f"{r.weights / 1e6:.2f}", str(r.epochs),
            *(f"{v:.3f}" for v in (r.image_ap, r.pixel_ap, r.recall)),
            f"{r.ms_p50:.1f}", f"{r.ms_p99:.1f}",
        )  # fmt: skip
    Console().print(table)


@train.command()
def ablate(
    snapshot: SnapshotFolder,
    epochs: Annotated[int, typer.Option(min=1, help="Passes of each run.")] = 8,
    seeds: Annotated[int, typer.Option(min=1, help="Runs of each setting; the spread is the yardstick.")] = 1,
    size: SizeOption = None,
    only: Annotated[str, typer.Option(help="Variations to try, with commas; default all.")] = "",
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    out: Annotated[Path | None, typer.Option(help="Keep the runs and the table as JSON here.")] = None,
) -> None:
    """The recipe with one variation left out (or put in) at a time, judged on validation groups. Short on purpose:
    what counts is the difference."""
    data = read_snapshot(snapshot)
    chosen_variations(only, "")  # refuses a strange name
    one_thread_waits()
    from training.studies import ablation

    names = tuple(n for n in only.split(",") if n)
    in_px = input_size_of(size) if size else None
    rows = ablation(data, in_px, epochs, seeds, threads, names, out, _tell)
    table = Table("recipe", "image AP", "change", "pixel AP", "change", "recall at 1 %")
    for r in rows:
        table.add_row(
            r.name, f"{r.image_ap:.3f}", f"{r.image_ap - rows[0].image_ap:+.3f}", f"{r.pixel_ap:.3f}",
            f"{r.pixel_ap - rows[0].pixel_ap:+.3f}", f"{r.recall:.3f}",
        )  # fmt: skip
    Console().print(table)


@train.command("good-parts")
def good_parts(
    snapshot: SnapshotFolder,
    out: Annotated[Path, typer.Option(help="The bundle's folder; it must not exist.")],
    name: Annotated[str | None, typer.Option(help="The bundle's name; default the task with -good.")] = None,
    version: Annotated[str, typer.Option(help="Its version, three numbers.")] = "0.1.0",
    backbone: Annotated[str, typer.Option(help="Whose features: own, or a timm model's name with --weights.")] = "own",
    weights: Annotated[
        str | None,
        typer.Option(
            help="What the encoder has learnt: for own a bundle or run of ours (default the released one), for "
            "timm's a file with a state_dict, or hub."
        ),
    ] = None,
    pixels: PixelsOption = PixelRange.IMAGENET,
    size: SizeOption = None,
    key: Annotated[Path | None, typer.Option(help="Sign with this ed25519 private key (PEM).")] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """A bundle from good parts only: what is far from all of them is called. One class, limits from held-out parts."""
    data = read_snapshot(snapshot)
    one_thread_waits()
    import torch

    from training.backbones import OWN, Backbone
    from training.defaults import encoder_weights, input_size
    from training.good_parts_bundle import WIDTH, make

    torch.set_num_threads(threads)
    begins = encoder_weights(backbone, WIDTH, weights)
    chosen = Backbone(name=backbone, weights=begins, pixels=pixels.value, frozen=backbone != OWN)
    with Console().status("remembering good parts"):
        done = make(
            data,
            out,
            name or f"{data.manifest.task.replace('_', '-')}-good",
            version,
            chosen,
            input_size_of(size) if size else input_size(data),
            key=read_key(key) if key else None,
        )
    console = Console()
    console.print(
        f"{done.manifest.id} in {done.folder}; limits from {done.limits.good} good and {done.limits.defects} defective "
        f"held-out pictures: at most {done.limits.promised:.1%} of good parts are expected to be called"
    )
    if done.figures:
        c = done.figures.classes[0]
        console.print(f"test pictures: image AP {c.image_ap.value:.3f}, caught {done.figures.caught}, "
                      f"missed {done.figures.missed}, false stops {done.figures.false_stops}")  # fmt: skip


def _named_weights(given: list[str]) -> list[tuple[str, str]]:
    pairs = [text.partition("=") for text in given]
    for name, equals, where in pairs:
        if not (name and equals and where):
            raise ConfigError("--weights", f"is {name!r}", "write NAME=FILE or NAME=hub")
    return [(name, where) for name, _, where in pairs]


def _tell(words: str) -> None:
    """A study says what it is at, run by run, beside its table."""
    Console(stderr=True).print(words)
