"""The network's shapes, its losses, and that it can learn what it is shown."""

from __future__ import annotations

import math
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from inspection.bundle import InputSpec
from inspection.label_book import BOOKS, ClassRule, CountLimit, LabelBook
from tests.training.pictures import SCRATCH, scratched
from training import loss
from training.augment import vary
from training.dataset.snapshot import Snapshot
from training.examples import Example, can_be_windowed, collate, input_spec, order
from training.network import HEAT_STRIDE, Network


@pytest.mark.parametrize(("classes", "height", "width"), [(1, 64, 80), (3, 96, 64)])
def test_shapes(classes: int, height: int, width: int) -> None:
    network = Network(classes, 8).eval()
    scores, maps = network(torch.zeros((2, height, width, 3), dtype=torch.uint8))
    assert scores.shape == (2, classes)
    assert maps.shape == (2, classes, height // HEAT_STRIDE, width // HEAT_STRIDE)


def test_size_of_the_released_network() -> None:
    weights = sum(p.numel() for p in Network(3, 16).parameters())
    assert 0.3e6 < weights < 0.9e6


def test_every_pixel_starts_at_the_prior() -> None:
    maps = Network(1, 8, prior=0.01).eval()(torch.zeros((1, 32, 32, 3), dtype=torch.uint8))[1]
    assert torch.allclose(torch.sigmoid(maps), torch.tensor(0.01), atol=1e-4)


def test_the_decision_only_reads_the_map() -> None:
    network = Network(1, 8)
    scores, _ = network(torch.randint(0, 255, (2, 32, 32, 3), dtype=torch.uint8))
    scores.sum().backward()
    assert network.to_map.weight.grad is None


def test_one_batch_can_be_learnt() -> None:
    torch.manual_seed(0)
    pictures = [scratched(k, 16 + 4 * k) for k in range(8)]
    wanted = [float(k % 2) for k in range(8)]
    examples = [
        Example(image, mask * np.uint8(w), np.array([w], np.float32), *(np.array([2.0], np.float32),) * 2)
        for (image, mask), w in zip(pictures, wanted, strict=True)
    ]
    batch = collate(examples, HEAT_STRIDE)
    network = Network(1, 8)
    optimizer = torch.optim.AdamW(network.parameters(), lr=4e-3)
    for _ in range(60):
        scores, maps = network(torch.from_numpy(batch.image))
        seg = loss.segmentation(maps, torch.from_numpy(batch.maps), torch.from_numpy(batch.weights))
        dec = loss.decision(scores, torch.from_numpy(batch.target))
        optimizer.zero_grad()
        (seg + dec).backward()
        optimizer.step()
    assert dec.item() < 0.05


def test_loss_ignores_what_nobody_outlined() -> None:
    logits = torch.randn(2, 1, 8, 8, requires_grad=True)
    weights = torch.ones(2, 1, 8, 8)
    weights[1] = 0
    loss.segmentation(logits, torch.zeros_like(logits), weights).backward()
    assert logits.grad is not None
    assert logits.grad[0].abs().sum() > 0
    assert logits.grad[1].abs().sum() == 0


def test_decision_loss_of_an_untrained_model_is_the_entropy() -> None:
    target = torch.tensor([[0.0], [1.0]])
    assert loss.decision(torch.zeros(2, 1), target).item() == pytest.approx(math.log(2))


# ── examples ────────────────────────────────────────────────────────────────────────────────────────────────────


def example(length_px: int) -> Example:
    image, mask = scratched(20, length_px)
    mm = np.array([length_px / 10], np.float32)
    return Example(image, mask, np.array([float(mm[0] >= 1.5)], np.float32), mm, mm)


def test_variations_repeat_and_relabel() -> None:
    base = example(16)  # 1.6 mm: shrunk by more than 6 % it is no defect any more
    seen = set()
    for k in range(60):
        one, two = (vary(base, np.random.default_rng(k), SCRATCH) for _ in range(2))
        assert np.array_equal(one.image, two.image)
        assert one.target[0] == float(one.length_mm[0] >= SCRATCH.rules[0].limit_mm)
        seen.add(float(one.target[0]))
    assert seen == {0.0, 1.0}


def test_windows_show_the_defect_or_drop_its_label() -> None:
    base, shown = example(30), 0
    for k in range(80):
        part = vary(base, np.random.default_rng(k), SCRATCH, (32, 32))
        assert part.mask is not None
        assert part.image.shape == (32, 32, 3)
        assert part.mask.shape == (32, 32)
        assert part.target[0] == float(part.mask.any() and part.length_mm[0] >= 1.5)
        shown += bool(part.target[0])
    assert 30 < shown < 75


PORES = LabelBook(
    name="pores",
    version=1,
    task="weld",
    rules=(ClassRule(cls="pore", title="Pore", limit_mm=2, count=CountLimit(regions=3, within_mm=20), rule="3 in 20"),),
)


def three_pores() -> Example:
    """Each of 1.2 mm at 5 px/mm: a defect because they are three."""
    mask = np.zeros((128, 160), np.uint8)
    for x in (60, 80, 100):
        mask[60:66, x : x + 6] = 1
    mm = np.array([1.2], np.float32)
    return Example(np.zeros((128, 160, 3), np.uint8), mask, np.ones(1, np.float32), mm, mm)


def test_a_rule_that_counts_goes_on_counting() -> None:
    whole = [vary(three_pores(), np.random.default_rng(k), PORES, (160, 128)).target[0] for k in range(40)]
    assert set(whole) == {1.0}, "nothing left the picture"
    seen = set()
    for k in range(80):
        part = vary(three_pores(), np.random.default_rng(k), PORES, (48, 48))
        assert part.mask is not None
        pores = cv2.connectedComponents(part.mask)[0] - 1
        assert part.target[0] == float(pores == 3)
        seen.add(pores)
    assert len(seen) > 2


@pytest.mark.parametrize(("length_px", "said"), [(14, 1.0), (16, 0.0)])
def test_a_persons_label_near_the_limit_is_not_overruled(length_px: int, said: float) -> None:
    base = replace(example(length_px), target=np.array([said], np.float32))  # the limit is 1.5 mm, 15 px
    for k in range(40):
        assert vary(base, np.random.default_rng(k), SCRATCH).target[0] == said


def test_pictures_that_do_not_say_where_are_not_windowed() -> None:
    outlined = example(20)
    good = Example(outlined.image, None, np.zeros(1, np.float32), outlined.length_mm, outlined.region_mm)
    unsaid = Example(outlined.image, None, np.ones(1, np.float32), outlined.length_mm, outlined.region_mm)
    assert can_be_windowed([outlined, good])
    assert not can_be_windowed([outlined, good, unsaid])


def test_without_a_mask_nothing_is_moved_out_of_the_picture() -> None:
    base = Example(example(20).image, None, np.ones(1, np.float32), *(np.full(1, np.nan, np.float32),) * 2)
    for k in range(10):
        varied = vary(base, np.random.default_rng(k), SCRATCH)
        assert varied.target[0] == 1.0
        assert (np.sort(varied.image.max((0, 1))) > 0).all()


def test_an_epoch_has_as_many_defective_as_good() -> None:
    def of(target: tuple[int, ...]) -> Example:
        return Example(
            np.zeros((8, 8, 3), np.uint8), None, np.array(target, np.float32), *(np.zeros(3, np.float32),) * 2
        )

    examples = [of((0, 0, 0))] * 80 + [of((1, 0, 0))] * 15 + [of((0, 0, 1))] * 5
    visits = order(examples, np.random.default_rng(0))
    targets = np.array([examples[k].target for k in visits])
    assert len(visits) == 100
    assert (targets.sum(1) == 0).sum() == 50
    assert targets[:, 0].sum() == targets[:, 2].sum() == 25


def test_the_input_keeps_the_scale(tiny: Snapshot) -> None:
    assert input_spec(tiny, 80, 64) == InputSpec(width_px=80, height_px=64, px_per_mm=10.0)
    assert input_spec(tiny, 160, 128).px_per_mm == 20.0


def test_books_have_what_the_renderer_draws() -> None:
    from inspection.render import TASKS

    assert {t: BOOKS[t].classes for t in TASKS} == {t: TASKS[t].classes for t in TASKS}
