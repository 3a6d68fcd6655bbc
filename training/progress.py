"""The bar that every long command of this room shows: done, of how many, how long, how long yet."""

from __future__ import annotations

from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

LINE_EVERY_S = 60.0


class _Bar(Progress):
    """In a file, a pipe or a service's journal no bar can move: there it is a line every `LINE_EVERY_S`."""

    _last_s: float | None = None

    def update(self, task_id: TaskID, **fields: Any) -> None:
        super().update(task_id, **fields)
        self._line()

    def advance(self, task_id: TaskID, advance: float = 1) -> None:
        super().advance(task_id, advance)
        self._line()

    def _line(self) -> None:
        if self.disable or self.console.is_terminal:
            return
        now_s = self.get_time()
        if self._last_s is None:
            self._last_s = now_s
        elif now_s - self._last_s >= LINE_EVERY_S:
            self._last_s = now_s
            self.console.print(self.get_renderable())


def progress_bar(*, shown: bool = True) -> Progress:
    return _Bar(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not shown,
    )
