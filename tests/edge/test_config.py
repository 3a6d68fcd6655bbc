"""A bad `edge.yaml`: file, line, key, value and fix, exit code 2. The person who reads it is on a ladder."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.tiny_bundle import write_bundle
from edge.config import PolicyConfig
from edge.config_file import load
from edge.wiring import TICK_S
from inspection.errors import ConfigError

GOOD = """\
station: {site: east, line: line1, station: st1}
cameras:
  - name: cam1
    type: folder
    source: pictures
bundle:
  path: red-1.0.0
state_dir: state
policy:
  k: 2
  n: 3
"""


def written(folder: Path, text: str) -> Path:
    path = folder / "edge.yaml"
    path.write_text(text)
    return path


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("type: folder", "typ: folder"), [":4: cameras.0.typ: no such key", "did you mean type?"]),
        (("type: folder", "type: webcam"), [":4: cameras.0.type: ", "'webcam'"]),
        (("  k: 2", "  k: 0"), [":10: policy.k: ", "greater than or equal to 1", "not 0"]),
        (("  k: 2", "  k: 5"), [":9: policy: k 5 is more than n 3"]),
        (("  k: 2", "  k: two"), [":10: policy.k: ", "'two'"]),
        (("state_dir: state\n", ""), [":1: state_dir: is missing", "add it"]),
        (("site: east", "site: 'ea/st'"), [":1: station: site 'ea/st' is no topic level"]),
        (("site: east", "site: '+'"), ["is no topic level"]),
        (("cameras:\n", "cameras: [\n"), ["edge.yaml:"]),
        (("  k: 2", "\tk: 2"), [":10: ", "tabs are not allowed"]),
        (("    source: pictures", "    source: pictures\n    fps: 0"), [":6: cameras.0.fps: ", "greater than 0"]),
        (
            ("bundle:", "hub: {url: 'ftp://hub'}\nbundle:"),
            [":6: hub.url: ", "'ftp://hub'"],
        ),
        (("bundle:", "mqtt: {host: a..b}\nbundle:"), [":6: mqtt.host: 'a..b' is no host's name or address", "e.g. "]),
        (("bundle:", "mqtt: {host: ''}\nbundle:"), [":6: mqtt.host: '' is no host's"]),
        (("bundle:", "mqtt: {host: 'broker:1883'}\nbundle:"), [":6: mqtt.host: 'broker:1883' is no", "without port"]),
        (("bundle:", "mqtt: {host: 'mqtt://broker'}\nbundle:"), [":6: mqtt.host: 'mqtt://broker' is no"]),
        (("bundle:", "hub: {url: 'https://a..b'}\nbundle:"), [":6: hub.url: 'https://a..b': 'a..b' is no host's"]),
        (("bundle:", "hub: {url: 'https://hub:port'}\nbundle:"), [":6: hub.url: 'https://hub:port': ", "port"]),
        (
            ("  n: 3", "  n: 3\n  classes: {red: {limit_mm: .inf}}"),
            [":12: policy.classes.red.limit_mm: ", "finite number", "not inf"],
        ),
        (
            ("    source: pictures", "    source: pictures\n    px_per_mm: .inf"),
            [":6: cameras.0.px_per_mm: ", "finite"],
        ),
        (("  n: 3", "  n: 3\n  lease_ms: 50"), [":12: policy.lease_ms: ", "greater than or equal to 150", "not 50"]),
        (("  - name: cam1", "  - name: cam1\n    type: video\n  - name: cam1"), ["two cameras have one name"]),
    ],
)
def test_a_mistake_is_named_where_it_is(tmp_path: Path, change: tuple[str, str], expected: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, GOOD.replace(*change)))
    for part in expected:
        assert part in str(error.value)


BOMB = "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]\n" for n in range(1, 9))


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (
            GOOD.replace("st1}", "prüf}").encode("latin1"),
            [":1: byte 0xfc is no UTF-8", "save it as plain text in UTF-8"],
        ),
        (GOOD.replace("  k: 2", "  # µ").encode("cp1252"), [":10: byte 0xb5 is no UTF-8"]),
        (GOOD.encode("utf-16-be"), [":1: character U+0000 does not belong into text", "in UTF-8"]),
        (GOOD.replace("  k: 2", "  k: 2\n  k: 3").encode(), [":11: found duplicate key", "keep one of the two"]),
        (GOOD.replace("k: 2", "k: " + "9" * 5000).encode(), [":10: Exceeds the limit"]),
        (GOOD.replace("k: 2", "k: 2026-02-30").encode(), [":10: day is out of range for month"]),
        (GOOD.replace("k: 2", "k: !!int x").encode(), [":10: invalid literal"]),
        (b"a: " + b"[" * 3000, ["edge.yaml: is nested too deeply"]),
        (("a0: &a0 1\n" + BOMB + GOOD).encode(), ["holds more than 100000 values"]),
        ((GOOD + "7: x\n").encode(), [":12: 7: no such key"]),
        (
            GOOD.replace("    source: pictures", "    source: pictures\n    seed: -1").encode(),
            [":6: cameras.0.seed: ", "greater than or equal to 0"],
        ),
    ],
)
def test_a_file_that_is_no_text_or_no_yaml_is_named_by_its_line(
    tmp_path: Path, data: bytes, expected: list[str]
) -> None:
    (tmp_path / "edge.yaml").write_bytes(data)
    with pytest.raises(ConfigError) as error:
        load(tmp_path / "edge.yaml")
    for part in expected:
        assert part in str(error.value)


def test_a_camera_that_is_wrong_is_one_mistake(tmp_path: Path) -> None:
    """It was two: "cameras: Tuple should have at least 1 item" came with each."""
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, GOOD.replace("    source: pictures", "    source: pictures\n    fps: .nan")))
    assert str(error.value).count("edge.yaml:") == 1
    with pytest.raises(ConfigError, match=r":2: cameras: .* at least 1 item"):
        load(written(tmp_path, GOOD.split("\n  - name", 1)[0] + " []\n" + GOOD.split("pictures\n", 1)[1]))


@pytest.mark.parametrize("host", ["127.0.0.1", "broker", "broker.plant.example.", "::1", "fe80::1%eth0", "prüfstand"])
def test_a_host_that_can_be_asked_for_is_taken(tmp_path: Path, host: str) -> None:
    url = f"http://[{host}]:8080" if ":" in host else f"http://{host}:8080"
    more = f"mqtt: {{host: '{host}'}}\nhub: {{url: '{url}'}}\n"
    config = load(written(tmp_path, GOOD.replace("bundle:", more + "bundle:")))
    assert config.mqtt.host == host


@pytest.mark.parametrize(
    ("camera", "policy", "expected"),
    [
        (
            "fps: 2",
            "",
            [":6: cameras.0.fps: 2 is a frame every 500 ms", "max_silence_ms is 300", "fix: set policy.max_silence_ms"],
        ),
        ("fps: 2", "max_silence_ms: 500", ["never a permit"]),
        ("", "max_silence_ms: 20", [":3: cameras.0.fps: 30 is a frame every 33 ms"]),
        ("fps: 2", "max_silence_ms: 501", []),
        ("fps: 2", "mode: part", []),
    ],
)
def test_settings_that_stop_the_line_together_are_told(
    tmp_path: Path, camera: str, policy: str, expected: list[str]
) -> None:
    text = GOOD.replace("    source: pictures", f"    source: pictures\n    {camera}") + f"  {policy}\n"
    if not expected:
        load(written(tmp_path, text))
        return
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, text))
    for part in expected:
        assert part in str(error.value)


@pytest.mark.parametrize("kind", ["opencv", "genicam", "pylon"])
def test_a_live_camera_that_waits_for_parts_is_not_closed_between_them(tmp_path: Path, kind: str) -> None:
    text = GOOD.replace("type: folder", f"type: {kind}") + "  mode: part\n"
    with pytest.raises(ConfigError, match=r":3: cameras\.0\.stall_ms: is left out, so that 1000 ms") as error:
        load(written(tmp_path, text))
    assert "fix: set stall_ms: 0" in str(error.value)
    for said in (0, 1000):
        told = text.replace("    source", f"    stall_ms: {said}\n    source")
        assert load(written(tmp_path, told)).cameras[0].stall_ms == said


def test_the_shortest_lease_outlasts_two_ticks_that_never_came() -> None:
    assert PolicyConfig(lease_ms=150).lease_ms >= round(3 * 1000 * TICK_S)


def test_a_slow_camera_that_the_line_can_do_without_stops_nothing(tmp_path: Path) -> None:
    slow = "  - {name: side, type: folder, source: pictures, fps: 1, optional: true}\nbundle:"
    assert load(written(tmp_path, GOOD.replace("bundle:", slow, 1))).cameras[1].fps == 1


def test_all_mistakes_are_told_at_once(tmp_path: Path) -> None:
    text = GOOD.replace("  k: 2", "  k: 0").replace("type: folder", "typ: folder")
    with pytest.raises(ConfigError) as error:
        load(written(tmp_path, text))
    assert str(error.value).count("edge.yaml:") >= 3


def test_a_missing_file_names_one_to_start_from(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"edge\.example\.yaml"):
        load(tmp_path / "none.yaml")


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written(tmp_path, GOOD)
    monkeypatch.chdir("/")
    config = load(path)
    assert config.bundle.path == tmp_path / "red-1.0.0"
    assert config.state_dir == tmp_path / "state"
    assert config.cameras[0].source == str(tmp_path / "pictures")


def check(path: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "haltline", "edge", "check", str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_the_command_says_right_or_what_to_mend(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (tmp_path / "pictures").mkdir()
    path = written(tmp_path, GOOD)
    assert check(path).returncode == 0
    assert "is right" in check(path).stdout

    wrong_class = check(written(tmp_path, GOOD + "  classes: {blue: {hi: 0.9}}\n"))
    assert wrong_class.returncode == 2
    assert "has no class ['blue']" in wrong_class.stderr
    assert "it knows red" in wrong_class.stderr

    no_picture = check(written(tmp_path, GOOD.replace("source: pictures", "source: gone")))
    assert no_picture.returncode == 2
    assert f"cameras.0.source: {tmp_path / 'gone'} is no folder\n  fix: name a folder of pictures" in no_picture.stderr
    assert no_picture.stderr.startswith(f"{tmp_path / 'edge.yaml'}:"), "and its line"

    no_bundle = check(written(tmp_path, GOOD.replace("red-1.0.0", "blue-1.0.0")))
    assert no_bundle.returncode == 2
    assert "is no folder" in no_bundle.stderr
    assert "Traceback" not in no_bundle.stderr


def test_the_edge_never_loads_torch_or_the_hub() -> None:
    """Nor, before there is a key to check with, ten MiB of cryptography."""
    heavy = ("torch", "fastapi", "sqlalchemy", "cryptography")
    code = f"import edge.wiring, edge.cli, sys; print([m for m in sys.modules if m in {heavy}])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_an_edge_that_may_not_start_ends_though_nobody_reads_why(tmp_path: Path) -> None:
    """A real pipe that is full, as a log driver's whose server is away: it waited there for ever, neither running nor
    ended, so that nobody started it again."""
    bad = written(tmp_path, GOOD.replace("k: 2", "k: 0"))
    reads, writes = os.pipe()
    os.set_blocking(writes, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(writes, bytes(4096))
    os.set_blocking(writes, True)
    try:
        child = subprocess.Popen([sys.executable, "-m", "haltline", "edge", "run", str(bad)], stderr=writes)
        try:
            assert child.wait(40) == 2
        finally:
            child.kill()
    finally:
        os.close(reads)
        os.close(writes)
