"""Small base data: parts whose defects are known, aligned pairs, good parts alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from labelled_parts import bad_mask, save
from scenes import fixture_part

from edge_sdk.imaging import resize_picture
from edge_sdk.records import UInt8Array

SIDE = 96


def large(pixels: UInt8Array) -> UInt8Array:
    """The part in enough pixels for a scratch."""
    return resize_picture(pixels, (SIDE, SIDE), kernel="bilinear", antialias=False)


def write_good(root: Path, count: int = 8) -> Path:
    """Pictures of good parts, nothing else."""
    for index in range(count):
        save(root / f"{index:03d}.png", large(fixture_part(index)))
    return root


def write_category(root: Path, *, train: int = 4, good: int = 6, bad: int = 6) -> Path:
    """MVTec's layout, a mask for every defect."""
    for index in range(train):
        save(root / "train" / "good" / f"{index:03d}.png", fixture_part(index))
    for index in range(good):
        save(root / "test" / "good" / f"{index:03d}.png", fixture_part(100 + index))
    for index in range(bad):
        part = fixture_part(200 + index, is_complete=False)
        save(root / "test" / "missing" / f"{index:03d}.png", part)
        save(root / "ground_truth" / "missing" / f"{index:03d}_mask.png", bad_mask())
    return root


def write_pairs(root: Path, count: int = 5) -> Path:
    """A template, a piece without its label, and where the label was."""
    for index in range(count):
        name = f"{index:03d}.png"
        save(root / "template" / name, fixture_part(index))
        save(root / "tested" / name, fixture_part(index, is_complete=False))
        save(root / "mask" / name, bad_mask())
    return root


def empty_masks(root: Path) -> None:
    """Make every mask of a category black."""
    for path in (root / "ground_truth").glob("*/*.png"):
        save(path, np.zeros_like(bad_mask()))
