"""`python -m deploy.plc_schemas`: writes the JSON Schema of every message of the line contract to deploy/plc/schemas.

For PLC programmers and their validators. The files are made from `inspection.messages`, never edited: a test fails
when they are not current.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal

from inspection.messages import MESSAGES, VERSION, Heartbeat, Message, PlcState, Resume, Stop, Trigger
from inspection.station_messages import STATION_MESSAGES

FOLDER = Path(__file__).parent / "plc" / "schemas"
FROM_THE_LINE: tuple[type[Message], ...] = (Heartbeat, PlcState, Trigger, Resume, Stop)
"""What a controller writes: fields with a default may be left out. What it reads always has every field."""


def file_name(message: type[Message]) -> str:
    return f"{message.TOPIC.replace('/', '-')}.v{VERSION}.json"


def schema(message: type[Message]) -> dict[str, Any]:
    """One message's schema, with what JSON Schema has no word for (topic, QoS, retain, expiry) beside it."""
    mode: Literal["validation", "serialization"] = "validation" if message in FROM_THE_LINE else "serialization"
    body = message.model_json_schema(mode=mode)
    if mode == "serialization":  # every field is always sent, also those with a default
        body["required"] = list(body["properties"])
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"urn:haltline:v{VERSION}:{message.TOPIC}",
        "x-topic": f"haltline/v{VERSION}/{{site}}/{{line}}/{{station}}/{message.TOPIC}",
        "x-qos": message.QOS,
        "x-retain": message.RETAIN,
        "x-expiry-s": message.EXPIRY_S,
        **body,
    }


def files() -> dict[str, str]:
    """File name -> what it must hold."""
    return {
        file_name(m): json.dumps(schema(m), indent=1, ensure_ascii=False) + "\n" for m in (*MESSAGES, *STATION_MESSAGES)
    }


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    wanted = files()
    for stray in {path.name for path in FOLDER.glob("*.json")} - wanted.keys():
        (FOLDER / stray).unlink()
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
