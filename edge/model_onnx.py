"""A verified bundle on ONNX Runtime, on the provider that was asked for and on no other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import onnxruntime as ort
from numpy.typing import NDArray

from edge.bundle_store import VerifiedBundle
from edge.model_base import BundleModel, Port, Signature, Tensors
from inspection.bundle import MODEL_FILE
from inspection.errors import BundleError

CPU = "CPUExecutionProvider"
HELPERS = {"TensorrtExecutionProvider": ("CUDAExecutionProvider",)}
"""Who takes the nodes a provider has no kernel for, on the same device."""
HEAVY = frozenset({"Conv", "ConvTranspose", "Gemm", "MatMul", "QLinearConv"})
"""Where a network's time goes. A stray Cast on the CPU is harmless; one of these there is a fallback."""
TYPES = {"tensor(float)": "float32", "tensor(uint8)": "uint8"}


class OnnxModel(BundleModel):
    """`provider` is one of onnxruntime's own names. onnxruntime falls back silently; Haltline does not."""

    session: ort.InferenceSession

    def __init__(self, bundle: VerifiedBundle, provider: str = CPU, threads: int = 2, max_tiles: int = 1) -> None:
        super().__init__(bundle, provider, threads, max_tiles)

    def _open(self, model: bytes, provider: str, threads: int) -> tuple[str, str]:
        have = ort.get_available_providers()
        if provider not in have:
            raise BundleError(
                self.bundle_id,
                f"{provider} is not to be had here",
                f"bundle.provider takes one of {', '.join(have)}, or openvino where haltline[openvino] is installed",
            )
        helpers = [name for name in HELPERS.get(provider, ()) if name in have]
        try:
            self.session = ort.InferenceSession(model, _options(threads), providers=[provider, *helpers])
        except Exception as e:  # onnxruntime's exceptions share no base but Exception
            raise BundleError(self.bundle_id, f"onnxruntime refuses {MODEL_FILE}: {e}", "export again") from e
        return require(self.bundle_id, provider, self.session.get_providers(), assignment(self.session))

    def _signature(self) -> Signature:
        return Signature(
            {i.name: _port(i) for i in self.session.get_inputs()},
            {o.name: _port(o) for o in self.session.get_outputs()},
        )

    def _run(self, feeds: Tensors, names: list[str]) -> list[NDArray[Any]]:
        found: list[NDArray[Any]] = self.session.run(names, feeds)
        return found


def require(bundle_id: str, asked: str, opened: list[str], assigned: Mapping[str, Counter[str]]) -> tuple[str, str]:
    """(what really runs, where its nodes went); BundleError when that is not what was asked for.

    `opened` is what the session says it has: a provider whose driver or library is missing is dropped from it without
    an error. `assigned` is provider -> operators, since one that is there may still leave its work to the CPU.
    """
    fix = "mend the driver or fix bundle.provider"
    if opened[0] != asked:
        raise BundleError(bundle_id, f"runs on {opened[0]}, not on {asked}", fix)
    allowed = {asked, *HELPERS.get(asked, ())}
    stray = sum((ops for name, ops in assigned.items() if name not in allowed), Counter[str]())
    if heavy := {op: count for op, count in stray.items() if op in HEAVY}:
        raise BundleError(bundle_id, f"{asked} leaves {heavy} to another provider", fix)
    return asked, ", ".join(f"{sum(ops.values())} nodes on {name}" for name, ops in assigned.items())


def assignment(session: ort.InferenceSession) -> dict[str, Counter[str]]:
    """Provider -> its operators; empty from an onnxruntime too old to tell (before 1.24)."""
    tell = getattr(session, "get_provider_graph_assignment_info", None)
    found: dict[str, Counter[str]] = {}
    for part in tell() if tell else ():
        found.setdefault(part.ep_name, Counter()).update(node.op_type for node in part.get_nodes())
    return found


def _port(node: Any) -> Port:
    return list(node.shape), TYPES.get(node.type, node.type)


def _options(threads: int) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Spinning threads would eat the core that MQTT and the camera need between frames.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    return options
