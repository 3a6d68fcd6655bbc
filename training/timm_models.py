"""The one door to timm. Nothing else imports it.

timm imports torchvision at once, and torchvision registers Python halves of its operators at import: where its
compiled library was built for another torch (a CPU wheel of torch beside PyPI's torchvision), that import fails for
want of `torchvision::nms`. No classification backbone calls such an operator, so their schemas are declared here first,
without an implementation.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

import torch

from inspection.errors import ConfigError

_SCHEMAS = {
    "nms": "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
}
_declared: list[torch.library.Library] = []
"""torch takes the declarations back when their library object is collected."""


def timm() -> Any:
    """The module; ConfigError when it is not installed."""
    try:
        if not _declared:
            _declare_missing()
        return importlib.import_module("timm")
    except ModuleNotFoundError as e:
        raise ConfigError("--backbone", f"needs {e.name}", "pip install 'haltline[backbones]'") from e


def _declare_missing() -> None:
    """Declare what torchvision's own library did not. It is loaded here first, for where it works it must win."""
    library = torch.library.Library("torchvision", "FRAGMENT")  # type: ignore[no-untyped-call]
    _declared.append(library)
    if _loads_by_itself():
        return
    for schema in _SCHEMAS.values():
        library.define(schema)  # type: ignore[no-untyped-call]


def _loads_by_itself() -> bool:
    """Whether torchvision's compiled operators load beside this torch, tried as torchvision itself does it."""
    spec = importlib.util.find_spec("torchvision")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'torchvision'", name="torchvision")
    for binary in Path(spec.origin).parent.glob("_C*.so"):
        try:
            torch.ops.load_library(str(binary))  # type: ignore[no-untyped-call]
        except OSError:
            return False
    return hasattr(torch.ops.torchvision, "nms")
