"""For edges: the files of a bundle, each pinned by its manifest, whose own sha256 the request named."""

from __future__ import annotations

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

from review.deps import HubDep
from review.registry import Registry

router = APIRouter()


@router.get("/api/edge/bundles/{bundle}/{path:path}")
def bundle_file(hub: HubDep, bundle: str, path: str) -> FileResponse:
    """`manifest.json`, `manifest.sig` or a pinned file; 404 for any other, an absent signature included."""
    found = Registry(hub.settings.bundles_dir).file(bundle, path)
    if found is None:
        raise HTTPException(404, f"bundle {bundle!r} holds no {path!r}")
    return FileResponse(found, media_type="application/octet-stream")
