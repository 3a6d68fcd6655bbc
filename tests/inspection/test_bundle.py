"""What makes a bundle valid. Each hostile one differs from a valid one in a single point, and is refused for it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed448, rsa
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from pydantic import ValidationError

from inspection import bundle
from inspection.bundle import (
    MAX_FILES,
    ClassLimits,
    Golden,
    GoldenCase,
    InputSpec,
    Lineage,
    Manifest,
    check_names,
    parse_manifest,
    sha256,
    sign,
    verify_files,
    verify_signature,
)
from inspection.errors import BundleError

FILES = {"model.onnx": b"a graph", "golden/a.png": b"a picture", "card.md": b"what it can do"}
MANIFEST = Manifest(
    name="weld",
    version="1.2.3",
    task="weld",
    created_utc="2026-11-01T00:00:00Z",
    classes=("pore", "undercut"),
    input=InputSpec(width_px=320, height_px=256, px_per_mm=10),
    limits=(ClassLimits(cls="pore", lo=0.2, hi=0.8, limit_mm=0.5), ClassLimits(cls="undercut", lo=0.3, hi=0.7)),
    label_book="weld@1",
    golden=Golden(cases=(GoldenCase(image="golden/a.png", scores=(0.1, 0.9), heat_mean=(1, 60)),)),
    lineage=Lineage(snapshot="2026-10", snapshot_sha256="0" * 64),
    files={path: sha256(data) for path, data in FILES.items()},
)
DATA = MANIFEST.to_json()
Fields = dict[str, Any]

# ── a valid one ─────────────────────────────────────────────────────────────────────────────────────────────────


def with_novelty(**case: Any) -> Fields:
    fields = json.loads(DATA)
    fields["novelty"] = {"threshold": 1.7, "quantile": 0.99, "fitted_on": 800, "held_out": 160}
    fields["golden"]["cases"][0] |= case
    return dict(fields)


def test_a_novelty_is_stated_with_what_it_rests_on() -> None:
    manifest = parse_manifest(json.dumps(with_novelty(novelty=1.1)).encode())
    assert manifest.novelty
    assert (manifest.novelty.output, manifest.novelty.threshold, manifest.novelty.held_out) == ("novelty", 1.7, 160)
    assert parse_manifest(manifest.to_json()) == manifest


def test_without_a_novelty_the_manifest_is_what_it_was() -> None:
    """An edge of before the novelty knows no such key, and refuses what it does not know."""
    assert b"novelty" not in DATA


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({}, "golden case golden/a.png has a novelty where"),
        ({"novelty": 1.1, "threshold": 0}, "novelty.threshold"),
        ({"novelty": 1.1, "output": "scores"}, "names of its own"),
    ],
)
def test_a_novelty_that_cannot_be_is_refused(change: Fields, why: str) -> None:
    case = {"novelty": change.pop("novelty")} if "novelty" in change else {}
    fields = with_novelty(**case)
    fields["novelty"] |= change
    with pytest.raises(BundleError, match=why):
        parse_manifest(json.dumps(fields).encode())


def test_a_valid_bundle_is_taken() -> None:
    manifest = parse_manifest(DATA)
    assert manifest == MANIFEST
    assert manifest.to_json() == DATA
    assert (manifest.id, manifest.version_key()) == ("weld-1.2.3", (1, 2, 3))
    assert manifest.limit("undercut").hi == 0.7
    check_names(FILES)
    verify_files(manifest, FILES)


def test_versions_are_compared_as_numbers() -> None:
    older, newer = (MANIFEST.model_copy(update={"version": v}).version_key() for v in ("1.9.0", "1.10.0"))
    assert older < newer


# ── hostile manifests ───────────────────────────────────────────────────────────────────────────────────────────


def at(*path: str | int, to: object) -> Callable[[Fields], None]:
    """A change of one value; `...` takes the key away."""

    def change(fields: Any) -> None:
        for step in path[:-1]:
            fields = fields[step]
        if to is ...:
            del fields[path[-1]]
        else:
            fields[path[-1]] = to

    return change


def doubled_class(fields: Fields) -> None:
    fields["classes"] = ["pore", "pore"]
    fields["limits"] = [fields["limits"][0]] * 2


HOSTILE = {
    "unknown key": (at("pickle", to="x"), "pickle"),
    "unknown key inside": (at("input", "mean", to=[0]), "input.mean"),
    "missing key": (at("golden", to=...), "golden"),
    "other format": (at("format", to=2), "format"),
    "format as text": (at("format", to="1"), "format"),
    "name climbs": (at("name", to="../weld"), "name"),
    "name with a newline": (at("name", to="weld\n"), "name"),
    "version of foreign digits": (at("version", to="١.2.3"), "version"),
    "version of two numbers": (at("version", to="1.2"), "version"),
    "no class": (at("classes", to=[]), "classes"),
    "class with a space": (at("classes", 0, to="a b"), "classes.0"),
    "too many classes": (at("classes", to=[f"c{k}" for k in range(33)]), "classes"),
    "class twice": (doubled_class, "limits must name each class once"),
    "limits in another order": (lambda f: f["limits"].reverse(), "limits must name each class once"),
    "limits of one class only": (lambda f: f["limits"].pop(), "limits must name each class once"),
    "lo above hi": (at("limits", 0, "lo", to=0.9), "lo 0.9 is above hi 0.8"),
    "hi above 1": (at("limits", 0, "hi", to=1.1), "limits.0.hi"),
    "hi is NaN": (at("limits", 0, "hi", to=float("nan")), "limits.0.hi"),
    "nothing is ever a defect": (at("limits", 0, "limit_mm", to=float("inf")), "limits.0.limit_mm"),
    "negative limit": (at("limits", 0, "limit_mm", to=-1), "limits.0.limit_mm"),
    "heat level above 1": (at("limits", 0, "heat_level", to=2), "limits.0.heat_level"),
    "float input": (at("input", "dtype", to="float32"), "input.dtype"),
    "planar input": (at("input", "layout", to="NCHW"), "input.layout"),
    "RGB input": (at("input", "color", to="RGB"), "input.color"),
    "huge input": (at("input", "width_px", to=100_000), "input.width_px"),
    "no input": (at("input", "height_px", to=0), "input.height_px"),
    "no scale": (at("input", "px_per_mm", to=0), "input.px_per_mm"),
    "endless scale": (at("input", "px_per_mm", to=float("inf")), "input.px_per_mm"),
    "no stride": (at("outputs", "heat_stride", to=0), "outputs.heat_stride"),
    "no golden case": (at("golden", "cases", to=[]), "golden.cases"),
    "golden scores too few": (at("golden", "cases", 0, "scores", to=[0.1]), "one value per class"),
    "golden maps too many": (at("golden", "cases", 0, "heat_mean", to=[1, 2, 3]), "one value per class"),
    "golden scores match anything": (
        at("golden", "cases", 0, "scores", to=[float("nan")] * 2),
        "golden.cases.0.scores",
    ),
    "golden tolerance lets all pass": (at("golden", "tolerance", to=1.0), "golden.tolerance"),
    "golden tolerance is NaN": (at("golden", "tolerance", to=float("nan")), "golden.tolerance"),
    "golden image not pinned": (at("files", "golden/a.png", to=...), "golden/a.png"),
    "golden image climbs": (at("golden", "cases", 0, "image", to="../a.png"), "golden.cases.0.image"),
    "model not pinned": (at("files", "model.onnx", to=...), "model.onnx"),
    "pins a path outside": (at("files", "../../etc/cron.d/x", to="0" * 64), "files"),
    "pins by a short hash": (at("files", "card.md", to="0" * 40), "files.card.md"),
    "pins by a capital hash": (at("files", "card.md", to="A" * 64), "files.card.md"),
    "label book without a version": (at("label_book", to="weld"), "label_book"),
    "label book of foreign digits": (at("label_book", to="weld@٣"), "label_book"),
    "lineage without a hash": (at("lineage", "snapshot_sha256", to=""), "lineage.snapshot_sha256"),
}


@pytest.mark.parametrize(("change", "why"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_manifest_is_refused_by_its_wrong_point(change: Callable[[Fields], None], why: str) -> None:
    fields = json.loads(DATA)
    change(fields)
    with pytest.raises(BundleError) as refused:
        parse_manifest(json.dumps(fields).encode(), "weld-1.2.3/manifest.json")
    assert why in refused.value.what
    assert refused.value.where == "weld-1.2.3/manifest.json"
    assert refused.value.fix


@pytest.mark.parametrize(
    "data",
    [b"", b"null", b"[]", b"\x80\x04K\x01.", b"\xff\xfe", b"[" * 100_000, DATA[:-9], DATA + b"{}", b" " * (2**20 + 1)],
    ids=["empty", "null", "list", "pickle", "not utf-8", "deep", "truncated", "two", "bomb"],
)
def test_what_is_no_manifest_is_refused(data: bytes) -> None:
    with pytest.raises(BundleError):
        parse_manifest(data)


def test_a_manifest_cut_anywhere_is_refused() -> None:
    for end in range(0, len(DATA) - 2, 7):
        with pytest.raises(BundleError):
            parse_manifest(DATA[:end])


# ── hostile files ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("files", "why"),
    [
        (FILES | {"model.onnx": b"a grapH"}, "model.onnx does not have the sha256"),
        (FILES | {"card.md": b""}, "card.md does not have the sha256"),
        ({k: v for k, v in FILES.items() if k != "golden/a.png"}, "lacks ['golden/a.png']"),
        (FILES | {"evil.pkl": b"x"}, "does not pin: ['evil.pkl']"),
        (FILES | {"model.onnx.data": b"x"}, "does not pin: ['model.onnx.data']"),
        ({}, "lacks"),
    ],
    ids=["model changed", "card emptied", "missing", "stray", "external data", "nothing"],
)
def test_files_that_are_not_the_pinned_ones_are_refused(files: dict[str, bytes], why: str) -> None:
    with pytest.raises(BundleError) as refused:
        verify_files(MANIFEST, files)
    assert why in refused.value.what


def test_files_too_large_are_refused_though_their_hash_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle, "MAX_FILE_BYTES", 13)
    with pytest.raises(BundleError, match=r"card\.md has 14 bytes, more than 13"):
        verify_files(MANIFEST, FILES)
    monkeypatch.setattr(bundle, "MAX_FILE_BYTES", 14)
    verify_files(MANIFEST, FILES)
    monkeypatch.setattr(bundle, "MAX_MODEL_BYTES", 6)
    with pytest.raises(BundleError, match=r"model\.onnx has 7 bytes, more than 6"):
        verify_files(MANIFEST, FILES)


BAD_PATHS = [
    "",
    ".",
    "..",
    "../x",
    "a/../x",
    "golden/../../x",
    "/etc/passwd",
    "//host/share",
    "C:\\x",
    "C:x",
    "a\\b",
    "..\\x",
    "a/b/c",
    "a//b",
    "a/",
    ".hidden",
    "golden/.x",
    "a b",
    "a\n",
    "model.onnx\0.png",
    "golden\u2215a.png",  # division slash
    "\u2024\u2024/x",  # one dot leaders
    "\uff0e\uff0e/x",  # fullwidth full stops
    "m\u043edel.onnx",  # a Cyrillic o
    "model.onnx\u200b",
    "\u202egnp.a",
    "model.onnx:stream",
    "~root",
    "%2e%2e/x",
    "-\u0661.png",
]


@pytest.mark.parametrize("path", BAD_PATHS, ids=ascii)
def test_a_path_that_could_leave_the_folder_is_refused(path: str) -> None:
    with pytest.raises(BundleError) as refused:
        check_names([*FILES, path])
    assert repr(path) in refused.value.what
    with pytest.raises(BundleError, match="files"):
        parse_manifest(json.dumps(json.loads(DATA) | {"files": MANIFEST.files | {path: "0" * 64}}).encode())


def test_too_many_files_are_refused() -> None:
    check_names(f"f{k}" for k in range(MAX_FILES))
    with pytest.raises(BundleError, match="holds 65 files"):
        check_names(f"f{k}" for k in range(MAX_FILES + 1))


# ── signatures ──────────────────────────────────────────────────────────────────────────────────────────────────


def pem(key: Any, encryption: KeySerializationEncryption | None = None) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption())  # type: ignore[no-any-return]


def public(key: Any) -> bytes:
    return key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[no-any-return]


OURS, OLD, THEIRS = (Ed25519PrivateKey.from_private_bytes(bytes([k]) * 32) for k in (1, 2, 3))
OTHER_KINDS = [ec.generate_private_key(ec.SECP256R1()), ed448.Ed448PrivateKey.generate()]
SIGNATURE = sign(DATA, pem(OURS))


def test_a_bundle_signed_by_a_trusted_key_is_taken() -> None:
    assert len(SIGNATURE) == 64
    assert verify_signature(DATA, SIGNATURE, [public(OURS)]) is True
    assert verify_signature(DATA, SIGNATURE, [public(OLD), public(OURS)]) is True


def test_an_edge_without_trusted_keys_says_that_nobody_signed() -> None:
    assert verify_signature(DATA, SIGNATURE, []) is False
    assert verify_signature(DATA, None, []) is False


@pytest.mark.parametrize(
    ("data", "signature"),
    [
        (DATA, None),
        (DATA, b""),
        (DATA, SIGNATURE[:-1]),
        (DATA, SIGNATURE + b"\0"),
        (DATA, bytes(64)),
        (DATA, SIGNATURE[:-1] + bytes([SIGNATURE[-1] ^ 1])),
        (DATA, sign(DATA, pem(THEIRS))),
        (DATA.replace(b"0.8", b"0.9"), SIGNATURE),
        (DATA + b"\n", SIGNATURE),
    ],
    ids=["none", "empty", "short", "long", "zeros", "one bit", "untrusted", "limit raised", "newline added"],
)
def test_a_bundle_not_signed_by_a_trusted_key_is_refused(data: bytes, signature: bytes | None) -> None:
    with pytest.raises(BundleError, match="sign"):
        verify_signature(data, signature, [public(OURS), public(OLD)])


BAD_KEYS = {
    "nothing": b"",
    "noise": b"\xff\x00junk",
    "no key inside": b"-----BEGIN PUBLIC KEY-----\n-----END PUBLIC KEY-----\n",
    "broken base64": public(OURS).replace(b"MC", b"!!"),
    "truncated": public(OURS)[:60],
    "a private key": pem(OURS),
    "a certificate that is none": b"-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
    "P-256": public(OTHER_KINDS[0]),
    "ed448": public(OTHER_KINDS[1]),
}


@pytest.mark.parametrize("key", BAD_KEYS.values(), ids=BAD_KEYS)
def test_a_trusted_key_that_is_none_is_refused_even_beside_a_good_one(key: bytes) -> None:
    for keys in ([key], [public(OURS), key]):
        with pytest.raises(BundleError) as refused:
            verify_signature(DATA, SIGNATURE, keys)
        assert "trusted key" in refused.value.what


@pytest.mark.parametrize(
    "key",
    [
        b"",
        b"junk",
        public(OURS),
        pem(OURS)[:60],
        pem(OURS, BestAvailableEncryption(b"secret")),
        pem(OTHER_KINDS[0]),
        pem(rsa.generate_private_key(65537, 1024)),
    ],
    ids=["nothing", "noise", "public", "truncated", "wants a password", "P-256", "RSA"],
)
def test_only_a_plain_ed25519_key_signs(key: bytes) -> None:
    with pytest.raises(BundleError, match="signing key"):
        sign(DATA, key)


def test_a_manifest_is_frozen() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        MANIFEST.version = "9.9.9"  # type: ignore[misc]
