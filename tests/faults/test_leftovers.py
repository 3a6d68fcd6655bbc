"""What a fault starts ends with it, also when the fault itself is killed or cannot begin."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.station import wait_for
from benchmarks.storage_rig import Hub
from deploy.broker import free_port

START_A_HUB = """
import sys, time
from pathlib import Path
from benchmarks.storage_rig import Broker, Hub
with Broker(Path(sys.argv[1])) as broker:
    hub = Hub(Path(sys.argv[1]), broker.port).start()
    print(broker.process.pid, hub.process.pid, flush=True)
    time.sleep(600)
"""


def is_alive(pid: int) -> bool:
    """Whether it runs; one that has ended and waits for its parent does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.broker
def test_broker_and_hub_end_with_the_bench_that_was_killed(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", START_A_HUB, str(tmp_path)], stdout=subprocess.PIPE) as bench:
        assert bench.stdout
        children = [int(pid) for pid in bench.stdout.readline().split()]
        assert [is_alive(pid) for pid in children] == [True, True]
        bench.kill()
        wait_for(lambda: not any(map(is_alive, children)), 10, f"the end of broker and hub, {children}")


def test_a_hub_that_never_answers_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub(tmp_path, free_port())  # without a broker it is never healthy
    monkeypatch.setattr("benchmarks.storage_rig.START_S", 3.0)
    with pytest.raises(AssertionError, match="the hub"):
        hub.start()
    assert hub.process
    assert not is_alive(hub.process.pid)
