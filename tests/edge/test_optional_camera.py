"""A camera the line can do without, at a whole edge: unplugged when the edge starts, and plugged in later."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from benchmarks.station import end, plc_on, run_line, start_edge, wait_for, write_station
from benchmarks.tiny_bundle import picture
from edge.cameras.fake_stream import FakeStream
from tests.conftest import free_port

pytestmark = pytest.mark.broker


def test_an_edge_starts_without_its_optional_camera_and_sees_with_it_once_it_is_plugged_in(
    own_mosquitto: int, tmp_path: Path
) -> None:
    status = free_port()
    config = write_station(tmp_path, own_mosquitto, status=status)
    side = FakeStream([picture(seed=k) for k in range(7)])
    side.unplug()
    entry = f"  - {{name: side, type: opencv, source: '{side.url}', px_per_mm: 10, optional: true, "
    entry += "fitness: {frozen_within: 1}}"  # the stream is a loop of few pictures
    config.write_text(config.read_text().replace("bundle:", f"{entry}\nbundle:", 1))

    def blind() -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{status}/status.json", timeout=5) as answer:
            found: dict[str, Any] = json.load(answer)["blind_cameras"]
        return found

    with plc_on(own_mosquitto) as plc:
        edge = start_edge(config)
        try:
            run_line(plc)
            wait_for(lambda: "side" in blind(), what="people being told that it sees nothing")
            side.plug()
            wait_for(lambda: not blind(), 20, "the camera that was plugged in")
            assert plc.view()["state"] == "RUNNING"
        finally:
            assert end(edge) == 0
            side.close()
