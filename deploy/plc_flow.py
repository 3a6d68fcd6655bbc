"""`python -m deploy.plc_flow`: writes deploy/plc/node-red-flow.json, with deploy/plc/watchdog.js in its function node.

The JavaScript is kept as a file of its own so that it can be read and reviewed; a test fails when the flow is not
current. Import the flow, then replace `demo/line1/weld1` by the station's own topic levels.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from inspection.messages import PERMIT_PERIOD_MS, Heartbeat, Message, Permit, PlcState, Resume, Stop, Topics

FOLDER = Path(__file__).parent / "plc"
FLOW = FOLDER / "node-red-flow.json"
SCRIPT = FOLDER / "watchdog.js"
TOPICS = Topics("demo", "line1", "weld1")
TAB, BROKER, DOG = "haltline-tab", "haltline-broker", "haltline-watchdog"
TICK_S = 0.02
NOTE = (
    "A quality stop, not a safety function: no PL, no SIL, never in the emergency-stop or guard chain. Node-RED is no "
    "real-time controller: wire output 3 so that the line stops when Node-RED itself dies."
)


def _node(kind: str, name: str, x: int, y: int, wires: list[list[str]], **more: Any) -> dict[str, Any]:
    return {"id": f"haltline-{name}", "type": kind, "z": TAB, "name": name, "x": x, "y": y, "wires": wires, **more}


def _button(name: str, y: int, **more: Any) -> dict[str, Any]:
    """An inject node that says which event it is."""
    says = [{"p": "haltline", "v": name, "vt": "str"}]
    timing: dict[str, Any] = {"repeat": "", "crontab": "", "once": False, "onceDelay": 0.1, "topic": ""}
    return _node("inject", name, 160, y, [[DOG]], props=says, **(timing | more))


def _out(message: type[Message], name: str, y: int) -> dict[str, Any]:
    """Expiry is in s; a controller's heartbeat or reset that waited is worth nothing."""
    expiry = "" if message.EXPIRY_S is None else str(message.EXPIRY_S)
    settings = {"topic": TOPICS.of(message), "qos": str(message.QOS), "retain": str(message.RETAIN).lower()}
    return _node("mqtt out", name, 700, y, [], broker=BROKER, expiry=expiry, **settings)


def flow() -> list[dict[str, Any]]:
    outputs = ["haltline-hb", "haltline-state", "haltline-line", "haltline-resume", "haltline-stop-out"]
    dog: dict[str, Any] = {"id": DOG, "type": "function", "z": TAB, "name": "watchdog", "x": 440, "y": 200}
    dog |= {"func": SCRIPT.read_text(encoding="utf-8"), "outputs": 5, "noerr": 0, "initialize": "", "finalize": ""}
    dog |= {"libs": [], "wires": [[name] for name in outputs]}
    # rap (retain as published) must be off: it would show the retain flag on live permits too.
    permit_in = {"topic": TOPICS.of(Permit), "qos": "0", "datatype": "utf8", "broker": BROKER, "rap": False, "rh": 0}
    tag = {"rules": [{"t": "set", "p": "haltline", "pt": "msg", "to": "permit", "tot": "str"}]}
    broker = {"broker": "127.0.0.1", "port": "1883", "protocolVersion": "5", "keepalive": "5", "autoConnect": True}
    broker |= {"usetls": False, "cleansession": True, "clientid": "", "sessionExpiry": "0"}
    return [
        {"id": TAB, "type": "tab", "label": "Haltline line controller", "disabled": False, "info": NOTE},
        {"id": BROKER, "type": "mqtt-broker", "name": "plant broker", **broker},
        _node("mqtt in", "permit", 120, 80, [["haltline-tag"]], inputs=0, nl=False, **permit_in),
        _node("change", "tag", 280, 80, [[DOG]], **tag),
        _button("tick", 140, repeat=str(TICK_S), once=True),
        _button("beat", 200, repeat=str(PERMIT_PERIOD_MS / 1000), once=True),
        _button("start", 260),
        _button("reset", 320),
        _button("stop", 380),
        dog,
        _out(Heartbeat, "hb", 120),
        _out(PlcState, "state", 180),
        _node("debug", "line", 700, 240, [], active=True, tosidebar=True, complete="payload", targetType="msg"),
        _out(Resume, "resume", 300),
        _out(Stop, "stop-out", 360),
    ]


def text() -> str:
    return json.dumps(flow(), indent=1) + "\n"


def main() -> None:
    FLOW.write_text(text(), encoding="utf-8")


if __name__ == "__main__":
    main()
