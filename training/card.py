"""The model card: one page that an engineer can send to whoever asks what this model can do and what it cannot."""

from __future__ import annotations

import math

from inspection.bundle import Manifest
from training.calibrate import ClassCalibration
from training.checkpoint import RunConfig
from training.dataset.snapshot import Snapshot, SnapshotManifest
from training.evaluate import Figures
from training.promise import Promise
from training.promised import promise_words
from training.slices import Slice

LIMITS = """\
## What it cannot do

- **It is not a safety function.** It watches quality. People are protected by the machine's own safety circuit.
- It knows the classes above and nothing else. Another defect may pass without a word.
- It is right at the scale it was trained for, within the tolerance above; the edge refuses other scales.
- Every figure holds for pictures like those it was tested on. Another camera, light, metal or process needs its own
  pictures, and a test on them, before the model may stop a line.
- A rate seen 0 times in n is not 0: the bounds above say what n pictures can show.
"""

VIEWS = {
    1: "",
    2: " It looks at each picture twice, as it is and turned by 180 degrees, and answers with the mean.",
    4: " It looks at each picture four times, as it is, mirrored, upside down and both, and answers with the mean.",
}
UNSCALED = """

Its pictures stated no scale and count as 1 px a mm: write `px_per_mm: 1` for its camera in edge.yaml. What is said in
mm is px of the frame."""


def card(
    manifest: Manifest,
    data: Snapshot,
    config: RunConfig,
    classes: list[ClassCalibration],
    figures: Figures | None,
    promise: Promise | None = None,
    views: int = 1,
) -> str:
    """The card as Markdown. `figures` None: no test pictures were set aside. `promise`: what the limits certify."""
    untested = "No test pictures were set aside: nothing is known of its rates.\n"
    parts = [
        _what_it_is(manifest, config, classes, views, scaled=any(s.px_per_mm for s in data.samples)),
        _data(data.manifest, config, manifest),
        promise_words(promise) if promise else _calibration(classes),
        _test(figures) if figures else untested,
        LIMITS,
    ]
    return "\n".join(parts)


def _what_it_is(
    manifest: Manifest, config: RunConfig, classes: list[ClassCalibration], views: int, *, scaled: bool
) -> str:
    spec, rules = manifest.input, {r.cls: r for r in config.label_book.rules}
    named = ", ".join(rules[c].title.lower() for c in manifest.classes)
    rows = "\n".join(
        f"| {x.cls} | {rules[x.cls].rule} | {x.lo:.3f} | {x.hi:.3f} | {x.heat_level:.2f} |"
        for x in (c.limits for c in classes)
    )
    return f"""\
# {manifest.id}

Finds {named} (task `{manifest.task}`). Made by `haltline export`; limits and figures below were measured, not promised.

## What it is

A segment-and-decide network, {spec.width_px}x{spec.height_px} px at {spec.px_per_mm:.1f} px/mm (frames up to a factor
{spec.scale_tolerance:g} off are accepted). Per class it gives the probability that a defect at or above the limit is in
the picture, and a map of where.{VIEWS[views]}{"" if scaled else UNSCALED}

| class | a defect is | pass below | halt from | map level |
| --- | --- | --- | --- | --- |
{rows}

Label book {manifest.label_book}. Between the two limits a picture is *uncertain* and goes to a person.
{_novelty(manifest)}"""


def _novelty(manifest: Manifest) -> str:
    known = manifest.novelty
    if known is None:
        return ""
    return f"""
Beside them it says how unlike its {known.fitted_on} training pictures a picture is. Above
{known.threshold:.2f}, where at most {1 - known.quantile:.0%} of {known.held_out} validation pictures lie, the edge
sends the picture to be labelled; no call changes, and the line is not stopped by it.
"""


def _data(data: SnapshotManifest, config: RunConfig, manifest: Manifest) -> str:
    rows = "\n".join(
        f"| {split} | {c['samples']} | {c['groups']} | {c['good']} | {', '.join(f'{k} {c[k]}' for k in data.classes)} |"
        for split, c in data.counts.items()
    )
    parent = f" Started from {manifest.lineage.parent}." if manifest.lineage.parent else ""
    drawn = " Every picture was drawn by Haltline's renderer; it saw no real metal." if _all_rendered(data) else ""
    return f"""\
## Trained on

Snapshot `{data.id}`, {_apart(data)} {config.epochs} epochs, seed
{config.ask.seed}.{parent}{drawn}

| split | pictures | groups | good | defective |
| --- | --- | --- | --- | --- |
{rows}
"""


def _apart(data: SnapshotManifest) -> str:
    """How far test and training are apart, as far as anybody looked."""
    split = "split by part or scene: no group is on both sides."
    if data.leaks is None:
        return f"{split} Nobody looked whether two groups show one scene."
    if data.leaks.crossing:
        return (
            f"split by force: **{data.leaks.crossing} pairs show one scene on both sides, the figures are too good**."
        )
    return f"{split} All pictures were compared; none shows a scene of the other side."


def _all_rendered(data: SnapshotManifest) -> bool:
    return bool(data.made_by) and all(maker.startswith("rendered:") for maker in data.made_by)


def _calibration(classes: list[ClassCalibration]) -> str:
    lines = ["## Limits, chosen on the validation pictures", ""]
    for c in classes:
        lines.append(
            f"- {c.limits.cls}: {c.missed} of {c.defective} defective pictures below the pass limit (under "
            f"{c.miss_rate_below:.1%} of parts with 95 % confidence), {c.false_calls} of {c.good} others from the halt "
            f"limit on (under {c.call_rate_below:.1%})."
        )
    return "\n".join([*lines, ""])


def _test(f: Figures) -> str:
    rows = "\n".join(
        f"| {c.cls} | {c.defective} | {c.image_ap} | {c.recall_at_1pc} | {_or_dash(c.pixel_ap)} | "
        f"{_or_dash(c.length_error_mm, ' mm')} | {_or_dash(c.length_bias_mm, ' mm', '+.2f')} |"
        for c in f.rows
    )
    calibration = ", ".join(f"{c.cls} {c.calibration_error:.3f} ({c.calibration_by_chance:.3f})" for c in f.rows)
    return f"""\
## Measured on the test pictures

{f.pictures} {"crops" if f.whole else "pictures"} of {f.groups} groups, each judged as one part by the guard that runs
on the edge.

- {f.defective} defective: **{f.caught} caught**, **{f.missed} missed** (under {f.miss_rate_below:.1%} of
  such parts with 95 % confidence), {f.unsure} sent to a person.
- {f.good} good: **{f.false_stops} false stops** (under {f.stop_rate_below:.1%} of parts), {f.good_unsure} sent to
  a person.
- {f.ms_p50:.1f} ms a frame (median; p99 {f.ms_p99:.1f}) on the exporting machine's CPU, 2 threads.

Intervals are 95 %, by bootstrap over groups. Recall is at 1 % false calls. Length error is the mean distance between
the longest region found and the longest outlined; the last column keeps its sign.

| class | defective | image AP | recall | pixel AP | length error | bias |
| --- | --- | --- | --- | --- | --- | --- |
{rows}

AUGRC {f.augrc:.4f} (mean share of wrong calls when the surest are decided first; 0 is perfect). Expected calibration
error, and what a perfectly calibrated model would show with so few pictures: {calibration}.
{_by_size(f)}{_stream(f.stream)}{_whole(f.whole)}"""


def _whole(f: Figures | None) -> str:
    """What a line would see: the rates above are of parts of its pictures."""
    if f is None:
        return ""
    of = f.any_class or f.classes[0]
    return f"""
Of the {f.pictures} whole pictures those crops were cut from, each called what the worst of its crops is:

- {f.defective} defective: **{f.caught} caught**, **{f.missed} missed** (under {f.miss_rate_below:.1%} of such parts),
  {f.unsure} sent to a person.
- {f.good} good: **{f.false_stops} false stops** (under {f.stop_rate_below:.1%} of parts), {f.good_unsure} sent to
  a person.
- Image AP {of.image_ap}, recall {of.recall_at_1pc}{" of any class" if f.any_class else ""}; calibration error
  {of.calibration_error:.3f} ({of.calibration_by_chance:.3f}).
"""


def _by_size(f: Figures) -> str:
    rows = [(c.cls, s) for c in f.classes for s in c.by_size]
    if not rows:
        return ""
    lines = "\n".join(f"| {cls} | {_size_row(s)} |" for cls, s in rows)
    return f"""
| class | size | defective | stopped | to a person | passed | recall at 1 % false calls |
| --- | --- | --- | --- | --- | --- | --- |
{lines}
"""


def _size_row(s: Slice) -> str:
    return f"{s.name} | {s.defective} | {s.caught} | {s.unsure} | {s.missed} | {_or_dash(s.recall)}"


def _stream(s: dict[str, float]) -> str:
    if not s:
        return ""
    return f"""
Moving seam, {s["k"]:.0f} of {s["n"]:.0f} frames at {s["fps"]:.0f} fps, {s["minutes"]:.1f} minutes: {s["caught"]:.0f} of
{s["defects"]:.0f} defects caught, {s["false_halts"]:.0f} false halts.
"""


def _or_dash(value: float, unit: str = "", form: str = ".2f") -> str:
    return "-" if math.isnan(value) else f"{value:{form}}{unit}"
