"""Room 1: camera to halt. Never imports torch or another room."""

import os
import sys

# An edge speaks to its plant and to nobody else. onnxruntime (1.31 on) tells its maker what it runs, from its import
# on, and OpenVINO counts each import over the internet, unless these two lines come before them.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]
