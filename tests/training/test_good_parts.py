"""Good parts only: what is far from all of them is called, by limits that held-out good parts set."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from edge.bundle_store import read_bundle as edge_reads
from edge.config import BundleConfig
from edge.models import open_model
from inspection.errors import DatasetError
from inspection.samples import Sample
from tests.training.pictures import picture, scratched
from training.backbones import Backbone
from training.cli import train
from training.dataset.snapshot import Snapshot
from training.examples import Example
from training.good_parts import coreset, learn, limits, patches, strangest, whitening
from training.good_parts_bundle import FromGood, by_picture, encoder_for, make
from training.served import read_bundle


@pytest.fixture(scope="module")
def made(tiny: Snapshot, tmp_path_factory: pytest.TempPathFactory) -> FromGood:
    out = tmp_path_factory.mktemp("good") / "tiny-good-0.1.0"
    run = wide_run(tiny, tmp_path_factory.mktemp("runs") / "wide")
    return make(tiny, out, "tiny-good", "0.1.0", Backbone(weights=str(run)), (80, 64))


def wide_run(tiny: Snapshot, run: Path) -> Path:
    """An encoder of 16 channels that has seen something, as `--init` wants it."""
    from tests.training.pictures import tiny_ask
    from training.fit import fit

    fit(tiny, run, tiny_ask(epochs=2, channels=16))
    return run


def test_scratches_are_strange_and_good_parts_are_not(made: FromGood) -> None:
    served = read_bundle(made.folder)
    good = [float(served.raw(picture(900 + k))[0][0]) for k in range(10)]
    bad = [float(served.raw(scratched(900 + k, 40)[0])[0][0]) for k in range(10)]
    assert min(bad) > max(good)


def test_the_heat_lies_on_the_scratch(made: FromGood) -> None:
    image, mask = scratched(912, 50)
    heat = read_bundle(made.folder).raw(image)[1][0]
    cells = mask.reshape(8, 8, 10, 8).any((1, 3))
    assert heat[cells].mean() > heat[~cells].mean() + 10


def test_an_edge_serves_it(made: FromGood) -> None:
    model = open_model(edge_reads(made.folder), BundleConfig(path=made.folder))
    assert model.golden_error <= 1e-4
    assert (made.folder / "card.md").read_text().startswith("# tiny-good-0.1.0")


def test_the_search_by_convolution_is_the_nearest_neighbour() -> None:
    torch.manual_seed(0)
    from training.network import Network

    encoder = Network(1, 8).eval()
    pictures = [picture(k) for k in range(10)]
    memory = learn(encoder, pictures)
    image = torch.from_numpy(scratched(3, 30)[0][None])
    with torch.no_grad():
        x = patches(encoder, image)[0].flatten(1).T
        w = memory.get_buffer("project")[:, :, 0, 0]
        rows = x @ w.T + memory.get_buffer("shift")
        stored = -0.5 * memory.get_buffer("twice")[:, :, 0, 0]
        wanted = torch.cdist(rows, stored).min(1).values ** 2
        found = memory(image)[0].flatten()
    assert torch.allclose(found, wanted, rtol=1e-2, atol=1e-2)


def test_rows_are_whitened_by_half() -> None:
    """Uncorrelated, and what was their deviation is their variance."""
    rows = torch.randn(4000, 6, dtype=torch.float64) * torch.tensor([9.0, 5, 3, 2, 1, 0.5]) + 4
    mean, whiten = whitening(rows, 3)
    covariance = torch.cov(((rows - mean) @ whiten.T).T)
    assert torch.allclose(covariance, torch.diag(torch.tensor([9.0, 5, 3], dtype=torch.float64)), rtol=0.05, atol=0.06)


def test_the_score_is_the_nine_strangest_patches() -> None:
    squared = torch.full((2, 6, 8), 1.0)
    squared[0, 2:5, 3:6] = 4.0
    squared[1, 0, 0] = 10.0
    assert strangest(squared).tolist() == [4.0, 2.0], "a point of nine patches before one loud patch"
    assert strangest(torch.full((1, 2, 2), 3.0)).tolist() == [3.0], "an input of fewer patches"


def test_a_coreset_reaches_into_every_corner() -> None:
    corners = torch.tensor([[0.0, 0], [0, 9], [9, 0], [9, 9]]).repeat_interleave(50, 0)
    rows = corners + 0.01 * torch.randn(200, 2)
    chosen = coreset(rows, 4, torch.Generator().manual_seed(0))
    assert len({tuple((c / 9).round().int().tolist()) for c in chosen}) == 4


def test_limits_from_good_parts_alone() -> None:
    good = np.linspace(0, 1, 200)
    found = limits(good, np.array([]))
    scores = found.calibration(good)
    assert (scores > found.hi).mean() <= 0.01
    assert (scores > found.lo).mean() == pytest.approx(0.10, abs=0.01)
    assert found.promised == pytest.approx(2 / 201)
    few = limits(good[::20], np.array([]))
    assert few.promised == pytest.approx(1 / 11), "ten good parts promise no better than one in eleven"
    with pytest.raises(DatasetError, match="too few"):
        limits(good[:4], np.array([]))


def test_defects_make_it_a_probability() -> None:
    rng = np.random.default_rng(0)
    found = limits(rng.normal(0, 1, 300), rng.normal(3, 1, 60))
    assert found.defects == 60
    assert found.calibration(np.array([-2.0]))[0] < 0.05
    assert found.calibration(np.array([4.0]))[0] > 0.9


def test_of_crops_the_strangest_is_its_pictures() -> None:
    def example(bad: float) -> Example:
        target = np.array([bad], np.float32)
        return Example(np.zeros((32, 32, 3), np.uint8), None, target, target, target)

    def sample(n: int) -> Sample:
        cut = f"tile#{n // 2:016x}@{n % 2 * 32},0,32,32"
        return Sample(
            image=f"{n}.png", image_sha256="0" * 64, width_px=32, height_px=32, labels=(), group=f"{n // 2}", source=cut
        )

    logits, samples = np.array([0.1, 0.9, 0.4, 0.3, 0.2, 0.8]), [sample(n) for n in range(6)]
    good, bad = by_picture(logits, [example(n == 5) for n in range(6)], samples)
    assert (good.tolist(), bad.tolist()) == ([0.9, 0.4], [0.8]), "of the last picture one crop is good, and it is not"
    good, bad = by_picture(logits, [example(n % 2) for n in range(6)], samples)
    assert (good.tolist(), bad.tolist()) == ([0.1, 0.4, 0.2], [0.9, 0.3, 0.8]), "no good one: crops stand for it"


def test_an_encoder_that_has_seen_nothing_is_refused() -> None:
    with pytest.raises(DatasetError, match="has seen something"):
        encoder_for(Backbone())


def test_too_few_good_parts_are_refused() -> None:
    from training.network import Network

    with pytest.raises(DatasetError, match="7 pictures are too few"):
        learn(Network(1, 8), [picture(k) for k in range(7)])


def test_the_command(tiny: Snapshot, tmp_path: Path) -> None:
    run = wide_run(tiny, tmp_path / "run")
    options = ["--out", str(tmp_path / "b"), "--weights", str(run), "--size", "80x64", "--threads", "1"]
    done = CliRunner().invoke(train, ["good-parts", str(tiny.folder), *options])
    assert done.exit_code == 0, done.output
    assert "expected to be called" in " ".join(done.output.split())
