"""Anybody's encoder in place of ours: any timm backbone, with weights from its hub or from a local file.

What counts is the target task, not ImageNet: `haltline train compare-backbones` trains each for a few minutes on the
snapshot at hand and says what it reaches and what it costs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal

import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from inspection.errors import ConfigError, DatasetError
from training.network import Network, SegmentAndDecide, Stages
from training.timm_models import timm

OWN = "own"
HUB = "hub"
STRIDES = (4, 8, 16)
Pixels = Literal["imagenet", "signed"]


class Backbone(BaseModel):
    """Which encoder, and what it starts from.

    `name`: `own`, or a name timm knows (`timm.list_models()`), or `mobilenetv1_075`. `weights`: None for random ones,
    `hub` for timm's, or a file; for `own` a bundle or run of ours, whose encoder is taken. `pixels`: what the weights
    were trained on, RGB: `imagenet` is (x / 255 - mean) / deviation of ImageNet, `signed` is x / 127.5 - 1
    (TensorFlow's). `frozen`: its weights and BatchNorms stay as they are, and only what lies behind learns.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str = Field(default=OWN, min_length=1)
    weights: str | None = None
    pixels: Pixels = "imagenet"
    frozen: bool = False


def build(backbone: Backbone, classes: int, width: int, *, load: bool = True) -> SegmentAndDecide:
    """The network with this encoder. `load` False leaves its weights out: a checkpoint will bring them."""
    if backbone.name == OWN:
        if backbone.frozen:
            raise ConfigError("--backbone own", "cannot be frozen", "leave out --frozen")
        network = Network(classes, width)
        if load and backbone.weights:
            from training.warm_start import load_encoder

            load_encoder(network, Path(backbone.weights))
        return network
    return OnBackbone(backbone, classes, width, load=load)


class OnBackbone(SegmentAndDecide):
    """The same head on timm's features at strides 4, 8 and 16."""

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: Backbone, classes: int, width: int, prior: float = 0.01, *, load: bool = True) -> None:
        super().__init__()
        self.frozen = backbone.frozen
        self.backbone, channels = open_backbone(backbone, load=load)
        if self.frozen:
            self.backbone.requires_grad_(False)
        mean, std = _photometry(backbone.pixels)
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)
        self.build_head(channels, classes, width, prior)

    def see(self, image: Tensor) -> Tensor:
        # Whole planes change places: a step of -1 through every pixel took a twentieth of an inference.
        rgb = image.permute(0, 3, 1, 2).flip(1).float()
        return ((rgb - self.mean) / self.std).contiguous(memory_format=torch.channels_last)

    def stages(self, x: Tensor) -> Stages:
        return Stages(*self.backbone(x))

    def train(self, mode: bool = True) -> OnBackbone:
        super().train(mode)
        if self.frozen:  # a frozen BatchNorm keeps its statistics too
            self.backbone.eval()
        return self


def open_backbone(backbone: Backbone, *, load: bool = True) -> tuple[nn.Module, tuple[int, int, int]]:
    """(module that gives features at strides 4, 8 and 16, their channels). ConfigError when it has none of those."""
    features = _create(backbone.name, features_only=True)
    reductions = list(features.feature_info.reduction())
    if missing := [s for s in STRIDES if s not in reductions]:
        raise ConfigError(
            f"--backbone {backbone.name}", f"has no features at stride {missing}", "choose a convolutional one"
        )
    chosen = tuple(reductions.index(s) for s in STRIDES)
    features = _create(backbone.name, features_only=True, out_indices=chosen)
    if load and backbone.weights == HUB:
        state = _from_hub(backbone.name)
    elif load and backbone.weights:
        state = read_weights(backbone, Path(backbone.weights))
    else:
        state = {}
    if state:
        left = features.load_state_dict(state, strict=False).missing_keys
        if left:
            raise ConfigError(f"--weights {backbone.weights}", f"lack {left[0]} of {backbone.name}", "check the name")
    c4, c8, c16 = features.feature_info.channels()
    return features, (c4, c8, c16)


def classifier(backbone: Backbone, classes: int) -> tuple[nn.Module, Tensor, Tensor]:
    """(timm's whole model with a fresh last layer, mean, deviation (1, 3, 1, 1) of the RGB it wants)."""
    model = _create(backbone.name)
    if backbone.weights == HUB:
        model.load_state_dict(_from_hub(backbone.name))
    elif backbone.weights:
        model.load_state_dict(read_weights(backbone, Path(backbone.weights)))
    model.reset_classifier(classes)
    return model, *_photometry(backbone.pixels)


def _create(name: str, **settings: Any) -> Any:
    library = timm()
    try:
        if name == "mobilenetv1_075":  # timm builds every width of it and names only two
            from timm.models.efficientnet import _gen_mobilenet_v1

            return _gen_mobilenet_v1("mobilenetv1_100", 0.75, pad_type="same", bn_eps=1e-3, **settings)
        return library.create_model(name, **settings)
    except RuntimeError as e:
        raise ConfigError(
            f"--backbone {name}", f"is none that timm {library.__version__} builds: {e}", "see timm.list_models()"
        ) from e


def _from_hub(name: str) -> dict[str, Tensor]:
    try:
        return dict(_create(name, pretrained=True).state_dict())
    except ConfigError:
        raise
    except Exception as e:  # the hub's client raises its own types, and the network's
        raise ConfigError(
            "--weights hub", f"could not fetch {name}: {type(e).__name__}", "give a local file with --weights FILE"
        ) from e


def read_weights(backbone: Backbone, path: Path) -> dict[str, Tensor]:
    """The file's weights under timm's names; another library's layout is matched in order where every shape agrees."""
    try:
        found: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as e:
        raise DatasetError(path, "is missing", "check --weights") from e
    except Exception as e:  # torch raises many types for a broken file, pickle's among them
        raise DatasetError(path, f"holds no weights: {e}", "save a state_dict with torch.save") from e
    whole = _create(backbone.name).state_dict()
    if set(whole) <= set(found):
        return {name: found[name] for name in whole}
    pairs = list(zip(whole.items(), found.items(), strict=False))
    off = [(a, b) for (a, want), (b, have) in pairs if want.shape != have.shape]
    if off or len(whole) != len(found):
        detail = f"{off[0][1]} is not shaped like {off[0][0]}" if off else f"{len(found)} tensors, not {len(whole)}"
        raise DatasetError(path, f"does not fit {backbone.name}: {detail}", "name the backbone these weights are of")
    return {name: value for (name, _), (_, value) in pairs}


def _photometry(pixels: Pixels) -> tuple[Tensor, Tensor]:
    """Mean and deviation (1, 3, 1, 1) of RGB values 0..255."""
    if pixels == "signed":
        return torch.full((1, 3, 1, 1), 127.5), torch.full((1, 3, 1, 1), 127.5)
    mean, std = torch.tensor([0.485, 0.456, 0.406]) * 255, torch.tensor([0.229, 0.224, 0.225]) * 255
    return mean.reshape(1, 3, 1, 1), std.reshape(1, 3, 1, 1)
