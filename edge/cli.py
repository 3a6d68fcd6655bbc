"""`haltline edge …` and `haltline plc-sim`."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Annotated

import typer

from edge.calibrate import calibrate, learn_view
from edge.replay_command import replay
from inspection.log import LastingStderr, set_up_logging

app = typer.Typer(no_args_is_help=True, add_completion=False, help="Watch a camera, judge each frame, stop the line.")

ConfigPath = Annotated[Path, typer.Argument(help="The edge's configuration, e.g. deploy/edge.example.yaml.")]


@app.command()
def run(
    config: ConfigPath,
    log_format: Annotated[str, typer.Option(help="`console` for people, `json` for machines.")] = "console",
    record: Annotated[Path | None, typer.Option(help="Write every event and answer here (docs/replay.md).")] = None,
    record_frames: Annotated[Path | None, typer.Option(help="A folder for every picture as well.")] = None,
    record_mb: Annotated[int, typer.Option(min=1, help="Most that the recording, and the pictures, may hold.")] = 256,
) -> None:
    """Run an edge until SIGTERM or Ctrl+C. Exits with 1 when the frame path dies, so that a supervisor restarts it."""
    from edge.config_file import load
    from edge.systemd import Supervisor
    from edge.tape import TapeConfig
    from edge.wiring import build

    set_up_logging(log_format)
    if sys.stderr is not None:  # as where a service was given none
        sys.stderr = LastingStderr(sys.stderr)
    stop = _stop_on_signals()
    edge = build(load(config), TapeConfig(record, record_mb, record_frames) if record else None)
    # Removed so that no child, a camera's reader for one, speaks in our name.
    orderly = edge.run(stop, Supervisor(os.environ.pop("NOTIFY_SOCKET", None)))
    # What must last has been written. The interpreter would wait for whoever still asks for a hub or a broker of a
    # network that is cut, up to 20 s for a name server, and a supervisor would kill it.
    os._exit(0 if orderly else 1)


@app.command()
def check(config: ConfigPath) -> None:
    """Say whether a configuration is right; a mistake is named with line, key, value and fix (exit code 2). Ask as the
    user that runs the edge: whether its files can be read depends on who asks."""
    from edge.bundle_store import read_bundle, read_shadow
    from edge.config_file import check_files, load
    from edge.site_policy import policy_for

    settings = load(config)
    check_files(config, settings)
    bundle = read_bundle(settings.bundle.path, settings.bundle.trusted_keys)
    policy = policy_for(settings.policy, bundle.manifest, settings.cameras)
    if shadow := read_shadow(settings, bundle.manifest):
        policy_for(settings.policy, shadow.manifest, settings.cameras)
    cameras = ", ".join(f"{camera.name} ({camera.type})" for camera in settings.cameras)
    typer.echo(
        f"{config} is right: {settings.station.topics().base}, {cameras}, {bundle.manifest.id}, policy {policy.id}"
    )
    for rule in policy.classes:
        if test := rule.cusum:
            typer.echo(
                f"{rule.cls}: halts at {test.h:.2f} nats, after {test.worst_delay_frames} frames at the earliest"
            )
    if any(rule.cusum and rule.cusum.thin == 1 for rule in policy.classes):
        typer.echo("thin 1 takes frames for independent: measure it with `haltline edge replay --estimate`")


@app.command()
def maintenance(
    config: ConfigPath,
    who: Annotated[str, typer.Option(help="Who works at the station; stands in the records.")],
    minutes: Annotated[float, typer.Option(help="For so long; 0 ends it.")] = 30,
) -> None:
    """Withdraw the permit while somebody works at the station. The line runs again on fresh frames and START only."""
    from edge.config_file import load
    from edge.maintenance import order

    order(load(config).state_dir, minutes, who)
    typer.echo(f"no permit for {minutes:g} min" if minutes else "maintenance is over")


app.command()(calibrate)
app.command()(learn_view)
app.command()(replay)


@app.command()
def doctor(
    config: ConfigPath,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Open the camera, load the bundle, run real inferences, and print what it really runs on. Touches no line."""
    from edge.config_file import load
    from edge.doctor import examine, report

    set_up_logging("console")
    facts = examine(load(config))
    typer.echo(json.dumps(facts, indent=1) if as_json else report(facts))
    if not facts["ok"]:
        raise typer.Exit(1)


def plc_sim(
    site: Annotated[str, typer.Option(help="First level of the topics.")] = "demo",
    line: Annotated[str, typer.Option(help="Second level.")] = "line1",
    station: Annotated[str, typer.Option(help="Third level.")] = "weld1",
    mqtt_host: Annotated[str, typer.Option(help="The broker.")] = "127.0.0.1",
    mqtt_port: Annotated[int, typer.Option(help="Its port; 8883 with TLS.")] = 1883,
    protocol: Annotated[str, typer.Option(help="MQTT version, `5` or `3.1.1`.")] = "5",
    watchdog_ms: Annotated[int, typer.Option(min=500, max=5000, help="Longest time between valid permits.")] = 1000,
    ca: Annotated[Path | None, typer.Option(help="The broker's CA certificate (PEM); switches TLS on.")] = None,
    cert: Annotated[Path | None, typer.Option(help="The controller's own certificate (PEM).")] = None,
    key: Annotated[Path | None, typer.Option(help="Its key (PEM).")] = None,
    panel_host: Annotated[str, typer.Option(help="Address of the panel; whoever reaches it can start.")] = "127.0.0.1",
    panel_port: Annotated[
        int, typer.Option(min=0, max=65535, help="Serve the panel with RESET and START here; 0 = none.")
    ] = 8081,
    start: Annotated[bool, typer.Option("--start", help="Press START once, as soon as the permit is good.")] = False,
) -> None:
    """Simulate the line's controller: run only on a fresh permit, otherwise trip and latch (deploy/plc is its twin)."""
    from pydantic import ValidationError

    from edge.config import MqttConfig
    from edge.line.plc_sim import PlcSim, serve_panel
    from inspection.errors import ConfigError
    from inspection.messages import Topics
    from inspection.watchdog import WatchdogLimits

    set_up_logging("console")
    stop = _stop_on_signals()
    if ca is None and (cert or key):
        raise ConfigError("--cert, --key", "need --ca", "name the broker's CA certificate as well")
    tls = {"ca": ca, "cert": cert, "key": key} if ca else None
    try:
        mqtt = MqttConfig.model_validate({"host": mqtt_host, "port": mqtt_port, "protocol": protocol, "tls": tls})
    except ValidationError as e:
        first = e.errors()[0]
        option = OPTIONS.get(str(first["loc"][0]), "--ca, --cert, --key")
        raise ConfigError(option, first["msg"], "haltline plc-sim --help lists what it takes") from e
    plc = PlcSim(mqtt, Topics(site, line, station), WatchdogLimits(watchdog_ms=watchdog_ms))
    panel = serve_panel(plc, panel_host, panel_port) if panel_port else None
    plc.start()
    while not stop.wait(0.1):
        if start and plc.press_start():
            start = False
    plc.close()
    if panel:
        panel.shutdown()


OPTIONS = {"host": "--mqtt-host", "port": "--mqtt-port", "protocol": "--protocol"}
"""Of `plc-sim`, for the fields of its MqttConfig."""


def _stop_on_signals() -> threading.Event:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    return stop
