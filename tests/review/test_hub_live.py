"""What a station is shown as. The rule behind every case: silence is never shown as running."""

from __future__ import annotations

from dataclasses import replace

import pytest

from inspection.live_picture import LivePicture
from inspection.messages import Conn, Permit, PlcState, Topics
from inspection.station_messages import About
from inspection.types import Code
from review.language import speaking
from review.live import ABOUT_STALE_MS, NEVER_MS, PERMIT_STALE_MS, PLC_STALE_MS, Live, Mode, Now, shown

TOPICS = Topics("plant", "line-a", "weld-1")
S = 1_000_000_000
NOW = 1000 * S


def permit(run: int = 1, code: int = 0, halt: int = 0) -> Permit:
    return Permit.model_validate(
        {"boot": 1, "seq": 9, "run": run, "code": code, "halt": halt, "echo": 0, "age_ms": 20, "ts_ms": 1}
    )


def plc(state: str) -> PlcState:
    return PlcState.model_validate({"state": state, "ts_ms": 1})


@pytest.mark.parametrize(
    ("now", "mode", "word"),
    [
        (Now(TOPICS), Mode.BLIND, "NOT INSPECTING"),
        (Now(TOPICS, permit(), NOW), Mode.RUNNING, "Inspecting"),
        (Now(TOPICS, permit(), NOW - (PERMIT_STALE_MS + 1) * 1_000_000), Mode.BLIND, "NOT INSPECTING"),
        (Now(TOPICS, permit(0, 1, 7), NOW), Mode.HALTED, "HALTED"),
        (Now(TOPICS, permit(0, 1, 7), NOW - 60 * S), Mode.BLIND, "NOT INSPECTING"),
        (Now(TOPICS, permit(0, 2), NOW), Mode.BLIND, "NOT INSPECTING"),
        (Now(TOPICS, permit(0, 5), NOW), Mode.BLIND, "NOT INSPECTING"),
        (Now(TOPICS, permit(0, 7, 9), NOW), Mode.HALTED, "HALTED"),
        (Now(TOPICS, permit(0, 200), NOW), Mode.BLIND, "NOT INSPECTING"),  # a reason of a later version
        (Now(TOPICS, permit(1, 2), NOW), Mode.BLIND, "NOT INSPECTING"),
        (Now(TOPICS, permit(), NOW, plc=plc("RUNNING"), plc_ns=NOW), Mode.RUNNING, "Running"),
        (Now(TOPICS, permit(), NOW, plc=plc("READY"), plc_ns=NOW), Mode.STOPPED, "Ready"),
        (Now(TOPICS, permit(), NOW, plc=plc("TRIPPED"), plc_ns=NOW), Mode.STOPPED, "Stopped"),
        (
            Now(TOPICS, permit(), NOW, plc=plc("RUNNING"), plc_ns=NOW - (PLC_STALE_MS + 1) * 1_000_000),
            Mode.STOPPED,
            "Line silent",
        ),
    ],
)
def test_shown(now: Now, mode: Mode, word: str) -> None:
    seen = shown(now, NOW)
    assert (seen.mode, seen.word) == (mode, word)
    assert seen.why


def test_a_broken_connection_is_named_as_the_reason() -> None:
    now = Now(TOPICS, permit(), NOW - 5 * S, conn=Conn(state="BROKEN", boot=1))
    assert shown(now, NOW).why == "the edge's connection broke; last permit 5 s ago"
    assert "never heard" in shown(Now(TOPICS), NOW).why


def about(**facts: object) -> About:
    sizes = {"disk_free_bytes": 1, "spool_pending": 0, "spool_bytes": 0, "spool_quota_bytes": 1}
    return About.model_validate({"boot": 1, "facts": facts, "config": {}, "ts_ms": 1, **sizes})


DARK = {"cam": {"optional": False, "blind": "dark: 99 % of the picture is below 12 of 255"}}


@pytest.mark.parametrize(
    ("facts", "language", "why"),
    [
        ({"cameras": DARK}, "en", "cam: picture dark (99 % of the picture is below 12 of 255)"),
        ({"cameras": DARK}, "de", "cam: Bild dunkel (99 % of the picture is below 12 of 255)"),
        ({"cameras": {"cam": {"optional": False, "blind": "size 0x0"}}}, "en", "cam: size 0x0"),
        (
            {
                "cameras": {"cam": {"optional": False, "blind": "no"}},
                "guard": {"state": "blind", "code": 2, "why": "cam: no frame"},
            },
            "en",
            "cam: no frame",
        ),
        ({"cameras": {"side": {"optional": True, "blind": "dark: 9"}}}, "en", "camera: no picture that can be judged"),
        ({"guard": {"state": "running", "why": "sees"}}, "en", "camera: no picture that can be judged"),
        ({"guard": {"state": "blind", "code": 7, "why": "x"}}, "en", "camera: no picture that can be judged"),
        ({"cameras": "?", "guard": 7}, "en", "camera: no picture that can be judged"),
    ],
)
def test_why_a_camera_does_not_see_is_said_where_the_station_is(
    facts: dict[str, object], language: str, why: str
) -> None:
    """Somebody must know whether to wipe a lens, plug in a cable or lift a cloth."""
    now = Now(TOPICS, permit(0, 2), NOW, about=about(**facts), about_ns=NOW)
    with speaking(language):
        assert shown(now, NOW).why == why
        assert shown(replace(now, permit=permit(0, 3)), NOW).why.startswith("mod" if language == "en" else "Mod")
        assert "cam: " not in shown(replace(now, about_ns=NOW - (ABOUT_STALE_MS + 1) * 1_000_000), NOW).why


def test_a_fault_inside_the_edge_is_told_in_its_words() -> None:
    why = "another edge runs as haltline/v1/plant/line-a/weld-1"
    told = about(guard={"state": "blind", "code": int(Code.INTERNAL), "why": why})
    now = Now(TOPICS, permit(0, Code.INTERNAL), NOW, about=told, about_ns=NOW)
    assert shown(now, NOW).why == f"a fault inside the edge ({why})"
    assert shown(replace(now, permit=permit(0, Code.MODEL)), NOW).why == "model: it cannot judge pictures"


def test_facts_come_in_one_at_a_time_and_stay() -> None:
    live = Live()
    live.know(TOPICS, plc=plc("READY"))
    live.permit(TOPICS, permit(), NOW)
    live.picture(TOPICS, LivePicture("cam", 4, 1, "pass", b"\xff\xd8"), NOW)
    live.know(TOPICS)  # knowing again forgets nothing
    now = live.get("plant~line-a~weld-1")
    assert now
    assert now.plc == plc("READY")
    assert now.permit == permit()
    assert now.picture_age_ms(NOW + S) == 1000
    assert Now(TOPICS).picture_age_ms(NOW) == NEVER_MS
