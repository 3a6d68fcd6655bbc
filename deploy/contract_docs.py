"""`python -m deploy.contract_docs`: writes the parts of docs/line-contract.md that the code knows better than a writer.

The topic table comes from `inspection.messages`, the state diagram from `inspection.states.TRANSITIONS`. A test
fails when the page is not current.
"""

from __future__ import annotations

import re
from pathlib import Path

from deploy.plc_schemas import file_name
from inspection.events import State
from inspection.live_picture import LIVE_TOPIC
from inspection.messages import MESSAGES, PERMIT_SHORT_TOPIC, Message, Permit
from inspection.states import TRANSITIONS, Cause
from inspection.station_messages import STATION_MESSAGES

PAGE = Path(__file__).resolve().parent.parent / "docs" / "line-contract.md"

WAYS = {
    "state/permit": "edge → PLC, hub",
    "state/conn": "edge → all; also its will",
    "plc/hb": "PLC → edge",
    "plc/state": "PLC → hub",
    "cmd/trigger": "PLC → edge",
    "cmd/resume": "PLC or hub → edge",
    "evt/resume": "edge → hub",
    "cmd/stop": "hub or PLC → edge",
    "evt/stop": "edge → hub",
    "evt/halt": "edge → hub",
    "evt/verdict": "edge → PLC, hub",
    "evt/record": "edge → hub",
    "evt/tally": "edge → hub",
    "evt/ack": "hub → edge",
    "model/desired": "hub → edge",
    "model/reported": "edge → hub",
    "evt/film": "edge → hub",
    "state/about": "edge → hub",
    "cmd/camera": "hub → edge",
    "evt/camera": "edge → hub",
}
CAUSES = {
    Cause.SEES: "sees: enough frames judged in a row, no fault",
    Cause.BLIND: "blind: a frame nobody could judge, silence, a fault",
    Cause.DEFECT: "defect: the evidence is complete",
    Cause.STOP: "stop: a person asked for it",
    Cause.RESUME: "resume: a person ended the open halt",
}


def topics() -> str:
    rows = ["| topic | from → to | QoS | retained | expiry | schema |", "| --- | --- | --- | --- | --- | --- |"]
    for message in (*MESSAGES, *STATION_MESSAGES):
        rows.append(_row(message))
        if message is Permit:
            expiry = f"{Permit.EXPIRY_S} s"
            rows.append(f"| `{PERMIT_SHORT_TOPIC}` | edge → PLC | 0 | no | {expiry} | 16 ASCII characters, see below |")
    rows.append(f"| `{LIVE_TOPIC}` | edge → hub | 0 | no | - | a line of JSON, a newline, a JPEG |")
    return "\n".join(rows)


def _row(message: type[Message]) -> str:
    expiry = "-" if message.EXPIRY_S is None else f"{message.EXPIRY_S} s"
    name = file_name(message)
    schema = f"[{name}](../deploy/plc/schemas/{name})"
    kept = "yes" if message.RETAIN else "no"
    return f"| `{message.TOPIC}` | {WAYS[message.TOPIC]} | {message.QOS} | {kept} | {expiry} | {schema} |"


def states() -> str:
    lines = ["```mermaid", "stateDiagram-v2", f"    [*] --> {State.STARTING}"]
    lines.append(f"    [*] --> {State.HALTED}: a halt was open when the edge last stopped")
    lines += [f"    {old} --> {new}: {CAUSES[cause]}" for (old, cause), new in TRANSITIONS.items()]
    return "\n".join([*lines, "```"])


def filled(page: str) -> str:
    """The page with each generated part replaced."""
    for name, body in (("topics", topics()), ("states", states())):
        begin, end = f"<!-- begin {name}: python -m deploy.contract_docs -->", f"<!-- end {name} -->"
        pattern = re.escape(begin) + r".*?" + re.escape(end)
        page, found = re.subn(pattern, lambda _, new=f"{begin}\n{body}\n{end}": new, page, flags=re.DOTALL)  # type: ignore[misc]
        if found != 1:
            raise ValueError(f"{PAGE} must have one {begin!r}")
    return page


def main() -> None:
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
