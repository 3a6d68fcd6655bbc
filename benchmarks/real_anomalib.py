"""anomalib's own PatchCore and PaDiM, where it is installed (`pip install anomalib`), on features from a local file.

Their published weights come from a hub; here both stand on the same MobileNetV2 as our good-parts model, so that what
differs is the method. They are exported whole, blur and all, and judged like everything else.
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from inspection.errors import ConfigError
from training.backbones import Backbone, read_weights
from training.timm_models import timm

LAYERS = ["blocks.2", "blocks.4"]  # strides 8 and 16
MOST_PICTURES, MEMORY = 150, 2000
PADIM_FEATURES = 100


class Anomalib(nn.Module):
    """uint8 BGR pictures -> score (1, 1) and heat (1, 1, H, W) uint8. Both are 0.5 at `high_score` and `high_map`, what
    the strangest good pictures reach; no order changes, and far above nothing is rounded to one value."""

    def __init__(self, model: nn.Module, high_score: float, high_map: float) -> None:
        super().__init__()
        self.model, self.high_score, self.high_map = model.eval(), high_score, high_map

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor]:
        found = self.model(pixels(image))
        score = _share(found.pred_score.reshape(-1, 1), self.high_score)
        heat = _share(found.anomaly_map, self.high_map)
        return score, (heat * 255).round().to(torch.uint8)


def pixels(image: Tensor) -> Tensor:
    return image.permute(0, 3, 1, 2).flip(1).float() / 127.5 - 1


def _share(x: Tensor, high: float) -> Tensor:
    """x^4 / (x^4 + high^4)."""
    return torch.sigmoid(4 * torch.log(x.clamp(min=1e-6) / high))


@torch.no_grad()
def learn(kind: str, pictures: Sequence[np.ndarray], weights: str, seed: int) -> Anomalib:
    """`kind` is patchcore or padim; `pictures` (H, W, 3) of good parts, at most MOST_PICTURES of them are used."""
    os.environ.setdefault("TQDM_DISABLE", "1")  # read when tqdm is imported
    timm()  # first, for its sake torchvision's operators are declared
    try:
        module: Any = importlib.import_module(f"anomalib.models.image.{kind}.torch_model")
    except ModuleNotFoundError as e:
        raise ConfigError(kind, f"needs {e.name}", "pip install anomalib") from e
    torch.manual_seed(seed)
    some = [pictures[k] for k in np.random.default_rng(seed).permutation(len(pictures))[:MOST_PICTURES]]
    settings: dict[str, Any] = {"backbone": "mobilenetv2_100", "layers": LAYERS, "pre_trained": False}
    if kind == "patchcore":
        model = module.PatchcoreModel(**settings)
    else:
        model = module.PadimModel(**settings, n_features=PADIM_FEATURES)
    state = read_weights(Backbone(name="mobilenetv2_100", weights=weights), Path(weights))
    left = model.feature_extractor.feature_extractor.load_state_dict(state, strict=False).missing_keys
    if left:
        raise ConfigError(kind, f"finds no {left[0]} in {weights}", "report this: it is a defect")
    model.train()
    model.feature_extractor.eval()
    for picture in some:
        found = model(pixels(torch.from_numpy(picture[None])))
        cells = found.shape[0] if kind == "patchcore" else 0
    if kind == "patchcore":
        model.subsample_embedding(min(1.0, MEMORY / (cells * len(some))))
    else:
        model.fit()
    model.eval()
    said = [model(pixels(torch.from_numpy(p[None]))) for p in some[:: max(1, len(some) // 50)]]
    scores = np.array([float(s.pred_score) for s in said])
    maps = np.concatenate([s.anomaly_map.numpy().ravel() for s in said])
    return Anomalib(model, *(max(float(np.quantile(v, 0.999)), 1e-6) for v in (scores, maps)))
