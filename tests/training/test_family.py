"""One family: sizes, other people's encoders, what outlines, boxes and picture labels teach, variations by name."""

from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from inspection.errors import ConfigError, DatasetError
from tests.training.pictures import SCRATCH, picture, scratched, tiny_ask
from training import checkpoint as ckpt
from training import loss, timm_models
from training.augment import DEFAULT, NAMES, Variations, vary, with_defect_of
from training.backbones import Backbone, build
from training.checkpoint import RunConfig
from training.cli import train
from training.course import FrameCourse
from training.dataset.snapshot import Snapshot
from training.examples import Example, collate
from training.fit import fit, losses, tensors
from training.network import HEAT_STRIDE, Network
from training.train_cli import chosen_variations
from training.trained import trained

# Not by importing it: timm wants `training/timm_models.py` before its own first import.
needs_timm = pytest.mark.skipif(find_spec("timm") is None, reason="needs the backbones extra")
UNKNOWN = np.full(1, np.nan, np.float32)


def example(length_px: int = 30, *, boxes: bool = False, target: float = 1.0, seed: int = 20) -> Example:
    image, mask = scratched(seed, length_px)
    mm = np.array([length_px / 10], np.float32)
    return Example(image, mask, np.array([target], np.float32), mm, mm, boxes)


# ── encoders ────────────────────────────────────────────────────────────────────────────────────────────────────


@needs_timm
def test_a_timm_backbone_gives_the_same_contract() -> None:
    network = build(Backbone(name="mobilenetv3_small_050"), 2, 8).eval()
    scores, maps = network(torch.zeros((2, 64, 96, 3), dtype=torch.uint8))
    assert scores.shape == (2, 2)
    assert maps.shape == (2, 2, 64 // HEAT_STRIDE, 96 // HEAT_STRIDE)


@needs_timm
def test_frozen_means_that_nothing_of_it_moves() -> None:
    network = build(Backbone(name="mobilenetv3_small_050", frozen=True), 1, 8).train()
    before = {n: v.clone() for n, v in network.backbone.state_dict().items()}
    scores, maps = network(torch.randint(0, 255, (2, 64, 64, 3), dtype=torch.uint8))
    (scores.sum() + maps.sum()).backward()
    assert all(p.grad is None for p in network.backbone.parameters())
    assert network.to_map.weight.grad is not None
    assert all(torch.equal(v, before[n]) for n, v in network.backbone.state_dict().items())


@needs_timm
def test_weights_of_another_layout_are_matched_in_order(tmp_path: Path) -> None:
    timm = timm_models.timm()
    torch.manual_seed(1)
    source = timm.create_model("mobilenetv3_small_050").state_dict()
    renamed = {f"features.{k}": v for k, v in enumerate(source.values())}
    torch.save(renamed, tmp_path / "w.pth")
    backbone = Backbone(name="mobilenetv3_small_050", weights=str(tmp_path / "w.pth"))
    own = build(backbone, 1, 8).backbone.state_dict()
    assert all(torch.equal(value, source[name]) for name, value in own.items())
    short = dict(list(renamed.items())[:-1])
    torch.save(short, tmp_path / "w.pth")
    with pytest.raises(DatasetError, match="does not fit mobilenetv3_small_050"):
        build(backbone, 1, 8)


@needs_timm
@pytest.mark.parametrize(
    ("name", "said"), [("nonsense_9000", "is none that timm"), ("vit_tiny_patch16_224", "no features at stride")]
)
def test_backbones_that_cannot_be(name: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        build(Backbone(name=name), 1, 8)


@needs_timm
def test_a_run_on_a_backbone_is_trained_and_read_back(tiny: Snapshot, tmp_path: Path) -> None:
    ask = tiny_ask(epochs=1, backbone=Backbone(name="mobilenetv3_small_050"))
    fit(tiny, tmp_path / "run", ask)
    config, network = trained(tmp_path / "run")
    assert config.ask.backbone.name == "mobilenetv3_small_050"
    assert not isinstance(network, Network)


# ── mixed supervision ───────────────────────────────────────────────────────────────────────────────────────────


def test_what_each_kind_of_label_says_of_the_map() -> None:
    outlined, boxed = example(), example(boxes=True)
    unplaced = replace(example(), mask=None)
    good = Example(picture(1), None, np.zeros(1, np.float32), UNKNOWN, UNKNOWN)
    batch = collate([outlined, boxed, unplaced, good], HEAT_STRIDE)
    assert batch.weights[0].min() == 1
    assert batch.weights[1][batch.maps[1] > 0].max() == 0, "inside of a box nobody knows"
    assert batch.weights[1][batch.maps[1] == 0].min() == 1, "outside of it there is none"
    assert batch.weights[2].max() == 0
    assert batch.weights[3].min() == 1, "a good picture is good everywhere"
    assert batch.boxed.ravel().tolist() == [0, 1, 0, 0]
    assert batch.unplaced.ravel().tolist() == [0, 0, 1, 0]


def where_after_training(examples: list[Example], steps: int = 120) -> tuple[float, float]:
    """Mean heat inside and outside of the scratches after training on `examples`, judged on outlined ones."""
    torch.manual_seed(0)
    network, batch = Network(1, 8), collate(examples, HEAT_STRIDE)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    known = tensors(batch, "cpu")
    for _ in range(steps):
        scores, maps = network(torch.from_numpy(batch.image))
        parts = losses(scores, maps, known)
        optimizer.zero_grad()
        (parts["segmentation"] + parts["decision"]).backward()
        optimizer.step()
    truth = collate([example(k) for k in (24, 34)], HEAT_STRIDE)
    network.eval()
    with torch.no_grad():
        heat = torch.sigmoid(network(torch.from_numpy(truth.image))[1]).numpy()
    return float(heat[truth.maps > 0].mean()), float(heat[truth.maps == 0].mean())


def test_a_label_without_a_place_lifts_the_hottest_cells_as_far_as_it_goes() -> None:
    cells = torch.full((3, 1, 32, 40), -3.0, requires_grad=True)
    target, unplaced = torch.tensor([[1.0], [0.2], [1.0]]), torch.tensor([[1.0], [1.0], [0.0]])
    optimizer = torch.optim.SGD([cells], lr=20.0)
    for _ in range(400):
        optimizer.zero_grad()
        loss.presence(cells, target, unplaced).backward()
        optimizer.step()
    hottest = torch.sigmoid(cells.detach()).flatten(1).topk(4).values.mean(1)
    assert hottest[0] > 0.9
    assert hottest[1] == pytest.approx(0.2, abs=0.05)
    assert hottest[2] == pytest.approx(float(torch.sigmoid(torch.tensor(-3.0))), abs=1e-4), "its place is known"


def test_a_map_is_learnt_from_boxes() -> None:
    def boxed(k: int) -> Example:
        one = example(20 + 3 * k, boxes=True, seed=5 * k)
        assert one.mask is not None
        rows, cols = np.nonzero(one.mask)
        mask = np.zeros_like(one.mask)
        mask[max(0, rows.min() - 3) : rows.max() + 4, cols.min() : cols.max() + 1] = 1
        return replace(one, mask=mask)

    inside, outside = where_after_training([boxed(k) for k in range(8)])
    assert inside > 3 * outside


def test_soft_labels_pull_half_way() -> None:
    logits = torch.zeros(1, 1, requires_grad=True)
    for value, sign in ((0.3, 1), (0.5, 0), (0.8, -1)):
        logits.grad = None
        loss.decision(logits, torch.tensor([[value]])).backward()
        assert logits.grad is not None
        assert np.sign(round(float(logits.grad), 6)) == sign


def test_a_soft_label_stays_until_its_defect_left_the_picture() -> None:
    soft = example(30, target=0.4)
    seen = {float(vary(soft, np.random.default_rng(k), SCRATCH, (32, 32)).target[0]) for k in range(60)}
    assert seen == {np.float32(0.4), 0.0}


# ── variations ──────────────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("name", NAMES)
def test_each_variation_changes_something_by_itself(name: str) -> None:
    base = example(30, target=0.0) if name == "synthetic" else example(30)
    if name == "synthetic":
        base = replace(base, mask=np.zeros_like(example().mask), image=picture(3))
    how = Variations((name,), 10.0, (away_from_the_border(30),))
    varied = [vary(base, np.random.default_rng(k), SCRATCH, None, how) for k in range(40)]
    assert any(not np.array_equal(v.image, base.image) for v in varied)
    nothing = vary(base, np.random.default_rng(0), SCRATCH, None, Variations((), 10.0))
    assert np.array_equal(nothing.image, base.image)


def away_from_the_border(length_px: int) -> Example:
    """A donor's region needs some px around it."""
    one = example(length_px)
    assert one.mask is not None
    return replace(one, image=np.roll(one.image, 16, 1), mask=np.roll(one.mask, 16, 1))


def test_a_blended_defect_brings_its_outline_and_its_label() -> None:
    good = Example(picture(3), None, np.zeros(1, np.float32), np.zeros(1, np.float32), np.zeros(1, np.float32))
    for length_px, said in ((30, 1.0), (10, 0.0), (14, 1.0)):  # the limit is 1.5 mm: the last is a person's word
        donor = replace(away_from_the_border(length_px), target=np.array([said], np.float32))
        made = with_defect_of(good, donor, np.random.default_rng(2), SCRATCH)
        assert made.mask is not None
        assert made.mask.sum() == 2 * length_px
        assert made.target[0] == said
        inside, outside = made.image[made.mask > 0].mean(), made.image[made.mask == 0].mean()
        assert inside > outside + 60


def test_variations_by_name() -> None:
    assert chosen_variations("", "") == DEFAULT
    assert chosen_variations("noise,flip", "spatter") == ("warp", "light", "spatter")
    with pytest.raises(ConfigError, match="'blur'"):
        chosen_variations("blur", "")


def test_processes_draw_what_one_would(tiny_run: Path) -> None:
    from training.parallel import Team

    config = ckpt.read_config(tiny_run)
    assert isinstance(config, RunConfig)
    course = FrameCourse(
        config, [example(20 + k) for k in range(12)] + [replace(example(), target=np.zeros(1, np.float32))]
    )
    whole = next(iter(course.batches(3, None)))
    shares = [next(iter(course.batches(3, None, team=Team(rank, 2)))) for rank in (0, 1)]
    assert all(s.split for s in shares)
    assert np.array_equal(np.concatenate([s.batch.image for s in shares]), whole.batch.image)


# ── the command ─────────────────────────────────────────────────────────────────────────────────────────────────


def test_size_classes_and_backbones_reach_the_run(tiny: Snapshot, tmp_path: Path) -> None:
    run = tmp_path / "run"
    options = ["--epochs", "1", "--size-class", "L", "--size", "80x64", "--threads", "1", "--also", "spatter"]
    done = CliRunner().invoke(train, [str(tiny.folder), "--out", str(run), *options, "--tensorboard"])
    assert done.exit_code == 0, done.output
    ask = ckpt.read_config(run).ask
    assert (ask.channels, ask.width_px, ask.augment[-1]) == (24, 80, "spatter")
    assert list((run / "tensorboard").iterdir())
    assert "torch==" in (run / "packages.txt").read_text()


def test_what_is_compared_is_told(tiny: Snapshot, tmp_path: Path) -> None:
    options = ["--backbones", "own:8,own", "--minutes", "0.02", "--size", "80x64", "--threads", "1"]
    done = CliRunner().invoke(train, ["compare-backbones", str(tiny.folder), *options, "--out", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert "own:8" in done.output
    assert (tmp_path / "table.json").exists()


def test_an_ablation_names_what_it_changed(tiny: Snapshot) -> None:
    options = ["--epochs", "1", "--size", "80x64", "--threads", "1", "--only", "noise,spatter"]
    done = CliRunner().invoke(train, ["ablate", str(tiny.folder), *options])
    assert done.exit_code == 0, done.output
    assert "without noise" in done.output
    assert "with spatter" in done.output
