"""Edges and the hub over a real broker: what is acknowledged is stored, what is stored can be shown."""

from __future__ import annotations

import signal
import socket
import uuid
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from benchmarks.proxy import BadNetwork
from edge.config import HubConfig
from edge.hub_files import TIMEOUT_S, Answer, HubFiles, Outcome, client
from inspection.bundle import sha256
from inspection.messages import HaltEvent
from tests.conftest import free_port
from tests.review.factory import FakeEdge, HubProcess, png, until, wall_ms

pytestmark = pytest.mark.broker

PICTURE = png(np.full((32, 48, 3), 90, np.uint8))


def halts(hub: HubProcess, edge: FakeEdge) -> list[dict[str, Any]]:
    found = httpx.get(f"{hub.url}/api/halts", params={"limit": 500}).json()
    return [h for h in found if h["station"].endswith(f"~{edge.topics.station}")]


def metric(hub: HubProcess, name: str) -> float:
    lines = httpx.get(f"{hub.url}/metrics").text.splitlines()
    return next((float(line.split()[1]) for line in lines if line.startswith(name)), 0.0)


def test_a_record_is_acknowledged_only_when_its_pictures_are_here(hub: HubProcess, edge: FakeEdge) -> None:
    missing = metric(hub, 'haltline_hub_messages_total{what="frames_missing"}')
    image, heat = PICTURE, png(np.zeros((8, 12), np.uint8) + len(edge.topics.station))
    record = edge.record(image=sha256(image), heat=sha256(heat))
    until(lambda: metric(hub, 'haltline_hub_messages_total{what="frames_missing"}') == missing + 1)
    edge.upload(image)
    edge.send(record)
    until(lambda: metric(hub, 'haltline_hub_messages_total{what="frames_missing"}') == missing + 2)
    assert edge.acked == [], "the heat map is still missing"
    edge.upload(heat)
    edge.send(record)
    until(lambda: edge.acked == [record.uid])


def test_a_record_sent_again_is_acknowledged_again_and_stored_once(hub: HubProcess, edge: FakeEdge) -> None:
    before = metric(hub, "haltline_hub_records")
    record = edge.record(image=edge.upload(PICTURE))
    until(lambda: edge.acked == [record.uid])
    for _ in range(3):
        edge.send(record)
    until(lambda: edge.acked == [record.uid] * 2 or len(edge.acked) >= 2)
    assert metric(hub, "haltline_hub_records") == before + 1


def test_a_record_without_pictures_is_acknowledged(edge: FakeEdge) -> None:
    record = edge.record(call="fault", why=("fault",))
    until(lambda: edge.acked == [record.uid])


def test_a_halt_is_an_alarm_at_once_and_only_once(hub: HubProcess, edge: FakeEdge) -> None:
    event = HaltEvent(halt=4, uid=uuid.uuid4().hex, code=2, reason="camera covered", ts_ms=wall_ms())
    edge.run, edge.code, edge.halt_id = 0, 2, 4
    edge.permit_now()
    for _ in range(3):
        edge.send(event)
    until(lambda: edge.acked.count(event.uid) >= 1, what="the edge keeps a halt until the hub has it")
    found = until(lambda: halts(hub, edge), 2)
    until(lambda: metric(hub, 'haltline_hub_messages_total{what="duplicates"}') >= 2)
    assert [h["state"] for h in halts(hub, edge)] == ["ACTIVE_UNACKED"]
    page = httpx.get(f"{hub.url}/halts/{found[0]['id']}").text
    assert "Camera fault" in page
    assert "This halt has no picture" in page
    assert "camera covered" in httpx.get(f"{hub.url}/line/stations").text


@pytest.mark.parametrize(
    ("path", "payload"),
    [
        ("evt/record", b"{}"),
        ("evt/halt", b"\xff\xfe"),
        ("state/permit", b"[" * 5000),
        ("state/permit", b""),
        ("live/picture", b"no picture"),
        ("evt/unknown", b"{}"),
        ("plc/state", b'{"v":1,"state":"FLYING","ts_ms":1}'),
    ],
)
def test_what_does_not_decode_is_counted_and_harms_nothing(
    hub: HubProcess, edge: FakeEdge, path: str, payload: bytes
) -> None:
    refused = metric(hub, 'haltline_hub_messages_total{what="undecodable"}')
    edge.raw(path, payload)
    until(lambda: metric(hub, 'haltline_hub_messages_total{what="undecodable"}') > refused)
    record = edge.record()
    until(lambda: record.uid in edge.acked)
    assert metric(hub, 'haltline_hub_messages_total{what="callback_errors"}') == 0
    assert metric(hub, 'haltline_hub_messages_total{what="thread_restarts"}') == 0


def test_a_message_the_database_refuses_holds_up_nobody(hub: HubProcess, edge: FakeEdge) -> None:
    uid = uuid.uuid4().hex
    for halt in (11, 12):  # the second repeats a uid that is unique over all stations
        edge.send(HaltEvent(halt=halt, uid=uid, code=1, reason="x", ts_ms=wall_ms()))
    record = edge.record()
    until(lambda: record.uid in edge.acked)
    assert [h["halt"] for h in halts(hub, edge)] == [11]


@pytest.mark.parametrize(
    ("body", "sha", "status", "says"),
    [
        (PICTURE, "0" * 64, 422, "sha256"),
        (b"not a picture", sha256(b"not a picture"), 422, "no PNG"),
        (PICTURE, "nothex", 422, ""),
        (bytes(16 * 2**20 + 1), "0" * 64, 413, "16 MiB"),
    ],
)
def test_bad_uploads_are_refused_with_the_reason(
    hub: HubProcess, body: bytes, sha: str, status: int, says: str
) -> None:
    answer = httpx.put(f"{hub.url}/api/edge/frames/{sha}", content=body)
    assert answer.status_code == status
    assert says in answer.text


def test_a_huge_picture_is_refused_by_its_header(hub: HubProcess) -> None:
    data = PICTURE[:16] + (60_000).to_bytes(4, "big") * 2 + PICTURE[24:]
    answer = httpx.put(f"{hub.url}/api/edge/frames/{sha256(data)}", content=data)
    assert answer.status_code == 422
    assert "megapixels" in answer.text


def test_its_header_is_enough_the_rest_is_not_waited_for(hub: HubProcess) -> None:
    """A body of 10 MB of which the first 100 bytes come and then nothing."""
    head = PICTURE[:16] + (20_000).to_bytes(4, "big") + (10_000).to_bytes(4, "big") + PICTURE[24:100]
    port = int(hub.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=10) as sock:
        sha = "0" * 64
        sock.sendall(f"PUT /api/edge/frames/{sha} HTTP/1.1\r\nHost: hub\r\nContent-Length: 10000000\r\n\r\n".encode())
        sock.sendall(head)
        answer = sock.recv(4096)
    assert answer.startswith(b"HTTP/1.1 422")


def test_an_upload_is_new_once_and_can_be_asked_for(hub: HubProcess) -> None:
    data = png(np.full((9, 9, 3), 7, np.uint8))
    address = f"{hub.url}/api/edge/frames/{sha256(data)}"
    assert httpx.head(address).status_code == 404
    assert [httpx.put(address, content=data).status_code for _ in range(2)] == [201, 200]
    assert httpx.head(address).status_code == 200


def group(*files: tuple[str, bytes]) -> bytes:
    return b"".join(bytes.fromhex(sha) + len(data).to_bytes(4, "big") + data for sha, data in files)


def own(seed: int) -> tuple[str, bytes]:
    data = png(np.full((8, 8, 3), seed, np.uint8))
    return sha256(data), data


def test_of_a_group_each_file_is_answered_for_itself(hub: HubProcess) -> None:
    known, new, other = own(31), own(32), own(33)
    assert httpx.put(f"{hub.url}/api/edge/frames/{known[0]}", content=known[1]).status_code == 201
    huge = PICTURE[:16] + (60_000).to_bytes(4, "big") * 2 + PICTURE[24:]
    text = b"not a picture"
    body = group(known, new, ("0" * 64, PICTURE), (sha256(text), text), (sha256(huge), huge), other, new)
    answer = httpx.post(f"{hub.url}/api/edge/frames", content=iter([body[:50], body[50:]]))
    assert answer.status_code == 200
    told = answer.json()["files"]
    assert [one["status"] for one in told] == [200, 201, 422, 422, 422, 201, 200]
    assert [word in one["why"] for one, word in zip(told[2:5], ("sha256", "no PNG", "megapixels"), strict=True)] == [
        True
    ] * 3
    there = [httpx.head(f"{hub.url}/api/edge/frames/{sha}").status_code for sha in (new[0], other[0], sha256(huge))]
    assert there == [200, 200, 404]


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (group(own(41), own(42))[:-1], 400, "early"),
        (group(own(41))[:20], 400, "early"),
        (bytes(32) + (2**32 - 1).to_bytes(4, "big"), 413, "16 MiB"),
        (group(*[("0" * 64, b"")] * 65), 413, "64 files"),
        (group(("0" * 64, bytes(11 * 2**20)), ("0" * 64, bytes(11 * 2**20))), 413, "20 MiB"),
    ],
    ids=["cut off", "cut off in a head", "a file too long", "too many", "too long together"],
)
def test_a_bad_group_is_refused_as_a_whole(hub: HubProcess, body: bytes, status: int, says: str) -> None:
    answer = httpx.post(f"{hub.url}/api/edge/frames", content=body)
    assert (answer.status_code, says in answer.text) == (status, True), answer.text
    assert httpx.head(f"{hub.url}/api/edge/frames/{own(41)[0]}").status_code == 404


def test_the_token_is_asked_for_when_one_is_set(mosquitto: int, data_dir: Path) -> None:
    hub = HubProcess(data_dir, free_port(), mosquitto, "--edge-token", "s3cret").start()
    try:
        address = f"{hub.url}/api/edge/frames/{sha256(PICTURE)}"
        assert httpx.put(address, content=PICTURE).status_code == 401
        assert httpx.put(address, content=PICTURE, headers={"Authorization": "Bearer no"}).status_code == 401
        assert httpx.post(f"{hub.url}/api/edge/frames", content=group(own(5))).status_code == 401
        good = {"Authorization": "Bearer s3cret"}
        assert httpx.put(address, content=PICTURE, headers=good).status_code == 201
    finally:
        hub.stop()


def test_nothing_told_while_the_hub_is_away_or_killed_is_lost(mosquitto: int, data_dir: Path) -> None:
    """The broker keeps halts for the hub's session; records not acknowledged are the edge's to send again."""
    hub = HubProcess(data_dir, free_port(), mosquitto).start()
    edge = FakeEdge(mosquitto, hub.url, "kill-9")
    try:
        edge.online()
        image = edge.upload(PICTURE)
        sent = [edge.record(image=image).uid for _ in range(150)]
        until(lambda: len(edge.acked) > 10)
        hub.stop(signal.SIGKILL)
        acked = set(edge.acked)
        away = HaltEvent(halt=170_009, uid=uuid.uuid4().hex, code=1, reason="while away", ts_ms=wall_ms())
        edge.send(away)
        hub.start()
        until(lambda: [h["halt"] for h in halts(hub, edge)] == [170_009])
        until(
            lambda: set(edge.acked) == {*sent, away.uid},
            20,
            "the broker tells again what the killed hub had not stored",
        )
        assert metric(hub, "haltline_hub_records") == len(sent)
        assert acked <= set(sent)
    finally:
        edge.close()
        hub.stop()


def test_a_picture_goes_over_a_link_on_which_it_takes_longer_than_the_hub_may(hub: HubProcess, tmp_path: Path) -> None:
    """The kernel swallowed the file whole, and while it was on its way the edge waited in vain for an answer."""
    data = png(np.random.default_rng(7).integers(0, 255, (800, 800, 3)).astype(np.uint8))
    (tmp_path / "frame.png").write_bytes(data)
    sha = sha256(data)
    link = BadNetwork(int(hub.url.rpartition(":")[2]), bytes_per_s=len(data) / (1.2 * TIMEOUT_S))
    try:
        with client(HubConfig(url=f"http://127.0.0.1:{link.port}")) as http:
            assert HubFiles(http).put([(sha, tmp_path / "frame.png")]) == {sha: Answer(Outcome.DONE)}
    finally:
        link.close()
