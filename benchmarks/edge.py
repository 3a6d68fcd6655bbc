"""`haltline bench edge`: what the edge costs beside the inference it exists for, and how fast a halt travels."""

from __future__ import annotations

import gc
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import cv2

from benchmarks.bench_rig import TOPICS, Eager, Rig, TimedModel, defective, frames, load, rig, start_path
from benchmarks.figures import Figure, percentile
from benchmarks.process import cpu_s, rss_mib
from deploy.broker import free_port, start_mosquitto
from deploy.demo import newest_bundle
from edge import runner
from edge.cameras.pump import CameraPump
from edge.config import MqttConfig
from edge.inbox import Inbox
from edge.line.plc_sim import PlcSim
from edge.ports import Camera, Moment
from inspection.errors import CameraError
from inspection.events import Action, RaiseHalt, ResumeAsked
from inspection.model_io import to_input
from inspection.types import Frame, Stages
from inspection.watchdog import WatchdogLimits


def measure(halts: int, blocks: int, seconds: float) -> Iterator[Figure]:
    """Every figure of the first table. `halts`: how many halts are timed; `blocks`: pairs of throughput runs;
    `seconds`: how long the whole edge is watched at 30 frames/s."""
    model = load()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        yield from _throughput(folder, model, blocks)
        quiet = _halts(folder / "quiet", model, halts, spooling=False)
        busy = _halts(folder / "busy", model, halts, spooling=True)
        note = f"{len(quiet.trips)} halts over Mosquitto to another process, the runtime's own time taken off"
        yield Figure("frame handed over -> HALT received, p50", round(quiet.at(0.5).ms, 2), "ms", "<= 1.5", note)
        slow = quiet.at(0.99)
        note = f"{slow}; longest garbage collection {quiet.collection_ms:.2f} ms"
        yield Figure("frame handed over -> HALT received, p99", round(slow.ms, 2), "ms", "<= 5", note)
        ratio = busy.at(0.99).ms / slow.ms
        yield Figure("the same p99 with every frame spooled, against without", round(ratio, 2), "x", "<= 1.2")
        yield from _whole_edge(folder / "whole", model, seconds)


# ── throughput ──────────────────────────────────────────────────────────────────────────────────────────────────


def _throughput(folder: Path, model: TimedModel, blocks: int) -> Iterator[Figure]:
    for cameras, goal in ((1, ">= 0.95"), (4, ">= 0.9")):
        shown = frames(model, 64, cameras)
        with rig(folder, free_port(), spool=True, model=model) as made:
            ratios = []
            for _ in range(blocks):  # in turns, so that a busy machine slows both alike
                ratios.append(_bare(model, shown) / _edge(made, shown))
            value = statistics.median(ratios)
        yield Figure(f"edge frames/s against a bare onnxruntime loop, {cameras} camera(s)", round(value, 3), "x", goal)
    yield _spooled(folder / "on", model, max(3, blocks // 2))


def _spooled(folder: Path, model: TimedModel, blocks: int) -> Figure:
    """Every picture is another one, so that each is written; what a run leaves in the queue (some 20 of its 256 frames)
    is written before the next begins, and counted for neither."""
    ratios, kept = [], 0
    with rig(folder, free_port(), spool=True, model=model) as on:
        assert on.spool
        _spool_every_frame(on)
        seen, recorders = frames(model, 64), on.recorders
        for block in range(blocks):
            shown = [_stamped(seen[k % len(seen)], block, k) for k in range(4 * len(seen))]
            spooled = _edge(on, shown)
            on.spool.flush()
            on.recorders = recorders[:1]
            ratios.append(_edge(on, shown) / spooled)
            on.recorders = recorders
        counted = on.spool.counters
        kept = counted.accepted
        files = sum(path.stat().st_size for path in (folder / "spool" / "frames").iterdir()) / 1e6
    note = f"{kept} of {4 * len(seen) * blocks} frames are on disk, {files / max(1, kept):.2f} MB each"
    return Figure(
        "frames/s with every frame spooled, against without", round(statistics.median(ratios), 3), "x", ">= 0.9", note
    )


def _stamped(frame: Frame, block: int, k: int) -> Frame:
    image = frame.image.copy()
    image[0, 0] = block, k // 256, k % 256
    return replace(frame, image=image)


def _bare(model: TimedModel, shown: list[Frame]) -> float:
    """Seconds for the runtime alone over inputs that are already fitted."""
    inputs = [to_input(frame.image, model.manifest.input)[0][None] for frame in shown]
    names = [model.manifest.outputs.scores, model.manifest.outputs.heat]
    session, key = model.session, model.manifest.input.name
    start = time.perf_counter()
    for image in inputs:
        session.run(names, {key: image})
    return time.perf_counter() - start


def _edge(made: Rig, shown: list[Frame]) -> float:
    """Seconds for the same frames from cameras that are as fast as the edge, each on its own thread, through the whole
    frame path, permits on the wire included."""
    inbox, left = Inbox(), len(shown)
    cameras = {name: Eager(name, [f for f in shown if f.camera == name]) for name in {f.camera for f in shown}}
    pumps = [CameraPump(name, _failing, inbox, lambda frame: (made.prepare.ready(frame),)) for name in cameras]

    def note(moment: Moment, _actions: list[Action]) -> None:
        nonlocal left
        if moment.frame:
            left -= 1
            cameras[moment.frame.camera].room.put(None)
            if not left:
                inbox.close()

    made.probe.on_moment = note
    start = time.perf_counter()
    for pump, camera in zip(pumps, cameras.values(), strict=True):
        pump.start(camera)
    runner.run(inbox, made.model, made.guard, made.line, made.recorders)
    return time.perf_counter() - start


def _failing() -> Camera:
    raise CameraError("a bench's camera is opened once")


def _spool_every_frame(made: Rig) -> None:
    """A policy under which no frame is a clear pass, so that each is kept."""
    classes = tuple(replace(rule, lo=0.0) for rule in made.guard.policy.classes)
    made.guard.policy = replace(made.guard.policy, classes=classes, uncertain_every_ms=0)


# ── halts ───────────────────────────────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, slots=True)
class Trip:
    """Where one halt's time went, in ms, the runtime's own taken off: until the frame path took the frame, until the
    guard had decided, and until the other process had the permit."""

    taken: float
    decided: float
    received: float

    @property
    def ms(self) -> float:
        return self.taken + self.decided + self.received

    def __str__(self) -> str:
        return f"prepared and taken {self.taken:.2f}, decided {self.decided:.2f}, received {self.received:.2f} ms"


@dataclass(frozen=True, slots=True)
class Trips:
    trips: list[Trip]
    collection_ms: float
    """The longest pause of the garbage collector while they were made."""

    def at(self, share: float) -> Trip:
        """Which is slower than this share of all (nearest rank)."""
        ms = percentile((trip.ms for trip in self.trips), share)
        return next(trip for trip in self.trips if trip.ms == ms)


@contextmanager
def _collections() -> Iterator[list[float]]:
    """The pauses of the garbage collector, in ms."""
    pauses: list[float] = []
    began_ns = 0

    def heard(phase: str, _info: dict[str, int]) -> None:
        nonlocal began_ns
        if phase == "start":
            began_ns = time.perf_counter_ns()
        else:
            pauses.append((time.perf_counter_ns() - began_ns) / 1e6)

    gc.callbacks.append(heard)
    try:
        yield pauses
    finally:
        gc.callbacks.remove(heard)


def _halts(folder: Path, model: TimedModel, count: int, *, spooling: bool) -> Trips:
    """From a frame's hand-over to its HALT in another process."""
    with rig(folder, free_port(), spool=spooling, model=model) as made:
        bad, good = defective(model, made.guard), frames(model, 16)
        halted: dict[int, tuple[Stages, int]] = {}

        def note(moment: Moment, actions: list[Action]) -> None:
            for action in actions:
                if isinstance(action, RaiseHalt) and moment.frame:
                    halted[action.report.halt] = (moment.stages, model.last_run_ns)

        made.probe.on_moment = note
        if spooling:
            _spool_every_frame(made)
        start_path(made)
        with _collections() as pauses:
            for number in range(count):
                _one_halt(made, bad, good, number)
            time.sleep(0.3)
        first: dict[int, int] = {}
        for _, run, halt, at_ns in made.arrivals:
            if not run and halt:
                first.setdefault(halt, at_ns)
        trips = [_trip(s, spent_ns, first[halt]) for halt, (s, spent_ns) in halted.items() if halt in first]
        return Trips(trips, max(pauses, default=0.0))


def _trip(s: Stages, spent_ns: int, received_ns: int) -> Trip:
    decided_ns = s.decided_ns - s.taken_ns - spent_ns
    return Trip((s.taken_ns - s.captured_ns) / 1e6, decided_ns / 1e6, (received_ns - s.decided_ns) / 1e6)


def _one_halt(made: Rig, bad: Frame, good: list[Frame], number: int) -> None:
    """Good frames until the guard runs, one defective frame, the halt, the resume."""
    for k in range(made.guard.policy.fresh_frames + 1):
        _hand_over(made, good[(number + k) % len(good)])
    _hand_over(made, bad)
    report = made.guard.halt
    if report is None:
        return
    made.inbox.put(ResumeAsked(time.monotonic_ns(), report.halt, "bench", f"nonce-{number:08d}", 1, 0, 0))
    time.sleep(0.01)


def _hand_over(made: Rig, frame: Frame) -> None:
    """Give one frame to the frame path and wait until it is through, as a camera's pace would."""
    frame = replace(frame, image=frame.image.copy())  # as a camera's has just been written, not drawn minutes ago
    made.probe.through.clear()
    now = time.monotonic_ns()
    made.inbox.put(made.prepare.ready(replace(frame, frame_id=now, captured_ns=now, camera="cam0")))
    made.probe.through.wait(2)


# ── the whole edge, as a process ────────────────────────────────────────────────────────────────────────────────

EDGE_YAML = """\
station: {{site: bench, line: line1, station: st1}}
cameras:
  - {{name: cam1, type: folder, source: {pictures}, fps: 30, px_per_mm: {scale}}}
bundle: {{path: {bundle}}}
state_dir: {state}
mqtt: {{port: {port}}}
status: {{port: 0}}
"""


def _whole_edge(folder: Path, model: TimedModel, seconds: float) -> Iterator[Figure]:
    """Start-up, memory and CPU of `haltline edge run` at 30 frames/s of 640x512."""
    pictures = folder / "pictures"
    pictures.mkdir(parents=True)
    shown = frames(model, 60)
    for k, frame in enumerate(shown):
        cv2.imwrite(str(pictures / f"{k:03d}.png"), frame.image)
    port = free_port()
    values = {"pictures": pictures, "bundle": newest_bundle("weld"), "state": folder / "state", "port": port}
    config = folder / "edge.yaml"
    config.write_text(EDGE_YAML.format(scale=shown[0].px_per_mm, **values))
    broker = start_mosquitto(port, folder)
    plc = PlcSim(MqttConfig(port=port), TOPICS, WatchdogLimits())
    plc.start()
    start = time.monotonic()
    edge = subprocess.Popen([sys.executable, "-m", "haltline", "edge", "run", str(config)], stderr=subprocess.DEVNULL)
    try:
        while plc.view()["run"] != 1 and time.monotonic() - start < 30:
            time.sleep(0.005)
        yield Figure("start of the process -> first permit to run", round(time.monotonic() - start, 2), "s", "<= 3")
        yield from _watched(edge.pid, model, shown, seconds)
    finally:
        edge.send_signal(signal.SIGTERM)
        edge.wait(10)
        plc.close()
        broker.terminate()
        broker.wait()


def _watched(pid: int, model: TimedModel, shown: list[Frame], seconds: float) -> Iterator[Figure]:
    time.sleep(3)
    cpu_before, since = cpu_s(pid), time.monotonic()
    time.sleep(seconds)
    watched_s = time.monotonic() - since
    spent_s = cpu_s(pid) - cpu_before
    before = time.process_time()
    _bare(model, shown)
    inference_s = (time.process_time() - before) / len(shown) * 30 * watched_s
    beside = 100 * (spent_s - inference_s) / watched_s
    note = f"{100 * spent_s / watched_s:.0f} % in all, PNG decoding of the folder camera included"
    yield Figure("one core's share beside inference, 30 fps 640x512", round(beside, 1), "%", "<= 50", note)
    # Whether it grows takes tens of thousands of frames to tell: `haltline bench memory`.
    yield Figure("memory of the edge process", round(rss_mib(pid), 1), "MiB", "<= 200")
