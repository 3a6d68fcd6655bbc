"""How many frames of a rendered seam the near-duplicate rule leaves out: `python -m benchmarks.storage_thinning`.

Every frame is taken for uncertain, as in the worst hour, at the pace at which the guard keeps such frames (one a
second) and at the camera's 30 a second; the seam moves as in the demo, slower, or stands with flickering light.
"""

from __future__ import annotations

import time
from pathlib import Path

from benchmarks.figures import Figure, tell
from edge.bundle_store import read_bundle
from edge.model_onnx import OnnxModel
from edge.ports import Moment
from edge.recorder import Thinner
from inspection.events import Judged
from inspection.render import DefectSpec, Seam
from inspection.types import Frame, Stages

BITS = 6
FPS = 30
FRAMES = {1: 240, FPS: 40}
"""Every frame -> so many are judged; one a second takes longer to say something."""


def thinning(task: str = "weld", cls: str = "porosity", bits: int = BITS) -> list[Figure]:
    bundle = sorted((Path(__file__).parents[1] / "models").glob(f"{task}-*"))[-1]
    model = OnnxModel(read_bundle(bundle, ()), "CPUExecutionProvider", 1)
    figures = []
    for speed in (0.0, 1.0, 15.0):
        for every in (1, FPS):
            share, count = _share(model, task, cls, bits, speed, every)
            moves = f"moves {speed:g} mm/s" if speed else "stands"
            figures.append(
                Figure(
                    f"{task} seam {moves}, {FPS // every} frames/s kept: thinned", round(100 * share), "%", None, count
                )
            )
    return figures


def _share(model: OnnxModel, task: str, cls: str, bits: int, speed: float, every: int) -> tuple[float, str]:
    defect = DefectSpec(cls, 2.2, at_mm=(80.0, 25.6))
    seam = Seam(task, 7, length_mm=700, defects=[defect], speed_mm_s=speed or 15.0, fps=FPS, px_per_mm=10.0)
    thin, thinned, seen = Thinner(bits), 0, 0
    start = int(20 * FPS / max(speed, 15.0)) if speed else 60
    for k in range(0, FRAMES[every] * every, every):
        image = seam.frame(start + k if speed else start, flicker=k).image
        frame = Frame("cam1", k, time.monotonic_ns(), 0, image, 10.0)
        prediction = model.infer(frame)
        moment = Moment(Judged("cam1", k, 0, 0, {}), frame, prediction, Stages(0), "", "", "")
        look = thin.look(moment)
        assert look
        seen += 1
        if thin.is_near("cam1", look):
            thinned += 1
        else:
            thin.kept("cam1", look)
    return thinned / seen, f"{thinned} of {seen}"


if __name__ == "__main__":
    tell([*thinning()], as_json=False)
