"""Reading `edge.yaml`: every mistake is named with file, line, key, value and fix."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.constructor import ConstructorError, RoundTripConstructor
from ruamel.yaml.error import YAMLError
from ruamel.yaml.reader import ReaderError

from edge.config import LIVE, CameraConfig, EdgeConfig
from edge.named_files import unusable
from inspection.errors import ConfigError, InputError
from inspection.render import TASKS

Mistake = tuple[tuple[int | str, ...], str, str]
"""Where in the file, what stands there, and the fix."""
MOST_VALUES = 100_000
FIXES = {"'\\t'": "tabs are not allowed: indent with spaces", "duplicate key": "keep one of the two"}
"""Part of what YAML says -> what to do about it."""


def load(path: Path) -> EdgeConfig:
    """Read `edge.yaml`; ConfigError names every mistake with its line."""
    tree = _read(path)
    if not isinstance(tree, CommentedMap):
        raise ConfigError(f"{path}:1", "is no mapping of keys to values", "start from deploy/edge.example.yaml")
    try:
        config = EdgeConfig.model_validate(_plain(tree, iter(range(MOST_VALUES))))
    except StopIteration as e:
        what = f"holds more than {MOST_VALUES} values once each *alias is what it stands for"
        raise ConfigError(path, what, "start from deploy/edge.example.yaml") from e
    except ValidationError as e:
        raise _explain(path, tree, e) from e
    if mistakes := [(*_place(tree, loc), what, fix) for loc, what, fix in _never_works(config)]:
        raise _told(path, mistakes)
    return _absolute(config, path.resolve().parent)


def check_files(path: Path, config: EdgeConfig) -> None:
    """ConfigError names every certificate, key, password and token file of `config` that this user cannot use, and each
    camera whose pictures are not there."""
    found: list[Mistake] = [(tuple(e.where.split(".")), e.what, e.fix) for e in unusable(config)]
    if found := [*found, *_no_pictures(config), *_uncalibrated(config)]:
        tree = _read(path)
        raise _told(path, [(*_place(tree, loc), what, fix) for loc, what, fix in found])


class _Constructor(RoundTripConstructor):
    def construct_object(self, node: Any, deep: bool = False) -> Any:
        """A date that is none, or a number of 5,000 digits: Python's own error does not say where it stands."""
        try:
            return super().construct_object(node, deep=deep)
        except ValueError as e:
            raise ConstructorError(None, None, str(e), node.start_mark) from e


def _read(path: Path) -> Any:
    """The file as YAML, every value with its line; ConfigError where it is none."""
    yaml = YAML(typ="rt")
    yaml.Constructor = _Constructor
    data = b""
    try:
        data = path.read_bytes()
        return yaml.load(data.decode())
    except OSError as e:
        raise ConfigError(path, e.strerror or str(e), "start from deploy/edge.example.yaml") from e
    except UnicodeDecodeError as e:
        raise _unreadable(path, data[: e.start], f"byte 0x{data[e.start]:02x} is no UTF-8") from e
    except ReaderError as e:
        what = f"character U+{e.character:04X} does not belong into text"
        raise _unreadable(path, data.decode()[: e.position].encode(), what) from e
    except RecursionError as e:
        raise ConfigError(path, "is nested too deeply to be read", "start from deploy/edge.example.yaml") from e
    except YAMLError as e:
        mark, what = getattr(e, "problem_mark", None), getattr(e, "problem", None) or str(e)
        fix = next((fix for part, fix in FIXES.items() if part in what), "see https://yaml.org")
        raise ConfigError(f"{path}:{mark.line + 1}" if mark else path, what, fix) from e


def _unreadable(path: Path, before: bytes, what: str) -> ConfigError:
    line = before.count(b"\n") + 1
    return ConfigError(f"{path}:{line}", what, "save it as plain text in UTF-8")


def _plain(node: Any, room: Iterator[int]) -> Any:
    """Dicts, lists and values; StopIteration when there is no room for more of them."""
    next(room)
    if isinstance(node, dict):
        return {str(key): _plain(value, room) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(item, room) for item in node]
    return node


def _explain(path: Path, tree: CommentedMap, error: ValidationError) -> ConfigError:
    """All mistakes, each with line, key, value and fix; the first one's place is the error's place."""
    mistakes = []
    for mistake in error.errors():
        if mistake["type"] == "too_short" and mistake["input"]:
            continue  # there were some, each with a mistake of its own
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


def _never_works(config: EdgeConfig) -> Iterator[Mistake]:
    """Settings that are right each by itself and stop the line together."""
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


def _no_pictures(config: EdgeConfig) -> Iterator[Mistake]:
    """Cameras that read files and have none, or are to draw what nobody can."""
    for number, camera in enumerate(config.cameras):
        path, place = Path(camera.source), ("cameras", number, "source")
        if camera.type == "folder" and not path.is_dir():
            yield place, f"{path} is no folder", "name a folder of pictures"
        if camera.type == "video" and not path.is_file():
            yield place, f"{path} is no file", "name a video file"
        if camera.type == "simulated" and (camera.source or "weld") not in TASKS:
            yield place, f"nobody draws {camera.source!r}", f"one of {', '.join(sorted(TASKS))}"


def _uncalibrated(config: EdgeConfig) -> Iterator[Mistake]:
    from edge.cameras.framing import calibration_of  # OpenCV, of which nothing else here has need

    for number, camera in enumerate(config.cameras):
        try:
            calibration_of(camera)
        except InputError as e:
            yield ("cameras", number, "calibration"), f"{e.where}: {e.what}", e.fix


def _told(path: Path, mistakes: Sequence[tuple[int, str, str, str]]) -> ConfigError:
    lines = [(f"{path}:{line}", f"{key}: {what}", fix) for line, key, what, fix in mistakes]
    where, what, fix = lines[0]
    rest = "".join(f"\n{w}: {t}" + (f"\n  fix: {f}" if f else "") for w, t, f in lines[1:])
    return ConfigError(where, what, (fix or "see docs/edge.md for what the key takes") + rest)


def _place(tree: Any, loc: tuple[int | str, ...]) -> tuple[int, str]:
    """The 1-based line of a key in the file, or of its nearest parent that is there."""
    line = 1
    for part in loc:
        known = {str(key): key for key in tree} if isinstance(tree, CommentedMap) else {}  # 7: is a key, and no text
        if str(part) in known:
            line, tree = tree.lc.key(known[str(part)])[0] + 1, tree[known[str(part)]]
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
