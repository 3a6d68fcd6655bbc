"""The schema files say what the code says: current, complete, and they judge real payloads as `decode` does."""

from __future__ import annotations

import json
from typing import Any

import jsonschema
import pytest

from deploy.plc_schemas import FOLDER, file_name, files
from inspection.errors import MessageError
from inspection.messages import MESSAGES, Message

UID, SHA = "0" * 32, "a" * 64
GOOD: dict[str, dict[str, Any]] = {
    "state/permit": {"boot": 17, "seq": 3, "run": 1, "code": 0, "halt": 0, "echo": 9, "age_ms": 38, "ts_ms": 1},
    "state/conn": {"state": "ONLINE", "boot": 17},
    "plc/hb": {"n": 991},
    "plc/state": {"state": "READY", "ts_ms": 1},
    "cmd/trigger": {"part": "A-1", "inspection": 5, "deadline_ms": 500},
    "cmd/resume": {"halt": 170001, "who": "kim", "nonce": "8d1f22c0aa", "boot": 17, "seq": 3},
    "evt/resume": {"halt": 1, "who": "kim", "nonce": "8d1f22c0aa", "accepted": False, "why": "", "ts_ms": 1},
    "cmd/stop": {"nonce": "8d1f22c0aa", "ts_ms": 1},
    "evt/stop": {"halt": 170001, "who": "kim", "nonce": "8d1f22c0aa", "why": "", "ts_ms": 1},
    "evt/halt": {"halt": 1, "uid": UID, "code": 1, "reason": "crack 4.2 mm", "ts_ms": 1},
    "evt/verdict": {"part": "A-1", "inspection": 5, "verdict": "pass", "ts_ms": 1},
    "evt/record": {
        "uid": UID,
        "why": ["halt"],
        "camera": "cam1",
        "frame_id": 1,
        "ts_ms": 1,
        "call": "defect",
        "scores": {"crack": 0.9},
        "px_per_mm": 10.0,
        "width_px": 640,
        "height_px": 512,
        "image": SHA,
        "findings": [{"cls": "crack", "score": 0.9, "box_px": [1, 2, 3, 4], "length_mm": 4.2, "area_mm2": 1.0}],
    },
    "evt/tally": {"uid": UID, "from_ms": 1, "to_ms": 2, "parts_passed": 40, "audited": ["A-1"]},
    "evt/ack": {"uids": [UID]},
    "model/desired": {"bundle": "weld-0.1.0", "sha256": SHA, "url": "/bundles/weld-0.1.0"},
    "model/reported": {"bundle": "weld-0.1.0", "sha256": SHA, "state": "serving", "ts_ms": 1},
}
BAD: list[tuple[str, dict[str, Any]]] = [
    ("state/permit", {"run": 2}),
    ("state/permit", {"run": "1"}),
    ("state/permit", {"seq": -1}),
    ("state/permit", {"seq": 2**32}),
    ("state/permit", {"echo": 1.5}),
    ("state/permit", {"v": 2}),
    ("state/permit", {"extra": 1}),
    ("state/permit", {"age_ms": None}),
    ("state/conn", {"state": "online"}),
    ("plc/hb", {"n": "991"}),
    ("cmd/trigger", {"deadline_ms": 9}),
    ("cmd/trigger", {"part": ""}),
    ("cmd/trigger", {"part": "A\x0012"}),
    ("cmd/resume", {"nonce": "short"}),
    ("cmd/resume", {"nonce": "not a nonce!"}),
    ("cmd/resume", {"halt": "170001"}),
    ("cmd/resume", {"who": "x" * 65}),
    ("cmd/stop", {"nonce": "short"}),
    ("cmd/stop", {"who": None}),
    ("cmd/stop", {"ts_ms": -1}),
    ("evt/verdict", {"verdict": "good"}),
    ("evt/tally", {"parts_passed": -1}),
    ("evt/tally", {"frames_passed": 1.5}),
    ("evt/ack", {"uids": []}),
    ("evt/ack", {"uids": ["UPPER" * 6 + "AB"]}),
    ("model/desired", {"url": "//elsewhere/x"}),
    ("model/desired", {"bundle": "../weld-0.1.0"}),
]
BY_TOPIC = {message.TOPIC: message for message in MESSAGES}


def validator(message: type[Message]) -> jsonschema.Draft202012Validator:
    schema = json.loads((FOLDER / file_name(message)).read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_the_files_are_current() -> None:
    on_disk = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.iterdir()}
    assert on_disk == files(), "run: python -m deploy.plc_schemas"


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: m.TOPIC)
def test_what_is_sent_satisfies_its_schema(message: type[Message]) -> None:
    made = message.decode(json.dumps({"v": 1, **GOOD[message.TOPIC]}).encode())
    sent = json.loads(made.encode())
    validator(message).validate(sent)
    assert message.decode(json.dumps(sent).encode()) == made


@pytest.mark.parametrize(("topic", "change"), BAD, ids=[f"{t} {c}"[:60] for t, c in BAD])
def test_what_the_code_refuses_the_schema_refuses_too(topic: str, change: dict[str, Any]) -> None:
    message = BY_TOPIC[topic]
    bad = {**json.loads(message.decode(json.dumps({"v": 1, **GOOD[topic]}).encode()).encode()), **change}
    with pytest.raises(MessageError):
        message.decode(json.dumps(bad).encode())
    assert not validator(message).is_valid(bad)


def test_the_schemas_name_topic_qos_and_retain() -> None:
    for message in MESSAGES:
        schema = validator(message).schema
        assert schema["x-topic"].endswith(f"{{station}}/{message.TOPIC}")
        assert (schema["x-qos"], schema["x-retain"]) == (message.QOS, message.RETAIN)
