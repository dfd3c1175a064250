"""CLIP in the layout of the transformers library: its configuration and its names for weights."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from edge_sdk.errors import InputError
from export_tools.clip.config import ClipConfig, TextConfig, VisionConfig

_PLAIN = {
    "text_model.embeddings.token_embedding.weight": "token_embedding.weight",
    "text_model.embeddings.position_embedding.weight": "positional_embedding",
    "text_model.final_layer_norm.weight": "ln_final.weight",
    "text_model.final_layer_norm.bias": "ln_final.bias",
    "vision_model.embeddings.class_embedding": "visual.class_embedding",
    "vision_model.embeddings.patch_embedding.weight": "visual.conv1.weight",
    "vision_model.embeddings.position_embedding.weight": "visual.positional_embedding",
    "vision_model.pre_layrnorm.weight": "visual.ln_pre.weight",
    "vision_model.pre_layrnorm.bias": "visual.ln_pre.bias",
    "vision_model.post_layernorm.weight": "visual.ln_post.weight",
    "vision_model.post_layernorm.bias": "visual.ln_post.bias",
    "logit_scale": "logit_scale",
}
_TURNED = {"text_projection.weight": "text_projection", "visual_projection.weight": "visual.proj"}
_IN_BLOCK = {
    "layer_norm1": "ln_1",
    "layer_norm2": "ln_2",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "self_attn.out_proj": "attn.out_proj",
}
_BLOCK = re.compile(r"(text|vision)_model\.encoder\.layers\.(\d+)\.(.+)\.(weight|bias)")
_JOINED = ("q_proj", "k_proj", "v_proj")


def parse_transformers(document: Mapping[str, Any], source: str) -> ClipConfig:
    """Read a ``config.json`` of a ``CLIPModel``.

    Raises:
        InputError: a key is missing, or both towers do not have one activation.
    """
    try:
        text, vision = document["text_config"], document["vision_config"]
        activations = {tower.get("hidden_act", "quick_gelu") for tower in (text, vision)}
        if activations not in ({"quick_gelu"}, {"gelu"}):
            raise InputError(
                f"{source}: hidden_act: expected quick_gelu or gelu, got {activations}"
            )
        return ClipConfig(
            embed_dim=document["projection_dim"],
            vision=VisionConfig(
                width=vision["hidden_size"],
                layers=vision["num_hidden_layers"],
                heads=vision["num_attention_heads"],
                patch_size_px=vision["patch_size"],
                native_size_px=vision["image_size"],
                mlp_ratio=vision["intermediate_size"] / vision["hidden_size"],
            ),
            text=TextConfig(
                width=text["hidden_size"],
                layers=text["num_hidden_layers"],
                heads=text["num_attention_heads"],
                context_length=text.get("max_position_embeddings", 77),
                vocab_size=text.get("vocab_size", 49408),
                mlp_ratio=text["intermediate_size"] / text["hidden_size"],
            ),
            activation="gelu" if activations == {"gelu"} else "quick_gelu",
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{source}: expected the configuration of a CLIPModel: {error}") from error


def to_openai_names(state: Mapping[str, Tensor], source: str) -> dict[str, Tensor]:
    """The same weights in OpenAI's names: query, key and value in one, projections turned.

    Raises:
        InputError: one of the three is missing.
    """
    renamed: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, value in state.items():
        if name.endswith("position_ids"):
            continue
        found = _BLOCK.fullmatch(name)
        if name in _PLAIN:
            renamed[_PLAIN[name]] = value
        elif name in _TURNED:
            renamed[_TURNED[name]] = value.T.contiguous()
        elif found is None:
            renamed[name] = value
        else:
            tower, index, rest, kind = found.groups()
            block = f"{'visual.' if tower == 'vision' else ''}transformer.resblocks.{index}"
            projection = rest.removeprefix("self_attn.")
            if projection in _JOINED:
                parts.setdefault(f"{block}.attn.in_proj_{kind}", {})[projection] = value
            else:
                renamed[f"{block}.{_IN_BLOCK.get(rest, rest)}.{kind}"] = value
    for name, three in parts.items():
        if missing := [one for one in _JOINED if one not in three]:
            raise InputError(f"{source}: {name}: expected {', '.join(_JOINED)}, got no {missing}")
        renamed[name] = torch.cat([three[one] for one in _JOINED])
    return renamed
