"""What a task is called where nobody says: after its source, or the folder that lies in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from inspection.errors import DatasetError
from training.dataset.item import Names, class_name

NO_TASK = re.compile(
    r"|all|annotations?|coco|csv|cvat|data|datasets?|default|desktop|documents|downloads|exports?|images?|imgs?|instances"
    r"|json|label(s|ed|led|me)?|manifest|masks?|pascal|pictures|project|region|results?|samples|supervisely|table"
    r"|test(ing)?|train(ing)?|val(id|idation)?|via|voc|yolo"
)
"""Words of names that programs and people give to any export; the empty one stands beside a date or a number."""
NAMED_BY_PROGRAM = re.compile(r"project-\d+-at-|via_project_", re.IGNORECASE)
"""Exports of Label Studio and VIA, with their date."""


def task_of(asked: str | None, sources: Sequence[tuple[Path, str | None]]) -> str:
    """What was asked for, else what the first source is called that is no folder of good pictures; of `train.csv` and
    `weld/export/` the folder that they lie in, or that one's. Each source: where it lies, and the data set of a table
    that is asked for."""
    if asked:
        return class_name(asked, "--task")
    for source, only in sources:
        path = source.resolve()
        names = [only or (path.stem if path.is_file() else path.name), *(p.name for p in _above(path))]
        if Names().good(names[0]):
            continue
        telling = (name for name in names if not _says_no_task(name))
        if not (name := next(telling, "")):
            raise DatasetError(path, "has no name that says what the task is", "name it: --task weld")
        try:
            return class_name(name, path)
        except DatasetError as e:
            raise DatasetError(path, f"is called {name!r}, and a task is not", "name the task: --task weld") from e
    path = sources[0][0].resolve()
    raise DatasetError(path, "holds good pictures, and no source a name for the task", "name it: --task weld")


def _above(path: Path) -> list[Path]:
    """The two folders above, but for somebody's home and what that lies in."""
    return [p for p in list(path.parents)[:2] if p not in (Path.home(), *Path.home().parents)]


def _says_no_task(name: str) -> bool:
    """Whether a file or folder is called so by the program that wrote it, or for what lies in it."""
    words = re.split(r"[\W\d_]+", name.lower())
    return NAMED_BY_PROGRAM.match(name) is not None or all(map(NO_TASK.fullmatch, words))
