"""A broker for one machine: Mosquitto with the configuration we ship, else amqtt inside this process (demo only)."""

from __future__ import annotations

import asyncio
import ctypes
import logging
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

from inspection.errors import ConfigError, LineError

PR_SET_PDEATHSIG = 1
CONF = Path(__file__).parent / "mosquitto" / "haltline.conf"


def mosquitto_path() -> str | None:
    """Debian puts it into /usr/sbin, which is not on everybody's PATH."""
    return shutil.which("mosquitto") or shutil.which("mosquitto", path="/usr/sbin:/usr/local/sbin")


def mosquitto_conf(port: int) -> str:
    """The shipped configuration, listening on this port of the loopback."""
    text = CONF.read_text(encoding="utf-8")
    shipped = "listener 1883 127.0.0.1"
    if shipped not in text:
        raise LineError(f"{CONF} no longer has the line {shipped!r}")
    # As root Mosquitto would change to a user that cannot read a private folder.
    return text.replace(shipped, f"listener {port} 127.0.0.1") + "\nuser root\n"


def start_mosquitto(port: int, folder: Path) -> subprocess.Popen[bytes]:
    """Mosquitto as a child, once it answers."""
    path = mosquitto_path()
    if path is None:
        raise LineError("mosquitto is not installed\n  fix: apt-get install mosquitto")
    conf = folder / f"mosquitto-{port}.conf"
    conf.write_text(mosquitto_conf(port), encoding="utf-8")
    child = subprocess.Popen([path, "-c", str(conf)], start_new_session=True, preexec_fn=die_with_parent)
    wait_for_port(port, child)
    return child


def die_with_parent(number: int = signal.SIGTERM) -> None:
    """To be called in a child: it gets this signal when its parent ends, also when that is killed (Linux)."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, number)


def wait_for_port(port: int, child: subprocess.Popen[bytes] | None = None, timeout_s: float = 10) -> None:
    end = time.monotonic() + timeout_s
    while time.monotonic() < end:
        if child is not None and child.poll() is not None:
            raise LineError(f"{child.args!r} ended with {child.returncode}")
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1):
                return
        except OSError:
            time.sleep(0.02)
    raise LineError(f"nothing answers on 127.0.0.1:{port} after {timeout_s} s")


def free_port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def require_free(port: int, option: str) -> None:
    """ConfigError when somebody listens there already."""
    with socket.socket() as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            s.bind(("127.0.0.1", port))
        except OSError as e:
            raise ConfigError(f"127.0.0.1:{port}", e.strerror or str(e), f"choose another port with {option}") from e


class AmqttBroker:
    """amqtt on a thread: good for a demo on one machine, never for a line (MQTT 3.1.1 only, keepalive not enforced)."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._stop: asyncio.Event | None = None
        self._failed: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="amqtt", daemon=True)
        self._thread.start()
        wait_for_port(port)

    def close(self) -> None:
        if self._stop is not None:
            self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(timeout=3)

    def _work(self) -> None:
        logging.getLogger("amqtt").setLevel(logging.ERROR)
        logging.getLogger("transitions").setLevel(logging.ERROR)
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as e:
            sys.stderr.write(f"amqtt: {e}\n")

    async def _serve(self) -> None:
        from amqtt.broker import Broker

        config = {
            "listeners": {"default": {"type": "tcp", "bind": f"127.0.0.1:{self._port}"}},
            "plugins": {"amqtt.plugins.authentication.AnonymousAuthPlugin": {"allow_anonymous": True}},
        }
        broker = Broker(config)
        self._stop = asyncio.Event()
        await broker.start()
        await self._stop.wait()
        await broker.shutdown()
