"""Answers for prompts, text features and towers: the first half of ``outputs.npz``."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from export_tools.adaptclip.adapters import Adapters
from export_tools.adaptclip.prompts import (
    ABNORMAL_STATES,
    NORMAL_STATES,
    encode_static_prompts,
    ensemble,
)
from export_tools.clip.tokenizer import PromptTokenizer, build_clip_tokenizer
from export_tools.clip.vision import EncodedPicture
from export_tools.conformance.golden_set import GoldenSet, Towers, build_vision
from export_tools.conformance.ledger import EXACT, FEATURE, Answer, Tolerance

OUTPUTS = "outputs.npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoded:
    """What the frozen towers say of a set's inputs."""

    static_text: Tensor
    """(2, E)."""
    learned_text: Tensor
    """(2, E)."""
    query: EncodedPicture
    prompts: Mapping[str, EncodedPicture]
    """By class."""


def encode_inputs(golden: GoldenSet, towers: Towers, adapters: Adapters) -> Encoded:
    """Run the towers once.

    Raises:
        InputError: inputs are missing or do not fit.
    """
    if adapters.textual is None:
        raise TypeError("a golden set has all three adapters")
    names = [
        key.removeprefix("prompt_") for key in golden.arrays["inputs.npz"] if key[:7] == "prompt_"
    ]
    return Encoded(
        static_text=encode_static_prompts(towers.text, tokenizer_of(golden)),
        learned_text=adapters.textual(towers.text),
        query=towers.vision(golden.tensor("query")),
        prompts={name: towers.vision(golden.tensor(f"prompt_{name}")) for name in names},
    )


def encoder_answers(
    golden: GoldenSet, towers: Towers, adapters: Adapters, encoded: Encoded
) -> Iterator[Answer]:
    """Tokens, text features, positions, class features, patch tokens, the aliasing quirk."""
    tokenizer = tokenizer_of(golden)
    for name, states in (("normal", NORMAL_STATES), ("abnormal", ABNORMAL_STATES)):
        tokens = torch.from_numpy(tokenizer.encode(ensemble(states)))
        yield answer(f"static_tokens_{name}", tokens, EXACT)
    yield answer("static_text_features", encoded.static_text, FEATURE)
    if adapters.textual is not None:
        prompts = adapters.textual.prompts(towers.text)
        yield answer("learned_prompt_embeddings", prompts, FEATURE)
    yield answer("learned_text_features", encoded.learned_text, FEATURE)
    yield answer("visual_positional_embedding_resized", towers.vision.positional_embedding, FEATURE)
    pictures = {"query": encoded.query}
    pictures |= {f"prompt_{name}": value for name, value in encoded.prompts.items()}
    for name, picture in pictures.items():
        yield answer(f"{name}_cls", picture.class_feature, FEATURE)
        yield from _layers(f"{name}_patch", golden.number("features_list"), picture)
    if "alias_features_list" in golden.config:
        picture = build_vision(golden, alias=True)(golden.tensor("query"))
        yield from _layers("aliasquirk_patch", golden.number("alias_features_list"), picture)


def answer(key: str, value: Tensor, tolerance: Tolerance) -> Answer:
    """One of ``outputs.npz``."""
    return Answer(file=OUTPUTS, key=key, value=value.detach().numpy(), tolerance=tolerance)


def _layers(name: str, layers: list[int], picture: EncodedPicture) -> Iterator[Answer]:
    for layer, tokens in zip(layers, picture.tokens, strict=True):
        yield answer(f"{name}_L{layer}", tokens, FEATURE)


def tokenizer_of(golden: GoldenSet) -> PromptTokenizer:
    """The tokenizer of a set's text tower."""
    return build_clip_tokenizer(
        context_length=golden.number("context_length"), vocab_size=golden.number("vocab_size")
    )
