"""The film before a halt: the last frames, oldest first, with what the guard made of each."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pytest

from edge import film as film_module
from edge.film import Film, contact_sheet, held_small, rule_of
from edge.ports import Moment
from edge.spool import Spool
from inspection.decision import LineGuard
from inspection.events import CannotJudge, Judged
from inspection.evidence import Cusum
from inspection.messages import Topics
from inspection.policy import ClassPolicy, Policy
from inspection.station_messages import FilmEvent
from inspection.types import Code, Frame, Stages

TOPICS = Topics("test", "line1", "st1")
MS = 1_000_000


def grey(value: int, size: tuple[int, int] = (64, 80)) -> np.ndarray:
    return np.full((*size, 3), value, np.uint8)


class Station:
    """A real guard and a real spool with the film between them; frames by score."""

    def __init__(self, folder: Path, rule: ClassPolicy, held: int = 0) -> None:
        self.spool = Spool(folder, 10**9)
        self.guard = LineGuard(Policy((rule,), fresh_frames=1), ("cam",), 1, 0)
        self.film = Film(self.spool, TOPICS, self.guard.levels, lambda: self.guard.policy, held)
        self.n = 0

    def frame(self, score: float | None, image: np.ndarray | None = None) -> None:
        self.n += 1
        at = self.n * 10 * MS
        if score is None:
            event: Judged | CannotJudge = CannotJudge("cam", self.n, at, Code.CAMERA, "dark")
        else:
            event = Judged("cam", self.n, at, at, {"pore": score})
        frame = Frame("cam", self.n, at, 1000 + self.n, grey(self.n * 5) if image is None else image, 10.0)
        actions = self.guard.handle(event)
        self.film.offer(Moment(event, frame, None, Stages(0), "m", "p", "b@1"), actions)

    def told(self) -> list[tuple[FilmEvent, np.ndarray]]:
        self.spool.flush()
        found = []
        for item in self.spool.to_upload(100):
            (_, path), = item.files  # fmt: skip
            found.append((FilmEvent.decode(item.payload), cv2.imread(str(path))))
        return found


@pytest.fixture
def stations() -> Iterator[list[Station]]:
    made: list[Station] = []
    yield made
    for station in made:
        station.spool.close()


def test_the_last_twenty_frames_and_the_completing_one(stations: list[Station], tmp_path: Path) -> None:
    stations.append(s := Station(tmp_path, ClassPolicy("pore", 0.3, 0.7, k=2, n=3)))
    for _ in range(30):
        s.frame(0.1)
    s.frame(None)
    s.frame(0.9)
    s.frame(0.8)
    [(event, sheet)] = s.told()
    assert [f.frame_id for f in event.frames] == list(range(13, 34))
    assert [f.score for f in event.frames[-4:]] == [0.1, None, 0.9, 0.8]
    assert [(f.stop, f.hits) for f in event.frames[-4:]] == [(False, 0), (False, 0), (True, 1), (True, 2)]
    assert event.rule
    assert (event.rule.lo, event.rule.hi, event.rule.k, event.rule.n, event.rule.h) == (0.3, 0.7, 2, 3, 0.0)
    assert (event.halt, event.cls, event.camera) == (10_001, "pore", "cam")
    # Tile 19 of 21 (row 2, column 5) shows frame 32.
    w, h = event.tile_w_px, event.tile_h_px
    assert (w, h, event.columns) == (80, 64, 7)
    assert abs(int(sheet[2 * h + 30, 5 * w + 40].mean()) - 32 * 5) <= 2


def test_a_sum_is_told_in_nats(stations: list[Station], tmp_path: Path) -> None:
    stations.append(s := Station(tmp_path, ClassPolicy("pore", 0.3, 0.7, cusum=Cusum(h=5.0))))
    for _ in range(4):
        s.frame(0.9)
    [(event, _)] = s.told()
    nats = [f.nats for f in event.frames]
    assert nats == sorted(nats)
    assert nats[0] == pytest.approx(Cusum(h=5.0).nats(0.9))
    assert nats[-1] == 5.0
    assert event.rule
    assert (event.rule.window, event.rule.h) == (False, 5.0)


def test_without_a_halt_nothing_is_made_and_after_one_the_next_has_its_own(
    stations: list[Station], tmp_path: Path
) -> None:
    stations.append(s := Station(tmp_path, ClassPolicy("pore", 0.3, 0.7)))
    s.frame(0.1)
    assert s.told() == []
    s.frame(0.9)
    s.frame(0.9)  # halted already: no second film
    assert len(s.told()) == 1


def test_frames_too_large_to_be_held_are_thinned_by_whole_px(monkeypatch: pytest.MonkeyPatch) -> None:
    small = grey(9)
    assert held_small(small) is small, "a frame that fits costs no copy"
    monkeypatch.setattr(film_module, "FILM_BYTES", 20 * small.nbytes // 4)
    thinned = held_small(small)
    assert thinned.shape == (32, 40, 3)
    assert thinned.base is None, "the large frame is not held by its small one"


def test_frames_of_two_sizes_fit_one_sheet() -> None:
    data, w, h = contact_sheet([grey(10), grey(200, (128, 960))])
    sheet = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert sheet is not None
    assert (w, h) == (480, 64)
    assert sheet.shape == (64, 7 * 480, 3)


def test_what_others_hold_is_not_counted_twice(stations: list[Station], tmp_path: Path) -> None:
    costs: list[int] = []
    stations.append(s := Station(tmp_path, ClassPolicy("pore", 0.3, 0.7), held=8))
    s.spool.offer = lambda make, rank, cost: bool(costs.append(cost))  # type: ignore[assignment, method-assign, misc, func-returns-value]
    for _ in range(20):
        s.frame(0.1)
    s.frame(0.9)
    assert costs == [12 * grey(0).nbytes]


def test_a_class_without_a_rule_has_no_rule() -> None:
    assert rule_of(Policy((ClassPolicy("pore", 0.3, 0.7),)), "crack") is None
