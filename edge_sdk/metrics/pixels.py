"""Counts maps and masks picture by picture, so that pixel metrics need bounded memory.

Anomalous pixels are few and kept as they are, region by region. Normal ones are kept as counts
per distinct value; where there are more distinct values than the limit, the last bits of the
float32 are dropped until they fit. At 2^21 values that is a relative resolution of about 2^-18,
far below what any score means, and the same for anomalous pixels, so that ties stay ties.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from edge_sdk.errors import InputError
from edge_sdk.imaging import connected_boxes
from edge_sdk.metrics.curves import Curve, weighted_curve
from edge_sdk.records import BoolArray, FloatArray

MAX_DISTINCT = 2**21
"""Distinct values of normal pixels kept; 20 bytes each."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PixelCounts:
    """What all pixel metrics are worked out from."""

    values: FloatArray
    """(N,) distinct values of normal pixels, rising."""
    counts: NDArray[np.float64]
    """(N,) how many normal pixels have each."""
    normal_share: NDArray[np.float64]
    """(N,) of those in wholly normal pictures: the sum over pictures of count / pixels."""
    normal_pictures: int
    regions: tuple[FloatArray, ...]
    """Per 8-connected region of the masks, its values, rising."""
    region_picture: tuple[int, ...]
    """Per region, the number of its picture in the order of adding."""
    pictures: int
    dropped_bits: int
    """Low bits of the float32 values that were dropped; 0: exact."""

    def transformed(self, values: FloatArray, regions: tuple[FloatArray, ...]) -> PixelCounts:
        """The same counts at other, equally ordered values."""
        return PixelCounts(
            values=values,
            counts=self.counts,
            normal_share=self.normal_share,
            normal_pictures=self.normal_pictures,
            regions=regions,
            region_picture=self.region_picture,
            pictures=self.pictures,
            dropped_bits=self.dropped_bits,
        )

    def pixel_curve(self) -> Curve:
        """Every pixel alike: anomalous ones against normal ones.

        Raises:
            InputError: no mask, or nothing but mask.
        """
        return self._curve([np.ones(len(region)) for region in self.regions])

    def overlap_curve(self) -> Curve:
        """Every region alike, however large: ``recall`` is the mean overlap over regions (PRO).

        Raises:
            InputError: as ``pixel_curve``.
        """
        return self._curve([np.full(len(region), 1 / len(region)) for region in self.regions])

    def _curve(self, weights: list[NDArray[np.float64]]) -> Curve:
        if not self.regions:
            raise InputError("metrics: no picture has a mask, so there are no pixel metrics")
        anomalous = np.concatenate(weights)
        return weighted_curve(
            np.concatenate([self.values, *self.regions]),
            np.concatenate([np.zeros(len(self.counts)), anomalous]),
            np.concatenate([self.counts, np.zeros(len(anomalous))]),
        )


class PixelTally:
    """Takes maps with their masks, one picture at a time.

    Args:
        max_distinct: distinct values of normal pixels to keep.
    """

    def __init__(self, max_distinct: int = MAX_DISTINCT) -> None:
        self._limit = max_distinct
        self._bits = 0
        self._values = np.empty(0, np.float32)
        self._weights = np.empty((2, 0))
        self._pending: dict[float, list[FloatArray]] = {}
        self._held = 0
        self._regions: list[FloatArray] = []
        self._region_picture: list[int] = []
        self._pictures = self._normals = 0

    def add(self, anomaly_map: FloatArray, mask: BoolArray | None, *, name: str = "map") -> None:
        """Count one picture.

        Args:
            anomaly_map: (H, W) higher is worse; taken as float32.
            mask: (H, W) true where anomalous; None: a normal picture.
            name: what an error message calls the picture.

        Raises:
            InputError: the mask has another size, or the map has a value that is not finite.
        """
        values = np.asarray(anomaly_map, np.float32) + np.float32(0)  # -0 becomes 0
        if not np.isfinite(values).all():
            raise InputError(f"{name}: its map has values that are not finite")
        if mask is not None and mask.shape != values.shape:
            raise InputError(
                f"{name}: expected a mask of {values.shape} (height, width), got {mask.shape}"
            )
        is_normal = mask is None or not mask.any()
        if mask is not None and not is_normal:
            for box, _, inside in connected_boxes(mask.astype(bool)):
                window = values[box.y : box.y + box.height, box.x : box.x + box.width]
                self._regions.append(np.sort(window[inside]))
                self._region_picture.append(self._pictures)
            values = values[~mask.astype(bool)]
        self._pictures += 1
        self._normals += is_normal
        self._pending.setdefault(1 / values.size if is_normal else 0.0, []).append(values.ravel())
        self._held += values.size
        if self._held > 2 * self._limit:
            self._merge()

    def counts(self) -> PixelCounts:
        """Everything counted so far.

        Raises:
            InputError: no picture was added.
        """
        if not self._pictures:
            raise InputError("metrics: expected maps, got none")
        self._merge()
        return PixelCounts(
            values=self._values,
            counts=self._weights[0],
            normal_share=self._weights[1],
            normal_pictures=self._normals,
            regions=tuple(self._coarse(region) for region in self._regions),
            region_picture=tuple(self._region_picture),
            pictures=self._pictures,
            dropped_bits=self._bits,
        )

    def _merge(self) -> None:
        """Sort what is pending into the table, and coarsen the table until it fits."""
        for share, pictures in self._pending.items():
            ordered = np.sort(self._coarse(np.concatenate(pictures)))
            first = np.flatnonzero(_starts(ordered))
            counts = np.diff(np.append(first, len(ordered))).astype(np.float64)
            values = np.concatenate([self._values, ordered[first]])
            weights = np.concatenate([self._weights, [counts, counts * share]], axis=1)
            self._values, self._weights = _group(values, weights)
        self._pending, self._held = {}, 0
        while len(self._values) > self._limit:
            self._bits += 1
            self._values, self._weights = _group(self._coarse(self._values), self._weights)

    def _coarse(self, values: FloatArray) -> FloatArray:
        if not self._bits:
            return values
        kept = np.uint32(0xFFFFFFFF >> self._bits << self._bits)
        return np.asarray((values.view(np.uint32) & kept).view(np.float32))


def _group(
    values: FloatArray, weights: NDArray[np.float64]
) -> tuple[FloatArray, NDArray[np.float64]]:
    """Distinct values, rising, and the sums of their weights, (2, N)."""
    order = np.argsort(values, kind="stable")  # quick on the two rising runs it is given
    ordered = values[order]
    first = np.flatnonzero(_starts(ordered))
    if len(first) == len(ordered):
        return ordered, weights[:, order]
    return ordered[first], np.add.reduceat(weights[:, order], first, axis=1)


def _starts(ordered: FloatArray) -> BoolArray:
    """True where a value differs from the one before it."""
    is_first = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=is_first[1:])
    return is_first
