"""Fault 22: hostile bundles, each refused while the old model keeps serving; and a good one taken without a pause."""

from __future__ import annotations

import json
import resource
import struct
import threading
import time
import zlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import onnx
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from onnx import TensorProto, helper

from benchmarks.station import wait_for
from benchmarks.tiny_bundle import H, W, picture, red_model, write_bundle
from edge.bundle_store import VerifiedBundle, read_bundle
from edge.cameras.framing import Framing
from edge.config import CameraConfig, MqttConfig, PolicyConfig, RegionConfig
from edge.line.outbox import Outbox
from edge.model_onnx import OnnxModel
from edge.png import SIGNATURE
from edge.ports import Serve
from edge.rollout import Rollout
from edge.wiring import policy_for
from inspection.bundle import MANIFEST_FILE, MODEL_FILE, SIGNATURE_FILE, sha256, sign
from inspection.errors import BundleError, CameraError
from inspection.messages import ModelDesired, ModelReported, Topics
from inspection.types import Frame
from tests.conftest import free_port

KEY = Ed25519PrivateKey.generate()
STRANGER = Ed25519PrivateKey.generate()
Files = dict[str, bytes]


def pem(key: Ed25519PrivateKey) -> bytes:
    plain = serialization.NoEncryption()
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)


def signed(files: Files, change: Callable[[dict[str, Any]], None] = lambda m: None, key: bytes = b"") -> Files:
    """The files with a changed manifest that pins them all, signed."""
    manifest = json.loads(files[MANIFEST_FILE])
    for path in manifest["files"]:
        if path in files:
            manifest["files"][path] = sha256(files[path])
    change(manifest)
    data = json.dumps(manifest).encode()
    return {**files, MANIFEST_FILE: data, SIGNATURE_FILE: sign(data, key or pem(KEY))}


def with_model(data: bytes) -> Callable[[Files], Files]:
    return lambda files: signed({**files, MODEL_FILE: data})


def edited(**changes: Any) -> Callable[[Files], Files]:
    return lambda files: signed(files, lambda m: m.update(changes))


def nested(path: str, value: Any) -> Callable[[Files], Files]:
    def change(manifest: dict[str, Any]) -> None:
        *parents, last = path.split(".")
        node: Any = manifest
        for part in parents:
            node = node[int(part) if part.isdigit() else part]
        node[int(last) if last.isdigit() else last] = value

    return lambda files: signed(files, change)


def model_with(op: str = "", domain: str = "", external: bool = False, floats: bool = False) -> bytes:
    """The red model with a foreign node, with weights outside of the file, or with another input type."""
    model = onnx.load_from_string(red_model())
    if op:
        model.graph.node.append(helper.make_node(op, ["scores"], ["stray"], domain=domain))
        model.opset_import.append(helper.make_opsetid(domain, 1))
    if external:
        weight = model.graph.initializer[0]
        weight.ClearField("raw_data")
        weight.ClearField("float_data")
        weight.data_location = TensorProto.EXTERNAL
        weight.external_data.add(key="location", value="../../../../etc/passwd")
        weight.external_data.add(key="length", value="12")
    if floats:
        model.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    return bytes(model.SerializeToString())


def bomb(side_px: int, width: int = 0, height: int = 0) -> bytes:
    """A black PNG of one bit a px; its header may claim another size."""
    size = struct.pack(">IIBBBBB", width or side_px, height or side_px, 1, 0, 0, 0, 0)
    packer = zlib.compressobj(9)
    rows = b"".join(packer.compress(bytes(1 + side_px // 8)) for _ in range(side_px)) + packer.flush()
    chunks = (b"IHDR" + size, b"IDAT" + rows, b"IEND")
    return SIGNATURE + b"".join(struct.pack(">I", len(c) - 4) + c + struct.pack(">I", zlib.crc32(c)) for c in chunks)


def more_files(manifest: dict[str, Any], extra: dict[str, str]) -> None:
    manifest["files"].update(extra)


HOSTILE: dict[str, Callable[[Files], Files]] = {
    # who signed it
    "no signature": lambda f: {k: v for k, v in f.items() if k != SIGNATURE_FILE},
    "a stranger's signature": lambda f: signed(f, key=pem(STRANGER)),
    "empty signature": lambda f: {**f, SIGNATURE_FILE: b""},
    "signature of zeros": lambda f: {**f, SIGNATURE_FILE: bytes(64)},
    "signature one byte short": lambda f: {**f, SIGNATURE_FILE: f[SIGNATURE_FILE][:-1]},
    "signature of the model instead": lambda f: {**f, SIGNATURE_FILE: sign(f[MODEL_FILE], pem(KEY))},
    "manifest changed after signing": lambda f: {**f, MANIFEST_FILE: f[MANIFEST_FILE].replace(b"0.7", b"0.9")},
    # what the manifest says
    "manifest is no JSON": lambda f: {**f, MANIFEST_FILE: b"{", SIGNATURE_FILE: sign(b"{", pem(KEY))},
    "manifest is a pickle": lambda f: {**f, MANIFEST_FILE: b"\x80\x04.", SIGNATURE_FILE: sign(b"\x80\x04.", pem(KEY))},
    "unknown format": edited(format=2),
    "unknown key": edited(run_after_load="rm -rf /"),
    "another task": edited(task="scratch"),
    "another name": edited(name="blue"),
    "older version": edited(version="0.9.0"),
    "expired yesterday": edited(expires_utc=(datetime.now(UTC) - timedelta(days=1)).isoformat()),
    "expires at no time zone's time": edited(expires_utc="2999-01-01T00:00:00"),
    "version is no version": edited(version="1.0.0; rm -rf /"),
    "name is a path": edited(name="../red"),
    "no classes": edited(classes=[], limits=[]),
    "class named like code": edited(classes=["__import__"]),
    "limits of another class": nested("limits.0.cls", "blue"),
    "lo above hi": nested("limits.0.lo", 0.99),
    "hi is not a number": nested("limits.0.hi", "NaN"),
    "hi above one, so that nothing ever halts": nested("limits.0.hi", 1.5),
    "negative size limit": nested("limits.0.limit_mm", -1),
    "input of another layout": nested("input.layout", "NCHW"),
    "input of another type": nested("input.dtype", "float32"),
    "input larger than memory": nested("input.width_px", 2**31),
    "scale zero": nested("input.px_per_mm", 0),
    "stride that is none": nested("outputs.heat_stride", 0),
    "no golden frame": nested("golden.cases", []),
    "tolerance wide enough for anything": nested("golden.tolerance", 1.0),
    "golden frame outside": nested("golden.cases.0.image", "../../secret.png"),
    "golden with too few scores": nested("golden.cases.0.scores", []),
    "pins an absolute path": lambda f: signed(f, lambda m: more_files(m, {"/etc/passwd": "0" * 64})),
    "pins a path above": lambda f: signed(f, lambda m: more_files(m, {"../../id_rsa": "0" * 64})),
    "pins a hidden file": lambda f: signed(f, lambda m: more_files(m, {".ssh/authorized_keys": "0" * 64})),
    "pins a file it does not have": lambda f: signed(f, lambda m: more_files(m, {"extra.bin": "0" * 64})),
    "pins thousands of files": lambda f: signed(f, lambda m: more_files(m, {f"f{k}": "0" * 64 for k in range(3000)})),
    "sha256 that is none": nested("files", {MODEL_FILE: "abc", "golden/red.png": "abc"}),
    # what the files are
    "model truncated": lambda f: {**f, MODEL_FILE: f[MODEL_FILE][:-20]},
    "model with one bit flipped": lambda f: {**f, MODEL_FILE: bytes([f[MODEL_FILE][0] ^ 1]) + f[MODEL_FILE][1:]},
    "model empty, and pinned so": with_model(b""),
    "model truncated, and pinned so": lambda f: with_model(f[MODEL_FILE][:200])(f),
    "model is a pickle": with_model(b"\x80\x04\x95\x0c\x00\x00\x00cos\nsystem\n."),
    "model is a shell script": with_model(b"#!/bin/sh\nreboot\n"),
    "model is zeros": with_model(bytes(10_000)),
    "model has a custom op": with_model(model_with("Reboot", "com.evil")),
    "model has an unknown op": with_model(model_with("NoSuchOp")),
    "model reads a file outside": with_model(model_with(external=True)),
    "model takes floats": with_model(model_with(floats=True)),
    "golden frame missing": lambda f: {k: v for k, v in f.items() if k != "golden/red.png"},
    "golden frame is no picture": lambda f: signed({**f, "golden/red.png": b"GIF89a" + bytes(100)}),
    "golden frame empty": lambda f: signed({**f, "golden/red.png": b""}),
    "golden frame is a bomb: 122 kB for 2.7 GB": lambda f: signed({**f, "golden/red.png": bomb(30_000)}),
    "golden frame is a bomb of the input's size": lambda f: signed({**f, "golden/red.png": bomb(30_000, W, H)}),
    # what the model does
    "golden scores do not come out": nested("golden.cases.0.scores.0", 0.2),
    "golden heat does not come out": nested("golden.cases.0.heat_mean.0", 200.0),
    "outputs of another name": nested("outputs.scores", "probabilities"),
    "input of another name": nested("input.name", "pixels"),
    "another heat stride": nested("outputs.heat_stride", 8),
    "another input size": nested("input.height_px", 128),
    "two classes, one output": edited(
        classes=["red", "blue"],
        limits=[{"cls": c, "lo": 0.1, "hi": 0.9} for c in ("red", "blue")],
        golden={"cases": [{"image": "golden/red.png", "scores": [1.0, 0.0], "heat_mean": [0.0, 0.0]}]},
    ),
    "endless file": lambda f: signed({**f, "golden/red.png": bytes(40 * 2**20)}),
}


class EarOutbox(Outbox):
    """The real one, remembering what the hub would be told."""

    def __init__(self) -> None:
        super().__init__(MqttConfig(port=1), Topics("s", "l", "st"))
        self.told: list[ModelReported] = []

    def report_model(self, reported: ModelReported) -> None:
        self.told.append(reported)
        super().report_model(reported)


class Hub:
    """Serves whatever `files` holds, as the hub does."""

    def __init__(self) -> None:
        self.files: Files = {}
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = hub.files.get(self.path.removeprefix("/api/edge/bundles/x/"))
                self.send_response(200 if body is not None else 404)
                self.send_header("content-length", str(len(body or b"")))
                self.end_headers()
                self.wfile.write(body or b"")

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


class Station:
    """A running Rollout with its doors open to the test."""

    def __init__(self, folder: Path) -> None:
        self.hub, self.outbox = Hub(), EarOutbox()
        self.served: list[Serve] = []
        self.sessions = 0
        self.framings: list[Framing] = []
        """The station's cameras; none here has given a picture."""
        key = folder / "trusted.pem"
        public = KEY.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        key.write_bytes(public)
        serving = OnnxModel(read_bundle(write_bundle(folder / "old", "1.0.0")))
        url = f"http://127.0.0.1:{self.hub.server.server_port}"
        self.rollout = Rollout(
            serving,
            self._load,
            lambda manifest: policy_for(PolicyConfig(), manifest),
            self.served.append,
            self.outbox,
            httpx.Client(base_url=url, trust_env=False),
            folder / "store",
            (key,),
            newest=lambda: [frame for framing in self.framings for frame in framing.newest()],
        )
        self.rollout.start()
        self.good = self._good(folder)
        self.folder = folder

    def _load(self, bundle: VerifiedBundle) -> OnnxModel:
        self.sessions += 1
        return OnnxModel(bundle)

    def _good(self, folder: Path) -> Files:
        path = write_bundle(folder / "new", "1.1.0")
        files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
        return signed(files)

    def order(self, files: Files, rollback: bool = False, sha: str = "", bundle: str = "red-1.1.0") -> ModelReported:
        """Order what the hub now holds; what the hub was told in the end."""
        self.hub.files = files
        before = len(self.outbox.told)
        wanted = sha or sha256(files[MANIFEST_FILE])
        order = ModelDesired(bundle=bundle, sha256=wanted, url="/api/edge/bundles/x", rollback=rollback)
        self.rollout._orders.put(order)
        wait_for(lambda: any(r.state != "fetching" for r in self.outbox.told[before:]), 20, "an answer")
        return self.outbox.told[-1]

    def close(self) -> None:
        self.rollout.close()
        self.hub.server.shutdown()


@pytest.fixture(scope="module")
def station(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Station]:
    made = Station(tmp_path_factory.mktemp("rollout"))
    yield made
    made.close()


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_bundle_is_refused_and_the_old_model_keeps_serving(station: Station, name: str) -> None:
    answer = station.order(HOSTILE[name](dict(station.good)))
    assert (answer.state, answer.bundle) == ("refused", "red-1.0.0")
    assert answer.why
    assert "internal" not in answer.why, "refused by accident, not by a check"
    assert station.served == []
    assert station.rollout.serving.bundle_id == "red-1.0.0"
    assert not list(station.folder.glob("../**/id_rsa"))


def test_a_bomb_is_refused_before_it_is_unpacked(station: Station) -> None:
    station.order(HOSTILE["golden frame empty"](dict(station.good)))
    before_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    station.order(HOSTILE["golden frame is a bomb: 122 kB for 2.7 GB"](dict(station.good)))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before_kib < 300 * 1024


def test_there_are_sixty_of_them() -> None:
    assert len(HOSTILE) >= 60


def test_what_was_not_ordered_is_refused(station: Station) -> None:
    answer = station.order(station.good, sha="0" * 64)
    assert answer.state == "refused"
    assert "not the one that was ordered" in answer.why


def test_links_are_refused(tmp_path: Path) -> None:
    bundle = write_bundle(tmp_path, "1.1.0")
    (bundle / "golden" / "link.png").symlink_to("/etc/passwd")
    with pytest.raises(BundleError, match="is a link"):
        read_bundle(bundle)


def test_a_good_bundle_is_served_and_an_older_one_only_as_a_rollback(tmp_path: Path) -> None:
    station = Station(tmp_path)
    try:
        assert station.order(station.good).state == "serving"
        assert [s.model.bundle_id for s in station.served] == ["red-1.1.0"]
        assert (tmp_path / "store" / "red-1.1.0" / MANIFEST_FILE).is_file()
        older = signed(station.good, lambda m: m.update(version="1.0.5", expires_utc="2999-01-01T00:00:00Z"))
        refused = station.order(older, bundle="red-1.0.5")
        assert (refused.state, refused.bundle) == ("refused", "red-1.1.0")
        assert "is older than red-1.1.0" in refused.why
        assert station.order(older, rollback=True, bundle="red-1.0.5").bundle == "red-1.0.5"
    finally:
        station.close()


def test_an_order_waits_for_a_hub_that_is_away(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A hub that restarts is at the broker before it answers HTTP, and orders once: refused, what it had withdrawn
    served on."""
    monkeypatch.setattr("edge.rollout.AGAIN_S", 0.2)
    station = Station(tmp_path)
    there = station.rollout._http
    try:
        station.rollout._http = httpx.Client(base_url=f"http://127.0.0.1:{free_port()}", trust_env=False)
        station.hub.files = station.good
        order = ModelDesired(
            bundle="red-1.1.0", sha256=sha256(station.good[MANIFEST_FILE]), url="/api/edge/bundles/x", rollback=False
        )
        station.rollout._orders.put(order)
        wait_for(lambda: "tried again" in station.outbox.told[-1].why, 10)
        time.sleep(0.6)  # some tries more
        assert [r.state for r in station.outbox.told[-2:]] == ["fetching", "fetching"], "said once"
        station.rollout._http = there
        wait_for(lambda: station.outbox.told[-1].state == "serving", 10)
        assert [s.model.bundle_id for s in station.served] == ["red-1.1.0"]
    finally:
        station.close()


# ── what this station's cameras show ────────────────────────────────────────────────────────────────────────────────


def showing(*regions: RegionConfig) -> Framing:
    """A camera of 10 px per mm that has given one picture: the model's 5 px per mm at its input."""
    framing = Framing(CameraConfig(type="simulated", regions=regions))
    list(framing.frames(Frame("cam1", 1, 1, 1, picture(), 10.0)))
    return framing


OTHER_SCALE = nested("input.px_per_mm", 15.0)


def test_a_bundle_that_cannot_judge_what_a_camera_shows_is_refused_and_the_old_one_serves(tmp_path: Path) -> None:
    station = Station(tmp_path)
    try:
        station.framings = [Framing(CameraConfig(type="simulated", name="later")), showing()]
        answer = station.order(OTHER_SCALE(station.good))
        assert (answer.state, answer.bundle) == ("refused", "red-1.0.0")
        assert "cannot judge cam1: cam1 shows 5.00 px per mm" in answer.why
        assert "red-1.1.0 was trained at 15.00" in answer.why
        assert "this camera's scale" in answer.why
        assert station.served == []
        assert station.order(station.good).state == "serving"
    finally:
        station.close()


def test_each_region_is_tried_and_one_that_does_not_fit_the_picture_is_no_fault_of_the_bundle(tmp_path: Path) -> None:
    station = Station(tmp_path)
    whole, part = (
        RegionConfig(name="whole", x=0, y=0, w=640, h=512),
        RegionConfig(name="part", x=0, y=0, w=320, h=256),
    )
    try:
        station.framings = [showing(whole, part)]  # the part fills the input, so that it shows 10 px per mm there
        answer = station.order(station.good)
        assert answer.state == "refused"
        assert "cannot judge cam1/part" in answer.why
        beyond = Framing(CameraConfig(type="simulated", regions=(part.model_copy(update={"x": 400}),)))
        with pytest.raises(CameraError):
            list(beyond.frames(Frame("cam1", 1, 1, 1, picture(), 10.0)))
        station.framings = [beyond]
        assert station.order(station.good).state == "serving"
    finally:
        station.close()


def test_before_the_first_picture_a_bundle_is_served_untried(tmp_path: Path) -> None:
    station = Station(tmp_path)
    try:
        station.framings = [Framing(CameraConfig(type="simulated"))]
        assert station.order(OTHER_SCALE(station.good)).state == "serving"
    finally:
        station.close()
