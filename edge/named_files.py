"""The certificates, keys, password and token that `edge.yaml` names: `check`, `doctor`, `run` say the same of each."""

from __future__ import annotations

import contextlib
import os
import ssl
from collections.abc import Callable, Iterator
from pathlib import Path

from edge.config import EdgeConfig, TlsConfig
from inspection.errors import ConfigError

CERTIFICATE, KEY = b"CERTIFICATE-----", b"PRIVATE KEY-----"
OF_CA = "name the authority's certificate, in PEM"


def secret(key: str, path: Path) -> str:
    """What stands in a file that holds nothing else."""
    try:
        return _read(key, path).decode().strip()
    except UnicodeDecodeError as e:
        raise ConfigError(key, f"{path} is no text", "write it there, and nothing else") from e


def broker_context(tls: TlsConfig) -> ssl.SSLContext:
    """What a connection to the broker is made with; ConfigError names the one file it fails on."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    load(context, tls)
    return context


def load(context: ssl.SSLContext, tls: TlsConfig) -> None:
    """The files as they are now, into a context that may hold earlier ones: its own certificate is replaced, another
    authority is trusted beside the one before."""
    _pem("mqtt.tls.ca", tls.ca, CERTIFICATE)
    try:
        context.load_verify_locations(tls.ca)
    except (OSError, ValueError) as e:
        raise ConfigError("mqtt.tls.ca", f"{tls.ca} is no certificate: {e}", OF_CA) from e
    if tls.cert:
        _pem("mqtt.tls.cert", tls.cert, CERTIFICATE)
        own = ("mqtt.tls.key", tls.key) if tls.key else ("mqtt.tls.cert", tls.cert)
        _pem(*own, KEY)
        try:
            # Without a password OpenSSL would ask for it at a terminal, and wait.
            context.load_cert_chain(tls.cert, tls.key, password="")
        except (OSError, ValueError) as e:
            fix = "name the key that belongs to mqtt.tls.cert, without a passphrase"
            raise ConfigError(own[0], f"{own[1]} does not open {tls.cert}: {e}", fix) from e


def hub_context(ca: Path) -> ssl.SSLContext:
    with contextlib.suppress(PermissionError):
        if ca.is_dir():  # OpenSSL takes a folder of hashed certificates as well
            return ssl.create_default_context(capath=str(ca))
    _pem("hub.ca", ca, CERTIFICATE)
    try:
        return ssl.create_default_context(cafile=str(ca))
    except (OSError, ValueError) as e:
        raise ConfigError("hub.ca", f"{ca} is no certificate: {e}", OF_CA) from e


def unusable(config: EdgeConfig) -> Iterator[ConfigError]:
    """One for each file that this user cannot use; `where` is its key."""
    mqtt, hub = config.mqtt, config.hub
    ways: list[Callable[[], object]] = []
    if path := mqtt.password_file:
        ways.append(lambda: _said("mqtt.password_file", path))
    if tls := mqtt.tls:
        ways.append(lambda: _pem("mqtt.tls.ca", tls.ca, CERTIFICATE))
        if cert := tls.cert:
            ways.append(lambda: _pem("mqtt.tls.cert", cert, CERTIFICATE))
        if key := tls.key:
            ways.append(lambda: _pem("mqtt.tls.key", key, KEY))
        ways.append(lambda: broker_context(tls))
    if hub and (token := hub.token_file):
        ways.append(lambda: _said("hub.token_file", token))
    if hub and (ca := hub.ca):
        ways.append(lambda: hub_context(ca))
    told = set()
    for way in ways:
        try:
            way()
        except ConfigError as e:
            if e.where not in told:
                told.add(e.where)
                yield e


def _said(key: str, path: Path) -> None:
    if not secret(key, path):
        raise ConfigError(key, f"{path} is empty", "write it there, and nothing else")


def _pem(key: str, path: Path, wanted: bytes) -> None:
    if wanted not in _read(key, path):
        what = "certificate" if wanted is CERTIFICATE else "private key"
        fix = f"name a file with a line that ends in {wanted.decode()}"
        raise ConfigError(key, f"{path} holds no {what} in PEM", fix)


def _read(key: str, path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as e:
        raise ConfigError(key, f"{path} does not exist", "put it there, or name another (docs/deploy.md)") from e
    except PermissionError as e:
        fix = f"ask as the user that runs the edge; let its group read it: chmod 640 {path}, and x on each folder above"
        raise ConfigError(key, f"{path} may not be read by user {os.geteuid()}", fix) from e
    except OSError as e:
        raise ConfigError(key, f"{path} cannot be read: {e.strerror or e}", "name a file") from e
