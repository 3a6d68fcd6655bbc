"""The hub at a broker as on a plant's network: its certificate changes while it runs."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from review.hub import Hub
from review.settings import MqttSettings, Settings
from review.system import failing
from tests.conftest import free_port
from tests.edge.tls import EDGE, HUB, plant
from tests.review.factory import until

pytestmark = pytest.mark.broker


@contextmanager
def running(folder: Path, mqtt: MqttSettings) -> Iterator[Hub]:
    hub = Hub.build(Settings(data_dir=folder / "hub", mqtt=mqtt))
    hub.start()
    try:
        yield hub
    finally:
        hub.stop()


def test_a_certificate_that_was_replaced_is_shown_without_a_restart(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The old one expires while the hub runs, and the broker takes no old one: no station was heard until a restart."""
    with plant(tmp_path) as there:
        used = tmp_path / "used"
        used.mkdir()
        shutil.copy(there.tls / "ca.crt", used)
        for end in ("crt", "key"):
            shutil.copy(tmp_path / "other" / f"{EDGE}.{end}", used / f"hub.{end}")
        mqtt = MqttSettings(
            host="localhost", port=there.port,
            ca_file=used / "ca.crt", cert_file=used / "hub.crt", key_file=used / "hub.key",
        )  # fmt: skip
        with running(tmp_path, mqtt) as hub:
            until(lambda: there.log.read_text(errors="replace").count("rror") >= 2, 15, "the broker's refusal")
            assert not hub.connected()
            shutil.copy(there.tls / f"{HUB}.crt", used)  # half replaced: it does not open with the old key
            until(lambda: "what was read before" in capsys.readouterr().out, 15)
            assert not hub.connected()
            shutil.copy(there.tls / f"{HUB}.key", used)
            until(hub.connected, 15)


def test_why_the_broker_is_not_reached_is_said(tmp_path: Path) -> None:
    """A port nobody listens on, and a broker whose certificate another authority signed, looked the same: silence."""
    with running(tmp_path, MqttSettings(port=free_port())) as hub:
        until(lambda: "Connection refused" in failing(hub).get("broker", ""), 10)
    with plant(tmp_path) as there:
        ca = tmp_path / "other" / "ca.crt"
        with running(tmp_path, MqttSettings(host="localhost", port=there.port, ca_file=ca)) as hub:
            until(lambda: "certificate verify failed" in failing(hub).get("broker", ""), 10)
