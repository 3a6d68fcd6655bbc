"""The model card as a page: one HTML file, its pictures inside, to be sent to whoever asks. No script, no network."""

from __future__ import annotations

import base64
import html
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import cv2
import numpy as np

from inspection.types import Call
from training.checkpoint import write_atomically
from training.dataset.item import decode, read_bytes
from training.dataset.snapshot import Snapshot
from training.evaluate import ClassFigures, Figures
from training.judging import JudgedPicture, worst_first
from training.slices import Slice

SHOWN = 6
WIDTH_PX = 280

STYLE = """
:root { color-scheme: light dark }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 62rem; margin: 2rem auto; padding: 0 1rem;
  color: #1c1c1c; background: #fff }
h1 { font-size: 1.7rem; margin-bottom: .2rem } h2 { font-size: 1.15rem; margin-top: 2.2rem;
  border-bottom: 1px solid #bbb } h3 { font-size: 1rem }
.wide { overflow-x: auto } table { border-collapse: collapse; margin: .6rem 0; font-variant-numeric: tabular-nums }
th, td { text-align: right; padding: .25rem .7rem; border-bottom: 1px solid #ddd } th { font-weight: 600 }
th:first-child, td:first-child { text-align: left }
.key { display: flex; flex-wrap: wrap; gap: 1rem; margin: 1rem 0 } .key div { border: 1px solid #bbb;
  border-radius: .3rem; padding: .6rem 1rem; min-width: 9rem; flex: 1 }
.key b { display: block; font-size: 1.5rem } .note { color: #555; font-size: .9rem }
.shots { display: flex; flex-wrap: wrap; gap: .8rem } figure { margin: 0; width: 280px; max-width: 100% }
figure img { width: 100%; display: block; border: 1px solid #bbb } figcaption { font-size: .8rem; color: #444 }
pre { white-space: pre-wrap } svg { max-width: 100% }
@media (prefers-color-scheme: dark) { body { color: #e4e4e4; background: #161616 }
  th, td { border-color: #333 } .note, figcaption { color: #aaa } }
@media print { body { max-width: none; margin: 0 } figure { break-inside: avoid } }
"""


def write_page(
    path: Path, title: str, words: str, figures: Figures, pictures: Sequence[JudgedPicture], data: Snapshot
) -> None:
    """`words`: the card in Markdown, as headings, paragraphs, lists and tables; what follows is drawn from the rest."""
    parts = [
        f"<h1>{_e(title)}</h1>",
        (
            f'<p class="note">Measured on {figures.pictures} {_unit(figures)} of {figures.groups} groups '
            f"({_e(figures.split)} of {_e(figures.snapshot)}). Intervals are 95 %, by bootstrap over groups.</p>"
        ),
        _key(figures),
        _classes(figures.rows),
        _whole(figures.whole),
        _calibration(figures, pictures),
        _slices(figures),
        _confusions(pictures, data),
        from_markdown(words),
    ]
    body = "\n".join(p for p in parts if p)
    page = (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><title>{_e(title)}</title>'
        f"<style>{STYLE}</style></head><body>\n{body}\n</body></html>\n"
    )
    write_atomically(path, page.encode())


def _unit(f: Figures) -> str:
    return "crops" if f.whole else "pictures"


def _key(f: Figures) -> str:
    missed, stopped = f.miss_rate_below, f.stop_rate_below
    cells = [
        (f"{f.missed} of {f.defective}", f"defective {_unit(f)} passed (under {missed:.1%} of parts)"),
        (f"{f.false_stops} of {f.good}", f"good {_unit(f)} stopped (under {stopped:.1%} of parts)"),
        (f"{f.uncertain_share:.1%}", "go to a person"),
    ]
    if math.isfinite(f.ms_p50):
        cells.append((f"{f.ms_p50:.1f} ms", f"a frame, median (p99 {f.ms_p99:.1f}), 2 CPU threads"))
    return '<div class="key">' + "".join(f"<div><b>{_e(a)}</b>{_e(b)}</div>" for a, b in cells) + "</div>"


def _whole(f: Figures | None) -> str:
    if f is None:
        return ""
    words = f"The {f.pictures} pictures that those crops were cut from, each called what the worst of its crops is."
    return f'<h2>Whole pictures</h2><p class="note">{words}</p>{_key(f)}{_classes(f.rows)}'


def _classes(classes: Iterable[ClassFigures]) -> str:
    rows, sizes = [], []
    for c in classes:
        rows.append(
            [
                c.cls,
                str(c.defective),
                str(c.image_ap),
                str(c.auroc),
                str(c.recall_at_1pc),
                _n(c.pixel_ap),
                _n(c.pro),
                f"{_n(c.calibration_error)} ({_n(c.calibration_by_chance)})",
            ]
        )
        if c.by_size:
            sizes.append(f"<h3>{_e(c.cls)} by size</h3>{_slice_table(c.by_size, 'recall at 1 % false calls')}")
    head = [
        "class",
        "defective",
        "image AP",
        "AUROC",
        "recall at 1 % false calls",
        "pixel AP",
        "PRO",
        "calibration error (by chance alone)",
    ]
    return f"<h2>By class</h2>{table(head, rows)}{''.join(sizes)}"


def _slice_table(slices: Iterable[Slice], figure: str) -> str:
    rows = [
        [
            s.name, str(s.defective), str(s.caught), str(s.unsure), str(s.missed), str(s.good), str(s.false_stops),
            _n(s.recall if figure.startswith("recall") else s.image_ap),
        ]
        for s in slices
    ]  # fmt: skip
    return table(["", "defective", "stopped", "to a person", "passed", "good", "stopped", figure], rows)


def _slices(f: Figures) -> str:
    return f"<h2>By kind of picture</h2>{_slice_table(f.slices, 'image AP')}" if f.slices else ""


def _calibration(f: Figures, pictures: Sequence[JudgedPicture]) -> str:
    """Reliability: per tenth of the pictures by score, what was said against what was there."""
    scores = np.concatenate([p.scores for p in pictures])
    labels = np.concatenate([p.target for p in pictures])
    bins = [b for b in np.array_split(np.argsort(scores, kind="stable"), 10) if len(b)]
    side, pad = 260, 34
    dots = "".join(
        f'<circle cx="{pad + scores[b].mean() * side:.1f}" cy="{pad + (1 - labels[b].mean()) * side:.1f}" r="5" '
        'fill="#2a6fbb"/>'
        for b in bins
    )
    total = side + 2 * pad
    return f"""<h2>Does a score mean what it says?</h2>
<svg viewBox="0 0 {total} {total}" width="{total}" role="img" aria-label="Score against share of defective pictures">
<rect x="{pad}" y="{pad}" width="{side}" height="{side}" fill="none" stroke="currentColor" stroke-opacity=".4"/>
<line x1="{pad}" y1="{pad + side}" x2="{pad + side}" y2="{pad}" stroke="currentColor" stroke-opacity=".4"/>{dots}
<text x="{pad + side / 2}" y="{total - 8}" text-anchor="middle" font-size="12" fill="currentColor">score</text>
<text x="12" y="{pad + side / 2}" text-anchor="middle" font-size="12" fill="currentColor"
 transform="rotate(-90 12 {pad + side / 2})">share with the defect</text></svg>
<p class="note">Each dot is a tenth of all (picture, class) scores. AUGRC {f.augrc:.4f}: the mean share of wrong calls
when the surest pictures are decided first; 0 is perfect.</p>"""


def _confusions(pictures: Sequence[JudgedPicture], data: Snapshot) -> str:
    ranked = worst_first(list(pictures))
    kinds = {
        "Defective, passed": [p for p in ranked if p.target.any() and p.verdict is Call.PASS],
        "Good, stopped": [p for p in ranked if not p.target.any() and p.verdict is Call.DEFECT],
        "To a person": [p for p in ranked if p.verdict is Call.UNCERTAIN],
    }
    parts = []
    for title, those in kinds.items():
        shots = "".join(_shot(p, data) for p in those[:SHOWN])
        more = f" ({len(those)}, the worst {SHOWN})" if len(those) > SHOWN else f" ({len(those)})"
        shown = f'<div class="shots">{shots}</div>' if shots else '<p class="note">None.</p>'
        parts.append(f"<h3>{title}{more}</h3>{shown}")
    return "<h2>What it got wrong</h2>" + "".join(parts)


def _shot(p: JudgedPicture, data: Snapshot) -> str:
    """The picture with the map's hot cells in red."""
    path = data.folder / p.sample.image
    image = decode(read_bytes(path), path)
    scale = WIDTH_PX / image.shape[1]
    small = np.asarray(
        cv2.resize(image, (WIDTH_PX, max(1, round(image.shape[0] * scale))), interpolation=cv2.INTER_AREA)
    )
    hot = np.asarray(cv2.resize(p.heat.max(0), (small.shape[1], small.shape[0])), np.float32) / 255
    red = np.zeros_like(small)
    red[..., 2] = 255
    mixed = (small * (1 - 0.6 * hot[..., None]) + red * 0.6 * hot[..., None]).astype(np.uint8)
    jpeg = base64.b64encode(cv2.imencode(".jpg", mixed, [cv2.IMWRITE_JPEG_QUALITY, 80])[1].tobytes()).decode()
    said = "+".join(p.sample.labels) or "good"
    scores = ", ".join(f"{s:.2f}" for s in p.scores)
    words = f"{said}, scores {scores}; group {p.sample.group}"
    shown = f'<img src="data:image/jpeg;base64,{jpeg}" alt="{_e(words)}">'
    return f"<figure>{shown}<figcaption>{_e(words)}</figcaption></figure>"


# ── a little Markdown ───────────────────────────────────────────────────────────────────────────────────────────


def from_markdown(text: str) -> str:
    """What our own cards are written in: headings, paragraphs, lists, tables, **bold**, `code`."""
    blocks: list[str] = []
    for block in text.strip().split("\n\n"):
        lines = block.splitlines()
        while lines and lines[0].startswith("#"):
            level = len(lines[0]) - len(lines[0].lstrip("#"))
            if level > 1:  # the page has its own title
                blocks.append(f"<h{level}>{_inline(lines[0].lstrip('# '))}</h{level}>")
            lines = lines[1:]
        if not lines:
            continue
        if lines[0].startswith("|"):
            rows = [[_inline(cell.strip()) for cell in line.strip().strip("|").split("|")] for line in lines]
            blocks.append(table(rows[0], rows[2:], escape=False))
        elif lines[0].startswith("- "):
            items = "\n".join(lines)[2:].split("\n- ")
            blocks.append("<ul>" + "".join(f"<li>{_inline(item)}</li>" for item in items) + "</ul>")
        else:
            blocks.append(f"<p>{_inline(' '.join(lines))}</p>")
    return "\n".join(blocks)


def _inline(text: str) -> str:
    out = _e(text.replace("\n", " "))
    for mark, tag in (("**", "b"), ("`", "code")):
        pieces = out.split(mark)
        if len(pieces) % 2:
            out = "".join(f"<{tag}>{p}</{tag}>" if k % 2 else p for k, p in enumerate(pieces))
    return out


def table(head: Sequence[str], rows: Iterable[Sequence[str]], *, escape: bool = True) -> str:
    show = _e if escape else str
    top = "".join(f"<th>{show(h)}</th>" for h in head)
    body = "".join("<tr>" + "".join(f"<td>{show(c)}</td>" for c in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def _e(text: str) -> str:
    return html.escape(text, quote=True)


def _n(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
