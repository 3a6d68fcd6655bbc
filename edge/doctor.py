"""`haltline edge doctor`: what this machine really does with this configuration, measured, not believed."""

from __future__ import annotations

import socket
import statistics
import time
from pathlib import Path
from typing import Any

from edge.cameras.framing import Framing
from edge.cameras.views import view_id
from edge.config import EdgeConfig
from edge.machine import int8_pays, machine
from edge.model_base import BundleModel
from edge.site_policy import policy_for
from edge.wiring import load_model, open_camera
from inspection.errors import HaltlineError
from inspection.fitness import Fitness
from inspection.types import Frame

__all__ = ["examine", "int8_pays", "machine", "report"]

INFERENCES = 30


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
    except HaltlineError as e:
        problems.append(str(e))
    facts["cameras"] = [_camera(camera, config.state_dir, model, problems) for camera in config.cameras]
    facts["broker"] = _reach("broker", config.mqtt.host, config.mqtt.port, problems)
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


def _reach(what: str, host: str, port: int, problems: list[str]) -> str:
    try:
        with socket.create_connection((host, port), timeout=2):
            return f"{host}:{port} answers"
    except OSError as e:
        problems.append(f"{what} {host}:{port}: {e.strerror or e}")
        return f"{host}:{port} does not answer"


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
