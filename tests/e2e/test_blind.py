"""The only camera of a station goes dark: the line stops, and the hub's first page says what to mend."""

from __future__ import annotations

from pathlib import Path

import cv2
import httpx
import numpy as np
import pytest

from benchmarks.station import end, plc_on, run_line, start_edge, wait_for, write_station
from tests.conftest import free_port
from tests.review.factory import HubProcess

pytestmark = pytest.mark.broker


def test_a_dark_camera_stops_the_line_and_the_line_page_says_that_it_is_dark(
    own_mosquitto: int, tmp_path: Path
) -> None:
    config = write_station(tmp_path / "station", own_mosquitto)
    hub = HubProcess(tmp_path / "hub", free_port(), own_mosquitto).start()
    edge = None
    try:
        with plc_on(own_mosquitto) as plc, httpx.Client(base_url=hub.url, headers={"accept-language": "de"}) as page:
            edge = start_edge(config)
            run_line(plc)
            for picture in sorted((tmp_path / "station" / "pictures").iterdir()):
                night = np.random.default_rng(1).integers(0, 9, (512, 640, 3), np.uint8)
                picture.unlink()  # a link to one of a few
                cv2.imwrite(str(picture), night)
            wait_for(lambda: plc.view()["state"] == "TRIPPED", what="the stop")
            wait_for(lambda: "cam1: Bild dunkel (" in page.get("/").text, what="the reason on the Line page")
            assert "kein beurteilbares Bild" not in page.get("/").text
    finally:
        if edge:
            end(edge)
        hub.stop()
