"""What can be done to a frame before its turn: is the picture fit to be judged, and how does the model take it?

On the camera's own thread, while the model is busy with the frame before: of the frame path's own time that was half.
"""

from __future__ import annotations

from collections.abc import Callable

from edge.ports import Model, Ready
from inspection.fitness import Fitness
from inspection.types import Frame


class Preparation:
    """`fitness` by camera, each asked by one thread; `serving`: the model that will most likely judge the frame. Should
    another serve by then, it fits the frame itself."""

    def __init__(self, fitness: dict[str, Fitness], serving: Callable[[], Model]) -> None:
        self._fitness, self._serving = fitness, serving

    def ready(self, frame: Frame) -> Ready:
        looked = look(frame, self._fitness.setdefault(frame.camera, Fitness()))
        if looked.unfit or looked.pending:
            return looked
        model = self._serving()
        return Ready(frame, model=model, fitted=model.fit(frame))


def look(frame: Frame, fitness: Fitness) -> Ready:
    """The frame with what `fitness` says of it, not fitted to any model."""
    unfit = fitness.check(frame.image)
    return Ready(frame, unfit, fitness.pending)
