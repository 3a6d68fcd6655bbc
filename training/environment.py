"""What a run was made with, noted when it begins: another machine's torch may round another way."""

from __future__ import annotations

import importlib.metadata
import os
import platform
from pathlib import Path

import cv2
import numpy as np
import torch


def describe(device: str) -> dict[str, str]:
    """What the lineage of a bundle tells: few lines."""
    found = {
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "machine": platform.machine(),
        "processor": processor(),
        "processes": os.environ.get("WORLD_SIZE", "1"),
    }
    if device == "cuda":
        found |= {"gpu": torch.cuda.get_device_name(), "cuda": str(torch.version.cuda)}
    return found


def packages() -> str:
    """Every installed package, a constraints file for pip."""
    lines = {f"{d.name}=={d.version}" for d in importlib.metadata.distributions() if d.name}
    return "\n".join(sorted(lines, key=str.lower)) + "\n"


def processor() -> str:
    """The processor's name; its architecture where the system does not tell."""
    info = Path("/proc/cpuinfo")
    if info.exists():
        for line in info.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
