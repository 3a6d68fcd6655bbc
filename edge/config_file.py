"""Reading `edge.yaml`: every mistake is named with file, line, key, value and fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from edge.config import LIVE, CameraConfig, EdgeConfig
from edge.named_files import unusable
from inspection.errors import ConfigError


def load(path: Path) -> EdgeConfig:
    """Read `edge.yaml`; ConfigError names every mistake with its line."""
    try:
        tree = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
    except OSError as e:
        raise ConfigError(path, e.strerror or str(e), "start from deploy/edge.example.yaml") from e
    except (YAMLError, UnicodeDecodeError) as e:
        mark = getattr(e, "problem_mark", None)
        where = f"{path}:{mark.line + 1}" if mark else str(path)
        raise ConfigError(
            where, getattr(e, "problem", None) or str(e), "see https://yaml.org; tabs are not allowed"
        ) from e
    if not isinstance(tree, CommentedMap):
        raise ConfigError(f"{path}:1", "is no mapping of keys to values", "start from deploy/edge.example.yaml")
    try:
        config = EdgeConfig.model_validate(_plain(tree))
    except ValidationError as e:
        raise _explain(path, tree, e) from e
    if mistakes := [(*_place(tree, loc), what, fix) for loc, what, fix in _never_works(config)]:
        raise _told(path, mistakes)
    return _absolute(config, path.resolve().parent)


def check_files(path: Path, config: EdgeConfig) -> None:
    """ConfigError names every certificate, key, password and token file of `config` that this user cannot use."""
    if found := list(unusable(config)):
        tree = YAML(typ="rt").load(path.read_text(encoding="utf-8"))
        raise _told(path, [(*_place(tree, tuple(e.where.split("."))), e.what, e.fix) for e in found])


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    return node


def _explain(path: Path, tree: CommentedMap, error: ValidationError) -> ConfigError:
    """All mistakes, each with line, key, value and fix; the first one's place is the error's place."""
    mistakes = []
    for mistake in error.errors():
        line, key = _place(tree, mistake["loc"])
        what, fix = mistake["msg"].removeprefix("Value error, "), ""
        if mistake["type"] == "extra_forbidden":
            what, fix = "no such key", _similar(mistake["loc"])
        elif mistake["type"] == "missing":
            what, fix = "is missing", "add it"
        elif mistake["type"] != "value_error":
            what = f"{what}, not {mistake['input']!r}"
        mistakes.append((line, key, what, fix))
    return _told(path, mistakes)


def _never_works(config: EdgeConfig) -> Iterator[tuple[tuple[int | str, ...], str, str]]:
    """(place, what, fix) of settings that are right each by itself and stop the line together."""
    policy = config.policy
    for number, camera in enumerate(config.cameras):
        every_ms = 1000 / camera.fps
        if policy.mode == "stream" and not camera.optional and every_ms >= policy.max_silence_ms:
            what = f"{camera.fps:g} is a frame every {every_ms:.0f} ms, and policy.max_silence_ms is "
            what += f"{policy.max_silence_ms}: this camera is silent between any two, and there is never a permit"
            fix = f"set policy.max_silence_ms well above {every_ms:.0f}, or a higher fps"
            yield ("cameras", number, "fps"), what, fix
        # Where somebody wrote a number the camera may run freely beside the trigger, and is to be opened anew.
        unsaid = "stall_ms" not in camera.model_fields_set
        if policy.mode == "part" and camera.type in LIVE and unsaid:
            what = f"is left out, so that {camera.stall_ms} ms without a frame close this camera, and in policy.mode "
            what += "part none may come between two parts"
            fix = "set stall_ms: 0 where the trigger drives the camera, or the ms of silence of one that runs freely"
            yield ("cameras", number, "stall_ms"), what, fix


def _told(path: Path, mistakes: Sequence[tuple[int, str, str, str]]) -> ConfigError:
    lines = [(f"{path}:{line}", f"{key}: {what}", fix) for line, key, what, fix in mistakes]
    where, what, fix = lines[0]
    rest = "".join(f"\n{w}: {t}" + (f"\n  fix: {f}" if f else "") for w, t, f in lines[1:])
    return ConfigError(where, what, (fix or "see docs/edge.md for what the key takes") + rest)


def _place(tree: Any, loc: tuple[int | str, ...]) -> tuple[int, str]:
    """The 1-based line of a key in the file, or of its nearest parent that is there."""
    line = 1
    for part in loc:
        if isinstance(tree, CommentedMap) and part in tree:
            line, tree = tree.lc.key(part)[0] + 1, tree[part]
        elif isinstance(tree, CommentedSeq) and isinstance(part, int) and part < len(tree):
            line, tree = tree.lc.item(part)[0] + 1, tree[part]
        else:
            break
    return line, ".".join(str(part) for part in loc) or "the file"


def _similar(loc: tuple[int | str, ...]) -> str:
    known = _keys_at(EdgeConfig, loc[:-1])
    close = difflib.get_close_matches(str(loc[-1]), known, 1)
    return f"did you mean {close[0]}?" if close else f"known here: {', '.join(known)}"


def _keys_at(model: type[BaseModel], loc: tuple[int | str, ...]) -> list[str]:
    for part in loc:
        if isinstance(part, int) or part not in model.model_fields:
            continue
        nested = [t for t in _types_in(model.model_fields[part].annotation) if issubclass(t, BaseModel)]
        if nested:
            model = nested[0]
    return sorted(model.model_fields)


def _types_in(annotation: Any) -> list[type]:
    inner = getattr(annotation, "__args__", None)
    if inner:
        return [t for part in inner for t in _types_in(part)]
    return [annotation] if isinstance(annotation, type) else []


def _absolute(config: EdgeConfig, base: Path) -> EdgeConfig:
    """Paths in the file are relative to the file, so that a service's working folder does not matter."""

    def fixed(model: BaseModel) -> BaseModel:
        changes: dict[str, Any] = {}
        for name in type(model).model_fields:
            value = getattr(model, name)
            if isinstance(value, Path):
                changes[name] = base / value
            elif isinstance(value, BaseModel):
                changes[name] = fixed(value)
            elif isinstance(value, tuple) and value and isinstance(value[0], Path):
                changes[name] = tuple(base / item for item in value)
            elif isinstance(value, tuple) and value and isinstance(value[0], CameraConfig):
                changes[name] = tuple(_camera(item, base) for item in value)
        return model.model_copy(update=changes)

    done = fixed(config)
    assert isinstance(done, EdgeConfig)
    return done


def _camera(camera: CameraConfig, base: Path) -> CameraConfig:
    changes: dict[str, Any] = {}
    if camera.type in ("folder", "video"):
        changes["source"] = str(base / camera.source)
    if camera.calibration:
        changes["calibration"] = base / camera.calibration
    return camera.model_copy(update=changes)
