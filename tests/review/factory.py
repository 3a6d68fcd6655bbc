"""A hub in a process of its own and edges that speak the real messages, for tests of the hub and its pages."""

from __future__ import annotations

import hashlib
import signal
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion

from edge.film import contact_sheet
from inspection.live_picture import LivePicture, LiveRegion
from inspection.messages import (
    AckEvent,
    Conn,
    HaltEvent,
    Heartbeat,
    Message,
    ModelReported,
    Permit,
    PlcState,
    RecordEvent,
    Resume,
    ResumeAnswer,
    Stop,
    StopAnswer,
    Topics,
)
from inspection.render import DefectSpec, render
from inspection.station_messages import About, CameraAnswer, CameraTest, FilmEvent, FilmFrame, FilmRule, film_uid
from inspection.stop import stop_reason
from inspection.types import Code

REPO = Path(__file__).resolve().parents[2]


def until(condition: Callable[[], Any], timeout_s: float = 8, what: str = "") -> Any:
    """The first truthy value of `condition`; fails after the timeout."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        if value := condition():
            return value
        time.sleep(0.03)
    raise AssertionError(f"not within {timeout_s} s: {what or condition}")


def station_of(test: pytest.Item) -> str:
    """A station of its own for each test, and for each try of it: what a failed try left open fails no other."""
    return f"s{abs(hash(test.name)) % 10**8}t{getattr(test, 'execution_count', 1)}"


def wall_ms() -> int:
    return time.time_ns() // 1_000_000


def png(image: np.ndarray) -> bytes:
    return bytes(cv2.imencode(".png", image)[1])


class HubProcess:
    """`haltline review serve` on a port of its own."""

    def __init__(self, data: Path, port: int, mqtt_port: int, *more: str) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.data = data
        self._command = [sys.executable, "-m", "review.cli", "serve", "--data", str(data), "--port", str(port)]
        self._command += ["--mqtt-port", str(mqtt_port), "--demo-people", *more]
        self.log = data.parent / f"hub-{port}.log"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> HubProcess:
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(self._command, cwd=REPO, stdout=log, stderr=log)
        try:
            until(self._answers, 120, f"the hub's /healthz; see {self.log}")
        except BaseException:
            self.stop(signal.SIGKILL)  # a fixture that never yields never ends what it began
            raise
        return self

    def _answers(self) -> bool:
        assert self.process
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/healthz", timeout=1).status_code == 200
        except httpx.HTTPError:
            return False

    def stop(self, how: int = signal.SIGTERM) -> float:
        """Seconds it took to exit."""
        assert self.process
        began = time.monotonic()
        self.process.send_signal(how)
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        return time.monotonic() - began

    def signed_in(self, name: str = "Ana (operator)") -> httpx.Client:
        client = httpx.Client(base_url=self.url, headers={"HX-Request": "true"}, timeout=60)
        assert client.post("/who", data={"name": name}).status_code == 303
        return client


class FakeEdge:
    """Sends permits like an edge and does with a resume what `on_resume` says: (accepted, why), or None for silence.
    A requested stop halts it, unless `deaf`.

    With `plc` it also plays the line's controller.
    """

    def __init__(self, mqtt_port: int, hub_url: str, station: str = "weld-1", boot: int = 17, plc: bool = True) -> None:
        self.plc, self._echo, self._halts = plc, 0, 0
        self.topics = Topics("plant", "line-a", station)
        self.hub_url = hub_url
        self.boot, self.seq, self.halt_id = boot, 0, 0
        self.run, self.code = 1, 0
        self.shown = ""
        """uid of the record whose picture a person looks at."""
        self.acked: list[str] = []
        self.resumes: list[Resume] = []
        self.stops: list[Stop] = []
        self.deaf = False
        self.tests: list[CameraTest] = []
        self.sees = True
        self.on_resume: Callable[[Resume], tuple[bool, str] | None] = lambda _r: (True, "fresh frames seen")
        self.permits = threading.Event()
        self.permits.set()
        self._stop = threading.Event()
        self._client = mqtt.Client(CallbackAPIVersion.VERSION2, protocol=mqtt.MQTTv5)
        self._client.on_message = self._on_message
        ready = threading.Event()
        self._client.on_subscribe = lambda *_: ready.set()
        self._client.connect("127.0.0.1", mqtt_port)
        self._client.loop_start()
        kinds: list[type[Message]] = [AckEvent, Resume, Stop, Heartbeat, CameraTest]
        self._client.subscribe([(self.topics.of(kind), 1) for kind in kinds])
        assert ready.wait(5)
        self._thread = threading.Thread(target=self._beat, daemon=True)
        self._thread.start()

    def send(self, message: Message) -> None:
        self._client.publish(self.topics.of(type(message)), message.encode(), message.QOS, message.RETAIN)

    def raw(self, path: str, payload: bytes, qos: int = 1) -> None:
        self._client.publish(f"{self.topics.base}/{path}", payload, qos)

    def online(self, plc: str = "RUNNING") -> None:
        self.send(Conn(state="ONLINE", boot=self.boot, edge="bench"))
        if self.plc:
            self.line(plc)
        self.send(
            ModelReported(
                bundle="weld-0.3.1", sha256="a" * 64, state="serving", provider="CPUExecutionProvider", ts_ms=wall_ms()
            )
        )

    def line(self, state: str, why: str = "") -> None:
        self.send(PlcState(state=state, why=why, ts_ms=wall_ms()))  # type: ignore[arg-type]

    def permit_now(self) -> None:
        self.seq += 1
        level = {"run": self.run, "code": self.code, "halt": self.halt_id}
        ages = {"boot": self.boot, "seq": self.seq, "echo": self._echo, "age_ms": 20, "ts_ms": wall_ms()}
        self.send(Permit.model_validate(level | ages))

    def _beat(self) -> None:
        n = 0
        while not self._stop.wait(0.25):
            n += 1
            if self.permits.is_set():
                self.permit_now()
            if self.plc:
                self.send(Heartbeat(n=n))

    def picture(
        self, image: np.ndarray, frame_id: int, call: str = "pass", camera: str = "cam", hot: bool = False
    ) -> None:
        """A live picture; its left two thirds are inspected. `hot`: with a warm place in the middle."""
        small = cv2.resize(image, (640, 480), interpolation=cv2.INTER_AREA)
        jpeg = bytes(cv2.imencode(".jpg", small, [cv2.IMWRITE_JPEG_QUALITY, 80])[1])
        heat = np.zeros((120, 160), np.uint8)
        cv2.circle(heat, (60, 60), 9, 240, -1)
        region = LiveRegion(name=f"{camera}/seam", x=0.0, y=0.1, w=0.66, h=0.8, call=call)
        warm = png(cv2.GaussianBlur(heat, (0, 0), 3)) if hot else b""
        live = LivePicture(camera, frame_id, wall_ms(), call, jpeg, (region,), warm)
        self._client.publish(f"{self.topics.base}/live/picture", live.encode(), 0)

    def about(self, **facts: Any) -> None:
        """What a station's desk tells once a minute."""
        model = {
            "bundle": "weld-0.3.1", "asked_for": "CPUExecutionProvider", "runs_on": "CPUExecutionProvider",
            "runs_how": "2 threads", "threads": 2, "golden_error": 0.000012,
        }  # fmt: skip
        machine = {"cpu": "Intel N100", "cores": 4, "onnxruntime": "1.23.2", "python": "3.11.2"}
        camera = {"type": "genicam", "frame": "1920x1200", "px_per_mm": 10.0, "blind": "no"}
        self.send(
            About(
                boot=self.boot, facts={"model": model, "machine": machine, "cameras": {"cam": camera}} | facts,
                config={"station": {"station": self.topics.station}, "policy": {"k": 3, "n": 5}},
                disk_free_bytes=41 * 2**30, spool_pending=3, spool_bytes=9 * 2**20, spool_quota_bytes=4 * 2**30,
                ts_ms=wall_ms(),
            )
        )  # fmt: skip

    def upload(self, data: bytes) -> str:
        sha = hashlib.sha256(data).hexdigest()
        answer = httpx.put(f"{self.hub_url}/api/edge/frames/{sha}", content=data, timeout=60)
        assert answer.status_code in (200, 201), answer.text
        return sha

    def good(self, seed: int, task: str = "weld") -> RecordEvent:
        picture = render(task, seed, defects=[])
        return self.record(call="pass", why=("audit",), image=self.upload(png(picture.image)))

    def halt(self, seed: int = 5, cls: str = "porosity", length_mm: float = 1.6, task: str = "weld") -> HaltEvent:
        """The permit goes, the halt is told, and the evidence follows: in the edge's order."""
        self._halts += 1
        number = self.boot * 10_000 + self._halts
        self.run, self.code, self.halt_id = 0, 1, number
        self.permit_now()
        event = HaltEvent(
            halt=number, uid=uuid.uuid4().hex, code=1, cls=cls, score=0.97, limit=0.62, length_mm=length_mm,
            limit_mm=0.5, frame_id=4812, part="P-20931", model="weld-0.3.1", policy="3f9a1c77be02",
            reason=f"{cls} {length_mm} mm at or above its limit of 0.5 mm, score 0.97",
            records=(uuid.uuid4().hex,), ts_ms=wall_ms(),
            stages_ms={"queue": 1.9, "inference": 11.2, "decide": 0.1, "send": 0.3, "total": 13.5},
        )  # fmt: skip
        self.send(event)
        self._evidence(event, seed, task)
        return event

    def _evidence(self, event: HaltEvent, seed: int, task: str) -> None:
        picture = render(task, seed, defects=[DefectSpec(event.cls, event.length_mm)])
        truth = picture.defects[0]
        heat = cv2.resize((picture.mask > 0).astype(np.float32), None, fx=0.25, fy=0.25, interpolation=cv2.INTER_AREA)
        heat = np.clip(cv2.GaussianBlur(heat, (0, 0), 1.5) * 400, 0, 250).astype(np.uint8)
        finding = {"cls": event.cls, "score": 0.97, "box_px": truth.box_px, "length_mm": event.length_mm}
        finding["area_mm2"] = 1.1
        self.record(
            uid=event.records[0], call="defect", why=("halt",), halt=event.halt, frame_id=event.frame_id,
            image=self.upload(png(picture.image)), heat=self.upload(png(heat)), heat_cls=event.cls,
            heat_to_frame=(4.0, 0.0, 1.5, 0.0, 4.0, 1.5), findings=(finding,), scores={event.cls: 0.97},
        )  # fmt: skip

    def film(self, event: HaltEvent, seed: int = 5, task: str = "weld", frames: int = 21) -> FilmEvent:
        """The frames before a halt: the defect comes into view with the last three, of which 3 of 5 halt."""
        scores = [0.04 + 0.01 * (n % 3) for n in range(frames - 4)] + [0.48, 0.81, 0.93, event.score]
        good, bad = render(task, seed, defects=[]), render(task, seed, defects=[DefectSpec(event.cls, event.length_mm)])
        images = [bad.image if score > 0.4 else good.image for score in scores]
        sheet, width, height = contact_sheet(images)
        told = [
            FilmFrame(
                frame_id=event.frame_id - frames + 1 + n, ts_ms=event.ts_ms - 33 * (frames - 1 - n), score=score,
                length_mm=event.length_mm if score > 0.4 else 0.0, stop=score >= event.limit,
                hits=max(0, n - (frames - 4)),
            )
            for n, score in enumerate(scores)
        ]  # fmt: skip
        message = FilmEvent(
            uid=film_uid(self.topics.base, event.halt), halt=event.halt, camera="cam", cls=event.cls,
            rule=FilmRule(lo=0.3, hi=event.limit, limit_mm=event.limit_mm, k=3, n=5), frames=tuple(told),
            image=self.upload(sheet), columns=7, tile_w_px=width, tile_h_px=height,
        )  # fmt: skip
        self.send(message)
        return message

    def record(self, **fields: Any) -> RecordEvent:
        base: dict[str, Any] = {
            "uid": uuid.uuid4().hex, "why": ("uncertain",), "camera": "cam", "frame_id": 1, "ts_ms": wall_ms(),
            "call": "uncertain", "scores": {"porosity": 0.1}, "px_per_mm": 10.0, "width_px": 640, "height_px": 512,
            "model": "weld-0.3.1", "policy": "3f9a1c77be02", "label_book": "weld@1",
        }  # fmt: skip
        message = RecordEvent.model_validate(base | fields, strict=False)
        self.send(message)
        return message

    def _on_message(self, _client: mqtt.Client, _data: object, raw: mqtt.MQTTMessage) -> None:
        payload = bytes(raw.payload)
        if raw.topic == self.topics.of(AckEvent):
            self.acked += AckEvent.decode(payload).uids
            return
        if raw.topic == self.topics.of(Heartbeat):
            self._echo = Heartbeat.decode(payload).n
            return
        if raw.topic == self.topics.of(CameraTest):
            asked = CameraTest.decode(payload)
            self.tests.append(asked)
            why = "frames come and can be judged" if self.sees else "cam: the picture is dark"
            self.send(
                CameraAnswer(
                    camera=asked.camera, nonce=asked.nonce, ok=self.sees, why=why, state="live", fps=29.9,
                    brightness=112.0, sharpness=340.0, ts_ms=wall_ms(),
                )
            )  # fmt: skip
            return
        if raw.topic == self.topics.of(Stop):
            self._on_stop(Stop.decode(payload))
            return
        resume = Resume.decode(payload)
        self.resumes.append(resume)
        answer = self.on_resume(resume)
        if answer is None:
            return
        accepted, why = answer
        if accepted:
            self.run, self.code, self.halt_id = 1, 0, 0
        self.send(
            ResumeAnswer(
                halt=resume.halt, who=resume.who, nonce=resume.nonce, accepted=accepted, why=why, ts_ms=wall_ms()
            )
        )

    def _on_stop(self, asked: Stop) -> None:
        """As the guard does where no other halt is open."""
        again = any(known.nonce == asked.nonce for known in self.stops)
        self.stops.append(asked)
        if self.deaf:
            return
        if not again:
            self._halts += 1
            self.run, self.code, self.halt_id = 0, int(Code.STOP), self.boot * 10_000 + self._halts
            self.permit_now()
            self.send(
                HaltEvent(
                    halt=self.halt_id, uid=uuid.uuid4().hex, code=int(Code.STOP), ts_ms=wall_ms(),
                    reason=stop_reason(asked.who, asked.why), model="weld-0.3.1", policy="3f9a1c77be02",
                )
            )  # fmt: skip
        why = "this request came before" if again else ""
        self.send(StopAnswer(halt=self.halt_id, who=asked.who, nonce=asked.nonce, why=why, ts_ms=wall_ms()))

    def close(self) -> None:
        self._stop.set()
        self._thread.join(2)
        self._client.disconnect()
        self._client.loop_stop()
