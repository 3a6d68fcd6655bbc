"""What this machine is, as its own kernel and libraries say."""

from __future__ import annotations

import os
import platform
from typing import Any

import cv2
import numpy as np
import onnxruntime as ort


def machine() -> dict[str, Any]:
    return {
        "cpu": _cpu_line("model name") or platform.machine(),
        "cores": len(os.sched_getaffinity(0)),
        "int8": int8_pays(_cpu_line("flags")),
        "python": platform.python_version(),
        "onnxruntime": ort.__version__,
        "opencv": cv2.__version__,
        "numpy": np.__version__,
        "providers": ort.get_available_providers(),
    }


def int8_pays(flags: str) -> str:
    """What the processor's flags promise a quantized bundle (docs/inference.md)."""
    vnni = sorted({"avx512_vnni", "avx_vnni", "amx_int8"} & set(flags.split()))
    if vnni:
        return f"pays ({', '.join(vnni)})"
    return "no VNNI: an int8 bundle may be no faster here, and needs `haltline quantize --reduce-range` to be right"


def _cpu_line(key: str) -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as f:  # noqa: PTH123 - a kernel file, not a path of ours
            return next((line.split(":", 1)[1].strip() for line in f if line.startswith(key)), "")
    except OSError:
        return ""
