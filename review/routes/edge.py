"""For edges: frames go up before their records, and are answered only when they are safe on disk."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import Response
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from inspection.bundle import sha256
from inspection.errors import StorageError
from review.deps import HubDep
from review.pictures import MAX_PIXELS, picture_size

router = APIRouter(prefix="/api/edge")

MAX_FRAME_BYTES = 16 * 2**20
Sha = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


@router.head("/frames/{sha}")
def has_frame(hub: HubDep, sha: Sha) -> Response:
    return Response(status_code=200 if hub.frames.exists(sha) else 404)


@router.put("/frames/{sha}")
async def put_frame(request: Request, hub: HubDep, sha: Sha) -> Response:
    """201 once the frame would survive a power cut, 200 when it is there already."""
    if await run_in_threadpool(hub.frames.exists, sha):
        return Response(status_code=200)
    data = await _body(request)
    if (found := sha256(data)) != sha:
        raise HTTPException(422, f"the body's sha256 is {found}, the address says {sha}: send the file as it is")
    size = picture_size(data)
    if size is None:
        raise HTTPException(422, "the body is no PNG or JPEG: frames and heat maps travel as PNG, films as JPEG")
    if not 0 < size[0] * size[1] <= MAX_PIXELS:
        raise HTTPException(422, f"{size[0]} x {size[1]} px is more than {MAX_PIXELS // 10**6} megapixels, or none")
    try:
        await run_in_threadpool(hub.frames.put, data)
    except StorageError as e:
        raise HTTPException(507, f"{e}: free space on the hub's disk, the edge keeps the frame meanwhile") from e
    return Response(status_code=201)


async def _body(request: Request) -> bytes:
    """The whole body, given up as soon as it is too long: a length header can lie."""
    data = bytearray()
    try:
        async for chunk in request.stream():
            data += chunk
            if len(data) > MAX_FRAME_BYTES:
                raise HTTPException(
                    413, f"a frame has at most {MAX_FRAME_BYTES // 2**20} MiB: lower the camera's resolution"
                )
    except ClientDisconnect as e:  # an edge that is killed or cut off: nobody is left to be answered
        raise HTTPException(400, "the body ended early") from e
    return bytes(data)
