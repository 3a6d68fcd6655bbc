"""A broker whose access rules leave something out, as a plant's may."""

from __future__ import annotations

import json
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from benchmarks.station import TOPICS
from deploy import broker
from inspection.messages import Message
from tests.conftest import free_port, missing

CONTROL = "$CONTROL/dynamic-security/v1"


class Rules:
    """A Mosquitto that anybody may use for everything but the denied. Its ACL file refuses what is sent, and takes
    every subscription, of which it then delivers nothing; its dynamic security refuses one, as other brokers do. With
    both the second decides alone."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._acl = folder / "acl"
        self._dynamic = folder / "dynamic.json"
        self._folder = folder
        self._child: subprocess.Popen[bytes] | None = None
        self._plugin = next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"), None)
        if broker.mosquitto_path() is None or self._plugin is None:
            missing("mosquitto with its dynamic security")
        self._more = ""
        shipped = broker.mosquitto_conf
        monkeypatch.setattr(broker, "mosquitto_conf", lambda port: shipped(port) + self._more)

    def start(self) -> int:
        port = free_port()
        self._child = broker.start_mosquitto(port, self._folder)
        return port

    def without_hearing(self, topic: str) -> int:
        """Its port, once it runs; nobody may subscribe to this, as it is written."""
        kinds = ("publishClientSend", "publishClientReceive", "subscribe", "unsubscribe")
        acls = [
            {"acltype": "subscribeLiteral", "topic": topic, "allow": False, "priority": 1},
            {"acltype": "publishClientSend", "topic": CONTROL, "allow": True},
        ]
        known = {
            "defaultACLAccess": dict.fromkeys(kinds, True),
            "anonymousGroup": "all",
            "groups": [{"groupname": "all", "roles": [{"rolename": "anybody"}]}],
            "roles": [{"rolename": "anybody", "acls": acls}],
            "clients": [],
        }
        self._dynamic.write_text(json.dumps(known))
        self._more = f"plugin {self._plugin}\nplugin_opt_config_file {self._dynamic}\n"
        return self.start()

    def without_sending(self, kind: type[Message]) -> int:
        self.let_send(all_but=[kind])
        self._more = f"acl_file {self._acl}\n"
        return self.start()

    def writing_only(self, *read: type[Message]) -> int:
        """All may be written; of these alone something is delivered."""
        self._more = f"acl_file {self._acl}\n"
        self.let_read(*read)
        return self.start()

    def let_read(self, *kinds: type[Message]) -> None:
        self._acl.write_text("topic write #\n" + "".join(f"topic read {TOPICS.of(kind)}\n" for kind in kinds))
        if self._child:
            self._child.send_signal(signal.SIGHUP)

    def with_password(self) -> int:
        passwords = self._folder / "passwords"
        subprocess.run(["mosquitto_passwd", "-b", "-c", passwords, "edge", "right"], check=True, capture_output=True)
        passwords.chmod(0o644)
        self._more = f"allow_anonymous false\npassword_file {passwords}\n"
        return self.start()

    def let_send(self, all_but: Sequence[type[Message]] = ()) -> None:
        denied = "".join(f"topic deny {TOPICS.of(kind)}\n" for kind in all_but)
        self._acl.write_text(f"topic readwrite #\n{denied}")
        if self._child:
            self._child.send_signal(signal.SIGHUP)

    def close(self) -> None:
        if self._child:
            self._child.kill()
            self._child.wait()
