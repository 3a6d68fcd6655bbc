"""Bundles on disk: read one, believe nothing, keep what the hub sends."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import httpx

from edge.config import EdgeConfig
from edge.files import DISK
from inspection.bundle import (
    MANIFEST_FILE,
    MAX_FILE_BYTES,
    MAX_MODEL_BYTES,
    MODEL_FILE,
    SIGNATURE_FILE,
    Manifest,
    check_names,
    parse_manifest,
    sha256,
    verify_files,
    verify_signature,
)
from inspection.errors import BundleError, ConfigError


@dataclass(frozen=True, slots=True)
class VerifiedBundle:
    """A bundle whose bytes are those its manifest pins. `sha256` is that of the manifest, which pins the rest."""

    manifest: Manifest
    sha256: str
    files: dict[str, bytes]
    signed: bool


def read_shadow(config: EdgeConfig, served: Manifest) -> VerifiedBundle | None:
    """The second bundle; ConfigError where it is for another task than the one that is served."""
    if config.shadow is None:
        return None
    bundle = read_bundle(config.shadow.bundle, config.bundle.trusted_keys)
    if bundle.manifest.task != served.task:
        raise ConfigError("shadow.bundle", f"is for {bundle.manifest.task}, not {served.task}", "name another")
    return bundle


def read_bundle(folder: Path, trusted_keys: Iterable[Path] = ()) -> VerifiedBundle:
    """Read and verify a bundle's folder, whole, before anything of it is used. BundleError says why not."""
    names = _list(folder)
    manifest_bytes = _read(folder / MANIFEST_FILE, MAX_FILE_BYTES)
    signature = _read(folder / SIGNATURE_FILE, 4096) if SIGNATURE_FILE in names else None
    files = {
        name: _read(folder / name, MAX_MODEL_BYTES if name == MODEL_FILE else MAX_FILE_BYTES)
        for name in names
        if name not in (MANIFEST_FILE, SIGNATURE_FILE)
    }
    return verify(manifest_bytes, signature, files, trusted_keys, folder)


def verify(
    manifest_bytes: bytes,
    signature: bytes | None,
    files: dict[str, bytes],
    trusted_keys: Iterable[Path],
    where: object,
) -> VerifiedBundle:
    """The signature first: nothing an untrusted manifest says is looked at when keys are configured."""
    signed = verify_signature(manifest_bytes, signature, [_key(path) for path in trusted_keys], where)
    manifest = parse_manifest(manifest_bytes, where)
    verify_files(manifest, files, where)
    return VerifiedBundle(manifest, sha256(manifest_bytes), files, signed)


class HubAway(BundleError):
    """Nothing is wrong with the bundle: the hub is not there, or not yet."""


def fetch_bundle(
    http: httpx.Client, url: str, wanted_sha256: str, store: Path, trusted_keys: Iterable[Path]
) -> VerifiedBundle:
    """Fetch a bundle from the hub, verify it in memory, then keep it under `store`. BundleError says why not."""
    manifest_bytes = _get(http, f"{url}/{MANIFEST_FILE}", MAX_FILE_BYTES)
    if manifest_bytes is None or sha256(manifest_bytes) != wanted_sha256:
        raise BundleError(url, "the hub's manifest is not the one that was ordered", "order the rollout again")
    signature = _get(http, f"{url}/{SIGNATURE_FILE}", 4096)
    keys = tuple(trusted_keys)
    verify_signature(manifest_bytes, signature, [_key(path) for path in keys], url)
    manifest = parse_manifest(manifest_bytes, url)
    files: dict[str, bytes] = {}
    for name in manifest.files:
        data = _get(http, f"{url}/{name}", MAX_MODEL_BYTES if name == MODEL_FILE else MAX_FILE_BYTES)
        if data is None:
            raise BundleError(url, f"the hub has no {name}", "add the bundle to the hub again")
        files[name] = data
    bundle = verify(manifest_bytes, signature, files, keys, url)
    _keep(bundle, manifest_bytes, signature, store)
    return bundle


def _keep(bundle: VerifiedBundle, manifest_bytes: bytes, signature: bytes | None, store: Path) -> None:
    """Write beside, then rename: a half-written bundle is never seen under its name. On return it outlives a power cut,
    as the order for it does, which is kept next."""
    final = store / bundle.manifest.id
    beside = store / f".{bundle.manifest.id}.{os.getpid()}"
    shutil.rmtree(beside, ignore_errors=True)
    contents = {MANIFEST_FILE: manifest_bytes, **bundle.files}
    if signature is not None:
        contents[SIGNATURE_FILE] = signature
    for name, data in contents.items():
        path = beside / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as f:
            f.write(data)
            f.flush()
            os.fsync(f.fileno())
    for folder in {(beside / name).parent for name in contents}:
        DISK.sync_folder(folder)
    shutil.rmtree(final, ignore_errors=True)
    beside.rename(final)
    DISK.sync_folder(store)


def _list(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise BundleError(folder, "is no folder", "give the bundle's folder, e.g. models/weld-0.3.0")
    names = []
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise BundleError(path, "is a link", "a bundle holds plain files only")
        if path.is_file():
            names.append(path.relative_to(folder).as_posix())
    check_names(names, folder)
    return names


def _read(path: Path, limit: int) -> bytes:
    try:
        if (size := path.stat().st_size) > limit:
            raise BundleError(path, f"has {size} bytes, more than {limit}", "no released bundle is that large")
        return path.read_bytes()
    except OSError as e:
        raise BundleError(path, e.strerror or str(e), "copy the whole bundle folder") from e


def _get(http: httpx.Client, url: str, limit: int) -> bytes | None:
    """The body, None for 404. Read in pieces, so that an endless answer is cut at `limit`."""
    try:
        with http.stream("GET", url) as answer:
            if answer.status_code == httpx.codes.NOT_FOUND:
                return None
            answer.raise_for_status()
            body = bytearray()
            for piece in answer.iter_bytes():
                body += piece
                if len(body) > limit:
                    raise BundleError(url, f"is longer than {limit} bytes", "no released bundle is that large")
            return bytes(body)
    except httpx.HTTPError as e:
        passes = not isinstance(e, httpx.HTTPStatusError) or e.response.is_server_error
        kind = HubAway if passes else BundleError
        raise kind(url, f"cannot be fetched: {e}", "check the hub's address in edge.yaml") from e


def _key(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as e:
        raise BundleError(path, e.strerror or str(e), "check bundle.trusted_keys in edge.yaml") from e
