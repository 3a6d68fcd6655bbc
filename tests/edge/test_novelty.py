"""What is unlike the training pictures: read alike on both runtimes, proven by the golden frames, sent, and no more."""

from __future__ import annotations

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from benchmarks.tiny_bundle import H, W, picture, red_model, write_bundle
from edge.bundle_store import VerifiedBundle, read_bundle, verify
from edge.config import BundleConfig, PolicyConfig
from edge.model_base import BundleModel
from edge.models import open_model
from edge.ports import Ready
from edge.runner import observe
from edge.site_policy import policy_for
from inspection.bundle import MANIFEST_FILE, MODEL_FILE, Manifest, sha256
from inspection.decision import LineGuard
from inspection.errors import BundleError
from inspection.events import Keep, SetPermit, State
from inspection.types import Call, Frame

PROVIDERS = ("CPUExecutionProvider", "openvino")
KNOWN, STRANGE = picture(), np.full((512, 640, 3), 200, np.uint8)
"""Grey 100, as all pictures of the tiny bundle, and twice as bright."""


def opened(bundle: VerifiedBundle, provider: str = PROVIDERS[0], **more: Any) -> BundleModel:
    if provider == "openvino":
        pytest.importorskip("openvino")
    return open_model(bundle, BundleConfig(path=Path("-"), provider=provider, **more))


def frame(number: int, image: Any, px_per_mm: float = 10.0) -> Frame:
    return Frame("cam", number, 0, 0, image, px_per_mm)


def altered(folder: Path, model: bytes | None = None, **changes: Any) -> VerifiedBundle:
    path = write_bundle(folder, novel_from=1.5)
    files = {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()}
    manifest = Manifest.model_validate_json(files.pop(MANIFEST_FILE))
    files[MODEL_FILE] = model or files[MODEL_FILE]
    pins = {"files": {name: sha256(data) for name, data in files.items()}}
    changed = Manifest.model_validate({**manifest.model_dump(), **pins, **changes})
    return verify(changed.to_json(), None, files, (), "test")


@pytest.mark.parametrize("provider", PROVIDERS)
def test_both_runtimes_read_it(tmp_path: Path, provider: str) -> None:
    model = opened(read_bundle(write_bundle(tmp_path, novel_from=1.5)), provider)
    known, strange = (model.infer(frame(k, image)).novelty for k, image in enumerate((KNOWN, STRANGE)))
    assert known == pytest.approx(1.0, abs=0.01)
    assert strange == pytest.approx(2.0, abs=1e-4)


@pytest.mark.parametrize("provider", PROVIDERS)
def test_a_bundle_without_one_serves_as_ever(tmp_path: Path, provider: str) -> None:
    bundle = read_bundle(write_bundle(tmp_path))
    assert opened(bundle, provider).infer(frame(1, STRANGE)).novelty is None
    assert policy_for(PolicyConfig(), bundle.manifest).novel_from is None


def of_another_shape() -> bytes:
    model = onnx.load_from_string(red_model(novelty=True))
    next(n for n in model.graph.node if n.output == ["grey"]).attribute[0].i = 1  # keepdims
    for _ in range(3):
        model.graph.output[2].type.tensor_type.shape.dim.add().dim_value = 1
    return bytes(model.SerializeToString())


@pytest.mark.parametrize("provider", PROVIDERS)
def test_what_the_manifest_says_of_it_must_be_so(tmp_path: Path, provider: str) -> None:
    with pytest.raises(BundleError, match="the graph gives"):
        opened(altered(tmp_path / "shape", of_another_shape()), provider)
    with pytest.raises(BundleError, match="the graph gives"):
        opened(altered(tmp_path / "none", red_model()), provider)
    bundle = read_bundle(write_bundle(tmp_path / "golden", novel_from=1.5))
    case = bundle.manifest.golden.cases[0].model_dump()
    off = {"golden": {"cases": [{**case, "novelty": case["novelty"] * 1.02}]}}
    with pytest.raises(BundleError, match=r"golden/red.png comes out 0\.0\d+ off in its novelty"):
        opened(altered(tmp_path / "off", **off), provider)
    near = {"golden": {"cases": [{**case, "novelty": case["novelty"] * 1.005}]}}
    assert opened(altered(tmp_path / "near", **near), provider)


def test_a_frame_in_tiles_is_as_novel_as_its_strangest_tile(tmp_path: Path) -> None:
    model = opened(read_bundle(write_bundle(tmp_path, novel_from=1.5)), max_tiles=25)
    image = np.full((4 * H, 4 * W, 3), 100, np.uint8)
    image[-2 * H :, -2 * W :] = 200
    assert model.infer(frame(1, image)).novelty == pytest.approx(2.0, abs=0.01)


def test_a_novel_frame_is_kept_and_the_line_runs_on(tmp_path: Path) -> None:
    bundle = read_bundle(write_bundle(tmp_path, novel_from=1.5))
    model, policy = opened(bundle), policy_for(PolicyConfig(max_silence_ms=60_000), bundle.manifest)
    guard, kept = LineGuard(policy, ["cam"], 1, time.monotonic_ns()), []
    for number, image in enumerate([KNOWN, KNOWN, KNOWN, STRANGE, STRANGE, KNOWN]):
        event, _ = observe(Ready(replace(frame(number, image), captured_ns=time.monotonic_ns())), model, {})
        actions = guard.handle(event)
        kept += [action for action in actions if isinstance(action, Keep)]
    assert kept == [Keep("cam", 3, Call.PASS, ("novel",))]
    assert guard.state is State.RUNNING
    assert [action.run for action in actions if isinstance(action, SetPermit)] == [True]
