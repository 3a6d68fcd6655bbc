"""What a recording says, what a replay says against it, and that a running edge's recording comes out exactly."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from benchmarks.station import end, plc_on, run_line, wait_for, write_station
from benchmarks.tiny_bundle import picture, write_bundle
from edge.bundle_store import read_bundle
from edge.cli import app
from edge.config import BundleConfig
from edge.models import open_model
from edge.ports import Moment
from edge.replay import departures, difference, estimate, judge_again, read, recorded, replay
from edge.tape import Tape, TapeConfig, picture_path
from inspection.errors import InputError
from inspection.events import CannotJudge, Event, Judged, MaintenanceOrdered, RaiseHalt, Tick
from inspection.evidence import Cusum
from inspection.policy import ClassPolicy, Policy
from inspection.recording import Head, Recording, Shot, Step, head_line, parse, spoken, step_line
from inspection.types import Code, Finding, Frame, HaltReport, Stages
from tests.replay.make import seam, slow_scratch

MS = 1_000_000
POLICY = Policy((ClassPolicy("red", 0.3, 0.7, limit_mm=1.5, k=2, n=3),))


def told(text: str) -> Recording:
    return parse(text.splitlines(keepends=True), "story")


def story(make: object) -> Recording:
    return told("\n".join(make().lines) + "\n")  # type: ignore[operator]


def scored(scores: list[float], policy: Policy = POLICY) -> Recording:
    """One frame every 100 ms, judged under `policy`; nobody resumes."""
    head = Head(1, ("cam1",), policy, 0)
    guard, steps = head.guard(), []
    for k, score in enumerate(scores):
        event = Judged("cam1", k, 100 * k * MS, 100 * k * MS, {"red": score})
        steps.append(Step(event, tuple(spoken(guard.handle(event)))))
    return Recording(head, tuple(steps))


# ── what a recording is ─────────────────────────────────────────────────────────────────────────────────────────

EVENTS: list[Event] = [
    Judged("cam1/left", 3, 5, 4, {"red": 0.1 + 0.2}, (Finding("red", 0.5, (1, 2, 3.5, 4), 1.25, 2.0),)),
    Judged("cam1", 4, 5, 4, {"red": 0.1}, (), 0.1 + 0.2),
    CannotJudge("cam1", 4, 6, Code.MODEL, 'a "quoted"\nreason'),
    Tick(7),
    MaintenanceOrdered(8, 9, "Ève"),
]


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
def test_an_event_survives_the_recording_to_the_last_digit(event: Event) -> None:
    policy = replace(POLICY, optional=("cam2",), classes=(replace(POLICY.classes[0], cusum=Cusum(h=5.5)),))
    head = Head(7, ("cam1", "cam2"), policy, 12, HaltReport(70_001, Code.DEFECT, "x", evidence=(1, 2)), "red-1.0.0")
    read_back = told(head_line(head) + "\n" + step_line(event, []) + "\n")
    assert read_back.head == head
    assert read_back.head.policy.id == policy.id
    assert read_back.steps == (Step(event, ()),)


def test_every_event_of_the_stories_survives() -> None:
    text = "\n".join(seam().lines) + "\n"
    recording = told(text)
    again = [head_line(recording.head), *(step_line(s.event, [], s.shot) for s in recording.steps)]
    plain = [json.loads(line) for line in text.splitlines()]
    for line in plain:
        line.pop("said", None)
    assert [json.loads(line) for line in again] == plain


def test_a_last_line_cut_by_a_power_failure_is_dropped() -> None:
    text = "\n".join(seam().lines) + "\n"
    assert len(told(text[:-20]).steps) == len(told(text).steps) - 1


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (1, ""),
        (1, "{}\n"),
        (1, "1\n"),
        (1, '{"recording": 2}\n'),
        (3, "[]\n"),
        (3, '{"Judgd": {}}\n'),
        (3, '{"Tick": {}}\n'),
    ],
)
def test_what_is_no_recording_is_named_by_its_line(tmp_path: Path, line: int, text: str) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(f"{one}\n" for one in seam().lines[: line - 1]) + text)
    with pytest.raises(InputError, match=rf"bad.jsonl:{line}: is no line of a recording"):
        read(path)


# ── what a replay says ──────────────────────────────────────────────────────────────────────────────────────────


def test_a_changed_answer_is_found() -> None:
    recording = story(seam)
    assert departures(recording) == []
    steps = list(recording.steps)
    at = next(k for k, s in enumerate(steps) if any("RaiseHalt" in a for a in s.said))
    steps[at] = replace(steps[at], said=())
    (departure,) = departures(replace(recording, steps=tuple(steps)))
    assert departure.line == at + 2
    assert "RaiseHalt" in json.dumps(departure.now)


def test_the_recorded_policy_makes_no_difference() -> None:
    recording = story(slow_scratch)
    found = difference(recorded(recording), replay(recording, recording.head.policy))
    assert (found.gone, found.new, found.verdicts) == ((), (), {})
    assert len(found.same) == 2
    assert all(was == now for was, now in found.same)
    assert found.permit_s[0] == found.permit_s[1]


def test_a_laxer_policy_loses_a_halt_and_a_stricter_one_finds_another() -> None:
    scores = [0.1] * 10 + [0.8, 0.8] + [0.1] * 100 + [0.75] + [0.1] * 20
    recording = scored(scores)
    lax = replace(POLICY, classes=(replace(POLICY.classes[0], hi=0.9),))
    found = difference(recorded(recording), replay(recording, lax))
    assert [(h.frame_id, h.score) for h in found.gone] == [(11, 0.8)]
    assert found.new == ()
    assert found.permit_s[1] > found.permit_s[0] + 10
    lax_recording = scored(scores, lax)
    strict = replace(POLICY, classes=(replace(POLICY.classes[0], k=1, n=1),))
    found = difference(recorded(lax_recording), replay(lax_recording, strict))
    assert [h.frame_id for h in found.new] == [10, 112], "the first one was resumed after 5 s"
    assert found.lines()[0] == "halts: 0 the same, 0 would not have happened, 2 new"
    assert "frame 112, red 0.75" in "\n".join(found.lines())


def test_a_halt_that_comes_sooner_is_the_same_one() -> None:
    recording = scored([0.1] * 10 + [0.8] * 5)
    strict = replace(POLICY, classes=(replace(POLICY.classes[0], k=1, n=1),))
    found = difference(recorded(recording), replay(recording, strict))
    ((was, now),) = found.same
    assert (was.frame_id, now.frame_id) == (11, 10)
    assert "0.10 s earlier" in "\n".join(found.lines())


def test_a_recorded_resume_ends_the_replays_halt_whatever_its_number() -> None:
    recording = story(slow_scratch)
    once = replace(
        recording.head.policy, classes=tuple(ClassPolicy(c.cls, c.lo, c.hi) for c in recording.head.policy.classes)
    )
    ran = replay(recording, once).outcome
    assert len(ran.halts) >= 2
    assert ran.permit_s > 1


def test_what_a_sequential_test_should_assume_is_estimated_from_good_frames() -> None:
    rng = np.random.default_rng(5)
    noise, scores = 0.0, []
    for _ in range(20_000):
        noise = 0.8 * noise + 0.6 * rng.standard_normal()
        scores.append(float(1 / (1 + np.exp(1 - 1.414 * noise))))
    (found,) = estimate(scored(scores, replace(POLICY, classes=(ClassPolicy("red", 0.99, 1.0),))))
    assert found.prior == pytest.approx(0.5, abs=0.03), "the mean likelihood ratio of such frames is 1"
    assert 8 < found.thin < 14
    (few,) = estimate(scored([0.1, 0.2] * 10))
    assert "too few" in few.note


@given(scores=st.lists(st.floats(0, 1), min_size=1, max_size=80), hi=st.floats(0.3, 1), k=st.integers(1, 3))
@settings(max_examples=100, deadline=None, derandomize=True, database=None)
def test_a_replay_under_the_recorded_policy_is_the_recording(scores: list[float], hi: float, k: int) -> None:
    recording = scored(scores, Policy((ClassPolicy("red", 0.3, hi, k=k, n=3),)))
    assert departures(recording) == []


# ── another model ───────────────────────────────────────────────────────────────────────────────────────────────


def test_another_bundle_judges_the_pictures_again_and_says_what_it_could_not(tmp_path: Path) -> None:
    model = open_model(read_bundle(write_bundle(tmp_path), ()), BundleConfig(path=tmp_path))
    recording = scored([0.1] * 8)
    steps = []
    for k, step in enumerate(recording.steps):
        if k != 2:
            cv2.imwrite(str(picture_path(tmp_path, "cam1", k)), picture(6.0 if k > 5 else 0.0, seed=k))
        steps.append(replace(step, shot=Shot(1, 10.0)))
    recording = replace(recording, steps=tuple(steps))
    found = replay(recording, POLICY, judge_again(model, tmp_path))
    assert found.without_picture == 1
    assert [h.frame_id for h in found.outcome.halts] == [7]
    assert difference(recorded(recording), found).lines()[-1] == "left out: 1 frames without a picture"


REFERENCE = Path(__file__).parents[1] / "replay" / "slow_scratch.jsonl"


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--bundle", "red-1.0.0", "--frames", "nowhere"], "nowhere is no folder"),
        (["--bundle", "red-1.0.0", "--frames", "empty"], "empty holds no picture of "),
        (["--frames", "empty"], "empty is of no use without a model"),
        (["--estimate"], "holds no frame to estimate from"),
    ],
)
def test_a_question_that_nothing_answers_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], expected: str
) -> None:
    """With a folder that was none, "2 halts would not have happened" was said of a model that judged nothing."""
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=expected):
        CliRunner().invoke(app, ["replay", str(REFERENCE), *options], catch_exceptions=False)


# ── the recorder ────────────────────────────────────────────────────────────────────────────────────────────────


def moment(event: Event, frame: Frame | None = None) -> Moment:
    return Moment(event, frame, None, Stages(0), "red-1.0.0", POLICY.id, "red@1")


def test_a_recording_that_is_full_begins_anew_where_the_guard_is(tmp_path: Path) -> None:
    tape = Tape(TapeConfig(tmp_path / "r.jsonl", max_mb=1), Head(1, ("cam1",), POLICY, 0))
    tape.start()
    report = HaltReport(10_001, Code.DEFECT, "a halt")
    tape.offer(moment(Tick(1)), [RaiseHalt(report)])
    for k in range(12_000):
        tape.offer(moment(CannotJudge("cam1", k, k, Code.MODEL, "x" * 60)), [])
        if k % 500 == 0:
            time.sleep(0.02)
    tape.close()
    before, now = read(tmp_path / "r.jsonl.1"), read(tmp_path / "r.jsonl")
    assert before.head.open_halt is None
    assert now.head.open_halt == report
    assert (tmp_path / "r.jsonl").stat().st_size < 2 * 2**20
    assert len(before.steps) + len(now.steps) + before.lost + now.lost <= 12_001


def test_what_the_recorder_has_no_room_for_is_counted_in_the_file(tmp_path: Path) -> None:
    tape = Tape(TapeConfig(tmp_path / "r.jsonl"), Head(1, ("cam1",), POLICY, 0))
    for k in range(1500):  # its thread does not run yet
        tape.offer(moment(Tick(k)), [])
    assert tape.lost == 500
    tape.start()
    wait_for(lambda: tape._waiting.empty())
    tape.offer(moment(Tick(2000)), [])
    tape.close()
    recording = read(tmp_path / "r.jsonl")
    assert (len(recording.steps), recording.lost) == (1001, 500)


@pytest.mark.broker
def test_a_running_edges_recording_is_exact_and_answers_what_if(own_mosquitto: int, tmp_path: Path) -> None:
    pictures = [0.0] * 15 + [6.0] * 4 + [0.0] * 200
    config = write_station(tmp_path, own_mosquitto, pictures=pictures, fps=12)
    tape, frames = tmp_path / "r.jsonl", tmp_path / "frames"
    args = [sys.executable, "-m", "haltline", "edge", "run", str(config), "--record", str(tape)]
    with plc_on(own_mosquitto) as plc:
        edge = subprocess.Popen([*args, "--record-frames", str(frames)], stderr=subprocess.DEVNULL)
        try:
            wait_for(lambda: plc.view()["halt"], what="the halt")
            time.sleep(0.5)
            plc.press_reset("kim")
            run_line(plc)
        finally:
            assert end(edge) == 0
    recording = read(tape)
    assert departures(recording) == []
    assert len(recorded(recording).halts) == 1
    run = CliRunner().invoke(app, ["replay", str(tape)])
    assert run.exit_code == 0, run.output
    assert "all answered as recorded" in run.output
    config.write_text(config.read_text().replace("k: 2, n: 3", "k: 3, n: 3, classes: {red: {hi: 1.0, limit_mm: 9}}"))
    run = CliRunner().invoke(app, ["replay", str(tape), "--policy", str(config)])
    assert "0 the same, 1 would not have happened, 0 new" in run.output
    assert "frame 16, red 1.00" in run.output
    # The same bundle over the kept pictures comes to the same scores.
    run = CliRunner().invoke(
        app, ["replay", str(tape), "--bundle", str(tmp_path / "models/red-1.0.0"), "--frames", str(frames), "--json"]
    )
    found = json.loads(run.output)
    assert found["without_picture"] == 0
    assert (found["gone"], found["new"], len(found["same"])) == ([], [], 1)
