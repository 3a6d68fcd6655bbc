"""That looks strange: what is wrong with most data sets and runs that look fine, each with a number and a bound.

Every check gives one number, what it should be, and whether it is. A clean run passes all of them silently.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from inspection.samples import Sample
from training.dataset.item import decode, decode_mask, read_bytes
from training.dataset.leaks import Leaks, look
from training.dataset.snapshot import Snapshot
from training.judging import JudgedPicture
from training.metrics import auroc, calibration_by_chance, calibration_error, group_draws
from training.outcome import Outcome

SHORTCUT, SHORTCUT_LOW = 0.85, 0.75
SATURATED = 1e-4
MOST_AWAY = 0.3
MOST_ECE = 0.05
EASY_WORSE = 0.2
LEAST = 8


@dataclass(frozen=True, slots=True)
class Check:
    """`value` against `bound` in words; `where` names what to look at first."""

    name: str
    value: float
    bound: str
    ok: bool
    where: str = ""


# ── of a snapshot ───────────────────────────────────────────────────────────────────────────────────────────────


def check_snapshot(snapshot: Snapshot) -> Iterator[Check]:
    leaks = look(snapshot.folder, snapshot.samples)
    yield _crossing(leaks)
    yield _contradictions(leaks)
    yield from _missing_classes(snapshot)
    yield from _shortcuts(snapshot)


def _crossing(leaks: Leaks) -> Check:
    worst = max(leaks.crossing, key=lambda p: p.likeness, default=None)
    where = f"{leaks.samples[worst.a].image} and {leaks.samples[worst.b].image}" if worst else ""
    return Check("pairs of one scene on both sides of the split", len(leaks.crossing), "0", worst is None, where)


def _contradictions(leaks: Leaks) -> Check:
    """As good as one file, and another label: at least one of them is wrong."""
    pairs = [p for p in leaks.pairs if p.same_file and leaks.samples[p.a].labels != leaks.samples[p.b].labels]
    where = f"{leaks.samples[pairs[0].a].image} and {leaks.samples[pairs[0].b].image}" if pairs else ""
    return Check("near-identical pictures with different labels", len(pairs), "0", not pairs, where)


def _missing_classes(snapshot: Snapshot) -> Iterator[Check]:
    counts = snapshot.manifest.counts
    for split in ("train", "val", "test"):
        missing = [c for c in (*snapshot.manifest.classes, "good") if not counts[split].get(c)]
        yield Check(f"classes without a picture for {split}", len(missing), "0", not missing, ", ".join(missing))


def _shortcuts(snapshot: Snapshot) -> Iterator[Check]:
    """Whether something beside the defect tells the label: brightness, contrast, border, size. Outlined defects are
    taken out of the picture first; where a label has no outline, the defect itself may be what is found."""
    rows = [_looks(snapshot, s) for s in snapshot.samples]
    labels = np.array([bool(s.labels) for s in snapshot.samples])
    groups = [s.group for s in snapshot.samples]
    if labels.sum() < LEAST or (~labels).sum() < LEAST:
        return
    names = ["brightness", "contrast", "border", "width", "height", "file size"]
    if any(s.mask for s in snapshot.samples):
        names.pop()  # a file grows with the defect it shows, and from a file nobody can cut the outline out
    for k, name in enumerate(names):
        values = np.array([row[k] for row in rows])
        found = auroc(values, labels)
        sign = 1.0 if found >= 0.5 else -1.0

        def figure(drawn: NDArray[np.int64], values: NDArray[np.float64] = sign * values) -> float:
            return auroc(values[drawn], labels[drawn])

        drawn = group_draws(figure, groups, rounds=200)
        low = float(np.percentile(drawn, 5)) if len(drawn) else 0.5
        strange = max(found, 1 - found) >= SHORTCUT and low >= SHORTCUT_LOW
        yield Check(f"AUROC of {name} alone", found, f"{1 - SHORTCUT:.2f} to {SHORTCUT:.2f}", not strange)


def _looks(snapshot: Snapshot, sample: Sample) -> tuple[float, ...]:
    path = snapshot.folder / sample.image
    data = read_bytes(path)
    grey = cv2.cvtColor(decode(data, path), cv2.COLOR_BGR2GRAY).astype(np.float32)
    sound = np.ones(grey.shape, bool)
    if sample.mask:
        mask = decode_mask(read_bytes(snapshot.folder / sample.mask), snapshot.folder / sample.mask)
        # A hand's breadth around the outline: a defect's halo must not count as the light.
        sound = cv2.dilate((mask > 0).astype(np.uint8), np.ones((9, 9), np.uint8)) == 0
    rim = np.ones(grey.shape, bool)
    y, x = (max(1, side // 20) for side in grey.shape)
    rim[y:-y, x:-x] = False
    seen, edge = grey[sound], grey[rim & sound]
    brightness = float(seen.mean()) if seen.size else math.nan
    border = float(edge.mean()) if edge.size else brightness
    contrast = float(seen.std()) if seen.size else 0.0
    return brightness, contrast, border - brightness, *grey.shape[::-1], len(data) / grey.size


# ── of a run ────────────────────────────────────────────────────────────────────────────────────────────────────


def check_outcome(test: Outcome, pictures: Sequence[JudgedPicture]) -> Iterator[Check]:
    """What a run says of its test pictures."""
    yield from _never_predicted(test)
    yield _saturated(test)
    yield from _away(test, pictures)
    yield from _easy_worse(test, pictures)
    yield from _calibrated(test)


def check_blind(zeroed: NDArray[np.float64], target: NDArray[np.bool_]) -> Check:
    """`zeroed` (N,): highest scores on the same pictures with all pixels 0. What still tells them apart is no image."""
    found = auroc(zeroed, np.asarray(target.any(axis=1)))
    return Check("AUROC with inputs zeroed", found, "0.45 to 0.55", math.isnan(found) or 0.45 <= found <= 0.55)


def check_overfit(loss: float) -> Check:
    return Check("decision loss after learning one batch by heart", loss, "below 0.01", loss < 0.01)


def check_start(loss: float, prior: float) -> Check:
    """A network that knows nothing: ln 2 per class, or the entropy of the share `prior` of defective ones."""
    entropy = -(prior * math.log(prior) + (1 - prior) * math.log(1 - prior)) if 0 < prior < 1 else 0.0
    ok = min(abs(loss / want - 1) for want in (math.log(2), entropy) if want > 0) <= 0.05
    return Check("loss before the first step", loss, f"{math.log(2):.3f} or {entropy:.3f}, within 5 %", ok)


def _never_predicted(test: Outcome) -> Iterator[Check]:
    for k, limits in enumerate(test.limits):
        bad = test.target[:, k]
        if bad.sum() >= LEAST:
            share = float((test.scores[bad, k] >= limits.hi).mean())
            yield Check(f"share of {limits.cls} called a defect", share, "above 0", share > 0)


def _saturated(test: Outcome) -> Check:
    away = np.minimum(test.scores, 1 - test.scores)
    share = float((away < SATURATED).mean())
    return Check("share of scores at 0 or 1", share, "below 0.99", share < 0.99)


def _away(test: Outcome, pictures: Sequence[JudgedPicture]) -> Iterator[Check]:
    """The hottest cell of a class further than two cells from every outline, though the picture is called rightly."""
    for k, limits in enumerate(test.limits):
        away, names = [], []
        for p in pictures:
            if p.target[k] and p.scores[k] >= limits.hi and p.cells is not None and p.cells[k].any():
                near = cv2.dilate(p.cells[k].astype(np.uint8), np.ones((5, 5), np.uint8))
                away.append(not near[np.unravel_index(int(np.argmax(p.heat[k])), near.shape)])
                names += [p.sample.image] if away[-1] else []
        if len(away) >= LEAST:
            share = float(np.mean(away))
            where = names[0] if names else ""
            yield Check(
                f"right for the wrong place, {limits.cls}", share, f"below {MOST_AWAY}", share < MOST_AWAY, where
            )


def _easy_worse(test: Outcome, pictures: Sequence[JudgedPicture]) -> Iterator[Check]:
    """Large defects found less often than small ones: labels or scale are off."""
    for k, limits in enumerate(test.limits):
        bad = sorted((p for p in pictures if p.target[k] and p.region_mm[k] > 0), key=lambda p: float(p.region_mm[k]))
        third = len(bad) // 3
        if third >= LEAST:
            small, large = (np.mean([p.scores[k] >= limits.lo for p in some]) for some in (bad[:third], bad[-third:]))
            gap = float(small - large)
            yield Check(f"small {limits.cls} found more often than large", gap, f"below {EASY_WORSE}", gap < EASY_WORSE)


def _calibrated(test: Outcome) -> Iterator[Check]:
    """Against what chance alone would give with so few pictures: simulated from the scores themselves."""
    for k, limits in enumerate(test.limits):
        scores = test.scores[:, k]
        found = calibration_error(scores, test.target[:, k])
        bound = max(MOST_ECE, float(np.percentile(calibration_by_chance(scores), 99)))
        yield Check(f"calibration error of {limits.cls}", found, f"below {bound:.3f}", found <= bound)


# ── what to look at ─────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Hard:
    """A picture the run finds hard: its loss, and the training picture most like it (`likeness` of thumbnails)."""

    image: str
    labels: tuple[str, ...]
    loss: float
    neighbour: str
    neighbour_labels: tuple[str, ...]
    likeness: float


def hardest(snapshot: Snapshot, test: Outcome, count: int = 20) -> list[Hard]:
    """The highest log losses with their nearest training neighbours: a wrong label is often seen at a glance."""
    from training.dataset.leaks import nearness

    p = np.clip(test.scores, 1e-6, 1 - 1e-6)
    loss = -np.where(test.target, np.log(p), np.log(1 - p)).sum(1)
    worst = np.argsort(-loss)[:count]
    train = snapshot.split("train")
    near = nearness(snapshot.folder, [*(test.samples[n] for n in worst), *train])[: len(worst), len(worst) :]
    done = []
    for row, n in enumerate(worst):
        best = int(np.argmax(near[row]))
        s, t = test.samples[n], train[best]
        done.append(Hard(s.image, s.labels, float(loss[n]), t.image, t.labels, float(near[row, best])))
    return done
