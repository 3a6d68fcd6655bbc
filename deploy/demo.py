"""`haltline demo`: broker, simulated line, edge and hub on this machine, until Ctrl+C. Nothing else is needed."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import threading
import time
import webbrowser
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import cv2
import typer

from deploy.broker import AmqttBroker, mosquitto_path, require_free, start_mosquitto, wait_for_port
from inspection.errors import ConfigError

MODELS = Path(__file__).resolve().parent.parent / "models"
STOP_S = 3.5
PR_SET_PDEATHSIG = 1

EDGE_YAML = """\
# Written by `haltline demo`; a plant's own file starts from deploy/edge.example.yaml.
station: {{site: demo, line: line1, station: {station}}}
cameras:
  - {camera}
bundle: {{path: {bundle}, threads: 2}}
# A desktop that also runs a browser may keep a process waiting; a plant's edge bears less silence (300 ms).
policy: {{k: 3, n: 5, audit_share: 0.01, max_silence_ms: 900, lease_ms: 900}}
state_dir: {state}
mqtt: {{host: 127.0.0.1, port: {mqtt_port}, protocol: "{protocol}"}}
hub: {{url: "http://127.0.0.1:{port}"}}
status: {{port: {status_port}}}
"""


def demo(
    camera: Annotated[str, typer.Option(help="A video file, a folder of pictures, or a device number.")] = "",
    task: Annotated[str, typer.Option(help="What is inspected: `weld` or `scratch`.")] = "weld",
    port: Annotated[int, typer.Option(min=1, max=65533, help="The pages; the panel is one above.")] = 8080,
    mqtt_port: Annotated[int, typer.Option(min=1, max=65535, help="The broker.")] = 1883,
    folder: Annotated[Path, typer.Option(help="Where it keeps its data.")] = Path(".demo"),
    px_per_mm: Annotated[float, typer.Option(help="Scale of your own camera; 0 = as the model was trained.")] = 0.0,
    broker: Annotated[str, typer.Option(help="`mosquitto`, `amqtt`, or `auto`.")] = "auto",
    browser: Annotated[bool, typer.Option(help="Open the page on a desktop.")] = True,
) -> None:
    """Run the whole loop on this machine: a simulated welding line stops at a defect, and you decide."""
    panel_port, status_port = port + 1, port + 2
    for number, option in ((port, "PORT="), (panel_port, "PORT="), (status_port, "PORT="), (mqtt_port, "MQTT_PORT=")):
        require_free(number, option)
    folder = folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    bundle = newest_bundle(task)
    scale = px_per_mm or _default_scale(bundle, camera)
    stop = _stop_on_signals()
    with ExitStack() as running:
        protocol = _start_broker(running, broker, mqtt_port, folder)
        config = folder / "edge.yaml"
        settings = EDGE_YAML.format(
            station=f"{task}1",
            camera=_camera_yaml(camera, task, scale),
            bundle=bundle,
            state=folder / "edge",
            port=port,
            mqtt_port=mqtt_port,
            status_port=status_port,
            protocol=protocol,
        )
        config.write_text(settings, encoding="utf-8")
        mqtt = ["--mqtt-port", str(mqtt_port)]
        panel = f"http://127.0.0.1:{panel_port}/"
        hub_mqtt = [*mqtt, "--mqtt-version", "5" if protocol == "5" else "3"]
        hub = ["review", "serve", "--data", str(folder / "hub"), "--port", str(port), *hub_mqtt, "--demo-people"]
        plc = ["plc-sim", "--station", f"{task}1", *mqtt, "--protocol", protocol, "--panel-port", str(panel_port)]
        children = [
            _start(running, [*hub, "--plc-panel-url", panel]),
            _start(running, [*plc, "--start"]),
            _start(running, ["edge", "run", str(config)]),
        ]
        wait_for_port(port, children[0], timeout_s=30)
        _welcome(port, panel, task, camera)
        if browser and _has_desktop():
            webbrowser.open(f"http://127.0.0.1:{port}/")
        _watch(children, stop)
    typer.echo("\nEverything has ended.")


def _start_broker(running: ExitStack, wanted: str, port: int, folder: Path) -> str:
    """Start a broker; the protocol version it speaks."""
    if wanted not in ("auto", "mosquitto", "amqtt"):
        raise ConfigError("--broker", f"{wanted!r} is unknown", "mosquitto, amqtt or auto")
    if wanted == "mosquitto" or (wanted == "auto" and mosquitto_path()):
        child = start_mosquitto(port, folder)
        running.callback(_end, child)
        return "5"
    typer.echo(
        "Mosquitto is not installed: using amqtt inside this process, which is fine for a demo and nothing else."
    )
    broker = AmqttBroker(port)
    running.callback(broker.close)
    return "3.1.1"


def newest_bundle(task: str) -> Path:
    """The released bundle of a task with the highest version."""
    found = [path for path in MODELS.glob(f"{task}-[0-9]*") if (path / "manifest.json").is_file()]
    if not found:
        tasks = sorted({path.parent.name.rsplit("-", 1)[0] for path in MODELS.glob("*-*/manifest.json")})
        raise ConfigError("--task", f"models/ has no bundle for {task!r}", f"use one of {', '.join(tasks)}")
    return max(found, key=lambda path: [int(n) for n in path.name.rsplit("-", 1)[1].split(".")])


def _default_scale(bundle: Path, camera: str) -> float:
    """px per mm of the frame, so that at the model's input it comes out as trained; nobody measured this camera."""
    from inspection.bundle import parse_manifest
    from inspection.model_io import fit

    spec = parse_manifest((bundle / "manifest.json").read_bytes()).input
    if not camera:
        return spec.px_per_mm / fit(640, 512, spec).scale
    width, height = _frame_size(camera)
    return round(spec.px_per_mm / fit(width, height, spec).scale, 3)


def _frame_size(camera: str) -> tuple[int, int]:
    path = Path(camera)
    if path.is_dir():
        for picture in sorted(path.iterdir()):
            image = cv2.imread(str(picture))
            if image is not None:
                return image.shape[1], image.shape[0]
        raise ConfigError("CAMERA", f"{camera} holds no picture", "name a folder of PNG or JPEG files")
    if not path.is_file() and not camera.isdigit():
        raise ConfigError(
            "CAMERA", f"{camera!r} is no file, folder or device number", "e.g. CAMERA=clip.mp4 or CAMERA=0"
        )
    video = cv2.VideoCapture(int(camera) if camera.isdigit() else camera)
    try:
        size = int(video.get(cv2.CAP_PROP_FRAME_WIDTH)), int(video.get(cv2.CAP_PROP_FRAME_HEIGHT))
    finally:
        video.release()
    if min(size) <= 0:
        raise ConfigError(
            "CAMERA", f"OpenCV cannot open {camera!r}", "check the file, or that the camera is plugged in"
        )
    return size


def _camera_yaml(camera: str, task: str, px_per_mm: float) -> str:
    if not camera:
        return f"{{name: cam1, type: simulated, source: {task}, px_per_mm: {px_per_mm}, defect_every_s: 24}}"
    path = Path(camera)
    if camera.isdigit():
        return f'{{name: cam1, type: opencv, source: "{camera}", px_per_mm: {px_per_mm}}}'
    kind = "folder" if path.is_dir() else "video"
    return f'{{name: cam1, type: {kind}, source: "{path.resolve()}", fps: 10, px_per_mm: {px_per_mm}}}'


def _start(running: ExitStack, args: list[str]) -> subprocess.Popen[bytes]:
    """A part as its own process and session: Ctrl+C reaches this one only, which then ends the others in order."""
    child = subprocess.Popen(
        [sys.executable, "-m", "haltline", *args],
        start_new_session=True,
        preexec_fn=_die_with_parent,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    running.callback(_end, child)
    return child


def _die_with_parent() -> None:
    """Even if this process is killed the hard way, no part of the demo stays behind (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
        try:
            child.wait(timeout=STOP_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


def _watch(children: list[subprocess.Popen[bytes]], stop: threading.Event) -> None:
    while not stop.wait(0.2):
        for child in children:
            if (code := child.poll()) is not None:
                typer.echo(f"A part of the demo ended by itself (exit code {code}); see its message above.")
                raise typer.Exit(1)
    # All at once: one after the other they might need longer than a person waits.
    for child in children:
        if child.poll() is None:
            child.terminate()
    end = time.monotonic() + STOP_S
    while time.monotonic() < end and any(child.poll() is None for child in children):
        time.sleep(0.05)
    for child in children:
        if child.poll() is None:  # a busy machine: what is on disk survives this, and a person does not wait
            child.kill()


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop


def _has_desktop() -> bool:
    return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))


def _welcome(port: int, panel: str, task: str, camera: str) -> None:
    what = f"your camera {camera}" if camera else f"a simulated {task} line"
    first = "Show it a defect" if camera else "A defect comes by within half a minute"
    typer.echo(f"""
  Haltline is watching {what}:   http://127.0.0.1:{port}
  The line's own panel (RESET, START):       {panel}

  {first}; the line stops and latches. On the page: acknowledge, give a verdict, reset.
  Then press START at the panel. Ctrl+C ends everything.
""")
