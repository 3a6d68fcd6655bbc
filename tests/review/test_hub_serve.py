"""Starting and stopping: a taken port is a plain message, open streams never keep the hub alive."""

from __future__ import annotations

import itertools
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
from typer.main import get_command
from typer.testing import CliRunner

from review.cli import app
from tests.conftest import free_port
from tests.review.factory import REPO, FakeEdge, HubProcess, png, until

pytestmark = pytest.mark.broker


def lines(url: str) -> Iterator[str]:
    with httpx.stream("GET", f"{url}/events", timeout=10) as stream:
        yield from stream.iter_lines()


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_hub_stops_with_streams_open(mosquitto: int, data_dir: Path, how: int) -> None:
    hub = HubProcess(data_dir, free_port(), mosquitto).start()
    ended = [threading.Event() for _ in range(3)]

    def listen(done: threading.Event) -> None:
        for _ in lines(hub.url):
            pass
        done.set()

    for done in ended:
        threading.Thread(target=listen, args=(done,), daemon=True).start()
    until(lambda: "haltline_hub_streams 3" in httpx.get(f"{hub.url}/metrics").text)
    assert hub.stop(how) < 5
    assert all(done.wait(2) for done in ended)
    assert "Traceback" not in hub.log.read_text()


def test_an_upload_that_the_end_cuts_off_is_one_line_in_the_log(mosquitto: int, data_dir: Path) -> None:
    hub = HubProcess(data_dir, free_port(), mosquitto).start()
    wanted = ("Host: hub", "Content-Length: 99", "Expect: 100-continue", "", "")
    head = "\r\n".join((f"PUT /api/edge/frames/{'a' * 64} HTTP/1.1", *wanted))
    with socket.create_connection(("127.0.0.1", int(hub.url.rpartition(":")[2])), timeout=30) as slow:
        slow.sendall(head.encode())
        assert b" 100 " in slow.recv(100), "the hub reads the body that never comes"
        hub.stop()
    said = hub.log.read_text()
    assert "timeout graceful shutdown exceeded" in said
    assert "Traceback" not in said


def test_an_answer_does_not_wait_for_a_delayed_acknowledgement(hub: HubProcess) -> None:
    """Nagle's algorithm would hold the second packet of every answer back for 40 ms; the quickest of 20 tells."""
    with httpx.Client(base_url=hub.url, timeout=10) as client:
        client.get("/static/icon.svg")
        took_s = [client.get("/static/icon.svg").elapsed.total_seconds() for _ in range(20)]
    assert min(took_s) < 0.035


def test_the_stream_ticks_every_two_seconds_with_ids(hub: HubProcess) -> None:
    stream = lines(hub.url)
    seen: list[tuple[float, int]] = []
    event = ""
    while len(seen) < 3:
        line = next(stream)
        if line.startswith("event: "):
            event = line[7:]
        if line.startswith("id: ") and event == "tick":
            seen.append((time.monotonic(), int(line[4:])))
    assert [later[0] - earlier[0] for earlier, later in itertools.pairwise(seen)] == pytest.approx([2, 2], abs=0.5)
    assert seen[0][1] < seen[1][1] < seen[2][1]


def test_a_taken_port_is_said_plainly(data_dir: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        command = [sys.executable, "-m", "review.cli", "serve", "--data", str(data_dir), "--port", port]
        ended = subprocess.run(command, cwd=REPO, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 2
    assert f"127.0.0.1:{port} cannot be used" in ended.stderr
    assert "choose another port" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_without_a_broker_the_hub_serves_and_says_so(data_dir: Path) -> None:
    port = free_port()
    command = [sys.executable, "-m", "review.cli", "serve", "--data", str(data_dir), "--port", str(port)]
    process = subprocess.Popen([*command, "--mqtt-port", str(free_port())], cwd=REPO, stderr=subprocess.DEVNULL)
    try:

        def health() -> httpx.Response | None:
            try:
                return httpx.get(f"http://127.0.0.1:{port}/healthz", timeout=1)
            except httpx.HTTPError:
                return None

        answer = until(health, 20)
        assert answer.status_code == 503
        assert "not connected" in answer.json()["broker"]
        assert httpx.get(f"http://127.0.0.1:{port}/").status_code == 200
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["serve", "--mqtt-version", "4"], "--mqtt-version"),
        (["serve", "--plc-panel-url", "javascript:alert(1)"], "--plc-panel-url"),
        (["serve", "--database", "nonsense"], "database_url"),
        (["serve", "--mqtt-cert", "hub.crt", "--mqtt-key", "hub.key"], "no TLS without --mqtt-ca"),
        (["serve", "--host", "300.1.1.1"], "--host: '300.1.1.1' is no address"),
        (["user", "add", "Ann", "--role", "boss"], "one of operator, inspector"),
        (["user", "add", " "], "is no name"),
    ],
)
def test_bad_options_are_exit_code_2_with_the_fix(tmp_path: Path, arguments: list[str], says: str) -> None:
    more = ["--port", str(free_port())] if arguments[0] == "serve" else []
    result = CliRunner().invoke(app, [*arguments, *more, "--data", str(tmp_path / "hub")])
    assert result.exit_code == 2, result.output
    assert says in result.output


def test_people_are_added_once(tmp_path: Path) -> None:
    add = ["user", "add", "Ann", "--role", "inspector", "--data", str(tmp_path / "hub")]
    assert "Ann is inspector" in CliRunner().invoke(app, add).output
    assert "nothing changed" in CliRunner().invoke(app, add).output


@pytest.mark.parametrize("name", ["plant%20east", "plant?mode=ro", "plant#2", "100 %"])
def test_a_data_folder_is_taken_as_it_is_written(mosquitto: int, tmp_path: Path, name: str) -> None:
    """Not as an address: the database lay in another folder, beside keys and pictures in this one."""
    data, out, again = tmp_path / name / "hub", tmp_path / "out", tmp_path / "again" / name
    data.parent.mkdir()
    hub = HubProcess(data, free_port(), mosquitto).start()
    try:
        assert httpx.get(f"{hub.url}/alarms").status_code == 200
    finally:
        hub.stop()
    for command in (
        ["user", "add", "Ann", "--data", data],
        ["audit", "verify", "--data", data],
        ["audit", "export", tmp_path / "log.jsonl", "--data", data],
        ["backup", "--data", data, "--out", out],
    ):
        said = CliRunner().invoke(app, [*map(str, command)])
        assert said.exit_code == 0, said.output
    (made,) = (folder for folder in out.iterdir() if folder.name != "pool")
    assert CliRunner().invoke(app, ["restore", str(made), "--data", str(again)]).exit_code == 0
    assert "Ann is already there" in CliRunner().invoke(app, ["user", "add", "Ann", "--data", str(again)]).output
    found = {path.relative_to(tmp_path).parts[0] for path in tmp_path.rglob("hub.db")}
    assert found == {name, "again", "out"}, "and no second one beside"


def test_an_error_names_the_folder_as_it_is_written(tmp_path: Path) -> None:
    data = tmp_path / "plant%20east"
    data.mkdir()
    (data / "hub.db").write_text("no database of any kind, but long enough to be looked at as one")
    said = CliRunner().invoke(app, ["user", "add", "Ann", "--data", str(data)])
    assert said.exit_code == 2
    assert f"{data / 'hub.db'} cannot be brought to this version" in said.output


def test_pages_carry_safe_headers_and_need_nothing_from_outside(hub: HubProcess) -> None:
    for path in ("/", "/alarms", "/who"):
        answer = httpx.get(hub.url + path)
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "https://" not in answer.text
        assert "http://" not in answer.text.replace(hub.url, "")


def test_a_new_release_s_scripts_are_not_kept_from_a_browser_by_the_old_ones(hub: HubProcess) -> None:
    """Where nothing is said, browsers keep a file for a tenth of its age: for days after an update."""
    path = f"{hub.url}/static/live.js"
    first = httpx.get(path)
    assert first.headers["cache-control"] == "no-cache"
    again = httpx.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_who_goes_in_the_middle_of_an_upload_or_a_download_leaves_nothing(hub: HubProcess, mosquitto: int) -> None:
    edge, chen, ana = FakeEdge(mosquitto, hub.url, "cut-off"), hub.signed_in("Chen (engineer)"), hub.signed_in()
    noise = np.random.default_rng(1).integers(0, 256, (512, 640, 3), np.uint8)
    uid = edge.record(image=edge.upload(png(noise)), uid="c" * 32).uid
    until(lambda: uid in edge.acked)
    edge.close()
    for who in (chen, ana):
        label = {"label_book": "weld@1", "classes": [], "unsure": False, "annotations": []}
        assert who.post(f"/label/{uid}", json=label).status_code == 200
    begun = set(Path(tempfile.gettempdir()).glob("haltline-export-*"))
    head = f"Host: {httpx.URL(hub.url).netloc.decode()}\r\nCookie: haltline={chen.cookies['haltline']}\r\n"
    form = "Content-Type: multipart/form-data; boundary=b\r\nContent-Length: 9999\r\n"
    part = '--b\r\nContent-Disposition: form-data; name="bundle"; filename="b.zip"\r\n\r\nPK'
    for asks in (
        f"GET /labels/export.zip HTTP/1.1\r\n{head}\r\n",
        f"POST /models/upload HTTP/1.1\r\n{head}{form}\r\n{part}",
    ):
        with socket.create_connection(("127.0.0.1", httpx.URL(hub.url).port or 0)) as line:
            line.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            line.sendall(asks.encode())
            if asks.startswith("GET"):
                assert line.recv(12) == b"HTTP/1.1 200"
            else:
                time.sleep(1)  # the hub is in the middle of reading the upload; nothing outside it says so
    until(lambda: set(Path(tempfile.gettempdir()).glob("haltline-export-*")) <= begun)
    assert httpx.get(f"{hub.url}/healthz").status_code == 200
    assert "Traceback" not in hub.log.read_text()


def test_the_names_form_leads_to_this_host_only(hub: HubProcess) -> None:
    for outside in ("//evil.example", "https://evil.example", "/\\evil.example"):
        answer = httpx.post(f"{hub.url}/who", data={"name": "Ana (operator)", "next": outside})
        assert answer.headers["location"] == "/"
    assert httpx.post(f"{hub.url}/who", data={"name": "Nobody"}).status_code == 422


def test_every_option_is_in_the_guide() -> None:
    guide = (REPO / "docs" / "hub.md").read_text()
    options = [o for p in get_command(app).commands["serve"].params for o in p.opts]  # type: ignore[attr-defined]
    assert [o for o in options if f"`{o}`" not in guide and o != "--help"] == []


def test_behind_a_proxy_with_tls_the_cookie_goes_no_other_way(mosquitto: int, tmp_path: Path) -> None:
    hub = HubProcess(tmp_path / "hub", free_port(), mosquitto, "--https").start()
    try:
        answer = httpx.post(f"{hub.url}/who", data={"name": "Ana (operator)"}, timeout=20)
        assert "; secure" in answer.headers["set-cookie"].lower()
    finally:
        hub.stop()
