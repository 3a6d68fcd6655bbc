"""A hub with one person per role, all with secrets. For tests of who gets in and who may do what."""

from __future__ import annotations

from pathlib import Path

from fastapi.testclient import TestClient
from httpx import Response
from pydantic import SecretStr
from sqlalchemy import select

from review import people
from review.app import create_app
from review.clock import wall_ms
from review.hub import Hub
from review.settings import Settings
from review.store import Halt, SignIn, Station

PIN, PASSWORD, BADGE = "402817", "correct horse", "00-1234-5678a"
WHO = {"Olga": "operator", "Ian": "inspector", "Eve": "engineer", "Ada": "admin"}


class World:
    """A hub without a broker, one person per role, all with secrets, and a halt on one station."""

    def __init__(self, folder: Path) -> None:
        self.app = create_app(Settings(data_dir=folder, edge_token=SecretStr("edge")))
        self.hub: Hub = self.app.state.hub
        for name, role in WHO.items():
            people.add_person(self.hub.store, name, role)
            people.set_secret(self.hub.store, name, secret_of(name))
        with self.hub.store.writing() as session:
            session.add(Station(id=1, site="p", line="l", station="s"))
            session.flush()
            session.add(
                Halt(
                    id=1, station_id=1, halt=170_001, uid="a" * 32, code=1, reason="porosity", cls="porosity",
                    records=[], stages_ms={}, at_ms=wall_ms(), received_ms=wall_ms(), state="ACTIVE_UNACKED",
                )
            )  # fmt: skip

    def client(self, name: str = "") -> TestClient:
        client = TestClient(self.app, base_url="http://hub", follow_redirects=False)
        if name:
            assert enter(client, name, secret_of(name)).status_code == 303
        return client

    def copied(self, cookies: dict[str, str]) -> TestClient:
        """A browser with the cookies of another."""
        return TestClient(self.app, base_url="http://hub", cookies=cookies, follow_redirects=False)

    def sign_ins(self) -> list[SignIn]:
        with self.hub.store.reading() as session:
            return list(session.scalars(select(SignIn)))


def secret_of(name: str) -> str:
    return PIN if WHO[name] == "operator" else PASSWORD


def enter(client: TestClient, name: str, secret: str) -> Response:
    return client.post("/who", data={"name": name, "secret": secret, "next": "/alarms"})
