"""`haltline edge doctor`: what this machine really does with this configuration, measured, not believed."""

from __future__ import annotations

import os
import socket
import ssl
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from edge.bundle_store import read_shadow
from edge.cameras.framing import Framing
from edge.cameras.views import view_id
from edge.config import EdgeConfig, MqttConfig
from edge.line.connection import Connection, client_id
from edge.machine import int8_pays, machine
from edge.model_base import BundleModel
from edge.named_files import broker_context, unusable
from edge.site_policy import policy_for
from edge.wiring import load_model, open_camera
from inspection.errors import HaltlineError
from inspection.fitness import Fitness
from inspection.messages import AckEvent, Conn, Heartbeat, ModelDesired, Resume, Stop, Trigger
from inspection.station_messages import CameraTest
from inspection.types import Frame

__all__ = ["examine", "int8_pays", "machine", "report"]

INFERENCES = 30
HEARS = (Stop, Resume, Trigger, Heartbeat, Conn, AckEvent, CameraTest, ModelDesired)
"""What an edge with a hub subscribes to."""
LET_IN_S, LISTEN_S = 5.0, 2.5
"""A controller's heartbeat comes twice a second."""
REFUSAL_S = 1.0
"""A broker that does not take our certificate says so within this time of the handshake."""


def examine(config: EdgeConfig) -> dict[str, Any]:
    """Facts, each with what was found; `problems` lists what would keep this edge from running."""
    problems: list[str] = []
    facts: dict[str, Any] = {"machine": machine(), "problems": problems}
    model: BundleModel | None = None
    try:
        start = time.perf_counter()
        model = load_model(config)
        policy = policy_for(config.policy, model.manifest, config.cameras)
        facts["model"] = {
            "bundle": model.bundle_id,
            "asked_for": config.bundle.provider,
            "runs_on": model.provider,
            "runs_how": model.detail,
            "threads": config.bundle.threads,
            "golden_error": round(model.golden_error, 6),
            "load_s": round(time.perf_counter() - start, 2),
            "policy": policy.id,
        }
        if shadow := read_shadow(config, model.manifest):
            facts["shadow"] = shadow.manifest.id
    except HaltlineError as e:
        problems.append(str(e))
    facts["cameras"] = [_camera(camera, config.state_dir, model, problems) for camera in config.cameras]
    unread = list(unusable(config))
    problems += map(str, unread)
    if problem := _cannot_write(config.state_dir):
        problems.append(problem)
    if any(e.where.startswith("mqtt.tls.") for e in unread):
        facts["broker"] = "not asked: see mqtt.tls below"
    else:
        count = len(problems)
        facts["broker"] = _broker(config.mqtt, problems)
        if len(problems) == count:
            facts["rights"] = _rights(config, problems)
    facts["ok"] = not problems
    return facts


def _camera(config: Any, state_dir: Path, model: BundleModel | None, problems: list[str]) -> dict[str, Any]:
    facts: dict[str, Any] = {"name": config.name, "type": config.type}
    try:
        camera = open_camera(config)
        try:
            frame = camera.read()
            if frame is None:
                raise HaltlineError(f"{config.name} gave no frame")
            facts["frame"] = f"{frame.image.shape[1]}x{frame.image.shape[0]}"
            for seen in Framing(config).frames(frame):
                of = "" if seen.camera == config.name else f" {seen.camera}"
                facts[f"px_per_mm{of}"] = round(seen.px_per_mm, 3)
                facts[f"fit_to_judge{of}"] = Fitness(config.fitness).check(seen.image) or "yes"
                facts[f"reference_view{of}"] = view_id(state_dir, seen.camera)
                frame = seen
            if model:
                facts |= _inferences(model, frame)
        finally:
            camera.close()
    except HaltlineError as e:
        problems.append(str(e))
    return facts


def _inferences(model: BundleModel, frame: Frame) -> dict[str, Any]:
    times, prediction = [], model.infer(frame)
    for _ in range(INFERENCES):
        start = time.perf_counter_ns()
        prediction = model.infer(frame)
        times.append((time.perf_counter_ns() - start) / 1e6)
    return {
        "inference_ms_p50": round(statistics.median(times), 2),
        "inference_ms_max": round(max(times), 2),
        "scores": {cls: round(score, 4) for cls, score in prediction.scores.items()},
    }


def _broker(config: MqttConfig, problems: list[str]) -> str:
    """Connects and, with TLS, shakes hands as the edge would."""
    where, answers = f"{config.host}:{config.port}", False
    try:
        with socket.create_connection((config.host, config.port), timeout=2) as plain:
            answers = True
            if config.tls is None:
                return f"{where} answers"
            with broker_context(config.tls).wrap_socket(plain, server_hostname=config.host) as sock:
                _taken(sock)
                return f"{where} answers, {sock.version()}"
    except OSError as e:
        what = getattr(e, "verify_message", "") or e.strerror or str(e)
        problems.append(f"broker {where}: {'TLS: ' if answers else ''}{what}")
        return f"{where} {'refuses TLS' if answers else 'does not answer'}"


def _taken(sock: ssl.SSLSocket) -> None:
    """In TLS 1.3 our side of the handshake is over before the broker has looked at our certificate: a refusal is the
    first thing to read. A broker that takes it says nothing, and waits for CONNECT."""
    sock.settimeout(REFUSAL_S)
    try:
        if not sock.recv(1):
            raise ConnectionAbortedError("the broker hung up after the handshake")
    except TimeoutError:
        return


def _rights(config: EdgeConfig, problems: list[str]) -> dict[str, str]:
    """Signs in as the edge does, under a name of its own, and subscribes to all that an edge hears; it sends nothing,
    so that the line hears nothing. An ACL file of Mosquitto takes every subscription and then delivers nothing: only
    what came is proven."""
    topics, mqtt = config.station.topics(), config.mqtt
    wanted = {topics.of(kind): kind.QOS for kind in HEARS if config.hub or kind is not AckEvent}
    connection = Connection(mqtt, client_id(topics, "doctor"))
    for topic, qos in wanted.items():
        connection.on(topic, qos, lambda _: None)
    connection.start()
    try:
        if not _within(LET_IN_S, connection.settled) or connection.away:
            why = connection.away or f"no answer within {LET_IN_S:g} s"
            problems.append(f"broker {mqtt.host}:{mqtt.port}: does not let this edge in: {why}")
            return {"let_in": "no"}
        _within(LISTEN_S, lambda: connection.heard >= wanted.keys())
    finally:
        connection.stop()
    refused = connection.refused
    problems += [f"broker {mqtt.host}:{mqtt.port}: does not let this edge {what}: {refused[what]}" for what in refused]
    silent = [topic for topic in wanted if topic not in connection.heard and f"hear {topic}" not in refused]
    return {
        "let_in": "yes",
        "heard": ", ".join(map(_end, sorted(connection.heard))) or "nothing",
        "not_proven": ", ".join(map(_end, silent)) + UNPROVEN if silent else "nothing",
    }


UNPROVEN = (
    ": nothing came of these. Stop line and Test camera at the hub, RESET at the controller, show whether the running "
    "edge hears them (mqtt_heard in /status.json)"
)


def _end(topic: str) -> str:
    return "/".join(topic.split("/")[-2:])


def _within(limit_s: float, condition: Callable[[], bool]) -> bool:
    end_s = time.monotonic() + limit_s
    while not condition():
        if time.monotonic() > end_s:
            return False
        time.sleep(0.02)
    return True


def _cannot_write(folder: Path) -> str:
    """Why there is no keeping anything in it; it is not made here, as it would belong to whoever asks."""
    there = folder
    try:
        while not there.exists():
            there = there.parent
        if there == folder:
            with tempfile.TemporaryFile(dir=folder):
                return ""
        if os.access(there, os.W_OK | os.X_OK) and there.is_dir():
            return ""
        why = f"is not there, and this user may not make it in {there}"
    except OSError as e:
        why = f"cannot be written: {e.strerror or e}"
    return f"state_dir: {folder} {why}\n  fix: give the user that runs the edge a folder it may write to"


def report(facts: dict[str, Any]) -> str:
    """The facts for people, a line each."""
    lines = []
    for section, content in facts.items():
        if section in ("problems", "ok"):
            continue
        if isinstance(content, dict):
            lines += [f"{section}.{key}: {value}" for key, value in content.items()]
        elif isinstance(content, list):
            lines += [f"{section}: " + ", ".join(f"{k} {v}" for k, v in item.items()) for item in content]
        else:
            lines.append(f"{section}: {content}")
    lines += [f"PROBLEM: {problem}" for problem in facts["problems"]]
    lines.append("ok" if facts["ok"] else "not ok")
    return "\n".join(lines)
