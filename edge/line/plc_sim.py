"""`haltline plc-sim`: the watchdog of the line contract on a real MQTT connection, with a machine's own panel.

The reference for PLC programs, the other end of the demo, and what every test that asserts a stop looks at. The
panel's START is the only way to run; it stands for the physical button, so the web pages do not have it.
"""

from __future__ import annotations

import json
import os
import secrets
import threading
import time
from collections import deque
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog

from edge.config import MqttConfig
from edge.line.connection import Connection, Received, client_id
from edge.line.plc_panel import PANEL_HTML
from inspection.errors import ConfigError, MessageError
from inspection.messages import PERMIT_PERIOD_MS, Heartbeat, Permit, PlcState, Resume, Topics
from inspection.watchdog import Line, Watchdog, WatchdogLimits

log = structlog.get_logger()

TICK_S = 0.005


class PlcSim:
    """One simulated line. `transitions` keeps (monotonic ns, state, why) of the last 1000 changes."""

    def __init__(self, config: MqttConfig, topics: Topics, limits: WatchdogLimits) -> None:
        self.topics = topics
        self.transitions: deque[tuple[int, str, str]] = deque(maxlen=1000)
        self._lock = threading.Lock()
        # A random first count: a permit from before this start then echoes a count that is far off.
        self._dog = Watchdog(limits, secrets.randbelow(2**32))
        self._published = ""
        self._closing = threading.Event()
        self.connection = Connection(config, client_id(topics, "plc", str(os.getpid())))
        self.connection.on(topics.of(Permit), 0, self._on_permit)
        self.connection.on_up(self._say_again)
        self._threads = [
            threading.Thread(target=self._beat, name="plc-heartbeat", daemon=True),
            threading.Thread(target=self._watch, name="plc-watchdog", daemon=True),
        ]

    def start(self) -> None:
        self.connection.start()
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._closing.set()
        self.connection.stop()

    def press_start(self) -> bool:
        """The START button: honoured only while the permit is good, never stored."""
        with self._lock:
            started = self._dog.start(time.monotonic_ns())
            self._note()
        self._say()
        return started

    def press_reset(self, who: str = "panel") -> bool:
        """The RESET button: asks the edge to end the open halt. False when no halt is open."""
        permit = self.newest
        if permit is None or permit.halt == 0:
            return False
        nonce = secrets.token_hex(8)
        resume = Resume(halt=permit.halt, who=who, nonce=nonce, boot=permit.boot, seq=permit.seq, why="reset at panel")
        self.connection.publish(self.topics.of(Resume), resume.encode(), qos=1, expiry_s=Resume.EXPIRY_S)
        return True

    @property
    def newest(self) -> Permit | None:
        """The newest permit that arrived, by boot and seq."""
        with self._lock:
            return self._dog.newest

    def view(self) -> dict[str, Any]:
        with self._lock:
            permit = self._dog.newest
            return {
                "state": self._state(time.monotonic_ns()),
                "why": self._dog.why,
                "run": permit.run if permit else 0,
                "code": permit.code if permit else -1,
                "halt": permit.halt if permit else 0,
                "seq": permit.seq if permit else 0,
                "broker": self.connection.connected,
            }

    # ── threads ─────────────────────────────────────────────────────────────────────────────────────────────────

    def _on_permit(self, received: Received) -> None:
        now_ns = time.monotonic_ns()
        try:
            permit = Permit.decode(received.payload)
        except MessageError:
            with self._lock:
                self._dog.unreadable(now_ns)
                self._note()
            raise
        with self._lock:
            self._dog.permit(now_ns, permit, retained=received.retained)
            self._note()
        self._say()

    def _beat(self) -> None:
        while not self._closing.wait(PERMIT_PERIOD_MS / 1000):
            with self._lock:
                n = self._dog.beat()
            self.connection.publish(self.topics.of(Heartbeat), Heartbeat(n=n).encode(), expiry_s=Heartbeat.EXPIRY_S)
            self.connection.supervise()

    def _watch(self) -> None:
        while not self._closing.wait(TICK_S):
            with self._lock:
                self._dog.tick(time.monotonic_ns())
                self._note()
            self._say()

    def _state(self, now_ns: int) -> str:
        if self._dog.line is Line.RUNNING:
            return "RUNNING"
        return "READY" if self._dog.ready(now_ns) else "TRIPPED"

    def _note(self) -> None:
        """Keep a change of state, with its time; the lock is held."""
        now_ns = time.monotonic_ns()
        state = self._state(now_ns)
        if not self.transitions or self.transitions[-1][1] != state:
            self.transitions.append((now_ns, state, self._dog.why))

    def _say(self) -> None:
        """Tell the pages, when something changed. For people only; nothing waits for it."""
        with self._lock:
            state, why = self._state(time.monotonic_ns()), self._dog.why
            if f"{state}{why}" == self._published:
                return
            self._published = f"{state}{why}"
        log.info("line", state=state, why=why)
        message = PlcState.model_validate({"state": state, "why": why, "ts_ms": time.time_ns() // 1_000_000})
        self.connection.publish(self.topics.of(PlcState), message.encode(), qos=1, retain=True)

    def _say_again(self) -> None:
        with self._lock:
            self._published = ""
        self._say()


def serve_panel(plc: PlcSim, host: str, port: int) -> ThreadingHTTPServer:
    """The machine's panel as a small page: a lamp, the reason, RESET and START."""

    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            if self.path == "/state":
                self._answer("application/json", json.dumps(plc.view()).encode())
            elif self.path == "/transitions":
                self._answer("application/json", json.dumps(list(plc.transitions)).encode())
            elif self.path == "/":
                self._answer("text/html; charset=utf-8", PANEL_HTML)
            else:
                self.send_error(404)

        def do_POST(self) -> None:
            done = {"/start": plc.press_start, "/reset": plc.press_reset}.get(self.path)
            if done is None:
                self.send_error(404)
                return
            self._answer("application/json", json.dumps({"done": done(), **plc.view()}).encode())

        def _answer(self, kind: str, body: bytes) -> None:
            self.send_response(200)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """A panel polls; that is no news."""

    try:
        server = ThreadingHTTPServer((host, port), Handler)
    except OSError as e:
        raise ConfigError(f"{host}:{port}", e.strerror or str(e), "choose another --panel-host or --panel-port") from e
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, name="panel", daemon=True).start()
    return server
