"""`haltline train limits | kfold | debug | labels`: what a run is worth, what may be promised, what looks strange."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from inspection.errors import ConfigError, DatasetError
from training.dataset.item import read_bytes
from training.dataset.snapshot import SNAPSHOT_FILE, read_snapshot
from training.progress import progress_bar
from training.train_cli import (
    AlsoOption,
    BackboneOption,
    FrozenOption,
    PixelRange,
    PixelsOption,
    SizeOption,
    ViewsOption,
    Weights,
    WithoutOption,
    chosen_variations,
    input_size_of,
    one_thread_waits,
    train,
)

if TYPE_CHECKING:
    from training.compare import Comparison
    from training.paired_folds import PairedFolds
    from training.promise import Promise
    from training.suspicious import Check

Run = Annotated[Path, typer.Argument(help="A finished run of `haltline train`.")]
Threads = Annotated[int, typer.Option(min=1, help="CPU threads.")]


@train.command()
def limits(
    run: Run,
    miss: Annotated[float, typer.Option(help="At most this share of the defective parts is passed.")] = 0.02,
    false_halt: Annotated[float, typer.Option(help="At most this share of the good parts stops the line.")] = 0.05,
    confidence: Annotated[float, typer.Option(help="How sure of both together.")] = 0.95,
    on_average: Annotated[
        bool,
        typer.Option("--on-average", help="Bound the rates on average only (conformal risk control): fewer labels."),
    ] = False,
    cost_escape: Annotated[
        list[str] | None, typer.Option(help="Cost of a passed defect, or CLASS=cost; may be repeated.")
    ] = None,
    cost_stop: Annotated[float | None, typer.Option(help="Cost of a false stop, in the same unit.")] = None,
    cost_review: Annotated[float, typer.Option(help="Cost of a person's look, in the same unit.")] = 1.0,
    parts_per_hour: Annotated[float | None, typer.Option(help="Also say how many false halts an hour that is.")] = None,
    snapshot: Annotated[Path | None, typer.Option(help="The run's snapshot, if it lies elsewhere now.")] = None,
    views: ViewsOption = 1,
    threads: Threads = 2,
) -> None:
    """Choose pass / uncertain / halt limits that keep what they promise, on test groups; `haltline export` takes them.

    Calibrated on the validation groups, certified on the test groups: from then on the test's other figures describe
    these limits. Refused, with what can be promised, where there are too few labels.
    """
    from training.promise import Asked, parse_costs, promise

    for name, value in (("--miss", miss), ("--false-halt", false_halt), ("--confidence", confidence)):
        if not 0 < value < 1:
            raise ConfigError(name, f"is {value}", "give a share between 0 and 1, e.g. 0.02")
    rule = "crc" if on_average else "ltt"
    asked = Asked(miss=miss, false_halt=false_halt, confidence=confidence, rule=rule)
    _threads(threads)
    from training.outcome import Judge, judged
    from training.promised import certified_limits, write_promise

    judge = Judge(run, read_snapshot(snapshot) if snapshot else None, views)
    costs = parse_costs(cost_escape or [], cost_stop, cost_review, judge.config.classes)
    test = judge.of("test")
    found = promise(test.scores, test.target, test.groups, judge.config.classes, asked, costs)
    found = found.model_copy(update={"snapshot": judge.data.manifest.id, "on": "test", "views": views})
    write_promise(run, found)
    from training.evaluate import figures_of

    pictures = judged(test, certified_limits(test.limits, found))
    of_crops = figures_of(run.name, judge.data.manifest.id, "test", pictures, judge.config.label_book)
    of = of_crops.whole or of_crops
    for line in promise_lines(found):
        Console().print(line)
    Console().print(
        f"behind the guard: {of.missed} of {of.defective} defective {'whole ' if of_crops.whole else ''}pictures "
        f"passed, {of.false_stops} of {of.good} good ones stopped, {of.uncertain_share:.1%} to a person"
        + (f", {of.false_stops_per_hour(parts_per_hour):.1f} false halts an hour" if parts_per_hour else "")
    )


def promise_lines(p: Promise) -> Iterator[str | Table]:
    how = "on average over calibrations" if p.asked.rule == "crc" else f"with {p.asked.confidence:.0%} confidence, both"
    yield (
        f"[bold]promised {how}[/bold]: at most {p.asked.miss:.2%} of defective parts passed, at most "
        f"{p.asked.false_halt:.2%} of good parts stopped; {p.uncertain:.1%} of {p.pictures} pictures go to a person"
    )
    table = Table("class", "pass below", "halt from", "defective groups", "passed", "miss rate under")
    for cls, (lo, hi) in p.limits.items():
        of = p.miss_of[cls]
        table.add_row(cls, f"{lo:.5f}", f"{hi:.5f}", str(of.n), str(of.k), f"{of.at_most:.1%}")
    yield table
    yield (
        f"all classes: {p.miss.k} of {p.miss.n} defective groups passed (rate under {p.miss.at_most:.2%}), "
        f"{p.false_halt.k} of {p.false_halt.n} good groups stopped (under {p.false_halt.at_most:.2%})"
    )


@train.command()
def kfold(
    snapshot: Annotated[Path, typer.Argument(help="A snapshot that `haltline dataset import` made.")],
    out: Annotated[Path, typer.Option(help="Folder for the runs, the pooled figures and the card.")],
    k: Annotated[int, typer.Option("-k", min=3, help="How many folds.")] = 5,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Passes of each run (default 20, more if there are few pictures).")
    ] = None,
    size: SizeOption = None,
    channels: Annotated[int, typer.Option(help="Channels of the first layer.")] = 16,
    batch: Annotated[int, typer.Option(min=2, help="Pictures per step.")] = 16,
    lr: Annotated[
        float | None, typer.Option(help="Top learning rate; default 0.002, from another task's model 0.001.")
    ] = None,
    backbone: BackboneOption = "own",
    weights: Weights = None,
    pixels: PixelsOption = PixelRange.IMAGENET,
    frozen: FrozenOption = False,
    without: WithoutOption = "",
    also: AlsoOption = "",
    seed: Annotated[int, typer.Option(help="Deals folds and order.")] = 0,
    views: ViewsOption = 1,
    against: Annotated[
        Path | None, typer.Option(help="Folder of another kfold: deal the folds as it did, and compare in pairs.")
    ] = None,
    threads: Threads = 2,
) -> None:
    """Judge the recipe on every picture: K runs, each judged on the groups it never saw, figures from all together."""
    data = read_snapshot(snapshot)
    _threads(threads)
    from training.backbones import Backbone
    from training.defaults import ask_of, encoder_weights, start
    from training.kfold import kfold as run
    from training.page import write_page
    from training.report import figure_tables

    encoder = Backbone(
        name=backbone, weights=encoder_weights(backbone, channels, weights), pixels=pixels.value, frozen=frozen
    )
    ask = ask_of(
        data,
        encoder,
        input_size_of(size) if size else None,
        lr=lr,
        epochs=epochs,
        channels=channels,
        batch=batch,
        seed=seed,
        threads=threads,
        augment=chosen_variations(without, also),
    )
    Console().print(start(encoder, channels))
    with progress_bar() as progress:
        bar = progress.add_task("fold 1", total=None)

        def report(fold: int):  # type: ignore[no-untyped-def]
            def step(done: int, total: int, now: dict[str, float]) -> None:
                words = f"fold {fold + 1} of {k}, epoch {now['epoch']:.0f}"
                progress.update(bar, completed=fold * total + done, total=k * total, description=words)

            return step

        pooled = run(data, out, ask, k, report, views, against)
    for line in figure_tables(pooled.figures):
        Console().print(line)
    if gained := pooled.gained:
        for line in _gain_lines(gained, against):
            Console().print(line)
    write_page(out / "card.html", f"{k}-fold on {data.manifest.id}", "", pooled.figures, pooled.pictures, data)
    Console().print(f"every picture's score in {out / 'out-of-fold.jsonl'}, the page in {out / 'card.html'}")


def _gain_lines(g: PairedFolds, against: Path | None) -> Iterator[str]:
    left = f", {g.only_one} that one of them lacks left out" if g.only_one else ""
    yield (
        f"[bold]against {against}[/bold], {g.pictures} whole pictures of {g.groups} groups{left}; any class, 95 % of "
        "draws of groups:"
    )
    yield f"image AP {g.image_ap}"
    yield f"recall at 1 % false calls {g.recall_at_1pc}"
    yield (
        f"{g.became_right} calls became right, {g.became_wrong} wrong (p {g.p_value:.2g}); to a person is neither: "
        "somebody has to look"
    )


@train.command()
def debug(
    what: Annotated[Path, typer.Argument(help="A snapshot, or a finished run.")],
    snapshot: Annotated[Path | None, typer.Option(help="The run's snapshot, if it lies elsewhere now.")] = None,
    overfit: Annotated[bool, typer.Option(help="Also learn one batch by heart (a minute at 320x256).")] = True,
    hardest: Annotated[int, typer.Option(min=0, help="So many of the hardest test pictures to list.")] = 20,
    threads: Threads = 2,
) -> None:
    """Look for what is wrong with runs that look fine, a number and a bound each; exit code 1 when one is strange."""
    from training.suspicious import check_snapshot

    if (what / SNAPSHOT_FILE).exists():
        data = read_snapshot(what)
        with Console().status("looking at the pictures"):
            checks = list(check_snapshot(data))
        _show(checks)
    else:
        _threads(threads)
        from training.outcome import Judge
        from training.suspicious import hardest as hard_ones
        from training.suspicious_run import check_run

        judge = Judge(what, read_snapshot(snapshot) if snapshot else None)
        with Console().status("judging, learning a batch by heart"):
            checks = list(check_run(judge, overfit=overfit))
        _show(checks)
        for h in hard_ones(judge.data, judge.of("test"), hardest) if hardest else []:
            labels, others = ("+".join(x) or "good" for x in (h.labels, h.neighbour_labels))
            Console().print(
                f"loss {h.loss:.2f} {labels} {h.image}; in training {h.likeness:.2f} {others} {h.neighbour}"
            )
    if any(not c.ok for c in checks):
        raise typer.Exit(1)


def _show(checks: list[Check]) -> None:
    table = Table("", "check", "found", "should be", "look at")
    for c in sorted(checks, key=lambda c: c.ok):
        table.add_row("ok" if c.ok else "[red]strange[/red]", c.name, f"{c.value:.4g}", c.bound, c.where)
    Console().print(table)


@train.command()
def labels(
    results: Annotated[
        list[Path], typer.Argument(help="A CSV with the columns labels,figure, or finished runs on growing snapshots.")
    ],
    target: Annotated[float, typer.Option(help="The figure that is wanted, e.g. image AP 0.97.")] = 0.97,
    more: Annotated[list[int] | None, typer.Option(help="Also say what so many labels more would give.")] = None,
) -> None:
    """How many more labels are worth collecting: a power law through the results, with its 95 % interval."""
    from training.learning_curve import fit_curve, read_results

    if not 0 < target < 1:
        raise ConfigError("--target", f"is {target}", "give a share between 0 and 1, e.g. 0.97")
    counts: list[int] = []
    figures: list[float] = []
    for path in results:
        if not path.exists():
            raise DatasetError(path, "does not exist", "name a CSV with the columns labels,figure, or a finished run")
        if path.is_dir():
            n, figure = _result_of(path)
            some, those = [n], [figure]
        else:
            some, those = read_results(read_bytes(path), path)
        counts += some
        figures += those
    curve = fit_curve(counts, figures)
    most, console = max(counts), Console()
    table = Table("labels", "expected", "95 % interval")
    for n in dict.fromkeys([most, *(most + extra for extra in more or [most, 3 * most])]):
        at = curve.at(n)
        table.add_row(str(n), f"{at.value:.4f}", f"{at.low:.4f} to {at.high:.4f}")
    console.print(table)
    need = curve.labels_for(target)
    if math.isinf(need.value):
        console.print(f"{target:g} is not in sight: with more of the same labels this model may never get there")
    else:
        top = "no end in sight" if math.isinf(need.high) else f"{math.ceil(need.high)}"
        extra = max(0, math.ceil(need.value) - most)
        console.print(
            f"{target:g} needs about {math.ceil(need.value)} labels ({extra} more); 95 % interval "
            f"{math.ceil(need.low) if math.isfinite(need.low) else '?'} to {top}"
        )


def _result_of(run: Path) -> tuple[int, float]:
    """(defective training pictures, mean image AP over the classes) of a finished run, on its test pictures."""
    from training.metrics import average_precision
    from training.outcome import Judge

    judge = Judge(run)
    test = judge.of("test")
    aps = [average_precision(test.scores[:, k], test.target[:, k]) for k in range(test.target.shape[1])]
    known = [ap for ap in aps if not math.isnan(ap)]
    if not known:
        raise DatasetError(run, "has no defective test picture", "import with a larger --test")
    return sum(bool(s.labels) for s in judge.data.split("train")), sum(known) / len(known)


NAMED = 10
"""So many pictures are named on the screen: somebody will look at them before deciding."""


def comparison_lines(c: Comparison) -> Iterator[str | Table]:
    yield f"[bold]{c.new}[/bold] against {c.old}: {c.pictures} pictures of {c.groups} groups"
    table = Table("class", c.old, c.new, "image AP gained", "95 % bounds")
    for x in c.classes:
        table.add_row(x.cls, f"{x.old_ap:.4f}", f"{x.new_ap:.4f}", f"{x.gain:+.4f}", f"{x.low:+.4f} to {x.high:+.4f}")
    yield table
    yield (
        f"{c.negative_flips} right calls became wrong, {c.positive_flips} wrong ones right "
        f"(McNemar p = {c.p_value:.3f}); {len(c.newly_missed)} of {c.must_catch} that must be caught newly passed"
    )
    if c.newly_missed:
        more = f" and {len(c.newly_missed) - NAMED} more" if len(c.newly_missed) > NAMED else ""
        yield f"newly passed: {', '.join(c.newly_missed[:NAMED])}{more}"
    yield "[bold]promote[/bold]" if c.promote else "[bold]do not promote[/bold]: " + "; ".join(c.reasons)


def _threads(threads: int) -> None:
    one_thread_waits()
    import torch

    torch.set_num_threads(threads)
