"""`haltline dataset lineage`: by whom, under which rule, of which frame and part, and which model sent it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from inspection.errors import DatasetError
from inspection.label_book import LabelBook
from inspection.samples import Sample
from training.dataset.snapshot import Snapshot, read_snapshot


def lineage(
    snapshot: Annotated[Path, typer.Argument(help="A snapshot that `haltline dataset import` made.")],
    picture: Annotated[
        str, typer.Argument(help="A picture's name or hash, its record on the hub, or a part; left out: a summary.")
    ] = "",
    as_json: Annotated[bool, typer.Option("--json", help="A line a picture, for machines.")] = False,
) -> None:
    """Say of each label: by whom, under which rule, of which frame and part, and which model sent it."""
    data = read_snapshot(snapshot)
    if not picture and not as_json:
        _print_summary(Console(), data)
        return
    found = [s for s in data.samples if not picture or picture in (s.part, s.group) or _named(s, picture)]
    if not found:
        raise DatasetError(snapshot, f"has no picture, record or part {picture!r}", "see its samples.jsonl")
    for sample in found:
        of = origin(sample, data.manifest.label_book)
        if as_json:
            typer.echo(json.dumps(of, ensure_ascii=False))
        else:
            _print_one(Console(), of)


def origin(sample: Sample, book: LabelBook) -> dict[str, Any]:
    """Where one label comes from; empty where nobody said. `rules`: of the classes the book has, in words."""
    kind, _, named = sample.source.partition(":")
    return {
        "picture": sample.image,
        "labels": list(sample.labels),
        "labelled_by": list(sample.labelled_by),
        "label_book": sample.label_book or "",
        "rules": {r.cls: f"{r.rule} (limit {r.limit_mm:g} mm)" for r in book.rules},
        "frame": named.removeprefix("record=") if kind == "hub" else sample.source,
        "part": sample.part,
        "group": sample.group,
        "model": sample.model,
        "split": sample.split or "",
    }


def _named(sample: Sample, picture: str) -> bool:
    """By the start of its hash or record, as people copy them."""
    return sample.image.rpartition("/")[2].startswith(picture.rpartition("/")[2]) or sample.source.endswith(picture)


def _print_one(console: Console, of: dict[str, Any]) -> None:
    console.print(f"[bold]{of['picture']}[/bold]", highlight=False, soft_wrap=True)
    lines = {
        "labelled": " + ".join(of["labels"]) or "good",
        "by": ", ".join(of["labelled_by"]) or "nobody known",
        "under": f"{of['label_book'] or 'no label book'}: " + "; ".join(of["rules"].values()),
        "frame": of["frame"] or "unknown",
        "part": of["part"] or f"unknown, group {of['group']}",
        "sent by": of["model"] or "no model known",
        "used for": of["split"],
    }
    for word, said in lines.items():
        console.print(f"  {word:9} {said}", highlight=False, soft_wrap=True, markup=False)


def _print_summary(console: Console, data: Snapshot) -> None:
    console.print(f"[bold]{data.manifest.id}[/bold], {len(data.samples)} pictures")
    table = Table("labelled by", "label book", "sent by", "pictures", "without a part")
    for (people, book, model), of in _grouped(data.samples):
        table.add_row(people, book, model, str(of[0]), str(of[1]))
    console.print(table)


def _grouped(samples: Iterable[Sample]) -> list[tuple[tuple[str, str, str], tuple[int, int]]]:
    """(people, book, model) -> (pictures, of them without a part), the most pictures first."""
    pictures: Counter[tuple[str, str, str]] = Counter()
    partless: Counter[tuple[str, str, str]] = Counter()
    for s in samples:
        key = (", ".join(s.labelled_by) or "–", s.label_book or "–", s.model or "–")
        pictures[key] += 1
        partless[key] += not s.part
    return [(key, (n, partless[key])) for key, n in pictures.most_common()]
