"""`python -m deploy.certificates FOLDER NAME...`: a CA, the broker's and each client's certificate, for a trial.

The broker takes a certificate's common name as the user of its ACL: `edge-east-line1-weld1`, `plc-east-line1-weld1`,
`hub`. A plant that runs a CA of its own uses that one; then only the common names matter.
"""

from __future__ import annotations

import datetime as dt
import ipaddress
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

CA_DAYS, LEAF_DAYS = 3650, 825


def main(
    folder: Path,
    names: Annotated[list[str], typer.Argument(help="Common names of the clients.")],
    broker_host: Annotated[list[str], typer.Option(help="Names and addresses the broker is reached by.")],
) -> None:
    """Add certificates to FOLDER; the CA there is kept, so that clients can be added later."""
    make(folder, names, broker_host)
    typer.echo(f"{folder}: ca.crt, broker.crt, {', '.join(f'{name}.crt' for name in names)}, each with its .key")


def make(folder: Path, names: Iterable[str], broker_hosts: Iterable[str]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    ca = _ca(folder)
    hosts = [_host(host) for host in broker_hosts]
    _leaf(folder, "broker", ca, x509.SubjectAlternativeName(hosts), ExtendedKeyUsageOID.SERVER_AUTH)
    for name in names:
        san = x509.SubjectAlternativeName([x509.DNSName(name)])
        _leaf(folder, name, ca, san, ExtendedKeyUsageOID.CLIENT_AUTH)


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
