"""An int8 bundle from a released one: its limits carried over, its loss measured, and refused when that is too much.

Quantizing moves scores a little. So lo and hi are carried over along the line on which both models' logits of the
validation pictures agree best; both models then judge the test pictures as the edge would. (Limits chosen anew by the
rules of `export` hang on one or two pictures each, and moved more calls than int8 itself.)
"""

from __future__ import annotations

import datetime as dt
import time
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np

from inspection.bundle import MODEL_FILE, ClassLimits, Manifest, NoveltySpec, sha256
from inspection.errors import BundleError, DatasetError
from inspection.policy import Policy, policy_of
from inspection.types import Image
from training.dataset.snapshot import Snapshot, read_snapshot
from training.dataset.whole import whole
from training.evaluate import Figures, evaluate
from training.examples import Example, load
from training.export import summary, taken, write_files
from training.int8 import golden_for, to_int8
from training.novelty import spec_for
from training.onnx_graph import checked, fold
from training.parity import RANDOM_FRAMES, Parity, held_against, random_frames
from training.served import Served, bundle_files, open_session, read_bundle

PICTURES = 128
MAX_AP_LOSS, MAX_FLIPS = 0.003, 0.005
TIMED_RUNS = 60


@dataclass(frozen=True, slots=True)
class Loss:
    """What int8 costs and gains: `flips` of `pictures` came to another call, `missed`, `false_stops` (before, after).

    `ap` (class, before, after). `ms` is one inference (before, after), as `speed` takes it.
    """

    split: str
    pictures: int
    flips: int
    ap: tuple[tuple[str, float, float], ...]
    missed: tuple[int, int]
    false_stops: tuple[int, int]
    ms: tuple[float, float]

    @property
    def ap_loss(self) -> float:
        """Mean over the classes with defects among the pictures; negative when int8 happens to be better."""
        known = [before - after for _, before, after in self.ap if np.isfinite(before) and np.isfinite(after)]
        return float(np.mean(known)) if known else 0.0

    @property
    def flip_share(self) -> float:
        return self.flips / self.pictures

    @property
    def faster(self) -> float:
        return self.ms[0] / self.ms[1]


@dataclass(frozen=True, slots=True)
class Quantized:
    folder: Path
    manifest: Manifest
    loss: Loss


def quantize(
    bundle: Path,
    snapshot: Path,
    out: Path,
    *,
    name: str | None = None,
    version: str | None = None,
    key: bytes | None = None,
    reduce_range: bool = False,
    max_ap_loss: float = MAX_AP_LOSS,
    max_flips: float = MAX_FLIPS,
) -> Quantized:
    """Write the int8 twin of `bundle` to `out`. BundleError, which states the figures, when it loses too much."""
    if out.exists():
        raise taken(out)
    parent, data = read_bundle(bundle), read_snapshot(snapshot)
    if parent.manifest.state:
        raise BundleError(parent.manifest.id, "has a memory, whose ranges no single picture shows", "serve it as it is")
    _check_same_rules(parent.manifest, data)
    files = {path: content for path, content in bundle_files(bundle).items() if path in parent.manifest.files}
    learnt_from = pictures_of(data, parent.manifest)
    model = to_int8(files[MODEL_FILE], parent.manifest.input.name, learnt_from, reduce_range=reduce_range)
    raw = Served(parent.manifest, open_session(model))
    images = [example.image for example in validation(data, parent.manifest)]
    changes = {
        "name": name or f"{parent.manifest.name}-int8",
        "version": version or parent.manifest.version,
        "created_utc": dt.datetime.now(dt.UTC).isoformat(timespec="seconds"),
        "limits": carried(parent, raw, images),
        "novelty": refitted(parent.manifest.novelty, raw, images),
        "golden": golden_for(raw, files),
    }
    made = parent.manifest.model_copy(update=changes)
    child = Served(made, raw.session)
    loss, figures = compare(parent, child, data, files[MODEL_FILE], model)
    _refuse(made.id, loss, max_ap_loss, max_flips)
    seen = beside(parent, child, images)
    text = card(made, parent.manifest, loss, seen, files.get("card.md", b"").decode())
    manifest = _publish(
        out, made, {**files, MODEL_FILE: model, "card.md": text.encode()}, parent.manifest, key, figures
    )
    return Quantized(out, manifest, loss)


def _check_same_rules(manifest: Manifest, data: Snapshot) -> None:
    if data.manifest.label_book.id != manifest.label_book or data.manifest.classes != manifest.classes:
        raise DatasetError(
            data.folder,
            f"is labelled by {data.manifest.label_book.id}, {manifest.id} was made for {manifest.label_book}",
            "name the snapshot the bundle was trained on, or one by the same label book",
        )


# ── ranges, limits, golden frames ───────────────────────────────────────────────────────────────────────────────


def pictures_of(snapshot: Snapshot, manifest: Manifest, count: int = PICTURES) -> list[Image]:
    """Up to `count` training pictures, taken evenly, as the network sees them: none that a figure rests on."""
    samples, book = snapshot.split("train"), snapshot.manifest.label_book
    if not samples:
        raise DatasetError(snapshot.folder, "has no training pictures to learn ranges from", "import some for training")
    chosen = np.unique(np.linspace(0, len(samples) - 1, count).astype(int))
    return [load(snapshot.folder, samples[k], manifest.input, book).image for k in chosen]


def validation(snapshot: Snapshot, manifest: Manifest) -> list[Example]:
    samples, book = snapshot.split("val"), snapshot.manifest.label_book
    if not samples:
        raise DatasetError(
            snapshot.folder,
            "has no validation pictures to choose limits on",
            "import again: larger --val, or another --seed",
        )
    return [load(snapshot.folder, sample, manifest.input, book) for sample in samples]


def carried(parent: Served, child: Served, images: Sequence[Image]) -> tuple[ClassLimits, ...]:
    """The parent's limits where the child's scores lie: per class, logits of one against the other on a line."""
    before, after = (logit(np.array([served.raw(i)[0] for i in images], np.float64)) for served in (parent, child))
    limits = []
    for k, limit in enumerate(parent.manifest.limits):
        slope, offset = np.polyfit(before[:, k], after[:, k], 1) if len(images) > 2 else (1.0, 0.0)
        moved = [_moved(v, float(slope), float(offset)) for v in (limit.lo, limit.hi)]
        limits.append(limit.model_copy(update={"lo": min(moved), "hi": moved[1]}))
    return tuple(limits)


def refitted(known: NoveltySpec | None, child: Served, images: Sequence[Image]) -> NoveltySpec | None:
    """The threshold anew, as export chose the parent's: integers move a distance a little, as they move scores."""
    if known is None:
        return None
    return spec_for([child.answer(image).novelty or 0.0 for image in images], known.fitted_on)


def _moved(limit: float, slope: float, offset: float) -> float:
    """Limits of 0 and 1 say always and never, which no line moves; scores that do not agree at all move none."""
    if not 0 < limit < 1 or slope <= 0:
        return limit
    return round(float(1 / (1 + np.exp(-(slope * logit(limit) + offset)))), 4)


def logit(p: Any) -> Any:
    """Of probabilities, kept finite."""
    clipped = np.clip(p, 1e-6, 1 - 1e-6)
    return np.log(clipped / (1 - clipped))


def beside(parent: Served, child: Served, images: Sequence[Image], count: int = RANDOM_FRAMES) -> Parity:
    """Both over up to eight validation pictures and `count` random ones, each by its own limits."""
    policies = tuple(Policy(policy_of(served.manifest)) for served in (parent, child))
    frames = chain(images[:8], random_frames(images, count))
    return held_against(parent.answer, child.answer, frames, parent.manifest.classes, (policies[0], policies[1]))


# ── what it costs ───────────────────────────────────────────────────────────────────────────────────────────────


def compare(parent: Served, child: Served, data: Snapshot, before: bytes, after: bytes) -> tuple[Loss, Figures]:
    """Both over the test pictures, or the validation pictures where none were set aside; the int8 model's figures."""
    split = "test" if data.split("test") else "val"
    one, pictures_one = evaluate(parent, data, split)
    other, pictures_other = evaluate(child, data, split)
    flips = sum(a.verdict is not b.verdict for a, b in zip(pictures_one, pictures_other, strict=True))
    pairs = zip(one.classes, other.classes, strict=True)
    loss = Loss(
        split=split,
        pictures=len(pictures_one),
        flips=flips,
        ap=tuple((a.cls, a.image_ap.value, b.image_ap.value) for a, b in pairs),
        missed=(one.missed, other.missed),
        false_stops=(one.false_stops, other.false_stops),
        ms=speed(before, after, parent.manifest),
    )
    return loss, other


def speed(before: bytes, after: bytes, manifest: Manifest, threads: int = 2) -> tuple[float, float]:
    """Ms of the fastest tenth of each, in turns: a busy machine only ever adds, and adds to both.

    The parent's constants are folded first: a gain that belongs to folding must not be counted for int8.
    """
    import onnx

    folded = checked(fold(onnx.load_from_string(before)))
    sessions = [open_session(model, threads) for model in (folded, after)]
    spec, rng = manifest.input, np.random.default_rng(0)
    picture = rng.integers(0, 256, (1, spec.height_px, spec.width_px, 3), np.uint8)
    times: list[list[float]] = [[], []]
    for _ in range(TIMED_RUNS):
        for session, spent in zip(sessions, times, strict=True):
            start = time.perf_counter()
            session.run(None, {spec.name: picture})
            spent.append((time.perf_counter() - start) * 1e3)
    return float(np.percentile(times[0], 10)), float(np.percentile(times[1], 10))


def _refuse(bundle_id: str, loss: Loss, max_ap_loss: float, max_flips: float) -> None:
    if loss.ap_loss <= max_ap_loss and loss.flip_share <= max_flips:
        return
    raise BundleError(
        bundle_id,
        f"changes image AP by {-loss.ap_loss:+.4f} (a loss of {max_ap_loss:g} at most) and comes to another call on "
        f"{loss.flips} of {loss.pictures} {loss.split} pictures ({loss.flip_share:.2%}, at most {max_flips:.2%}); it "
        f"would take {loss.ms[1]:.1f} ms instead of {loss.ms[0]:.1f}",
        "serve the float bundle, or allow more with --max-ap-loss and --max-flips",
    )


# ── the bundle ──────────────────────────────────────────────────────────────────────────────────────────────────


def _publish(
    out: Path, made: Manifest, files: dict[str, bytes], parent: Manifest, key: bytes | None, figures: Figures
) -> Manifest:
    """Beside `out`, read back as the edge would, then renamed: nothing half-written ever has its name."""
    lineage = parent.lineage.model_copy(update={"parent": parent.id, "metrics": summary(figures)})
    pins = {path: sha256(content) for path, content in files.items()}
    manifest = Manifest.model_validate({**made.model_dump(), "lineage": lineage.model_dump(), "files": pins})
    with whole(out, taken(out)) as partial:
        write_files(partial, manifest, files, key)
        read_bundle(partial)
    return manifest


def card(made: Manifest, parent: Manifest, loss: Loss, seen: Parity, parents_card: str) -> str:
    """What int8 changed, then the parent's card, whose figures are the float model's."""
    ap = "\n".join(f"| {cls} | {before:.4f} | {after:.4f} |" for cls, before, after in loss.ap)
    rows = zip(parent.limits, made.limits, strict=True)
    limits = "\n".join(f"| {a.cls} | " + " | ".join(f"{x.lo:.3f} / {x.hi:.3f}" for x in (a, b)) + " |" for a, b in rows)
    strange = ""
    if parent.novelty and made.novelty:
        strange = f"\nNovel above {made.novelty.threshold:.2f}, {parent.novelty.threshold:.2f} of {parent.id}.\n"
    quoted = "\n".join(f"> {line}".rstrip() for line in parents_card.splitlines())
    return f"""\
# {made.id}

{parent.id} in 8-bit integers, made by `haltline quantize`. It takes and gives the same; its limits were carried over on
the validation pictures. For processors with VNNI; `haltline edge doctor` says whether this one has it.

## What int8 costs and gains

On {loss.pictures} {loss.split} pictures:

- **{loss.flips} came to another call** ({loss.flip_share:.2%});
- image AP lost: {loss.ap_loss:.4f}, the mean over the classes (negative: gained);
- missed: {loss.missed[0]} before, {loss.missed[1]} now; false stops: {loss.false_stops[0]} before,
  {loss.false_stops[1]} now;
- one inference: {loss.ms[1]:.1f} ms instead of {loss.ms[0]:.1f} (fastest tenth, in turns, 2 threads of the quantizing
  machine), {loss.faster:.2f} times as fast.

On {seen.frames} frames beside them, validation pictures and random variations of them: scores at most {seen.score:.3f}
apart, another call on {seen.calls}.

| class | image AP, float | image AP, int8 |
| --- | --- | --- |
{ap}

Pass below / halt from:

| class | {parent.id} | {made.id} |
| --- | --- | --- |
{limits}
{strange}
## The card of {parent.id}

{quoted}
"""
