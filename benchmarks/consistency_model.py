"""Do consistent labels make a better model than a larger network? `python -m benchmarks.consistency --model`.

Simulated inspectors label rendered scratches, or with `--crops` real ones (`consistency_crops.py`). Before: each calls
a defect from a size of their own (1.0, 1.5 and 3.0 mm), by eye, with slips. The size band of their labels proposes one
rule; after it, all three follow that rule with a gauge, and still slip. The same small network learns from either set
of labels (the same frames, one label a frame, the same number of steps), and a network of twice its weights from the
labels before. All are judged on frames they never saw, by the proposed rule and the true length. Every seed draws
frames, people's luck and weights anew.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from benchmarks.consistency_chart import chart
from benchmarks.figures import Figure
from inspection.agreement import Agreement, Unit, agreement
from inspection.render import DefectSpec, render
from inspection.size_band import Call, SizeBand, size_band
from training import loss, metrics
from training.network import HEAT_STRIDE, Network

WIDTH_PX, HEIGHT_PX = 160, 128
TRAIN, TEST, STUDY = 400, 400, 300
"""Everybody labels the first STUDY frames; half of all frames hold a scratch."""
BATCH, STEPS, TOP_LR = 16, 220, 2e-3
SMALL, TWICE = 8, 11
"""Channels of the first layer: 126 thousand weights and, with 11, 1.9 times as many."""
SIZES_MM = (0.4, 5.0)
T_95 = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""Student's t for a two-sided 95 % interval of a mean of so many seeds."""


@dataclass(frozen=True, slots=True)
class Inspector:
    """Calls a defect from `threshold_mm` on, as their eye sees it: off by a factor exp(N(0, `eye`)); `slips`: share of
    answers that are simply wrong."""

    threshold_mm: float
    eye: float
    slips: float


BEFORE = (Inspector(1.0, 0.15, 0.02), Inspector(1.5, 0.15, 0.02), Inspector(3.0, 0.15, 0.02))


def after(limit_mm: float) -> tuple[Inspector, ...]:
    """The same people with one rule and the page's measuring line: 4 % of the length, half the slips."""
    return tuple(Inspector(limit_mm, 0.04, 0.01) for _ in BEFORE)


@dataclass(frozen=True, slots=True)
class Scratch:
    """One rendered frame: (H, W, 3) BGR, where the scratch is, and its true length in mm, 0 where there is none."""

    image: NDArray[np.uint8]
    mask: NDArray[np.uint8]
    length_mm: float


Source = Callable[[int], tuple[list[Scratch], list[Scratch]]]
"""Seed -> TRAIN frames to learn from, and frames to judge of which none shows the same scratch."""


@dataclass(slots=True)
class Arm:
    """What one way of labelling and one size of network came to, a value a seed."""

    name: str
    ap: list[float] = field(default_factory=list)
    recall: list[float] = field(default_factory=list)


@dataclass(slots=True)
class Proof:
    before: Arm
    twice: Arm
    after: Arm
    limits_mm: list[float]
    said: list[tuple[Agreement, Agreement]]


def rendered(seed: int) -> tuple[list[Scratch], list[Scratch]]:
    return frames(TRAIN, 2 * seed + 1), frames(TEST, 2 * seed + 2)


def frames(count: int, seed: int) -> list[Scratch]:
    """Half of the frames hold a scratch, its length spread evenly in the logarithm."""
    rng = np.random.default_rng(seed)
    found = []
    for k in range(count):
        length = float(np.exp(rng.uniform(*np.log(SIZES_MM))))
        defects = [DefectSpec("scratch", length)] if k % 2 else []
        seen = render("scratch", seed * 100_000 + k, defects=defects, width_px=WIDTH_PX, height_px=HEIGHT_PX)
        longest = max((d.length_mm for d in seen.defects), default=0.0)
        found.append(Scratch(seen.image, (seen.mask > 0).astype(np.uint8), longest))
    return found


def answer(who: Inspector, length_mm: float, rng: np.random.Generator) -> bool:
    seen = length_mm * math.exp(rng.normal(0, who.eye))
    return bool((length_mm > 0 and seen >= who.threshold_mm) != (rng.random() < who.slips))


def double_labels(people: Sequence[Inspector], of: Sequence[Scratch], seed: int) -> tuple[list[Unit], list[Call]]:
    """Everybody labels the same frames; scratches that are there have been measured."""
    rng = np.random.default_rng((seed, 1))
    units, calls = [], []
    for n, frame in enumerate(of):
        said = [answer(who, frame.length_mm, rng) for who in people]
        names = {f"person {k}": "defect" if bad else "good" for k, bad in enumerate(said)}
        units.append(Unit(f"part {n}", names))
        if frame.length_mm > 0:
            calls += [Call(f"person {k}", f"part {n}", frame.length_mm, bad) for k, bad in enumerate(said)]
    return units, calls


def training_labels(people: Sequence[Inspector], of: Sequence[Scratch], seed: int) -> NDArray[np.bool_]:
    """One label a frame, by whoever had it: what a factory without the loop has."""
    rng = np.random.default_rng((seed, 2))
    return np.array([answer(people[int(rng.integers(len(people)))], f.length_mm, rng) for f in of])


def train(of: Sequence[Scratch], labels: NDArray[np.bool_], width: int, seed: int) -> Network:
    """A defect's label comes with its outline; what is called good has none."""
    torch.manual_seed(seed)
    network = Network(1, width)
    optimizer = torch.optim.AdamW(network.parameters(), TOP_LR, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, TOP_LR, total_steps=STEPS, pct_start=0.15)
    images = np.stack([f.image for f in of])
    maps = np.stack([_map(f, called=bool(b)) for f, b in zip(of, labels, strict=True)])
    rng = np.random.default_rng((seed, 3))
    network.train()
    for step in range(STEPS):
        rows = rng.choice(len(of), BATCH, replace=False)
        flips = tuple(axis for axis in (1, 2) if rng.random() < 0.5)
        x = torch.from_numpy(np.ascontiguousarray(np.flip(images[rows], flips)))
        wanted = torch.from_numpy(np.ascontiguousarray(np.flip(maps[rows], flips)))[:, None].float()
        scores, cells = network(x)
        where, what = loss.shares(step / STEPS)
        seg = loss.segmentation(cells, wanted, torch.ones_like(wanted))
        dec = loss.decision(scores, torch.from_numpy(labels[rows, None].astype(np.float32)))
        optimizer.zero_grad(set_to_none=True)
        (where * seg + what * dec).backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(network.parameters(), 5.0)
        optimizer.step()
        schedule.step()
    return network


@torch.no_grad()
def judge(network: Network, of: Sequence[Scratch]) -> NDArray[np.float64]:
    network.eval()
    batches = [np.stack([f.image for f in of[k : k + 50]]) for k in range(0, len(of), 50)]
    return np.concatenate([network(torch.from_numpy(b))[0][:, 0].double().numpy() for b in batches])


def prove(seeds: int, source: Source = rendered) -> Proof:
    proof = Proof(Arm("labels before"), Arm("labels before, twice the network"), Arm("labels after"), [], [])
    for seed in range(seeds):
        began = time.monotonic()
        learn, held_out = source(seed)
        units, calls = double_labels(BEFORE, learn[:STUDY], seed)
        band = size_band(calls, draws=300, seed=seed)
        if not isinstance(band, SizeBand):
            raise SystemExit(f"seed {seed}: no rule is proposed: {band.why}")
        limit = round(round(band.proposed_mm.value * 20) / 20, 2)
        people = after(limit)
        proof.limits_mm.append(limit)
        proof.said.append((agreement(units), agreement(double_labels(people, learn[:STUDY], seed + 1000)[0])))
        truth = np.array([f.length_mm >= limit for f in held_out])
        old, new = training_labels(BEFORE, learn, seed), training_labels(people, learn, seed)
        for arm, labels, width in ((proof.before, old, SMALL), (proof.twice, old, TWICE), (proof.after, new, SMALL)):
            scores = judge(train(learn, labels, width, seed), held_out)
            arm.ap.append(metrics.average_precision(scores, truth))
            arm.recall.append(metrics.recall_at_false_calls(scores, truth))
            _tell(f"seed {seed}, {arm.name}: AP {arm.ap[-1]:.3f}, recall {arm.recall[-1]:.3f}")
        _tell(f"seed {seed}: rule {limit} mm, {time.monotonic() - began:.0f} s")
    return proof


def figures(
    seeds: int = 5, plot: Path | None = None, source: Source = rendered, what: str = "rendered scratches"
) -> Iterator[Figure]:
    """`plot`: an SVG file to write."""
    torch.set_num_threads(1)
    proof = prove(seeds, source)
    if plot:
        arms = [(arm.name, arm.recall) for arm in (proof.before, proof.twice, proof.after)]
        title = f"{what.capitalize()}: recall at 1 % false calls, one dot a seed"
        plot.write_text(chart(title, arms), encoding="utf-8")
    note = f"{seeds} seeds, {TRAIN} frames of {what}, one label each; by 3 people"
    for n, word in enumerate(("before", "after")):
        alphas = [pair[n].alpha.value for pair in proof.said]
        goal = ">= 0.9" if word == "after" else None
        yield Figure(f"agreement {word} the rule (Krippendorff's alpha)", round(_mean(alphas), 3), "", goal, note)
    limits = proof.limits_mm
    worst = round(max(abs(v - 1.5) for v in limits), 2)
    yield Figure("proposed rule, furthest from 1.5 mm", worst, "mm", "<= 0.15", _list(limits))
    for arm in (proof.before, proof.twice, proof.after):
        yield Figure(f"AP, {arm.name}", round(_mean(arm.ap), 3), "", None, _list(arm.ap))
        yield Figure(f"recall at 1 % false calls, {arm.name}", round(_mean(arm.recall), 3), "", None, _list(arm.recall))
    yield _gain("recall gained by the rule", proof.after.recall, proof.before.recall, ">= 0")
    yield _gain("recall gained by twice the network instead", proof.twice.recall, proof.before.recall, None)
    yield _gain("recall, the rule against twice the network", proof.after.recall, proof.twice.recall, ">= 0")
    yield _gain("AP, the rule against twice the network", proof.after.ap, proof.twice.ap, ">= 0")


def _gain(name: str, a: Sequence[float], b: Sequence[float], goal: str | None) -> Figure:
    """The lower end of the paired difference's 95 % interval over the seeds is what must not be negative."""
    apart = [x - y for x, y in zip(a, b, strict=True)]
    half = T_95[len(apart)] * float(np.std(apart, ddof=1)) / math.sqrt(len(apart))
    middle = _mean(apart)
    note = f"mean {middle:+.3f}, 95 % interval {middle - half:+.3f} to {middle + half:+.3f}"
    return Figure(f"{name}, lower bound", round(middle - half, 3), "", goal, note)


def _map(frame: Scratch, *, called: bool) -> NDArray[np.uint8]:
    """The outline at the stride of the network's map; nobody outlines what they call good."""
    height, width = frame.mask.shape
    shape = width // HEAT_STRIDE, height // HEAT_STRIDE
    return np.asarray(cv2.resize(frame.mask * called, shape, interpolation=cv2.INTER_NEAREST), np.uint8)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


def _list(values: Sequence[float]) -> str:
    return ", ".join(f"{v:.3g}" for v in values)


def _tell(words: str) -> None:
    sys.stderr.write(words + "\n")
    sys.stderr.flush()
