"""What it costs to bring a backlog of pictures to the hub: `python -m benchmarks.uploads`.

An edge's spool and uploader here, a real hub and broker beside it; each record has a picture and a heat map of its own,
so that nothing is up already. In turns: files in groups, and one by one as for a hub of before.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import cv2
import numpy as np
import typer

from benchmarks.figures import Figure, tell
from benchmarks.process import cpu_s
from benchmarks.station import TOPICS
from benchmarks.storage_rig import Hub, Sender, parts, uid_of
from edge import hub_files, png
from edge.spool import RANK_UNCERTAIN, Item, Spool
from inspection.bundle import sha256
from inspection.messages import RecordEvent


def measure(records: int, turns: int) -> list[Figure]:
    """Of `turns` turns of each way, of `records` records each: the medians."""
    ways: dict[str, list[tuple[float, float, float]]] = {"in groups": [], "one by one": []}
    with tempfile.TemporaryDirectory() as name, parts(Path(name)) as (broker, hub):
        for turn in range(turns):
            for way, found in ways.items():
                folder = Path(name) / f"{way}-{turn}"
                _fill(folder, len(ways) * turn + list(ways).index(way), records)
                found.append(_drain(folder, broker.port, hub, records, singly=way == "one by one"))
    figures = []
    for way, found in ways.items():
        rate, edge_ms, hub_ms = (sorted(values)[len(values) // 2] for values in zip(*found, strict=True))
        note = f"{records} records, each with a 640x512 picture and a heat map of its own, {turns} turns"
        figures += [
            Figure(f"backlog of pictures, {way}: records/s", round(rate), "/s", note=note),
            Figure(f"{way}: processor time at the edge, a record", round(edge_ms, 2), "ms"),
            Figure(f"{way}: processor time at the hub, a record", round(hub_ms, 2), "ms"),
        ]
    return figures


def _fill(folder: Path, number: int, records: int) -> None:
    spool = Spool(folder, 10**10, queue_len=256)
    for k in range(records):
        made = _maker(number * records + k)
        spool.offer(made, RANK_UNCERTAIN)
        if k % 100 == 0:
            spool.flush()
    spool.flush()
    spool.close()


def _maker(number: int) -> Callable[[], Item]:
    def make() -> Item:
        rng = np.random.default_rng(number)
        scene = cv2.resize(rng.integers(60, 190, (8, 10), np.uint8), (640, 512), interpolation=cv2.INTER_CUBIC)
        noise = rng.integers(-2, 3, (512, 640, 3), np.int16)
        image = png.encode(np.clip(scene[..., None] + noise, 0, 255).astype(np.uint8))
        heat = png.encode(rng.integers(0, 40, (48, 60), np.uint8))
        record = RecordEvent(
            uid=uid_of(number), why=("uncertain",), camera="cam1", frame_id=number, ts_ms=1_790_000_000_000 + number,
            call="uncertain", scores={"red": 0.5}, image=sha256(image), heat=sha256(heat), px_per_mm=10.0,
            width_px=640, height_px=512, model="red-1.0.0", policy="p", label_book="red@1",
        )  # fmt: skip
        return Item(record.uid, TOPICS.of(RecordEvent), record.encode(), RANK_UNCERTAIN, (image, heat))

    return make


def _drain(folder: Path, port: int, hub: Hub, records: int, *, singly: bool) -> tuple[float, float, float]:
    """Records/s, and ms of a core for each record, here and at the hub."""
    assert hub.process
    hub_s, own_s = cpu_s(hub.process.pid), time.process_time()
    files = hub_files.GROUP_FILES
    hub_files.GROUP_FILES = 1 if singly else files
    sender = Sender(folder, port, hub.url)
    try:
        took_s = sender.drain(600)
    finally:
        sender.close()
        hub_files.GROUP_FILES = files
    own_s, hub_s = time.process_time() - own_s, cpu_s(hub.process.pid) - hub_s
    return records / took_s, 1000 * own_s / records, 1000 * hub_s / records


def main(
    records: Annotated[int, typer.Option(min=10)] = 600,
    turns: Annotated[int, typer.Option(min=1)] = 3,
    json: Annotated[bool, typer.Option("--json")] = False,
) -> None:
    tell(measure(records, turns), as_json=json)


if __name__ == "__main__":
    typer.run(main)
