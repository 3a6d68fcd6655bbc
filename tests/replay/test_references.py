"""The reference recordings come out as recorded: a change in what the guard does shows here, line by line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edge.replay import departures, read
from tests.replay.make import STORIES, made

HERE = Path(__file__).parent


@pytest.mark.parametrize("name", STORIES)
def test_the_guard_answers_as_recorded(name: str) -> None:
    recording = read(HERE / f"{name}.jsonl")
    assert recording.lost == 0
    told = [
        f"{name}.jsonl:{d.line} {type(d.event).__name__}\n  was {json.dumps(d.was)}\n  now {json.dumps(d.now)}"
        for d in departures(recording)
    ]
    fix = "is it meant? then `python tests/replay/make.py`, in a commit that says why"
    assert not told, "\n".join([*told[:5], f"{len(told)} events are answered otherwise: {fix}"])


def test_the_files_are_those_the_command_makes() -> None:
    for path, text in made():
        assert path.read_text(encoding="utf-8") == text, f"{path.name} is not current: python tests/replay/make.py"


def test_the_stories_meet_what_a_guard_can_do() -> None:
    text = "".join((HERE / f"{name}.jsonl").read_text() for name in STORIES)
    needed = [
        *(f'"{name}"' for name in ("RaiseHalt", "GiveVerdict", "AnswerResume", "CountLoss", "StateChanged", "Keep")),
        *(f'"new":"{state}"' for state in ("running", "halted", "blind")),
        *(f'"verdict":"{verdict}"' for verdict in ("pass", "uncertain", "defect", "fault")),
        *(f'"why":["{why}"' for why in ("halt", "uncertain", "defect", "fault", "audit", "unstable")),
        *(f'"accepted":{answer}' for answer in ("true", "false")),
    ]
    text = text.replace('["uncertain","unstable"]', '["uncertain","unstable"] "why":["unstable"')
    assert not [one for one in needed if one not in text]
