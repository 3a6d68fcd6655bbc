"""Files to the hub over HTTP, several in one request: of what one costs both sides, most is the request itself.

A hub of before, or a proxy that takes no large body, gets them one by one.
"""

from __future__ import annotations

import contextlib
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import httpx
import structlog

from edge.config import HubConfig
from edge.named_files import hub_context, secret
from edge.tuning import KERNEL_BYTES
from inspection.bundle import sha256

log = structlog.get_logger()

GROUP_FILES = 16
GROUP_BYTES = 2 * 2**20
"""A group ends with the file that reaches either: a larger one saves no more, and holds up its first file."""
SINGLY_S = 600.0
"""A hub that takes no groups is offered one again after so long: it may have been brought up to date."""
FOR_EVER = frozenset((400, 413, 415, 422))
"""Of one file: refused now and for ever; anything else may pass."""
OF_THE_EDGE = frozenset((401, 429))
"""Said of whoever asks, whatever the file: another one would be answered in the same way."""
NO_GROUPS = frozenset((*range(400, 500), 500, 501)) - OF_THE_EDGE
"""Of a group: its files may still go one by one, those at least that no hub or proxy stumbles over."""
HERE = "/api/edge/frames/" + "0" * 64
""""Not found" at this address is a hub that is there."""


TIMEOUT_S = 10.0
"""For the hub to answer, or to take a piece, not for a whole file: a slow link is slow, and no hub that is away."""


class Outcome(Enum):
    DONE = "done"
    AWAY = "away"
    NOT_NOW = "not now"
    PARKED = "parked"


@dataclass(frozen=True, slots=True)
class Answer:
    """What became of a file: the hub has it safe, is away, is there and did not take it, or it cannot go as it is."""

    outcome: Outcome
    why: str = ""


File = tuple[str, Path]
"""sha256 and where it lies."""


def client(config: HubConfig) -> httpx.Client:
    """Connections to the hub. ConfigError where its files do not read."""
    headers = {}
    if config.token_file:
        headers["authorization"] = f"Bearer {secret('hub.token_file', config.token_file)}"
    transport = httpx.HTTPTransport(
        verify=hub_context(config.ca) if config.ca else True,
        trust_env=False,
        socket_options=[(socket.SOL_SOCKET, socket.SO_SNDBUF, KERNEL_BYTES)],
    )
    return httpx.Client(base_url=config.url, headers=headers, timeout=TIMEOUT_S, transport=transport, trust_env=False)


class HubFiles:
    """Thread-safe. Every method raises httpx.HTTPError when there is no hub to answer."""

    def __init__(self, http: httpx.Client) -> None:
        self._http = http
        self._singly_until_s = 0.0

    def is_there(self) -> Answer:
        answer = self._http.head(HERE)
        if answer.status_code == 404:
            return Answer(Outcome.DONE)
        if answer.is_success:
            return _nobodys(answer)
        told = _read(answer)
        return Answer(Outcome.AWAY, told.why) if told.outcome is Outcome.NOT_NOW else told  # of no file, so of the hub

    def has(self, sha: str) -> bool:
        """Ask only a hub that is there: a login page says yes to everything."""
        return self._http.head(f"/api/edge/frames/{sha}").is_success

    def put(self, files: Sequence[File]) -> dict[str, Answer]:
        """Bring them; what became of each that was come to. Nothing is sent whose bytes are not those of its name."""
        if len(files) > 1 and time.monotonic() >= self._singly_until_s:
            found = self._put_group(files)
            if found is not None:
                return found
        return self._put_singly(files)

    def _put_singly(self, files: Sequence[File]) -> dict[str, Answer]:
        """What the hub answers of one file says nothing of the next. Where nobody answers, nobody is asked again."""
        found: dict[str, Answer] = {}
        for sha, path in files:
            found[sha], data = _whole(sha, path)
            if data is None:
                continue
            try:
                answer = self._http.put(f"/api/edge/frames/{sha}", content=data)
                # A hub's yes has nothing behind it; a page is a login's, or a proxy's.
                found[sha] = _nobodys(answer) if answer.is_success and answer.content else _read(answer)
            except httpx.HTTPError as e:
                found[sha] = Answer(Outcome.AWAY, str(e) or type(e).__name__)
                break
        return found

    def _put_group(self, files: Sequence[File]) -> dict[str, Answer] | None:
        """None when the hub takes no groups."""
        damaged: dict[str, Answer] = {}
        answer = self._http.post("/api/edge/frames", content=_body(files, damaged))
        if answer.is_success:
            try:
                told = {one["sha256"]: _judge(one["status"], one["why"]) for one in answer.json()["files"]}
            except (ValueError, KeyError, TypeError):
                self._no_groups("its answer is none of a hub's")
                return None
            unsaid = Answer(Outcome.NOT_NOW, "the hub does not say what became of a file")
            return {sha: damaged.get(sha) or told.get(sha, unsaid) for sha, _ in files}
        if answer.status_code in NO_GROUPS:
            self._no_groups(f"{answer.status_code} {answer.text[:200]}")
            return None
        told_of_all = _read(answer)
        return {sha: told_of_all for sha, _ in files}

    def _no_groups(self, why: str) -> None:
        log.info("the hub takes no groups of files, they go one by one", why=why)
        self._singly_until_s = time.monotonic() + SINGLY_S


def groups(files: Iterable[File]) -> Iterator[list[File]]:
    """In their order."""
    group: list[File] = []
    size = 0
    for sha, path in files:
        group.append((sha, path))
        with contextlib.suppress(OSError):  # found out, and told, when it is read
            size += path.stat().st_size
        if len(group) == GROUP_FILES or size >= GROUP_BYTES:
            yield group
            group, size = [], 0
    if group:
        yield group


def _body(files: Iterable[File], damaged: dict[str, Answer]) -> Iterator[bytes]:
    """Each file with its sha256 and length in front, read when its turn comes: a group is never in memory whole."""
    for sha, path in files:
        answer, data = _whole(sha, path)
        if data is None:
            damaged[sha] = answer
        else:
            yield bytes.fromhex(sha) + len(data).to_bytes(4, "big") + data


def _whole(sha: str, path: Path) -> tuple[Answer, bytes | None]:
    try:
        data = path.read_bytes()
    except OSError as e:
        # Gone is what was acknowledged between the batch and now; it will not be seen again.
        return Answer(Outcome.PARKED, f"{e.filename}: {e.strerror}"), None
    if sha256(data) != sha:
        return Answer(Outcome.PARKED, f"{path} is damaged: its bytes are not those that were written"), None
    return Answer(Outcome.DONE), data


def _nobodys(answer: httpx.Response) -> Answer:
    """Taken for the hub's yes, it would let the only copy go to make room."""
    return Answer(
        Outcome.AWAY, f"{answer.url} answers {answer.status_code} as no hub does: a login or a proxy in its place?"
    )


def _read(answer: httpx.Response) -> Answer:
    why = answer.text[:200]
    if answer.has_redirect_location:
        why = f"it is at {answer.headers['location'][:200]}, check hub.url in edge.yaml"
    return _judge(answer.status_code, why, answer.request.url.path)


def _judge(status: int, why: str, path: str = "") -> Answer:
    if 200 <= status < 300:
        return Answer(Outcome.DONE)
    if status in FOR_EVER:
        return Answer(Outcome.PARKED, f"the hub refuses its file: {status} {why}")
    outcome = Outcome.AWAY if status in OF_THE_EDGE else Outcome.NOT_NOW
    moved = f", {why}" if 300 <= status < 400 else ""
    return Answer(outcome, f"{path or 'a file'}: {status}{moved}")
