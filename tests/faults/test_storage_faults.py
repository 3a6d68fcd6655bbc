"""The faults of storage, few times each; `make faults` runs the full numbers (HALTLINE_FULL=1 the outage's)."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from benchmarks import fault_outage as outage
from benchmarks import fault_storage as storage
from benchmarks.figures import Figure
from benchmarks.storage_power import cut_power
from deploy.broker import mosquitto_path
from tests.conftest import missing

FULL = os.environ.get("HALTLINE_FULL") == "1"

ALONE: dict[str, Callable[[], list[Figure]]] = {
    "13 power loss": partial(storage.fault_13, 25),
    "19 EIO and ENOSPC at each write site": storage.fault_19,
    "a slow disk": partial(storage.slow_offer, 500),
}
WITH_A_HUB: dict[str, Callable[[], list[Figure]]] = {
    "12 kill -9 of the edge": partial(storage.fault_12, 2, 150),
    "14 kill -9 of the hub between commit and ack": partial(storage.fault_14, 2),
    "16 broker killed after PUBACK": partial(storage.fault_16, 2),
    "17 hub away": partial(storage.fault_17, 3600 if FULL else 600),
}


@pytest.mark.parametrize("fault", ALONE)
def test_nothing_accepted_is_lost_with_the_disk(fault: str) -> None:
    for figure in ALONE[fault]():
        assert figure.ok, figure


def test_a_disk_that_lies_about_fsync_is_found_out() -> None:
    """The power cuts would be worth nothing if they could not fail."""
    found = cut_power(10, lie=True)
    assert found.torn > 0, found


@pytest.mark.broker
@pytest.mark.parametrize("fault", WITH_A_HUB)
def test_nothing_accepted_is_lost_on_the_way(fault: str) -> None:
    if mosquitto_path() is None:
        missing("mosquitto")
    for figure in WITH_A_HUB[fault]():
        assert figure.ok, figure


@pytest.mark.broker
@pytest.mark.timeout(1800 if FULL else 300)
def test_a_broker_that_was_away_finds_everything() -> None:
    """Fault 15. On a busy machine frames may be turned away, each counted; what was accepted may not get lost."""
    if mosquitto_path() is None:
        missing("mosquitto")
    for figure in outage.fault_15(600.0 if FULL else 10.0):
        assert figure.ok or (not FULL and "refused" in figure.figure), figure


@pytest.mark.broker
def test_a_full_disk_stops_no_permit_and_deletes_nothing(tmp_path: Path) -> None:
    """Fault 18."""
    if mosquitto_path() is None:
        missing("mosquitto")
    if not outage.may_mount(tmp_path):
        pytest.skip("a small file system cannot be mounted here: it takes root")
    for figure in outage.fault_18():
        assert figure.ok, figure
