"""Write made-up good parts: surfaces and printed plates, each category with its own variation.

Nobody's pictures are in them, so that what was trained on them may be given away.
Usage: python benchmarks/made_surfaces.py FOLDER CATEGORIES PICTURES
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from edge_sdk.imaging import encode_png
from edge_sdk.records import UInt8Array
from export_tools.training.noise import fractal, perlin

SIDE = 256
SIZE = (SIDE, SIDE)


@dataclass(frozen=True, kw_only=True, eq=False)
class Mark:
    """Something printed on a plate."""

    shape: int
    centre: NDArray[np.float64]
    size: NDArray[np.float64]
    colour: NDArray[np.float64]


class Category:
    """One kind of part; ``picture`` gives another piece of it for every number."""

    def __init__(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.seed, self.kind = seed, seed % 8
        self.is_grey = rng.random() < 0.5
        self.dark, self.bright = rng.uniform(20, 235, (2, 3))
        if np.abs(self.dark - self.bright).max() < 60:
            self.bright = 255 - self.dark
        if self.is_grey:
            self.dark[:], self.bright[:] = self.dark.mean(), self.bright.mean()
        self.cells, self.period = rng.uniform(2, 10), rng.uniform(8, 40)
        self.angle, self.strength = rng.uniform(0, np.pi), rng.uniform(0.2, 0.6)
        self.marks = [
            Mark(
                shape=int(rng.integers(3)),
                centre=rng.uniform(0.1, 0.9, 2),
                size=rng.uniform(0.04, 0.2, 2),
                colour=rng.uniform(0, 255, 3),
            )
            for _ in range(rng.integers(4, 12))
        ]
        profile = np.cumsum(rng.normal(0, 1, SIDE))[None].astype(np.float32)
        profile = cv2.GaussianBlur(profile, (0, 0), rng.uniform(3, 12))[0]
        self.profile = (profile - profile.min()) / (np.ptp(profile) + 1e-6)

    def picture(self, number: int) -> UInt8Array:
        """(256, 256, 3) uint8."""
        rng = np.random.default_rng([self.seed, number])
        y, x = np.mgrid[:SIDE, :SIDE].astype(np.float32)
        shift = rng.uniform(-6, 6, 2)
        share = np.clip(self._surface(x, y, shift, rng), 0, 1)[..., None]
        pixels = self.bright + (self.dark - self.bright) * share
        if self.kind == 7:
            pixels = pixels * (0.85 + 0.15 * fractal(SIZE, 2, rng))[..., None]
        if self.kind >= 6:
            pixels = self._print(np.ascontiguousarray(pixels), shift, rng)
        tilt = [0.1 * rng.uniform(-1, 1) * (axis / SIDE - 0.5) for axis in (x, y)]
        pixels = pixels * (1 + tilt[0] + tilt[1])[..., None] * rng.uniform(0.93, 1.07)
        pixels = cv2.GaussianBlur(pixels.astype(np.float32), (0, 0), 0.6 + 0.4 * rng.random())
        grain = rng.normal(0, rng.uniform(1, 4), (SIDE, SIDE, 1))
        return np.asarray(np.clip(pixels + grain, 0, 255), np.uint8)

    def _surface(
        self,
        x: NDArray[Any],
        y: NDArray[Any],
        shift: NDArray[np.float64],
        rng: np.random.Generator,
    ) -> NDArray[Any]:
        u = (x + shift[0]) * np.cos(self.angle) + (y + shift[1]) * np.sin(self.angle)
        v = (y + shift[1]) * np.cos(self.angle) - (x + shift[0]) * np.sin(self.angle)
        made: NDArray[Any]
        if self.kind == 0:  # brushed
            made = 0.5 + self.strength * perlin(SIZE, (self.cells, 60 + 10 * self.cells), rng)
        elif self.kind == 1:  # cast
            made = 0.5 + self.strength * fractal(SIZE, self.cells, rng)
        elif self.kind == 2:  # woven
            weave = np.sin(2 * np.pi * u / self.period) * np.sin(2 * np.pi * v / self.period)
            made = 0.5 + 0.4 * weave + 0.1 * rng.normal(0, 1, SIZE)
        elif self.kind == 3:  # rolled
            columns = np.interp(np.arange(SIDE) + shift[0], np.arange(SIDE), self.profile)
            made = columns[None] * np.ones((SIDE, 1)) + 0.1 * perlin(SIZE, (30, 60), rng)
        elif self.kind == 4:  # tiled
            is_joint = (u % self.period < 2) | (v % self.period < 2)
            made = 0.7 - 0.6 * is_joint + 0.05 * rng.normal(0, 1, SIZE)
        elif self.kind == 5:  # grown
            rings = u / self.period + self.strength * fractal(SIZE, self.cells / 2, rng)
            made = 0.5 + 0.45 * np.sin(2 * np.pi * rings)
        else:  # plain
            made = np.full(SIZE, 0.9) + 0.02 * rng.normal(0, 1, SIZE)
        return made

    def _print(
        self, pixels: NDArray[Any], shift: NDArray[np.float64], rng: np.random.Generator
    ) -> NDArray[Any]:
        for mark in self.marks:
            colour = np.full(3, mark.colour.mean()) if self.is_grey else mark.colour
            x, y = (
                int(mark.centre[axis] * SIDE + shift[axis] / 2 + rng.normal(0, 0.7))
                for axis in (0, 1)
            )
            width, height = (int(side * SIDE) for side in mark.size)
            half_width, half_height = width // 2, height // 2
            ink = colour.tolist()
            if mark.shape == 0:
                first = (x - half_width, y - half_height)
                last = (x + half_width, y + half_height)
                cv2.rectangle(pixels, first, last, ink, -1, cv2.LINE_AA)
            elif mark.shape == 1:
                cv2.ellipse(
                    pixels, (x, y), (half_width, half_height), 0, 0, 360, ink, -1, cv2.LINE_AA
                )
            else:
                for line in range(y + (-height) // 2, y + half_height, 7):
                    ends = (x - half_width, line), (x + half_width, line)
                    cv2.line(pixels, *ends, ink, 2, cv2.LINE_AA)
        return pixels


def main() -> None:
    place, categories, pictures = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    for seed in range(categories):
        category = Category(seed)
        folder = place / f"s{seed:02d}" / "train" / "good"
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(pictures):
            (folder / f"{number}.png").write_bytes(encode_png(category.picture(number)))
    print(f"{place}: {categories} categories of {pictures} pictures")


if __name__ == "__main__":
    main()
