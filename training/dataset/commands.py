"""`haltline dataset`: put pictures together for training, look at them, check them."""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from itertools import chain
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from inspection.errors import DatasetError
from inspection.exchange import FORMS
from inspection.samples import Split
from training.dataset.build import Looking, Shares, build, uneven
from training.dataset.clips import classes_in, import_clips, read_intervals
from training.dataset.crops import Cut, crop_items
from training.dataset.diff import Diff, diff
from training.dataset.export import export_snapshot
from training.dataset.item import Item, Names, Target, class_name
from training.dataset.leaks import Claim, Leaks
from training.dataset.origin import lineage
from training.dataset.snapshot import SnapshotManifest, read_snapshot
from training.dataset.snapshot import verify as verify_snapshot
from training.dataset.sources import Format, check_renamed, make_target, open_source, plain_book, read_book
from training.dataset.suspects import suspects

dataset = typer.Typer(
    add_completion=False, help="Put labelled pictures together for training: import, look, check.", no_args_is_help=True
)

LINES_SHOWN = 20

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
    task: Annotated[
        str | None,
        typer.Option(help="Name of the inspection task, e.g. weld; else what the source is called, or lies in."),
    ] = None,
    classes: Annotated[
        str | None,
        typer.Option(
            help="Class names with commas, in the order of mask values. With a single one every defect is it."
        ),
    ] = None,
    rename: Annotated[
        list[str] | None,
        typer.Option(
            metavar="THEIRS=OURS", help='What the source calls a class, and its name here, or good: "Good Weld=good".'
        ),
    ] = None,
    unlabelled_good: Annotated[
        bool,
        typer.Option(
            "--unlabelled-good",
            help="Pictures that no mask, box or label file is of are good. Without this they are refused.",
        ),
    ] = False,
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
    force_split: Annotated[
        bool,
        typer.Option("--force-split", help="Keep groups and splits as they come, whatever shows one scene twice."),
    ] = False,
    look: Annotated[
        bool, typer.Option(help="Look for pictures of one scene in several groups (1,000 pictures: half a minute).")
    ] = True,
) -> None:
    """Import labelled pictures into a snapshot: checked, without duplicates, split so that no part is on both sides."""
    if px_per_mm is not None and not 0 < px_per_mm < 1e6:
        raise DatasetError("--px-per-mm", f"is {px_per_mm:g}", "write how many px of a picture are 1 mm, above 0")
    if stride is not None and crop is None:
        raise DatasetError("--stride", f"is {stride}, and nothing is cut", "say how large with --crop, or leave it out")
    names = Names.of(rename or [])
    opened = [open_source(path, format, only, names) for path in sources]
    if only is not None and not any(s.format is Format.TABLE for s in opened):
        raise DatasetError("--only", f"is {only!r}, and no source is a CSV table", "leave it out, or name the table")
    check_renamed(names, opened)
    if unlabelled_good and not any(s.lacks_labels for s in opened):
        raise DatasetError(
            "--unlabelled-good",
            f"is asked for, and {opened[0].format} says itself which pictures are its own",
            "leave it out; import a folder good/ with the others as a source beside this one",
        )
    target = make_target(opened, task, classes, label_book, px_per_mm, names)
    target = replace(target, unlabelled_good=unlabelled_good)
    items: Iterator[Item] = chain.from_iterable(s.items(target) for s in opened)
    if resplit:
        items = (replace(item, split=None) for item in items)
    came: set[Split] = set()
    doubts: list[str] = []
    uncut: list[str] = []
    unmarked: list[str] = []
    items = _noting(items, doubts, unmarked, came)
    if crop:
        items = crop_items(items, _cut(crop, stride), uncut)
    looking = Looking.FORCE if force_split else Looking.JOIN if look else Looking.SKIP
    manifest = build(items, out, target, Shares(val, test, seed), tuple(str(s) for s in sources), looking)
    console = Console()
    console.print(f"[bold]{manifest.id}[/bold] in {out}")
    if manifest.duplicates_dropped:
        console.print(f"{manifest.duplicates_dropped} pictures were there already and are left out")
    _print_counts(console, manifest)
    _print_note(console, manifest)
    _print_list(console, "in doubt", doubts, "")
    if unmarked:
        console.print(
            f"[yellow]{len(unmarked)} pictures are listed without a mark and count as good[/yellow], such as "
            f"{escape(unmarked[0])}: those that nobody has looked at yet must not be in the export",
            highlight=False,
            soft_wrap=True,
        )
    _print_list(console, "left out: a crop's label follows from its mask, and they have none", uncut, "")
    if warning := uneven(read_snapshot(out).samples, Shares(val, test, seed)):
        console.print(f"[yellow]{escape(warning)}[/yellow]")
    for split, counts in manifest.counts.items():
        if not counts["samples"]:
            console.print(f"[yellow]no picture is for {split}[/yellow]: see --val, --test and --resplit")
        elif "train" in came and split not in came:
            console.print(f"the sources keep no picture for {split}: these are of their train (--{split})")
        untold = [c for c in manifest.classes if manifest.counts["train"][c] and not counts[c]]
        if counts["samples"] and untold:
            console.print(f"no picture for {split} shows {', '.join(untold)}: see --seed, --{split} and --resplit")
    bad = {split: counts["samples"] - counts["good"] for split, counts in manifest.counts.items()}
    if any(bad.values()) and not bad["train"]:
        console.print("[yellow]every picture for train is good[/yellow]: --resplit, or `haltline train good-parts`")


@dataset.command("import-clips")
def import_clips_(
    videos: Annotated[list[Path], typer.Argument(help="Films of the process, one for each part or shift.")],
    intervals: Annotated[
        Path, typer.Option(help="CSV with video,start_s,end_s,label: good, a class, or several joined by +.")
    ],
    out: Annotated[Path, typer.Option(help="The snapshot's folder. It must not exist: a snapshot never changes.")],
    task: Annotated[str, typer.Option(help="Name of the inspection task, e.g. weld.")] = "clips",
    label_book: Annotated[Path | None, typer.Option(help="Label book (JSON); else one of the labels' classes.")] = None,
    px_per_mm: Annotated[float | None, typer.Option(help="Scale of the films.")] = None,
    every: Annotated[int, typer.Option(min=1, help="Take each so-many-th frame.")] = 1,
    val: Annotated[float, typer.Option(help="Share of films for validation.")] = 0.15,
    test: Annotated[float, typer.Option(help="Share of films for the test.")] = 0.15,
    seed: Annotated[int, typer.Option(help="Another seed deals the films out differently.")] = 0,
) -> None:
    """Import films with labelled stretches, frame by frame and in order, to train a model that remembers (--frames)."""
    told = read_intervals(intervals)
    book = read_book(label_book) if label_book else plain_book(class_name(task, "--task"), classes_in(told))
    target = Target(book.task, book, px_per_mm)
    doubts: list[str] = []
    items = _noting(import_clips(videos, told, target, every), doubts, [], set())
    # Frames of one film are alike and all of one group; whether two films show one part, their names must say.
    manifest = build(items, out, target, Shares(val, test, seed), tuple(map(str, videos)), Looking.SKIP)
    console = Console()
    console.print(f"[bold]{manifest.id}[/bold] in {out}; next: haltline train {out} --frames 8")
    _print_counts(console, manifest)
    _print_list(console, "in doubt", doubts, "")


@dataset.command()
def show(snapshot: SnapshotFolder) -> None:
    """Show what a snapshot holds: pictures, groups and classes per split, and the rules its labels follow."""
    manifest = read_snapshot(snapshot).manifest
    console = Console()
    console.print(f"[bold]{manifest.id}[/bold]  task {manifest.task}, made {manifest.created_utc}")
    console.print(f"from {', '.join(manifest.sources)}; {manifest.duplicates_dropped} duplicates left out")
    _print_counts(console, manifest)
    _print_note(console, manifest)
    for rule in manifest.label_book.rules:
        console.print(f"{manifest.label_book.id} {rule.cls}: {rule.rule} (limit {rule.limit_mm:g} mm)")


@dataset.command()
def verify(snapshot: SnapshotFolder) -> None:
    """Read every picture and mask again and compare it with its hash; exit code 2 when one differs."""
    found = verify_snapshot(snapshot)
    Console().print(f"{found.manifest.id}: {len(found.samples)} pictures, all as they were")


def _print_note(console: Console, manifest: SnapshotManifest) -> None:
    note = manifest.leaks
    if note is None:
        console.print(
            "[yellow]nobody looked for pictures of one scene in several groups[/yellow]: haltline dataset leaks"
        )
    elif note.forced and note.crossing:
        console.print(
            f"[yellow]{note.crossing} pairs of pictures show one scene on both sides of the split[/yellow], which was "
            "forced: figures from this snapshot claim too much; haltline dataset leaks says how much"
        )
    elif note.pairs or note.joined:
        console.print(
            f"{note.pairs} pairs show one scene in several groups; {note.joined} groups were joined to others"
        )


@dataset.command()
def export(
    snapshot: SnapshotFolder,
    form: Annotated[str, typer.Option("--format", help=f"One of {', '.join(FORMS)}.")],
    out: Annotated[Path, typer.Option(help="The folder to write. It must not exist.")],
) -> None:
    """Write a snapshot as COCO, Label Studio, YOLO, MVTec AD or masks; `haltline dataset import` reads each back."""
    if form not in FORMS:
        raise DatasetError("--format", f"is {form!r}", f"write one of {', '.join(FORMS)}")
    written = export_snapshot(read_snapshot(snapshot), form, out)
    console = Console()
    console.print(f"{len(written.pictures)} pictures in {out}")
    if written.left_out:
        console.print(f"[yellow]{len(written.left_out)} left out[/yellow]: of several classes, or labelled and nobody")
        console.print(f"said where, which {form} has no word for; label-studio keeps them")


@dataset.command("diff")
def diff_(
    a: SnapshotFolder,
    b: SnapshotFolder,
    as_json: Annotated[bool, typer.Option("--json", help="Everything, for machines.")] = False,
) -> None:
    """What changed from snapshot A to snapshot B: pictures, labels, splits, masks. Exit code 1 when anything did."""
    found = diff(read_snapshot(a), read_snapshot(b))
    if as_json:
        typer.echo(json.dumps(asdict(found), indent=1))
    else:
        _print_diff(Console(), found)
    if found.changed:
        raise typer.Exit(1)


def _print_diff(console: Console, found: Diff) -> None:
    console.print(f"{found.a} -> {found.b}: {found.same} pictures as they were")
    for word, names in (("added", found.added), ("removed", found.removed), ("other rules, same label", found.rules)):
        _print_list(console, word, names)
    _print_list(
        console,
        "relabelled",
        [f"{r.image}: {_said(r.before)} -> {_said(r.after)} ({r.rules[0]} -> {r.rules[1]})" for r in found.relabelled],
    )
    _print_list(console, "moved to another split", [f"{image}: {x} -> {y}" for image, x, y in found.moved])
    _print_list(console, "in another group", [f"{image}: {x} -> {y}" for image, x, y in found.regrouped])
    redrawn = [f"{r.image}: IoU {', '.join(f'{cls} {v:.2f}' for cls, v in r.iou.items())}" for r in found.redrawn]
    _print_list(console, "redrawn, least alike first", redrawn)
    other = [f"{o.image}: {'; '.join(_turned(*change) for change in o.changes.items())}" for o in found.other]
    _print_list(console, "changed in something else", other)


def _print_list(console: Console, word: str, lines: list[str], rest: str = ": --json shows all") -> None:
    if lines:
        console.print(f"[bold]{len(lines)} {word}[/bold]")
        for line in lines[:LINES_SHOWN]:
            console.print(f"  {escape(line)}", highlight=False, soft_wrap=True)
        if len(lines) > LINES_SHOWN:
            console.print(f"  and {len(lines) - LINES_SHOWN} more{rest}")


def _turned(name: str, values: tuple[object, object]) -> str:
    """`px_per_mm 5.0 -> 50.0`; lists are too long for a line."""
    return name if any(isinstance(v, list) for v in values) else f"{name} {values[0] or '-'} -> {values[1] or '-'}"


def _said(labels: tuple[str, ...]) -> str:
    return " + ".join(labels) or "good"


dataset.command()(suspects)
dataset.command()(lineage)


def _noting(items: Iterator[Item], doubts: list[str], unmarked: list[str], came: set[Split]) -> Iterator[Item]:
    """The same items; what is odd about one is appended to `doubts`, what is unmarked to `unmarked`, what one is for is
    put into `came`."""
    for item in items:
        if item.split:
            came.add(item.split)
        if item.doubt:
            doubts.append(f"{item.where}: {item.doubt}")
        if item.unmarked:
            unmarked.append(item.where)
        yield item


def _print_counts(console: Console, manifest: SnapshotManifest) -> None:
    table = Table()
    columns = ("samples", "groups", "good", *manifest.classes)
    for column in ("split", *columns):
        table.add_column(column, justify="left" if column == "split" else "right")
    for split, counts in manifest.counts.items():
        table.add_row(split, *(str(counts[c]) for c in columns))
    console.print(table)


@dataset.command()
def leaks(
    snapshot: SnapshotFolder,
    out: Annotated[
        Path | None, typer.Option(help="Write the proposed groups here: image, given, proposed (CSV).")
    ] = None,
    show: Annotated[int, typer.Option(min=0, help="How many pairs that cross the split to name.")] = 5,
    fail: Annotated[
        bool, typer.Option("--fail", help="Exit code 1 when a scene is on both sides of the split.")
    ] = False,
) -> None:
    """Find pictures of one scene by their pixels alone, propose groups, say what a leaky split would have claimed."""
    from training.dataset import leaks as of

    data = read_snapshot(snapshot)
    console = Console()
    with console.status("comparing pictures"):
        found = of.look(data.folder, data.samples)
        claimed = of.claims(data, found)
    for line in leak_lines(found, claimed, show):
        console.print(line)
    if out:
        _write_groups(out, found)
        console.print(f"proposed groups in {out}")
    if fail and found.crossing:
        raise typer.Exit(1)


def leak_lines(found: Leaks, claimed: Sequence[Claim], show: int) -> Iterator[str | Table]:
    """What was found, for people."""
    from training.dataset.leaks import agreement

    with_given = agreement(found.proposed, [s.group for s in found.samples])
    same_file = sum(p.same_file for p in found.pairs)
    yield (
        f"{len(found.pairs)} pairs of {len(found.samples)} pictures show one scene, {same_file} of them as good as the "
        f"same file: {found.bursts} bursts, {len(set(found.proposed))} groups proposed"
    )
    yield (
        f"against the {with_given.given} groups given: {with_given.exact} found exactly; pairs found that are given "
        f"{with_given.precision:.1%}, pairs given that are found {with_given.recall:.1%}; {len(found.across)} pairs "
        "lie across the given groups"
    )
    spoilt, test = found.spoilt()
    if test:
        yield f"{spoilt} of {test} test pictures ({spoilt / test:.1%}) have a sibling in training"
    worst = sorted(found.crossing, key=lambda p: -p.likeness)[:show]
    for p in worst:
        a, b = found.samples[p.a], found.samples[p.b]
        yield f"  {p.likeness:.2f} {p.mirror} {a.split} {a.image} ({a.group})  {b.split} {b.image} ({b.group})"
    if claimed:
        table = Table("class", "defective", "split by picture", "by given group", "by proposed group")
        for c in claimed:
            ap = (c.by_picture, c.by_given_group, c.by_proposed_group)
            table.add_row(c.cls, str(c.defective), *(f"{v:.3f}" for v in ap))
        yield "image AP of a nearest-neighbour proxy (no model: each picture is called what its most alike one is):"
        yield table


def _write_groups(path: Path, found: Leaks) -> None:
    rows = zip(found.samples, found.proposed, strict=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        lines = csv.writer(file, lineterminator="\n")
        lines.writerow(("image", "given", "proposed"))
        lines.writerows((s.image, s.group, group) for s, group in rows)


def _cut(crop: str, stride: int | None) -> Cut:
    width, height = parse_size(crop, "--crop")
    return Cut(width, height, width // 2 if stride is None else stride)


def parse_size(text: str, option: str) -> tuple[int, int]:
    """`320x256` -> (320, 256)."""
    width, _, height = text.partition("x")
    if not re.fullmatch(r"[0-9]{1,5}x[0-9]{1,5}", text):
        raise DatasetError(option, f"is {text!r}", "write width x height in px, e.g. 320x256")
    return int(width), int(height)
