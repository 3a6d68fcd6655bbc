"""The files `edge.yaml` names: one that is absent, or not what it should be, is named before the line waits for it."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from tls import EDGE, Plant, plant
from typer.testing import CliRunner

from benchmarks.station import write_station
from deploy.certificates import make
from edge.cli import app
from edge.config_file import load
from edge.doctor import examine
from edge.line.connection import Connection
from edge.wiring import build
from inspection.errors import BundleError, ConfigError

FILES = ["mqtt.password_file", "mqtt.tls.ca", "mqtt.tls.cert", "mqtt.tls.key", "hub.token_file", "hub.ca"]
SECTIONS = """\
mqtt:
  host: localhost
  port: {port}
  username: edge
  password_file: password
  tls:
    ca: tls/ca.crt
    cert: tls/edge.crt
    key: tls/edge.key
hub:
  url: https://localhost
  token_file: token
  ca: tls/ca.crt
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A station with each of these files, all of them good."""
    path = write_station(tmp_path, 1)
    kept = [line for line in path.read_text().splitlines() if not line.startswith(("mqtt:", "hub:"))]
    path.write_text("\n".join(kept) + "\n" + SECTIONS.format(port=1))
    make(tmp_path / "tls", ["edge"], ["localhost"])
    for name in ("password", "token"):
        (tmp_path / name).write_text("secret\n")
    return path


def told(path: Path) -> str:
    with pytest.raises(ConfigError) as e:
        CliRunner().invoke(app, ["check", str(path)], catch_exceptions=False)
    return str(e.value)


def pointed(path: Path, key: str, value: str) -> int:
    """`key` names another file; its line."""
    lines = path.read_text().splitlines()
    start = lines.index(f"{key.split('.')[0]}:")
    at = next(k for k in range(start, len(lines)) if lines[k].strip().startswith(f"{key.split('.')[-1]}: "))
    lines[at] = f"{lines[at].split(':')[0]}: {value}"
    path.write_text("\n".join(lines) + "\n")
    return at + 1


def test_good_files_are_right(config: Path) -> None:
    done = CliRunner().invoke(app, ["check", str(config)], catch_exceptions=False)
    assert "is right" in done.output


def test_the_check_names_every_absent_file_with_line_key_and_fix(config: Path) -> None:
    lines = {key: pointed(config, key, f"none/{key}") for key in FILES}
    found = told(config)
    for key, line in lines.items():
        assert f"{config}:{line}: {key}: {config.parent / 'none' / key} does not exist\n  fix: put it there" in found
    assert found.count("fix: ") == len(FILES)


@pytest.mark.parametrize(
    ("key", "file", "what"),
    [
        ("mqtt.tls.ca", "tls", "cannot be read: Is a directory"),
        ("mqtt.tls.ca", "token", "holds no certificate in PEM"),
        ("mqtt.tls.cert", "tls/edge.key", "holds no certificate in PEM"),
        ("mqtt.tls.key", "tls/edge.crt", "holds no private key in PEM"),
        ("mqtt.tls.key", "tls/broker.key", "does not open"),
        ("hub.ca", "token", "holds no certificate in PEM"),
        ("hub.token_file", "empty", "is empty"),
        ("mqtt.password_file", "state", "cannot be read: Is a directory"),
    ],
)
def test_the_check_names_a_file_that_is_not_what_it_should_be(config: Path, key: str, file: str, what: str) -> None:
    (config.parent / "empty").touch()
    line = pointed(config, key, file)
    found = told(config)
    assert f"{config}:{line}: {key}: {config.parent / file} {what}" in found
    assert found.count("fix: ") == 1


def test_the_check_and_the_doctor_name_a_calibration_and_a_second_bundle_that_are_not_there(tmp_path: Path) -> None:
    """Both were "right", and the edge did not start."""
    path = write_station(tmp_path, 1, more=f"shadow: {{bundle: {tmp_path / 'other'}}}")
    with pytest.raises(BundleError, match="other: is no folder"):
        CliRunner().invoke(app, ["check", str(path)], catch_exceptions=False)
    assert any("other: is no folder" in problem for problem in examine(load(path))["problems"])
    path.write_text(path.read_text().replace("px_per_mm: 10}", "px_per_mm: 10, calibration: c.json}"))
    file = tmp_path / "c.json"
    assert f"{path}:3: cameras.0.calibration: {file}: No such file or directory\n  fix: make it" in told(path)
    file.write_bytes(bytes(range(256)))
    assert f"{path}:3: cameras.0.calibration: {file}: is no calibration: " in told(path)


def test_a_file_this_user_may_not_read_is_told_from_a_missing_one(
    config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_bytes

    def refused(path: Path) -> bytes:
        if path.name == "edge.key":
            raise PermissionError(13, "Permission denied", str(path))
        return read(path)

    monkeypatch.setattr(Path, "read_bytes", refused)
    assert f"mqtt.tls.key: {config.parent / 'tls/edge.key'} may not be read by user" in told(config)


@pytest.mark.parametrize("key", FILES)
def test_a_run_names_the_same_file_and_fix_as_the_check(config: Path, key: str) -> None:
    pointed(config, key, "none")
    with pytest.raises(ConfigError) as e:
        build(load(config), None)
    assert (e.value.where, e.value.what) == (key, f"{config.parent / 'none'} does not exist")
    assert f"{key}: {e.value.what}\n  fix: {e.value.fix}" in told(config)


def test_the_doctor_names_absent_files_and_does_not_ask_the_broker_with_half_of_them(config: Path) -> None:
    pointed(config, "mqtt.tls.key", "none")
    pointed(config, "hub.token_file", "none")
    facts = examine(load(config))
    assert not facts["ok"]
    for key in ("mqtt.tls.key", "hub.token_file"):
        assert sum(p.startswith(f"{key}: {config.parent / 'none'} does not exist") for p in facts["problems"]) == 1
    assert facts["broker"].startswith("not asked")


@pytest.mark.parametrize(
    ("state_dir", "why"), [("edge.yaml", "cannot be written: Not a directory"), ("edge.yaml/state", "is not there")]
)
def test_the_doctor_says_when_the_state_folder_cannot_be_written(config: Path, state_dir: str, why: str) -> None:
    settings = load(config).model_copy(update={"state_dir": config.parent / state_dir})
    assert any(p.startswith(f"state_dir: {config.parent / state_dir} {why}") for p in examine(settings)["problems"])


def test_the_doctor_leaves_nothing_in_the_state_folder(config: Path) -> None:
    settings = load(config)
    before = sorted(settings.state_dir.rglob("*"))
    assert not any("state_dir" in p for p in examine(settings)["problems"])
    assert sorted(settings.state_dir.rglob("*")) == before
    absent = settings.model_copy(update={"state_dir": config.parent / "new" / "state"})
    assert not any("state_dir" in p for p in examine(absent)["problems"])
    assert not (config.parent / "new").exists()


# ── the handshake ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.fixture(scope="module")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plant]:
    with plant(tmp_path_factory.mktemp("plant")) as it:
        yield it


@pytest.mark.broker
@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({}, ""),
        ({"ca": "../other/ca.crt"}, "TLS: "),
        ({"cert": f"../other/{EDGE}.crt", "key": f"../other/{EDGE}.key"}, "TLS: "),
        ({"cert": None, "key": None}, "TLS: "),
    ],
    ids=["right", "another CA", "a stranger's certificate", "no certificate"],
)
def test_the_doctor_shakes_hands_with_the_broker(
    broker: Plant, tmp_path: Path, changes: dict[str, str | None], said: str
) -> None:
    mqtt = broker.config(EDGE)
    assert mqtt.tls
    new = {key: (mqtt.tls.ca.parent / value).resolve() if value else None for key, value in changes.items()}
    mqtt = mqtt.model_copy(update={"tls": mqtt.tls.model_copy(update=new)})
    facts = examine(load(write_station(tmp_path, 1)).model_copy(update={"mqtt": mqtt}))
    problems = [p for p in facts["problems"] if p.startswith(f"broker localhost:{broker.port}: {said}")]
    assert (problems == []) is (said == ""), facts
    assert facts["ok"] is (said == "")
    assert facts["broker"].startswith(f"localhost:{broker.port} " + ("refuses TLS" if said else "answers, TLSv1."))


def test_the_doctor_says_when_a_broker_that_answers_speaks_no_tls(config: Path) -> None:
    with socket.create_server(("localhost", 0)) as server:

        def answer() -> None:
            sock, _ = server.accept()
            with sock:
                sock.recv(100)
                sock.sendall(b"\x20\x02\x00\x00" * 4)

        threading.Thread(target=answer, daemon=True).start()
        settings = load(config)
        mqtt = settings.mqtt.model_copy(update={"port": server.getsockname()[1]})
        facts = examine(settings.model_copy(update={"mqtt": mqtt}))
    assert any(": TLS: " in p for p in facts["problems"])
    assert facts["broker"].endswith("refuses TLS")


def test_an_edge_connects_with_what_the_files_hold(config: Path) -> None:
    connection = Connection(load(config).mqtt, "files")
    assert connection._client._ssl_context is not None
