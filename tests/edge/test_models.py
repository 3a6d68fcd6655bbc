"""The model adapters: one gate for every runtime, and never another device than the one asked for."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from benchmarks.tiny_bundle import H, W, picture, red_model, write_bundle
from edge import model_onnx
from edge.bundle_store import VerifiedBundle, read_bundle, verify
from edge.config import BundleConfig
from edge.config_file import load
from edge.doctor import int8_pays
from edge.model_base import BundleModel
from edge.models import open_model
from inspection.bundle import MANIFEST_FILE, MODEL_FILE, Manifest, sha256
from inspection.errors import BundleError, ConfigError, ModelError
from inspection.policy import Policy, judge, policy_of
from inspection.render import DefectSpec, Seam
from inspection.types import Frame

ov = pytest.importorskip("openvino")
from edge import model_openvino  # noqa: E402

PROVIDERS = ("CPUExecutionProvider", "openvino")
MODELS = Path(__file__).resolve().parents[2] / "models"


def opened(bundle: VerifiedBundle | Path, provider: str) -> BundleModel:
    verified = read_bundle(bundle) if isinstance(bundle, Path) else bundle
    return open_model(verified, BundleConfig(path=Path("-"), provider=provider))


def altered(folder: Path, model: bytes | None = None, **changes: Any) -> VerifiedBundle:
    """The red bundle with another graph or another manifest, its hashes right."""
    path = write_bundle(folder)
    files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    manifest = Manifest.model_validate_json(files.pop(MANIFEST_FILE))
    files[MODEL_FILE] = model if model is not None else files[MODEL_FILE]
    pins = {"files": {name: sha256(data) for name, data in files.items()}}
    changed = Manifest.model_validate({**manifest.model_dump(), **pins, **changes})
    return verify(changed.to_json(), None, files, (), "test")


# ── what both must do ───────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_good_bundle_runs_on_what_was_asked_for_and_says_so(tmp_path: Path, provider: str) -> None:
    model = opened(write_bundle(tmp_path), provider)
    assert model.provider.startswith(provider)
    assert model.golden_error < 1e-6
    seen = model.infer(Frame("c", 1, 0, 0, picture(4.0), 10.0))
    assert seen.scores["red"] == pytest.approx(1.0)
    assert seen.findings[0].length_mm == pytest.approx(4.0, abs=0.4)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_heat_map_outlives_the_next_frame(tmp_path: Path, provider: str) -> None:
    """Evidence keeps it; a runtime that writes into its own buffer again would change what people are shown."""
    model = opened(write_bundle(tmp_path), provider)
    kept = model.infer(Frame("c", 1, 0, 0, picture(4.0), 10.0)).heat
    before = kept.copy()
    model.infer(Frame("c", 2, 0, 0, picture(0.0), 10.0))
    assert before.max() == 255
    assert np.array_equal(kept, before)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_failing_runtime_is_a_model_error(tmp_path: Path, provider: str) -> None:
    model = opened(write_bundle(tmp_path), provider)
    with pytest.raises(ModelError, match=r"red-1\.0\.0"):
        model.run(np.zeros((H + 1, W, 3), np.uint8))


def broken_graphs() -> dict[str, bytes]:
    good = red_model()
    custom, outside, floats = (onnx.load_from_string(good) for _ in range(3))
    custom.graph.node[-1].op_type, custom.graph.node[-1].domain = "Reboot", "com.evil"
    custom.opset_import.append(helper.make_opsetid("com.evil", 1))
    weight = outside.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="../../../../etc/passwd")
    weight.external_data.add(key="length", value="12")
    floats.graph.input[0].type.tensor_type.elem_type = TensorProto.FLOAT
    made = {"custom op": custom, "file outside": outside, "takes floats": floats}
    return {
        "empty": b"",
        "zeros": bytes(10_000),
        "truncated": good[:200],
        **{k: bytes(v.SerializeToString()) for k, v in made.items()},
    }


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("name", broken_graphs())
def test_a_broken_graph_is_refused(tmp_path: Path, provider: str, name: str) -> None:
    with pytest.raises(BundleError, match=r"red-1\.0\.0"):
        opened(altered(tmp_path, broken_graphs()[name]), provider)


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize(
    ("key", "value", "says"),
    [
        ("outputs", {"heat_stride": 8}, "the graph gives"),
        ("input", {"width_px": W, "height_px": 128, "px_per_mm": 5.0}, "the graph takes"),
        (
            "golden",
            {"cases": [{"image": "golden/red.png", "scores": [0.2], "heat_mean": [0.6]}]},
            r"0\.8000 off in its scores",
        ),
        ("golden", {"cases": [{"image": "golden/red.png", "scores": [1.0], "heat_mean": [200]}]}, "in its heat map"),
    ],
)
def test_what_the_manifest_says_must_come_out(tmp_path: Path, provider: str, key: str, value: Any, says: str) -> None:
    with pytest.raises(BundleError, match=says):
        opened(altered(tmp_path, **{key: value}), provider)


@pytest.mark.parametrize("name", sorted(p.parent.name for p in MODELS.glob("*/manifest.json")))
def test_the_shipped_bundles_judge_alike_on_both(name: str) -> None:
    bundle = read_bundle(MODELS / name)
    task = bundle.manifest.task
    one, other = (opened(bundle, provider) for provider in PROVIDERS)
    assert other.golden_error < 1e-3
    policy = Policy(policy_of(bundle.manifest))
    seen = bundle.manifest.input  # as its camera sees it: a clip's frames have a scale of their own
    size = {"width_px": seen.width_px, "height_px": seen.height_px, "px_per_mm": seen.px_per_mm}
    defects = [DefectSpec(bundle.manifest.classes[0], 4.0, 1.0, (60, 25))]
    seam = Seam(task, 3, length_mm=200, defects=defects, **(size if bundle.manifest.state else {}))
    for k in range(0, 80, 8):
        frame = Frame("c", k, 0, 0, seam.frame(k).image, seam.px_per_mm)
        a, b = one.infer(frame), other.infer(frame)
        assert all(abs(a.scores[c] - b.scores[c]) < 1e-3 for c in a.classes)
        assert judge(a.scores, a.findings, policy).call is judge(b.scores, b.findings, policy).call


# ── frames too large for the input ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_large_frame_is_judged_in_tiles_where_it_may_be(tmp_path: Path, provider: str) -> None:
    bundle = read_bundle(write_bundle(tmp_path))
    frame = Frame("cam1", 1, 0, 0, picture(60.0, size=(2448, 2048)), 10.0)
    off = opened(bundle, provider)
    with pytest.raises(ModelError, match=r"cam1 shows 1\.25 px per mm.* set bundle\.max_tiles to 25 or more"):
        off.infer(frame)
    model = open_model(bundle, BundleConfig(path=Path("-"), provider=provider, max_tiles=25))
    seen = model.infer(frame)
    assert [f.length_mm for f in seen.findings] == [pytest.approx(60.0, abs=0.8)]
    x, y, w, h = seen.findings[0].box_px
    assert (x + w / 2, y + h / 2) == (pytest.approx(1224, abs=8), pytest.approx(1024, abs=8))
    with pytest.raises(ModelError, match="max_tiles"):
        open_model(bundle, BundleConfig(path=Path("-"), provider=provider, max_tiles=24)).infer(frame)


@pytest.mark.parametrize(
    ("size", "px_per_mm", "says"),
    [((2448, 2048), 2.0, "no tile holds more"), ((320, 256), 20.0, "cam1 shows 20.00 px per mm")],
)
def test_tiles_cannot_help_a_camera_that_sees_too_little_or_too_near(
    tmp_path: Path, size: tuple[int, int], px_per_mm: float, says: str
) -> None:
    model = open_model(read_bundle(write_bundle(tmp_path)), BundleConfig(path=Path("-"), max_tiles=256))
    with pytest.raises(ModelError, match=says):
        model.infer(Frame("cam1", 1, 0, 0, np.zeros((size[1], size[0], 3), np.uint8), px_per_mm))


# ── never a silent fallback ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("asked", ["CUDAExecutionProvider", "TensorrtExecutionProvider", "openvino:NPU"])
def test_a_device_that_is_not_there_ends_the_edge_with_what_is(tmp_path: Path, asked: str) -> None:
    if asked in ort.get_available_providers() or "NPU" in ov.Core().available_devices:
        pytest.skip(f"{asked} is to be had here")
    bundle, (config, _) = write_bundle(tmp_path), configuration(tmp_path, asked)
    assert bundle.is_dir()
    done = subprocess.run(
        [sys.executable, "-m", "haltline", "edge", "run", str(config)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2, done.stderr
    what = asked.removeprefix("openvino:")
    assert what in done.stderr
    assert ("openvino:CPU" if "openvino" in asked else "CPUExecutionProvider") in done.stderr


@pytest.mark.parametrize("asked", ["cuda", "CPU", "openvino:auto", "openvino:", "CUDAExecutionProvider;rm"])
def test_a_provider_nobody_makes_is_named_with_its_line(tmp_path: Path, asked: str) -> None:
    config, line = configuration(tmp_path, asked)
    with pytest.raises(ConfigError, match=f"edge.yaml:{line}"):
        load(config)


def configuration(folder: Path, provider: str) -> tuple[Path, int]:
    """An edge.yaml that asks for this provider, and the line where it does."""
    rows = [
        "station: {site: s, line: l, station: st}",
        "cameras:",
        "  - {type: simulated, source: weld}",
        "bundle:",
        "  path: red-1.0.0",
        f"  provider: '{provider}'",
        "state_dir: state",
    ]
    path = folder / "edge.yaml"
    path.write_text("\n".join(rows) + "\n")
    return path, 6


def test_a_session_without_the_provider_asked_for_is_refused() -> None:
    """onnxruntime drops a provider whose driver is missing without an error, and goes on with the next."""
    with pytest.raises(BundleError, match="runs on CPUExecutionProvider, not on CUDAExecutionProvider"):
        model_onnx.require("weld-1.0.0", "CUDAExecutionProvider", ["CPUExecutionProvider"], {})


@pytest.mark.parametrize(
    ("asked", "assigned", "good"),
    [
        ("CUDAExecutionProvider", {"CUDAExecutionProvider": ["Conv"], "CPUExecutionProvider": ["Cast"]}, True),
        ("CUDAExecutionProvider", {"CUDAExecutionProvider": ["Cast"], "CPUExecutionProvider": ["Conv"]}, False),
        ("TensorrtExecutionProvider", {"TensorrtExecutionProvider": ["Conv"], "CUDAExecutionProvider": ["Conv"]}, True),
        ("TensorrtExecutionProvider", {"CPUExecutionProvider": ["Gemm"]}, False),
    ],
)
def test_a_provider_that_leaves_the_work_to_the_cpu_is_refused(
    asked: str, assigned: dict[str, list[str]], good: bool
) -> None:
    counted = {name: Counter(ops) for name, ops in assigned.items()}
    if good:
        assert model_onnx.require("weld-1.0.0", asked, [asked], counted)[0] == asked
    else:
        with pytest.raises(BundleError, match="to another provider"):
            model_onnx.require("weld-1.0.0", asked, [asked], counted)


def test_the_nodes_of_a_real_session_are_counted(tmp_path: Path) -> None:
    model = opened(write_bundle(tmp_path), "CPUExecutionProvider")
    assert isinstance(model, model_onnx.OnnxModel)
    assert model_onnx.assignment(model.session)["CPUExecutionProvider"]["Conv"] == 1


@pytest.mark.parametrize(
    ("device", "real", "good"),
    [
        ("CPU", ["CPU"], True),
        ("GPU", ["GPU.0"], True),
        ("GPU", ["CPU"], False),
        ("GPU", ["GPU.0", "CPU"], False),
        ("AUTO", ["CPU"], False),
        ("GPU.1", ["GPU.0"], False),
        ("CPU", [], False),
    ],
)
def test_the_device_openvino_really_used_is_compared(device: str, real: list[str], good: bool) -> None:
    if good:
        assert model_openvino.require("weld-1.0.0", device, real) == f"openvino:{real[0]}"
    else:
        with pytest.raises(BundleError, match=f"not on {device}"):
            model_openvino.require("weld-1.0.0", device, real)


def test_without_the_package_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "edge.model_openvino")
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(ConfigError, match=r"haltline\[openvino\]"):
        opened(write_bundle(tmp_path), "openvino")


# ── beside the model ────────────────────────────────────────────────────────────────────────────────────────────


def test_neither_runtime_leaves_a_trace_for_its_maker(tmp_path: Path) -> None:
    """Both write an id into the home folder before they report over the internet."""
    bundle, home = write_bundle(tmp_path / "b"), tmp_path / "home"
    home.mkdir()
    code = (
        "import sys; from pathlib import Path; from edge.bundle_store import read_bundle; from edge.config import "
        "BundleConfig; from edge.models import open_model\n"
        f"for p in {PROVIDERS!r}: open_model(read_bundle(Path({str(bundle)!r})), BundleConfig(path='-', provider=p))\n"
        "assert not sys.modules.get('openvino_telemetry')"
    )
    env = {k: v for k, v in os.environ.items() if k != "ORT_DISABLE_TELEMETRY"} | {"HOME": str(home)}
    subprocess.run([sys.executable, "-c", code], check=True, env=env, timeout=60)
    assert list(home.rglob("*")) == []


def test_the_doctor_knows_who_gains_from_int8() -> None:
    assert int8_pays("fpu sse avx2 avx512_vnni amx_int8") == "pays (amx_int8, avx512_vnni)"
    assert "--reduce-range" in int8_pays("fpu sse avx2")
