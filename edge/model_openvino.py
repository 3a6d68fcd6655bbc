"""A verified bundle on OpenVINO, on the device that was asked for and on no other. Needs `haltline[openvino]`."""

from __future__ import annotations

from typing import Any

import numpy as np
import openvino as ov
from numpy.typing import NDArray

from edge.bundle_store import VerifiedBundle
from edge.model_base import BundleModel, Port, Signature, Tensors
from inspection.bundle import MODEL_FILE
from inspection.errors import BundleError


class OpenVinoModel(BundleModel):
    """`provider` is `openvino` (the CPU) or `openvino:DEVICE`, e.g. `openvino:GPU`."""

    request: ov.InferRequest
    compiled: ov.CompiledModel

    def __init__(
        self, bundle: VerifiedBundle, provider: str = "openvino", threads: int = 2, max_tiles: int = 1
    ) -> None:
        super().__init__(bundle, provider, threads, max_tiles)

    def _open(self, model: bytes, provider: str, threads: int) -> tuple[str, str]:
        device, core = provider.partition(":")[2] or "CPU", ov.Core()
        have = core.available_devices
        if not any(same_device(device, each) for each in have):
            names = ", ".join(f"openvino:{each}" for each in have)
            raise BundleError(self.bundle_id, f"OpenVINO has no {device} here", f"bundle.provider takes one of {names}")
        try:
            self.compiled = core.compile_model(core.read_model(model=model), device, _settings(device, threads))
            self.request = self.compiled.create_infer_request()
        except Exception as e:  # OpenVINO raises RuntimeError for everything, a broken driver and a broken graph
            raise BundleError(self.bundle_id, f"OpenVINO refuses {MODEL_FILE}: {_first(e)}", "export again") from e
        real = [str(each) for each in self.compiled.get_property("EXECUTION_DEVICES")]
        precision = self.compiled.get_property("INFERENCE_PRECISION_HINT")
        return require(self.bundle_id, device, real), f"{ov.__version__}, {precision.get_type_name()}"

    def _signature(self) -> Signature:
        m = self.manifest
        takes = {m.input.name, *(s.input for s in m.state)}
        gives = {m.outputs.scores, m.outputs.heat, *(s.output for s in m.state)}
        gives |= {m.novelty.output} if m.novelty else set()
        return Signature(
            dict(_port(port, takes) for port in self.compiled.inputs),
            dict(_port(port, gives) for port in self.compiled.outputs),
        )

    def _run(self, feeds: Tensors, names: list[str]) -> list[NDArray[Any]]:
        # The inputs are read in place; the outputs are copied, since evidence keeps a heat map beyond the next frame.
        found = self.request.infer(feeds, share_inputs=True, share_outputs=False)
        return [found[name] for name in names]


def same_device(asked: str, real: str) -> bool:
    """GPU is GPU.0 where there is one; AUTO and HETERO are never what runs, so asking for them finds nothing."""
    return real == asked or real.startswith(f"{asked}.")


def require(bundle_id: str, device: str, real: list[str]) -> str:
    """The provider's name with the device that really runs; BundleError when it is another one."""
    if not real or not all(same_device(device, each) for each in real):
        raise BundleError(bundle_id, f"runs on OpenVINO's {' and '.join(real)}, not on {device}", "fix bundle.provider")
    return f"openvino:{real[0]}"


def _settings(device: str, threads: int) -> dict[str, str | int]:
    # Left alone, OpenVINO computes in bfloat16 or float16 where the device can, which is not what the golden frames
    # were made with. Kernels of an int8 graph stay int8.
    settings: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": "f32"}
    if device == "CPU":
        settings |= {"INFERENCE_NUM_THREADS": threads, "NUM_STREAMS": 1}
    return settings


def _port(port: ov.ConstOutput, wanted: set[str]) -> tuple[str, Port]:
    names = port.get_names()
    name = min(names & wanted or names or {"?"})
    shape: list[int | str] = [d.get_length() if d.is_static else str(d) for d in port.partial_shape]
    return name, (shape, np.dtype(port.element_type.to_dtype()).name)


def _first(error: Exception) -> str:
    """OpenVINO's messages end in its own source lines; what is wrong stands on the last line that is not one."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[-1][:300]
