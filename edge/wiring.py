"""The one file that chooses adapters: a configuration in, a whole edge out."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import structlog

from edge import runner
from edge.bundle_store import read_shadow
from edge.cameras.child import ChildCamera
from edge.cameras.folder import FolderCamera
from edge.cameras.framing import Framing
from edge.cameras.pump import CameraPump
from edge.cameras.simulated import SimulatedCamera
from edge.cameras.video import VideoCamera
from edge.cameras.views import fitness_of
from edge.config import CameraConfig, EdgeConfig
from edge.desk import StationDesk
from edge.film import Film
from edge.hub_files import client
from edge.inbox import Inbox
from edge.last_order import LastOrder
from edge.line.connection import Received
from edge.line.mqtt import MqttLine
from edge.line.outbox import Outbox
from edge.line.sparkplug import SparkplugNode
from edge.live import LiveView
from edge.maintenance import MaintenanceWatch
from edge.model_base import BundleModel
from edge.models import open_model
from edge.ports import Camera, Ready
from edge.preparation import Preparation
from edge.recorder import Evidence, HaltMemory, Numbers
from edge.rollout import Rollout
from edge.shadow import Shadow
from edge.site_policy import policy_for
from edge.spool import Spool
from edge.state import EdgeState
from edge.status import StatusServer
from edge.systemd import Supervisor
from edge.tally import Tallies
from edge.tape import Tape, TapeConfig
from edge.tuning import settle, tune
from edge.uploader import Uploader
from inspection.bundle import Manifest
from inspection.decision import LineGuard
from inspection.events import Tick
from inspection.messages import PlcState
from inspection.policy import judge
from inspection.recording import Head
from inspection.selection import Budget
from inspection.types import Frame

log = structlog.get_logger()

CAMERAS: dict[str, Callable[[CameraConfig], Camera]] = {
    "folder": FolderCamera,
    "video": VideoCamera,
    "opencv": ChildCamera,
    "genicam": ChildCamera,
    "pylon": ChildCamera,
    "simulated": SimulatedCamera,
}
TICK_S = 0.05
"""The guard's only news between two parts: policy.lease_ms must outlast a few."""
THREADS_END_S = 1.5


def open_camera(config: CameraConfig) -> Camera:
    return CAMERAS[config.type](config)


def load_model(config: EdgeConfig) -> BundleModel:
    return open_model(LastOrder(config.state_dir, config.bundle).bundle(), config.bundle)


@dataclass(frozen=True, slots=True)
class Edge:
    """A running edge. `run` blocks until `stop` is called from a signal handler, or the frame path dies."""

    inbox: Inbox
    line: MqttLine
    outbox: Outbox
    spool: Spool
    numbers: Numbers
    rollout: Rollout
    pumps: tuple[CameraPump, ...]
    closers: tuple[Callable[[], None], ...]
    path: threading.Thread

    def run(self, stop: threading.Event, supervisor: Supervisor) -> bool:
        """True for an orderly end; False when the frame path died, which a supervisor must see as a failure."""
        while not stop.wait(0.2):
            if not self.path.is_alive():
                log.error("the frame path died; the permit lapses by itself")
                break
            now_ns = time.monotonic_ns()
            supervisor.beat(self.line.alive(now_ns), now_ns)
        died = not self.path.is_alive()
        if not died:
            log.info("asked to stop (SIGTERM or Ctrl+C): run 0, then the evidence is written and the edge ends")
        supervisor.stopping()
        self.close()
        return not died

    def close(self) -> None:
        for close in self.closers:
            try:
                close()
            except Exception:
                log.exception("closing failed")
        # A daemon thread still inside ONNX Runtime or OpenCV when the interpreter ends is unwound through C++, which
        # aborts the process: an orderly stop would look like a crash.
        end_s = time.monotonic() + THREADS_END_S
        for thread in threading.enumerate():
            if thread is not threading.current_thread() and thread is not threading.main_thread():
                thread.join(max(0.0, end_s - time.monotonic()))


def build(config: EdgeConfig, record: TapeConfig | None = None) -> Edge:
    """Everything made and started, in the order in which it may fail: model and camera before the line hears of us.

    One long list on purpose: what an edge consists of stands here and nowhere else.
    """
    tune()
    keeping = config.spool
    # Its lock first: a second edge on this folder ends here, before it can write over the first one's open halt.
    spool = Spool(config.state_dir / "spool", keeping.quota_mb * 2**20, reserve_bytes=keeping.reserve_mb * 2**20)
    last_order = LastOrder(config.state_dir, config.bundle, ballast=spool.ballast)
    last_order.drop_old()
    model = load_model(config)
    policy = policy_for(config.policy, model.manifest, config.cameras)
    framings = [Framing(camera) for camera in config.cameras]
    fitness = {eye: fitness_of(config.state_dir, c, eye) for c in config.cameras for eye in c.eyes}
    # The line does without an optional camera, so it does not wait for one either: its pump opens it, over and over.
    cameras = [None if camera.optional else open_camera(camera) for camera in config.cameras]
    state = EdgeState(config.state_dir, ballast=spool.ballast)
    topics = config.station.topics()
    inbox = Inbox()
    outbox = Outbox(config.mqtt, topics)
    line = MqttLine(config.mqtt, topics, state.boot, outbox, inbox.put)
    _let_simulated_seams_stop(line, cameras)
    now_ns = time.monotonic_ns()
    head = Head(state.boot, tuple(fitness), policy, now_ns, state.open_halt, model.bundle_id, model.manifest.limits)
    guard = head.guard()
    tape = Tape(record, head) if record else None
    budget = Budget(config.policy.sent_per_h) if config.policy.sent_per_h else None
    evidence = Evidence(
        spool,
        topics,
        state.boot,
        context_frames=keeping.context_frames,
        thin_bits=keeping.thin_bits,
        budget=budget,
        call_of=lambda judged: judge(judged.scores, judged.findings, guard.policy).call,
    )
    film = Film(spool, topics, guard.levels, lambda: guard.policy, keeping.context_frames)
    numbers = Numbers()
    shadow = _shadow(config, model.manifest, guard, evidence)
    http = client(config.hub) if config.hub else None
    uploader = Uploader(spool, outbox, http) if http else None
    rollout = Rollout(
        model,
        lambda bundle: open_model(bundle, config.bundle),
        lambda manifest: policy_for(config.policy, manifest, config.cameras),
        inbox.put,
        outbox,
        http,
        last_order.store,
        config.bundle.trusted_keys,
        keep=last_order.keep,
        asked_ms=last_order.asked_ms(),
        newest=lambda: [frame for framing in framings for frame in framing.newest()],
    )
    prepare = Preparation(fitness, lambda: rollout.serving)
    pumps = tuple(
        CameraPump(c.name, _opener(c), inbox, _viewer(framing, prepare))
        for c, framing in zip(config.cameras, framings, strict=True)
    )
    views = tuple(zip(config.cameras, framings, strict=True))
    live = LiveView(config.live, numbers, outbox, lambda: guard.policy, views)
    maintenance = MaintenanceWatch(config.state_dir, inbox.put)

    def unkept() -> dict[str, str]:
        upload = uploader.unheard if uploader else ""
        return {"state": state.failing, "maintenance": maintenance.trouble, "upload": upload}

    desk = StationDesk(
        config,
        state.boot,
        outbox,
        numbers,
        spool,
        lambda: rollout.serving,
        views,
        lambda: line.connection.refused | line.unheard,
        unkept,
    )
    status = StatusServer(
        config.status,
        numbers,
        lambda: _facts(config, rollout, spool, inbox, line, outbox, unkept()) | _looks(numbers, budget, shadow),
    )
    sparkplug = SparkplugNode(config.sparkplug, config.mqtt, topics, fitness) if config.sparkplug else None
    tallies = Tallies(spool.offer, topics, state.boot, lambda: guard.passed) if uploader else None
    more = (tallies, sparkplug, tape, shadow)
    recorders = (HaltMemory(state), numbers, evidence, film, *(each for each in more if each))
    frame_path = (inbox, model, guard, line, recorders)
    path = threading.Thread(target=runner.run, args=frame_path, name="frames", daemon=True)

    outbox.start()
    line.start()
    path.start()
    ticker = _Ticker(inbox)
    for starts in (ticker, maintenance, uploader, rollout, live, desk, status, sparkplug, tape, shadow):
        if starts:
            starts.start()
    for pump, camera in zip(pumps, cameras, strict=True):
        pump.start(camera)
    closers = (
        line.close,  # the line first: run 0 before anything else ends
        *(pump.close for pump in pumps),
        inbox.close,
        *((uploader.close,) if uploader else ()),
        rollout.close,
        *((sparkplug.close,) if sparkplug else ()),
        live.close,
        desk.close,
        status.close,
        ticker.close,
        maintenance.close,
        *(each.close for each in (tape, shadow, tallies) if each),
        spool.close,
        state.close,
        outbox.close,
        *((http.close,) if http else ()),
    )
    settle()
    log.info("edge started", boot=state.boot, bundle=model.bundle_id, provider=model.provider, topics=topics.base)
    return Edge(inbox, line, outbox, spool, numbers, rollout, pumps, closers, path)


class _Ticker:
    """Puts the time into the inbox, since a pure guard cannot notice silence."""

    def __init__(self, inbox: Inbox) -> None:
        self._inbox = inbox
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ticker", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._closing.set()

    def _work(self) -> None:
        while not self._closing.wait(TICK_S):
            self._inbox.put(Tick(time.monotonic_ns()))


def _opener(config: CameraConfig) -> Callable[[], Camera]:
    return lambda: open_camera(config)


def _viewer(framing: Framing, prepare: Preparation) -> Callable[[Frame], Iterator[Ready]]:
    return lambda frame: map(prepare.ready, framing.frames(frame))


def _let_simulated_seams_stop(line: MqttLine, cameras: Sequence[Camera | None]) -> None:
    simulated = [camera for camera in cameras if isinstance(camera, SimulatedCamera)]
    if not simulated:
        return

    def heard(received: Received) -> None:
        runs = PlcState.decode(received.payload).state == "RUNNING"
        for camera in simulated:
            camera.line_runs = runs

    line.connection.on(line.topics.of(PlcState), 1, heard)


def _shadow(config: EdgeConfig, served: Manifest, guard: LineGuard, evidence: Evidence) -> Shadow | None:
    wanted, bundle = config.shadow, read_shadow(config, served)
    if wanted is None or bundle is None:
        return None
    model = open_model(bundle, config.bundle.model_copy(update={"threads": 1}))
    policy = policy_for(config.policy, bundle.manifest, config.cameras)
    return Shadow(model, policy, lambda: guard.policy, evidence.keep, wanted.every)


def _facts(
    config: EdgeConfig,
    rollout: Rollout,
    spool: Spool,
    inbox: Inbox,
    line: MqttLine,
    outbox: Outbox,
    unkept: dict[str, str],
) -> dict[str, Any]:
    return {
        "station": config.station.topics().base,
        "boot": line.boot,
        "bundle": rollout.serving.bundle_id,
        "provider": rollout.serving.provider,
        "mqtt_connected": line.connection.connected,
        "mqtt_away": line.connection.away,
        "mqtt_not_allowed": line.connection.refused | line.unheard | outbox.connection.refused,
        "mqtt_heard": sorted(line.connection.heard | outbox.connection.heard),
        "mqtt_refused": line.connection.rejected,
        "mqtt_handler_errors": line.connection.handler_errors,
        "permit_lapses": line.lapses,
        "dropped_frames": inbox.dropped,
        "spool": asdict(spool.counters),
        "spool_trouble": spool.trouble,
        **{f"{what}_trouble": why for what, why in unkept.items()},
    }


def _looks(numbers: Numbers, budget: Budget | None, shadow: Shadow | None) -> dict[str, Any]:
    """Optional cameras that are blind, what was not sent for want of budget, and what the second model saw."""
    facts: dict[str, Any] = {"blind_cameras": numbers.blind}
    facts |= {"over_budget": budget.refused} if budget else {}
    return facts | ({"shadow": {"bundle": shadow.bundle_id, **shadow.seen}} if shadow else {})
