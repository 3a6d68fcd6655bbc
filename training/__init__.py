"""Room 3: labelled pictures to a checked bundle. The only room with torch."""

import os

# onnxruntime 1.31 on sends what it runs to its maker, from its import on, unless this stands before that.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
