"""A finished run -> a bundle an edge will serve: graph, limits, golden frames, figures, card, signature.

Nothing appears under the bundle's name before all of it is there and has been checked: onnxruntime must agree with
torch on every golden frame and on noise, and must come to the same calls.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import torch

from inspection.bundle import (
    MANIFEST_FILE,
    MODEL_FILE,
    SIGNATURE_FILE,
    Golden,
    GoldenCase,
    Lineage,
    Manifest,
    NoveltySpec,
    OutputSpec,
    check_name,
    sha256,
    sign,
)
from inspection.errors import BundleError
from inspection.policy import Policy, policy_of
from inspection.samples import Sample
from inspection.types import Image
from training.calibrate import ClassCalibration, calibrate
from training.card import card
from training.checkpoint import RunConfig
from training.clips import in_clips
from training.dataset.snapshot import Snapshot
from training.dataset.whole import whole
from training.evaluate import Figures, evaluate
from training.examples import Example, load
from training.graph import Graph, graph_of, state_of, to_onnx, torch_outputs
from training.moving import evaluate_stream
from training.network import SegmentAndDecide
from training.novelty import Novelty, distances, evenly, evenly_of_clips, learn, spec_for
from training.parity import RANDOM_FRAMES, Answer, Parity, held_against, random_frames
from training.promise import Promise, metrics_of
from training.promised import read_promise, with_promise
from training.served import Served, golden_case, open_session, read_bundle
from training.trained import predict_runs, snapshot_of, trained
from training.views import check_views

GOLDEN_FRAMES = 8
PARITY = 1e-3
HEAT_PARITY = 1  # of 255: a value may round the other way


@dataclass(frozen=True, slots=True)
class Release:
    """What export made: where it lies, its manifest, what it was seen to do on the test split."""

    folder: Path
    manifest: Manifest
    figures: Figures | None


def export(
    run: Path,
    out: Path,
    name: str,
    version: str,
    *,
    key: bytes | None = None,
    snapshot: Path | None = None,
    stream: bool = True,
    views: int = 1,
) -> Release:
    """Calibrate, export, check, evaluate, write `out`. `out` must not exist: a released version never changes.

    `key` signs (PEM, ed25519). `snapshot` is where the run's snapshot lies now. `stream` also judges on a moving seam.
    `views`: how often the graph looks at a picture (`training/views.py`).
    """
    check_name(name, version)
    if out.exists():
        raise taken(out)
    config, network = trained(run)
    check_views(views, config.ask)
    data = snapshot_of(run, config, snapshot)
    clips = _validation(data, config)
    runs = [[load(data.folder, s, config.input, config.label_book) for s in clip] for clip in clips]
    samples = [s for clip in clips for s in clip]
    examples = [e for run in runs for e in run]
    logits, maps = predict_runs(network, [[e.image for e in run] for run in runs], views)
    heat = (maps * 255).round().to(torch.uint8).numpy()
    rules = config.label_book.rules
    classes = calibrate(logits.double().numpy(), heat, examples, rules, config.input, config.heat_stride, samples)
    promise = read_promise(run, data.manifest.id, views)
    classes = with_promise(classes, promise)
    novelty, known = _novelty(network, data, config, runs)
    graph = graph_of(network, [c.platt for c in classes], novelty, views)
    files = {MODEL_FILE: to_onnx(graph, config.input, OutputSpec(heat_stride=config.heat_stride))}
    golden = _golden(examples) if config.ask.frames == 1 else _golden_clip(runs)
    files |= {f"golden/{i}.png": cv2.imencode(".png", image)[1].tobytes() for i, image in enumerate(golden)}
    manifest = _manifest(config, name, version, classes, files, golden, graph, known)
    check_parity(graph, Served(manifest, open_session(files[MODEL_FILE])), golden)
    release = _Parts(manifest, files, data, config, classes, promise, views)
    return _publish(out, release, key, stream)


def taken(out: Path) -> BundleError:
    return BundleError(
        out, "exists already, and a released version never changes", "choose another --name, --version or --out"
    )


def _validation(data: Snapshot, config: RunConfig) -> list[list[Sample]]:
    """The validation pictures, in runs of frames that follow one another: clip by clip, or all as one run."""
    if not data.split("val"):
        raise BundleError(
            data.folder, "has no validation pictures to calibrate on", "import again: larger --val, or another --seed"
        )
    return in_clips(data, "val") if config.ask.frames > 1 else [list(data.split("val"))]


def _novelty(
    network: SegmentAndDecide, data: Snapshot, config: RunConfig, held_out: list[list[Example]]
) -> tuple[Novelty, NoveltySpec]:
    """How far a picture is from the training pictures, and from where on that is far. Of a network with a memory, what
    it computes of a frame rests on the frames before, so that it is shown whole clips."""
    clips: list[Sequence[Sample]] = [evenly(data.split("train"))]
    if config.ask.frames > 1:
        clips = evenly_of_clips(in_clips(data, "train"))

    def images(clip: Sequence[Sample]) -> Iterator[Image]:
        return (load(data.folder, s, config.input, config.label_book).image for s in clip)

    novelty = learn(network, map(images, clips))
    far = distances(network, novelty, ([e.image for e in run] for run in held_out))
    return novelty, spec_for(far, sum(map(len, clips)))


def _golden_clip(runs: list[list[Example]]) -> list[Image]:
    """GOLDEN_FRAMES frames in a row, from a clip with a defect where there is one: its memory is exercised too."""
    clip = next((run for run in runs if any(e.target.any() for e in run)), runs[0])
    first = next((k for k, e in enumerate(clip) if e.target.any()), 0)
    start = max(0, min(first - GOLDEN_FRAMES // 2, len(clip) - GOLDEN_FRAMES))
    return [e.image for e in clip[start : start + GOLDEN_FRAMES]]


def _golden(examples: list[Example]) -> list[Image]:
    """Up to GOLDEN_FRAMES validation frames: good ones and every class in turn, so that each output is exercised."""
    kinds = [[e for e in examples if not e.target.any()]]
    kinds += [[e for e in examples if e.target[k] > 0.5] for k in range(len(examples[0].target))]
    turns = [kind[turn] for turn in range(GOLDEN_FRAMES) for kind in kinds if turn < len(kind)]
    once = {id(e): e.image for e in turns}  # a frame with two classes has its turn in both
    return list(once.values())[:GOLDEN_FRAMES]


def _manifest(
    config: RunConfig,
    name: str,
    version: str,
    classes: list[ClassCalibration],
    files: dict[str, bytes],
    golden: list[Image],
    graph: Graph,
    novelty: NoveltySpec | None,
) -> Manifest:
    zeros = (0.0,) * len(classes)
    nothing = GoldenCase(image="golden/0.png", scores=zeros, heat_mean=zeros, novelty=0.0 if novelty else None)
    manifest = Manifest(
        name=name,
        version=version,
        task=config.task,
        created_utc=dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        classes=config.classes,
        input=config.input,
        outputs=OutputSpec(heat_stride=config.heat_stride),
        state=state_of(graph.network, config.input),
        novelty=novelty,
        limits=tuple(c.limits for c in classes),
        label_book=config.label_book.id,
        golden=Golden(cases=(nothing,)),
        lineage=Lineage(
            snapshot=config.snapshot_id,
            snapshot_sha256=config.snapshot_sha256,
            parent=config.parent,
            seed=config.ask.seed,
            software={**config.environment, "onnxruntime": onnxruntime.__version__},
        ),
        files={path: sha256(data) for path, data in files.items()},
    )
    answers = golden_cases(Served(manifest, open_session(files[MODEL_FILE])), golden)
    return manifest.model_copy(update={"golden": Golden(cases=answers)})


def golden_cases(served: Served, golden: list[Image]) -> tuple[GoldenCase, ...]:
    """What the model says of the golden frames, shown in order."""
    served = served.in_order()
    return tuple(golden_case(f"golden/{i}.png", served.answer(image)) for i, image in enumerate(golden))


def check_parity(graph: Graph, served: Served, golden: list[Image], count: int = RANDOM_FRAMES) -> Parity:
    """BundleError when onnxruntime and torch differ by more than PARITY in a score or novelty, or come to another call.

    Over the golden frames, as many random ones as `count`, and then of a model with a memory over all in order.
    """
    state = served.nothing()

    def by_torch(image: Image) -> Answer:
        nonlocal state
        said, state = torch_outputs(graph, image, state)
        return said

    policy = Policy(policy_of(served.manifest))
    frames = chain(golden, random_frames(golden, count))
    seen = held_against(by_torch, served.in_order().answer, frames, served.manifest.classes, (policy, policy))
    report = "report this: it is a defect"
    if not seen.score <= PARITY:
        raise BundleError("model.onnx", f"differs from torch by {seen.score:.2g} in a score", report)
    if seen.heat > HEAT_PARITY:
        raise BundleError("model.onnx", "draws another heat map than torch", report)
    if not seen.novelty <= PARITY:
        raise BundleError("model.onnx", f"differs from torch by {seen.novelty:.2g} in its novelty", report)
    if seen.calls:
        raise BundleError("model.onnx", f"comes to another call than torch on {seen.calls} frames", report)
    return seen


@dataclass(frozen=True, slots=True)
class _Parts:
    manifest: Manifest
    files: dict[str, bytes]
    data: Snapshot
    config: RunConfig
    classes: list[ClassCalibration]
    promise: Promise | None
    views: int


def _publish(out: Path, parts: _Parts, key: bytes | None, stream: bool) -> Release:
    """Write to a folder beside `out`, judge it there as the edge would, add the figures, then rename."""
    manifest = parts.manifest
    with whole(out, taken(out)) as partial:
        write_files(partial, manifest, parts.files, None)
        figures = _figures(partial, parts.data, stream)
        text = card(manifest, parts.data, parts.config, parts.classes, figures, parts.promise, parts.views)
        files = {**parts.files, "card.md": text.encode()}
        metrics = {**(summary(figures) if figures else {}), **(metrics_of(parts.promise) if parts.promise else {})}
        changes = {
            "lineage": {**manifest.lineage.model_dump(), "metrics": metrics},
            "files": {path: sha256(content) for path, content in files.items()},
        }
        manifest = Manifest.model_validate({**manifest.model_dump(), **changes})
        write_files(partial, manifest, files, key)
        read_bundle(partial)
    return Release(out, manifest, figures)


def write_files(folder: Path, manifest: Manifest, files: dict[str, bytes], key: bytes | None) -> None:
    (folder / "golden").mkdir(parents=True, exist_ok=True)
    for path, content in files.items():
        (folder / path).write_bytes(content)
    text = manifest.to_json()
    (folder / MANIFEST_FILE).write_bytes(text)
    if key:
        (folder / SIGNATURE_FILE).write_bytes(sign(text, key))


def _figures(bundle: Path, data: Snapshot, stream: bool) -> Figures | None:
    """The test split's figures, with a moving seam where one can be rendered; None without test pictures."""
    if not data.split("test"):
        return None
    served = read_bundle(bundle)
    figures, _ = evaluate(served, data)
    if stream:
        figures.stream.update(evaluate_stream(served, data.manifest.label_book))
    return figures


def summary(figures: Figures) -> dict[str, float]:
    """The figures a rollout compares: finite numbers only, of whole pictures; `ms_p50` of what is judged at once."""
    of = figures.whole or figures
    found: dict[str, float] = {"caught": of.caught, "missed": of.missed, "false_stops": of.false_stops}
    found |= {"uncertain_share": round(of.uncertain_share, 4), "ms_p50": round(figures.ms_p50, 2)}
    for c in of.classes:
        for key, value in (("ap", c.image_ap.value), ("recall_at_1pc", c.recall_at_1pc.value)):
            if np.isfinite(value):
                found[f"{c.cls}.{key}"] = round(value, 4)
    return found
