"""`haltline bench memory`: does an edge that runs for long stay as small as it began?

A whole edge as its own process, its camera as fast as it can be judged. A growth of a MiB over the first thousand
frames says nothing: the allocator's arenas fill up first. So the first tenth is left out, and the rest is a line
through ten means.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from benchmarks.bench_rig import frames, load
from benchmarks.figures import Figure
from benchmarks.process import rss_mib
from benchmarks.tiny_bundle import picture, write_bundle
from deploy.broker import free_port, start_mosquitto
from deploy.demo import newest_bundle

EDGE_YAML = """\
station: {{site: bench, line: line1, station: st1}}
cameras:
  - {{name: cam1, type: folder, source: {pictures}, fps: 500, px_per_mm: {scale}}}
bundle: {{path: {bundle}}}
state_dir: {state}
mqtt: {{port: {port}}}
policy: {{audit_share: 0.01}}
spool: {{quota_mb: 16}}
status: {{port: {status}}}
"""
"""One frame in a hundred goes through the spool, whose memory counts too. It is full soon: SQLite keeps up to 2 MiB of
a database that grows, which is no leak."""

MEANS = 10
T_95 = 2.306
"""Student's t for a slope through ten points, 95 % both sides."""


def measure(count: int, task: str) -> Iterator[Figure]:
    """`count`: frames judged; `task`: `weld`, `scratch`, or `tiny` for the model of known answers, which is fast."""
    with tempfile.TemporaryDirectory() as name:
        seen = _watch(Path(name), count, task)
    judged, rss = np.array(seen).T
    late = judged >= count / 10
    at = np.array([part.mean() for part in np.array_split(judged[late], MEANS)])
    mean = np.array([part.mean() for part in np.array_split(rss[late], MEANS)])
    slope, error = _line(at / 100_000, mean)
    over = f"over {judged[late][0]:.0f} to {judged[-1]:.0f} frames, {task}"
    note = f"95 % interval {slope - T_95 * error:.2f} to {slope + T_95 * error:.2f}, {over}"
    yield Figure("memory grown in 100,000 frames", round(slope, 2), "MiB", "<= 1", note)
    yield Figure("memory at the end", round(float(rss[-1]), 1), "MiB", "<= 200", f"{rss[0]:.1f} at the start")


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Slope of the least-squares line, and its standard error."""
    fit, residuals, *_ = np.polyfit(x, y, 1, full=True)
    spread = float(residuals[0]) if residuals.size else 0.0
    return float(fit[0]), float(np.sqrt(spread / (len(x) - 2) / ((x - x.mean()) ** 2).sum()))


def _watch(folder: Path, count: int, task: str) -> list[tuple[int, float]]:
    """(frames judged, MiB) of an edge, twice a second, from its first judged frame on."""
    port, status = free_port(), free_port()
    config = _station(folder, task, port, status)
    broker = start_mosquitto(port, folder)
    edge = subprocess.Popen([sys.executable, "-m", "haltline", "edge", "run", str(config)], stderr=subprocess.DEVNULL)
    seen: list[tuple[int, float]] = []
    try:
        while not seen or seen[-1][0] < count:
            time.sleep(0.5)
            if edge.poll() is not None:
                raise RuntimeError(f"the edge ended with {edge.returncode}")
            if judged := _judged(status):
                seen.append((judged, rss_mib(edge.pid)))
        return seen
    finally:
        edge.send_signal(signal.SIGTERM)
        edge.wait(10)
        broker.terminate()
        broker.wait()


def _judged(status: int) -> int:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{status}/status.json", timeout=5) as answer:
            return int(json.load(answer)["frames"].get("judged", 0))
    except OSError:  # not up yet
        return 0


def _station(folder: Path, task: str, port: int, status: int) -> Path:
    """An edge's configuration; its camera shows good pictures, uncompressed so that reading them is cheap."""
    pictures = folder / "pictures"
    pictures.mkdir()
    if task == "tiny":
        bundle, scale = write_bundle(folder), 5.0
        images = [picture(0, scale, (320, 256), seed) for seed in range(20)]
    else:
        model = load(task)
        shown = frames(model, 60)
        bundle, scale, images = newest_bundle(task), shown[0].px_per_mm, [frame.image for frame in shown]
    for number, image in enumerate(images):
        cv2.imwrite(str(pictures / f"{number:03d}.bmp"), image)
    config = folder / "edge.yaml"
    values = {"pictures": pictures, "bundle": bundle, "state": folder / "state", "port": port, "status": status}
    config.write_text(EDGE_YAML.format(scale=scale, **values))
    return config
