"""What a finished run says of the pictures of its snapshot, calibrated as `haltline export` would."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from inspection import model_io
from inspection.bundle import ClassLimits
from inspection.decision import LineGuard
from inspection.errors import DatasetError
from inspection.policy import ClassPolicy, Policy
from inspection.samples import Sample
from training.calibrate import ClassCalibration, calibrate
from training.checkpoint import RunConfig
from training.dataset.rule import longest_px
from training.dataset.snapshot import Snapshot
from training.examples import Example, load
from training.judging import JudgedPicture, longest_mm, verdict_of
from training.trained import checked_snapshot, predict, snapshot_of, trained
from training.views import check_views

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Outcome:
    """`logits` and `scores` (N, C), `target` (N, C), `heat` (N, C, h, w) of N samples, in their order."""

    config: RunConfig
    samples: tuple[Sample, ...]
    examples: list[Example]
    target: NDArray[np.bool_]
    logits: Floats
    scores: Floats
    heat: NDArray[np.uint8]
    limits: tuple[ClassLimits, ...]

    @property
    def groups(self) -> list[str]:
        return [s.group for s in self.samples]


class Judge:
    """A finished run with its calibration, which rests on the validation pictures."""

    def __init__(self, run: Path, data: Snapshot | None = None, views: int = 1) -> None:
        self.config, self.network = trained(run)
        self.views = views
        if self.config.ask.frames > 1:
            raise DatasetError(run, "is a model with a memory: this judges single pictures", "export it, then evaluate")
        check_views(views, self.config.ask)
        self.data = checked_snapshot(run, self.config, data) if data else snapshot_of(run, self.config)
        held_out, examples, logits, heat = self._raw("val")
        c = self.config
        self.classes: list[ClassCalibration] = calibrate(
            logits, heat, examples, c.label_book.rules, c.input, c.heat_stride, held_out
        )

    def of(self, split: str) -> Outcome:
        samples, examples, logits, heat = self._raw(split)
        scores = np.stack([c.platt(logits[:, k]) for k, c in enumerate(self.classes)], 1)
        target = np.array([e.target for e in examples]).reshape(len(examples), -1) > 0.5
        limits = tuple(c.limits for c in self.classes)
        return Outcome(self.config, samples, examples, target, logits, scores, heat, limits)

    def _raw(self, split: str) -> tuple[tuple[Sample, ...], list[Example], Floats, NDArray[np.uint8]]:
        samples, c = self.data.split(split), self.config
        if not samples:
            raise DatasetError(
                self.data.folder, f"has no {split} pictures", f"import again: larger --{split}, or another --seed"
            )
        examples = [load(self.data.folder, s, c.input, c.label_book) for s in samples]
        logits, maps = predict(self.network, [e.image for e in examples], views=self.views)
        return samples, examples, logits.double().numpy(), (maps * 255).round().to(torch.uint8).numpy()


def judged(outcome: Outcome, limits: tuple[ClassLimits, ...] | None = None) -> list[JudgedPicture]:
    """Each picture as one part behind the edge's guard, under the run's limits or `limits`."""
    limits, config = limits or outcome.limits, outcome.config
    policy = Policy(tuple(ClassPolicy(m.cls, m.lo, m.hi, m.limit_mm) for m in limits))
    guard, done = LineGuard(policy, ["pictures"], boot=1, now_ns=0), []
    stride, spec = config.heat_stride, config.input
    for n, (sample, example) in enumerate(zip(outcome.samples, outcome.examples, strict=True)):
        how, scale = model_io.fit(sample.width_px, sample.height_px, spec), sample.px_per_mm or 1.0
        prediction = model_io.to_prediction(
            outcome.scores[n].astype(np.float32), outcome.heat[n], limits, how, stride, scale
        )
        outlined = example.mask is not None and not (sample.mask or "").endswith(".boxes.png")
        cells = None
        if outlined and example.mask is not None:
            blocks = example.mask.reshape(spec.height_px // stride, stride, spec.width_px // stride, stride)
            cells = np.stack([(blocks == k).any((1, 3)) for k in range(1, len(limits) + 1)])
        region = np.zeros(len(limits))
        if example.mask is not None:
            region = np.array(longest_px(example.mask, len(limits))) / (scale * how.scale)
        done.append(
            JudgedPicture(
                sample=sample,
                target=outcome.target[n],
                scores=outcome.scores[n],
                heat=outcome.heat[n],
                cells=cells,
                region_mm=region,
                found_mm=longest_mm(prediction.findings, config.classes),
                verdict=verdict_of(guard, prediction, n + 1),
                ms=float("nan"),
            )
        )
    return done
