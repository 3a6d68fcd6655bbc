"""Model bundles in the hub's folder: what may enter, and what an edge may fetch.

A bundle is judged whole, in memory, before its first byte reaches the folder, and arrives there by one rename: nobody
ever sees half of one. An id names one content for good; other bytes under the same id are refused.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import shutil
import tempfile
import time
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from inspection.bundle import (
    MANIFEST_FILE,
    MAX_FILE_BYTES,
    MAX_FILES,
    MAX_MODEL_BYTES,
    MODEL_FILE,
    SIGNATURE_FILE,
    Manifest,
    check_names,
    parse_manifest,
    sha256,
    verify_files,
)
from inspection.errors import BundleError, StorageError
from review.frames.folder import BEGUN, LEFT_OVER_S, sync

CARD_FILE = "card.md"
MAX_ZIP_BYTES = MAX_MODEL_BYTES + 2 * MAX_FILE_BYTES
MAX_UNPACKED_BYTES = MAX_ZIP_BYTES + 4 * MAX_FILE_BYTES
BUNDLE_ID = re.compile(r"[a-z][a-z0-9_-]{0,39}-\d{1,5}\.\d{1,5}\.\d{1,5}")


@dataclass(frozen=True, slots=True)
class Bundle:
    """One bundle of the hub's folder. `sha256` is that of the manifest's bytes, which pin everything else."""

    manifest: Manifest
    sha256: str
    signed: bool
    card: str

    @property
    def id(self) -> str:
        return self.manifest.id

    @property
    def url(self) -> str:
        return url_of(self.id)


def url_of(bundle: str) -> str:
    """What an edge fetches it from, relative to the hub's base address."""
    return f"/api/edge/bundles/{bundle}"


class Registry:
    """The folder of bundles, `<folder>/<name>-<version>/`. Every method may be called from any thread."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def add_folder(self, source: Path) -> Bundle:
        """Copy a bundle that stands in a folder; BundleError when it is no whole bundle."""
        if not (source / MANIFEST_FILE).is_file():
            raise BundleError(source, f"holds no {MANIFEST_FILE}", "name the folder that `haltline export` wrote")
        paths = {p.relative_to(source).as_posix(): p for p in sorted(source.rglob("*")) if p.is_file()}
        check_names(paths, source)
        for name, path in paths.items():
            _check_size(name, path.stat().st_size, source)
        return self._add({name: path.read_bytes() for name, path in paths.items()}, source)

    def add_zip(self, data: bytes, where: str = "zip") -> Bundle:
        """Unpack an uploaded zip in memory, bounded, and keep it; one folder around the files is fine."""
        if len(data) > MAX_ZIP_BYTES:
            raise BundleError(
                where, f"{len(data)} bytes, more than {MAX_ZIP_BYTES}", "no released bundle is that large"
            )
        try:
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                return self._add(_unpack(archive, where), where)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, EOFError) as e:
            raise BundleError(where, f"is no readable zip: {e}", "zip the bundle's folder again, unencrypted") from e

    def _add(self, files: Mapping[str, bytes], where: object) -> Bundle:
        manifest_bytes = files.get(MANIFEST_FILE)
        if manifest_bytes is None:
            raise BundleError(where, f"holds no {MANIFEST_FILE}", "zip the folder that `haltline export` wrote")
        manifest = parse_manifest(manifest_bytes, f"{where}/{MANIFEST_FILE}")
        pinned = {name: data for name, data in files.items() if name not in (MANIFEST_FILE, SIGNATURE_FILE)}
        verify_files(manifest, pinned, where)
        target = self.folder / manifest.id
        if not target.exists():
            self._write(target, files)
            self._make_safe(target)
        kept = self.get(manifest.id)
        if kept.sha256 != sha256(manifest_bytes):
            raise BundleError(
                where, f"{manifest.id} is here already with other content", "raise the version and export again"
            )
        return kept

    def _write(self, target: Path, files: Mapping[str, bytes]) -> None:
        """StorageError when the disk would not. Of two who bring one bundle at once, the second finds the first's."""
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            # A dot keeps the half-written folder out of `ids()`, and the same file system makes the rename atomic.
            staging = Path(tempfile.mkdtemp(prefix=BEGUN, dir=self.folder))
            try:
                staging.chmod(0o755)
                for name, data in files.items():
                    path = staging / name
                    path.parent.mkdir(exist_ok=True)
                    with path.open("wb") as out:
                        out.write(data)
                        out.flush()
                        os.fsync(out.fileno())
                for folder in {staging, *((staging / name).parent for name in files)}:
                    sync(folder)
                staging.rename(target)
            finally:
                shutil.rmtree(staging, ignore_errors=True)
        except OSError as e:
            if not target.exists():
                raise StorageError(f"{target.name} cannot be written below {self.folder}: {e}") from e

    def _make_safe(self, target: Path) -> None:
        """Before a station is asked for what a power cut could take away again."""
        try:
            sync(self.folder)
        except OSError as e:
            raise StorageError(f"{target.name} is in {self.folder}, but cannot be made safe there: {e}") from e

    def settle(self) -> None:
        """At a hub's start: what one that was killed was unpacking goes."""
        too_old_s = time.time() - LEFT_OVER_S
        with contextlib.suppress(OSError):
            for path in self.folder.glob(f"{BEGUN}*"):
                if path.stat().st_mtime < too_old_s:  # a younger one may be another process's, who still writes it
                    shutil.rmtree(path, ignore_errors=True)

    def ids(self) -> list[str]:
        """Ids of what is here, newest version of each name first."""
        found = [p.name for p in self.folder.glob("*/") if BUNDLE_ID.fullmatch(p.name)] if self.folder.is_dir() else []
        return sorted(found, key=_by_name_newest_first)

    def get(self, bundle: str) -> Bundle:
        """BundleError when there is none of that id, or its manifest does not read."""
        folder = self._folder_of(bundle)
        data = (folder / MANIFEST_FILE).read_bytes()
        card = folder / CARD_FILE
        return Bundle(
            parse_manifest(data, f"{bundle}/{MANIFEST_FILE}"),
            sha256(data),
            (folder / SIGNATURE_FILE).is_file(),
            card.read_text("utf-8", "replace") if card.is_file() else "",
        )

    def file(self, bundle: str, path: str) -> Path | None:
        """Where the manifest, the signature or a pinned file lies; None for anything else, whatever the path says."""
        try:
            folder = self._folder_of(bundle)
            served = {MANIFEST_FILE, SIGNATURE_FILE, *self.get(bundle).manifest.files}
        except BundleError:
            return None
        found = folder / path if path in served else None
        return found if found is not None and found.is_file() else None

    def _folder_of(self, bundle: str) -> Path:
        folder = self.folder / bundle
        if not BUNDLE_ID.fullmatch(bundle) or not (folder / MANIFEST_FILE).is_file():
            raise BundleError(bundle, "is not among the hub's bundles", f"one of {self.ids() or 'none yet'}")
        return folder


def _unpack(archive: zipfile.ZipFile, where: str) -> dict[str, bytes]:
    """Name -> bytes. Sizes in a zip's directory can lie, so each member is read with a limit of its own."""
    members = [m for m in archive.infolist() if not m.is_dir()]
    if len(members) > MAX_FILES:
        raise BundleError(where, f"holds {len(members)} files, more than {MAX_FILES}", "a bundle is a handful of files")
    manifests = [m.filename for m in members if m.filename.rpartition("/")[2] == MANIFEST_FILE]
    if len(manifests) != 1:
        raise BundleError(where, f"holds {len(manifests)} files {MANIFEST_FILE}, not one", "zip one bundle's folder")
    root = manifests[0].removesuffix(MANIFEST_FILE)
    if outside := [m.filename for m in members if not m.filename.startswith(root)]:
        raise BundleError(where, f"holds {outside[0]!r} beside the bundle", "zip the bundle's folder and nothing else")
    names = {m.filename.removeprefix(root): m for m in members}
    check_names(names, where)
    files: dict[str, bytes] = {}
    for name, member in names.items():
        limit = _limit(name)
        with archive.open(member) as stream:
            files[name] = stream.read(limit + 1)
        _check_size(name, len(files[name]), where)
        if sum(map(len, files.values())) > MAX_UNPACKED_BYTES:
            raise BundleError(where, f"unpacks to more than {MAX_UNPACKED_BYTES} bytes", "no released bundle does")
    return files


def _limit(name: str) -> int:
    return MAX_MODEL_BYTES if name == MODEL_FILE else MAX_FILE_BYTES


def _check_size(name: str, size: int, where: object) -> None:
    if size > _limit(name):
        raise BundleError(where, f"{name} has more than {_limit(name)} bytes", "no released model is that large")


def _by_name_newest_first(bundle: str) -> tuple[str, tuple[int, ...]]:
    name, _, version = bundle.rpartition("-")
    return name, tuple(-int(part) for part in version.split("."))
