"""The settings of a GenICam camera, by Aravis."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_FEATURES = (
    "PixelFormat",
    "BinningHorizontal", "BinningVertical", "DecimationHorizontal", "DecimationVertical",
    "ReverseX", "ReverseY", "Width", "Height", "OffsetX", "OffsetY",
    "ExposureMode", "ExposureAuto", "ExposureTime", "ExposureTimeAbs", "ExposureTimeRaw",
    "GainAuto", "Gain", "GainAbs", "GainRaw",
    "BlackLevelAuto", "BlackLevel", "BlackLevelRaw",
    "BalanceWhiteAuto", "BalanceRatioSelector", "BalanceRatio", "BalanceRatioAbs",
    "GammaEnable", "Gamma", "Saturation", "Sharpness",
    "TriggerSelector", "TriggerMode", "TriggerSource", "TriggerActivation", "TriggerDelay",
)  # fmt: skip
"""In the order in which they are written; names of the standard (SFNC) and of older cameras."""
_GOVERNED: Mapping[str, str] = {
    "ExposureTime": "ExposureAuto",
    "ExposureTimeAbs": "ExposureAuto",
    "ExposureTimeRaw": "ExposureAuto",
    "Gain": "GainAuto",
    "GainAbs": "GainAuto",
    "GainRaw": "GainAuto",
    "BlackLevel": "BlackLevelAuto",
    "BlackLevelRaw": "BlackLevelAuto",
    "BalanceRatio": "BalanceWhiteAuto",
    "BalanceRatioAbs": "BalanceWhiteAuto",
}


class GenicamControls:
    """``Controls`` over the features of a camera.

    Args:
        device: Aravis' ``Device``.
        error: GLib's ``Error``, which any call may raise.
    """

    def __init__(self, device: Any, error: type[Exception]) -> None:  # noqa: ANN401 - made at run time
        self._device = device
        self._error = error

    def read(self) -> dict[str, float | int | str]:
        """Features that the camera has and no automatic changes."""
        told = {name: value for name in _FEATURES if (value := self._read(name)) is not None}
        return {
            name: value
            for name, value in told.items()
            if told.get(_GOVERNED.get(name, ""), "Off") == "Off"
        }

    def write(self, name: str, value: float | str) -> None:
        """Ask the camera for it."""
        try:
            self._device.set_features_from_string(f"{name}={value}")
        except self._error:
            return  # it shows when it is read back

    def _read(self, name: str) -> float | int | str | None:
        device = self._device
        try:
            if not device.is_feature_available(name):
                return None
            kind = type(device.get_feature(name)).__name__
            if kind == "GcEnumeration":
                return str(device.get_string_feature_value(name))
            if kind == "GcBoolean":
                return int(device.get_boolean_feature_value(name))
            if "Float" in kind or kind in {"GcSwissKnife", "GcConverter"}:
                return float(device.get_float_feature_value(name))
            return int(device.get_integer_feature_value(name))
        except self._error:  # there, but not to be read as the camera is now
            return None
