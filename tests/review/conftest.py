"""A hub process and an edge, for the tests of this folder."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import free_port
from tests.review.factory import FakeEdge, HubProcess


@pytest.fixture(scope="module")
def hub(mosquitto: int, tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubProcess]:
    hub = HubProcess(tmp_path_factory.mktemp("hub") / "data", free_port(), mosquitto).start()
    yield hub
    hub.stop()


@pytest.fixture
def edge(mosquitto: int, hub: HubProcess, request: pytest.FixtureRequest) -> Iterator[FakeEdge]:
    """An edge with a station of its own, so that tests share a hub without seeing each other."""
    edge = FakeEdge(mosquitto, hub.url, _station(request.node.name))
    edge.online()
    yield edge
    edge.close()


def _station(test_name: str) -> str:
    return f"s{abs(hash(test_name)) % 10**8}"


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "hub"
