"""The guard's states, and what leads from one to the other.

    STARTING --sees--> RUNNING --defect--> HALTED --resume--> RUNNING
    STARTING --defect--> HALTED      RUNNING --blind--> BLIND --sees--> RUNNING
    BLIND --defect--> HALTED         STARTING --stop--> HALTED
    RUNNING --stop--> HALTED         BLIND --stop--> HALTED
    HALTED stays HALTED whatever else happens

`deploy/contract_docs.py` draws the diagram of docs/line-contract.md from this table.
"""

from __future__ import annotations

from enum import StrEnum

from inspection.events import State


class Cause(StrEnum):
    SEES = "sees"  # enough fresh frames judged in a row, and no fault
    BLIND = "blind"  # a frame nobody could judge, silence, or a fault
    DEFECT = "defect"  # the evidence for a defect is complete
    STOP = "stop"  # a person asked for it
    RESUME = "resume"  # a person ended the open halt


TRANSITIONS: dict[tuple[State, Cause], State] = {
    (State.STARTING, Cause.SEES): State.RUNNING,
    (State.STARTING, Cause.DEFECT): State.HALTED,
    (State.STARTING, Cause.STOP): State.HALTED,
    (State.RUNNING, Cause.DEFECT): State.HALTED,
    (State.RUNNING, Cause.STOP): State.HALTED,
    (State.RUNNING, Cause.BLIND): State.BLIND,
    (State.BLIND, Cause.SEES): State.RUNNING,
    (State.BLIND, Cause.DEFECT): State.HALTED,
    (State.BLIND, Cause.STOP): State.HALTED,
    (State.HALTED, Cause.RESUME): State.RUNNING,
}
"""A pair that is not listed changes nothing. Only RESUME leaves HALTED."""
