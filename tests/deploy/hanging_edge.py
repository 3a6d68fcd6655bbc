"""`python hanging_edge.py FILE edge.yaml`: an edge whose inference hangs for good once FILE exists."""

import sys
import time
from pathlib import Path
from typing import Any

from edge.cli import run
from edge.model_onnx import OnnxModel

judge = OnnxModel.infer


def infer(self: OnnxModel, *args: Any) -> Any:
    while Path(sys.argv[1]).exists():
        time.sleep(0.05)
    return judge(self, *args)


OnnxModel.infer = infer  # type: ignore[method-assign]
run(Path(sys.argv[2]))
