"""A label that a model, which never saw the picture, disagrees with: what training tells the hub, a line each."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from inspection.samples import ClassName

SUSPECTS_FILE = "suspects.jsonl"


class SuspectLine(BaseModel):
    """`source` is the sample's own, so the hub finds its record. `labels`: the classes of the label. `p`: the model's
    probability, out of fold, that `cls` is there. `quality`: 0 the label is surely wrong, 1 surely right; the list is
    sorted by it. `kind`: `image`, is the class there at all; `mask`, is its outline where the model sees it."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    source: str
    image: str
    cls: ClassName
    kind: Literal["image", "mask"]
    labels: tuple[ClassName, ...]
    label_book: str
    snapshot: str = Field(max_length=64)
    p: float = Field(ge=0, le=1)
    quality: float = Field(ge=0, le=1)
