"""Good parts -> a bundle an edge serves like any other. No gradient step: minutes, mostly reading pictures."""

from __future__ import annotations

import datetime as dt
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from inspection.bundle import (
    MODEL_FILE,
    ClassLimits,
    Golden,
    GoldenCase,
    InputSpec,
    Lineage,
    Manifest,
    OutputSpec,
    check_name,
    sha256,
)
from inspection.errors import DatasetError
from inspection.samples import Sample
from inspection.types import Image
from training.backbones import OWN, Backbone, build
from training.dataset.crops import pictures_of
from training.dataset.snapshot import Snapshot
from training.dataset.whole import whole
from training.environment import describe
from training.evaluate import Figures, evaluate
from training.examples import Example, input_spec, load
from training.export import golden_cases, summary, taken, write_files
from training.good_parts import STRIDE, AnomalyGraph, Limits, how_strange, learn, limits
from training.graph import to_onnx
from training.network import SegmentAndDecide
from training.served import Served, open_session, read_bundle
from training.warm_start import parent_of

GOLDEN_FRAMES, WIDTH = 6, 16
HEAT_LEVEL = 0.6


@dataclass(frozen=True, slots=True)
class FromGood:
    """What was made; `figures` None where no test pictures were set aside."""

    folder: Path
    manifest: Manifest
    limits: Limits
    figures: Figures | None


def make(
    data: Snapshot,
    out: Path,
    name: str,
    version: str,
    backbone: Backbone,
    size: tuple[int, int],
    *,
    key: bytes | None = None,
) -> FromGood:
    """Learn from the good training pictures, choose limits on the validation ones, judge on the test ones, write."""
    check_name(name, version)
    if out.exists():
        raise taken(out)
    manifest = data.manifest
    if len(manifest.classes) != 1:
        raise DatasetError(
            data.folder,
            f"has the classes {list(manifest.classes)}; from good parts nobody can tell them apart",
            "import with one class, e.g. --classes defect",
        )
    encoder = encoder_for(backbone)
    spec = input_spec(data, *size)
    held = {split: [load(data.folder, s, spec, manifest.label_book) for s in data.split(split)]
            for split in ("train", "val")}  # fmt: skip
    memory = learn(encoder, [e.image for e in held["train"] if _good(e)])
    good, bad = ([e.image for e in held["val"] if _good(e) is wanted] for wanted in (True, False))
    chosen = limits(*by_picture(how_strange(memory, [e.image for e in held["val"]]), held["val"], data.split("val")))
    outputs = OutputSpec(heat_stride=STRIDE)
    model = to_onnx(AnomalyGraph(memory, chosen.calibration), spec, outputs)
    frames = [*good[: GOLDEN_FRAMES - 1], *bad[:1]]
    made = _manifest(data, name, version, spec, chosen, _parent(backbone), model, frames)
    return _publish(out, made, model, frames, data, chosen, backbone, key)


def encoder_for(backbone: Backbone) -> SegmentAndDecide:
    """A pretrained encoder; DatasetError where it has learnt nothing."""
    if backbone.weights is None:
        raise DatasetError(
            "good parts",
            "need an encoder that has seen something",
            "give --weights, a bundle or run of ours, or with --backbone a file or hub",
        )
    return build(backbone, classes=1, width=WIDTH).eval()


def _parent(backbone: Backbone) -> str | None:
    """What the lineage calls the model of ours whose encoder looks."""
    return parent_of(Path(backbone.weights)) if backbone.name == OWN and backbone.weights else None


def _good(example: Example) -> bool:
    return not example.target.any()


def by_picture(
    logits: NDArray[np.float64], examples: list[Example], samples: Sequence[Sample]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Logits (N,) of examples as those of good and of defective pictures: of crops the strangest is its picture's, for
    which a line stops. Where no picture is good, its good crops must stand for one."""
    good = np.array([_good(e) for e in examples])
    pictures = pictures_of(samples)
    if not any(good[crops].all() for crops in pictures):
        pictures = [[n] for n in range(len(examples))]
    strangest = np.array([logits[crops].max() for crops in pictures])
    sound = np.array([good[crops].all() for crops in pictures], bool)
    return strangest[sound], strangest[~sound]


def _manifest(
    data: Snapshot,
    name: str,
    version: str,
    spec: InputSpec,
    chosen: Limits,
    parent: str | None,
    model: bytes,
    frames: list[Image],
) -> Manifest:
    book, cls = data.manifest.label_book, data.manifest.classes[0]
    pins = {MODEL_FILE: sha256(model)}
    pins |= {f"golden/{i}.png": sha256(_png(image)) for i, image in enumerate(frames)}
    manifest = Manifest.model_validate(
        {
            "name": name,
            "version": version,
            "task": data.manifest.task,
            "created_utc": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
            "classes": (cls,),
            "input": spec,
            "outputs": OutputSpec(heat_stride=STRIDE),
            # No limit in mm: a patch's heat says how strange it is, not where a defect ends.
            "limits": (ClassLimits(cls=cls, lo=chosen.lo, hi=chosen.hi, heat_level=HEAT_LEVEL, limit_mm=0.0),),
            "label_book": book.id,
            "golden": Golden(cases=(GoldenCase(image="golden/0.png", scores=(0.0,), heat_mean=(0.0,)),)),
            "lineage": Lineage(
                snapshot=data.manifest.id,
                snapshot_sha256=data.sha256,
                parent=parent,
                software={**describe("cpu"), "onnxruntime": onnxruntime.__version__},
            ),
            "files": pins,
        }
    )
    answers = golden_cases(Served(manifest, open_session(model)), frames)
    return manifest.model_copy(update={"golden": Golden(cases=answers)})


def _publish(
    out: Path,
    made: Manifest,
    model: bytes,
    frames: list[Image],
    data: Snapshot,
    chosen: Limits,
    backbone: Backbone,
    key: bytes | None,
) -> FromGood:
    """Beside `out`, judged there as the edge would, then renamed: nothing half-written ever has its name."""
    files = {MODEL_FILE: model, **{f"golden/{i}.png": _png(image) for i, image in enumerate(frames)}}
    with whole(out, taken(out)) as partial:
        write_files(partial, made, files, None)
        figures = evaluate(read_bundle(partial), data)[0] if data.split("test") else None
        files["card.md"] = card(made, data, chosen, backbone, figures).encode()
        lineage = made.lineage.model_copy(update={"metrics": summary(figures) if figures else {}})
        pins = {path: sha256(content) for path, content in files.items()}
        manifest = made.model_copy(update={"lineage": lineage, "files": pins})
        write_files(partial, manifest, files, key)
        read_bundle(partial)
    return FromGood(out, manifest, chosen, figures)


def _png(image: Image) -> bytes:
    return bytes(cv2.imencode(".png", image)[1].tobytes())


def card(made: Manifest, data: Snapshot, chosen: Limits, backbone: Backbone, figures: Figures | None) -> str:
    limit = made.limits[0]
    meaning = (
        f"a probability, fitted to {chosen.good} good and {chosen.defects} defective held-out pictures"
        if chosen.defects
        else f"**no probability**: no defect was seen; it says where a picture lies among {chosen.good} good ones"
    )
    tested = "No test pictures were set aside: nothing is known of its rates."
    if figures:
        of, crops = (figures.whole, "whole pictures: ") if figures.whole else (figures, "")
        c = of.classes[0]
        auroc = "no defect among them" if not np.isfinite(c.image_ap.value) else f"image AP {c.image_ap.value:.3f}"
        tested = f"{crops}{auroc}; caught {of.caught}, missed {of.missed}, false stops {of.false_stops}."
    return f"""\
# {made.id}

Finds what does not look like a good part (task `{made.task}`). Made by `haltline train good-parts` from
{data.manifest.counts["train"]["good"]} good training pictures of {data.manifest.id}, with the features of
`{made.lineage.parent or backbone.name}`.

- Input {made.input.width_px}x{made.input.height_px} px. The score is {meaning}.
- Pass below {limit.lo:.3f}, halt from {limit.hi:.3f}. Of good parts like these, at most {chosen.promised:.1%} are
  expected above the upper limit; {chosen.good} held-out ones cannot promise less.
- Test pictures: {tested}

## What it cannot do

- **It is not a safety function.** It watches quality. People are protected by the machine's own safety circuit.
- It does not know what a defect is. A new shade of metal is as strange to it as a crack; a defect that looks like good
  metal is none to it. Its regions have no length that the label book's limits could be held against.
- As soon as there are labels, import them and train a model that has seen defects: `haltline train`.
"""
