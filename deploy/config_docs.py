"""`python -m deploy.config_docs`: writes docs/edge.md, the reference of `edge.yaml`, from `edge/config.py`.

A test fails when the page is not current or a setting has no description.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from edge.config import EdgeConfig

PAGE = Path(__file__).resolve().parent.parent / "docs" / "edge.md"
HEAD = """\
# `edge.yaml`

Made from `edge/config.py` by `python -m deploy.config_docs`. Paths are relative to the file. `haltline edge check
edge.yaml` names every mistake with its line, key, value and fix; `haltline edge doctor edge.yaml` says what this
machine really does with it. Every number is finite: `.inf` and `.nan` are refused.
[deploy/edge.example.yaml](../deploy/edge.example.yaml) is a file to start from.
"""


def page() -> str:
    sections: list[str] = []
    _section(EdgeConfig, "", sections, set())
    return HEAD + "\n" + "\n".join(sections)


def undocumented() -> list[str]:
    """Settings without a description."""
    found: list[str] = []
    for model, path in _models(EdgeConfig, "", set()):
        found += [f"{path}{name}" for name, field in model.model_fields.items() if not field.description]
    return found


def _section(model: type[BaseModel], path: str, sections: list[str], seen: set[type]) -> None:
    for each, prefix in _models(model, path, seen):
        title = f"`{prefix.rstrip('.')}`" if prefix else "The file"
        doc = " ".join((each.__doc__ or "").split())
        rows = [f"## {title}", "", doc, "", "| key | takes | default | |", "| --- | --- | --- | --- |"]
        for name, field in each.model_fields.items():
            rows.append(
                f"| `{name}` | {_takes(field)} | {_default(field)} | {' '.join((field.description or '').split())} |"
            )
        sections.append("\n".join(rows) + "\n")


def _models(model: type[BaseModel], path: str, seen: set[type]) -> list[tuple[type[BaseModel], str]]:
    """The model and those nested in it, each once, with the path of its keys."""
    seen.add(model)
    found = [(model, path)]
    for name, field in model.model_fields.items():
        for inner in _inside(field.annotation):
            if inner not in seen:
                many = "[]" if "tuple" in str(field.annotation) else ".CLASS" if "dict" in str(field.annotation) else ""
                found += _models(inner, f"{path}{name}{many}.", seen)
    return found


def _inside(annotation: Any) -> list[type[BaseModel]]:
    parts = getattr(annotation, "__args__", None)
    if parts:
        return [inner for part in parts for inner in _inside(part)]
    return [annotation] if isinstance(annotation, type) and issubclass(annotation, BaseModel) else []


def _takes(field: FieldInfo) -> str:
    if _inside(field.annotation):
        return "see below"
    text = getattr(field.annotation, "__name__", "")
    if "Literal" in str(field.annotation):
        text = " or ".join(f"`{arg}`" for arg in field.annotation.__args__)  # type: ignore[union-attr]
    elif getattr(field.annotation, "__args__", None):
        text = str(field.annotation).replace("pathlib.", "").replace(" | None", "").replace("|", "or")
    limits = [
        f"{sign} {getattr(rule, key):g}"
        for rule in field.metadata
        for key, sign in (("ge", "≥"), ("gt", ">"), ("le", "≤"), ("lt", "<"))
        if hasattr(rule, key)
    ]
    return " ".join([text.removeprefix("<class '").removesuffix("'>"), *limits])


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined and field.default_factory is None:
        return "**required**"
    if isinstance(field.default, BaseModel) or field.default in (None, (), "") or field.default_factory:
        return "-"
    return f"`{str(field.default).lower() if isinstance(field.default, bool) else field.default}`"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
