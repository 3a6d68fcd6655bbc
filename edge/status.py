"""Health, metrics and a snapshot over HTTP, for people and monitors beside the machine."""

from __future__ import annotations

import errno
import json
import sys
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from edge.config import LiveConfig, StatusConfig
from edge.live import picture_of
from edge.recorder import Numbers
from inspection.errors import ConfigError, HaltlineError

log = structlog.get_logger()

AT_A_TIME = 16
Facts = Callable[[], dict[str, Any]]


class StatusServer:
    """`/healthz` 200 while the permit may be given, 503 otherwise; `/status.json`, `/metrics`, `/snapshot.jpg`."""

    def __init__(self, config: StatusConfig, numbers: Numbers, facts: Facts) -> None:
        self._server: ThreadingHTTPServer | None = None
        if config.port == 0:
            return
        registry = CollectorRegistry()
        registry.register(_Collector(numbers, facts))
        try:
            self._server = _FewAtATime((config.host, config.port), _handler(numbers, facts, registry))
        except OSError as e:
            where, why = f"{config.host}:{config.port}", e.strerror or str(e)
            if e.errno in (errno.EADDRINUSE, errno.EACCES):
                raise ConfigError(where, why, "set another status.port") from e
            # A machine that has just started may not have its address yet, and systemd tries again after any end but 2.
            raise HaltlineError(f"{where}: {why}\n  fix: set status.host to an address of this machine") from e
        self._server.daemon_threads = True

    def start(self) -> None:
        if self._server:
            threading.Thread(target=self._server.serve_forever, name="status", daemon=True).start()

    def close(self) -> None:
        if self._server:
            self._server.shutdown()
            self._server.server_close()


class _FewAtATime(ThreadingHTTPServer):
    """Who asks and never ends, a monitor that leaks or a scanner, must not take every descriptor: no camera could be
    opened then and nothing be written, and the server, which finds none for the next one, would take a whole core."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self._places = threading.BoundedSemaphore(AT_A_TIME)

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A monitor that hung up before its answer is no news; the server would print a traceback, into a log that may
        be JSON."""
        error = sys.exception()
        if not isinstance(error, OSError):
            log.error("a question to the health page failed", of=client_address, exc_info=error)


def summary(numbers: Numbers, facts: Facts) -> dict[str, Any]:
    permit = numbers.permit
    age_ms = (time.monotonic_ns() - permit.judged_ns) / 1e6 if permit else -1.0
    return {
        "state": numbers.state,
        "why": numbers.why,
        "run": bool(permit and permit.run and permit.good_until_ns > time.monotonic_ns()),
        "halt": permit.halt if permit else 0,
        "judged_age_ms": round(age_ms, 1),
        "inference_ms": numbers.inference_ms,
        "frames": dict(numbers.calls),
        "lost_frames": numbers.lost_frames,
        "halts": numbers.halts,
        **facts(),
    }


class _Collector(Collector):
    def __init__(self, numbers: Numbers, facts: Facts) -> None:
        self._numbers, self._facts = numbers, facts

    def collect(self) -> list[Metric]:
        now = summary(self._numbers, self._facts)
        frames = CounterMetricFamily("haltline_frames", "Frames by what became of them", labels=["outcome"])
        for outcome, count in self._numbers.calls.items():
            frames.add_metric([outcome], count)
        spool = GaugeMetricFamily("haltline_spool", "Items of the outbox", labels=["what"])
        for what, count in now.get("spool", {}).items():
            spool.add_metric([what], count)
        return [
            frames,
            spool,
            GaugeMetricFamily("haltline_permit", "1 = the line may run", value=int(now["run"])),
            GaugeMetricFamily("haltline_judged_age_ms", "Age of the newest judged frame", value=now["judged_age_ms"]),
            GaugeMetricFamily("haltline_inference_ms", "Inference of the last frame", value=now["inference_ms"]),
            CounterMetricFamily("haltline_lost_frames", "Frames numbered but never seen", value=now["lost_frames"]),
            CounterMetricFamily("haltline_halts", "Halts raised since start", value=now["halts"]),
        ]


def _handler(numbers: Numbers, facts: Facts, registry: CollectorRegistry) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        timeout = 5

        def do_GET(self) -> None:
            if self.path == "/healthz":
                now = summary(numbers, facts)
                self._answer(200 if now["run"] else 503, "application/json", json.dumps(now).encode())
            elif self.path == "/status.json":
                self._answer(200, "application/json", json.dumps(summary(numbers, facts), indent=1).encode())
            elif self.path == "/metrics":
                self._answer(200, "text/plain; version=0.0.4", generate_latest(registry))
            elif self.path == "/snapshot.jpg" and numbers.last and numbers.last.frame:
                self._answer(200, "image/jpeg", picture_of(numbers.last.frame, "", LiveConfig()).jpeg)
            else:
                self._answer(404, "text/plain", b"/healthz /status.json /metrics /snapshot.jpg\n")

        def _answer(self, code: int, kind: str, body: bytes) -> None:
            self.send_response(code)
            self.send_header("content-type", kind)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Requests of monitors are no news."""

    return Handler
