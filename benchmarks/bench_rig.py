"""An edge without a camera: the real frame path, spool and MQTT line, fed by the bench."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from deploy.broker import start_mosquitto
from deploy.demo import newest_bundle
from edge import runner
from edge.bundle_store import read_bundle
from edge.config import MqttConfig, PolicyConfig
from edge.inbox import Inbox
from edge.line.mqtt import MqttLine
from edge.line.outbox import Outbox
from edge.model_onnx import OnnxModel
from edge.ports import Moment, Recorder
from edge.preparation import Preparation
from edge.recorder import Evidence
from edge.site_policy import policy_for
from edge.spool import Spool
from edge.tuning import settle, tune
from inspection.decision import LineGuard
from inspection.events import Action
from inspection.fitness import Fitness, FitnessLimits
from inspection.messages import Topics
from inspection.policy import judge
from inspection.render import DefectSpec, Seam
from inspection.types import Call, Frame

TOPICS = Topics("bench", "line1", "st1")
WATCHER = """
import json, socket, sys, time

def packet(kind, body):
    return bytes([kind, len(body)]) + body

def text(value):
    return len(value).to_bytes(2, "big") + value.encode()

s = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
s.sendall(packet(0x10, text("MQTT") + bytes([4, 2, 0, 0]) + text("bench-watcher")))
s.sendall(packet(0x82, bytes([0, 1]) + text(sys.argv[2]) + bytes([0])))
data = b""
while part := s.recv(65536):
    now = time.monotonic_ns()
    data += part
    while len(data) > 1:
        size, shift, at = 0, 0, 1
        while at < len(data) and data[at] & 128:
            size, shift, at = size | (data[at] & 127) << shift, shift + 7, at + 1
        if at >= len(data) or len(data) < (end := at + 1 + (size | data[at] << shift)):
            break
        kind, body, data = data[0] >> 4, data[at + 1 : end], data[end:]
        if kind == 9:
            print("up", flush=True)
        if kind == 3:
            p = json.loads(body[2 + int.from_bytes(body[:2], "big") :])
            print(p["seq"], p["run"], p["halt"], now, flush=True)
"""
"""The other side, in a process of its own: when did which permit arrive? CLOCK_MONOTONIC is one for the machine. It
speaks just enough MQTT 3.1.1 by itself, as a controller does: a Python client would add its own time to ours."""


class TimedModel(OnnxModel):
    """Remembers how long the runtime itself took, which is what every overhead is measured against."""

    last_run_ns = 0

    def _run(self, *given: Any) -> Any:
        start = time.perf_counter_ns()
        outputs = super()._run(*given)
        self.last_run_ns = time.perf_counter_ns() - start
        return outputs


@dataclass(slots=True)
class Probe:
    """A recorder that hands every moment to the bench, and says when a frame is through: whoever looked every half
    millisecond instead would take the interpreter from the frame path."""

    on_moment: Callable[[Moment, list[Action]], None] = lambda moment, actions: None
    through: threading.Event = field(default_factory=threading.Event)

    def offer(self, moment: Moment, actions: list[Action]) -> None:
        self.on_moment(moment, actions)
        if moment.frame:
            self.through.set()


@dataclass(slots=True)
class Rig:
    """The parts a bench touches. `feed` is the inbox the frame path reads."""

    model: TimedModel
    guard: LineGuard
    line: MqttLine
    inbox: Inbox
    probe: Probe
    spool: Spool | None
    recorders: list[Recorder]
    prepare: Preparation
    arrivals: list[tuple[int, int, int, int]] = field(default_factory=list)
    """(seq, run, halt, monotonic ns) of every permit the other process received."""


class Eager:
    """Implements `ports.Camera`: the next picture as soon as the frame path has room, which is a camera that is always
    a little too fast. `shown` once, in order. `room`: a token for each frame that may come; a semaphore, which Python
    writes in Python, would be 3 % of what is measured."""

    def __init__(self, name: str, shown: list[Frame]) -> None:
        self.name = name
        self._shown = iter(shown)
        self.room = SimpleQueue[None]()
        self.room.put(None)
        self.room.put(None)

    def read(self) -> Frame | None:
        frame = next(self._shown, None)
        if frame is None:
            return None
        self.room.get()
        now_ns = time.monotonic_ns()
        return replace(frame, camera=self.name, frame_id=now_ns, captured_ns=now_ns)

    def close(self) -> None:
        self.room.put(None)


def load(task: str = "weld", threads: int = 2) -> TimedModel:
    return TimedModel(read_bundle(newest_bundle(task)), threads=threads)


def frames(model: OnnxModel, count: int, cameras: int = 1) -> list[Frame]:
    """Frames of a good moving seam, rendered beforehand; ids and times are set by whoever feeds them."""
    spec = model.manifest
    seam = Seam(spec.task, 7, length_mm=300, defects=[], speed_mm_s=30)
    pictures = [seam.frame(k).image for k in range(count)]
    return [Frame(f"cam{k % cameras}", k, 0, 0, image, seam.px_per_mm) for k, image in enumerate(pictures)]


def defective(model: OnnxModel, guard: LineGuard) -> Frame:
    """A rendered frame that this model and policy stop for."""
    for seed in range(200):
        cls = model.manifest.classes[seed % len(model.manifest.classes)]
        seam = Seam(model.manifest.task, 100 + seed, length_mm=80, defects=[DefectSpec(cls, 5.0, 1.3, (40, 25))])
        for k in range(0, 80, 20):
            frame = Frame("cam0", 0, 0, 0, seam.frame(k).image, seam.px_per_mm)
            seen = model.infer(frame)
            if judge(seen.scores, seen.findings, guard.policy).call is Call.DEFECT:
                return frame
    raise RuntimeError("no rendered defect makes this model stop")


@contextmanager
def rig(folder: Path, port: int, *, spool: bool = True, model: TimedModel | None = None) -> Iterator[Rig]:
    """Broker, watcher, line, spool and frame path, all running."""
    tune()
    model = model or load()
    folder.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        broker = start_mosquitto(port, folder)
        stack.callback(broker.wait)
        stack.callback(broker.terminate)
        policy = policy_for(PolicyConfig(uncertain_every_ms=0), model.manifest)
        guard = LineGuard(policy, ["cam0"], 1, time.monotonic_ns())
        outbox, inbox, probe = Outbox(MqttConfig(port=port), TOPICS), Inbox(), Probe()
        line = MqttLine(MqttConfig(port=port), TOPICS, 1, outbox, inbox.put)
        recorders: list[Recorder] = [probe]
        store = None
        if spool:
            store = Spool(folder / "spool", 2**30)
            stack.callback(store.close)
            recorders.append(Evidence(store, TOPICS, 1))
        # A bench shows the same few pictures over and over.
        fitness = {f"cam{k}": Fitness(FitnessLimits(frozen_within=1)) for k in range(4)}
        made = Rig(model, guard, line, inbox, probe, store, recorders, Preparation(fitness, lambda: model))
        stack.enter_context(_watching(port, made))
        outbox.start()
        line.start()
        stack.callback(outbox.close)
        stack.callback(line.close)
        end = time.monotonic() + 5
        while not line.connection.connected and time.monotonic() < end:
            time.sleep(0.01)
        settle()
        yield made
        inbox.close()


def start_path(made: Rig) -> threading.Thread:
    thread = threading.Thread(
        target=runner.run, args=(made.inbox, made.model, made.guard, made.line, made.recorders), daemon=True
    )
    thread.start()
    return thread


@contextmanager
def _watching(port: int, made: Rig) -> Iterator[None]:
    args = [sys.executable, "-c", WATCHER, str(port), TOPICS.of("state/permit")]
    child = subprocess.Popen(args, stdout=subprocess.PIPE, text=True)
    assert child.stdout
    child.stdout.readline()

    def read() -> None:
        assert child.stdout
        for row in child.stdout:
            seq, run, halt, at_ns = (int(part) for part in row.split())
            made.arrivals.append((seq, run, halt, at_ns))

    threading.Thread(target=read, daemon=True).start()
    try:
        yield
    finally:
        child.kill()
        child.wait()
