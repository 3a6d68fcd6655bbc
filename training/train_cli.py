"""`haltline train`: a model from a snapshot. Its other commands are in `study_cli.py` and `judge_cli.py`.

`haltline train SNAPSHOT` is short for `haltline train model SNAPSHOT`. Importing this file loads no torch.
"""

from __future__ import annotations

import os
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from inspection.errors import ConfigError, DatasetError, InputError
from training.dataset.commands import parse_size
from training.dataset.snapshot import read_snapshot
from training.progress import progress_bar

if TYPE_CHECKING:
    from training.checkpoint import Ask
    from training.dataset.snapshot import Snapshot


class DefaultsToModel(TyperGroup):
    """What is no command's name is a snapshot: `haltline train SNAPSHOT` trains a model."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if args and args[0] not in (*self.commands, "--help"):
            args = ["model", *args]
        return list(super().parse_args(ctx, args))


train = typer.Typer(
    cls=DefaultsToModel,
    no_args_is_help=True,
    add_completion=False,
    help="Train a model on a snapshot: `haltline train SNAPSHOT --out RUN`. The other commands are small studies.",
)

SnapshotFolder = Annotated[Path, typer.Argument(help="A snapshot that `haltline dataset import` made.")]
Weights = Annotated[
    str | None,
    typer.Option(
        help="Where the encoder starts: for own a bundle or run of ours (default the released one, 16 channels wide), "
        "for timm's a file with a state_dict, or hub; none: from random weights."
    ),
]
SizeOption = Annotated[
    str | None,
    typer.Option(help="The network's input in px, multiples of 16; default the pictures', shrunk to about 320x256."),
]
ViewsOption = Annotated[
    int,
    typer.Option(
        help="Looks at each picture: 2 (also turned by 180 degrees) or 4 (also mirrored both ways) may find more, "
        "for two or four times the time."
    ),
]


class SizeName(StrEnum):
    S = "S"
    M = "M"
    L = "L"


class Device(StrEnum):
    AUTO = "auto"
    CPU = "cpu"
    CUDA = "cuda"


class PixelRange(StrEnum):
    IMAGENET = "imagenet"
    SIGNED = "signed"


PixelsOption = Annotated[
    PixelRange,
    typer.Option(help="What the weights were trained on: ImageNet's mean and deviation, or x / 127.5 - 1."),
]
BackboneOption = Annotated[
    str, typer.Option(help="The encoder: own, or a timm model's name (needs the backbones extra).")
]
FrozenOption = Annotated[bool, typer.Option("--frozen", help="Leave the backbone as it is, train what is behind.")]
WithoutOption = Annotated[str, typer.Option(help="Variations to leave out, with commas, e.g. noise,warp.")]
AlsoOption = Annotated[str, typer.Option(help="Variations to add: flicker, spatter, synthetic.")]


@train.command("model")
def model(
    snapshot: SnapshotFolder,
    out: Annotated[Path, typer.Option(help="The run's folder. If it holds a run that was stopped, that run goes on.")],
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes over the training pictures (default 20, more if there are few).")
    ] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Instead of --epochs: as many as fit into this time on this machine.")
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            help="Go on from a bundle or run that knows the same classes, head and all: new frames of its kind are "
            "learnt fast. (Of one with other classes the encoder is taken, as with --weights.)"
        ),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(
            help="The network's input in px, multiples of 16; default that of --init where it knows the same classes, "
            "else the pictures' own, shrunk to about 320x256."
        ),
    ] = None,
    size_class: Annotated[
        SizeName | None,
        typer.Option(
            help="S, M or L: channels, and px of an input of the pictures' shape, for 5, 12 or 25 ms on two cores "
            "(docs/training.md)."
        ),
    ] = None,
    lr: Annotated[
        float | None,
        typer.Option(
            help="Top learning rate; default 0.002, from weights of ImageNet or another task 0.001, with --init of the "
            "same classes 0.0005."
        ),
    ] = None,
    batch: Annotated[int, typer.Option(min=2, help="Pictures per step.")] = 16,
    channels: Annotated[
        int | None, typer.Option(help="Channels of the first layer (16): more see more and cost more time.")
    ] = None,
    backbone: BackboneOption = "own",
    weights: Weights = None,
    pixels: PixelsOption = PixelRange.IMAGENET,
    frozen: FrozenOption = False,
    frames: Annotated[
        int,
        typer.Option(min=1, max=64, help="Above 1: clips of so many frames, for a model that remembers."),
    ] = 1,
    without: WithoutOption = "",
    also: AlsoOption = "",
    seed: Annotated[int, typer.Option(help="Same seed, same pictures, same machine: the same model.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    device: Annotated[Device, typer.Option(help="auto takes a GPU where torch has one.")] = Device.AUTO,
    tensorboard: Annotated[
        bool, typer.Option("--tensorboard", help="Also write curves for TensorBoard (needs the tensorboard extra).")
    ] = False,
) -> None:
    """Train a model on a snapshot. Stop it at any moment: the same command goes on where it was.

    On several GPUs, or machines: torchrun --nproc-per-node N -m haltline train SNAPSHOT --out RUN.
    """
    data = read_snapshot(snapshot)
    if epochs is not None and minutes is not None:
        raise ConfigError("--epochs and --minutes", "were both given", "give one of them")
    _not_in_vain(data)
    one_thread_waits()
    from training.backbones import OWN, Backbone
    from training.defaults import NOTHING, ask_of, encoder_weights, input_size
    from training.network import SIZES
    from training.warm_start import knows_same, size_of

    if size_class and channels:
        raise ConfigError("--size-class and --channels", "were both given", "a size has its own channels")
    of_class = SIZES[size_class.value] if size_class else None
    wide = of_class.channels if of_class else SIZES["S"].channels if channels is None else channels
    in_px = input_size_of(size) if size else None
    if of_class:
        in_px = in_px or input_size(data, of_class.width_px * of_class.height_px)
    elif init and knows_same(init, data.manifest.classes):
        in_px = in_px or size_of(init)
    if init and backbone == OWN:
        if weights not in (None, NOTHING):
            raise ConfigError("--weights", f"is {weights}", "leave it out: --init brings the encoder too")
        weights = NOTHING
    encoder = Backbone(
        name=backbone, weights=encoder_weights(backbone, wide, weights), pixels=pixels.value, frozen=frozen
    )
    ask = ask_of(
        data,
        encoder,
        in_px,
        init,
        lr,
        epochs=epochs,
        minutes=minutes,
        seed=seed,
        channels=wide,
        batch=batch,
        threads=threads,
        augment=chosen_variations(without, also),
        frames=frames,
        device=_device(device),
    )
    _fit_with_bar(data, out, ask, tensorboard)


def _not_in_vain(data: Snapshot) -> None:
    """Before the hours, not after: DatasetError where there is nothing to learn, a word where `export` will refuse."""
    known = data.manifest.counts["train"]
    unseen = [cls for cls in data.manifest.classes if not known[cls]]
    if len(unseen) == len(data.manifest.classes):
        fix = "import some, or with another --seed; from good ones alone learns `haltline train good-parts`"
        raise DatasetError(data.folder, f"shows no defect in its {known['samples']} training pictures", fix)
    if unseen:
        Console().print(f"no training picture shows {', '.join(unseen)}: what nobody shows cannot be learnt")
    if not data.split("val"):
        Console().print(
            "no validation pictures: `haltline export` will refuse this run. Import again with a larger --val, or "
            "another --seed"
        )
    elif untold := [cls for cls in data.manifest.classes if known[cls] and not data.manifest.counts["val"][cls]]:
        Console().print(
            f"no validation picture shows {', '.join(untold)}: how low a score may be and still be one, nothing will "
            "tell, and the limits will be a guess. Import again with a larger --val, or another --seed"
        )


@train.command("encoder")
def encoder(
    out: Annotated[Path, typer.Option(help="The run's folder. If it holds a run that was stopped, that run goes on.")],
    pictures: Annotated[
        int,
        typer.Option(min=1, help="Drawn surfaces to learn from, by 3,200, each seen once: 75 a second and core."),
    ] = 256_000,
    channels: Annotated[
        int | None, typer.Option(help="Channels of the first layer (16); the models it is for must have as many.")
    ] = None,
    weights: Annotated[
        str | None, typer.Option(help="Start from the encoder of this bundle or run of ours; default random weights.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Same seed, same surfaces.")] = 0,
    threads: Annotated[int, typer.Option(min=1, help="CPU threads.")] = 2,
    device: Annotated[Device, typer.Option(help="auto takes a GPU where torch has one.")] = Device.AUTO,
) -> None:
    """An encoder that has seen drawn textures and marks of every kind, for `--weights` of other runs. No pictures of
    yours are needed; the one that is released was made so (docs/training.md)."""
    one_thread_waits()
    from training.defaults import NOTHING, encoder_weights
    from training.network import SIZES
    from training.pretraining.run import EPOCH, Pretraining, pretrain

    wide = channels or SIZES["S"].channels
    begins = encoder_weights("own", wide, weights or NOTHING)
    asked = Pretraining(pictures, wide, begins, seed=seed, threads=threads, device=_device(device))
    if (shown := asked.epochs * EPOCH) != pictures:
        Console().print(f"--pictures {pictures:,} becomes {shown:,}: surfaces are drawn by {EPOCH:,}")
    with progress_bar() as progress:
        bar = progress.add_task("drawing textures", total=None)

        def report(step: int, total: int, now: dict[str, float]) -> None:
            words = f"where {now['segmentation']:.3f}  what {now['decision']:.3f}"
            progress.update(bar, completed=step, total=total, description=words)

        config = pretrain(out, asked, report)
    said = f"an encoder in {out}, of {config.epochs * EPOCH:,} surfaces"
    Console().print(f"{said}; next: haltline train SNAPSHOT --weights {out} --out RUN")


def read_key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise InputError(path, f"cannot be read: {e.strerror}", "make one: openssl genpkey -algorithm ed25519") from e


def input_size_of(text: str) -> tuple[int, int]:
    """A network's input, `320x256`."""
    width, height = parse_size(text, "--size")
    if min(width, height) < 32 or max(width, height) > 4096 or width % 16 or height % 16:
        raise ConfigError("--size", f"is {text}", "use multiples of 16, from 32 to 4096")
    return width, height


def chosen_variations(without: str, also: str) -> tuple[str, ...]:
    from training.augment import DEFAULT, NAMES

    out, add = ({n for n in text.split(",") if n} for text in (without, also))
    if strange := sorted((out | add) - set(NAMES)):
        raise ConfigError("--without and --also", f"name {strange[0]!r}", f"choose from {', '.join(NAMES)}")
    return tuple(n for n in NAMES if (n in DEFAULT or n in add) and n not in out)


def one_thread_waits() -> None:
    """Before torch is loaded: two threads that spin at every barrier crawl beside any other load on two cores, here
    measured at three times the time per step.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")


def _device(asked: Device) -> Any:
    import torch

    there = torch.cuda.is_available()
    if asked is Device.CUDA and not there:
        raise ConfigError("--device", "is cuda, and torch finds no GPU", "use --device cpu, or install torch for CUDA")
    if asked is Device.CPU or not there:
        return "cpu"
    if "LOCAL_RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    return "cuda"


def _fit_with_bar(data: Snapshot, out: Path, ask: Ask, tensorboard: bool) -> None:
    from training import parallel
    from training.checkpoint import CONFIG_FILE
    from training.defaults import mixed, start
    from training.fit import fit
    from training.thin import thin

    leads = parallel.join().leads
    if leads and not ask.init and not (out / CONFIG_FILE).exists():
        Console().print(start(ask.backbone, ask.channels))
        for odd in (of(data, (ask.width_px, ask.height_px)) for of in (mixed, thin)):
            if odd:
                Console().print(f"[yellow]{odd}[/yellow]")
    curves, writer = None, _curve_writer() if tensorboard and leads else None
    try:
        with progress_bar(shown=leads) as progress:
            bar = progress.add_task("loading", total=None)

            def report(step: int, total: int, now: dict[str, float]) -> None:
                nonlocal curves
                words = f"epoch {now['epoch']:.0f}  where {now['segmentation']:.3f}  what {now['decision']:.3f}"
                progress.update(bar, completed=step, total=total, description=words)
                if writer:  # only now: a folder that is refused stays as it was
                    curves = curves or writer(out / "tensorboard")
                    for name, value in now.items():
                        curves.add_scalar(name, value, step)

            config = fit(data, out, ask, report)
    finally:
        if curves:
            curves.close()
        parallel.leave()
    if leads:
        Console().print(
            f"{config.epochs} epochs on {config.snapshot_id} in {out}; next: haltline export {out} --name mine"
        )


def _curve_writer() -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ModuleNotFoundError as e:
        raise ConfigError("--tensorboard", f"needs {e.name}", "pip install 'haltline[tensorboard]'") from e
    return SummaryWriter
