"""The checks that need the network itself: before the first step, one batch by heart, inputs zeroed."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch

from training import loss
from training.backbones import OWN
from training.checkpoint import RunConfig
from training.examples import Example, load
from training.fit import network_of
from training.network import SegmentAndDecide
from training.outcome import Judge, judged
from training.suspicious import Check, check_blind, check_outcome, check_overfit, check_start
from training.trained import predict

STEPS = 200
PICTURES = 8
ENOUGH = 0.01
RATE = 2e-3


def check_run(judge: Judge, *, overfit: bool = True) -> Iterator[Check]:
    test = judge.of("test")
    yield from check_outcome(test, judged(test))
    zeroed, _ = predict(judge.network, [np.zeros_like(e.image) for e in test.examples])
    yield check_blind(zeroed.max(1).values.double().numpy(), test.target)
    yield check_start(*start_loss(judge.config, _some(judge, 32)))
    if overfit:
        yield check_overfit(by_heart(judge.config, _some(judge, PICTURES)))


def _some(judge: Judge, count: int) -> list[Example]:
    """Training pictures, defective and good in turn."""
    samples, c = judge.data.split("train"), judge.config
    bad, good = [s for s in samples if s.labels], [s for s in samples if not s.labels]
    turns = [s for pair in zip(bad, good, strict=False) for s in pair] or list(samples)
    return [load(judge.data.folder, s, c.input, c.label_book) for s in turns[:count]]


def _fresh(config: RunConfig) -> SegmentAndDecide:
    """The network before its first step. Ours from nothing: the model it started from may be gone, and to learn eight
    pictures by heart it needs none."""
    return network_of(config, load=config.ask.backbone.name != OWN)


@torch.no_grad()
def start_loss(config: RunConfig, some: list[Example]) -> tuple[float, float]:
    """(decision loss of a network that has learnt nothing, share of defective among the pictures it saw)."""
    torch.manual_seed(config.ask.seed)
    scores, _ = predict(_fresh(config).eval(), [e.image for e in some])
    target = torch.from_numpy(np.stack([e.target for e in some]))
    return float(loss.decision(scores.float(), target)), float(target.mean())


def by_heart(config: RunConfig, some: list[Example]) -> float:
    """The decision loss on one batch after up to STEPS steps on nothing else: a network that cannot learn eight
    pictures by heart, or labels that do not reach it, are broken."""
    torch.manual_seed(config.ask.seed)
    network = _fresh(config).train()
    image = torch.from_numpy(np.stack([e.image for e in some]))
    target = torch.from_numpy(np.stack([e.target for e in some]))
    optimizer = torch.optim.AdamW([p for p in network.parameters() if p.requires_grad], lr=RATE, weight_decay=0.0)
    now = float("inf")
    for _ in range(STEPS):
        scores, _ = network(image)
        miss = loss.decision(scores.float(), target)
        now = float(miss.detach())
        if now < ENOUGH:
            break
        optimizer.zero_grad(set_to_none=True)
        miss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return now
