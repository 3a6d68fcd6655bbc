"""An int8 bundle: the same contract, its loss stated, refused above a bound; edges serve it on both runtimes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from edge.bundle_store import read_bundle as edge_reads
from edge.config import BundleConfig
from edge.models import open_model
from inspection.bundle import MODEL_FILE
from inspection.errors import BundleError, DatasetError
from training import quantize as module
from training.dataset.snapshot import Snapshot
from training.export import export
from training.int8 import GOLDEN_TOLERANCE, exact_inputs, kept_in_float, merged, to_int8
from training.quantize import Loss, Quantized, quantize
from training.served import read_bundle


@pytest.fixture(scope="module")
def parent(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return export(tiny_run, tmp_path_factory.mktemp("b") / "tiny-0.1.0", "tiny", "0.1.0", stream=False).folder


@pytest.fixture(scope="module")
def made(parent: Path, tiny: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> Quantized:
    # One flip of 12 test pictures is 8 %: so few cannot show that a share lies under 0.5 %.
    return quantize(parent, tiny.folder, tmp_path_factory.mktemp("q") / "int8", max_flips=0.1, max_ap_loss=0.05)


def graph_of(folder: Path) -> onnx.GraphProto:
    return onnx.load(folder / MODEL_FILE).graph


def test_the_convolutions_are_in_integers_and_the_contract_is_the_same(made: Quantized, parent: Path) -> None:
    graph, before = graph_of(made.folder), graph_of(parent)
    assert [(i.name, i.type) for i in graph.input] == [(i.name, i.type) for i in before.input]
    assert [(o.name, o.type) for o in graph.output] == [(o.name, o.type) for o in before.output]
    weights = {i.name: onnx.numpy_helper.to_array(i) for i in graph.initializer}
    convs = [n for n in graph.node if n.op_type == "Conv"]
    by_output = {out: n for n in graph.node for out in n.output}
    fed = [by_output.get(n.input[1]) for n in convs]
    integers = [n for n in fed if n is not None and n.op_type == "DequantizeLinear"]
    assert len(integers) == len(convs) - 4, "all but the one that draws the maps and the three that decide"
    assert all(weights[n.input[0]].dtype == np.int8 for n in integers)
    assert all(weights[n.input[1]].size == weights[n.input[0]].shape[0] for n in integers), "a scale per channel"


def test_calibration_and_sigmoids_stay_in_float(parent: Path, tmp_path: Path) -> None:
    graph = merged((parent / MODEL_FILE).read_bytes(), tmp_path).graph
    kinds = [n.op_type for n in graph.node if n.name in kept_in_float(graph)]
    assert kinds.count("Sigmoid") == 3
    assert {"Gemm", "Mul", "Round", "DepthToSpace"} <= set(kinds)
    assert kinds.count("Conv") == 4


def test_a_pixel_keeps_all_its_256_values(parent: Path, tmp_path: Path) -> None:
    """On the grid of the first convolution's input every grey level has an integer of its own: nothing is lost."""
    model = merged((parent / MODEL_FILE).read_bytes(), tmp_path)
    [(_, [span])] = exact_inputs(model, np.zeros((64, 80, 3), np.uint8)).items()
    scale = (span["rmax"] - span["rmin"]) / 255
    zero = -span["rmin"] / scale
    assert zero == pytest.approx(round(zero), abs=1e-3)
    greys = (np.arange(256) - 110.0) / 60.0
    assert np.abs((greys / scale + zero) - np.arange(256)).max() < 1e-3


def test_it_says_where_it_came_from_and_what_it_lost(made: Quantized, tiny: Snapshot) -> None:
    m, loss = made.manifest, made.loss
    assert (m.id, m.lineage.parent, m.lineage.snapshot) == ("tiny-int8-0.1.0", "tiny-0.1.0", tiny.manifest.id)
    card = (made.folder / "card.md").read_text()
    assert f"**{loss.flips} came to another call**" in card
    assert f"{loss.ap_loss:.4f}" in card
    assert "The card of tiny-0.1.0" in card
    assert "not a safety function" in card


def test_its_novelty_is_its_own(made: Quantized, parent: Path, tiny: Snapshot) -> None:
    served, before = read_bundle(made.folder), read_bundle(parent).manifest.novelty
    known = served.manifest.novelty
    assert known
    assert before
    assert known.threshold == pytest.approx(before.threshold, rel=0.3)
    assert (known.fitted_on, known.held_out) == (before.fitted_on, before.held_out)
    seen = [served.answer(e.image).novelty or 0.0 for e in module.validation(tiny, made.manifest)]
    assert max(seen) == pytest.approx(known.threshold, abs=1e-4), "so few that the largest is the threshold"
    assert all(case.novelty is not None for case in served.manifest.golden.cases)


def test_its_limits_are_the_parents_where_its_scores_lie(parent: Path) -> None:
    one = read_bundle(parent)
    images = [np.random.default_rng(k).integers(0, 256, (64, 80, 3), np.uint8) for k in range(12)]
    assert module.carried(one, one, images) == one.manifest.limits, "a model's own limits stay where they are"

    class Bolder:
        """The same model, every logit twice as far from 0 and one further up."""

        manifest = one.manifest

        def raw(self, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
            scores, heat = one.raw(image)
            return 1 / (1 + np.exp(-(2 * module.logit(scores.astype(float)) + 1))), heat

    [before], [after] = one.manifest.limits, module.carried(one, Bolder(), images)  # type: ignore[arg-type]
    for name in ("lo", "hi"):
        wanted = 2 * module.logit(getattr(before, name)) + 1
        assert module.logit(getattr(after, name)) == pytest.approx(wanted, abs=0.05)
    assert after.heat_level == before.heat_level


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "openvino"])
def test_an_edge_serves_it(made: Quantized, provider: str) -> None:
    if provider == "openvino":
        pytest.importorskip("openvino")
    model = open_model(edge_reads(made.folder), BundleConfig(path=made.folder, provider=provider))
    assert model.golden_error <= made.manifest.golden.tolerance
    assert model.manifest.golden.tolerance == GOLDEN_TOLERANCE


def test_scores_stay_near_the_float_models(made: Quantized, parent: Path, tiny: Snapshot) -> None:
    one, other = read_bundle(parent), read_bundle(made.folder)
    examples = module.validation(tiny, made.manifest)
    apart = [np.abs(one.raw(e.image)[0] - other.raw(e.image)[0]).max() for e in examples]
    assert 0 < max(apart) < 0.25
    assert float(np.median(apart)) < 0.05


@pytest.mark.parametrize(
    ("ap", "flips", "refused"),
    [((0.95, 0.9471), 2, False), ((0.95, 0.9469), 2, True), ((0.95, 0.95), 3, True), ((0.9, 0.95), 0, False)],
)
def test_the_bounds_hold_at_their_edges(ap: tuple[float, float], flips: int, refused: bool) -> None:
    loss = Loss("test", 400, flips, (("scratch", *ap), ("none", float("nan"), float("nan"))), (0, 0), (0, 0), (2, 1))
    if refused:
        with pytest.raises(BundleError, match=rf"another call on {flips} of 400 test pictures"):
            module._refuse("x-1.0.0", loss, module.MAX_AP_LOSS, module.MAX_FLIPS)
    else:
        module._refuse("x-1.0.0", loss, module.MAX_AP_LOSS, module.MAX_FLIPS)


def test_a_refused_bundle_is_not_written(parent: Path, tiny: Snapshot, tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="--max-ap-loss"):
        quantize(parent, tiny.folder, tmp_path / "out", max_ap_loss=-1)
    assert list(tmp_path.iterdir()) == []


def test_another_label_book_is_refused(parent: Path, tiny: Snapshot) -> None:
    old = read_bundle(parent).manifest.model_copy(update={"label_book": "scratch@9"})
    with pytest.raises(DatasetError, match="scratch@9"):
        module._check_same_rules(old, tiny)


def test_reduced_range_leaves_a_bit_free(parent: Path, tiny: Snapshot) -> None:
    pictures = module.pictures_of(tiny, read_bundle(parent).manifest, count=4)

    def largest(reduce_range: bool) -> int:
        model = to_int8((parent / MODEL_FILE).read_bytes(), "image", pictures, reduce_range=reduce_range)
        arrays = [onnx.numpy_helper.to_array(i) for i in onnx.load_from_string(model).graph.initializer]
        return max(int(np.abs(a.astype(int)).max()) for a in arrays if a.dtype == np.int8 and a.ndim == 4)

    assert (largest(False), largest(True)) == (127, 64)
