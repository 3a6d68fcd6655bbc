"""compose.yaml without containers: the same processes with the same arguments, certificates, ACL and configuration.

Only paths, host names and ports differ. What is left untested is the images themselves.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from benchmarks.station import end, wait_for
from deploy.broker import mosquitto_path, wait_for_port
from tests.conftest import free_port, missing

pytestmark = [pytest.mark.broker, pytest.mark.slow]
ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
SERVICES: dict[str, Any] = YAML(typ="safe").load((DEPLOY / "compose.yaml").read_text())["services"]
TOKEN = "a-token-for-the-test"


class Stack:
    """The services as processes, their logs in `folder`."""

    def __init__(self, folder: Path, running: ExitStack) -> None:
        self.folder, self.running = folder, running
        self.broker, self.hub, self.panel = free_port(), free_port(), free_port()
        (folder / "token").write_text(TOKEN)

    def here(self, text: str) -> str:
        places = {
            "/etc/haltline/tls": str(self.folder / "tls"),
            "/etc/haltline/mosquitto": str(DEPLOY / "mosquitto"),
            "/opt/haltline/models": str(ROOT / "models"),
            "/run/secrets/edge_token": str(self.folder / "token"),
            "http://hub:8080": f"http://127.0.0.1:{self.hub}",
            "listener 8883": f"listener {self.broker} 127.0.0.1",
            "port: 8883": f"port: {self.broker}",
            "host: broker": "host: localhost",
        }
        for there, place in places.items():
            text = text.replace(there, place)
        return text

    def start(self, name: str, args: list[str]) -> None:
        log = self.running.enter_context((self.folder / f"{name}.log").open("wb"))
        env = {**os.environ, "PYTHONUNBUFFERED": "1", "HALTLINE_EDGE_TOKEN": TOKEN, "PYTHONPATH": str(ROOT)}
        child = subprocess.Popen(args, cwd=self.folder, stdout=log, stderr=log, env=env)
        self.running.callback(end, child)

    def haltline(self, name: str, words: list[str], **ports: int) -> None:
        words = [self.here(word) for word in words]
        for option, value in {"--mqtt-host": "localhost", "--mqtt-port": str(self.broker)}.items():
            if option in words:
                words[words.index(option) + 1] = value
        for option, port in ports.items():
            words += [f"--{option.replace('_', '-')}", str(port)]
        self.start(name, [sys.executable, "-m", "haltline", *words])

    def get(self, port: int, path: str, post: bool = False) -> Any:
        request = urllib.request.Request(f"http://127.0.0.1:{port}{path}", method="POST" if post else "GET")
        try:
            with urllib.request.urlopen(request, timeout=2) as answer:
                return json.loads(answer.read())
        except (urllib.error.URLError, TimeoutError, ConnectionError):
            return None


@pytest.fixture
def stack(tmp_path: Path) -> Iterator[Stack]:
    binary = mosquitto_path()
    if binary is None:
        missing("mosquitto")
    with ExitStack() as running:
        it = Stack(tmp_path, running)
        script = SERVICES["certificates"]["command"][0]
        make = re.search(r"python -m (deploy\.certificates) (/tls .*?)\n\s*chgrp", script, re.DOTALL)
        assert make
        words = shlex.split(make[2].replace("\\\n", " ").replace("/tls", str(tmp_path / "tls")))
        subprocess.run([sys.executable, "-m", make[1], *words], cwd=ROOT, check=True, timeout=60)
        conf = it.here((DEPLOY / "mosquitto" / "plant.conf").read_text())
        (tmp_path / "plant.conf").write_text(f"{conf}\nuser root\n")
        it.start("broker", [str(binary), "-c", str(tmp_path / "plant.conf")])
        wait_for_port(it.broker)
        yield it


def test_a_defect_of_the_simulated_seam_stops_the_line_and_reaches_the_hub(stack: Stack) -> None:
    config = stack.here((DEPLOY / "edge.compose.yaml").read_text()).replace("defect_every_s: 24", "defect_every_s: 6")
    state = stack.folder / "state"
    config = config.replace("state_dir: /var/lib/haltline", f"state_dir: {state}\nstatus: {{port: {free_port()}}}")
    (stack.folder / "edge.yaml").write_text(config)
    hub = [word.replace("/var/lib/haltline", str(stack.folder / "hub")) for word in SERVICES["hub"]["command"]]
    hub[hub.index("--host") + 1] = "127.0.0.1"
    stack.haltline("hub", hub, port=stack.hub)
    panel = list(SERVICES["plc-sim"]["command"])
    panel[panel.index("--panel-host") + 1] = "127.0.0.1"
    stack.haltline("plc-sim", panel, panel_port=stack.panel)
    stack.haltline("edge", ["edge", "run", str(stack.folder / "edge.yaml")])

    wait_for(lambda: stack.get(stack.hub, "/healthz"), 60, "the hub, connected over TLS")
    wait_for(lambda: (stack.get(stack.panel, "/start", post=True) or {}).get("done"), 60, "a good permit and START")
    halted = wait_for(lambda: (s := stack.get(stack.panel, "/state")) and s["halt"] and s, 90, "a halt")
    assert halted["state"] == "TRIPPED"
    halts = wait_for(lambda: stack.get(stack.hub, "/api/halts"), 30, "the halt at the hub")
    assert str(halted["halt"]) in json.dumps(halts)
    pictures = stack.folder / "hub" / "frames"
    wait_for(lambda: any(p.is_file() for p in pictures.rglob("*")), 30, "the evidence, uploaded with the token")
    for part in ("edge", "plc-sim", "hub"):
        assert "message refused" not in (stack.folder / f"{part}.log").read_text(), part
