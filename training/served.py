"""A bundle as the edge serves it: verified, then run through onnxruntime with the same geometry. What evaluation
judges.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from inspection import model_io
from inspection.bundle import (
    MANIFEST_FILE,
    MODEL_FILE,
    SIGNATURE_FILE,
    GoldenCase,
    Manifest,
    check_names,
    parse_manifest,
    verify_files,
)
from inspection.errors import BundleError
from inspection.types import Image, Prediction
from training.parity import Answer


@dataclass(frozen=True, slots=True)
class Served:
    manifest: Manifest
    session: Any

    def raw(self, image: Image) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """An input-sized image -> scores (C,) and heat (C, h, w); of a model with a memory, as its first frame."""
        scores, heat, _ = self.answer(image)
        return scores, heat

    def answer(self, image: Image) -> Answer:
        """`raw`, with the novelty if the model has one."""
        return self.step(image, self.nothing())[0]

    def nothing(self) -> list[NDArray[np.float32]]:
        """The state before the first frame; empty for a model without a memory."""
        return [np.zeros(spec.shape, np.float32) for spec in self.manifest.state]

    def step(self, image: Image, state: Sequence[NDArray[np.float32]]) -> tuple[Answer, list[NDArray[np.float32]]]:
        """An input-sized image and the state -> what is said of it, the state of the next frame."""
        m = self.manifest
        novelty = [m.novelty.output] if m.novelty else []
        names = [m.outputs.scores, m.outputs.heat, *novelty, *(spec.output for spec in m.state)]
        feeds = {m.input.name: image[None], **{s.input: v for s, v in zip(m.state, state, strict=True)}}
        scores, heat, *rest = self.session.run(names, feeds)
        return Answer(scores[0], heat[0], float(rest.pop(0)[0]) if m.novelty else None), rest

    def in_order(self) -> Served:
        """The same bundle for frames that come in order: each is judged with what the ones before left behind."""
        return Remembering(self.manifest, self.session, self.nothing()) if self.manifest.state else self

    def predict(self, frame: Image, px_per_mm: float) -> tuple[Prediction, float]:
        """A camera frame -> what the model says of it, and the milliseconds of fit, inference and findings."""
        m, start = self.manifest, time.perf_counter()
        fitted, how = model_io.to_input(frame, m.input)
        scores, heat, novelty = self.answer(fitted)
        found = model_io.to_prediction(scores, heat, m.limits, how, m.outputs.heat_stride, px_per_mm, novelty)
        return found, (time.perf_counter() - start) * 1e3

    def check_scale(self, frame: Image, px_per_mm: float, where: object) -> None:
        """Refuse frames at another scale than the model was trained for: its sizes in mm would be wrong."""
        spec = self.manifest.input
        scale = px_per_mm * model_io.fit(frame.shape[1], frame.shape[0], spec).scale
        if max(scale / spec.px_per_mm, spec.px_per_mm / scale) > spec.scale_tolerance:
            raise BundleError(
                where,
                f"has {scale:.2f} px/mm at the input, {self.manifest.id} was trained at {spec.px_per_mm:.2f}",
                "use frames of the scale the model was made for, or train one for this scale",
            )


@dataclass(frozen=True, slots=True)
class Remembering(Served):
    """A bundle with a memory and what it remembers; `state` is replaced with every frame."""

    state: list[NDArray[np.float32]]

    def answer(self, image: Image) -> Answer:
        said, self.state[:] = self.step(image, self.state)
        return said


def golden_case(image: str, said: Answer) -> GoldenCase:
    """A golden frame's file and what the model answered."""
    means = tuple(round(float(m), 4) for m in said.heat.mean((1, 2)))
    scores = tuple(float(s) for s in said.scores)
    return GoldenCase(image=image, scores=scores, heat_mean=means, novelty=said.novelty)


def open_session(model: bytes, threads: int = 2) -> Any:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def read_bundle(folder: Path, threads: int = 2) -> Served:
    """Check a bundle against its manifest and open it. Signatures are the edge's concern: it knows whom to trust."""
    files = bundle_files(folder)
    if MANIFEST_FILE not in files:
        raise BundleError(folder, f"is no bundle: it has no {MANIFEST_FILE}", "make one with `haltline export`")
    manifest = parse_manifest(files.pop(MANIFEST_FILE), folder / MANIFEST_FILE)
    files.pop(SIGNATURE_FILE, None)
    verify_files(manifest, files, folder)
    return Served(manifest, open_session(files[MODEL_FILE], threads))


def bundle_files(folder: Path) -> dict[str, bytes]:
    paths = [p for p in sorted(folder.rglob("*")) if p.is_file()]
    names = [p.relative_to(folder).as_posix() for p in paths]
    check_names(names, folder)
    return {name: path.read_bytes() for name, path in zip(names, paths, strict=True)}
