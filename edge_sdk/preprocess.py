"""Stage 2: cut the camera's crop out of a frame and bring it to the encoder's input size.

One implementation, told what to do by the bundle's input specification, serves calibration,
parity, enrolment and running. Normalisation is part of the graph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np

from edge_sdk.bundle.manifest import InputSpec
from edge_sdk.errors import ConfigError, InputError
from edge_sdk.imaging import polygon_mask, resize_picture, scale_brightness, to_rgb
from edge_sdk.records import BoolArray, Box, Frame, Geometry, Preprocessed, UInt8Array

Polygon: TypeAlias = Sequence[tuple[int, int]]
"""Corners (x, y) in frame pixels."""

BRIGHTNESS_GAINS = (0.75, 1.33)
"""How far a picture is brightened or darkened at most; beyond that the change is shown."""


class Preprocessor:
    """Frame → ``Preprocessed``.

    Args:
        spec: the bundle's input specification.
        crop: part of the frame to look at; None: all of it.
        include: polygons that count; none: everything.
        exclude: polygons that never count.
        brightness: mean grey level, 0-255, to bring every picture to; None: left as it is. A lamp
            that ages is no defect; what it changes is divided out before anything is compared.

    Raises:
        ConfigError: the bundle asks for a way of resizing that this runtime does not have.
    """

    def __init__(
        self,
        spec: InputSpec,
        *,
        crop: Box | None = None,
        include: Sequence[Polygon] = (),
        exclude: Sequence[Polygon] = (),
        brightness: float | None = None,
        frame_size: tuple[int, int] | None = None,
    ) -> None:
        if spec.color != "rgb":
            raise ConfigError(f"bundle input.color: this runtime has 'rgb', got {spec.color!r}")
        if spec.resize.mode != "squash":
            raise ConfigError(
                f"bundle input.resize.mode: this runtime has 'squash', got {spec.resize.mode!r}"
            )
        self._spec = spec
        self._crop = crop
        self._include = tuple(include)
        self._exclude = tuple(exclude)
        self._brightness = brightness
        self._frame_size = frame_size
        self._geometry: Geometry | None = None

    def __call__(self, frame: Frame) -> Preprocessed:
        """Cut and resize one frame.

        Raises:
            InputError: the crop or a polygon does not fit a frame of this size.
        """
        if self._frame_size not in (None, frame.size):
            raise InputError(f"frame: expected size {self._frame_size}, got {frame.size}")
        geometry = self._geometry
        if geometry is None or geometry.frame_size != frame.size:
            geometry = self._geometry = self._fit_geometry(frame.size)
        window = geometry.window
        pixels = frame.pixels[
            window.y : window.y + window.height, window.x : window.x + window.width
        ]
        resized = resize_picture(
            to_rgb(pixels),
            self._spec.size,
            kernel=self._spec.resize.kernel,
            antialias=self._spec.resize.antialias,
        )
        if self._brightness is not None:
            resized = _match_brightness(resized, self._brightness)
        tensor = np.ascontiguousarray(resized)[None]
        return Preprocessed(tensor=tensor, frame=frame, geometry=geometry)

    def with_brightness(self, brightness: float) -> Preprocessor:
        """The same preprocessor, bringing every picture to this mean grey level."""
        return Preprocessor(
            self._spec,
            crop=self._crop,
            include=self._include,
            exclude=self._exclude,
            brightness=brightness,
            frame_size=self._frame_size,
        )

    def _fit_geometry(self, size: tuple[int, int]) -> Geometry:
        height, width = size
        window = self._crop or Box(x=0, y=0, width=width, height=height)
        if window.x + window.width > width or window.y + window.height > height:
            raise InputError(
                f"crop: expected to lie in the {width}x{height} frame, got "
                f"x={window.x} y={window.y} width={window.width} height={window.height}"
            )
        for polygon in (*self._include, *self._exclude):
            for x, y in polygon:
                if not (0 <= x <= width and 0 <= y <= height):
                    raise InputError(
                        f"regions: expected corners in the {width}x{height} frame, got ({x}, {y})"
                    )
        return Geometry(
            frame_size=size, window=window, inspected=self._inspected_mask(size, window)
        )

    def _inspected_mask(self, size: tuple[int, int], window: Box) -> BoolArray | None:
        if not self._include and not self._exclude:
            return None
        mask = np.full(size, not self._include)
        for polygon in self._include:
            mask |= polygon_mask(size, list(polygon))
        for polygon in self._exclude:
            mask &= ~polygon_mask(size, list(polygon))
        in_window = np.zeros(size, bool)
        in_window[window.y : window.y + window.height, window.x : window.x + window.width] = True
        mask &= in_window
        if not mask.any():
            raise InputError("regions: nothing is left to inspect inside the crop")
        return mask


def mean_brightness(pictures: Sequence[Preprocessed]) -> float:
    """Mean grey level, 0-255, of several pictures, by which later ones are matched."""
    return float(np.mean([_grey_level(picture.tensor[0]) for picture in pictures]))


def _grey_level(pixels: UInt8Array) -> float:
    return float(pixels.mean())


def _match_brightness(pixels: UInt8Array, wanted: float) -> UInt8Array:
    """Scale a picture to a mean grey level, as far as a lamp may reasonably have drifted."""
    level = _grey_level(pixels)
    lowest, highest = BRIGHTNESS_GAINS
    gain = min(max(wanted / level, lowest), highest) if level > 0 else 1.0
    return scale_brightness(pixels, gain)
