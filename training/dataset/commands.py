"""`haltline dataset`: put pictures together for training, look at them, check them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from inspection.errors import DatasetError
from training.dataset.build import Shares, build
from training.dataset.crops import Cut, crop_items
from training.dataset.item import Item
from training.dataset.snapshot import SnapshotManifest, read_snapshot
from training.dataset.snapshot import verify as verify_snapshot
from training.dataset.sources import Format, make_target, open_source

dataset = typer.Typer(
    add_completion=False, help="Put labelled pictures together for training: import, look, check.", no_args_is_help=True
)

SnapshotFolder = Annotated[Path, typer.Argument(help="A snapshot that `haltline dataset import` made.")]


@dataset.command("import")
def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(help="One or more folders or files of labelled pictures. They are merged into one snapshot."),
    ],
    out: Annotated[Path, typer.Option(help="The snapshot's folder. It must not exist: a snapshot never changes.")],
    format: Annotated[
        Format, typer.Option(help="How the sources are laid out; auto looks at their files.")
    ] = Format.AUTO,
    task: Annotated[str | None, typer.Option(help="Name of the inspection task, e.g. weld.")] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Class names with commas, in the order of mask values. With a single one every defect is it."
        ),
    ] = None,
    label_book: Annotated[
        Path | None, typer.Option(help="Label book (JSON) with the rules in mm; else the sources' own.")
    ] = None,
    px_per_mm: Annotated[
        float | None, typer.Option(help="Scale of pictures that state none. Without any, lengths are in px.")
    ] = None,
    only: Annotated[str | None, typer.Option(help="Of a CSV table, the rows of this data set only.")] = None,
    crop: Annotated[
        str | None,
        typer.Option(help="Cut pictures into crops of WIDTHxHEIGHT px, labelled by their own masks, e.g. 320x256."),
    ] = None,
    stride: Annotated[int | None, typer.Option(help="Px between two crops; default half a crop's width.")] = None,
    val: Annotated[float, typer.Option(help="Share of groups for validation: limits are chosen on them.")] = 0.15,
    test: Annotated[float, typer.Option(help="Share of groups for the test: the figures come from them.")] = 0.15,
    resplit: Annotated[
        bool, typer.Option(help="Deal the groups out anew, whatever split the sources suggest.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Another seed deals the groups out differently.")] = 0,
) -> None:
    """Import labelled pictures into a snapshot: checked, without duplicates, split so that no part is on both sides."""
    opened = [open_source(path, format, only) for path in sources]
    target = make_target(opened, task, classes, label_book, px_per_mm)
    items: Iterator[Item] = chain.from_iterable(s.items(target) for s in opened)
    if resplit:
        items = (replace(item, split=None) for item in items)
    if crop:
        items = crop_items(items, _cut(crop, stride))
    manifest = build(items, out, target, Shares(val, test, seed), tuple(str(s) for s in sources))
    console = Console()
    console.print(f"[bold]{manifest.id}[/bold] in {out}")
    _print_counts(console, manifest)
    for split, counts in manifest.counts.items():
        if not counts["samples"]:
            console.print(f"[yellow]no picture is for {split}[/yellow]: see --val, --test and --resplit")


@dataset.command()
def show(snapshot: SnapshotFolder) -> None:
    """Show what a snapshot holds: pictures, groups and classes per split, and the rules its labels follow."""
    manifest = read_snapshot(snapshot).manifest
    console = Console()
    console.print(f"[bold]{manifest.id}[/bold]  task {manifest.task}, made {manifest.created_utc}")
    console.print(f"from {', '.join(manifest.sources)}; {manifest.duplicates_dropped} duplicates left out")
    _print_counts(console, manifest)
    for rule in manifest.label_book.rules:
        console.print(f"{manifest.label_book.id} {rule.cls}: {rule.rule} (limit {rule.limit_mm:g} mm)")


@dataset.command()
def verify(snapshot: SnapshotFolder) -> None:
    """Read every picture and mask again and compare it with its hash; exit code 2 when one differs."""
    found = verify_snapshot(snapshot)
    Console().print(f"{found.manifest.id}: {len(found.samples)} pictures, all as they were")


def _print_counts(console: Console, manifest: SnapshotManifest) -> None:
    table = Table()
    columns = ("samples", "groups", "good", *manifest.classes)
    for column in ("split", *columns):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, counts in manifest.counts.items():
        table.add_row(split, *(str(counts[c]) for c in columns))
    console.print(table)


def _cut(crop: str, stride: int | None) -> Cut:
    width, height = parse_size(crop, "--crop")
    return Cut(width, height, stride or width // 2)


def parse_size(text: str, option: str) -> tuple[int, int]:
    """`320x256` -> (320, 256)."""
    width, _, height = text.partition("x")
    if not (width.isdigit() and height.isdigit()):
        raise DatasetError(option, f"is {text!r}", "write width x height in px, e.g. 320x256")
    return int(width), int(height)
