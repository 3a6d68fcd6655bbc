"""`python -m benchmarks.live_cost`: the CPU time that the live picture takes of an edge (docs/hub.md)."""

from __future__ import annotations

import time
from typing import Annotated

import cv2
import numpy as np
import typer

from benchmarks.figures import Figure, tell
from edge.config import CameraConfig, LiveConfig
from edge.live import call_of, heat_of, picture_of, regions_of
from edge.ports import Moment
from inspection.events import Judged
from inspection.policy import ClassPolicy, Policy
from inspection.render import DefectSpec, render
from inspection.types import Frame, Image, Prediction, Stages

POLICY = Policy((ClassPolicy("porosity", 0.3, 0.7),))
SIZES = ((640, 512), (1920, 1200))
GOAL_PERCENT = 3.0


def main(as_json: Annotated[bool, typer.Option("--json")] = False, pictures: int = 200) -> None:
    """CPU time of scaling, heat map, JPEG and message per picture, cold (all is well) and hot."""
    live = LiveConfig()
    figures = []
    for width, height in SIZES:
        image = np.asarray(cv2.resize(_weld(), (width, height), interpolation=cv2.INTER_CUBIC), np.uint8)
        for name, warm in (("cold", False), ("hot", True)):
            ms, size = _cost(image, live, warm, pictures)
            share = ms * live.fps / 10
            figures.append(
                Figure(
                    f"live picture {width}x{height}, {name}: one core at {live.fps:g} a second", round(share, 2), "%",
                    f"<= {GOAL_PERCENT:g}", f"{ms:.2f} ms and {size / 1024:.0f} KiB each",
                )
            )  # fmt: skip
    tell(figures, as_json=as_json)


def _weld() -> Image:
    return render("weld", 5, defects=[DefectSpec("porosity", 2.0)]).image


def _cost(image: Image, live: LiveConfig, warm: bool, pictures: int) -> tuple[float, float]:
    """(ms of CPU, bytes) per picture, the median of `pictures`."""
    camera = CameraConfig(name="cam", type="simulated", source="weld")
    frame = Frame("cam", 1, 0, 0, image, 10.0)
    heat = np.zeros((3, image.shape[0] // 4, image.shape[1] // 4), np.uint8)
    if warm:
        heat[0, 40:60, 60:90] = 250
    event = Judged("cam", 1, 0, 0, {"porosity": 0.9 if warm else 0.1})
    affine = np.array([[4.0, 0.0, 1.5], [0.0, 4.0, 1.5]])
    seen = Prediction(("porosity", "undercut", "crack"), {"porosity": 0.9, "undercut": 0, "crack": 0}, heat, affine, ())
    eyes = {"cam": Moment(event, frame, seen, Stages(0), "m", "p", "b")}
    times, size = [], 0
    for _ in range(pictures):
        began = time.thread_time_ns()
        call = call_of(event, POLICY)
        regions = regions_of(camera, frame, {"cam": call})
        size = len(picture_of(frame, call.value, live, regions, heat_of(camera, frame, eyes)).encode())
        times.append(time.thread_time_ns() - began)
    return sorted(times)[len(times) // 2] / 1e6, size


if __name__ == "__main__":
    typer.run(main)
