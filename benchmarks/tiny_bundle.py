"""A bundle whose model anybody can compute in the head: red is a defect. Real ONNX, real runtime, known answers.

A px with R at least 128 above G is red. The heat map is the share of red in each 4x4 block, the score is the
largest heat. Asked for a novelty, it is the mean grey level as a share of 100, which is what the pictures here have.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from inspection.bundle import (
    MANIFEST_FILE,
    MODEL_FILE,
    NOVELTY,
    ClassLimits,
    Golden,
    GoldenCase,
    InputSpec,
    Lineage,
    Manifest,
    NoveltySpec,
    OutputSpec,
    sha256,
)

W, H, STRIDE = 320, 256, 4


def red_model(novelty: bool = False) -> bytes:
    def const(name: str, value: object, dtype: type = np.float32) -> onnx.TensorProto:
        return numpy_helper.from_array(np.asarray(value, dtype), name)

    nodes = [
        helper.make_node("Cast", ["image"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["f"], ["nchw"], perm=[0, 3, 1, 2]),
        helper.make_node("Conv", ["nchw", "w", "b"], ["diff"]),  # R - G - 127
        helper.make_node("Clip", ["diff", "zero", "one"], ["red"]),
        helper.make_node("AveragePool", ["red"], ["share"], kernel_shape=[STRIDE, STRIDE], strides=[STRIDE, STRIDE]),
        helper.make_node("ReduceMax", ["share", "axes"], ["scores"], keepdims=0),
        helper.make_node("Mul", ["share", "full"], ["h"]),
        helper.make_node("Round", ["h"], ["hr"]),
        helper.make_node("Cast", ["hr"], ["heat"], to=TensorProto.UINT8),
    ]
    outputs = [
        helper.make_tensor_value_info("scores", TensorProto.FLOAT, [1, 1]),
        helper.make_tensor_value_info("heat", TensorProto.UINT8, [1, 1, H // STRIDE, W // STRIDE]),
    ]
    extra: list[onnx.TensorProto] = []
    if novelty:
        extra = [const("all_axes", [1, 2, 3], np.int64), const("hundredth", 0.01)]
        nodes.append(helper.make_node("ReduceMean", ["f", "all_axes"], ["grey"], keepdims=0))
        nodes.append(helper.make_node("Mul", ["grey", "hundredth"], [NOVELTY]))
        outputs.append(helper.make_tensor_value_info(NOVELTY, TensorProto.FLOAT, [1]))
    graph = helper.make_graph(
        nodes,
        "red",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, H, W, 3])],
        outputs,
        [
            const("w", [[[[0]], [[-1]], [[1]]]]),
            const("b", [-127.0]),
            const("zero", 0.0),
            const("one", 1.0),
            const("full", 255.0),
            const("axes", [2, 3], np.int64),
            *extra,
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def picture(
    red_mm: float = 0.0, px_per_mm: float = 10.0, size: tuple[int, int] = (640, 512), seed: int = 0
) -> np.ndarray:
    """Grey noise, with a red bar of this length in the middle, 2 mm high."""
    rng = np.random.default_rng(seed)
    image = rng.integers(90, 110, (size[1], size[0], 3), dtype=np.uint8)
    if red_mm:
        w, h = round(red_mm * px_per_mm), round(2 * px_per_mm)
        x, y = (size[0] - w) // 2, (size[1] - h) // 2
        image[y : y + h, x : x + w] = (20, 20, 250)
    return image


def write_bundle(
    folder: Path,
    version: str = "1.0.0",
    lo: float = 0.3,
    hi: float = 0.7,
    name: str = "red",
    novel_from: float | None = None,
) -> Path:
    """A valid bundle under `folder`; its path. With `novel_from` it has a novelty and this threshold."""
    model = red_model(novelty=novel_from is not None)
    shown = picture(4, 5.0, (W, H))
    png = cv2.imencode(".png", shown)[1].tobytes()
    files = {MODEL_FILE: model, "golden/red.png": png}
    heat_mean = 255 * (20 * 10) / (W * H)  # a bar of 4 x 2 mm at 5 px/mm
    known = None if novel_from is None else NoveltySpec(threshold=novel_from, quantile=0.99, fitted_on=2, held_out=100)
    grey = float(shown.mean()) / 100
    golden = GoldenCase(image="golden/red.png", scores=(1.0,), heat_mean=(heat_mean,), novelty=grey if known else None)
    manifest = Manifest(
        name=name,
        version=version,
        task="red",
        created_utc="2026-01-01T00:00:00Z",
        classes=("red",),
        input=InputSpec(width_px=W, height_px=H, px_per_mm=5.0),
        outputs=OutputSpec(heat_stride=STRIDE),
        limits=(ClassLimits(cls="red", lo=lo, hi=hi, limit_mm=1.5),),
        label_book="red@1",
        novelty=known,
        golden=Golden(cases=(golden,)),
        lineage=Lineage(snapshot="none", snapshot_sha256="0" * 64),
        files={path: sha256(data) for path, data in files.items()},
    )
    bundle = folder / manifest.id
    (bundle / "golden").mkdir(parents=True)
    for path, data in {**files, MANIFEST_FILE: manifest.to_json()}.items():
        (bundle / path).write_bytes(data)
    return bundle
