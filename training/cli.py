"""The training room's commands, mounted by haltline.py. Importing this file loads no torch: help must be instant."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from inspection.errors import ConfigError, InputError
from training.dataset.commands import dataset, parse_size
from training.dataset.snapshot import read_snapshot

if TYPE_CHECKING:
    from training.checkpoint import Ask
    from training.dataset.snapshot import Snapshot
    from training.evaluate import Figures
    from training.judging import JudgedPicture

WORST = 24  # pictures that `evaluate --pictures` writes

__all__ = ["dataset", "evaluate", "export", "quantize", "render", "train"]


def render(
    task: Annotated[str, typer.Argument(help="What to draw: weld or scratch.")],
    out: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
    count: Annotated[int, typer.Option(min=1, help="How many frames. Half of them are without a defect.")] = 400,
    seed: Annotated[int, typer.Option(help="The same seed draws the same frames.")] = 0,
) -> None:
    """Draw frames with known defects as a labelled folder, to train from before there is a camera."""
    from training.rendering import render_folder

    good = 0
    with _progress() as progress:
        bar = progress.add_task(f"drawing {task}", total=count)
        for sample in render_folder(task, out, count, seed):
            good += not sample.labels
            progress.advance(bar)
    Console().print(f"{count} frames in {out}: {good} good, {count - good} with a defect over its limit")


def train(
    snapshot: Annotated[Path, typer.Argument(help="A snapshot that `haltline dataset import` made.")],
    out: Annotated[Path, typer.Option(help="The run's folder. If it holds a run that was stopped, that run goes on.")],
    epochs: Annotated[int | None, typer.Option(min=1, help="Passes over the training pictures (default 20).")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Instead of --epochs: as many as fit into this time on this machine.")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Start from a released bundle or an earlier run instead of from nothing: new frames are learnt fast."
        ),
    ] = None,
    size: Annotated[
        str | None, typer.Option(help="The network's input in px, multiples of 16; default 320x256, or that of --init.")
    ] = None,
    lr: Annotated[float | None, typer.Option(help="Top learning rate; default 0.002, with --init 0.0005.")] = None,
    batch: Annotated[int, typer.Option(min=2, help="Pictures per step.")] = 16,
    channels: Annotated[int, typer.Option(help="Channels of the first layer: more see more and cost more time.")] = 16,
    seed: Annotated[int, typer.Option(help="Same seed, same pictures, same machine: the same model.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Train a model on a snapshot. Stop it at any moment: the same command goes on where it was."""
    data = read_snapshot(snapshot)
    if epochs is not None and minutes is not None:
        raise ConfigError("--epochs and --minutes", "were both given", "give one of them")
    # Before torch is loaded: two threads that spin at every barrier crawl beside any other load on two cores, here
    # measured at three times the time per step.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    from training.checkpoint import Ask
    from training.warm_start import input_size

    width, height = parse_size(size, "--size") if size else input_size(init) if init else (320, 256)
    if min(width, height) < 32 or width % 16 or height % 16:
        raise ConfigError("--size", f"is {width}x{height}", "use multiples of 16, from 32 on")
    ask = Ask(
        epochs=epochs,
        minutes=minutes,
        seed=seed,
        width_px=width,
        height_px=height,
        channels=channels,
        batch=batch,
        lr=lr or (5e-4 if init else 2e-3),
        init=str(init) if init else None,
        threads=threads,
    )
    _fit_with_bar(data, out, ask)


def _fit_with_bar(data: Snapshot, out: Path, ask: Ask) -> None:
    from training.fit import fit

    with _progress() as progress:
        bar = progress.add_task("loading", total=None)

        def report(step: int, total: int, now: dict[str, float]) -> None:
            words = f"epoch {now['epoch']:.0f}  where {now['segmentation']:.3f}  what {now['decision']:.3f}"
            progress.update(bar, completed=step, total=total, description=words)

        config = fit(data, out, ask, report)
    Console().print(f"{config.epochs} epochs on {config.snapshot_id} in {out}; next: haltline export {out}")


def evaluate(
    bundle: Annotated[Path, typer.Argument(help="A model bundle, e.g. models/weld-0.1.0.")],
    snapshot: Annotated[Path, typer.Argument(help="A snapshot with pictures the model never saw.")],
    split: Annotated[str, typer.Option(help="Which part of the snapshot: test, val or train.")] = "test",
    out: Annotated[Path | None, typer.Option(help="Write the figures here as JSON.")] = None,
    pictures: Annotated[
        Path | None, typer.Option(help="Write the worst pictures here, each beside its heat map: look at them.")
    ] = None,
    stream: Annotated[
        bool, typer.Option(help="Also run over a moving seam and count false halts (rendered tasks).")
    ] = True,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
) -> None:
    """Judge a bundle as the edge would: what it catches, misses, stops for nothing and is unsure of."""
    data = read_snapshot(snapshot)
    from training.evaluate import evaluate as run
    from training.evaluate import evaluate_stream
    from training.served import read_bundle

    served = read_bundle(bundle, threads)
    figures, judged = run(served, data, split)
    if stream:
        figures.stream.update(evaluate_stream(served, data.manifest.label_book))
    _print_figures(figures)
    if out:
        figures.write(out)
    if pictures:
        _write_pictures(pictures, data, judged)


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
) -> None:
    """Make a bundle an edge can serve: calibrated, checked against torch, judged on test pictures, with a card."""
    from training.checkpoint import read_config

    pem = _read_key(key) if key else None
    name = name or read_config(run).task.replace("_", "-")
    target = out or Path("models") / f"{name}-{version}"
    from training.export import export as make

    with Console().status("calibrating, exporting, judging"):
        release = make(run, target, name, version, key=pem, snapshot=snapshot, stream=stream)
    if release.figures:
        _print_figures(release.figures)
    Console().print(
        f"{release.manifest.id} in {release.folder}; read {release.folder / 'card.md'} before it stops a line"
    )


def quantize(
    bundle: Annotated[Path, typer.Argument(help="The float bundle, e.g. models/weld-0.1.0.")],
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
    pem = _read_key(key) if key else None
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


def _read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise InputError(path, f"cannot be read: {e.strerror}", "make one: openssl genpkey -algorithm ed25519") from e


def _progress() -> Progress:
    return Progress(
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn()
    )


def _print_figures(f: Figures) -> None:
    from training.report import figure_tables

    console = Console()
    for part in figure_tables(f):
        console.print(part)
