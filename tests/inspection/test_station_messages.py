"""What a station tells people: every payload comes back as it was, and what is none is refused."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from deploy.plc_schemas import schema
from inspection.errors import MessageError
from inspection.messages import Message
from inspection.station_messages import STATION_MESSAGES, About, CameraAnswer, CameraTest, FilmEvent, film_uid

FRAME = {"frame_id": 7, "ts_ms": 1, "score": 0.9, "length_mm": 1.5, "stop": True, "hits": 3, "nats": 2.5}
GOOD: dict[type[Message], dict[str, Any]] = {
    FilmEvent: {
        "uid": "a" * 32, "halt": 170_001, "camera": "cam", "cls": "porosity",
        "rule": {"lo": 0.3, "hi": 0.7, "limit_mm": 0.5, "k": 3, "n": 5}, "frames": [FRAME, {"frame_id": 8, "ts_ms": 2}],
        "image": "b" * 64, "columns": 7, "tile_w_px": 480, "tile_h_px": 384,
    },
    About: {
        "boot": 3, "facts": {"model": {"runs_on": "CPU"}}, "config": {"k": [1, None]}, "disk_free_bytes": 1,
        "spool_pending": 0, "spool_bytes": 0, "spool_quota_bytes": 5, "ts_ms": 9,
    },
    CameraTest: {"camera": "cam", "nonce": "n" * 12, "who": "Olga"},
    CameraAnswer: {"camera": "cam", "nonce": "n" * 12, "ok": True, "why": "", "state": "live", "ts_ms": 9},
}  # fmt: skip
BAD = [
    (FilmEvent, {"frames": []}),
    (FilmEvent, {"frames": [FRAME] * 65}),
    (FilmEvent, {"halt": 0}),
    (FilmEvent, {"image": "../../etc/passwd"}),
    (FilmEvent, {"uid": "A" * 32}),
    (FilmEvent, {"tile_w_px": 0}),
    (About, {"boot": -1}),
    (CameraTest, {"camera": ""}),
    (CameraTest, {"nonce": "short"}),
    (CameraAnswer, {"state": "fine"}),
]


def sent(kind: type[Message], **change: Any) -> bytes:
    return json.dumps({"v": 1, **GOOD[kind], **change}).encode()


@pytest.mark.parametrize("kind", STATION_MESSAGES, ids=lambda m: m.TOPIC)
def test_it_comes_back_as_it_was_and_satisfies_its_schema(kind: type[Message]) -> None:
    made = kind.decode(sent(kind))
    assert kind.decode(made.encode()) == made
    jsonschema.validate(json.loads(made.encode()), schema(kind))


@pytest.mark.parametrize(("kind", "change"), BAD, ids=[f"{k.TOPIC} {next(iter(c))}" for k, c in BAD])
def test_what_is_none_is_refused(kind: type[Message], change: dict[str, Any]) -> None:
    with pytest.raises(MessageError):
        kind.decode(sent(kind, **change))


def test_a_command_to_a_camera_does_not_outlive_its_moment_and_what_runs_is_kept_for_who_comes_late() -> None:
    assert (CameraTest.EXPIRY_S, CameraTest.RETAIN) == (5, False)
    assert (About.RETAIN, About.QOS) == (True, 1)


def test_a_halts_film_has_one_name() -> None:
    assert film_uid("t/1", 7) == film_uid("t/1", 7)
    assert len({film_uid("t/1", 7), film_uid("t/1", 8), film_uid("t/2", 7)}) == 3
