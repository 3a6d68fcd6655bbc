"""`python -m deploy.certificates FOLDER NAME...`: a CA, the broker's and each client's certificate, for a trial.

The broker takes a certificate's common name as the user of its ACL: `edge-east-line1-weld1`, `plc-east-line1-weld1`,
`hub`. A plant that runs a CA of its own uses that one; then only the common names matter.

Site `a-b`, line `c` and site `a`, line `b-c` give one common name, and the ACL would let each write the other's permit.
So a name with more than one reading is written with its levels (`edge-a-b/c/weld1`); the common name stays what it was,
the certificate also holds the station, and a second station of that name is refused.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from inspection.errors import InputError
from inspection.messages import Topics

CA_DAYS, LEAF_DAYS = 3650, 825
OF_STATIONS = ("edge-", "plc-")
STATION = "haltline:"
"""What the address in a certificate begins with that says whose it is."""


@dataclass(frozen=True, slots=True)
class Client:
    """`name`: the common name and the file's. `station`: SITE/LINE/STATION, empty for the hub and whatever has none."""

    name: str
    station: str


def main(
    folder: Path,
    names: Annotated[
        list[str], typer.Argument(help="Common names of the clients; with a `-` in a level: edge-SITE/LINE/STATION.")
    ],
    broker_host: Annotated[list[str], typer.Option(help="Names and addresses the broker is reached by.")],
) -> None:
    """Add certificates to FOLDER; the CA there is kept, so that clients can be added later."""
    try:
        made = make(folder, names, broker_host)
    except InputError as e:
        typer.echo(f"certificates: {e}", err=True)
        raise typer.Exit(2) from e
    typer.echo(
        f"{folder}: ca.crt, broker.crt, {', '.join(f'{client.name}.crt' for client in made)}, each with its .key"
    )


def make(folder: Path, names: Iterable[str], broker_hosts: Iterable[str]) -> list[Client]:
    """InputError, and nothing is made, where a name is another station's already or does not say whose it is."""
    clients = [_client(name) for name in names]
    _one_station_each(folder, clients)
    folder.mkdir(parents=True, exist_ok=True)
    ca = _ca(folder)
    hosts = [_host(host) for host in broker_hosts]
    _leaf(folder, "broker", ca, x509.SubjectAlternativeName(hosts), ExtendedKeyUsageOID.SERVER_AUTH)
    for client in clients:
        whose = [x509.UniformResourceIdentifier(STATION + client.station)] if client.station else []
        san = x509.SubjectAlternativeName([x509.DNSName(client.name), *whose])
        _leaf(folder, client.name, ca, san, ExtendedKeyUsageOID.CLIENT_AUTH)
    return clients


def _client(asked: str) -> Client:
    kind = next((kind for kind in OF_STATIONS if asked.startswith(kind)), "")
    rest = asked.removeprefix(kind)
    if not kind:
        return Client(asked, "")
    if "/" in rest:
        levels = rest.split("/")
        if len(levels) != 3:
            raise InputError(asked, f"has {len(levels)} levels", f"write {kind}SITE/LINE/STATION")
        Topics(*levels)  # says which level is none
        return Client(kind + "-".join(levels), rest)
    readings = _readings(rest)
    if len(readings) > 1:
        may = ", ".join(readings)
        raise InputError(asked, f"may be any of the stations {may}", f"write which: {kind}{readings[-1]}")
    return Client(asked, readings[0] if readings else "")


def _readings(joined: str) -> list[str]:
    """Every SITE/LINE/STATION that is written so when its levels are joined by `-`."""
    parts = joined.split("-")
    cuts = combinations(range(1, len(parts)), 2)
    split = (("-".join(parts[:a]), "-".join(parts[a:b]), "-".join(parts[b:])) for a, b in cuts)
    return ["/".join(levels) for levels in split if all(level[:1].isalnum() for level in levels)]


def _one_station_each(folder: Path, clients: list[Client]) -> None:
    known: dict[str, str] = {}
    for client in clients:
        path = folder / f"{client.name}.crt"
        if client.name not in known and path.exists():
            known[client.name] = _station_in(path)
        if (other := known.setdefault(client.name, client.station)) != client.station:
            fix = "rename a level of one of the two in its edge.yaml: the broker's ACL knows this name alone"
            raise InputError(path, f"is the name of {other} already, and {client.station} would have the same", fix)


def _station_in(path: Path) -> str:
    """Whose a certificate is; of one made before they said so, by its name: one reading, or no station's."""
    try:
        held = x509.load_pem_x509_certificate(path.read_bytes())
        names = held.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        addresses = names.get_values_for_type(x509.UniformResourceIdentifier)
    except (OSError, ValueError, x509.ExtensionNotFound) as e:
        raise InputError(path, f"is no certificate of ours: {e}", "move it away") from e
    found = [address.removeprefix(STATION) for address in addresses if address.startswith(STATION)]
    kind = next((kind for kind in OF_STATIONS if path.stem.startswith(kind)), "")
    readings = _readings(path.stem.removeprefix(kind)) if kind else []
    if not found and len(readings) > 1:
        fix = "if it is the same station's, move it away and run this again"
        raise InputError(path, f"is there already and does not say which of {', '.join(readings)} it is for", fix)
    return (found or readings or [""])[0]


Authority = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]


def _ca(folder: Path) -> Authority:
    if (folder / "ca.key").exists():
        key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        return x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes()), key
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name("Haltline trial CA")
    builder = _builder(name, name, key, CA_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    builder = builder.add_extension(_usage(sign=True), critical=True)
    cert = builder.sign(key, hashes.SHA256())
    _write(folder, "ca", cert, key)
    return cert, key


def _leaf(
    folder: Path, name: str, ca: Authority, san: x509.SubjectAlternativeName, purpose: x509.ObjectIdentifier
) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = _builder(_name(name), ca[0].subject, key, LEAF_DAYS)
    builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
    builder = builder.add_extension(_usage(sign=False), critical=True)
    builder = builder.add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
    identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(ca[1].public_key())
    builder = builder.add_extension(identifier, critical=False).add_extension(san, critical=False)
    _write(folder, name, builder.sign(ca[1], hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int
) -> x509.CertificateBuilder:
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    # An hour back: a machine at the line whose clock is behind would otherwise refuse a new certificate.
    builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now - dt.timedelta(hours=1))
    builder = builder.not_valid_after(now + dt.timedelta(days=days))
    return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)


def _usage(*, sign: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not sign,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=sign,
        crl_sign=sign,
        encipher_only=False,
        decipher_only=False,
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _host(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _write(folder: Path, name: str, cert: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
    path = folder / f"{name}.key"
    path.touch(mode=0o600)
    pem = serialization.PrivateFormat.PKCS8
    path.write_bytes(key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption()))
    (folder / f"{name}.crt").write_bytes(cert.public_bytes(serialization.Encoding.PEM))


if __name__ == "__main__":
    typer.run(main)
