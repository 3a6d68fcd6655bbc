"""`bundle.provider` -> the adapter that serves a bundle on it."""

from __future__ import annotations

from edge.bundle_store import VerifiedBundle
from edge.config import BundleConfig
from edge.model_base import BundleModel
from edge.model_onnx import OnnxModel
from inspection.errors import ConfigError


def open_model(bundle: VerifiedBundle, config: BundleConfig) -> BundleModel:
    """The bundle, proven on what was asked for. BundleError or ConfigError says what is to be had instead."""
    if not config.provider.startswith("openvino"):
        return OnnxModel(bundle, config.provider, config.threads, config.max_tiles)
    try:
        from edge.model_openvino import OpenVinoModel
    except ModuleNotFoundError as e:
        raise ConfigError(
            "bundle.provider", f"{config.provider} needs {e.name}", "pip install 'haltline[openvino]'"
        ) from e
    return OpenVinoModel(bundle, config.provider, config.threads, config.max_tiles)
