"""The bundle the hub ordered last, kept over a restart: what people withdrew must not come back by itself.

The order's own message is not enough. The broker retains it in memory and may restart before this edge does, and the
edge would then serve the bundle of its configuration again until the hub says it once more.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import structlog

from edge.bundle_store import VerifiedBundle, read_bundle
from edge.config import BundleConfig
from edge.files import DISK, Ballast, Disk, write_durably
from inspection.bundle import MANIFEST_FILE, sha256
from inspection.errors import BundleError, StorageError
from inspection.messages import ModelDesired

log = structlog.get_logger()

FILE = "order.json"


@dataclass(frozen=True, slots=True)
class _Order:
    """`installed`: the manifest's sha256 of `bundle.path` when this was accepted."""

    bundle: str
    sha256: str
    installed: str
    ts_ms: int = 0


class LastOrder:
    """It counts for as long as `bundle.path` holds what it held then: another one there was installed by a person."""

    def __init__(
        self, state_dir: Path, config: BundleConfig, disk: Disk = DISK, ballast: Ballast | None = None
    ) -> None:
        self._path, self._config, self._disk, self._ballast = state_dir / FILE, config, disk, ballast
        self.store = config.store or state_dir / "bundles"

    def bundle(self) -> VerifiedBundle:
        """What an edge starts with, read and verified; BundleError says why not.

        A remembered bundle that is gone or broken is no reason to serve the other one: that may be the withdrawn one.
        """
        order = self._read()
        if order is None or order.installed != self._installed() or order.sha256 == order.installed:
            return read_bundle(self._config.path, self._config.trusted_keys)
        kept = self.store / order.bundle
        try:
            bundle = read_bundle(kept, self._config.trusted_keys)
        except BundleError as e:
            raise self._refuses(order, e.where, e.what) from e
        if bundle.sha256 != order.sha256:
            raise self._refuses(order, kept, "is another one of this name")
        log.info("serving what the hub ordered last", bundle=order.bundle, instead_of=str(self._config.path))
        return bundle

    def drop_old(self) -> None:
        """Forget an order that counts no longer, so that it does not count again when the first bundle is put back.
        For a starting edge, which holds the spool's lock."""
        order, installed = self._read(), self._installed()
        if order is not None and installed and order.installed != installed:
            log.warning("another bundle was installed, the hub's order is dropped", ordered=order.bundle)
            try:
                self._disk.unlink(self._path)
                self._disk.sync_folder(self._path.parent)
            except OSError as e:
                raise StorageError(f"{self._path}: {e.strerror}\n  fix: check the folder's owner") from e

    def asked_ms(self) -> int:
        """When the order that counts was asked for; 0 where there is none, or nobody said when."""
        order = self._read()
        return order.ts_ms if order else 0

    def keep(self, accepted: ModelDesired) -> None:
        """Remember it. A disk that will not is no reason to serve something else: it is said, and the hub repeats its
        order whenever it connects."""
        try:
            known = self._read()
            order = _Order(accepted.bundle, accepted.sha256, self._installed(), accepted.ts_ms)
            # One that is only said again is not bound to what was installed since, which counts at the next start.
            if known and (known.bundle, known.sha256) == (accepted.bundle, accepted.sha256):
                order = replace(known, ts_ms=max(known.ts_ms, accepted.ts_ms))
            if order != known:
                data = json.dumps(asdict(order), indent=1).encode()
                write_durably(self._path, data, self._disk, self._ballast)
        except (OSError, StorageError) as e:
            log.error("the order is not remembered over a restart", bundle=accepted.bundle, why=str(e))  # noqa: TRY400 - why is said

    def _refuses(self, order: _Order, where: object, what: str) -> BundleError:
        return BundleError(
            where,
            f"{what}; the hub ordered {order.bundle} last, so nothing else is served",
            f"copy {order.bundle} to {self.store}, or delete {self._path} to serve {self._config.path}",
        )

    def _installed(self) -> str:
        """Empty when there is none to read."""
        try:
            return sha256((self._config.path / MANIFEST_FILE).read_bytes())
        except OSError:
            return ""

    def _read(self) -> _Order | None:
        try:
            known = json.loads(self._path.read_text())
            asked_ms = int(known.get("ts_ms", 0))  # an edge of before did not note it
            return _Order(str(known["bundle"]), str(known["sha256"]), str(known["installed"]), asked_ms)
        except FileNotFoundError:
            return None
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as e:
            raise StorageError(
                f"{self._path}: {type(e).__name__}: {e}\n  fix: restore it, or delete it to serve {self._config.path}"
            ) from e
