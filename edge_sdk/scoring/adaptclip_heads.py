"""What AdaptCLIP's heads take and give, and what a bundle says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from edge_sdk.bundle.manifest import GraphSpec, ScorerSpec
from edge_sdk.errors import BundleError
from edge_sdk.records import TokenKey

NAME = "adaptclip"
CLASS_TOKEN = "class_token"  # noqa: S105 - a tensor's name
MAP, SCORE, ROW, DISTANCE = "map", "score", "nearest_row", "distance"
"""Outputs of a head: (1, H, W) map, (1,) mean of the branches' scores; of the few-shot head also
(1, P) row of the last layer's memory and (1, P) the distance to it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdaptClipSettings:
    """What the bundle says of this scorer."""

    tokens: tuple[TokenKey, ...]
    """Streams and layers, as the heads take them; the last one is what texts are compared with."""
    text_branches: int
    """Scores that the zero-shot head averages; 0 where there is none."""

    @classmethod
    def from_spec(cls, spec: ScorerSpec) -> AdaptClipSettings:
        """Read the manifest's parameters.

        Raises:
            BundleError: a parameter is missing, unknown or malformed.
        """
        parameters = dict(spec.parameters)
        try:
            names = [str(name).partition(":") for name in parameters.pop("tokens")]  # type: ignore[union-attr]  # below
            settings = cls(
                tokens=tuple((stream, int(layer)) for stream, _, layer in names),
                text_branches=int(parameters.pop("text_branches")),  # type: ignore[arg-type]  # below
            )
        except (KeyError, TypeError, ValueError) as error:
            raise BundleError(
                f"scorer {spec.name}: parameters {spec.parameters}: {error}"
            ) from error
        if parameters:
            raise BundleError(f"scorer {spec.name}: unknown parameters {sorted(parameters)}")
        if not settings.tokens or settings.text_branches < 0:
            raise BundleError(
                f"scorer {spec.name}: expected tokens and text branches, got {spec.parameters}"
            )
        return settings

    def names(self) -> list[str]:
        """The heads' inputs of tokens, in order."""
        return [f"{stream}_{layer}" for stream, layer in self.tokens]

    def memory_names(self) -> list[str]:
        """The few-shot head's inputs of memories, in order."""
        return [f"memory_{layer}" for _, layer in self.tokens]


def check_heads(encoder: GraphSpec, heads: Sequence[GraphSpec]) -> None:
    """Refuse heads that take what the encoder does not give.

    Raises:
        BundleError: a name or a shape differs, or a memory has another width than its tokens.
    """
    given = {output.name: output.shape for output in encoder.outputs}
    widths = {output.layer: output.shape[-1] for output in encoder.outputs if output.layer}
    for head in heads:
        for tensor in head.inputs:
            layer = tensor.name.removeprefix("memory_")
            if tensor.name.startswith("memory_") and layer.isdigit():
                expected: tuple[int | None, ...] | None = (None, widths.get(int(layer)))
            else:
                expected = given.get(tensor.name)
            if expected != tensor.shape:
                raise BundleError(
                    f"graphs: {head.role} takes {tensor.name} of {tensor.shape}, the encoder "
                    f"gives {expected or 'nothing of that name'}: they belong to different bundles"
                )
