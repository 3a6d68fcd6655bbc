"""The scripts of others are those that were reviewed, and a refresh keeps nothing else."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import httpx
import pytest

from deploy import vendor
from inspection.errors import ConfigError


def archive(**files: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(f"package/{name}")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def test_every_vendored_file_is_named_with_its_sum_and_licence() -> None:
    assert vendor.wrong() == []
    for listed in vendor.LISTS:
        told = json.loads(listed.read_text())
        here = {p.relative_to(listed.parent).as_posix() for p in listed.parent.rglob("*") if p.is_file()}
        assert here - {"vendor.json"} == {name for entry in told.values() for name in entry["files"]}
        assert all(entry["licence"] and entry["version"] for entry in told.values())


def test_a_refresh_takes_what_was_reviewed_and_refuses_anything_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    brought = {"good.js": b"good"}
    listed = tmp_path / "vendor.json"
    files = {"lib/good.js": {"from": "good.js", "sha256": vendor._sum(b"good")}}
    listed.write_text(json.dumps({"lib": {"package": "lib", "version": "1.0.0", "licence": "MIT", "files": files}}))
    (tmp_path / "lib").mkdir()
    monkeypatch.setattr(vendor, "ROOT", tmp_path)
    monkeypatch.setattr(vendor, "LISTS", (listed,))

    def registry(request: httpx.Request) -> httpx.Response:
        assert str(request.url) == "https://registry.npmjs.org/lib/-/lib-1.0.0.tgz"
        return httpx.Response(200, content=archive(**brought))

    client = httpx.Client(transport=httpx.MockTransport(registry))
    monkeypatch.setattr(httpx, "get", client.get)
    assert vendor.wrong() == ["lib/good.js"]
    vendor.main(refresh=True)
    assert (tmp_path / "lib" / "good.js").read_bytes() == b"good"
    brought["good.js"] = b"evil"
    with pytest.raises(ConfigError, match="not what was reviewed"):
        vendor.main(refresh=True)
    assert (tmp_path / "lib" / "good.js").read_bytes() == b"good"
