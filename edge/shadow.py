"""A second model looks at every n-th frame beside the one that serves; where they disagree, people are asked.

It never holds up the line: one frame waits at most, on a thread of lower priority, and what comes meanwhile is passed
over. What it says reaches no permit.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable

import structlog

from edge.ports import Model, Moment
from edge.tuning import yield_to_others
from inspection.errors import ModelError
from inspection.events import Action, Judged, Keep, SetPermit
from inspection.policy import Policy, judge

log = structlog.get_logger()

NICE = 10


class Shadow:
    """Implements `ports.Recorder`. `policy`: the shadow's own limits; `served`: the policy the guard holds now.

    `keep` takes the frame as evidence. `seen` counts `judged`, `disagreed`, `busy` and `failed`."""

    def __init__(
        self,
        model: Model,
        policy: Policy,
        served: Callable[[], Policy],
        keep: Callable[[Keep, Moment], None],
        every: int = 10,
    ) -> None:
        self._model, self._policy, self._served, self._keep, self._every = model, policy, served, keep, every
        self.bundle_id = model.bundle_id
        self.seen: Counter[str] = Counter()
        self._frames: Counter[str] = Counter()
        self._waiting: tuple[Moment, bool] | None = None
        self._closing = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._work, name="shadow", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        with self._changed:
            self._closing = True
            self._changed.notify()

    def offer(self, moment: Moment, actions: list[Action]) -> None:
        event = moment.event
        # While the line stands the camera stares at one scene, of which one look is enough.
        if moment.frame is None or not isinstance(event, Judged) or not _runs(actions):
            return
        self._frames[event.camera] += 1
        if self._frames[event.camera] % self._every:
            return
        with self._changed:
            if self._waiting:
                self.seen["busy"] += 1
                return
            self._waiting = moment, any(isinstance(action, Keep) for action in actions)
            self._changed.notify()

    def _work(self) -> None:
        yield_to_others(NICE)
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                if self._closing or self._waiting is None:
                    return
                moment, kept = self._waiting
            try:
                self._look(moment, kept=kept)
            except ModelError as e:
                self.seen["failed"] += 1
                log.warning("the shadow model failed", bundle=self.bundle_id, error=str(e))
            except Exception:
                self.seen["failed"] += 1
                log.exception("the shadow failed")
            finally:
                # Only now may the next one come: a slow shadow sees fewer frames, not older ones.
                with self._changed:
                    self._waiting = None

    def _look(self, moment: Moment, *, kept: bool) -> None:
        event, frame = moment.event, moment.frame
        assert isinstance(event, Judged)
        assert frame
        seen = self._model.infer(frame)
        ours = judge(event.scores, event.findings, self._served())
        theirs = judge(seen.scores, seen.findings, self._policy)
        self.seen["judged"] += 1
        if ours.call is theirs.call and ours.defects.keys() == theirs.defects.keys():
            return
        self.seen["disagreed"] += 1
        # One frame is one record: what was kept for another reason goes as it is.
        if not kept:
            log.info("models disagree", frame_id=event.frame_id, ours=ours.call.value, shadow=theirs.call.value)
            self._keep(Keep(event.camera, event.frame_id, ours.call, ("disagreement",)), moment)


def _runs(actions: list[Action]) -> bool:
    return any(isinstance(action, SetPermit) and action.run for action in actions)
