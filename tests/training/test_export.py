"""A bundle says what the trained network says, everywhere it is run, or it is not written."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch

from inspection.bundle import ClassLimits, parse_manifest, verify_signature
from inspection.errors import BundleError, DatasetError
from inspection.types import Call
from tests.training.pictures import tiny_ask
from training.calibrate import Platt
from training.card import card
from training.checkpoint import read_config, write_config
from training.dataset.snapshot import Snapshot
from training.evaluate import evaluate
from training.export import Release, check_parity, export
from training.fit import fit
from training.graph import Graph
from training.judging import StreamFrame, judge_stream
from training.moving import evaluate_stream
from training.outcome import Judge
from training.served import Served, bundle_files, read_bundle
from training.trained import trained


@pytest.fixture(scope="module")
def released(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    return export(tiny_run, tmp_path_factory.mktemp("models") / "tiny-0.1.0", "tiny", "0.1.0", stream=False)


def test_the_bundle_is_whole_and_valid(released: Release, tiny: Snapshot) -> None:
    served = read_bundle(released.folder)
    manifest = served.manifest
    assert manifest.id == "tiny-0.1.0"
    assert manifest.classes == tiny.manifest.classes
    assert manifest.lineage.snapshot == tiny.manifest.id
    assert manifest.limits[0].lo <= manifest.limits[0].hi
    assert manifest.limits[0].limit_mm == 1.5
    assert set(manifest.files) >= {"model.onnx", "card.md", "golden/0.png"}
    assert not list(released.folder.parent.glob(".tiny*"))


def test_the_graph_is_plain_onnx(released: Release) -> None:
    model = onnx.load(released.folder / "model.onnx")
    (image,) = model.graph.input
    assert [d.dim_value for d in image.type.tensor_type.shape.dim] == [1, 64, 80, 3]
    assert image.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert {o.name: o.type.tensor_type.elem_type for o in model.graph.output} == {
        "scores": onnx.TensorProto.FLOAT,
        "heat": onnx.TensorProto.UINT8,
        "novelty": onnx.TensorProto.FLOAT,
    }
    assert {n.domain for n in model.graph.node} <= {"", "ai.onnx"}
    assert not any(t.data_location == onnx.TensorProto.EXTERNAL for t in model.graph.initializer)
    assert b"site-packages" not in model.SerializeToString(), "no path of the exporting machine"
    assert str(Path(__file__).parents[2]).encode() not in model.SerializeToString()


def test_golden_frames_replay(released: Release) -> None:
    served = read_bundle(released.folder)
    golden = served.manifest.golden
    verdicts = set()
    for case in golden.cases:
        scores, heat, novelty = served.answer(np.asarray(cv2.imread(str(released.folder / case.image))))
        assert novelty == pytest.approx(case.novelty, rel=golden.tolerance, abs=golden.tolerance)
        assert scores == pytest.approx(case.scores, abs=golden.tolerance)
        assert heat.mean((1, 2)) == pytest.approx(case.heat_mean, abs=golden.heat_tolerance)
        verdicts.add(bool(scores[0] > 0.5))
    assert len(golden.cases) == 8
    assert verdicts == {True, False}


def test_torch_and_onnxruntime_agree_on_other_pictures(released: Release, tiny_run: Path) -> None:
    _, network = trained(tiny_run)
    weights = {
        i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(released.folder / "model.onnx").graph.initializer
    }
    same = Graph(network, [Platt(float(weights["scale"][0]), float(weights["bias"][0]))])
    rng = np.random.default_rng(9)
    check_parity(same, read_bundle(released.folder), [rng.integers(0, 256, (64, 80, 3), np.uint8) for _ in range(20)])


def test_a_graph_that_differs_is_refused(released: Release, tiny_run: Path) -> None:
    _, network = trained(tiny_run)
    golden = [np.full((64, 80, 3), 100, np.uint8)]
    with pytest.raises(BundleError, match="differs from torch by"):
        check_parity(Graph(network, [Platt(3.0, 1.0)]), read_bundle(released.folder), golden)


def test_evaluation_counts_every_picture_once(released: Release, tiny: Snapshot) -> None:
    figures, pictures = evaluate(read_bundle(released.folder), tiny)
    assert figures.pictures == len(tiny.split("test")) == len(pictures)
    assert figures.caught + figures.missed + figures.unsure == figures.defective == 6
    assert figures.false_stops + figures.good_unsure <= figures.good == 6
    scratch = figures.classes[0]
    assert scratch.image_ap.value > 0.95
    assert scratch.image_ap.low <= scratch.image_ap.value <= scratch.image_ap.high
    assert scratch.pixel_ap > 0.5
    assert figures.missed == 0


def test_the_card_can_be_sent(released: Release) -> None:
    card = (released.folder / "card.md").read_text()
    for words in ("not a safety function", "caught", "false stops", "with 95 % confidence", "scratch@1", "tiny-0.1.0"):
        assert words in card
    assert "px_per_mm: 1`" not in card


def test_the_card_says_how_a_model_without_a_scale_is_served(released: Release, tiny: Snapshot, tiny_run: Path) -> None:
    unknown = tiny.model_copy(update={"samples": tuple(s.model_copy(update={"px_per_mm": None}) for s in tiny.samples)})
    assert "`px_per_mm: 1` for its camera" in card(released.manifest, unknown, read_config(tiny_run), [], None)


def test_a_released_version_never_changes(released: Release, tiny_run: Path) -> None:
    with pytest.raises(BundleError, match="exists already, and a released version never changes") as refused:
        export(tiny_run, released.folder, "tiny", "0.1.0")
    assert refused.value.fix == "choose another --name, --version or --out"


def test_a_snapshot_that_moved_is_asked_for(tiny_run: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(tiny_run, run)
    write_config(run, read_config(run).model_copy(update={"snapshot": "elsewhere"}))
    said = r"the run's snapshot was elsewhere, and it is not there\n.*with --snapshot"
    with pytest.raises(DatasetError, match=said):
        export(run, tmp_path / "tiny-0.3.0", "tiny", "0.3.0")
    with pytest.raises(DatasetError, match=said):
        Judge(run)


def test_a_signed_bundle_is_known_by_its_key(tiny_run: Path, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    subprocess.run(["openssl", "genpkey", "-algorithm", "ed25519", "-out", key], check=True, capture_output=True)
    public = subprocess.run(["openssl", "pkey", "-in", key, "-pubout"], check=True, capture_output=True).stdout
    made = export(tiny_run, tmp_path / "signed", "tiny", "0.2.0", key=key.read_bytes(), stream=False)
    files = bundle_files(made.folder)
    assert verify_signature(files["manifest.json"], files["manifest.sig"], [public])
    with pytest.raises(BundleError, match="by no trusted key"):
        verify_signature(files["manifest.json"] + b" ", files["manifest.sig"], [public])


def test_frames_at_another_scale_are_refused(released: Release) -> None:
    served = read_bundle(released.folder)
    image = np.zeros((64, 80, 3), np.uint8)
    served.check_scale(image, 12.0, "a.png")
    with pytest.raises(BundleError, match=r"a.png: has 20.00 px/mm at the input, tiny-0.1.0 was trained at 10.00"):
        served.check_scale(image, 20.0, "a.png")


def test_a_released_bundle_is_a_start(released: Release, tiny: Snapshot, tmp_path: Path) -> None:
    fit(tiny, tmp_path / "next", tiny_ask(epochs=1, lr=1e-6, init=str(released.folder)))
    made = export(tmp_path / "next", tmp_path / "tiny-0.1.1", "tiny", "0.1.1", stream=False)
    assert made.manifest.lineage.parent == "tiny-0.1.0"
    figures, _ = evaluate(read_bundle(made.folder), tiny)
    assert figures.classes[0].image_ap.value > 0.9, "it did not begin again"


# ── streams ─────────────────────────────────────────────────────────────────────────────────────────────────────


def painted(seen: list[tuple[float, bool]]) -> list[StreamFrame]:
    """Frames of flat colour, so that a stand-in session can score each by its brightness."""
    return [
        StreamFrame(np.full((64, 80, 3), round(score * 255), np.uint8), 10.0, frozenset({"scratch #1"} if bad else ()))
        for score, bad in seen
    ]


class Brightness:
    """A session whose score is the picture's brightness."""

    def run(self, outputs: list[str], inputs: dict[str, np.ndarray]) -> list[np.ndarray]:
        (image,) = inputs.values()
        score = np.float32(image.mean() / 255)
        return [np.array([[score]], np.float32), np.zeros((1, 1, 32, 40), np.uint8)]


def test_a_stream_counts_events_not_frames(released: Release) -> None:
    limits = (ClassLimits(cls="scratch", lo=0.2, hi=0.8, limit_mm=1.5),)
    served = Served(released.manifest.model_copy(update={"limits": limits, "novelty": None}), Brightness())
    quiet, false, real = [(0.1, False)] * 30, [(0.9, False)] * 5, [(0.1, True)] * 3 + [(0.9, True)] * 5
    found = judge_stream(served, painted([*quiet, *false, *quiet, *real, *quiet]), k=2, n=3)
    assert (found.frames, found.false_halts, found.defects, found.caught, found.missed) == (103, 1, 1, 1, ())
    early = judge_stream(served, painted([(0.9, False)] * 2 + [*quiet, *real]), k=2, n=3)
    assert (early.false_halts, early.caught) == (1, 1), "a halt before the guard may be resumed does not end the run"
    missed = judge_stream(served, painted([*quiet, (0.9, True), *quiet]), k=2, n=3)
    assert (missed.caught, missed.missed) == (0, ("scratch #1",)), "one frame is not 2 of 3"
    assert found.false_halts_per_hour(30) == pytest.approx(1 / (103 / 30 / 3600))


def test_tasks_that_cannot_be_rendered_have_no_stream(released: Release, tiny: Snapshot) -> None:
    served = read_bundle(released.folder)
    other = Served(served.manifest.model_copy(update={"task": "bottle"}), served.session)
    assert evaluate_stream(other, tiny.manifest.label_book) == {}


def test_one_part_one_verdict(released: Release, tiny: Snapshot) -> None:
    _, pictures = evaluate(read_bundle(released.folder), tiny, "val")
    assert {p.verdict for p in pictures} <= {Call.PASS, Call.UNCERTAIN, Call.DEFECT}
    assert parse_manifest((released.folder / "manifest.json").read_bytes()).lineage.metrics["missed"] == 0
    assert json.loads((released.folder / "manifest.json").read_text())["format"] == 1
    assert torch.get_num_threads() >= 1
