"""How unlike its training pictures a picture is: the distance, its threshold, and what becomes of both in a bundle."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from edge.bundle_store import read_bundle as edge_reads
from edge.config import BundleConfig
from edge.models import open_model
from inspection.errors import BundleError, DatasetError
from inspection.types import Frame
from training.calibrate import Platt
from training.dataset.snapshot import Snapshot
from training.export import Release, check_parity, export
from training.graph import Graph
from training.network import Stages
from training.novelty import MOST, Novelty, evenly, features, fitted, spec_for
from training.quantize import refitted, validation
from training.served import read_bundle
from training.trained import trained


@pytest.fixture(scope="module")
def released(tiny_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Release:
    return export(tiny_run, tmp_path_factory.mktemp("models") / "tiny-0.1.0", "tiny", "0.1.0", stream=False)


def distance(novelty: Novelty, x: np.ndarray) -> np.ndarray:
    """Of features (N, D)."""
    return np.asarray(novelty.of(torch.from_numpy(x.astype(np.float32))))


# ── the distance ────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_picture_like_the_others_is_about_1_away_whatever_the_features_scales() -> None:
    rng = np.random.default_rng(0)
    mixed = rng.standard_normal((12, 12)) * 10.0 ** rng.integers(-1, 2, 12)
    known, more = (rng.standard_normal((n, 12)) @ mixed + 5 for n in (4000, 500))
    assert distance(fitted(known), more).mean() == pytest.approx(0.95, abs=0.06)


def test_it_is_mahalanobis_and_not_euclid() -> None:
    """Two features that always go together: apart they are strange, together far out they are less so."""
    rng = np.random.default_rng(1)
    both = rng.standard_normal(500)
    known = np.stack([both, both + 0.1 * rng.standard_normal(500)], 1)
    together, apart = distance(fitted(known), np.array([[2.0, 2.0], [1.0, -1.0]]))
    assert apart > 3 * together


def test_few_pictures_and_constant_channels_make_no_infinite_distance() -> None:
    rng = np.random.default_rng(2)
    known = np.concatenate([rng.standard_normal((20, 60)), np.full((20, 3), 7.0)], 1)
    novelty = fitted(known)
    assert np.isfinite(distance(novelty, known)).all()
    other = np.concatenate([rng.standard_normal((20, 60)), np.full((20, 3), 70.0)], 1)
    assert distance(novelty, other).min() > 3 * distance(novelty, known).max()
    with pytest.raises(DatasetError, match="has 1 training pictures"):
        fitted(known[:1])


def test_the_features_are_each_channels_mean() -> None:
    stage = torch.tensor([[[[0.0, 0.0], [3.0, 5.0]], [[1.0, 1.0], [1.0, 1.0]]]])
    assert features(Stages(stage, stage[:, 1:], stage[:, :1]))[0].tolist() == [2.0, 1.0, 1.0, 2.0]


# ── the threshold ───────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(("count", "above"), [(40, 0), (99, 0), (200, 2), (1000, 10)])
def test_a_hundredth_of_the_validation_pictures_lie_above(count: int, above: int) -> None:
    held_out = np.random.default_rng(count).gamma(9, 0.1, count)
    spec = spec_for(list(held_out), 10)
    assert abs(int((held_out > spec.threshold + 1e-4).sum()) - above) == 0
    assert (spec.held_out, spec.quantile, spec.fitted_on) == (count, 0.99, 10)


def test_many_training_pictures_are_taken_evenly() -> None:
    taken = evenly(range(10 * MOST))
    assert (len(taken), taken[0], taken[-1]) == (MOST, 0, 10 * MOST - 1)
    assert evenly(range(7)) == list(range(7))


# ── in a bundle ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_a_bundle_knows_its_own_kind_of_picture_from_noise(released: Release, tiny: Snapshot) -> None:
    served = read_bundle(released.folder)
    known = served.manifest.novelty
    assert known
    assert (known.fitted_on, known.held_out) == (len(tiny.split("train")), len(tiny.split("val")))
    seen = [served.answer(e.image).novelty or 0.0 for e in validation(tiny, served.manifest)]
    assert max(seen) <= known.threshold + 1e-3
    noise = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    assert (served.answer(noise).novelty or 0.0) > 3 * known.threshold
    assert f"{known.threshold:.2f}, where at most 1%" in (released.folder / "card.md").read_text()


@pytest.mark.parametrize("provider", ["CPUExecutionProvider", "openvino"])
def test_an_edge_reads_what_the_exporter_saw(released: Release, provider: str) -> None:
    if provider == "openvino":
        pytest.importorskip("openvino")
    model = open_model(edge_reads(released.folder), BundleConfig(path=released.folder, provider=provider))
    image = np.random.default_rng(0).integers(0, 256, (64, 80, 3), np.uint8)
    seen = model.infer(Frame("cam", 1, 0, 0, image, 10.0)).novelty
    assert seen == pytest.approx(read_bundle(released.folder).answer(image).novelty, rel=1e-3)


def test_another_distance_than_torchs_is_refused(released: Release, tiny_run: Path) -> None:
    served = read_bundle(released.folder)
    _, network = trained(tiny_run)
    size = sum(s.shape[1] for s in network.stages(network.see(torch.zeros(1, 64, 80, 3, dtype=torch.uint8))))
    weights = released_weights(released)
    same = Graph(network, [Platt(*weights)], Novelty(np.zeros(size), np.eye(size)))
    with pytest.raises(BundleError, match="in its novelty"):
        check_parity(same, served, [np.full((64, 80, 3), 100, np.uint8)], count=4)


def released_weights(released: Release) -> tuple[float, float]:
    import onnx

    found = {i.name: onnx.numpy_helper.to_array(i) for i in onnx.load(released.folder / "model.onnx").graph.initializer}
    return float(found["scale"][0]), float(found["bias"][0])


def test_a_twins_threshold_is_fitted_to_the_twin(released: Release, tiny: Snapshot) -> None:
    served = read_bundle(released.folder)
    images = [e.image for e in validation(tiny, served.manifest)]
    assert refitted(served.manifest.novelty, served, images) == served.manifest.novelty
    assert refitted(None, served, images) is None
