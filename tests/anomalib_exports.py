"""The small exports of anomalib that are checked in, and what they say by themselves."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import openvino

from edge_sdk.imaging import read_image
from edge_sdk.records import UInt8Array

EXPORTS = Path(__file__).parent / "data" / "anomalib"
PICTURES = EXPORTS / "pictures"
SIDE = 96


def board_pictures() -> list[UInt8Array]:
    """All of them, in the order of their names: a folder source's order."""
    return [read_image(path) for path in sorted(PICTURES.iterdir())]


def file_answer(path: Path, pixels: UInt8Array) -> dict[str, float]:
    """Score, and label where there is one, as a user of the file gets them without us."""
    small = cv2.resize(pixels, (SIDE, SIDE), interpolation=cv2.INTER_AREA)
    planes = (small.transpose(2, 0, 1)[None] / 255).astype(np.float32)
    if path.suffix == ".onnx":
        session = onnxruntime.InferenceSession(str(path))
        names = [output.name for output in session.get_outputs()]
        values = dict(zip(names, session.run(names, {"input": planes}), strict=True))
    else:
        core = openvino.Core()
        hint = {"INFERENCE_PRECISION_HINT": "f32"}
        answer = core.compile_model(core.read_model(path), "CPU", hint)({"input": planes})
        values = {port.get_any_name(): value for port, value in answer.items()}
    wanted = [name for name in ("pred_score", "pred_label") if name in values]
    return {name: float(np.asarray(values[name]).reshape(())) for name in wanted}
