"""What `edge.yaml` may say: one typed object, read once (`config_file.py`), passed down. docs/edge.md is made of it."""

from __future__ import annotations

import re
from ipaddress import IPv6Address
from pathlib import Path
from typing import Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from inspection.errors import ConfigError
from inspection.fitness import FitnessLimits
from inspection.messages import Topics


class _Strict(BaseModel):
    # YAML knows .inf and .nan. A limit that nothing reaches is no limit: the guard would never halt.
    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True, allow_inf_nan=False)


def _host(value: str) -> str:
    """What no resolver can be asked is refused here: asked all the same it is no failed connection but an exception,
    which ends the network thread each time."""
    try:
        if ":" in value:
            IPv6Address(value)
        else:
            value.encode("idna")  # no empty label, none above 63 characters
        known = re.fullmatch(r"[^\s/@\0]+", value)
    except ValueError:
        known = None
    if not known:
        fix = "give one without port or path, e.g. broker.plant.example or 10.0.0.5"
        raise ValueError(f"{value!r} is no host's name or address; {fix}")
    return value


def _url(value: str) -> str:
    try:
        parts = urlsplit(value)
        _host(parts.hostname or "")
        _ = parts.port  # raises where it is no number
    except ValueError as e:
        raise ValueError(f"{value!r}: {e}") from e
    return value


class StationConfig(_Strict):
    """Where this edge stands; the three levels of its MQTT topics."""

    site: str
    """First level of the topics."""
    line: str
    """Second level."""
    station: str
    """Third level: this edge."""

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
    """The region is judged as the camera `camera/name`."""
    x: int = Field(ge=0)
    """Left edge in px."""
    y: int = Field(ge=0)
    """Top edge in px."""
    w: int = Field(ge=32)
    """Width in px."""
    h: int = Field(ge=32)
    """Height in px."""


LIVE = frozenset(("opencv", "genicam", "pylon"))
"""Cameras that a process of their own reads; it is ended when they are silent (docs/cameras.md)."""


class CameraConfig(_Strict):
    """One camera."""

    name: str = Field(default="cam1", pattern=r"^[A-Za-z0-9_-]{1,32}$")
    """Names the camera in records and metrics."""
    type: Literal["simulated", "folder", "video", "opencv", "genicam", "pylon"]
    """Which adapter reads it (docs/cameras.md)."""
    source: str = ""
    """A folder, a video file, a device number or URL, or for `simulated` the task."""
    fps: float = Field(default=30.0, gt=0, le=500)
    """Frames a second; sources without a clock are played at this rate."""
    px_per_mm: float = Field(default=10.0, gt=0)
    """Scale of the frame; measure it with `haltline edge calibrate`. 1 for a model whose pictures stated none: its card
    says so."""
    optional: bool = False
    """Blindness of this camera does not withdraw the permit; what it sees still counts."""
    loop: bool = True
    """For files: begin again at the end."""
    pan_px: float = Field(default=0.0, ge=0)
    """For `folder`: pan a window over each picture by so many px a frame, 0 = show each picture whole."""
    seed: int = Field(default=1, ge=0)
    """For `simulated`: the same seed draws the same parts."""
    defect_every_s: float = Field(default=20.0, gt=0, le=86_400)
    """For `simulated`: a defect passes this often."""
    width_px: int | None = Field(default=None, ge=16, le=16384)
    """For a USB device: the width asked of it."""
    height_px: int | None = Field(default=None, ge=16, le=16384)
    """For a USB device: the size asked of it; what it delivers is what counts."""
    fourcc: str = Field(default="", pattern=r"^([A-Z0-9]{4})?$")
    """For a USB device: its pixel format, e.g. MJPG for a rate that raw pixels do not reach."""
    options: str = ""
    """For a URL: FFmpeg's options as `key;value|key;value`; default: RTSP over TCP, no buffering."""
    open_ms: int = Field(default=8000, ge=100, le=60_000)
    """A live camera's first frame must come within this time, or its reader is killed and started again."""
    stall_ms: int = Field(default=1000, ge=0, le=60_000)
    """A live camera silent for longer is opened anew. The line has stopped by then: see policy.max_silence_ms. 0 =
    never: for a camera that delivers only when it is triggered; mode `part` asks which it is."""
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
    """Which model is served, and on what."""

    path: Path
    """The folder of the bundle that is served until the hub orders one. That order outlives restarts, until this folder
    holds another bundle."""
    store: Path | None = None
    """Where bundles fetched from the hub are kept; default: `bundles` in the state folder."""
    trusted_keys: tuple[Path, ...] = ()
    """Public key files (PEM, ed25519). When given, only bundles signed by one of them are served."""
    provider: str = Field(
        default="CPUExecutionProvider",
        pattern=r"^([A-Za-z0-9]+ExecutionProvider|openvino(:[A-Z]+(\.[0-9]+)?)?)$",
    )
    """An onnxruntime provider, e.g. CUDAExecutionProvider, or `openvino`, or `openvino:GPU` (docs/inference.md). What
    really runs is compared with it; there is no silent fallback."""
    threads: int = Field(default=2, ge=1, le=64)
    """Threads of one inference."""
    max_tiles: int = Field(default=1, ge=1, le=256)
    """A frame too large for the model's input is judged in up to so many tiles, each an inference; 1 = off."""


class CusumConfig(_Strict):
    """The sequential test (docs/guard.md). What is left out stays as shown in the table."""

    prior: float = Field(default=0.5, gt=0, lt=1)
    """Share of frames with the class at which the scores are calibrated; too large only makes the test slower."""
    clip: float = Field(default=4.0, gt=0, le=100)
    """Most evidence one frame can add, in nats."""
    floor: float = Field(default=3.0, gt=0, le=100)
    """Most evidence one frame can take back, in nats."""
    thin: float = Field(default=1.0, ge=1, le=1000)
    """How many neighbouring frames say as much as one; `haltline edge replay --estimate` measures it."""
    release: float = Field(default=0.5, ge=0, le=1)
    """A camera's vote stands until its evidence has fallen to this share of what completes it."""
    at_once: float | None = Field(default=None, ge=0, le=1)
    """One frame that calls for a stop with at least this score is enough; outside the promised rate."""


class ClassOverride(_Strict):
    """A site's own limits for one class; what is left out stays as the bundle has it."""

    lo: float | None = Field(default=None, ge=0, le=1)
    """Score below this: pass."""
    hi: float | None = Field(default=None, ge=0, le=1)
    """Score from this on: defect."""
    limit_mm: float | None = Field(default=None, ge=0)
    """Regions shorter than this are no reason to stop."""
    size_tolerance_mm: float | None = Field(default=None, ge=0)
    """What the measured length may be off by."""
    k: int | None = Field(default=None, ge=1, le=1000)
    """So many ..."""
    n: int | None = Field(default=None, ge=1, le=1000)
    """... of the last n judged frames make a halt."""
    test: Literal["k_of_n", "cusum", "both"] | None = None
    """Which rule adds up this class's evidence."""
    cusum: CusumConfig | None = None
    """The sequential test of this class."""
    release: float | None = Field(default=None, ge=0, le=1)
    """Once uncertain, the class stays so until its score falls below this; such a spell gives one frame."""


class PolicyConfig(_Strict):
    """How the guard decides; see `inspection/policy.py`."""

    k: int = Field(default=1, ge=1, le=1000)
    """So many ..."""
    n: int = Field(default=1, ge=1, le=1000)
    """... of the last n judged frames make a halt, for each class."""
    test: Literal["k_of_n", "cusum", "both"] = "k_of_n"
    """Which rule adds up the evidence of the frames (docs/guard.md); with `both`, either is enough."""
    false_halts_per_8h: float = Field(default=1.0, gt=0)
    """For `cusum`: so many false halts the station may have in 8 h, all cameras and classes together."""
    cusum: CusumConfig = CusumConfig()
    """For `cusum`: what one frame counts."""
    mode: Literal["stream", "part"] = "stream"
    """`part`: cameras deliver only when a trigger opens an inspection; silence between parts is not blindness."""
    halt_on_defect: bool = True
    """false, in mode `part` only: the verdict says defect and the controller rejects the part; the line runs on."""
    vote: int = Field(default=1, ge=1, le=64)
    """So many cameras must agree on a defect, of those that see."""
    max_silence_ms: int = Field(default=300, ge=20, le=60_000)
    """Longest time without a judged frame before the edge says that it is blind."""
    # At least three of the ticks (edge/wiring.py) at which a guard without frames, as between two parts, has its say.
    lease_ms: int = Field(default=400, ge=150, le=60_000)
    """How long a permit outlives the guard's last word."""
    fresh_frames: int = Field(default=3, ge=1, le=1000)
    """Frames judged in a row before the line may run, at the start, after blindness and for a resume."""
    blind_runs: bool = False
    """Keep the permit while blind, not while another edge has this name. Needs a controller that accepts an older
    age_ms; think twice."""
    uncertain_every_ms: int = Field(default=1000, ge=0)
    """At most one uncertain frame is kept in this time."""
    audit_share: float = Field(default=0.0, ge=0, le=1)
    """Share of passed frames kept at random, to estimate what escapes."""
    audit_part_share: float = Field(default=0.0, ge=0, le=1)
    """Share of parts whose passed frames are all kept."""
    sent_per_h: float = Field(default=0.0, ge=0)
    """At most so many frames an hour: 60 % unsure, 20 % models disagree, 20 % audit. Halts apart; 0 = no limit."""
    unstable_flips: int = Field(default=0, ge=0, le=7)
    """Keep a frame when a score has flipped so often within 8 frames of one camera; 0 = off, 4 is a good start."""
    novel_from: float | None = Field(default=None, ge=0)
    """Keep a frame whose novelty is above this; left out, the bundle's own threshold holds, where it has one."""
    novel_every_ms: int = Field(default=60_000, ge=0)
    """At most one novel frame of a camera is kept in this time."""
    classes: dict[str, ClassOverride] = Field(default_factory=dict)
    """A site's own limits, by class."""

    @model_validator(mode="after")
    def _k_of_n(self) -> Self:
        if self.k > self.n:
            raise ValueError(f"k {self.k} is more than n {self.n}")
        return self


class TlsConfig(_Strict):
    """Files in PEM. With `cert` and `key` the edge shows its own certificate."""

    ca: Path
    """The authority that signed the broker's certificate."""
    cert: Path | None = None
    """The edge's own certificate."""
    key: Path | None = None
    """Its key."""


class MqttConfig(_Strict):
    """How the edge reaches the broker."""

    host: Annotated[str, AfterValidator(_host)] = "127.0.0.1"
    """The broker."""
    port: int = Field(default=1883, ge=1, le=65535)
    """Its port, usually 1883, or 8883 with TLS."""
    protocol: Literal["5", "3.1.1"] = "5"
    """5, or 3.1.1 for brokers that speak nothing newer."""
    username: str | None = None
    """Where the broker asks for one."""
    password_file: Path | None = None
    """A file with the password and nothing else."""
    tls: TlsConfig | None = None
    """TLS, with files in PEM."""


class HubConfig(_Strict):
    """Where evidence is uploaded to and bundles are fetched from."""

    url: Annotated[str, AfterValidator(_url)] = Field(pattern=r"^https?://[^/\s]+$")
    """e.g. `https://hub.plant.example:8443`."""
    token_file: Path | None = None
    """A file with the token the hub asks of edges."""
    ca: Path | None = None
    """The authority that signed the hub's certificate."""


class SpoolConfig(_Strict):
    """How much evidence waits for the hub, and which (docs/spool.md)."""

    quota_mb: int = Field(default=2048, ge=16)
    """Most that may wait on disk."""
    reserve_mb: int = Field(default=64, ge=0)
    """With less of the disk free only halts and the frames before them are taken."""
    context_frames: int = Field(default=8, ge=0, le=64)
    """So many frames before a halt are kept with it."""
    thin_bits: int = Field(default=6, ge=0, le=32)
    """An uncertain frame that differs in at most so many of 64 bits from the one before is not kept; 0 = off."""


class ShadowConfig(_Strict):
    """A second bundle that looks on and decides nothing; frames on which the two disagree are sent (docs/guard.md)."""

    bundle: Path
    """A folder with a bundle for the same task. It runs on one thread."""
    every: int = Field(default=10, ge=1, le=100_000)
    """It looks at every n-th frame of each camera, if it is not still busy with one."""


class StatusConfig(_Strict):
    """Health, metrics and a snapshot over HTTP; port 0 = off."""

    host: str = "127.0.0.1"
    """Address of the health page."""
    port: int = Field(default=9101, ge=0, le=65535)
    """Its port; 0 = off."""


class LiveConfig(_Strict):
    """The small picture for the pages; fps 0 = off."""

    fps: float = Field(default=4.0, ge=0, le=30)
    """Pictures a second for the pages; 0 = off."""
    width_px: int = Field(default=640, ge=64, le=1920)
    """They are scaled to this width."""
    jpeg_quality: int = Field(default=70, ge=10, le=95)
    """10 to 95."""


class SparkplugConfig(_Strict):
    """Also be a Sparkplug B edge node on the same broker (docs/sparkplug.md). Never the stop path."""

    group: str | None = Field(default=None, pattern=r"^[^+/#\s]{1,64}$")
    """The group; default, the site."""
    node: str | None = Field(default=None, pattern=r"^[^+/#\s]{1,64}$")
    """The edge node; default, line-station."""
    history: int = Field(default=1000, ge=1, le=100_000)
    """So many changes are kept while the broker is away, and told later as history."""


class EdgeConfig(_Strict):
    """The whole of `edge.yaml`. Paths are relative to the file."""

    station: StationConfig
    """Where this edge stands."""
    cameras: tuple[CameraConfig, ...] = Field(min_length=1, max_length=8)
    """One or more cameras; all must see before the line may run."""
    bundle: BundleConfig
    """Which model is served."""
    state_dir: Path
    """Start count, open halt, the hub's last order, spool and fetched bundles. Keep it over updates."""
    policy: PolicyConfig = PolicyConfig()
    """How the guard decides."""
    mqtt: MqttConfig = MqttConfig()
    """The broker."""
    hub: HubConfig | None = None
    """Where evidence goes and bundles come from; without it they stay on the edge."""
    spool: SpoolConfig = SpoolConfig()
    """Evidence that waits for the hub."""
    shadow: ShadowConfig | None = None
    """A second model that looks on; off without it."""
    status: StatusConfig = StatusConfig()
    """Health, metrics, snapshot."""
    live: LiveConfig = LiveConfig()
    """The small picture for the pages."""
    sparkplug: SparkplugConfig | None = None
    """Also be a Sparkplug B edge node; off without it."""

    @model_validator(mode="after")
    def _names(self) -> Self:
        names = [camera.name for camera in self.cameras]
        if len(set(names)) != len(names):
            raise ValueError(f"two cameras have one name: {names}")
        return self
