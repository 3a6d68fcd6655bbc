"""The same hub on PostgreSQL: a server of the tests' own, or HALTLINE_TEST_POSTGRES=postgresql+psycopg://… (empty)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from sqlalchemy import create_engine

from review.store import Base
from tests.conftest import free_port
from tests.review.factory import FakeEdge, HubProcess, until
from tests.review.postgres import server

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    if given := os.environ.get("HALTLINE_TEST_POSTGRES"):
        yield given
        return
    with server() as own:
        yield own


def test_records_halts_and_resets_on_postgresql(mosquitto: int, data_dir: Path, url: str) -> None:
    hub = HubProcess(data_dir, free_port(), mosquitto, "--database", url).start()
    edge = FakeEdge(mosquitto, hub.url, "pg")
    try:
        edge.online()
        ana, event = hub.signed_in(), edge.halt()
        until(lambda: set(edge.acked) == {event.uid, *event.records})
        edge.record(uid=event.records[0])
        until(lambda: len(edge.acked) == 3, what="a duplicate is acknowledged again")
        halt_id = until(lambda: httpx.get(f"{hub.url}/api/halts").json())[0]["id"]
        ana.post(f"/halts/{halt_id}/verdict", data={"verdict": "real", "saw": event.records[0]})
        ana.post(f"/halts/{halt_id}/reset")
        until(lambda: httpx.get(f"{hub.url}/api/halts").json()[0]["state"] == "CLOSED")
        assert httpx.get(f"{hub.url}/alarms").status_code == 200
    finally:
        edge.close()
        hub.stop()
    with create_engine(url).connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []
