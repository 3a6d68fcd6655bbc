"""A hub in this process with one station, and people who label at a browser each. For tests of the pages."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import uvicorn
from playwright.sync_api import Browser, Page, Request

from review.app import create_app
from review.people import add_person
from review.settings import MqttSettings, Settings
from review.store import Label, Record, Station
from tests.browser.where import wait_for_path
from tests.conftest import free_port


class World:
    """The hub served from this process, so that a test sees its database, and a browser to look at it with."""

    def __init__(self, folder: Path, mqtt_port: int, browser: Browser) -> None:
        self.port, self.browser = free_port(), browser
        settings = Settings(data_dir=folder, port=self.port, mqtt=MqttSettings(port=mqtt_port), demo_people=True)
        app = create_app(settings)
        self.hub = app.state.hub
        for name in ("Ann", "Bob"):
            add_person(self.hub.store, name, "inspector")
        with self.hub.store.writing() as session:
            session.add(Station(site="p", line="l", station="press"))
        self.server = uvicorn.Server(
            uvicorn.Config(app, port=self.port, log_level="error", timeout_graceful_shutdown=1)
        )
        self.thread = threading.Thread(target=self.server.run, daemon=True)
        self.thread.start()
        while not self.server.started:
            time.sleep(0.02)

    def stop(self) -> None:
        self.hub.news.close()
        self.server.should_exit = True
        self.thread.join(10)

    def frame(self, image: np.ndarray, task: str = "scratch", px_per_mm: float = 20.0) -> str:
        with self.hub.store.writing() as session:
            number = session.query(Record).count() + 1
            height, width = image.shape[:2]
            heat = self.hub.frames.put(cv2.imencode(".png", np.full((8, 10), 99, np.uint8))[1].tobytes())
            row = Record(
                uid=f"{number:032x}", station_id=1, why=["uncertain"], camera="cam", frame_id=number,
                ts_ms=1_700_000_000_000 + number * 60_000, call="uncertain", scores={}, findings=[], halt=0, part="",
                image=self.hub.frames.put(cv2.imencode(".png", image)[1].tobytes()), heat=heat, heat_cls=task,
                heat_to_frame=[64.0, 0.0, 31.5, 0.0, 64.0, 31.5], px_per_mm=px_per_mm, width_px=width,
                height_px=height, model="", policy="", label_book=f"{task}@1", stages_ms={}, received_ms=0,
            )  # fmt: skip
            session.add(row)
            return row.uid

    def sign_in(self, name: str, **context: Any) -> Desk:
        page = self.browser.new_context(**{"viewport": {"width": 1280, "height": 800}, **context}).new_page()
        return Desk(page, f"http://127.0.0.1:{self.port}", name)

    def labels(self) -> list[Label]:
        with self.hub.store.reading() as session:
            return list(session.query(Label).order_by(Label.id))


class Desk:
    """One person at a browser. `bodies` are all answers it got between `listen` and `stop_listening`; page errors fail
    the test."""

    def __init__(self, page: Page, base: str, name: str) -> None:
        self.page, self.base = page, base
        self.bodies: list[bytes] = []
        self.errors: list[str] = []
        page.on("pageerror", lambda e: self.errors.append(str(e)))
        page.goto(f"{base}/who?next=/label")
        page.get_by_role("button", name=name).click()
        wait_for_path(page, "/label")

    def listen(self) -> None:
        # Once an answer is whole: a stream's body never comes, nor that of an answer which the page left meanwhile.
        self.page.on("requestfinished", self._hear)

    def stop_listening(self) -> None:
        """Before the browser closes, which waits for bodies that are being read, and they for it."""
        self.page.remove_listener("requestfinished", self._hear)

    def _hear(self, request: Request) -> None:
        response = request.response()
        assert response is not None
        try:
            self.bodies.append(response.body())
        except Exception:  # redirects have no body
            self.bodies.append(repr(response.headers).encode())

    def open(self, uid: str = "next") -> None:
        self.page.goto(f"{self.base}/label/{uid}")
        self.ready()

    def ready(self) -> None:
        self.page.wait_for_selector("body[data-ready]")

    def press(self, *keys: str) -> None:
        for key in keys:
            self.page.keyboard.press(key)
            self.page.wait_for_timeout(60)  # a hand's pace: what comes faster is a badge reader's

    def at(self, x: float, y: float, size: tuple[int, int] = (640, 512)) -> tuple[float, float]:
        """Screen position of a point of the frame while it is fitted, worked out without the page's own code."""
        box = self.page.locator("#stage").bounding_box()
        assert box
        scale = min(box["width"] / size[0], box["height"] / size[1])
        left = box["x"] + (box["width"] - size[0] * scale) / 2
        top = box["y"] + (box["height"] - size[1] * scale) / 2
        return left + x * scale, top + y * scale

    def drag(self, *points: tuple[float, float]) -> None:
        mouse = self.page.mouse
        mouse.move(*self.at(*points[0]))
        mouse.down()
        for point in points[1:]:
            mouse.move(*self.at(*point), steps=4)
        mouse.up()

    def save(self) -> None:
        """Until the page that comes next is there: to go elsewhere, or to close, while it leaves is a race."""
        with self.page.expect_navigation(), self.page.expect_response(lambda r: r.request.method == "POST") as answer:
            self.press("Control+Enter")
        assert answer.value.ok, answer.value.text()

    def decision(self) -> str:
        return self.page.locator("#decision").inner_text()

    def message(self) -> str:
        return self.page.locator("#message").inner_text()
