"""The training room's commands, mounted by haltline.py. Importing this file loads no torch: help must be instant."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from inspection.errors import InputError
from training.dataset.commands import dataset
from training.dataset.snapshot import SPLITS, read_snapshot
from training.judge_cli import comparison_lines
from training.progress import progress_bar
from training.study_cli import compare_backbones  # noqa: F401  (its commands join `train`)
from training.train_cli import ViewsOption, one_thread_waits, read_key, train

if TYPE_CHECKING:
    from training.dataset.snapshot import Snapshot
    from training.evaluate import Figures
    from training.judging import JudgedPicture

WORST = 24  # pictures that `evaluate --pictures` writes

__all__ = ["dataset", "evaluate", "export", "quantize", "render", "train"]


def render(
    task: Annotated[str, typer.Argument(help="What to draw: weld or scratch.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
    count: Annotated[int, typer.Option(min=1, help="How many frames. Half or more of them are good.")] = 400,
    seed: Annotated[int, typer.Option(help="The same seed draws the same frames.")] = 0,
    clip_frames: Annotated[
        int | None,
        typer.Option(min=8, help="Draw clips of so many frames of a moving weld instead, to train with --frames."),
    ] = None,
) -> None:
    """Draw frames with known defects as a labelled folder, to train from before there is a camera."""
    from training.rendering import render_folder

    good = drawn = 0
    with progress_bar() as progress:
        bar = progress.add_task(f"drawing {task}", total=count - count % (clip_frames or 1))
        for sample in render_folder(task, out, count, seed, clip_frames):
            drawn, good = drawn + 1, good + (not sample.labels)
            progress.advance(bar)
    Console().print(f"{drawn} frames in {out}: {good} good, {drawn - good} with a defect over its limit")


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A model bundle, e.g. models/weld-0.3.0.")],
    snapshot: Annotated[Path, typer.Argument(help="A snapshot with pictures the model never saw.")],
    split: Annotated[str, typer.Option(help="Which part of the snapshot: test, val or train.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Write the worst pictures here, each beside its heat map: look at them.")
    ] = None,
    stream: Annotated[
        bool, typer.Option(help="Also run over a moving seam and count false halts (rendered tasks).")
    ] = True,
    page: Annotated[Path | None, typer.Option(help="Write figures and confusions as one HTML page here.")] = None,
    against: Annotated[
        Path | None, typer.Option(help="The bundle in service: is this one better? Exit code 1 when not to promote.")
    ] = None,
    must_catch: Annotated[
        Path | None, typer.Option(help="Pictures or groups that must never be passed, one a line; default all defects.")
    ] = None,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Judge a bundle as the edge would: what it catches, misses, stops for nothing and is unsure of."""
    data = read_snapshot(snapshot)
    if split not in SPLITS:
        raise InputError("--split", f"is {split!r}", f"write one of {', '.join(SPLITS)}")
    if must_catch and not against:
        raise InputError(
            "--must-catch",
            f"is {must_catch}, and no model is there to compare with",
            "give the one in service: --against",
        )
    from training.compare import compare, read_must_catch
    from training.evaluate import evaluate as run
    from training.moving import evaluate_stream
    from training.served import read_bundle

    served, old = read_bundle(bundle, threads), read_bundle(against, threads) if against else None
    wanted = read_must_catch(must_catch, data, split) if must_catch else None
    _check_writable(out, page, pictures)
    figures, judged = run(served, data, split)
    if stream:
        figures.stream.update(evaluate_stream(served, data.manifest.label_book))
    _print_figures(figures)
    if out:
        figures.write(out)
    if pictures:
        _write_pictures(pictures, data, judged)
    if page:
        from training.page import write_page

        card = bundle / "card.md"
        write_page(page, served.manifest.id, card.read_text() if card.exists() else "", figures, judged, data)
    if old:
        names = (old.manifest.id, served.manifest.id)
        found = compare(names, run(old, data, split)[1], judged, served.manifest.classes, wanted)
        for line in comparison_lines(found):
            Console().print(line)
        if not found.promote:
            raise typer.Exit(1)


def _check_writable(out: Path | None, page: Path | None, pictures: Path | None) -> None:
    """OSError before the minutes of judging, not after."""
    for path in (out, page):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            there = path.exists()
            path.open("ab").close()
            if not there:
                path.unlink()
    if pictures:
        pictures.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=pictures).close()


def _write_pictures(folder: Path, data: Snapshot, judged: list[JudgedPicture]) -> None:
    import cv2

    from training.dataset.item import decode, read_bytes
    from training.judging import overlay, worst_first

    folder.mkdir(parents=True, exist_ok=True)
    for number, picture in enumerate(worst_first(judged)[:WORST]):
        path = data.folder / picture.sample.image
        (folder / f"{number:02d}.png").write_bytes(
            cv2.imencode(".png", overlay(decode(read_bytes(path), path), picture))[1].tobytes()
        )


def export(
    run: Annotated[Path, typer.Argument(help="A finished run of `haltline train`.")],
    out: Annotated[Path | None, typer.Option(help="The bundle's folder; default models/<name>-<version>.")] = None,
    name: Annotated[str | None, typer.Option(help="The bundle's name; default the task.")] = None,
    version: Annotated[str, typer.Option(help="Its version, three numbers.")] = "0.1.0",
    key: Annotated[
        Path | None, typer.Option(help="Sign with this ed25519 private key (PEM). Edges can insist on it.")
    ] = None,
    snapshot: Annotated[Path | None, typer.Option(help="The run's snapshot, if it lies elsewhere now.")] = None,
    stream: Annotated[
        bool, typer.Option(help="Also judge it on a moving seam (rendered tasks, takes a minute).")
    ] = True,
    views: ViewsOption = 1,
) -> None:
    """Make a bundle an edge can serve: calibrated, checked against torch, judged on test pictures, with a card."""
    one_thread_waits()
    from training.checkpoint import read_config

    pem = read_key(key) if key else None
    name = name or read_config(run).task.replace("_", "-")
    target = out or Path("models") / f"{name}-{version}"
    from training.export import export as make

    with Console().status("calibrating, exporting, judging"):
        release = make(run, target, name, version, key=pem, snapshot=snapshot, stream=stream, views=views)
    if release.figures:
        _print_figures(release.figures)
    Console().print(
        f"{release.manifest.id} in {release.folder}; read {release.folder / 'card.md'} before it stops a line"
    )


def quantize(
    bundle: Annotated[Path, typer.Argument(help="The float bundle, e.g. models/weld-0.3.0.")],
    snapshot: Annotated[Path, typer.Option(help="The snapshot it was trained on.")],
    out: Annotated[Path, typer.Option(help="The int8 bundle's folder; it must not exist.")],
    name: Annotated[str | None, typer.Option(help="Its name; default the bundle's with -int8.")] = None,
    version: Annotated[str | None, typer.Option(help="Its version; default the bundle's.")] = None,
    key: Annotated[Path | None, typer.Option(help="Sign with this ed25519 private key (PEM).")] = None,
    reduce_range: Annotated[
        bool, typer.Option("--reduce-range", help="Weights of 7 bits, for processors without VNNI (see edge doctor).")
    ] = False,
    max_ap_loss: Annotated[float, typer.Option(help="Refuse to lose more image AP than this.")] = 0.003,
    max_flips: Annotated[float, typer.Option(help="Refuse when more of the calls than this share change.")] = 0.005,
) -> None:
    """Make an int8 twin of a bundle: faster where the processor has VNNI, its loss measured, refused above a bound."""
    pem = read_key(key) if key else None
    one_thread_waits()
    from training.quantize import quantize as make

    with Console().status("quantizing, choosing limits, judging both"):
        done = make(
            bundle,
            snapshot,
            out,
            name=name,
            version=version,
            key=pem,
            reduce_range=reduce_range,
            max_ap_loss=max_ap_loss,
            max_flips=max_flips,
        )
    loss = done.loss
    Console().print(
        f"{done.manifest.id} in {done.folder}: image AP {-loss.ap_loss:+.4f}, another call on {loss.flips} of "
        f"{loss.pictures} {loss.split} pictures ({loss.flip_share:.2%}), {loss.ms[1]:.1f} ms instead of "
        f"{loss.ms[0]:.1f} ({loss.faster:.2f} times as fast)"
    )


def _print_figures(f: Figures) -> None:
    from training.report import figure_tables

    console = Console()
    for part in figure_tables(f):
        console.print(part)
