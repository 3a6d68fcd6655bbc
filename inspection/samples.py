"""One labelled picture, and the folder of them that rooms hand to each other.

A *labelled folder* is what the renderer writes, what the hub exports and what `haltline dataset` imports:

    labelled.json      header: format, classes, label book
    label_book.json    the rules, where they are not those the reader was installed with
    samples.jsonl      one `Sample` a line
    images/  masks/    PNG or JPEG; a mask is one uint8 channel, 0 = sound, k = the k-th class of the header (from 1)
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

LABELLED_FORMAT: Literal[1] = 1
HEADER_FILE = "labelled.json"
SAMPLES_FILE = "samples.jsonl"
BOOK_FILE = "label_book.json"

Split = Literal["train", "val", "test"]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
ClassName = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")]


def _stays_below(path: str) -> str:
    if path.startswith("/") or "\\" in path or "\0" in path or ".." in path.split("/"):
        raise ValueError(f"{path!r} is no path below its folder")
    return path


RelPath = Annotated[str, Field(min_length=1, max_length=255), AfterValidator(_stays_below)]
"""A path below the folder it is relative to; none that could leave it."""
BoxPx = tuple[float, float, float, float]
"""x, y, width, height in px of the picture, origin at the top left corner of the top left pixel."""


def _unsaid(value: str) -> bool:
    return not value


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Annotation(_Strict):
    """One defect in a picture: where it is and how long, as far as the label says."""

    cls: ClassName
    box_px: BoxPx | None = None
    length_mm: float | None = Field(default=None, ge=0)


class Sample(_Strict):
    """One labelled picture. Paths are relative to the folder that holds `samples.jsonl`.

    `labels` are the classes present; empty means a person (or the renderer) called it good. `mask` is None where
    only the picture as a whole was labelled. `group` names the part, tile or scene: samples of one group never
    fall on both sides of a split. `label_book` is `name@version`, the rules the label was made under. `source` names
    the frame (`hub:record=...`), `part` the part it shows and `model` the bundle that judged and sent it; empty where
    nobody knows, and then not written, so that ids of older snapshots stay what they were.
    """

    image: RelPath
    image_sha256: Sha256
    width_px: int = Field(gt=0)
    height_px: int = Field(gt=0)
    mask: RelPath | None = None
    mask_sha256: Sha256 | None = None
    px_per_mm: float | None = Field(default=None, gt=0)
    labels: tuple[ClassName, ...]
    annotations: tuple[Annotation, ...] = ()
    group: str = Field(min_length=1)
    split: Split | None = None
    label_book: str | None = Field(default=None, pattern=r"^[a-z0-9_-]+@\d+$")
    labelled_by: tuple[str, ...] = ()
    soft_labels: dict[ClassName, float] | None = None
    source: str = ""
    part: str = Field(default="", exclude_if=_unsaid)
    model: str = Field(default="", exclude_if=_unsaid)

    @model_validator(mode="after")
    def _consistent(self) -> Sample:
        if (self.mask is None) != (self.mask_sha256 is None):
            raise ValueError("mask and mask_sha256 go together")
        stray = {a.cls for a in self.annotations} - set(self.labels)
        if stray:
            raise ValueError(f"annotations name {sorted(stray)}, which labels {list(self.labels)} do not")
        return self


class LabelledHeader(_Strict):
    """`labelled.json`: what the samples beside it have in common."""

    format: Literal[1] = LABELLED_FORMAT
    task: str
    classes: tuple[ClassName, ...] = Field(min_length=1)
    label_book: str | None = Field(default=None, pattern=r"^[a-z0-9_-]+@\d+$")
    made_by: str = ""
