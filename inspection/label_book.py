"""The label book: what counts as a defect, per class, in mm. Every label carries the version it was made under.

A rule is written so that two inspectors with a gauge come to the same answer: a size limit, and the band around
it in which people still disagreed when the rule was made.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import dist
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, model_validator

from inspection.samples import ClassName


class CountLimit(BaseModel):
    """Regions that are a defect together, however small each is: `regions` or more of them within `within_mm`.

    Within: their middles are at most that far from one of them, which needs no direction along the part.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    regions: int = Field(ge=2, le=200)
    within_mm: float = Field(gt=0, allow_inf_nan=False)

    @property
    def per_mm(self) -> float:
        """The same as a density, regions per mm."""
        return self.regions / self.within_mm

    def most(self, middles_mm: Sequence[tuple[float, float]]) -> int:
        """The most regions within `within_mm` of one of them; `middles_mm`: (x, y) of each region in mm."""
        return max((sum(dist(a, b) <= self.within_mm for b in middles_mm) for a in middles_mm), default=0)


class DepthProxy(BaseModel):
    """A depth no picture shows, by what a picture does show: `sign`, `sign_mm` across, stands for `depth_mm`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    depth_mm: float = Field(gt=0, allow_inf_nan=False)
    sign: str = Field(min_length=1, max_length=200)
    sign_mm: float = Field(gt=0, allow_inf_nan=False)


def _unset(value: Any) -> bool:
    return value is None


class ClassRule(BaseModel):
    """From which length a region of this class is a defect, and which other measure makes it one.

    `limit_mm`: this long or longer is a defect. `ambiguous_mm`: sizes between which inspectors disagreed; a
    measured size inside it is worth a second look. `count` and `depth` are for people: a station measures lengths only.
    A rule without them is written without them, so that a book from before they existed keeps its id and its bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    cls: ClassName
    title: str
    limit_mm: float = Field(ge=0)
    ambiguous_mm: tuple[float, float] | None = None
    count: CountLimit | None = Field(default=None, exclude_if=_unset)
    depth: DepthProxy | None = Field(default=None, exclude_if=_unset)
    rule: str = Field(min_length=1)
    color: str = Field(default="#d55e00", pattern=r"^#[0-9a-f]{6}$")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.ambiguous_mm and not self.ambiguous_mm[0] <= self.ambiguous_mm[1]:
            raise ValueError(f"ambiguous_mm must be (low, high), not {self.ambiguous_mm}")
        return self

    def is_defect(self, length_mm: float) -> bool:
        return length_mm >= self.limit_mm


class LabelBook(BaseModel):
    """One version of the rules of one task."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(pattern=r"^[a-z0-9_-]+$")
    version: int = Field(ge=1)
    task: str
    rules: tuple[ClassRule, ...] = Field(min_length=1)
    author: str = ""
    reason: str = ""

    @model_validator(mode="after")
    def _each_class_once(self) -> Self:
        names = [r.cls for r in self.rules]
        if len(set(names)) != len(names):
            raise ValueError(f"a class has two rules: {names}")
        return self

    @property
    def id(self) -> str:
        return f"{self.name}@{self.version}"

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(r.cls for r in self.rules)

    def rule(self, cls: str) -> ClassRule:
        """The rule of a class; KeyError when the book has none."""
        for r in self.rules:
            if r.cls == cls:
                return r
        raise KeyError(f"label book {self.id} has no class {cls!r}")


WELD_BOOK = LabelBook(
    name="weld",
    version=1,
    task="weld",
    author="haltline",
    reason="first version: limits in the spirit of ISO 5817 level C, rounded, for the rendered welds",
    rules=(
        ClassRule(
            cls="porosity",
            title="Porosity",
            limit_mm=0.5,
            rule="A gas pore open to the surface, 0.5 mm or more across.",
        ),
        ClassRule(
            cls="undercut",
            title="Undercut",
            limit_mm=1.0,
            rule="A groove along the toe of the bead, 1 mm or longer.",
            color="#0072b2",
        ),
        ClassRule(
            cls="burn_through",
            title="Burn-through",
            limit_mm=1.5,
            rule="Metal melted away so that a hole or sag of 1.5 mm or more is left.",
            color="#cc79a7",
        ),
    ),
)

SCRATCH_BOOK = LabelBook(
    name="scratch",
    version=1,
    task="scratch",
    author="haltline",
    reason="first version: inspectors agreed on 1.5 mm, where they used to differ between 1 and 3 mm",
    rules=(
        ClassRule(
            cls="scratch",
            title="Scratch",
            limit_mm=1.5,
            ambiguous_mm=(1.0, 3.0),
            rule="A scratch 1.5 mm or longer, measured along it.",
        ),
    ),
)

BOOKS = {book.task: book for book in (WELD_BOOK, SCRATCH_BOOK)}
"""The label book each task starts with."""
