"""What every runtime must prove before its model serves: the shapes promised, a warm start, the golden frames.

An adapter opens the graph and runs one picture; all checks are here, so that no runtime has a gentler gate.
"""

from __future__ import annotations

import struct
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from edge.bundle_store import VerifiedBundle
from edge.memory import Memory, State
from edge.png import SIGNATURE
from inspection import model_io, tiles
from inspection.bundle import MODEL_FILE
from inspection.errors import BundleError, ModelError
from inspection.types import Frame, Image, Prediction

WARM_UP_RUNS = 3
Tensors = dict[str, NDArray[Any]]
Port = tuple[list[int | str], str]
"""Shape (a text where a side is open) and type of one input or output, e.g. ([1, 3], "float32")."""


class Outputs(NamedTuple):
    """What is said of one input-sized picture: scores (C,), heat (C, h, w), and the novelty of a model that has one."""

    scores: NDArray[np.float32]
    heat: NDArray[np.uint8]
    novelty: float | None = None


@dataclass(frozen=True, slots=True)
class Signature:
    """What the runtime says the graph takes and gives, by name."""

    inputs: dict[str, Port]
    outputs: dict[str, Port]


class BundleModel(ABC):
    """Implements `ports.Model`. Loading refuses a bundle whose golden frames do not come out as its exporter saw."""

    provider: str
    """What really runs, read back from the runtime; `_open` refuses anything but what was asked for."""
    detail: str
    """What else the runtime says of how it runs, for the doctor."""

    def __init__(self, bundle: VerifiedBundle, provider: str, threads: int, max_tiles: int = 1) -> None:
        self.manifest = bundle.manifest
        self.bundle_id = bundle.manifest.id
        self.sha256 = bundle.sha256
        self.label_book = bundle.manifest.label_book
        self.max_tiles = max_tiles
        self.provider, self.detail = self._open(bundle.files[MODEL_FILE], provider, threads)
        self._memory = Memory(bundle.manifest.state)
        self._check_shapes()
        for _ in range(WARM_UP_RUNS):
            self.run(np.zeros((self.manifest.input.height_px, self.manifest.input.width_px, 3), np.uint8))
        self.golden_error = self._replay_golden(bundle)

    @abstractmethod
    def _open(self, model: bytes, provider: str, threads: int) -> tuple[str, str]:
        """Load the graph; (provider that really runs, detail). BundleError when that is not `provider`."""

    @abstractmethod
    def _signature(self) -> Signature: ...

    @abstractmethod
    def _run(self, feeds: Tensors, names: list[str]) -> list[NDArray[Any]]:
        """The graph's inputs by name -> the outputs called `names`. No later run may overwrite any of them."""

    def fit(self, frame: Frame) -> Image | None:
        return model_io.to_input(frame.image, self.manifest.input)[0] if self._takes_whole(frame) else None

    def infer(self, frame: Frame, fitted: Image | None = None) -> Prediction:
        m, stride = self.manifest, self.manifest.outputs.heat_stride
        height, width = frame.image.shape[:2]
        how = model_io.fit(width, height, m.input)
        if self._takes_whole(frame):
            picture = model_io.to_input(frame.image, m.input)[0] if fitted is None else fitted
            (scores, heat, novelty), after = self.step(picture, self._memory.before(frame))
            self._memory.keep(frame, after)
        else:
            tiling = self._tiling(frame, how)
            pieces = [self.run(tile) for tile in tiles.cut(frame.image, tiling, m.input)]
            (scores, heat), how = tiles.merge(tiling, stride, [piece[:2] for piece in pieces]), tiling.how
            # The strangest tile: a frame is known only where all of it is.
            novelty = float(np.max([piece.novelty or 0.0 for piece in pieces])) if m.novelty else None
        return model_io.to_prediction(scores, heat, m.limits, how, stride, frame.px_per_mm, novelty)

    def begin_part(self, now_ns: int) -> None:
        self._memory.begin_part(now_ns)

    def forget(self) -> None:
        """What was shown so far is no past of what comes."""
        self._memory.forget()

    def _takes_whole(self, frame: Frame) -> bool:
        """Whether the frame, fitted to the input, shows things about as large as the model learned them."""
        spec = self.manifest.input
        how = model_io.fit(frame.image.shape[1], frame.image.shape[0], spec)
        ratio = model_io.input_px_per_mm(frame.px_per_mm, how) / spec.px_per_mm
        return 1 / spec.scale_tolerance <= ratio <= spec.scale_tolerance

    def _tiling(self, frame: Frame, how: model_io.Fit) -> tiles.Plan:
        """For a frame that would be shrunk too far; ModelError where tiles are too many or would not help."""
        m = self.manifest
        shown = (
            f"{frame.camera} shows {frame.px_per_mm * how.scale:.2f} px per mm at the model's input, "
            f"{self.bundle_id} was trained at {m.input.px_per_mm:.2f}"
        )
        if frame.px_per_mm * how.scale > m.input.px_per_mm or m.state:  # a memory of tiles would be of other places
            raise ModelError(shown)
        if m.input.px_per_mm > frame.px_per_mm * m.input.scale_tolerance:
            raise ModelError(f"{shown}, and the camera itself has {frame.px_per_mm:.2f}: no tile holds more")
        whole_mm = max(limit.limit_mm for limit in m.limits)
        height, width = frame.image.shape[:2]
        tiling = tiles.plan(width, height, frame.px_per_mm, m.input, m.outputs.heat_stride, whole_mm)
        if (count := len(tiling.corners)) > self.max_tiles:
            raise ModelError(
                f"{shown}; cut into {count} tiles it would fit, at {count} times the inference: set bundle.max_tiles "
                f"to {count} or more (now {self.max_tiles})"
            )
        return tiling

    def run(self, image: Image) -> Outputs:
        """`step` from nothing: what is said of a frame on its own."""
        return self.step(image, self._memory.nothing)[0]

    def step(self, image: Image, state: State) -> tuple[Outputs, State]:
        """(height_px, width_px, 3) uint8 -> what is said of it, and what to remember with the next frame. ModelError
        when the runtime fails.
        """
        m = self.manifest
        feeds: Tensors = {m.input.name: image[None], **dict(zip((s.input for s in m.state), state, strict=True))}
        extra = [m.novelty.output] if m.novelty else []
        try:
            scores, heat, *rest = self._run(
                feeds, [m.outputs.scores, m.outputs.heat, *extra, *(s.output for s in m.state)]
            )
        except Exception as e:  # the runtimes' exceptions share no base but Exception
            raise ModelError(f"{self.bundle_id}: {e}") from e
        novelty = float(rest.pop(0)[0]) if m.novelty else None
        return Outputs(scores[0], heat[0], novelty), rest

    def _check_shapes(self) -> None:
        m = self.manifest
        stride, classes = m.outputs.heat_stride, len(m.classes)
        heat_shape: list[int | str] = [1, classes, m.input.height_px // stride, m.input.width_px // stride]
        want_in: dict[str, Port] = {m.input.name: ([1, m.input.height_px, m.input.width_px, 3], "uint8")}
        want_out: dict[str, Port] = {
            m.outputs.scores: ([1, classes], "float32"),
            m.outputs.heat: (heat_shape, "uint8"),
        }
        want_in |= {s.input: (list(s.shape), "float32") for s in m.state}
        want_out |= {s.output: (list(s.shape), "float32") for s in m.state}
        want_out |= {m.novelty.output: ([1], "float32")} if m.novelty else {}
        is_so = self._signature()
        for verb, is_, want in (("takes", is_so.inputs, want_in), ("gives", is_so.outputs, want_out)):
            if is_ != want:
                raise BundleError(self.bundle_id, f"the graph {verb} {is_}, the manifest says {want}", "export again")

    def _replay_golden(self, bundle: VerifiedBundle) -> float:
        """The largest difference of a score; BundleError when this machine does not get what the exporter got."""
        golden, worst, state = self.manifest.golden, 0.0, self._memory.nothing
        for case in golden.cases:
            image = _decode(bundle.files[case.image], self.manifest.input.width_px, self.manifest.input.height_px)
            if image is None:
                raise BundleError(self.bundle_id, f"{case.image} is no picture of the input's size", "export again")
            (scores, heat, novelty), state = self.step(image, state)
            off = float(np.abs(scores - np.asarray(case.scores)).max())
            heat_off = float(np.abs(heat.mean(axis=(1, 2)) - np.asarray(case.heat_mean)).max())
            if not (off <= golden.tolerance and heat_off <= golden.heat_tolerance):  # a NaN must fail too
                raise BundleError(
                    self.bundle_id,
                    f"{case.image} comes out {off:.4f} off in its scores and {heat_off:.2f} in its heat map",
                    f"this machine's {self.provider} does not compute what the exporter's did: export for it",
                )
            if novelty is not None and case.novelty is not None:
                strange_off = abs(novelty - case.novelty)
                if not strange_off <= golden.tolerance * max(1.0, case.novelty):
                    raise BundleError(
                        self.bundle_id,
                        f"{case.image} comes out {strange_off:.4f} off in its novelty of {case.novelty:.4f}",
                        f"this machine's {self.provider} does not compute what the exporter's did: export for it",
                    )
            worst = max(worst, off)
        return worst


def _decode(data: bytes, width: int, height: int) -> Image | None:
    """A PNG of this size, or None for anything else; OpenCV raises for some of that and answers None for the rest.

    The header is read first: in a hundred kB a picture of gigabytes may wait to be decoded.
    """
    if not data.startswith(SIGNATURE) or data[16:24] != struct.pack(">II", width, height):
        return None
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None or image.shape != (height, width, 3) else np.asarray(image, np.uint8)
