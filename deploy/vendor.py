"""`python -m deploy.vendor`: are the scripts of others that we ship what was reviewed? `--refresh` fetches them anew.

Each `vendor.json` beside them names package, version, licence and the sha256 of every file. A refresh takes the files
from the package in npm's registry and keeps none whose sum differs; a new version is one whose version and sums were
changed there first, by whoever read it (`--sums` prints what the package brings). A running hub never does any of this.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import httpx
import typer

from inspection.errors import ConfigError

ROOT = Path(__file__).resolve().parent.parent
LISTS = (ROOT / "review/static/vendor/vendor.json", ROOT / "tests/browser/vendor/vendor.json")
REGISTRY = "https://registry.npmjs.org"
MOST_BYTES = 50 * 2**20


@dataclass(frozen=True, slots=True)
class Kept:
    """One file of a package: where it lies here, where in the package, and its sha256."""

    package: str
    version: str
    path: Path
    member: str
    sha256: str

    @property
    def url(self) -> str:
        return f"{REGISTRY}/{self.package}/-/{self.package}-{self.version}.tgz"


def kept() -> Iterator[Kept]:
    for listed in LISTS:
        for entry in json.loads(listed.read_text(encoding="utf-8")).values():
            for name, file in entry["files"].items():
                yield Kept(
                    entry["package"], entry["version"], listed.parent / name, f"package/{file['from']}", file["sha256"]
                )


def wrong() -> list[str]:
    """Files that are not what was reviewed."""
    return [
        str(f.path.relative_to(ROOT)) for f in kept() if not f.path.is_file() or _sum(f.path.read_bytes()) != f.sha256
    ]


def members(archive: bytes) -> dict[str, bytes]:
    with tarfile.open(fileobj=io.BytesIO(archive), mode="r:gz") as tar:
        found = {m.name: tar.extractfile(m) for m in tar if m.isfile() and m.size < MOST_BYTES}
        return {name: file.read() for name, file in found.items() if file}


def _sum(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def main(
    refresh: Annotated[bool, typer.Option(help="Fetch the files of the versions that are named.")] = False,
    sums: Annotated[bool, typer.Option(help="Only say what the packages bring, for a new version.")] = False,
) -> None:
    """Check the vendored scripts, or fetch them."""
    packages: dict[str, dict[str, bytes]] = {}
    for file in kept() if refresh or sums else ():
        if file.url not in packages:
            packages[file.url] = members(
                httpx.get(file.url, follow_redirects=True, timeout=60).raise_for_status().content
            )
        data = packages[file.url].get(file.member, b"")
        if sums:
            typer.echo(f"{_sum(data) if data else 'not in the package'}  {file.package}-{file.version} {file.member}")
        elif _sum(data) != file.sha256:
            raise ConfigError(file.url, f"{file.member} is not what was reviewed", "read it, then name its sum")
        else:
            file.path.write_bytes(data)
    if not sums:
        for path in wrong():
            typer.echo(f"{path}: is not what vendor.json names")
        if wrong():
            raise typer.Exit(1)
        typer.echo(f"{len(list(kept()))} vendored files are what was reviewed")


if __name__ == "__main__":
    typer.run(main)
