"""docs/benchmarks.md and its plot, from the results of `benchmarks.real_sets`. Nothing here measures."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from benchmarks.figures import Figure as Measured
from training.metrics import average_precision, recall_at_false_calls

if TYPE_CHECKING:
    from benchmarks.real_sets import RealSet, Result

Latency = dict[str, dict[str, float]]
Figure = Callable[[NDArray[np.float64], NDArray[np.bool_]], float]
ROUNDS, BOOTSTRAP_SEED = 400, 0


class Pictures:
    """The test pictures of one result as arrays, for draws of whole groups."""

    def __init__(self, result: Result) -> None:
        self.scores = np.array([p.scores for p in result.pictures], float)
        self.labels = np.array([p.labels for p in result.pictures], bool)
        self.rows: dict[str, list[int]] = {}
        for n, p in enumerate(result.pictures):
            self.rows.setdefault(p.group, []).append(n)

    def figure(self, of: Figure, groups: Sequence[str] | None = None) -> float:
        """Mean over the classes that can be judged, over all pictures or over a draw of groups; NaN without any."""
        if groups is None:
            rows = np.arange(len(self.labels))
        else:
            rows = np.array([n for g in groups for n in self.rows.get(g, ())], int)
        found = [of(self.scores[rows, k], self.labels[rows, k]) for k in range(self.labels.shape[1])]
        known = [v for v in found if not math.isnan(v)]
        return float(np.mean(known)) if known else math.nan


def interval(results: Sequence[Result], of: Figure, against: Sequence[Result] = ()) -> tuple[float, float, float]:
    """(mean over the results, 2.5 %, 97.5 %) by drawing whole groups; with `against`, of the difference seed by seed.

    A group is in the test of one seed only, so one draw serves all seeds at once.
    """
    other = {r.seed: Pictures(r) for r in against}
    pairs = [(Pictures(r), other.get(r.seed)) for r in results if not against or r.seed in other]
    names = sorted({g for p, _ in pairs for g in p.rows})
    rng = np.random.default_rng(BOOTSTRAP_SEED)

    def once(groups: Sequence[str] | None) -> float:
        values = [p.figure(of, groups) - (q.figure(of, groups) if q else 0.0) for p, q in pairs]
        known = [v for v in values if not math.isnan(v)]
        return float(np.mean(known)) if known else math.nan

    if not names:
        return math.nan, math.nan, math.nan
    draws = [once([names[k] for k in rng.integers(0, len(names), len(names))]) for _ in range(ROUNDS)]
    low, high = np.nanpercentile(draws, [2.5, 97.5])
    return once(None), float(low), float(high)


def one_percent(scores: NDArray[np.float64], labels: NDArray[np.bool_]) -> float:
    return recall_at_false_calls(scores, labels, 0.01)


# ── the page ────────────────────────────────────────────────────────────────────────────────────────────────────


def document(results: Sequence[Result], took: Latency) -> str:
    from benchmarks.real_sets import SETS

    where = sorted({r.machine for r in results})
    lines = [
        "# Benchmarks on real sets",
        "",
        "Made by `python -m benchmarks.real_sets` (`make benchmarks`); `HALTLINE_DATA` names the public pictures.",
        *([f"Trained on {'; '.join(where)}, one thread each." if where else "Nothing has been run."]),
        *HOW.strip().splitlines(),
        *_budget(results),
        "",
    ]
    for real in SETS:
        of_set = [r for r in results if r.set == real.name]
        lines += [
            f"## {real.name}",
            "",
            *_facts(real, of_set),
            *SEEN[real.name].splitlines(),
            "",
            *_table(real, of_set, took),
            "",
            *_few(of_set),
        ]
    lines += ["## Accuracy against latency", "", "![image AP against ms](benchmarks.svg)", "", *_timing(took), ""]
    return "\n".join([*lines, *NOT_RUN.strip().splitlines(), ""])


HOW = """
No GPU. Training is counted in minutes of the process's own clock, so neighbours on a shared machine change what it
takes by the wall and not what a method gets. Every method sees the same pictures in the same variations and balance;
baselines have our optimizer, schedule and weight average, and nothing was tuned for any of them on any set. Methods
that see good parts only take the time they take.

A seed is a test fold: groups are dealt into four folds of like content, the one with the largest group always trains,
each of the other three is the test once. Figures are means over the seeds that were run, and over classes where there
are several; brackets are 95 % by drawing whole groups. "S less it" is the image AP of Haltline S less the method's on
the same seeds, in points, drawn in pairs: where its bracket leaves out 0 it is bold. The column beside it says the same
of our head and recipe on MobileNetV1 with ImageNet weights, the encoder of the strongest baseline. Recall at 1 % false
calls with fewer than a hundred good test pictures means: no false call at all.

Seeds 0 and 1 of welds, beads and magnet tiles, seed 2 of beads, and 20 and 50 pictures of rolled steel served to choose
where our runs start, how fast they learn and what the score reads (docs/training.md). Good parts were tuned on seed 0
of magnet tiles and looked at on the other two and on seeds 0 and 1 of welds. Two earlier ideas were tried on seeds 1
and 2 and dropped. So no fold here is untouched. What is said below of the surest errors was seen with earlier encoders.
"""


SEEN = {
    "weld_seg": """
142 of its 244 pictures are of one group. It has no picture without a defect: "good" are crops in which nothing was
outlined, and they hold lumps, pits, plate without a seam, and an inspector's ink beside what he found. The surest false
calls of Haltline S were ends of beads, a drop like one that is outlined elsewhere, and red writing; its surest misses
were outlines cut by a crop's corner and a dark stripe.""",
    "lohi_weld_100": """
Every bead has boxes, so that few crops are good, and many boxes are cut by a crop's side. The names in its
`classes.txt` look exchanged: boxes called pore lie at the ends of beads, round holes are called stain. No figure here
depends on names.""",
    "magnetic_tile": """
Its pictures, 103 to 620 px wide, do not fit one input at one scale, which training refuses; so they are cut, figures
are per crop, and none compares with one per picture (five folds, per picture: docs/training.md). Four pictures called
uneven have masks of zeros: networks here learnt while those counted as good, and their 18 crops are left out of every
image AP and recall. Where `uneven` ends is anybody's guess, and dark smears beside an outlined blowhole are sometimes
not outlined. A few bursts weigh most: on
seed 1 the surest misses are one burst's dark corner and chips on a dark rim, the surest false calls rims of tiles.""",
    "neu_seg_dedup": """
No picture is without a defect: each class is told from the others. Of many like dark streaks some are outlined as
inclusions and some are not. The look for one scene joined 146 of its groups to others, though it is said to hold no
near-duplicates.""",
}
"""What was noticed when the pictures were looked at; it bounds what any method can reach."""


def _budget(results: Sequence[Result]) -> list[str]:
    """How long the runs had, and how far from the recipe's own length ours was with that."""
    from training.fit import DEFAULT_EPOCHS

    ours = [r.shown / r.train_pictures for r in results if r.method == "ours"]  # with all labels
    if not ours:
        return []
    had, few = (
        " or ".join(f"{m:g}" for m in sorted({r.budget_min for r in results if ("@" in r.method) == curve}))
        for curve in (False, True)
    )
    seen = f"in which Haltline S saw its pictures {min(ours):.0f} to {max(ours):.0f} times"
    curves = f" With few labels it had {few} min." if few and few != had else ""
    also = "`minutes` also counts reading the pictures, choosing the length, and export."
    return ["", f"**Training had {had} minutes**, {seen}; the recipe's own length is {DEFAULT_EPOCHS}.{curves} {also}"]


def _facts(real: RealSet, results: Sequence[Result]) -> list[str]:
    cut = f"crops of {real.crop[0]}x{real.crop[1]} px" if real.crop else "whole pictures"
    text = [f"{cut[0].upper()}{cut[1:]}, scaled to {real.size[0]}x{real.size[1]}."]
    for seed in sorted({r.seed for r in results}):
        r = next(r for r in results if r.seed == seed)
        labels = np.array([p.labels for p in r.pictures], bool)
        kinds = ", ".join(f"{int(labels[:, k].sum())} {c}" for k, c in enumerate(r.classes))
        groups = len({p.group for p in r.pictures})
        good = int((~labels.any(1)).sum())
        tested = f"{len(labels)} to test of {groups} groups ({kinds}, {good} good)"
        chance = f"scores at random reach an AP of {labels.mean(0).mean():.2f}"
        text.append(f"Seed {seed}: {r.train_pictures} to train, {tested}; {chance}.")
    return text


def _table(real: RealSet, results: Sequence[Result], took: Latency) -> list[str]:
    from benchmarks.real_methods import METHODS

    columns = [
        "method",
        "seeds",
        "image AP",
        "recall at 1 % false calls",
        "S less it",
        "ours on MobileNetV1 less it",
        "pixel AP",
        "ms p10 / p50 / p99",
    ]
    columns += ["MB", "minutes", "shown"]
    lines = [f"| {' | '.join(columns)} |", "| --- " * len(columns) + "|"]
    sides = {name: [r for r in results if r.method == name] for name in ("ours", "ours-mobilenet")}
    for m in METHODS:
        rows = [r for r in results if r.method == m.name]
        if m.good_only and not real.merged:
            lines.append(f"| {m.title} | | tells no classes apart {'| ' * 9}|")
            continue
        if not rows:
            lines.append(f"| {m.title} | 0 | **not run** {'| ' * 9}|")
            continue
        ap, recall = (_said(interval(rows, f)) for f in (average_precision, one_percent))
        less = [
            _points(interval(side, average_precision, rows)) if side and m.name != name else ""
            for name, side in sides.items()
        ]
        known = [r.pixel_ap for r in rows if r.pixel_ap is not None]
        pixel = f"{np.mean(known):.2f}" if known else ""
        t = took.get(f"{real.name}/{m.name}")
        ms = f"{t['p10']:.1f} / {t['p50']:.1f} / {t['p99']:.1f}" if t else ""
        minutes, shown = f"{np.mean([r.cpu_min for r in rows]):.1f}", f"{np.mean([r.shown for r in rows]):.0f}"
        cells = (m.title, len(rows), ap, recall, *less, pixel, ms, f"{rows[0].model_bytes / 1e6:.1f}", minutes, shown)
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return lines


def _few(results: Sequence[Result]) -> list[str]:
    """The learning curve: with and without drawn pictures, by how many labels there were."""
    from benchmarks.real_methods import LABELS

    def of(method: str, n: int | None) -> list[Result]:
        return [r for r in results if r.method == (f"{method}@{n}" if n else method)]

    if not any(of("ours", n) and of("ours-nothing", n) for n in LABELS):
        return []
    lines = [
        "What drawn pictures save, by labels (drawn of each kind in turn; image AP on the same test pictures):",
        "",
        "| labels | seeds | from nothing | Haltline S | gained |",
        "| --- | --- | --- | --- | --- |",
    ]
    for n in (*LABELS, None):
        plain, ours = of("ours-nothing", n), of("ours", n)
        both = {r.seed for r in plain} & {r.seed for r in ours}
        plain, ours = ([r for r in rows if r.seed in both] for rows in (plain, ours))
        if both:
            aps = [_said(interval(rows, average_precision)) for rows in (plain, ours)]
            gain = _points(interval(ours, average_precision, plain))
            lines.append(f"| {n or f'all {plain[0].train_pictures}'} | {len(plain)} | {' | '.join(aps)} | {gain} |")
    return [*lines, "", *_worth(results), ""]


def _worth(results: Sequence[Result]) -> list[str]:
    """Which number of labels from nothing reaches what ours reached with the fewest; by the power law's fit."""
    from benchmarks.real_methods import LABELS
    from training.learning_curve import LEAST_COUNTS, fit_curve

    rows = [(n, r) for n in LABELS for r in results if r.method == f"ours-nothing@{n}"]
    first = [r for r in results if r.method == f"ours@{LABELS[0]}"]
    if len({n for n, _ in rows}) < LEAST_COUNTS or not first:
        return []
    reached = interval(first, average_precision)[0]
    curve = fit_curve([n for n, _ in rows], [Pictures(r).figure(average_precision) for _, r in rows])
    need = curve.labels_for(reached)
    low, value, high = (f"{v:.0f}" if math.isfinite(v) else "never" for v in (need.low, need.value, need.high))
    took = f"would take {value}" if math.isfinite(need.value) else "would never be reached"
    said = f"What Haltline S reached with {LABELS[0]} labels ({reached:.3f}) {took} from nothing"
    return [f"{said} (95 %: {low} to {high}, by the power law of `haltline train labels`).", ""]


def _said(found: tuple[float, float, float]) -> str:
    return "cannot be judged" if math.isnan(found[0]) else f"{found[0]:.3f} [{found[1]:.3f}, {found[2]:.3f}]"


def _points(found: tuple[float, float, float]) -> str:
    if math.isnan(found[0]):
        return ""
    value, low, high = (100 * v for v in found)
    text = f"{value:+.1f} [{low:+.1f}, {high:+.1f}]"
    return f"**{text}**" if low > 0 or high < 0 else text


def _timing(took: Latency) -> list[str]:
    if not took:
        return ["Latencies were **not measured**."]
    runs = min(int(t["runs"]) for t in took.values())
    load = next(iter(took.values()))["load"]
    return [
        f"One picture through onnxruntime, float32, two threads, one model open at a time, {runs} runs each or more.",
        f"The load average was {load:.1f} on two cores: above 2 these are upper bounds, and p99 is the neighbours'.",
    ]


NOT_RUN = """
## What was not run, and why

| baseline | why not |
| --- | --- |
| anomalib's EfficientAd | its teacher's weights are fetched from the network, and there was none |
| anomalib's SuperSimpleNet; PatchCore, PaDiM on WideResNet-50 | the encoder's weights come from a hub, out of reach |
| ultralytics | AGPL |
"""


def figures(results: Sequence[Result]) -> list[Measured]:
    """What `--json` prints: how much has been run, and ours against the best of the others on each set."""
    from benchmarks.real_methods import FEW, METHODS
    from benchmarks.real_sets import SEEDS, SETS

    methods = (*METHODS, *FEW)
    planned = SEEDS * sum(real.merged or not m.good_only for real in SETS for m in methods)
    found = [Measured("runs done", len(results), f"of {planned}", goal=f">= {planned}")]
    titles = {m.name: m.title.startswith("**") for m in METHODS}
    for real in SETS:
        of_set = [r for r in results if r.set == real.name]
        ours = [r for r in of_set if r.method == "ours"]
        if not ours:
            continue
        ap, recall = (interval(ours, f)[0] for f in (average_precision, one_percent))
        found.append(Measured(f"{real.name}: image AP", round(ap, 3), ""))
        found.append(Measured(f"{real.name}: recall at 1 % false calls", round(recall, 3), ""))
        others = {r.method for r in of_set if not titles.get(r.method, True)}
        gains = [interval(ours, average_precision, [r for r in of_set if r.method == m])[0] for m in sorted(others)]
        if gains:
            found.append(Measured(f"{real.name}: AP above the best other", round(min(gains), 3), "", goal=">= 0"))
    return found


# ── the plot ────────────────────────────────────────────────────────────────────────────────────────────────────

WIDTH, PANEL, LEFT, TOP = 720, 210, 60, 44
MS = (1.0, 1000.0)


def plot(results: Sequence[Result], took: Latency) -> str:
    """Image AP against the median ms, one panel a set, logarithmic; our models are filled. SVG, no library."""
    from benchmarks.real_methods import METHODS
    from benchmarks.real_sets import SETS

    height = TOP + PANEL * len(SETS) + 20
    size = f'viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12"'
    title = "Image AP against ms of one inference (p50, 2 threads)"
    out = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img" aria-label="{title}">',
        f'<rect width="{WIDTH}" height="{height}" fill="#fff"/>',
        f'<text x="12" y="22" font-size="14" font-weight="bold">{title}</text>',
    ]
    for row, real in enumerate(SETS):
        top, low = TOP + PANEL * row, 0.0
        bottom, span = top + PANEL - 44, WIDTH - LEFT - 160

        def x_of(ms: float, span: int = span) -> float:
            share = (math.log(ms) - math.log(MS[0])) / (math.log(MS[1]) - math.log(MS[0]))
            return LEFT + span * min(1.0, max(0.0, share))

        def y_of(ap: float, top: int = top, bottom: int = bottom, low: float = low) -> float:
            return bottom - (bottom - top - 12) * (ap - low) / (1 - low)

        out.append(f'<text x="{LEFT}" y="{top + 4}" font-weight="bold">{real.name}</text>')
        for ap in (0.0, 0.25, 0.5, 0.75, 1.0):
            out.append(f'<path d="M{LEFT} {y_of(ap):.1f}H{LEFT + span}" stroke="#ddd"/>')
            out.append(f'<text x="{LEFT - 8}" y="{y_of(ap) + 4:.1f}" text-anchor="end" fill="#555">{ap:g}</text>')
        for ms in (1, 3, 10, 30, 100, 300, 1000):
            out.append(f'<text x="{x_of(ms):.0f}" y="{bottom + 16}" text-anchor="middle" fill="#555">{ms}</text>')
        dots = []
        for m in METHODS:
            rows = [r for r in results if r.set == real.name and r.method == m.name]
            t = took.get(f"{real.name}/{m.name}")
            if rows and t:
                value = float(np.mean([Pictures(r).figure(average_precision) for r in rows]))
                dots.append((x_of(t["p50"]), y_of(value), m.title))
        free = float(top)
        for x, y, title in sorted(dots, key=lambda d: d[1]):
            fill = "#222" if title.startswith("**") else "#fff"
            free = max(free + 14, y)
            name = title.replace("*", "").replace("`", "")
            out.append(f'<path d="M{x:.1f} {y:.1f}L{LEFT + span + 6} {free:.1f}" stroke="#bbb" stroke-width="0.7"/>')
            out.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="5" fill="{fill}" stroke="#222"/>')
            out.append(f'<text x="{LEFT + span + 10}" y="{free + 4:.1f}" font-size="10">{name}</text>')
    return "\n".join([*out, "</svg>", ""])
