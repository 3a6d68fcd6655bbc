"""A verified bundle on ONNX Runtime: load, warm up, replay the golden frames on this very provider, infer."""

from __future__ import annotations

import cv2
import numpy as np
import onnxruntime as ort
from numpy.typing import NDArray

from edge.bundle_store import VerifiedBundle
from inspection import model_io
from inspection.bundle import MODEL_FILE
from inspection.errors import BundleError, ModelError
from inspection.types import Frame, Image, Prediction

WARM_UP_RUNS = 3


class OnnxModel:
    """Implements `ports.Model`. Loading refuses a bundle whose golden frames do not come out as its exporter saw."""

    def __init__(self, bundle: VerifiedBundle, provider: str = "CPUExecutionProvider", threads: int = 2) -> None:
        self.manifest = bundle.manifest
        self.bundle_id = bundle.manifest.id
        self.sha256 = bundle.sha256
        self.label_book = bundle.manifest.label_book
        self.session = _session(bundle, provider, threads)
        self.provider = self.session.get_providers()[0]
        if self.provider != provider:  # onnxruntime falls back silently; Haltline does not
            raise BundleError(self.bundle_id, f"runs on {self.provider}, not on {provider}", "fix bundle.provider")
        self._check_shapes()
        for _ in range(WARM_UP_RUNS):
            self.run(np.zeros((self.manifest.input.height_px, self.manifest.input.width_px, 3), np.uint8))
        self.golden_error = self._replay_golden(bundle)

    def infer(self, frame: Frame) -> Prediction:
        spec = self.manifest.input
        image, how = model_io.to_input(frame.image, spec)
        ratio = model_io.input_px_per_mm(frame.px_per_mm, how) / spec.px_per_mm
        if not 1 / spec.scale_tolerance <= ratio <= spec.scale_tolerance:
            raise ModelError(
                f"{frame.camera} shows {frame.px_per_mm * how.scale:.2f} px per mm at the model's input, "
                f"{self.bundle_id} was trained at {spec.px_per_mm:.2f}"
            )
        scores, heat = self.run(image)
        stride = self.manifest.outputs.heat_stride
        return model_io.to_prediction(scores, heat, self.manifest.limits, how, stride, frame.px_per_mm)

    def run(self, image: Image) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
        """(height_px, width_px, 3) uint8 -> scores (C,), heat (C, h, w) uint8. ModelError when the runtime fails."""
        names = [self.manifest.outputs.scores, self.manifest.outputs.heat]
        try:
            scores, heat = self.session.run(names, {self.manifest.input.name: image[None]})
        except Exception as e:  # onnxruntime's exceptions share no base but Exception
            raise ModelError(f"{self.bundle_id}: {e}") from e
        return scores[0], heat[0]

    def _check_shapes(self) -> None:
        m = self.manifest
        want_in = ([1, m.input.height_px, m.input.width_px, 3], "tensor(uint8)")
        stride, classes = m.outputs.heat_stride, len(m.classes)
        heat_shape = [1, classes, m.input.height_px // stride, m.input.width_px // stride]
        want_out = {
            m.outputs.scores: ([1, classes], "tensor(float)"),
            m.outputs.heat: (heat_shape, "tensor(uint8)"),
        }
        inputs = {i.name: (i.shape, i.type) for i in self.session.get_inputs()}
        outputs = {o.name: (o.shape, o.type) for o in self.session.get_outputs()}
        if inputs != {m.input.name: want_in}:
            raise BundleError(self.bundle_id, f"the graph takes {inputs}, the manifest says {want_in}", "export again")
        if outputs != want_out:
            raise BundleError(
                self.bundle_id, f"the graph gives {outputs}, the manifest says {want_out}", "export again"
            )

    def _replay_golden(self, bundle: VerifiedBundle) -> float:
        """The largest difference of a score; BundleError when this machine does not get what the exporter got."""
        golden, worst = self.manifest.golden, 0.0
        for case in golden.cases:
            image = _decode(bundle.files[case.image])
            if image is None or image.shape[:2] != (self.manifest.input.height_px, self.manifest.input.width_px):
                raise BundleError(self.bundle_id, f"{case.image} is no picture of the input's size", "export again")
            scores, heat = self.run(image)
            off = float(np.abs(scores - np.asarray(case.scores)).max())
            heat_off = float(np.abs(heat.mean(axis=(1, 2)) - np.asarray(case.heat_mean)).max())
            if not (off <= golden.tolerance and heat_off <= golden.heat_tolerance):  # a NaN must fail too
                raise BundleError(
                    self.bundle_id,
                    f"{case.image} comes out {off:.4f} off in its scores and {heat_off:.2f} in its heat map",
                    f"this machine's {self.provider} does not compute what the exporter's did: export for it",
                )
            worst = max(worst, off)
        return worst


def _decode(data: bytes) -> Image | None:
    """A picture, or None for anything that is none; OpenCV raises for some of that and answers None for the rest."""
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    except cv2.error:
        return None
    return None if image is None else np.asarray(image, np.uint8)


def _session(bundle: VerifiedBundle, provider: str, threads: int) -> ort.InferenceSession:
    if provider not in ort.get_available_providers():
        have = ", ".join(ort.get_available_providers())
        raise BundleError(
            bundle.manifest.id, f"{provider} is not to be had here", f"bundle.provider takes one of {have}"
        )
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would eat the core that MQTT and the camera need between frames.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return ort.InferenceSession(bundle.files[MODEL_FILE], options, providers=[provider])
    except Exception as e:  # as above
        raise BundleError(bundle.manifest.id, f"onnxruntime refuses {MODEL_FILE}: {e}", "export again") from e
