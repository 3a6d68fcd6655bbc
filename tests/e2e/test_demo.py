"""The main job as a newcomer meets it: `haltline demo`, a halt on the page, two decisions, the line runs again."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest
from playwright.sync_api import Page, expect, sync_playwright

from deploy.broker import free_port, mosquitto_path
from tests.conftest import missing

pytestmark = [pytest.mark.browser, pytest.mark.slow]


class Demo:
    def __init__(self, folder: Path, *more: str) -> None:
        self.port, self.mqtt_port = _three_free_ports(), free_port()
        self.log = folder / "demo.log"
        args = ["--port", str(self.port), "--mqtt-port", str(self.mqtt_port), "--folder", str(folder / "data")]
        with self.log.open("wb") as log:
            command = [sys.executable, "-m", "haltline", "demo", "--no-browser", *args, *more]
            self.process = subprocess.Popen(command, stdout=log, stderr=log, start_new_session=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def panel(self) -> dict[str, object]:
        answer: dict[str, object] = httpx.get(f"http://127.0.0.1:{self.port + 1}/state", timeout=2).json()
        return answer

    def until(self, state: str, timeout_s: float) -> None:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            try:
                if self.panel()["state"] == state:
                    return
            except httpx.HTTPError:
                pass
            assert self.process.poll() is None, self.log.read_text()
            time.sleep(0.1)
        raise AssertionError(f"the line was not {state} within {timeout_s} s\n{self.log.read_text()}")

    def interrupt(self) -> tuple[float, list[psutil.Process]]:
        """Ctrl+C: seconds until it ended, and what it left behind."""
        family = psutil.Process(self.process.pid).children(recursive=True)
        began = time.monotonic()
        self.process.send_signal(signal.SIGINT)
        self.process.wait(15)
        took = time.monotonic() - began
        return took, [p for p in family if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]


def _three_free_ports() -> int:
    """The first of three neighbours: pages, panel, status."""
    while True:
        port = free_port()
        try:
            from deploy.broker import require_free

            for k in range(3):
                require_free(port + k, "")
        except Exception:
            continue
        return port


@pytest.fixture
def demo(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Demo]:
    running = Demo(tmp_path, *getattr(request, "param", ()))
    yield running
    if running.process.poll() is None:
        running.interrupt()


@pytest.fixture
def page(chromium: Path) -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        yield context.new_page()
        browser.close()


def test_from_start_to_halt_to_running_again(demo: Demo, page: Page) -> None:
    if mosquitto_path() is None:
        missing("mosquitto")
    demo.until("RUNNING", 60)
    page.goto(demo.url)
    live = page.locator(".live img").first
    expect(live).to_be_visible(timeout=10_000)
    demo.until("TRIPPED", 60)

    page.locator(".oldest").first.click(timeout=5_000)
    real = page.get_by_role("button", name="Real defect")
    expect(page.locator("#halt")).to_contain_text("mm")
    page.goto(f"{demo.url}/who?next={page.url.removeprefix(demo.url)}")
    page.click("text=Ana")
    expect(real).to_be_enabled(timeout=15_000)
    assert not httpx.post(f"http://127.0.0.1:{demo.port + 1}/start").json()["done"], "START with an open halt"
    # The edge's own film, of its own frames: the guard's words can be checked against it.
    expect(page.locator("#scrub")).to_have_attribute("max", "20", timeout=15_000)
    expect(page.locator(".because")).to_contain_text("of the last 5 frames call for a stop, 3 are enough")
    page.keyboard.press("ArrowLeft")
    expect(page.locator("#shown")).to_contain_text("1 frame before · score")
    real.click()
    reset = page.get_by_role("button", name="Reset")
    time.sleep(4)  # the simulated part is taken off the table
    reset.click()
    expect(page.locator(".history")).to_contain_text("reset accepted by the edge", timeout=10_000)
    demo.until("READY", 5)
    assert httpx.post(f"http://127.0.0.1:{demo.port + 1}/start").json()["done"]
    demo.until("RUNNING", 5)
    _system_page(page, demo)

    took, left = demo.interrupt()
    assert took <= 5, demo.log.read_text()
    assert left == []


def _system_page(page: Page, demo: Demo) -> None:
    """The edge says what it runs on, shows what it inspects and tests its camera."""
    page.goto(f"{demo.url}/system")
    expect(page.locator("#system")).to_contain_text("CPUExecutionProvider")
    page.get_by_role("button", name="Test camera").click()
    expect(page.locator(".answer")).to_contain_text("✓ frames come and can be judged", timeout=10_000)
    expect(page.locator(".answer")).to_contain_text("frames/s")
    page.goto(demo.url)
    page.locator(".live a").click()
    expect(page.locator(".camera rect")).to_have_count(1)
    expect(page.locator(".camera .age")).to_have_class("age", timeout=5_000)


@pytest.mark.parametrize("demo", [("--broker", "amqtt")], indirect=True)
def test_without_mosquitto_it_runs_on_amqtt(demo: Demo) -> None:
    demo.until("RUNNING", 60)
    demo.until("TRIPPED", 60)
    took, left = demo.interrupt()
    assert took <= 5, demo.log.read_text()
    assert left == []


@pytest.mark.parametrize("taken", ["--port", "--mqtt-port"])
def test_a_taken_port_is_a_plain_message(tmp_path: Path, taken: str) -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as server:
        args = [taken, str(server.getsockname()[1]), "--folder", str(tmp_path)]
        command = [sys.executable, "-m", "haltline", "demo", "--no-browser", *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, env=dict(os.environ), check=False)
    assert done.returncode == 2
    assert "choose another port with" in done.stderr
    assert "Traceback" not in done.stderr
