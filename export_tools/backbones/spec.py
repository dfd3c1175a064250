"""What an adapter has to know of the backbone whose tokens it reads, whatever made them."""

from __future__ import annotations

from dataclasses import dataclass

from edge_sdk.errors import InputError
from export_tools.backbones.efficientnet_lite import EfficientNetLite
from export_tools.clip.vision import VisionTower


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenSpec:
    """One row of patch tokens a picture, from one layer."""

    layer: int
    """1-based block or stage."""
    dim: int
    grid: tuple[int, int]
    """(rows, cols) of patches, row-major in the tokens."""
    stride_px: int
    """Pixels of the input between two patches."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BackboneSpec:
    """The token tensors of a backbone, in the order in which it gives them.

    The prompt-query adapter takes any backbone; the textual and the visual one need ``has_text``.
    """

    tokens: tuple[TokenSpec, ...]
    has_text: bool
    """Whether texts live in the space of the tokens."""

    def __post_init__(self) -> None:
        if not self.tokens:
            raise InputError("backbone: expected at least one layer of tokens, got none")

    def joined(self) -> BackboneSpec:
        """The same tokens, side by side on the finest grid, as one layer.

        For backbones whose layers differ in width, as those of a CNN do.
        """
        finest = min(self.tokens, key=lambda token: token.stride_px)
        joined = TokenSpec(
            layer=self.tokens[-1].layer,
            dim=sum(token.dim for token in self.tokens),
            grid=finest.grid,
            stride_px=finest.stride_px,
        )
        return BackboneSpec(tokens=(joined,), has_text=self.has_text)

    def common(self) -> TokenSpec:
        """The width and grid that all layers have.

        Raises:
            InputError: they differ, so that one head cannot serve all layers.
        """
        shapes = {(token.dim, token.grid) for token in self.tokens}
        if len(shapes) > 1:
            raise InputError(
                "backbone: expected layers of one width and grid (join them first), got "
                + ", ".join(f"{dim} on {rows} x {cols}" for dim, (rows, cols) in sorted(shapes))
            )
        return self.tokens[0]


def clip_spec(tower: VisionTower) -> BackboneSpec:
    """The patch tokens of a CLIP vision tower."""
    return BackboneSpec(
        tokens=tuple(
            TokenSpec(
                layer=layer,
                dim=tower.embed_dim,
                grid=tower.grid,
                stride_px=tower.settings.image_size_px // tower.grid[0],
            )
            for layer in tower.settings.layers
        ),
        has_text=True,
    )


def efficientnet_spec(model: EfficientNetLite, input_size: tuple[int, int]) -> BackboneSpec:
    """The stages of the built-in CNN.

    Args:
        model: of the family.
        input_size: (height, width) in pixels.
    """
    return BackboneSpec(
        tokens=tuple(
            TokenSpec(
                layer=layer,
                dim=model.dims[layer],
                # Its convolutions pad so that a stride of 2 gives half the size, rounded up.
                grid=(-(-input_size[0] // stride), -(-input_size[1] // stride)),
                stride_px=stride,
            )
            for layer in model.layers
            for stride in (model.strides[layer],)
        ),
        has_text=False,
    )
