"""A tiny CLIP in the layouts in which real ones are published, made from a seed."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, models, pre_tokenizers
from torch import Tensor

from export_tools.clip.config import ClipConfig, PictureTowerSettings, TextConfig, VisionConfig
from export_tools.clip.text import TextTower
from export_tools.clip.tokenizer import END, START
from export_tools.clip.vision import VisionTower

VOCABULARY = 400
CONFIG = ClipConfig(
    embed_dim=24,
    vision=VisionConfig(width=64, layers=3, heads=1, patch_size_px=16, native_size_px=64),
    text=TextConfig(width=64, layers=2, heads=1, vocab_size=VOCABULARY),
    activation="quick_gelu",
)
SETTINGS = PictureTowerSettings(image_size_px=64, layers=(2, 3), dual_path_layers=1)
OPEN_CLIP: dict[str, Any] = {
    "model_cfg": {
        "embed_dim": 24,
        "quick_gelu": True,
        "vision_cfg": {"image_size": 64, "layers": 3, "width": 64, "patch_size": 16},
        "text_cfg": {
            "context_length": 77,
            "vocab_size": VOCABULARY,
            "width": 64,
            "heads": 1,
            "layers": 2,
        },
    },
    "preprocess_cfg": {"mean": [0.5, 0.4, 0.3], "std": [0.2, 0.3, 0.4]},
}


def make_state(seed: int = 3) -> dict[str, Tensor]:
    """OpenAI's names, as open_clip's files have them."""
    torch.manual_seed(seed)
    vision, text = VisionTower(CONFIG, SETTINGS), TextTower(CONFIG)
    named = {f"visual.{name}": value for name, value in vision.state_dict().items()}
    named |= text.state_dict()
    state = {name: torch.randn(value.shape) * 0.1 for name, value in named.items()}
    return state | {"logit_scale": torch.tensor(4.6)}


def make_repository(folder: Path, **files: Any) -> Path:
    """A folder in open_clip's layout; ``files``: state, config, tokenizer to replace."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(files.get("state", make_state()), str(folder / "open_clip_model.safetensors"))
    config = files.get("config", OPEN_CLIP)
    (folder / "open_clip_config.json").write_text(json.dumps(config))
    files.get("tokenizer", make_tokenizer()).save(str(folder / "tokenizer.json"))
    return folder


def make_tokenizer(vocabulary: int = VOCABULARY) -> Tokenizer:
    """A byte-pair tokenizer whose last two tokens are CLIP's marks."""
    letters = [chr(code) for code in range(33, 127)]
    words = [*letters, *(letter + "</w>" for letter in letters)]
    words += [f"<{i}>" for i in range(vocabulary - 2 - len(words))] + [START, END]
    tokenizer = Tokenizer(
        models.BPE(
            vocab={word: i for i, word in enumerate(words)},
            merges=[],
            end_of_word_suffix="</w>",
            unk_token=END,
        )
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    return tokenizer


def to_transformers(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights as a ``CLIPModel`` of transformers has them."""
    renamed: dict[str, Tensor] = {}
    simple = {
        "token_embedding.weight": "text_model.embeddings.token_embedding.weight",
        "positional_embedding": "text_model.embeddings.position_embedding.weight",
        "ln_final.": "text_model.final_layer_norm.",
        "visual.class_embedding": "vision_model.embeddings.class_embedding",
        "visual.conv1.weight": "vision_model.embeddings.patch_embedding.weight",
        "visual.positional_embedding": "vision_model.embeddings.position_embedding.weight",
        "visual.ln_pre.": "vision_model.pre_layrnorm.",
        "visual.ln_post.": "vision_model.post_layernorm.",
        "logit_scale": "logit_scale",
    }
    inside = {
        "ln_1": "layer_norm1",
        "ln_2": "layer_norm2",
        "mlp.c_fc": "mlp.fc1",
        "mlp.c_proj": "mlp.fc2",
        "attn.out_proj": "self_attn.out_proj",
    }
    for name, value in state.items():
        tower = "vision" if name.startswith("visual.") else "text"
        if name in ("text_projection", "visual.proj"):
            renamed[f"{'text' if tower == 'text' else 'visual'}_projection.weight"] = (
                value.T.contiguous()
            )
        elif "resblocks" in name:
            index, rest = name.split("resblocks.")[1].split(".", 1)
            block = f"{tower}_model.encoder.layers.{index}"
            if "in_proj" in rest:
                kind = rest.rsplit("_", 1)[1]
                for part, piece in zip("qkv", value.chunk(3), strict=True):
                    renamed[f"{block}.self_attn.{part}_proj.{kind}"] = piece.clone()
            else:
                part, kind = rest.rsplit(".", 1)
                renamed[f"{block}.{inside[part]}.{kind}"] = value
        else:
            old = next(old for old in simple if name.startswith(old))
            renamed[name.replace(old, simple[old], 1)] = value
    return renamed
