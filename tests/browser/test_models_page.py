"""Roll out from the page over a real broker: what the edge is sent, and what it answers, as the page shows it."""

from __future__ import annotations

import queue
from collections.abc import Iterator
from pathlib import Path

import paho.mqtt.client as mqtt
import pytest
from paho.mqtt.enums import CallbackAPIVersion
from playwright.sync_api import Browser, expect

from inspection.messages import ModelDesired, ModelReported, Topics
from review.people import add_person
from tests.browser.label_desk import World
from tests.review.test_registry import bundle_files, zipped

pytestmark = [pytest.mark.browser, pytest.mark.broker]
TOPICS = Topics("p", "l", "press")


class Edge:
    """Takes requests from the broker and reports what a test tells it to."""

    def __init__(self, port: int) -> None:
        self.asked: queue.Queue[ModelDesired] = queue.Queue()
        self.client = mqtt.Client(CallbackAPIVersion.VERSION2)
        self.client.on_message = lambda _c, _d, m: self.asked.put(ModelDesired.decode(m.payload)) if m.payload else None
        self.client.connect("127.0.0.1", port)
        self.client.subscribe(TOPICS.of(ModelDesired), 1)
        self.client.loop_start()

    def report(self, **fields: object) -> None:
        said = ModelReported.model_validate({"sha256": "", "ts_ms": 1, **fields})
        self.client.publish(TOPICS.of(ModelReported), said.encode(), 1, retain=True).wait_for_publish(5)

    def stop(self) -> None:
        for message in (ModelDesired, ModelReported):
            self.client.publish(TOPICS.of(message), b"", 1, retain=True).wait_for_publish(5)
        self.client.disconnect()
        self.client.loop_stop()


@pytest.fixture
def edge(mosquitto: int) -> Iterator[Edge]:
    edge = Edge(mosquitto)
    yield edge
    edge.stop()


@pytest.fixture
def world(tmp_path: Path, mosquitto: int, browser: Browser) -> Iterator[World]:
    world = World(tmp_path / "hub", mosquitto, browser)
    add_person(world.hub.store, "Eve", "engineer")
    yield world
    for context in browser.contexts:
        context.close()
    world.stop()


def test_upload_roll_out_and_see_why_the_edge_refused(world: World, edge: Edge, tmp_path: Path) -> None:
    edge.report(bundle="scratch-0.9.0", state="serving", provider="CPUExecutionProvider")
    eve = world.sign_in("Eve")
    page = eve.page
    page.goto(f"{eve.base}/models")
    (tmp_path / "up.zip").write_bytes(zipped(bundle_files("1.0.0"), "scratch-1.0.0/"))
    page.set_input_files("input[name=bundle]", tmp_path / "up.zip")
    page.get_by_role("button", name="Upload and check").click()
    station = page.locator("[data-station='p~l~press']")
    state = station.locator(".model-state")
    expect(state).to_contain_text("Serving scratch-0.9.0")
    station.get_by_role("combobox").select_option("scratch-1.0.0")
    station.get_by_role("button", name="Roll out").click()
    expect(state).to_contain_text("Asked, no answer yet scratch-1.0.0")
    asked = edge.asked.get(timeout=5)
    assert (asked.bundle, asked.url, asked.rollback) == ("scratch-1.0.0", "/api/edge/bundles/scratch-1.0.0", False)
    edge.report(bundle="scratch-0.9.0", state="refused", wanted=asked.bundle, why="golden/0.png differs by 0.2")
    expect(state).to_contain_text("Refused scratch-1.0.0", timeout=8000)  # without a reload
    expect(station.locator(".model-why").last).to_have_text("golden/0.png differs by 0.2")
    expect(station.locator(".model-facts")).to_contain_text("Serves scratch-0.9.0")
    expect(station.locator(".model-facts")).to_contain_text("asked by Eve")
    edge.report(bundle="scratch-1.0.0", state="serving")
    expect(state).to_contain_text("Serving scratch-1.0.0", timeout=8000)
    assert not eve.errors
