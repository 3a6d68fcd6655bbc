"""A hub process and an edge, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.review.factory import FakeEdge, HubProcess, station_of


@pytest.fixture(scope="module")
def hub(mosquitto: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    hub = HubProcess(tmp_path_factory.mktemp("hub") / "data", free_port(), mosquitto).start()
    yield hub
    hub.stop()


@pytest.fixture
def edge(mosquitto: int, hub: HubProcess, request: pytest.FixtureRequest) -> Iterator[FakeEdge]:
    """An edge with a station of its own, so that tests share a hub without seeing each other."""
    edge = FakeEdge(mosquitto, hub.url, station_of(request.node))
    edge.online()
    yield edge
    edge.close()


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "hub"
