"""What `benchmarks.real_sets` compares: our model and what a user would try instead, each as one ONNX graph.

Every method sees the same training pictures and the same processor seconds of training, counted by the process's own
clock: on a shared machine wall time would measure the neighbours. No method sees a test picture.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.segdecnet import STRIDE as SEGDECNET_STRIDE
from benchmarks.segdecnet import SegDecNet
from inspection.bundle import InputSpec, OutputSpec
from inspection.errors import ConfigError
from training import fit as recipe
from training import good_parts, loss
from training.backbones import Backbone, build, classifier
from training.calibrate import Platt
from training.checkpoint import Ask, RunConfig
from training.course import FrameCourse
from training.dataset.snapshot import Snapshot
from training.defaults import NOTHING, ask_of, own_encoder
from training.examples import Example, load
from training.graph import Graph, to_onnx
from training.network import HEAT_STRIDE, SIZES, SegmentAndDecide
from training.trained import trained

V1, V2 = "backbones/mobilenet_v1_0.75_224_imagenet.pth", "backbones/mobilenet_v2_1.0_224_imagenet_dequant.pth"
BASELINE_LR = 1e-3


@dataclass(frozen=True, slots=True)
class Task:
    """One thing to learn in `cpu_s` of training; `run` is a folder for what is left on the way."""

    data: Snapshot
    size: tuple[int, int]
    cpu_s: float
    seed: int
    run: Path
    data_root: Path

    @property
    def classes(self) -> int:
        return len(self.data.manifest.classes)

    def ask(self, **more: Any) -> Ask:
        return Ask(width_px=self.size[0], height_px=self.size[1], seed=self.seed, threads=1, **more)

    def examples(self, config: RunConfig, split: str) -> list[Example]:
        return [load(self.data.folder, s, config.input, config.label_book) for s in self.data.split(split)]

    def weights(self, name: str) -> str:
        path = self.data_root / name
        if not path.is_file():
            raise ConfigError("HALTLINE_DATA", f"has no {name}", "this baseline cannot run without its weights")
        return str(path)


@dataclass(frozen=True, slots=True)
class Made:
    """`model`: ONNX, (1, H, W, 3) uint8 -> scores (1, C) and heat (1, C or 1, h, w) uint8. `shown`: pictures or windows
    of them that were trained on."""

    model: bytes
    weights: int
    shown: int


def ours(task: Task) -> Made:
    """`haltline train SNAPSHOT`, as many epochs as fit."""
    return _family(task, own_encoder())


def from_nothing(task: Task) -> Made:
    """`haltline train SNAPSHOT --weights none`."""
    return _family(task, own_encoder(asked=NOTHING))


def wide(task: Task) -> Made:
    """`haltline train SNAPSHOT --channels 24`, the width of size L."""
    return _family(task, own_encoder(SIZES["L"].channels), SIZES["L"].channels)


def wide_from_nothing(task: Task) -> Made:
    """The same with `--weights none`."""
    return _family(task, own_encoder(asked=NOTHING), SIZES["L"].channels)


def on_mobilenet(task: Task) -> Made:
    """`haltline train SNAPSHOT --backbone mobilenetv1_075 --weights FILE --pixels signed`."""
    return _family(task, Backbone(name="mobilenetv1_075", weights=task.weights(V1), pixels="signed"))


def _family(task: Task, encoder: Backbone, channels: int = SIZES["S"].channels) -> Made:
    ask = ask_of(task.data, encoder, task.size, seed=task.seed, threads=1, channels=channels)
    shutil.rmtree(task.run, ignore_errors=True)
    epochs = epochs_in(task, ask)
    config = recipe.fit(task.data, task.run, ask.model_copy(update={"epochs": epochs}))
    network = trained(task.run)[1]
    return _made(network, config.input, HEAT_STRIDE, epochs * len(task.data.split("train")))


def epochs_in(task: Task, ask: Ask) -> int:
    """Like `training.fit.epochs_in`, by the process's clock."""
    config = recipe.new_config(task.data, ask)
    course = recipe.course_of(task.data, config)
    trial = recipe.new_trainer(config)
    torch.set_num_threads(1)
    windowed = recipe.WINDOWED if course.windowed else 0.0
    per_step = (1 - windowed) * _step_s(trial, course, None)
    if windowed:
        per_step += windowed * _step_s(trial, course, recipe.window_of(config.model_copy(update={"epochs": 10}), 0))
    return max(1, round(task.cpu_s / (per_step * course.steps_per_epoch)))


def _step_s(trial: recipe.Trainer, course: Any, window: Any) -> float:
    took, start = [], time.process_time()
    for share in islice(course.batches(0, window), 5):
        recipe.train_step(trial, share, total=100)
        took.append(time.process_time() - start)
        start = time.process_time()
    return float(np.median(took[1:] or took))


# ── networks trained from labels ────────────────────────────────────────────────────────────────────────────────


class Plain(nn.Module):
    """A timm classifier. Its class activation map is its heat: the same linear layer at every place, before pooling."""

    mean: Tensor
    std: Tensor

    def __init__(self, body: nn.Module, mean: Tensor, std: Tensor) -> None:
        super().__init__()
        self.body = body
        self.register_buffer("mean", mean)
        self.register_buffer("std", std)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        x = (image.permute(0, 3, 1, 2).flip(1).float() - self.mean) / self.std
        body = cast(Any, self.body)
        head = body.get_classifier()
        maps = F.conv2d(body.forward_features(x), head.weight[:, :, None, None], head.bias)
        return maps.mean((2, 3)), maps


def resnet18(task: Task) -> Made:
    """From random weights: timm's come from a hub."""
    torch.manual_seed(task.seed)
    return _taught(task, Plain(*classifier(Backbone(name="resnet18"), task.classes)), 32)


def mobilenet(task: Task) -> Made:
    """Fine-tuned from ImageNet, all layers."""
    torch.manual_seed(task.seed)
    weights = task.weights(V1)
    of = Backbone(name="mobilenetv1_075", weights=weights, pixels="signed")
    return _taught(task, Plain(*classifier(of, task.classes)), 32)


def segdecnet(task: Task) -> Made:
    torch.manual_seed(task.seed)
    return _taught(task, SegDecNet(task.classes), SEGDECNET_STRIDE, batch=4, maps=True)


def _taught(task: Task, network: nn.Module, stride: int, batch: int = 16, maps: bool = False) -> Made:
    """Whole pictures in our variations and our order, our optimizer, schedule and average. `maps`: outlines are learnt
    too, by our losses; otherwise labels only."""
    ask = task.ask(batch=batch, lr=BASELINE_LR)
    # A classifier's loss reads no map, so that its stride need not divide the input.
    config = recipe.new_config(task.data, ask).model_copy(update={"heat_stride": stride if maps else HEAT_STRIDE})
    course = FrameCourse(config, task.examples(config, "train"))
    torch.set_num_threads(1)
    network = network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    average = _copy(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=ask.lr, weight_decay=config.weight_decay)
    network.train()
    start, step, shown, epoch = time.process_time(), 0, 0, 0
    while (progress := (time.process_time() - start) / task.cpu_s) < 1:
        for share in course.batches(epoch, None):
            for group in optimizer.param_groups:
                group["lr"] = ask.lr * recipe.one_cycle(min(1.0, progress))
            known = recipe.tensors(share.batch, "cpu")
            with recipe.low_precision("cpu", config.bf16):
                logits, heat = network(torch.from_numpy(share.batch.image))
            if maps:
                parts = recipe.losses(logits.float(), heat.float(), known)
                where, what = loss.shares(min(1.0, progress))
                cost = where * parts["segmentation"] + what * parts["decision"]
            else:
                cost = loss.decision(logits.float(), known["target"])
            optimizer.zero_grad(set_to_none=True)
            cost.backward()  # type: ignore[no-untyped-call]
            nn.utils.clip_grad_norm_(network.parameters(), 5.0)
            optimizer.step()
            recipe.update_average(average, network, min(config.ema, (1 + step) / (10 + step)))
            step, shown = step + 1, shown + len(share.batch)
            if (progress := (time.process_time() - start) / task.cpu_s) >= 1:
                break
        epoch += 1
    return _made(average, config.input, stride, shown)


def _copy(network: nn.Module) -> nn.Module:
    import copy

    return copy.deepcopy(network).requires_grad_(False)


def _made(network: nn.Module, spec: InputSpec, stride: int, shown: int) -> Made:
    classes = int(network(torch.zeros((1, spec.height_px, spec.width_px, 3), dtype=torch.uint8))[0].shape[1])
    graph = Graph(cast(SegmentAndDecide, network.eval()), [Platt()] * classes)
    model = to_onnx(graph, spec, OutputSpec(heat_stride=stride))
    return Made(model, sum(p.numel() for p in network.parameters()), shown)


# ── from good parts only ────────────────────────────────────────────────────────────────────────────────────────


def good_own(task: Task) -> Made:
    """`haltline train good-parts SNAPSHOT`."""
    return _from_good(task, build(own_encoder(), 1, SIZES["S"].channels).eval())


def good_imagenet(task: Task) -> Made:
    return _from_good(task, imagenet_encoder(task))


def patchcore(task: Task) -> Made:
    return _anomalib(task, "patchcore")


def padim(task: Task) -> Made:
    return _anomalib(task, "padim")


def _anomalib(task: Task, kind: str) -> Made:
    from benchmarks.real_anomalib import MOST_PICTURES, learn

    torch.set_num_threads(1)
    config, good = _good(task)
    graph = learn(kind, good, task.weights(V2), task.seed)
    model = to_onnx(graph, config.input, OutputSpec(heat_stride=1))
    return Made(model, sum(t.numel() for t in graph.state_dict().values()), min(len(good), MOST_PICTURES))


def _good(task: Task) -> tuple[RunConfig, list[Any]]:
    config = recipe.new_config(task.data, task.ask())
    return config, [e.image for e in task.examples(config, "train") if not e.target.any()]


def imagenet_encoder(task: Task) -> SegmentAndDecide:
    weights = task.weights(V2)
    return build(Backbone(name="mobilenetv2_100", weights=weights, pixels="signed", frozen=True), 1, 16).eval()


def _from_good(task: Task, encoder: SegmentAndDecide) -> Made:
    """One class. The graph's sigmoid is 0.5 at the strangest training pictures' distance d, else x^4 / (x^4 + d^4): it
    changes no order, and rounds no two far ones to one value."""
    torch.set_num_threads(1)
    config, good = _good(task)
    memory = good_parts.learn(encoder, good, task.seed)
    some = good[:: max(1, len(good) // 64)]
    z = good_parts.how_strange(memory, some)
    graph = good_parts.AnomalyGraph(memory, Platt(4.0, -4.0 * float(np.quantile(z, 0.99))))
    model = to_onnx(graph, config.input, OutputSpec(heat_stride=good_parts.STRIDE))
    weights = sum(t.numel() for t in memory.state_dict().values())
    return Made(model, weights, len(good))


@dataclass(frozen=True, slots=True)
class Method:
    """`make` None: it cannot run here, and `about` says why."""

    name: str
    title: str
    about: str
    make: Callable[[Task], Made] | None
    good_only: bool = False
    labels: int | None = None
    """How many of the training pictures it sees; None all."""


METHODS = (
    Method("ours", "**Haltline S**", "0.5 M weights, its encoder saw drawn pictures, default recipe", ours),
    Method("ours-nothing", "**Haltline S, from nothing**", "the same, `--weights none`", from_nothing),
    Method(
        "ours-mobilenet",
        "**Haltline on MobileNetV1-0.75**",
        "our head and recipe on an encoder with ImageNet weights",
        on_mobilenet,
    ),
    Method("mobilenet", "MobileNetV1-0.75 classifier", "timm, ImageNet weights, all layers fine-tuned", mobilenet),
    Method("resnet18", "ResNet-18 classifier", "timm, from random weights", resnet18),
    Method("segdecnet", "SegDecNet's size", "16 M weights, our losses, whole pictures", segdecnet),
    Method("good-own", "**Haltline good parts**, own encoder", "no defect seen", good_own, good_only=True),
    Method("good-imagenet", "**Haltline good parts**, MobileNetV2", "no defect seen", good_imagenet, good_only=True),
    Method("patchcore", "anomalib's PatchCore, MobileNetV2", "no defect seen", patchcore, good_only=True),
    Method("padim", "anomalib's PaDiM, MobileNetV2", "no defect seen", padim, good_only=True),
)

BY_NAME = (
    Method("ours-24", "**Haltline, 24 channels**", "1.1 M weights, the width of size L", wide),
    Method(
        "ours-24-nothing", "**Haltline, 24 channels, from nothing**", "the same, `--weights none`", wide_from_nothing
    ),
)
"""Run where `--method` names them; not on the page."""

LABELS = (20, 50, 100, 200)
FEW = tuple(replace(m, name=f"{m.name}@{n}", labels=n) for n in LABELS for m in METHODS[:2])
"""Our two with so many labels each: what do drawn pictures save?"""
