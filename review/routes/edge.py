"""For edges: frames go up before their records, and are answered only when they are safe on disk."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import APIRouter, HTTPException, Path, Request
from fastapi.responses import Response
from pydantic import BaseModel
from starlette.concurrency import run_in_threadpool
from starlette.requests import ClientDisconnect

from inspection.bundle import sha256
from inspection.errors import StorageError
from review.deps import HubDep
from review.frames import FrameStore
from review.hub import Hub
from review.pictures import MAX_PIXELS, PNG_HEAD_BYTES, picture_size, png_size

router = APIRouter(prefix="/api/edge")

MAX_FRAME_BYTES = 16 * 2**20
MAX_GROUP_BYTES = 20 * 2**20
MAX_GROUP_FILES = 64
HEAD_BYTES = 32 + 4
"""In front of each file of a group: its sha256, and its length as a big-endian number."""
Sha = Annotated[str, Path(pattern=r"^[0-9a-f]{64}$")]


class FileAnswer(BaseModel):
    """What became of one file of a group: the status and the reason that a request for it alone would have had."""

    sha256: str
    status: int
    why: str = ""


class GroupAnswer(BaseModel):
    """In the order in which the files came."""

    files: list[FileAnswer]


@router.head("/frames/{sha}")
def has_frame(hub: HubDep, sha: Sha) -> Response:
    return Response(status_code=200 if hub.frames.exists(sha) else 404)


@router.put("/frames/{sha}")
async def put_frame(request: Request, hub: HubDep, sha: Sha) -> Response:
    """201 once the frame would survive a power cut, 200 when it is there already. A PNG whose header says too much is
    refused by that alone: the rest of it is neither waited for nor hashed."""
    data = bytearray()
    async for chunk in _body(request, MAX_FRAME_BYTES):
        begun = len(data) >= PNG_HEAD_BYTES
        data += chunk
        if begun or len(data) < PNG_HEAD_BYTES:
            continue
        if why := _too_large(png_size(bytes(data[:PNG_HEAD_BYTES]))):
            raise HTTPException(422, why)
        if await run_in_threadpool(hub.frames.exists, sha):
            return Response(status_code=200)
    (answer,) = (await run_in_threadpool(_store, hub, [(sha, bytes(data))])).files
    if answer.why:
        raise HTTPException(answer.status, answer.why)
    return Response(status_code=answer.status)


@router.post("/frames")
async def put_frames(request: Request, hub: HubDep) -> GroupAnswer:
    """Several files in one body, each with `HEAD_BYTES` in front; answered when those that are taken would survive a
    power cut. One that is refused keeps none of the others from being taken. A body that ends early, or is too long,
    is refused as a whole."""
    return await run_in_threadpool(_store, hub, [file async for file in _files(request)])


def _store(hub: Hub, files: list[tuple[str, bytes]]) -> GroupAnswer:
    good: dict[str, bytes] = {}
    answers: list[FileAnswer] = []
    for sha, data in files:
        if sha in good or hub.frames.exists(sha):
            answers.append(FileAnswer(sha256=sha, status=200))
        elif why := _fault(sha, data):
            answers.append(FileAnswer(sha256=sha, status=422, why=why))
        else:
            good[sha] = data
            answers.append(FileAnswer(sha256=sha, status=201))
    failed = _keep(hub.frames, good)
    for answer in answers:
        if answer.sha256 in failed:
            answer.status, answer.why = 507, failed[answer.sha256]
    return GroupAnswer(files=answers)


def _keep(frames: FrameStore, files: dict[str, bytes]) -> dict[str, str]:
    """Why which of them could not be kept. What fails together is tried one by one: a place that cannot be written must
    not hold up the files beside it for ever."""
    try:
        frames.put_all(files)
    except StorageError as e:
        if len(files) == 1:
            return dict.fromkeys(files, f"{e}: free space on the hub's disk, the edge keeps the frame meanwhile")
        return {sha: why for sha in files for why in _keep(frames, {sha: files[sha]}).values()}
    return {}


def _fault(sha: str, data: bytes) -> str:
    """Why these bytes can never be taken; empty when they can."""
    if (found := sha256(data)) != sha:
        return f"the body's sha256 is {found}, the address says {sha}: send the file as it is"
    size = picture_size(data)
    if size is None:
        return "the body is no PNG or JPEG: frames and heat maps travel as PNG, films as JPEG"
    return _too_large(size)


def _too_large(size: tuple[int, int] | None) -> str:
    """Why a picture of this width and height is not taken; empty when it may be, or where neither is known."""
    if size is None or 0 < size[0] * size[1] <= MAX_PIXELS:
        return ""
    return f"{size[0]} x {size[1]} px is more than {MAX_PIXELS // 10**6} megapixels, or none"


async def _files(request: Request) -> AsyncIterator[tuple[str, bytes]]:
    """sha256, as it was said, and bytes of each file, as they come."""
    count, data = 0, bytearray()
    async for chunk in _body(request, MAX_GROUP_BYTES):
        data += chunk
        while len(data) >= HEAD_BYTES:
            end = HEAD_BYTES + int.from_bytes(data[32:HEAD_BYTES], "big")
            if end - HEAD_BYTES > MAX_FRAME_BYTES:
                raise _too_long(MAX_FRAME_BYTES)
            if len(data) < end:
                break
            count += 1
            if count > MAX_GROUP_FILES:
                raise HTTPException(413, f"a group has at most {MAX_GROUP_FILES} files: send several groups")
            yield data[:32].hex(), bytes(data[HEAD_BYTES:end])
            del data[:end]
    if data:
        raise HTTPException(400, "the body ended early")


async def _body(request: Request, most: int) -> AsyncIterator[bytes]:
    """The body, given up as soon as it is too long: a length header can lie."""
    size = 0
    try:
        async for chunk in request.stream():
            size += len(chunk)
            if size > most:
                raise _too_long(most)
            yield chunk
    except ClientDisconnect as e:  # an edge that is killed or cut off: nobody is left to be answered
        raise HTTPException(400, "the body ended early") from e


def _too_long(most: int) -> HTTPException:
    what = "a frame" if most == MAX_FRAME_BYTES else "a group"
    return HTTPException(413, f"{what} has at most {most // 2**20} MiB: lower the camera's resolution")
