"""The model bundle: the contract between training and edge, and what makes one valid.

    <name>-<version>/
      manifest.json     this module's `Manifest`; pins every other file by sha256
      manifest.sig      optional ed25519 signature over the manifest's bytes, 64 bytes
      model.onnx        uint8 NHWC in; photometry, calibration and sigmoid inside; no custom op, no external data
      golden/           frames and the outputs the exporter got for them
      card.md           what the model can and cannot do

A room reads the files, this module judges the bytes: nothing here opens a file.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from inspection.errors import BundleError, ConfigError
from inspection.samples import ClassName, Sha256

if TYPE_CHECKING:  # 10 MiB of code and OpenSSL's tables: imported where a key is used, for who uses one
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

BUNDLE_FORMAT: Literal[1] = 1
MANIFEST_FILE = "manifest.json"
SIGNATURE_FILE = "manifest.sig"
MODEL_FILE = "model.onnx"
NOVELTY = "novelty"
MAX_MODEL_BYTES = 256 * 2**20
MAX_FILE_BYTES = 32 * 2**20
MAX_FILES = 64
KEY_HINT = "make one with: openssl genpkey -algorithm ed25519"

RelPath = Annotated[
    str, Field(pattern=r"^(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)?[A-Za-z0-9_-][A-Za-z0-9._-]*$", max_length=120)
]
Probability = Annotated[float, Field(ge=0, le=1)]


class _Strict(BaseModel):
    # Infinity as limit_mm would call nothing a defect; NaN as golden score would match anything.
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class InputSpec(_Strict):
    """What the graph eats: one uint8 picture, BGR, `(1, height_px, width_px, 3)`.

    `px_per_mm`: the scale the model was trained at, in px of the *input*. A camera whose frames arrive at another
    scale (after the fit to the input) is refused when it is further off than `scale_tolerance` (a ratio >= 1).
    """

    name: str = "image"
    width_px: int = Field(ge=32, le=4096)
    height_px: int = Field(ge=32, le=4096)
    layout: Literal["NHWC"] = "NHWC"
    dtype: Literal["uint8"] = "uint8"
    color: Literal["BGR"] = "BGR"
    px_per_mm: float = Field(gt=0)
    scale_tolerance: float = Field(default=1.3, ge=1)


class OutputSpec(_Strict):
    """`scores`: float32 (1, C), calibrated. `heat`: uint8 (1, C, height_px / stride, width_px / stride)."""

    scores: str = "scores"
    heat: str = "heat"
    heat_stride: int = Field(default=4, ge=1, le=64)


class StateSpec(_Strict):
    """A tensor that a model with a memory takes and gives with every frame: float32, all zeros before the first.

    What comes out under `output` goes in under `input` with the camera's next frame.
    """

    input: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    output: str = Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")
    shape: tuple[Annotated[int, Field(ge=1, le=2**20)], ...] = Field(min_length=1, max_length=5)


class NoveltySpec(_Strict):
    """How unlike its training pictures a model finds a picture, where it can say so: float32 (1,), under `output`.

    Above `threshold`, which `quantile` of `held_out` validation pictures stay under, a frame is worth a label. No call
    and no permit rests on it. `fitted_on`: so many training pictures.
    """

    output: str = Field(default=NOVELTY, pattern=r"^[a-z][a-z0-9_]{0,39}$")
    threshold: float = Field(gt=0)
    quantile: float = Field(gt=0, lt=1)
    fitted_on: int = Field(ge=2)
    held_out: int = Field(ge=1)


class ClassLimits(_Strict):
    """How a class's score becomes a call: below `lo` pass, from `hi` on defect, uncertain between.

    `limit_mm` comes from the label book: a finding shorter than that is no defect. `heat_level` is the heat
    (0..1) from which a pixel belongs to a finding.
    """

    cls: ClassName
    lo: Probability
    hi: Probability
    heat_level: Probability = 0.5
    limit_mm: float = Field(default=0.0, ge=0)

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.lo > self.hi:
            raise ValueError(f"class {self.cls}: lo {self.lo} is above hi {self.hi}")
        return self


class GoldenCase(_Strict):
    """One golden frame: a PNG already at the input's size, and what the exporter's runtime answered."""

    image: RelPath
    scores: tuple[float, ...]
    heat_mean: tuple[float, ...]
    novelty: float | None = None


class Golden(_Strict):
    """`tolerance`: the largest difference of a score, and of a novelty, as a share of it where it is above 1;
    `heat_tolerance` of a heat map's mean (0..255).

    A model with a memory is shown the cases in order, from the zero state on: they are frames of one clip.
    """

    tolerance: float = Field(default=0.01, gt=0, le=0.1)
    heat_tolerance: float = Field(default=2.0, gt=0, le=20)
    cases: tuple[GoldenCase, ...] = Field(min_length=1)


class Lineage(_Strict):
    """Where the model came from, so that an alert can be traced to its training pictures."""

    snapshot: str
    snapshot_sha256: Sha256
    parent: str | None = None
    seed: int = 0
    software: dict[str, str] = Field(default_factory=dict)
    metrics: dict[str, float] = Field(default_factory=dict)


NAME, VERSION = r"^[a-z][a-z0-9_-]{0,39}$", r"^[0-9]{1,5}\.[0-9]{1,5}\.[0-9]{1,5}$"


def check_name(name: str, version: str) -> None:
    """ConfigError for what no manifest takes, before minutes are spent on it."""
    if not re.match(NAME, name):
        raise ConfigError("--name", f"is {name!r}", "begin with a letter, at most 40 of a-z, digits, - and _")
    if not re.match(VERSION, version):
        raise ConfigError("--version", f"is {version!r}", "write three numbers, e.g. 0.2.0")


class Manifest(_Strict):
    """`manifest.json`. Limits live here and not in the graph, so that a threshold changes without a re-export."""

    format: Literal[1] = BUNDLE_FORMAT
    name: str = Field(pattern=NAME)
    version: str = Field(pattern=VERSION)
    task: str = Field(pattern=r"^[a-z][a-z0-9_-]{0,39}$")
    created_utc: str
    expires_utc: AwareDatetime | None = None
    """From then on no edge takes the bundle anew, though its signature be good. One that serves it goes on: a date must
    not stop a line."""
    classes: tuple[ClassName, ...] = Field(min_length=1, max_length=32)
    input: InputSpec
    outputs: OutputSpec = OutputSpec()
    state: tuple[StateSpec, ...] = Field(default=(), max_length=16)
    novelty: NoveltySpec | None = None
    limits: tuple[ClassLimits, ...]
    label_book: str = Field(pattern=r"^[a-z0-9_-]+@[0-9]+$")
    golden: Golden
    lineage: Lineage
    files: dict[RelPath, Sha256]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if len(set(self.classes)) != len(self.classes) or tuple(m.cls for m in self.limits) != self.classes:
            raise ValueError("limits must name each class once, in the order of `classes`")
        wanted = {MODEL_FILE, *(case.image for case in self.golden.cases)}
        if missing := sorted(wanted - set(self.files)):
            raise ValueError(f"files pins no sha256 for {missing}")
        for case in self.golden.cases:
            if not len(case.scores) == len(case.heat_mean) == len(self.classes):
                raise ValueError(f"golden case {case.image} does not have one value per class")
            if (case.novelty is None) is not (self.novelty is None):
                raise ValueError(f"golden case {case.image} has a novelty where the model has none, or none for it")
        names = [name for s in self.state for name in (s.input, s.output)]
        names += [self.novelty.output] if self.novelty else []
        taken = {self.input.name, self.outputs.scores, self.outputs.heat}
        if len(set(names)) != len(names) or taken & set(names):
            raise ValueError("each state tensor needs names of its own for its input and its output, the novelty too")
        return self

    @model_serializer(mode="wrap")
    def _as_before(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """A model without a memory or a novelty is written as ever: edges of an earlier version read it too."""
        found: dict[str, Any] = write(self)
        if not self.state:
            del found["state"]
        if not self.novelty:
            del found["novelty"]
            for case in found["golden"]["cases"]:
                del case["novelty"]
        return found

    @property
    def id(self) -> str:
        return f"{self.name}-{self.version}"

    def version_key(self) -> tuple[int, ...]:
        return tuple(int(part) for part in self.version.split("."))

    def limit(self, cls: str) -> ClassLimits:
        return self.limits[self.classes.index(cls)]

    def to_json(self) -> bytes:
        """The bytes that are written, hashed and signed."""
        return (self.model_dump_json(indent=2) + "\n").encode()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def parse_manifest(data: bytes, where: object = MANIFEST_FILE) -> Manifest:
    """The manifest in `data`; BundleError names the first key that is wrong."""
    if len(data) > 2**20:
        raise BundleError(where, f"{len(data)} bytes is no manifest", "use the bundle `haltline export` wrote")
    try:
        return Manifest.model_validate_json(data)
    except ValidationError as e:
        first = e.errors()[0]
        key = ".".join(str(part) for part in first["loc"]) or "manifest"
        raise BundleError(where, f"{key}: {first['msg']}", "export the bundle again") from e


def verify_files(manifest: Manifest, files: Mapping[str, bytes], where: object = "bundle") -> None:
    """Refuse a bundle whose files are not exactly those the manifest pins.

    `files` leaves out manifest and signature.
    """
    if stray := sorted(set(files) - set(manifest.files)):
        raise BundleError(where, f"holds files its manifest does not pin: {stray}", "remove them or export again")
    if missing := sorted(set(manifest.files) - set(files)):
        raise BundleError(where, f"lacks {missing}", "copy the whole folder")
    for path, data in files.items():
        limit = MAX_MODEL_BYTES if path == MODEL_FILE else MAX_FILE_BYTES
        if len(data) > limit:
            raise BundleError(
                where, f"{path} has {len(data)} bytes, more than {limit}", "no released model is that large"
            )
        if sha256(data) != manifest.files[path]:
            raise BundleError(where, f"{path} does not have the sha256 the manifest pins", "copy or export it again")


def check_names(names: Iterable[str], where: object = "bundle") -> None:
    """Refuse paths that could leave the bundle's folder, before anything is read or written."""
    names = list(names)
    if len(names) > MAX_FILES:
        raise BundleError(where, f"holds {len(names)} files, more than {MAX_FILES}", "a bundle is a handful of files")
    for name in names:
        if not re.fullmatch(r"(?:[A-Za-z0-9_-][A-Za-z0-9._-]*/)?[A-Za-z0-9_-][A-Za-z0-9._-]*", name):
            raise BundleError(
                where, f"holds the path {name!r}", "a bundle has plain file names, at most one folder deep"
            )


def sign(manifest_bytes: bytes, private_key_pem: bytes) -> bytes:
    """The 64-byte ed25519 signature over the manifest, which pins every other file."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(private_key_pem, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:  # TypeError: it wants a password
        raise BundleError("signing key", f"does not read as a PEM private key: {e}", KEY_HINT) from e
    if not isinstance(key, Ed25519PrivateKey):
        raise BundleError("signing key", f"is a {type(key).__name__}", KEY_HINT)
    return key.sign(manifest_bytes)


def _public_key(pem: bytes, where: object) -> Ed25519PublicKey:
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
    from cryptography.hazmat.primitives.serialization import load_pem_public_key

    try:
        key = load_pem_public_key(pem)
    except (ValueError, TypeError, UnsupportedAlgorithm) as e:
        raise BundleError(where, f"a trusted key does not read as a PEM public key: {e}", KEY_HINT) from e
    if not isinstance(key, Ed25519PublicKey):
        raise BundleError(where, f"a trusted key is a {type(key).__name__}, not ed25519", KEY_HINT)
    return key


def verify_signature(
    manifest_bytes: bytes, signature: bytes | None, trusted_pem: Iterable[bytes], where: object = "bundle"
) -> bool:
    """True when signed by a trusted key, False when no key is configured; BundleError for anything else."""
    keys = [_public_key(pem, where) for pem in trusted_pem]
    if not keys:
        return False
    from cryptography.exceptions import InvalidSignature

    if signature is None:
        raise BundleError(where, "is not signed, and this edge trusts signed bundles only", "export with --key")
    for key in keys:
        try:
            key.verify(signature, manifest_bytes)
        except InvalidSignature:
            continue
        return True
    raise BundleError(where, "its signature is by no trusted key", "check bundle.trusted_keys in edge.yaml")
