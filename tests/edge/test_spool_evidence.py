"""What the recorder hands to the spool: halts with the frames before them, near-duplicates left out."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import recorder
from edge.ports import Moment
from edge.recorder import Evidence
from edge.spool import Pending, Spool
from inspection.events import Judged, Keep, RaiseHalt, StopAsked
from inspection.messages import HaltEvent, RecordEvent, Topics
from inspection.types import Call, Code, Frame, HaltReport, Prediction, Stages

TOPICS = Topics("test", "line1", "st1")


def scene(seed: int) -> np.ndarray:
    """Large light and dark places, as a part has them; flat noise would have no look to compare."""
    small = np.random.default_rng(seed).integers(0, 200, (8, 9, 3), np.uint8)
    return np.asarray(cv2.resize(small, (80, 64), interpolation=cv2.INTER_LINEAR))


IMAGE = scene(1)


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path, 10**9)
    yield made
    made.close()


def moment(frame_id: int, image: np.ndarray = IMAGE, camera: str = "cam1", hot: tuple[int, int] = (0, 0)) -> Moment:
    heat = np.zeros((1, 16, 20), np.uint8)
    heat[0, hot[0] : hot[0] + 4, hot[1] : hot[1] + 4] = 250
    seen = Prediction(("pore",), {"pore": 0.5}, heat, np.eye(2, 3), ())
    event = Judged(camera, frame_id, 0, 0, {"pore": 0.5})
    frame = Frame(camera, frame_id, 0, 1000 + frame_id, image, 10.0)
    return Moment(event, frame, seen, Stages(0, 1, 2, 3), "red-1.0.0", "policy", "red@1")


def uncertain(frame_id: int) -> Keep:
    return Keep("cam1", frame_id, Call.UNCERTAIN, ("uncertain",))


def halt_at(evidence: Evidence, frame_id: int, number: int = 10_001, **more: object) -> None:
    report = HaltReport(number, Code.DEFECT, "pore", "pore", frame_id=frame_id)
    keep = Keep("cam1", frame_id, Call.DEFECT, ("halt",), number)
    evidence.offer(moment(frame_id, **more), [RaiseHalt(report), keep])  # type: ignore[arg-type]


def told(spool: Spool) -> list[RecordEvent | HaltEvent]:
    spool.flush()
    spool.set_uploaded([p.uid for p in spool.to_upload(1000)])

    def decode(p: Pending) -> RecordEvent | HaltEvent:
        return HaltEvent.decode(p.payload) if p.topic.endswith("halt") else RecordEvent.decode(p.payload)

    return [decode(p) for p in spool.to_send(1000)]


def test_the_frames_before_a_halt_are_kept_with_it_and_go_after_it(spool: Spool) -> None:
    evidence = Evidence(spool, TOPICS, 1, context_frames=3, call_of=lambda judged: Call.UNCERTAIN)
    for k in range(10):
        evidence.offer(moment(k, image=IMAGE + np.uint8(k)), [])
    halt_at(evidence, 10)
    halt, first, *context = told(spool)
    assert isinstance(halt, HaltEvent)
    assert isinstance(first, RecordEvent)
    assert (first.frame_id, first.why, halt.records) == (10, ("halt",), (first.uid,))
    assert [(c.frame_id, c.why, c.halt, c.call) for c in context] == [  # type: ignore[union-attr]
        (k, ("context",), 10_001, "uncertain") for k in (7, 8, 9)
    ]
    spool.set_uploaded([c.uid for c in context], False)
    png = spool.to_upload(1)[0].files
    pictures = [cv2.imread(str(path)) for _, path in png]
    assert any(np.array_equal(p, IMAGE + np.uint8(7)) for p in pictures), "in full, as the camera saw it"


def test_only_the_halting_cameras_frames_and_each_only_once(spool: Spool) -> None:
    evidence = Evidence(spool, TOPICS, 1, context_frames=4)
    for k in range(4):
        evidence.offer(moment(k), [])
        evidence.offer(moment(k, camera="cam2"), [])
    halt_at(evidence, 4)
    evidence.offer(moment(5), [])
    halt_at(evidence, 6, 10_002)
    context = [m for m in told(spool) if isinstance(m, RecordEvent) and m.why == ("context",)]
    assert {m.camera for m in context} == {"cam1"}
    assert [(m.frame_id, m.halt) for m in context] == [(k, 10_001) for k in range(4)] + [(4, 10_002), (5, 10_002)][1:]


def test_a_requested_stop_keeps_what_every_camera_saw(spool: Spool) -> None:
    """No frame made it, so there is no camera to choose, and nothing but the frames before it to keep."""
    evidence = Evidence(spool, TOPICS, 1, context_frames=2)
    for k in range(4):
        evidence.offer(moment(k), [])
        evidence.offer(moment(k, camera="cam2"), [])
    asked = Moment(StopAsked(0, "request-1"), None, None, Stages(0, 1, 2, 3), "red-1.0.0", "policy", "red@1")
    evidence.offer(asked, [RaiseHalt(HaltReport(10_001, Code.STOP, "stop requested by kim"))])
    halt, *context = told(spool)
    assert isinstance(halt, HaltEvent)
    assert (halt.code, halt.reason, halt.records) == (7, "stop requested by kim", ())
    kept = [(m.camera, m.frame_id, m.why, m.halt) for m in context if isinstance(m, RecordEvent)]
    assert kept == [(camera, k, ("context",), 10_001) for camera in ("cam1", "cam2") for k in (2, 3)]


def test_the_frames_that_wait_for_a_halt_are_bounded_in_memory(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "CONTEXT_BYTES", 3 * IMAGE.nbytes)
    evidence = Evidence(spool, TOPICS, 1, context_frames=8)
    for k in range(20):
        evidence.offer(moment(k), [])
    assert len(evidence._context["cam1"]) == 3
    none = Evidence(spool, TOPICS, 1, context_frames=0)
    none.offer(moment(1), [])
    assert not none._context["cam1"]


def test_near_duplicates_of_uncertain_frames_are_thinned(spool: Spool) -> None:
    evidence = Evidence(spool, TOPICS, 1, thin_bits=6)
    for k in range(5):
        noise = np.random.default_rng(k).integers(0, 2, IMAGE.shape, np.uint8)
        evidence.offer(moment(k, image=IMAGE + 10 * noise), [uncertain(k)])
        spool.flush()  # what is compared with is what is on disk, so frames of one group are not thinned
    assert [m.frame_id for m in told(spool)] == [0]  # type: ignore[union-attr]
    assert spool.counters.thinned == 4
    other = scene(9)
    evidence.offer(moment(5, image=other), [uncertain(5)])
    evidence.offer(moment(6, image=other, hot=(8, 12)), [uncertain(6)])
    assert [m.frame_id for m in told(spool)] == [0, 5, 6], "the model looks elsewhere: not the same"  # type: ignore[union-attr]


def test_halts_audits_and_faults_are_never_thinned(spool: Spool) -> None:
    evidence = Evidence(spool, TOPICS, 1, thin_bits=32, context_frames=2)
    evidence.offer(moment(0), [uncertain(0)])
    spool.flush()
    for k, why in enumerate(("audit", "fault", "defect"), start=1):
        evidence.offer(moment(k), [Keep("cam1", k, Call.DEFECT, (why,))])
        spool.flush()
    halt_at(evidence, 4)
    assert len(told(spool)) == 6
    assert spool.counters.thinned == 0


def test_a_frame_that_could_not_be_stored_stands_for_no_other(tmp_path: Path) -> None:
    from benchmarks.storage_disk import FailingDisk, disk_error

    disk = FailingDisk()
    spool = Spool(tmp_path, 10**9, disk=disk)
    evidence = Evidence(spool, TOPICS, 1, thin_bits=6)
    disk.fail = {"sync": disk_error("sync", 28)}
    evidence.offer(moment(0), [uncertain(0)])
    spool.flush()
    disk.fail = {}
    evidence.offer(moment(1), [uncertain(1)])
    assert [m.frame_id for m in told(spool)] == [1]  # type: ignore[union-attr]
    spool.close()


def test_every_picture_a_record_names_is_there_whole(spool: Spool) -> None:
    evidence = Evidence(spool, TOPICS, 1)
    evidence.offer(moment(0), [uncertain(0)])
    spool.flush()
    (waiting,) = spool.to_upload()
    record = RecordEvent.decode(waiting.payload)
    assert {sha for sha, _ in waiting.files} == {record.image, record.heat}
    for sha, path in waiting.files:
        assert hashlib.sha256(path.read_bytes()).hexdigest() == sha
