"""`python -m benchmarks.real_sets`: our models and baselines on every labelled set of HALTLINE_DATA, split by group.

Pictures go in by our own importers, with the look for leaks. Each (set, method, seed) is one file in `--work`; what is
there is not made again, so the command can be stopped at any moment and goes on. It ends by writing docs/benchmarks.md
and the plot beside it from whatever is there. What was trained stays in `--work`: the licences of the sets do not let
it be shipped.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Annotated, Any

import cv2
import numpy as np
import typer
from numpy.typing import NDArray

from benchmarks.figures import machine, tell
from inspection.bundle import InputSpec
from inspection.errors import ConfigError, DatasetError, InputError
from training.checkpoint import write_atomically
from training.dataset.snapshot import Snapshot, read_snapshot
from training.metrics import pixel_average_precision

WORK = Path("var/real-sets")
FOLDS = 4
SEEDS = FOLDS - 1
ROUNDS, WARM_UPS, TIMED_LEAST, TIMED_MS, THREADS = 2, 3, 12, 600.0, 2


@dataclass(frozen=True, slots=True)
class RealSet:
    """`crop` in px of the picture (None: whole pictures), `stride` between crops, `size` the networks' input.
    `merged`: every defect is one class."""

    name: str
    crop: tuple[int, int] | None
    stride: int
    size: tuple[int, int]
    merged: bool


SETS = (
    RealSet("weld_seg", (480, 384), 384, (256, 208), True),
    RealSet("lohi_weld_100", (192, 160), 96, (192, 160), False),
    RealSet("magnetic_tile", (256, 256), 256, (192, 192), True),
    RealSet("neu_seg_dedup", None, 0, (208, 208), False),
)
"""SegDecNet's sides must be multiples of 64 only for its pools to lose nothing; all sizes are multiples of 16."""


@dataclass(frozen=True, slots=True)
class Scored:
    """One test picture."""

    image: str
    group: str
    labels: tuple[bool, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Result:
    """One (set, method, seed). `classes` are the columns of labels and scores. `pixel_ap` None: no outlines."""

    set: str
    method: str
    seed: int
    size: tuple[int, int]
    classes: tuple[str, ...]
    train_pictures: int
    shown: int
    budget_min: float
    cpu_min: float
    wall_min: float
    model_bytes: int
    weights: int
    pixel_ap: float | None
    machine: str
    made: str
    pictures: tuple[Scored, ...]


def read_result(path: Path) -> Result:
    raw = json.loads(path.read_bytes())
    pictures = tuple(Scored(p["image"], p["group"], tuple(p["labels"]), tuple(p["scores"])) for p in raw["pictures"])
    return Result(**{**raw, "size": tuple(raw["size"]), "classes": tuple(raw["classes"]), "pictures": pictures})


# ── pictures ────────────────────────────────────────────────────────────────────────────────────────────────────


def snapshot_of(real: RealSet, data: Path, work: Path) -> Snapshot:
    """Import whole, with the look for pictures of one scene; then cut what was imported, groups kept."""
    whole, cut = work / real.name / "whole", work / real.name / "crops"
    manifest = data / "manifest.csv"
    if not manifest.is_file():
        raise ConfigError("HALTLINE_DATA", f"{manifest} is not there", "set it to the folder of the public pictures")
    classes = ["--classes", "defect"] if real.merged else []
    if not whole.exists():
        _import([str(manifest), "--only", real.name, "--out", str(whole), "--resplit", *classes])
    if real.crop is None:
        return read_snapshot(whole)
    if not cut.exists():
        crop = f"{real.crop[0]}x{real.crop[1]}"
        cutting = ["--crop", crop, "--stride", str(real.stride), "--resplit", "--no-look"]
        _import([str(whole), "--out", str(cut), *cutting])
    return read_snapshot(cut)


def _import(arguments: Sequence[str]) -> None:
    print("haltline dataset import", *arguments, file=sys.stderr, flush=True)
    Path(arguments[arguments.index("--out") + 1]).parent.mkdir(parents=True, exist_ok=True)
    subprocess.run([sys.executable, "-m", "haltline", "dataset", "import", *arguments], check=True, stdout=sys.stderr)


def fold_of(data: Snapshot, seed: int) -> Snapshot:
    """The snapshot split for one seed: fold 1, 2 or 3 of FOLDS is the test, everything else is for training.

    Fold 0 always trains: it holds the largest group, which in weld_seg is more than half of all crops. No limit is
    chosen here, so nothing is set aside for validation.
    """
    from training.kfold import deal, fold_snapshot

    fold = deal(data.samples, data.manifest.classes, FOLDS)
    split = fold_snapshot(data, fold, 1 + seed % SEEDS, FOLDS)
    samples = tuple(s.model_copy(update={"split": "train"}) if s.split == "val" else s for s in split.samples)
    return split.model_copy(update={"samples": samples})


def few_of(data: Snapshot, labels: int, seed: int) -> Snapshot:
    """So many of the training pictures, as an inspector would choose them: of each kind in turn (good, each class,
    each mix), at random within a kind. Fewer are part of more. DatasetError when there are not as many."""
    rng = np.random.default_rng(seed)
    kinds: dict[tuple[str, ...], list[Any]] = {}
    for s in data.split("train"):
        kinds.setdefault(tuple(sorted(s.labels)), []).append(s)
    for of_kind in kinds.values():
        rng.shuffle(of_kind)
    in_turn = [s for row in zip_longest(*(kinds[k] for k in sorted(kinds))) for s in row if s is not None]
    if len(in_turn) < labels:
        raise DatasetError(data.folder, f"has {len(in_turn)} training pictures, not {labels}", "ask for fewer labels")
    left_out = {s.image for s in in_turn[labels:]}
    return data.model_copy(update={"samples": tuple(s for s in data.samples if s.image not in left_out)})


# ── one run ─────────────────────────────────────────────────────────────────────────────────────────────────────


def make(real: RealSet, method: Any, seed: int, minutes: float, data: Path, work: Path) -> Result:
    from benchmarks.real_methods import Task

    snapshot = fold_of(snapshot_of(real, data, work), seed)
    if method.labels is not None:
        snapshot = few_of(snapshot, method.labels, seed)
    folder = work / real.name / f"{method.name}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    task = Task(snapshot, real.size, minutes * 60, seed, folder / "run", data)
    wall, cpu = time.monotonic(), time.process_time()
    made = method.make(task)
    cpu_min, wall_min = (time.process_time() - cpu) / 60, (time.monotonic() - wall) / 60
    (folder / "model.onnx").write_bytes(made.model)
    pictures, pixel = judge(made.model, snapshot, real.size)
    trained_on, today = len(snapshot.split("train")), time.strftime("%Y-%m-%d")
    return Result(
        real.name, method.name, seed, real.size, snapshot.manifest.classes, trained_on, made.shown, minutes, cpu_min,
        wall_min, len(made.model), made.weights, pixel, machine(), today, pictures,
    )  # fmt: skip


def judge(model: bytes, data: Snapshot, size: tuple[int, int]) -> tuple[tuple[Scored, ...], float | None]:
    """Every test picture through onnxruntime, fitted as the edge fits it; and the pixel AP at the input's resolution,
    mean over the classes that have outlines there."""
    from training.examples import input_spec, load
    from training.served import open_session

    spec: InputSpec = input_spec(data, *size)
    session = open_session(model, 1)
    name, book = session.get_inputs()[0].name, data.manifest.label_book
    pictures, heats, masks = [], list[NDArray[np.uint8]](), list[NDArray[np.uint8]]()
    for s in data.split("test"):
        e = load(data.folder, s, spec, book)
        scores, heat = session.run(None, {name: e.image[None]})
        labels = tuple(bool(t > 0.5) for t in e.target)
        pictures.append(Scored(s.image, s.group, labels, tuple(float(v) for v in scores[0])))
        if not e.boxes and (e.mask is not None or not any(labels)):
            heats.append(np.stack([cv2.resize(h, size, interpolation=cv2.INTER_LINEAR) for h in heat[0]]))
            masks.append(e.mask if e.mask is not None else np.zeros(size[::-1], np.uint8))
    found = [
        pixel_average_precision([h[k] for h in heats], [m == k + 1 for m in masks])
        for k in range(len(book.classes))
        if any((m == k + 1).any() for m in masks)
    ]
    return tuple(pictures), float(np.mean(found)) if found else None


# ── time ────────────────────────────────────────────────────────────────────────────────────────────────────────


def latencies(work: Path) -> dict[str, dict[str, float]]:
    """ms of one inference of each (set, method). In ROUNDS turns, so that a busy machine is unfair to none, and one
    model open at a time: a session's threads spin for a while after each run, on the cores the next one needs."""
    from training.served import open_session

    rng, models = np.random.default_rng(0), dict[str, tuple[bytes, NDArray[np.uint8], list[float]]]()
    for real in SETS:
        picture = rng.integers(0, 256, (1, real.size[1], real.size[0], 3), np.uint8)
        for path in sorted((work / real.name).glob("*-[0-9]/model.onnx")):
            method = path.parent.name.rpartition("-")[0]
            judged = path.parent.with_name(f"{path.parent.name}.json").exists()
            if judged and "@" not in method and f"{real.name}/{method}" not in models:
                models[f"{real.name}/{method}"] = (path.read_bytes(), picture, [])
    for _ in range(ROUNDS):
        for model, picture, took in models.values():
            session = open_session(model, THREADS)
            feed, times = {session.get_inputs()[0].name: picture}, list[float]()
            while len(times) < TIMED_LEAST or sum(times) < TIMED_MS:
                start = time.perf_counter()
                session.run(None, feed)
                times.append((time.perf_counter() - start) * 1e3)
            took += times[WARM_UPS:]
            del session
    load = os.getloadavg()[0]
    return {
        key: {
            "p10": float(np.percentile(took, 10)), "p50": float(np.percentile(took, 50)),
            "p99": float(np.percentile(took, 99)), "runs": len(took), "load": load,
        }
        for key, (_, _, took) in models.items()
    }  # fmt: skip


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────


def plan(sets: Sequence[str], methods: Sequence[str], seeds: int) -> Iterator[tuple[RealSet, Any, int]]:
    """All sets with one method before the next, all methods with one seed before the next: stopped early, it has seen
    everything once."""
    from benchmarks.real_methods import BY_NAME, FEW, METHODS

    known = {m.name for m in (*METHODS, *FEW, *BY_NAME)}
    if strange := sorted((set(sets) - {s.name for s in SETS}) | (set(methods) - known)):
        raise ConfigError("--set and --method", f"name {strange[0]!r}", f"methods are {', '.join(sorted(known))}")
    for seed in range(seeds):
        for method in (*METHODS, *FEW, *(BY_NAME if methods else ())):
            for real in SETS:
                wanted = (not sets or real.name in sets) and (not methods or method.name in methods)
                if wanted and method.make and not (method.good_only and not real.merged):
                    yield real, method, seed


def run(
    set_: Annotated[list[str] | None, typer.Option("--set", help="Only this set; may be repeated.")] = None,
    method: Annotated[list[str] | None, typer.Option(help="Only this method; may be repeated.")] = None,
    seeds: Annotated[int, typer.Option(min=0, max=SEEDS, help="Seeds, each with its own test fold.")] = SEEDS,
    minutes: Annotated[float, typer.Option(help="Processor minutes of training of each run, one thread.")] = 4.0,
    timing: Annotated[bool, typer.Option(help="Measure latencies at the end.")] = True,
    write: Annotated[bool, typer.Option(help="Write docs/benchmarks.md.")] = True,
    as_json: Annotated[bool, typer.Option("--json", help="Print figures as JSON instead of the page.")] = False,
    work: Annotated[Path, typer.Option(help="Where results and models are kept.")] = WORK,
) -> None:
    """Train, judge and time what is not there yet; print the tables and write docs/benchmarks.md."""
    from benchmarks.real_doc import document, figures, plot

    data = Path(os.environ.get("HALTLINE_DATA", "../shared/data"))
    for real, how, seed in plan(set_ or [], method or [], seeds):
        out = work / real.name / f"{how.name}-{seed}.json"
        if out.exists():
            continue
        print(f"{time.strftime('%H:%M:%S')} {real.name}, {how.name}, seed {seed}", file=sys.stderr, flush=True)
        result = make(real, how, seed, minutes, data, work)
        write_atomically(out, json.dumps(asdict(result)).encode())
    timed = work / "latency.json"
    if timing:
        write_atomically(timed, json.dumps(latencies(work), indent=1).encode())
    results = [read_result(p) for real in SETS for p in sorted((work / real.name).glob("*.json"))]
    took = json.loads(timed.read_bytes()) if timed.exists() else {}
    text = document(results, took)
    if not as_json:
        print(text)
    if write:
        docs = Path(__file__).resolve().parent.parent / "docs"
        (docs / "benchmarks.md").write_text(text, encoding="utf-8")
        (docs / "benchmarks.svg").write_text(plot(results, took), encoding="utf-8")
    if as_json:
        tell(figures(results), as_json=True)


if __name__ == "__main__":
    try:
        typer.run(run)
    except InputError as e:
        sys.exit(f"{e}")
    except subprocess.CalledProcessError as e:
        sys.exit(e.returncode)
