"""A hub without a broker, two stations, and its clock in the test's hand. For tests of what people do with alarms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from review import audit, people
from review.alarms import State
from review.app import create_app
from review.routes.events import _tick
from review.settings import Settings
from review.store import Halt, Shelf, Station
from review.upkeep import Upkeep

NOW = 1_800_000_000_000
MIN = 60_000


class World:
    """A hub without a broker, two stations, and its clock in the test's hand."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder, self.now = folder, NOW
        routes = [f"routes.{name}" for name in ("alarms", "shelving", "events", "line", "handover", "performance")]
        for module in (*routes, "ingest", "audit"):
            patch.setattr(f"review.{module}.wall_ms", lambda: self.now)
        app = create_app(Settings(data_dir=folder, demo_people=True))
        self.hub = app.state.hub
        people.add_demo_people(self.hub.store)
        with self.hub.store.writing() as session:
            session.add_all([Station(id=n, site="p", line="l", station=f"s{n}") for n in (1, 2)])
        self.upkeep = Upkeep(self.hub)
        self.app, self.count = app, 0
        self.ana, self.chen = self.client("Ana (operator)"), self.client("Chen (engineer)")

    def client(self, name: str) -> TestClient:
        client = TestClient(self.app, base_url="http://hub", follow_redirects=False)
        assert client.post("/who", data={"name": name}).status_code == 303
        return client

    def halt(self, cls: str = "porosity", station: int = 1, state: State = State.ACTIVE_UNACKED, **more: Any) -> int:
        self.count += 1
        with self.hub.store.writing() as session:
            row = Halt(
                station_id=station, halt=170_000 + self.count, uid=f"{self.count:032x}", code=1, reason="", cls=cls,
                records=[], stages_ms={}, at_ms=self.now, received_ms=self.now, state=state, **more,
            )  # fmt: skip
            session.add(row)
            session.flush()
            return row.id

    def shelve(self, halt: int, minutes: int = 15, why: str = "nozzle is changed", by: str = "ana") -> int:
        form = {"halt": halt, "minutes": minutes, "why": why}
        return int(getattr(self, by).post("/alarms/shelve", data=form).status_code)

    def calls(self) -> int:
        return int(_tick(self.hub)["unacked"])

    def acts(self, what: str) -> list[tuple[str, str]]:
        return [(row.who, row.subject) for row in audit.links(self.hub.store) if row.what == what]

    def shelves(self) -> list[Shelf]:
        with self.hub.store.reading() as session:
            return list(session.query(Shelf).order_by(Shelf.id))
