"""The settings of a V4L2 camera, by OpenCV."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Protocol

import cv2

_MODES: Mapping[str, int] = {
    "auto_exposure": cv2.CAP_PROP_AUTO_EXPOSURE,
    "auto_white_balance": cv2.CAP_PROP_AUTO_WB,
    "autofocus": cv2.CAP_PROP_AUTOFOCUS,
}
_VALUES: Mapping[str, int] = {
    "fourcc": cv2.CAP_PROP_FOURCC,
    "width": cv2.CAP_PROP_FRAME_WIDTH,
    "height": cv2.CAP_PROP_FRAME_HEIGHT,
    "exposure": cv2.CAP_PROP_EXPOSURE,
    "gain": cv2.CAP_PROP_GAIN,
    "white_balance": cv2.CAP_PROP_WB_TEMPERATURE,
    "focus": cv2.CAP_PROP_FOCUS,
    "zoom": cv2.CAP_PROP_ZOOM,
    "brightness": cv2.CAP_PROP_BRIGHTNESS,
    "contrast": cv2.CAP_PROP_CONTRAST,
    "saturation": cv2.CAP_PROP_SATURATION,
    "sharpness": cv2.CAP_PROP_SHARPNESS,
    "gamma": cv2.CAP_PROP_GAMMA,
    "backlight": cv2.CAP_PROP_BACKLIGHT,
}
_ORDER = ("fourcc", "width", "height", *_MODES, *list(_VALUES)[3:])
_V4L2_EXPOSURE_MANUAL = 1
_GOVERNED: Mapping[str, tuple[str, float]] = {
    "exposure": ("auto_exposure", _V4L2_EXPOSURE_MANUAL),
    "gain": ("auto_exposure", _V4L2_EXPOSURE_MANUAL),
    "white_balance": ("auto_white_balance", 0),
    "focus": ("autofocus", 0),
}
"""Value, and the mode in which nobody but us changes it."""


class Properties(Protocol):
    """What is used of ``cv2.VideoCapture``."""

    def get(self, propId: int, /) -> float:  # noqa: N803 - OpenCV's
        """Read; -1 where the driver has none."""
        ...

    def set(self, propId: int, value: float, /) -> bool:  # noqa: N803 - OpenCV's
        """Write; whether it was taken."""
        ...


class WebcamControls:
    """``Controls`` over OpenCV's properties.

    Args:
        capture: an open one.
    """

    def __init__(self, capture: Properties) -> None:
        self._capture = capture

    def read(self) -> dict[str, float | int | str]:
        """Settings that the driver has and no automatic changes."""
        numbers = {name: self._capture.get(_PROPERTY[name]) for name in _ORDER}
        known = {name: value for name, value in numbers.items() if math.isfinite(value)}
        known = {name: value for name, value in known.items() if value != -1}
        found: dict[str, float | int | str] = {}
        for name, value in known.items():
            mode, manual = _GOVERNED.get(name, (name, value))
            if known.get(mode, manual) == manual:
                found[name] = _fourcc_text(value) if name == "fourcc" else _plain(value)
        return found

    def write(self, name: str, value: float | str) -> None:
        """Ask the driver for it."""
        if name in _PROPERTY:
            number = _fourcc_number(value) if isinstance(value, str) else value
            self._capture.set(_PROPERTY[name], number)


_PROPERTY = {**_MODES, **_VALUES}


def _plain(value: float) -> float | int:
    return int(value) if value == int(value) else value


def _fourcc_text(value: float) -> str:
    return (int(value) & 0xFFFFFFFF).to_bytes(4, "little").decode("latin-1")


def _fourcc_number(text: str) -> int:
    return int.from_bytes(text.encode("latin-1")[:4], "little")
