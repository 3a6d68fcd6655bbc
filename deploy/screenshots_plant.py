"""The plant on the pictures of the docs: a hub, a broker and four stations as in the middle of a shift.

Stations are those of the tests; they go on sending pictures and permits while the pages are looked at.
"""

from __future__ import annotations

import base64
import signal
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from subprocess import Popen
from typing import TYPE_CHECKING

import cv2
import httpx
import numpy as np
from sqlalchemy import select

from deploy.broker import free_port, start_mosquitto
from inspection.label_book import BOOKS
from inspection.render import DefectSpec, render
from review import audit, people
from review.store import Station, Store

if TYPE_CHECKING:
    from inspection.types import Image
    from tests.review.factory import FakeEdge, HubProcess

OPERATOR, INSPECTOR, ENGINEER = "Ana (operator)", "Ben (inspector)", "Chen (engineer)"
WITH_PIN, PIN = "Olga", "402817"
PICTURE_S = 0.5
LABELLED = 40
"""Frames two people labelled: enough for an ambiguous band."""


@dataclass(slots=True)
class Plant:
    """A running hub and its stations; `seen` holds what pages must be asked for by number."""

    hub: HubProcess
    broker: Popen[bytes]
    mqtt_port: int
    stations: dict[str, FakeEdge] = field(default_factory=dict)
    halt: int = 0
    uncertain: str = ""
    disputed: str = ""
    _stop: threading.Event = field(default_factory=threading.Event)

    def freeze(self) -> None:
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        self._signal(signal.SIGCONT)

    def _signal(self, how: signal.Signals) -> None:
        assert self.hub.process
        self.hub.process.send_signal(how)

    def close(self) -> None:
        self._stop.set()
        for edge in self.stations.values():
            edge.close()

    def lose_broker(self) -> None:
        self._stop.set()
        self.broker.terminate()
        self.broker.wait()

    def keep_sending(self, pictures: dict[str, list[tuple[Image, str, str, bool]]]) -> None:
        """Each station's pictures, (image, camera, call, hot), twice a second until the plant ends."""
        threading.Thread(target=self._send, args=(pictures,), daemon=True).start()

    def _send(self, pictures: dict[str, list[tuple[Image, str, str, bool]]]) -> None:
        number = 4812
        while not self._stop.wait(PICTURE_S):
            number += 1
            for name, several in pictures.items():
                for image, camera, call, hot in several:
                    self.stations[name].picture(image, number, call, camera, hot)


@contextmanager
def plant() -> Iterator[Plant]:
    """A hub that nobody has used yet; `fill` brings the stations."""
    from tests.review.factory import HubProcess

    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(ignore_cleanup_errors=True)))
        port = free_port()
        broker = start_mosquitto(port, folder)
        stack.callback(broker.wait)
        stack.callback(broker.terminate)
        _employ(folder / "data")
        hub = HubProcess(folder / "data", free_port(), port, "--backup-dir", str(folder / "backup")).start()
        made = Plant(hub, broker, port)
        stack.callback(hub.stop)
        stack.callback(made.thaw)
        stack.callback(made.close)
        yield made


def _employ(data: Path) -> None:
    data.mkdir()
    store = Store(f"sqlite:///{data / 'hub.db'}")
    store.migrate()
    audit.keep(store, data)
    people.add_person(store, WITH_PIN, "operator")
    people.set_secret(store, WITH_PIN, PIN)
    store.close()


def fill(made: Plant) -> None:
    """Four stations in four states, a morning's alarms, frames to label and labelled ones, a note, a backup."""
    from tests.review.factory import FakeEdge

    ana, chen = made.hub.signed_in(OPERATOR), made.hub.signed_in(ENGINEER)
    for name in ("weld-1", "weld-2", "weld-3", "scratch-1"):
        edge = made.stations[name] = FakeEdge(made.mqtt_port, made.hub.url, name)
        edge.online(plc="READY" if name == "weld-3" else "RUNNING")
        edge.about()
        edge.good(11)
    weld = made.stations["weld-1"]
    for k, (verdict, cls, mm) in enumerate(
        (("real", "porosity", 1.5), ("false_call", "porosity", 1.4), ("real", "undercut", 2.2), ("real", "porosity", 2))
    ):
        event = weld.halt(seed=5 + k, cls=cls, length_mm=mm)
        weld.line("TRIPPED", "permit withdrawn")
        weld.film(event, seed=5 + k)
        halt = _stored(made, event.halt)
        _judged(ana, halt, verdict, event.records[0])
        ana.post(f"/halts/{halt}/reset")
        _until(lambda: weld.halt_id == 0)
        weld.line("RUNNING")
    other = made.stations["scratch-1"].halt(seed=8, cls="scratch", length_mm=3.1, task="scratch")
    made.stations["scratch-1"].line("TRIPPED", "permit withdrawn")
    held = _stored(made, other.halt, "scratch-1")
    _judged(ana, held, "real", other.records[0])
    ana.post("/alarms/shelve", data={"halt": held, "why": "fixture is being replaced", "minutes": 60})
    made.uncertain = [_uncertain(weld, 40 + n, 0.6) for n in range(3)][-1]
    _label(made)
    event = weld.halt(seed=5)
    weld.line("TRIPPED", "permit withdrawn")
    weld.film(event)
    made.halt = _stored(made, event.halt)
    _keep_quiet(made, ana, chen)
    ana.post("/handover/note", data={"text": "Nozzle of weld-2 was cleaned at 14:20, watch the first parts."})
    chen.post("/system/backup")
    chen.post("/system/cameras/test", data={"station": "plant~line-a~weld-1", "camera": "cam"})
    made.stations["weld-2"].line("TRIPPED", "no fresh permit")
    made.stations["weld-2"].permits.clear()
    bad = render("weld", 5, defects=[DefectSpec("porosity", 2.0)]).image
    scratched = render("scratch", 8, defects=[DefectSpec("scratch", 3.1)]).image
    sound = [render("weld", n, defects=[]).image for n in (3, 9)]
    made.keep_sending(
        {
            "weld-1": [(bad, "cam", "defect", True), (sound[1], "top", "pass", False)],
            "scratch-1": [(scratched, "cam", "defect", False)],
            "weld-3": [(sound[0], "cam", "pass", False)],
        }
    )
    made.stations["weld-2"].picture(sound[1], 4100)
    time.sleep(2.5)  # weld-2 falls silent


def _keep_quiet(made: Plant, ana: httpx.Client, chen: httpx.Client) -> None:
    """Somebody cleans the lens of weld-3, and a rule keeps its dark picture quiet meanwhile."""
    followers = {
        "condition": "alarm",
        "kind": "camera",
        "alarms": ["picture/dark", "picture/blurred", "picture/exposure"],
    }
    chen.post(
        "/alarms/rules", data={"name": "the camera fault says it", "why": "they only follow from it", **followers}
    )
    chen.post(
        "/alarms/rules",
        data={
            "name": "work at the lens", "why": "covered and dark on purpose", "condition": "maintenance",
            "alarms": ["camera", "picture/dark", "picture/covered", "picture/blurred"],
        },
    )  # fmt: skip
    ids = {s.station: s.id for s in _stations(made)}
    ana.post("/alarms/maintenance", data={"station": ids["weld-3"], "minutes": 60, "why": "the lens is cleaned"})
    camera = {"type": "genicam", "frame": "1920x1200", "px_per_mm": 10.0}
    made.stations["weld-3"].about(cameras={"cam": camera | {"blind": "dark: 99 % of the picture is below 12 of 255"}})


def _stations(made: Plant) -> list[Station]:
    store = Store(f"sqlite:///{made.hub.data / 'hub.db'}")
    with store.reading() as session:
        rows = list(session.scalars(select(Station)))
    store.close()
    return rows


def _label(made: Plant) -> None:
    """Two people measure the same bubbles, one a little stricter, and differ where the rule is thin."""
    ben, chen, cls = made.hub.signed_in(INSPECTOR), made.hub.signed_in(ENGINEER), "porosity"
    rng = np.random.default_rng(7)
    for n in range(LABELLED):
        mm = 0.2 + 1.4 * n / LABELLED
        uid = _uncertain(made.stations["weld-3"], 100 + n, mm)
        for who, limit in ((ben, 0.6), (chen, 0.8)):
            bad = mm + rng.normal(0, 0.12) > limit
            _until(partial(_labelled, who, uid, cls, mm, bad=bool(bad)))
        if 0.6 < mm < 0.8:
            made.disputed = uid


def _labelled(who: httpx.Client, uid: str, cls: str, mm: float, *, bad: bool) -> bool:
    book, end = BOOKS["weld"], 300 + 10 * mm
    mark = {"cls": cls, "box_px": [300, 240, 10 * mm, 8], "length_mm": mm, "points_px": [[300, 244], [end, 244]]}
    said: dict[str, object] = {"label_book": book.id, "classes": [cls] if bad else [], "annotations": [mark]}
    if bad:
        mask, value = np.zeros((512, 640), np.uint8), book.classes.index(cls) + 1
        cv2.ellipse(mask, (300, 244), (int(5 * mm) + 2, 4), 0, 0, 360, value, -1)
        said["mask_png"] = base64.b64encode(cv2.imencode(".png", mask)[1].tobytes()).decode()
    return who.post(f"/label/{uid}", json=said).is_success


def _uncertain(edge: FakeEdge, seed: int, mm: float) -> str:
    from tests.review.factory import png

    picture = render("weld", seed, defects=[DefectSpec("porosity", mm)])
    image = edge.upload(png(picture.image))
    return edge.record(frame_id=500 + seed, part=f"P-{seed}", image=image, scores={"porosity": 0.45}).uid


def _judged(who: httpx.Client, halt: int, verdict: str, saw: str) -> None:
    _until(lambda: who.post(f"/halts/{halt}/verdict", data={"verdict": verdict, "saw": saw}).is_success)


def _stored(made: Plant, number: int, station: str = "weld-1") -> int:
    """The hub's own number of an edge's halt."""
    found: list[int] = []

    def find() -> bool:
        halts = httpx.get(f"{made.hub.url}/api/halts", timeout=60).json()
        found.extend(int(h["id"]) for h in halts if h["halt"] == number and h["station"].endswith(f"~{station}"))
        return bool(found)

    _until(find)
    return found[0]


def _until(condition: Callable[[], bool]) -> None:
    from tests.review.factory import until

    until(condition, 60)
