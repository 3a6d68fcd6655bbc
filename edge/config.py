"""`edge.yaml`: one typed file, read once, passed down. A mistake names file, line, key, value and fix."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from inspection.errors import ConfigError
from inspection.fitness import FitnessLimits
from inspection.messages import Topics


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class StationConfig(_Strict):
    """Where this edge stands; the three levels of its MQTT topics."""

    site: str
    line: str
    station: str

    def topics(self) -> Topics:
        return Topics(self.site, self.line, self.station)

    @model_validator(mode="after")
    def _levels(self) -> Self:
        try:
            self.topics()
        except ConfigError as e:
            raise ValueError(f"{e.where} {e.what}; {e.fix}") from e
        return self


class RegionConfig(_Strict):
    """A part of a camera's picture that is judged by itself, in px of the undistorted picture from its top left."""

    name: str = Field(pattern=r"^[A-Za-z0-9_-]{1,32}$")
    x: int = Field(ge=0)
    y: int = Field(ge=0)
    w: int = Field(ge=32)
    h: int = Field(ge=32)


class CameraConfig(_Strict):
    """One camera. `source`: a folder, a video file, a device number or URL, or for `simulated` a task."""

    name: str = Field(default="cam1", pattern=r"^[A-Za-z0-9_-]{1,32}$")
    type: Literal["simulated", "folder", "video", "opencv"]
    source: str = ""
    fps: float = Field(default=30.0, gt=0, le=500)
    px_per_mm: float = Field(default=10.0, gt=0)
    loop: bool = True
    pan_px: float = Field(default=0.0, ge=0)
    """For `folder`: pan a window over each picture by so many px a frame, 0 = show each picture whole."""
    seed: int = 1
    defect_every_s: float = Field(default=20.0, gt=0)
    """For `simulated`: a defect passes this often."""
    width_px: int | None = Field(default=None, ge=16, le=16384)
    height_px: int | None = Field(default=None, ge=16, le=16384)
    """For a USB device: the size asked of it; what it delivers is what counts."""
    fourcc: str = Field(default="", pattern=r"^([A-Z0-9]{4})?$")
    """For a USB device: its pixel format, e.g. MJPG for a rate that raw pixels do not reach."""
    options: str = ""
    """For a URL: FFmpeg's options as `key;value|key;value`; default: RTSP over TCP, no buffering."""
    open_ms: int = Field(default=8000, ge=100, le=60_000)
    """A live camera's first frame must come within this time, or its reader is killed and started again."""
    stall_ms: int = Field(default=1000, ge=50, le=60_000)
    """A live camera silent for longer is opened anew. The line has stopped by then: see policy.max_silence_ms."""
    calibration: Path | None = None
    """What `haltline edge calibrate` measured: it replaces px_per_mm and straightens the lens."""
    regions: tuple[RegionConfig, ...] = Field(default=(), max_length=8)
    """Judge these parts, each as a camera of its own named `camera/region`, instead of the whole picture."""
    fitness: FitnessLimits = FitnessLimits()
    """When a picture cannot be judged."""

    @property
    def eyes(self) -> tuple[str, ...]:
        """The names under which this camera's pictures are judged."""
        return tuple(f"{self.name}/{region.name}" for region in self.regions) or (self.name,)

    @model_validator(mode="after")
    def _eyes_differ(self) -> Self:
        if len(set(self.eyes)) != len(self.eyes):
            raise ValueError(f"two regions have one name: {[region.name for region in self.regions]}")
        return self


class BundleConfig(_Strict):
    """Which model is served. `trusted_keys`: public key files (PEM); when given, only signed bundles are served."""

    path: Path
    store: Path | None = None
    """Where bundles fetched from the hub are kept; default: `bundles` in the state folder."""
    trusted_keys: tuple[Path, ...] = ()
    provider: str = "CPUExecutionProvider"
    threads: int = Field(default=2, ge=1, le=64)


class ClassOverride(_Strict):
    """A site's own limits for one class; what is left out stays as the bundle has it."""

    lo: float | None = Field(default=None, ge=0, le=1)
    hi: float | None = Field(default=None, ge=0, le=1)
    limit_mm: float | None = Field(default=None, ge=0)
    size_tolerance_mm: float | None = Field(default=None, ge=0)
    k: int | None = Field(default=None, ge=1, le=1000)
    n: int | None = Field(default=None, ge=1, le=1000)


class PolicyConfig(_Strict):
    """How the guard decides; see `inspection/policy.py`."""

    k: int = Field(default=1, ge=1, le=1000)
    n: int = Field(default=1, ge=1, le=1000)
    max_silence_ms: int = Field(default=300, ge=20, le=60_000)
    lease_ms: int = Field(default=400, ge=50, le=60_000)
    fresh_frames: int = Field(default=3, ge=1, le=1000)
    blind_runs: bool = False
    uncertain_every_ms: int = Field(default=1000, ge=0)
    audit_share: float = Field(default=0.0, ge=0, le=1)
    classes: dict[str, ClassOverride] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _k_of_n(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"k {self.k} is more than n {self.n}")
        return self


class TlsConfig(_Strict):
    """Files in PEM. With `cert` and `key` the edge shows its own certificate."""

    ca: Path
    cert: Path | None = None
    key: Path | None = None


class MqttConfig(_Strict):
    host: str = "127.0.0.1"
    port: int = Field(default=1883, ge=1, le=65535)
    protocol: Literal["5", "3.1.1"] = "5"
    username: str | None = None
    password_file: Path | None = None
    tls: TlsConfig | None = None


class HubConfig(_Strict):
    """Where evidence is uploaded to and bundles are fetched from."""

    url: str = Field(pattern=r"^https?://[^/\s]+$")
    token_file: Path | None = None
    ca: Path | None = None


class SpoolConfig(_Strict):
    """How much evidence waits for the hub, and which (docs/spool.md).

    `reserve_mb`: when less of the disk is free, only halts and the frames before them are still taken.
    `context_frames`: so many frames before a halt are kept with it. `thin_bits`: an uncertain frame that differs in at
    most so many of 64 bits from the one kept before it is not kept; 0 = off."""

    quota_mb: int = Field(default=2048, ge=16)
    reserve_mb: int = Field(default=64, ge=0)
    context_frames: int = Field(default=8, ge=0, le=64)
    thin_bits: int = Field(default=6, ge=0, le=32)


class StatusConfig(_Strict):
    """Health, metrics and a snapshot over HTTP; port 0 = off."""

    host: str = "127.0.0.1"
    port: int = Field(default=9101, ge=0, le=65535)


class LiveConfig(_Strict):
    """The small picture for the pages; fps 0 = off."""

    fps: float = Field(default=4.0, ge=0, le=30)
    width_px: int = Field(default=640, ge=64, le=1920)
    jpeg_quality: int = Field(default=70, ge=10, le=95)


class EdgeConfig(_Strict):
    """The whole of `edge.yaml`. Paths are relative to the file."""

    station: StationConfig
    cameras: tuple[CameraConfig, ...] = Field(min_length=1, max_length=8)
    bundle: BundleConfig
    state_dir: Path
    policy: PolicyConfig = PolicyConfig()
    mqtt: MqttConfig = MqttConfig()
    hub: HubConfig | None = None
    spool: SpoolConfig = SpoolConfig()
    status: StatusConfig = StatusConfig()
    live: LiveConfig = LiveConfig()

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise ValueError(f"two cameras have one name: {names}")
        return self


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
    return _absolute(config, path.resolve().parent)


def _plain(node: Any) -> Any:
    if isinstance(node, dict):
        return {str(key): _plain(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_plain(item) for item in node]
    return node


def _explain(path: Path, tree: CommentedMap, error: ValidationError) -> ConfigError:
    """All mistakes, each with line, key, value and fix; the first one's place is the error's place."""
    lines = []
    for mistake in error.errors():
        line, key = _place(tree, mistake["loc"])
        what, fix = mistake["msg"].removeprefix("Value error, "), ""
        if mistake["type"] == "extra_forbidden":
            what, fix = "no such key", _similar(mistake["loc"])
        elif mistake["type"] == "missing":
            what, fix = "is missing", "add it"
        elif mistake["type"] != "value_error":
            what = f"{what}, not {mistake['input']!r}"
        lines.append((f"{path}:{line}", f"{key}: {what}", fix))
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
