"""Every alarm of a station itself, by what it is for rules and shelves and for people. None of them is a halt."""

from __future__ import annotations

from review.language import N_

OTHER = "picture/other"
RUNS_ANYWAY = "line/runs"
"""The line moves without a permit: nothing may keep that quiet."""
KINDS: dict[str, str] = {
    "edge/silent": N_("edge silent"),
    "edge/fault": N_("edge fault"),
    "camera": N_("camera fault"),
    "model": N_("model fault"),
    "storage": N_("storage fault"),
    "picture/dark": N_("picture dark"),
    "picture/bright": N_("picture burnt out"),
    "picture/exposure": N_("wrong exposure"),
    "picture/blurred": N_("picture blurred"),
    "picture/covered": N_("camera covered"),
    "picture/moved": N_("camera moved"),
    "picture/frozen": N_("picture frozen"),
    OTHER: N_("picture cannot be judged"),
    "clock": N_("clock of the edge off"),
    "line/silent": N_("line controller silent"),
    RUNS_ANYWAY: N_("line runs without a permit"),
}
BY_REASON = {
    "dark": "dark", "burnt out": "bright", "wrong exposure": "exposure", "blurred": "blurred", "covered": "covered",
    "covered or moved": "covered", "moved": "moved", "moved or covered": "moved", "frozen": "frozen",
}  # fmt: skip
"""What an edge says before the colon when it cannot judge a picture (`inspection/fitness.py`)."""


def kind_of(why: str) -> str:
    """The kind of a reason why a picture cannot be judged."""
    reason = BY_REASON.get(why.partition(":")[0].strip().lower())
    return f"picture/{reason}" if reason else OTHER
