"""What a station tells the hub's engineers, and the live picture of each camera."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest

from edge.cameras.framing import Framing
from edge.config import CameraConfig, EdgeConfig, LiveConfig, RegionConfig
from edge.desk import StationDesk, looks, without_secrets
from edge.live import HEAT_W_PX, LiveView, heat_of, regions_of
from edge.ports import Moment
from edge.recorder import Numbers
from edge.spool import SpoolCounters
from inspection.errors import CameraError, MessageError
from inspection.events import CannotJudge, Event, Judged
from inspection.live_picture import LivePicture
from inspection.messages import Message, Topics
from inspection.policy import ClassPolicy, Policy
from inspection.station_messages import About, CameraTest
from inspection.types import Call, Code, Frame, Prediction, Stages

REGIONS = (RegionConfig(name="left", x=0, y=0, w=160, h=128), RegionConfig(name="right", x=320, y=256, w=160, h=128))


def camera(regions: tuple[RegionConfig, ...] = ()) -> CameraConfig:
    return CameraConfig(name="cam", type="simulated", source="weld", regions=regions)


def frame(n: int = 1, value: int = 90, age_ms: float = 0) -> Frame:
    image = np.full((512, 640, 3), value, np.uint8)
    return Frame("cam", n, time.monotonic_ns() - int(age_ms * 1e6), 1000 + n, image, 10.0)


def seen(eye: Frame, score: float, hot: tuple[int, int] | None = None) -> Moment:
    """A judged frame; `hot`: the px of its heat map (stride 4) that is warm."""
    height, width = eye.image.shape[:2]
    heat = np.zeros((2, height // 4, width // 4), np.uint8)
    if hot:
        heat[1, hot[1] - 2 : hot[1] + 3, hot[0] - 2 : hot[0] + 3] = 250
    affine = np.array([[4.0, 0, 1.5], [0, 4.0, 1.5]])
    event = Judged(eye.camera, eye.frame_id, 0, 0, {"pore": score})
    return Moment(event, eye, Prediction(("pore", "x"), {"pore": score}, heat, affine, ()), Stages(0), "m", "p", "b")


class Sent:
    """The evidence connection as the desk and the live view know it."""

    def __init__(self) -> None:
        self.topics = Topics("t", "l", "s")
        self.messages: list[Message] = []
        self.pictures: list[LivePicture] = []
        self.handlers: dict[str, Callable[[Any], None]] = {}
        self.up: list[Callable[[], None]] = []
        self.there = True
        self.connection = SimpleNamespace(
            on=lambda topic, _qos, handler: self.handlers.__setitem__(topic, handler),
            on_up=self.up.append,
            refused={},
        )

    def publish_event(self, message: Message) -> bool:
        if self.there:
            self.messages.append(message)
        return self.there

    def takes_live(self, camera: str) -> bool:
        return self.there

    def publish_live(self, picture: LivePicture) -> bool:
        self.pictures.append(picture)
        return True


# ── live pictures ───────────────────────────────────────────────────────────────────────────────────────────────────


def live(numbers: Numbers, cameras: list[tuple[CameraConfig, Framing]]) -> tuple[LiveView, Sent]:
    sent = Sent()
    policy = Policy((ClassPolicy("pore", 0.3, 0.7),))
    return LiveView(LiveConfig(fps=30), numbers, sent, lambda: policy, cameras), sent  # type: ignore[arg-type]


def test_each_cameras_picture_has_its_regions_their_calls_and_one_heat_map_over_all() -> None:
    config = camera(REGIONS)
    framing, numbers = Framing(config), Numbers()
    left, right = framing.frames(frame())
    numbers.offer(seen(left, 0.1), [])
    numbers.offer(seen(right, 0.9, hot=(20, 10)), [])
    view, sent = live(numbers, [(config, framing)])
    view._send(config, framing.latest)
    view._send(config, framing.latest)
    (picture,) = (LivePicture.decode(p.encode()) for p in sent.pictures)  # a frame is sent once
    assert (picture.camera, picture.frame_id, picture.call) == ("cam", 1, "defect")
    assert [(r.name, r.x, r.y, r.w, r.h, r.call) for r in picture.regions] == [
        ("cam/left", 0, 0, 0.25, 0.25, "pass"),
        ("cam/right", 0.5, 0.5, 0.25, 0.25, "defect"),
    ]
    heat = cv2.imdecode(np.frombuffer(picture.heat, np.uint8), cv2.IMREAD_GRAYSCALE)
    assert heat is not None
    assert heat.shape == (128, HEAT_W_PX)
    y, x = np.nonzero(heat > 120)
    # Heat px (20, 10) of the right region: (320 + 81.5, 256 + 41.5) of the picture, a quarter of that here.
    assert abs(float(x.mean()) - 401.5 / 4) < 1
    assert abs(float(y.mean()) - 297.5 / 4) < 1


def test_a_cold_picture_sends_no_heat_and_a_camera_without_regions_is_inspected_whole() -> None:
    config = camera()
    whole = frame()
    assert heat_of(config, whole, {"cam": seen(whole, 0.1)}) == b""
    (region,) = regions_of(config, whole, {"cam": Call.PASS})
    assert (region.name, region.x, region.y, region.w, region.h) == ("cam", 0, 0, 1, 1)


def test_a_picture_nobody_judged_is_a_fault_and_before_the_first_there_is_none() -> None:
    config = camera()
    framing, numbers = Framing(config), Numbers()
    view, sent = live(numbers, [(config, framing)])
    view._send(config, framing.latest)
    assert sent.pictures == []
    (dark,) = framing.frames(frame(7, value=3))
    event = CannotJudge("cam", 7, 0, Code.CAMERA, "dark")
    numbers.offer(Moment(event, dark, None, Stages(0), "m", "p", "b"), [])
    view._send(config, framing.latest)
    assert [(p.call, p.heat) for p in sent.pictures] == [("fault", b"")]


def test_a_heat_map_that_is_none_is_refused() -> None:
    good = LivePicture("cam", 1, 2, "pass", b"\xff\xd8 jpeg", (), b"\x89PNG heat")
    assert LivePicture.decode(good.encode()) == good
    for wrong in (b'"heat_bytes":4', b'"heat_bytes":99', b'"heat_bytes":16'):
        with pytest.raises(MessageError):
            LivePicture.decode(good.encode().replace(b'"heat_bytes":9', wrong))


# ── the desk ────────────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture
def desk(tmp_path: Path) -> tuple[StationDesk, Sent, Framing, Numbers]:
    config = EdgeConfig.model_validate(
        {
            "station": {"site": "t", "line": "l", "station": "s"},
            "cameras": [{"name": "cam", "type": "opencv", "source": "rtsp://root:hunter2@10.0.0.5/stream"}],
            "bundle": {"path": tmp_path},
            "state_dir": tmp_path,
        },
        strict=False,
    )
    sent, numbers, framing = Sent(), Numbers(), Framing(config.cameras[0])
    return desk_of(config, sent, numbers, framing), sent, framing, numbers


def desk_of(config: EdgeConfig, sent: Sent, numbers: Numbers, framing: Framing) -> StationDesk:
    """Of the first camera, as start 7; it has no real model and no real spool."""
    model = SimpleNamespace(bundle_id="b-1.0.0", provider="CPUExecutionProvider", detail="2 threads", golden_error=1e-6)
    spool = SimpleNamespace(counters=SpoolCounters(pending=3, pending_bytes=99), trouble="")
    return StationDesk(config, 7, sent, numbers, spool, lambda: model, [(config.cameras[0], framing)])  # type: ignore[arg-type, return-value]


def test_it_says_what_it_really_runs_on_and_no_secret(desk: tuple[StationDesk, Sent, Framing, Numbers]) -> None:
    made, _sent, framing, _numbers = desk
    list(framing.frames(frame()))
    about = made.about()
    assert about.facts["model"] == {
        "bundle": "b-1.0.0", "asked_for": "CPUExecutionProvider", "runs_on": "CPUExecutionProvider",
        "runs_how": "2 threads", "threads": 2, "golden_error": 1e-6,
    }  # fmt: skip
    assert about.facts["cameras"]["cam"]["frame"] == "640x512"
    assert (about.boot, about.spool_pending, about.spool_bytes) == (7, 3, 99)
    assert about.disk_free_bytes > 0
    assert type(about).decode(about.encode()) == about
    assert b"hunter2" not in about.encode()
    assert about.config["cameras"][0]["source"] == "rtsp://***@10.0.0.5/stream"


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        ("http://hub:8080", "http://hub:8080"),
        (["rtsp://a:b@h/x?y=c@d"], ["rtsp://***@h/x?y=c@d"]),
        ({"n": 3, "s": "me@site"}, {"n": 3, "s": "me@site"}),
    ],
)
def test_only_what_stands_before_a_host_is_hidden(value: Any, kept: Any) -> None:
    assert without_secrets(value) == kept


def ask(made: StationDesk, camera: str = "cam") -> Any:
    made._closing.wait = lambda _s=0.0: False  # type: ignore[method-assign, assignment]
    return made.test(CameraTest(camera=camera, nonce="n" * 12, who="Olga"))


def judged(event: Event, numbers: Numbers, of: Frame) -> None:
    numbers.offer(Moment(event, of, None, Stages(0), "m", "p", "b"), [])


def test_a_camera_that_sees_passes_its_test(desk: tuple[StationDesk, Sent, Framing, Numbers]) -> None:
    made, _sent, framing, numbers = desk
    (one,) = framing.frames(frame(5, value=112))
    judged(Judged("cam", 5, 0, 0, {"pore": 0.1}), numbers, one)
    answer = ask(made)
    assert (answer.ok, answer.state, answer.width_px, answer.height_px) == (True, "live", 640, 512)
    assert answer.brightness == 112
    assert answer.sharpness == 0, "one grey has no edge"


def test_a_camera_that_is_silent_dark_or_unknown_fails_it(desk: tuple[StationDesk, Sent, Framing, Numbers]) -> None:
    made, _sent, framing, numbers = desk
    assert ask(made).why == "no frame since the edge started"
    (one,) = framing.frames(frame(5))
    judged(CannotJudge("cam", 5, 0, Code.CAMERA, "the picture is dark"), numbers, one)
    answer = ask(made)
    assert (answer.ok, answer.state, answer.why) == (False, "live", "cam: the picture is dark")
    list(framing.frames(frame(6, age_ms=9000)))
    answer = ask(made)
    assert (answer.ok, answer.state, answer.why) == (False, "silent", "no frame for 9 s")
    assert ask(made, "other").state == "unknown"


def test_it_tells_at_the_start_again_after_a_broken_link_and_answers(
    desk: tuple[StationDesk, Sent, Framing, Numbers],
) -> None:
    made, sent, _framing, _numbers = desk
    made.start()
    try:
        wait(lambda: len(sent.messages) == 1)
        for handler in sent.up:
            handler()
        wait(lambda: len(sent.messages) == 2)
        asked = CameraTest(camera="cam", nonce="n" * 12, who="Olga")
        sent.handlers["haltline/v1/t/l/s/cmd/camera"](SimpleNamespace(payload=asked.encode()))
        wait(lambda: len(sent.messages) == 3)
    finally:
        made.close()
    assert [type(m).__name__ for m in sent.messages] == ["About", "About", "CameraAnswer"]
    assert sent.messages[2].nonce == asked.nonce  # type: ignore[attr-defined]


def test_it_tells_at_once_why_a_camera_that_must_see_does_not_and_that_it_sees_again(
    desk: tuple[StationDesk, Sent, Framing, Numbers],
) -> None:
    made, sent, framing, numbers = desk
    (one,) = framing.frames(frame(5))

    def told() -> list[str]:
        return [m.facts["cameras"]["cam"]["blind"] for m in sent.messages if isinstance(m, About)]

    def kind() -> str:
        return told()[-1].partition(":")[0]

    made.start()
    try:
        wait(lambda: told() == ["no"])
        for why in ("dark: 98 % of it", "dark: 99 % of it", "blurred: sharpness 3"):
            judged(CannotJudge("cam", 5, 0, Code.CAMERA, why), numbers, one)
            wait(partial(lambda wanted: kind() == wanted, why.partition(":")[0]))
        judged(Judged("cam", 5, 0, 0, {"pore": 0.1}), numbers, one)
        wait(lambda: told()[-1] == "no")
    finally:
        made.close()
    assert len(told()) == 4, "other numbers are no news"


def test_it_tells_that_a_region_reaches_beyond_the_picture(tmp_path: Path) -> None:
    """The first region was cut again and again and called frozen, and the one that was wrong was named in the log."""
    config = camera((*REGIONS, RegionConfig(name="far", x=600, y=0, w=100, h=100)))
    framing = Framing(config)
    with pytest.raises(CameraError):
        next(framing.frames(frame(1)))
    assert framing.trouble == "cam/far reaches beyond the picture of 640x512 px"
    edge = EdgeConfig.model_validate(
        {
            "station": {"site": "t", "line": "l", "station": "s"},
            "cameras": [config.model_dump()],
            "bundle": {"path": tmp_path},
            "state_dir": tmp_path,
        },
        strict=False,
    )
    made = desk_of(edge, Sent(), Numbers(), framing)
    assert made.about().facts["cameras"]["cam"]["blind"] == framing.trouble
    larger = np.full((512, 720, 3), 90, np.uint8)
    assert len(list(framing.frames(replace(frame(2), image=larger)))) == 3
    assert made.about().facts["cameras"]["cam"]["blind"] == "no"


def test_it_tells_at_once_that_its_state_folder_cannot_be_used(
    desk: tuple[StationDesk, Sent, Framing, Numbers],
) -> None:
    made, sent, _framing, _numbers = desk
    now = {"state": "", "maintenance": ""}
    made._unkept = lambda: dict(now)

    def told() -> list[str]:
        return [m.facts["state"]["trouble"] for m in sent.messages if isinstance(m, About)]

    made.start()
    try:
        wait(lambda: told() == ["none"])
        now["state"] = "No space left on device"
        wait(lambda: told()[-1] == "No space left on device")
        now["state"] = ""
        wait(lambda: told()[-1] == "none")
    finally:
        made.close()


def wait(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 8
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_sharper_picture_is_sharper() -> None:
    blurred = np.random.default_rng(1).integers(0, 255, (480, 640, 3), np.uint8)
    soft = cv2.GaussianBlur(blurred, (0, 0), 3)
    sharp, dull = (looks(Frame("c", 1, 0, 0, np.asarray(i, np.uint8), 1.0))[1] for i in (blurred, soft))
    assert sharp > 20 * dull
