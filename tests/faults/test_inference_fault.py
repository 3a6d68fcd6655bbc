"""Fault 3 with few repetitions; `make faults` runs it with many."""

from __future__ import annotations

import pytest

from benchmarks.fault_inference import fault_3
from deploy.broker import mosquitto_path
from tests.conftest import missing

pytestmark = pytest.mark.broker


def test_stuck_inference_halts_the_line_while_mqtt_lives_on() -> None:
    if mosquitto_path() is None:
        missing("mosquitto")
    for figure in fault_3(2):
        assert figure.ok, figure
