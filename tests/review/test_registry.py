"""Bundles: what may enter the hub, what an edge may fetch, what a roll out sends. Real app, real SQLite."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr
from typer.testing import CliRunner

from inspection.bundle import (
    ClassLimits,
    Golden,
    GoldenCase,
    InputSpec,
    Lineage,
    Manifest,
    sha256,
)
from inspection.errors import BundleError
from inspection.messages import Message, ModelDesired, ModelReported, Permit, Topics
from review import ingest
from review.app import create_app
from review.cli import app as cli
from review.hub import Hub
from review.people import add_person
from review.registry import Registry
from review.settings import Settings
from review.store import Rollout, Station

FILES = {"model.onnx": b"graph", "golden/0.png": b"picture", "card.md": b"# Card\n\nMisses <b>hairlines</b>.\n"}


def bundle_files(version: str = "1.0.0", *, task: str = "scratch", **more: bytes) -> dict[str, bytes]:
    files = {**FILES, **more}
    manifest = Manifest(
        name=task,
        version=version,
        task=task,
        created_utc="2026-11-20T06:00:00Z",
        classes=("scratch",),
        input=InputSpec(width_px=320, height_px=256, px_per_mm=10),
        limits=(ClassLimits(cls="scratch", lo=0.1, hi=0.8, limit_mm=1.5),),
        label_book="scratch@1",
        golden=Golden(cases=(GoldenCase(image="golden/0.png", scores=(0.5,), heat_mean=(10.0,)),)),
        lineage=Lineage(snapshot="s", snapshot_sha256="0" * 64),
        files={name: sha256(data) for name, data in files.items()},
    )
    return {**files, "manifest.json": manifest.to_json()}


def in_folder(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def zipped(files: dict[str, bytes], root: str = "") -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, data in files.items():
            archive.writestr(root + name, data)
    return out.getvalue()


def test_half_an_upload_of_a_hub_that_was_killed_goes_with_its_next_start(tmp_path: Path) -> None:
    """Killed for real while it unpacks; a younger one may be another process's, who still writes it."""
    bundles = tmp_path / "bundles"
    source = in_folder(tmp_path / "b", bundle_files())
    stuck = "import os, sys, time; os.fsync = lambda _: (print('in it', flush=True), time.sleep(99)); "
    stuck += "from pathlib import Path; from review.registry import Registry; "
    stuck += "Registry(Path(sys.argv[1])).add_folder(Path(sys.argv[2]))"
    command = [sys.executable, "-c", stuck, str(bundles), str(source)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as killed:
        assert killed.stdout
        assert killed.stdout.readline() == b"in it\n"
        killed.kill()
    (left,) = bundles.iterdir()
    Hub.build(Settings(data_dir=tmp_path)).store.close()
    assert left.exists()
    os.utime(left, (0, 0))
    Hub.build(Settings(data_dir=tmp_path)).store.close()
    assert [*bundles.iterdir()] == []


def test_a_whole_bundle_enters_and_says_what_it_is(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "bundles")
    files = bundle_files()
    added = registry.add_folder(in_folder(tmp_path / "b", files))
    assert (added.id, added.sha256, added.signed) == ("scratch-1.0.0", sha256(files["manifest.json"]), False)
    assert "hairlines" in added.card
    assert registry.ids() == ["scratch-1.0.0"]
    assert registry.add_zip(zipped(files, "scratch-1.0.0/")) == added  # the same again changes nothing
    assert not list((tmp_path / "bundles").glob(".new-*"))


def test_a_bundle_is_safe_before_anybody_is_asked_to_serve_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []
    fsync = os.fsync

    def watched(fd: int) -> None:
        synced.append(str(Path(f"/proc/self/fd/{fd}").readlink()))
        fsync(fd)

    monkeypatch.setattr(os, "fsync", watched)
    Registry(tmp_path).add_zip(zipped(bundle_files()))
    staging = next(path for path in synced if path.endswith("/manifest.json")).removesuffix("/manifest.json")
    assert {staging, f"{staging}/golden"} <= set(synced), "the names within it"
    assert synced[-1] == str(tmp_path), "and its own"


def test_newest_versions_come_first_by_number_not_by_letter(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    for version in ("1.9.0", "1.10.0", "1.2.0"):
        registry.add_zip(zipped(bundle_files(version)))
    assert registry.ids() == ["scratch-1.10.0", "scratch-1.9.0", "scratch-1.2.0"]


def _with(name: str, data: bytes | None) -> Callable[[], bytes]:
    def make() -> bytes:
        files = bundle_files()
        files.pop(name, None)
        return zipped(files if data is None else {**files, name: data})

    return make


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (lambda: b"no zip at all", "no readable zip"),
        (lambda: zipped(bundle_files())[:-60], "no readable zip"),
        (_with("manifest.json", None), "0 files manifest.json"),
        (_with("manifest.json", b"{}"), "Field required"),
        (_with("model.onnx", None), "lacks"),
        (_with("model.onnx", b"other graph"), "sha256"),
        (_with("stray.bin", b"x"), "does not pin"),
        (_with("../evil.txt", b"x"), "path"),
        (_with("/etc/evil", b"x"), "path"),
        (_with("a/b/c.txt", b"x"), "path"),
        (lambda: zipped({f"f{n}": b"" for n in range(65)}), "65 files"),
        (_with("golden/1.png", b"\0" * (33 * 2**20)), "more than"),
    ],
)
def test_what_is_no_whole_bundle_stays_out(tmp_path: Path, data: Callable[[], bytes], words: str) -> None:
    registry = Registry(tmp_path / "bundles")
    with pytest.raises(BundleError, match=words):
        registry.add_zip(data(), "up.zip")
    assert registry.ids() == []
    assert not (tmp_path / "evil.txt").exists()


def test_the_name_of_the_folder_in_a_zip_leads_nowhere(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "bundles")
    assert registry.add_zip(zipped(bundle_files(), "../../")).id == "scratch-1.0.0"
    assert [p.name for p in tmp_path.iterdir()] == ["bundles"]


def test_of_several_who_bring_one_bundle_at_once_each_is_told_that_it_is_here(tmp_path: Path) -> None:
    """As a double tap on Upload does: all but one were answered "Internal Server Error"."""
    data = zipped(bundle_files())
    with ThreadPoolExecutor(8) as several:
        added = list(several.map(lambda _: Registry(tmp_path).add_zip(data), range(32)))
    assert {bundle.id for bundle in added} == {"scratch-1.0.0"}
    assert [path.name for path in tmp_path.iterdir()] == ["scratch-1.0.0"]


def test_an_id_names_one_content_for_good(tmp_path: Path) -> None:
    registry = Registry(tmp_path)
    registry.add_zip(zipped(bundle_files()))
    with pytest.raises(BundleError, match="raise the version"):
        registry.add_zip(zipped(bundle_files(**{"model.onnx": b"another"})))


@pytest.mark.parametrize("bundle", ["..", "scratch-1.0.1", "../bundles/scratch-1.0.0", "", "SCRATCH-1.0.0"])
def test_an_unknown_bundle_is_none(tmp_path: Path, bundle: str) -> None:
    registry = Registry(tmp_path / "bundles")
    registry.add_zip(zipped(bundle_files()))
    assert registry.file(bundle, "manifest.json") is None
    assert registry.file("scratch-1.0.0", "../../secret") is None


# -- over HTTP -------------------------------------------------------------------------------------------------------


class World:
    """The app with an engineer and an inspector, one station, and what was published instead of a broker."""

    def __init__(self, folder: Path, token: str | None = None) -> None:
        app = create_app(Settings(data_dir=folder, edge_token=SecretStr(token) if token else None, demo_people=True))
        self.hub = app.state.hub
        self.sent: list[tuple[Topics, Message]] = []
        self.broker = True
        self.hub.mqtt.publish = self._publish
        add_person(self.hub.store, "Eve", "engineer")
        add_person(self.hub.store, "Ian", "inspector")
        with self.hub.store.writing() as session:
            session.add(Station(site="p", line="l", station="s"))
        self.client = TestClient(app, base_url="http://hub")
        self.sign_in("Eve")

    def _publish(self, topics: Topics, message: Message) -> bool:
        if self.broker:
            self.sent.append((topics, message))
        return self.broker

    def sign_in(self, name: str) -> None:
        assert self.client.post("/who", data={"name": name, "next": "/models"}).status_code == 200

    def upload(self, files: dict[str, bytes]) -> str:
        answer = self.client.post("/models/upload", files={"bundle": ("up.zip", zipped(files))})
        return answer.text if answer.status_code == 200 else f"{answer.status_code} {answer.text}"

    def roll_out(self, bundle: str, *, rollback: bool = False) -> str:
        fields = {"station": "p~l~s", "bundle": bundle, "rollback": str(rollback).lower()}
        answer = self.client.post("/models/rollout", data=fields)
        return f"{answer.status_code} {answer.text}"

    def reports(self, bundle: str, state: str, wanted: str = "", why: str = "") -> None:
        said = ModelReported(bundle=bundle, sha256="", state=state, wanted=wanted, why=why, ts_ms=0)  # type: ignore[arg-type]
        with self.hub.store.writing() as session:
            ingest.store(session, self.hub.frames, Topics("p", "l", "s"), said)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_upload_roll_out_refused_then_roll_back(world: World) -> None:
    files = {v: bundle_files(v) for v in ("1.0.0", "1.1.0")}
    for one in files.values():
        assert "scratch-1" in world.upload(one)
    assert world.roll_out("scratch-1.0.0").startswith("200")
    topics, sent = world.sent[0]
    assert topics.of(ModelDesired) == "haltline/v1/p/l/s/model/desired"
    assert isinstance(sent, ModelDesired)
    assert sent.ts_ms > 0
    assert sent == ModelDesired(
        bundle="scratch-1.0.0",
        sha256=sha256(files["1.0.0"]["manifest.json"]),
        url="/api/edge/bundles/scratch-1.0.0",
        ts_ms=sent.ts_ms,
    )
    assert "Asked, no answer yet" in world.client.get("/models/stations/p~l~s").text
    world.reports("scratch-1.0.0", "serving")
    shown = world.client.get("/models/stations/p~l~s").text
    assert "Serving" in shown
    assert "asked by Eve" in shown
    world.roll_out("scratch-1.1.0")
    world.reports("scratch-1.0.0", "refused", "scratch-1.1.0", "golden/0.png differs by 0.2")
    shown = world.client.get("/models/stations/p~l~s").text
    assert "Refused" in shown
    assert "golden/0.png differs by 0.2" in shown
    assert "Serves scratch-1.0.0" in shown
    world.reports("scratch-1.1.0", "serving")
    assert "422" in world.roll_out("scratch-1.0.0")
    assert "Roll back to scratch-1.0.0" in world.client.get("/models").text
    assert world.roll_out("scratch-1.0.0", rollback=True).startswith("200")
    orders = [message for _, message in world.sent if isinstance(message, ModelDesired)]
    assert orders[-1].rollback is True
    asked_ms = [order.ts_ms for order in orders]
    assert asked_ms == sorted(set(asked_ms)), "an edge goes by the time: each is later than the one before"
    with world.hub.store.reading() as session:
        assert [r.state for r in session.query(Rollout).order_by(Rollout.id)] == ["serving", "serving", "asked"]


def test_each_station_is_told_its_newest_request_again_and_a_retired_one_none(world: World) -> None:
    for version in ("1.0.0", "1.1.0"):
        world.upload(bundle_files(version))
    with world.hub.store.writing() as session:
        session.add(Station(site="p", line="l", station="t"))
        session.add(Station(site="p", line="l", station="never asked"))
    world.roll_out("scratch-1.1.0")
    newest = world.roll_out("scratch-1.0.0", rollback=True) and world.sent[-1]
    world.client.post("/models/rollout", data={"station": "p~l~t", "bundle": "scratch-1.1.0"})
    other = world.sent[-1]
    assert other[0].station == "t"
    world.sent.clear()
    world.hub.mqtt.on_up()
    assert sorted(world.sent, key=str) == sorted([newest, other], key=str)
    with world.hub.store.writing() as session:
        session.get_one(Station, 2).retired_ms = 1
    world.sent.clear()
    world.hub.mqtt.on_up()
    assert world.sent == [newest]
    with world.hub.store.reading() as session:
        assert session.query(Rollout).count() == 3, "said again is not asked again"


def test_the_page_says_of_a_station_that_is_off_that_it_is(world: World) -> None:
    def shown() -> str:
        page = world.client.get("/models").text
        part = world.client.get("/models/stations/p~l~s").text
        assert ("not heard now" in page) == ("not heard now" in part)
        return part

    world.upload(bundle_files())
    world.reports("scratch-1.0.0", "serving")
    assert "not heard now: this is what it said last" in shown()
    world.roll_out("scratch-1.0.0")
    assert "not heard now. It gets this request when it is back" in shown()
    permit = Permit(run=1, code=0, halt=0, boot=1, seq=1, echo=0, age_ms=1, ts_ms=1)
    world.hub.live.permit(Topics("p", "l", "s"), permit, time.monotonic_ns())
    assert "not heard now" not in shown()


def test_a_second_try_is_not_answered_by_the_first_refusal(world: World) -> None:
    world.upload(bundle_files())
    world.roll_out("scratch-1.0.0")
    world.reports("", "refused", "scratch-1.0.0", "too slow")
    world.roll_out("scratch-1.0.0")
    assert "Asked, no answer yet" in world.client.get("/models/stations/p~l~s").text
    world.reports("", "refused", "scratch-1.0.0", "too slow")
    assert "Refused" in world.client.get("/models/stations/p~l~s").text


def test_an_upload_is_bounded_before_it_is_read(world: World) -> None:
    answer = world.client.post("/models/upload", data={"bundle": "text"}, headers={"Content-Length": str(2**40)})
    assert (answer.status_code, "at most" in answer.text) == (422, True)
    answer = world.client.post("/models/upload", data={"bundle": "text"})
    assert (answer.status_code, "brings no file" in answer.text) == (422, True)


def test_without_a_broker_nothing_is_recorded(world: World) -> None:
    world.upload(bundle_files())
    world.broker = False
    answer = world.roll_out("scratch-1.0.0")
    assert answer.startswith("422")
    assert "not connected" in answer
    with world.hub.store.reading() as session:
        assert session.query(Rollout).count() == 0


def test_a_model_for_another_task_is_refused(world: World) -> None:
    world.upload(bundle_files())
    world.upload(bundle_files(task="weld"))
    world.reports("scratch-1.0.0", "serving")
    assert "is for the task weld" in world.roll_out("weld-1.0.0")


def test_who_is_no_engineer_looks_and_does_not_touch(world: World) -> None:
    world.upload(bundle_files())
    world.sign_in("Ian")
    assert "Upload and check" not in world.client.get("/models").text
    assert "is inspector" in world.roll_out("scratch-1.0.0")
    assert world.upload(bundle_files("2.0.0")).startswith("403")
    assert not world.sent


def test_a_bad_upload_is_told_in_words_and_a_card_is_no_html(world: World) -> None:
    answer = world.upload({**bundle_files(), "model.onnx": b"tampered"})
    assert answer.startswith("422")
    assert "does not have the sha256" in answer
    world.upload(bundle_files())
    assert "&lt;b&gt;hairlines" in world.client.get("/models").text


def test_the_command_adds_a_bundle_and_names_what_is_wrong(tmp_path: Path) -> None:
    data = str(tmp_path / "hub")
    good, bad = in_folder(tmp_path / "good", bundle_files()), in_folder(tmp_path / "bad", {"model.onnx": b"x"})
    run = CliRunner().invoke
    added = run(cli, ["models", "add", str(good), "--data", data])
    assert (added.exit_code, "scratch-1.0.0 is ready" in added.output) == (0, True)
    refused = run(cli, ["models", "add", str(bad), "--data", data])
    assert refused.exit_code == 2
    assert "holds no manifest.json" in refused.output
    assert Registry(tmp_path / "hub" / "bundles").ids() == ["scratch-1.0.0"]


def test_an_edge_fetches_pinned_files_with_its_token(tmp_path: Path) -> None:
    world = World(tmp_path, token="s3cret-token")
    files = bundle_files()
    world.upload(files)
    base, token = "/api/edge/bundles/scratch-1.0.0", {"Authorization": "Bearer s3cret-token"}
    for name, data in files.items():
        assert world.client.get(f"{base}/{name}", headers=token).content == data
    for path in ("manifest.sig", "../../hub.db", "%2e%2e/%2e%2e/hub.db", "nothing", ""):
        assert world.client.get(f"{base}/{path}", headers=token).status_code == 404
    assert world.client.get(f"{base}/manifest.json").status_code == 401
    assert world.client.get(f"{base}/manifest.json", headers={"Authorization": "Bearer x"}).status_code == 401
