"""A line for the desk: says what would be done and keeps it, for tests, benches and `edge run --dry-run`."""

from __future__ import annotations

import structlog

from edge.ports import Moment
from inspection.events import Action, RaiseHalt, SetPermit, StateChanged

log = structlog.get_logger()


class DryRunLine:
    """Implements `ports.LineControl`. Keeps the last `keep` actions."""

    def __init__(self, keep: int = 1000) -> None:
        self._keep = keep
        self.actions: list[Action] = []

    def carry_out(self, action: Action, moment: Moment) -> None:
        self.actions.append(action)
        del self.actions[: -self._keep]
        match action:
            case RaiseHalt(report):
                log.warning("would halt", reason=report.reason, frame_id=report.frame_id)
            case SetPermit(run=run, code=code, changed=True):
                log.info("would set the permit", run=run, code=code.name)
            case StateChanged(old, new, why):
                log.info("guard", old=old.value, new=new.value, why=why)
            case _:
                pass
