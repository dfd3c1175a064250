"""A golden set of other sizes than the stored one, made by this implementation from a seed.

It proves nothing about the method, which the stored set does; it shows that no size is built in,
and gives the tests something to spoil.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from export_tools.adaptclip.adapters import Adapters, AdapterSettings
from export_tools.adaptclip.checkpoint import released_state, save_released
from export_tools.adaptclip.prompts import ABNORMAL_STATES, NORMAL_STATES, ensemble
from export_tools.adaptclip.textual import template_tokens
from export_tools.backbones.spec import clip_spec
from export_tools.clip.text import TextTower
from export_tools.clip.tokenizer import build_clip_tokenizer
from export_tools.clip.vision import VisionTower
from export_tools.conformance.check import answer_golden_set
from export_tools.conformance.golden_set import (
    GoldenSet,
    clip_config,
    read_golden_set,
    tower_settings,
)

CONFIG: dict[str, Any] = {
    "vision_width": 64,
    "vision_heads": 1,
    "vision_layers": 5,
    "patch_size": 16,
    "native_res": 32,
    "image_size": 64,
    "embed_dim": 24,
    "text_width": 64,
    "text_heads": 1,
    "text_layers": 1,
    "context_length": 77,
    "vocab_size": 49408,
    "dpam_layer": 3,
    "dual_path_blocks_1based": [4, 5],
    "features_list": [2, 5],
    "alias_features_list": [3, 5],
    "n_ctx": 5,
    "vl_reduction": 3,
    "pq_mid_dim": 8,
    "sigma": 3,
    "query_class": ["b", "a", "c"],
    "shots": [1, 2, 3],
    "learning_rate": 0.001,
    "adam_betas": [0.5, 0.999],
    "pre_size": 48,
}


def make_golden_set(folder: Path, seed: int = 5, **changes: Any) -> Path:
    """Write a whole set; ``changes`` are configuration keys."""
    config = CONFIG | changes
    rng = np.random.default_rng(seed)
    (folder / "images").mkdir(parents=True)
    for name, shape in (("gray", (50, 37)), ("rgb_up", (20, 30, 3))):
        picture = rng.integers(0, 256, shape, np.uint8)
        Image.fromarray(picture).save(folder / "images" / f"{name}.png")
    mask = (rng.random((60, 60)) > 0.7).astype(np.uint8) * 255
    Image.fromarray(mask).save(folder / "images" / "mask.png")
    golden = GoldenSet(
        folder=folder,
        config=config,
        arrays={"weights.npz": {}, "outputs.npz": {}, "train.npz": {}},
        metrics={"plain": {"AUPIMO_settings": "num_thresholds=5000, fpr_bounds=(1e-2,2e-1)"}},
        samplings={"seed10_n4_k4": [1, 1, 0, 3]},
    )
    weights, counts = _weights(golden, folder / "adapters.pth", seed)
    config["counts"] = counts
    arrays = {
        "weights.npz": weights,
        "inputs.npz": _inputs(config, rng),
        "outputs.npz": {"1shot_noctx_map": np.zeros(0)},
        "train.npz": {"train_step2_va": np.zeros(0)},
        "metrics.npz": _metric_inputs(rng),
        "preprocess.npz": dict.fromkeys(
            ("gray_tensor", "rgb_up_tensor", "mask_tensor", "mask_binary"), np.zeros(0)
        ),
    }
    _write(folder, config, arrays, {"plain": dict(golden.metrics["plain"])}, dict(golden.samplings))
    answered: dict[str, dict[str, Any]] = {file: dict(kept) for file, kept in arrays.items()}
    for answer in answer_golden_set(read_golden_set(folder)):
        if answer.file not in ("weights.npz", "config.json", "inputs.npz"):
            answered.setdefault(answer.file, {})[answer.key] = answer.value
    figures: dict[str, Any] = {"plain": dict(golden.metrics["plain"])}
    for key, value in answered.pop("metrics.json").items():
        figures["plain"][key.removeprefix("plain/")] = value.item()
    answered.pop("kshot_indices.json")
    _write(folder, config, answered, figures, dict(golden.samplings))
    return folder


def _weights(
    golden: GoldenSet, checkpoint: Path, seed: int
) -> tuple[dict[str, Any], dict[str, int]]:
    torch.manual_seed(seed)
    vision = VisionTower(clip_config(golden), tower_settings(golden))
    text = TextTower(clip_config(golden))
    side = golden.config["native_res"] // golden.config["patch_size"]
    stored = {f"visual.{name}": value for name, value in vision.state_dict().items()}
    stored |= text.state_dict()
    stored["visual.positional_embedding"] = torch.empty(1 + side**2, golden.config["vision_width"])
    arrays: dict[str, Any] = {}
    for name, value in stored.items():
        deviation = 0.3 if value.ndim < 2 else 0.5 / value[0].numel() ** 0.5
        centre = 1.0 if ".ln_" in f".{name}" and name.endswith("weight") else 0.0
        drawn = (centre + deviation * torch.randn(value.shape)).half()
        arrays[f"clip/{name}"] = drawn.numpy()
    tokens = build_clip_tokenizer().encode(ensemble(NORMAL_STATES) + ensemble(ABNORMAL_STATES))
    used = {*tokens.ravel().tolist(), *template_tokens(text, golden.config["n_ctx"]).tolist()}
    table = arrays["clip/token_embedding.weight"]
    table[[row for row in range(len(table)) if row not in used]] = 0
    with torch.no_grad():
        text.token_embedding.weight.copy_(torch.from_numpy(table.astype(np.float32)))
    adapters = Adapters(
        clip_spec(vision),
        text_width=golden.config["text_width"],
        settings=AdapterSettings(
            contexts=golden.config["n_ctx"],
            reduction=golden.config["vl_reduction"],
            mid=golden.config["pq_mid_dim"],
        ),
        seed=seed,
    )
    for name, value in adapters.state_dict().items():
        if name.endswith("running_var"):
            value.uniform_(0.5, 2.0)
        elif name.endswith("running_mean"):
            value.normal_(std=0.2)
    save_released(adapters, text, checkpoint)
    for learner, state in released_state(adapters, text).items():
        arrays |= {f"{learner}/{name}": value.detach().numpy() for name, value in state.items()}
    return arrays, adapters.counts()


def _inputs(config: dict[str, Any], rng: np.random.Generator) -> dict[str, Any]:
    side = config["image_size"]

    def pictures(count: int) -> Any:
        return rng.standard_normal((count, 3, side, side)).astype(np.float32)

    masks = np.zeros((4, side, side), np.float32)
    masks[1, 8:30, 8:20] = masks[3, 40:50, 30:60] = 1
    inputs = {"query": pictures(3), "train_query": pictures(4), "train_prompt": pictures(4)}
    inputs |= {f"prompt_{name}": pictures(max(config["shots"])) for name in "abc"}
    return inputs | {"train_mask": masks, "train_label": masks.any(axis=(1, 2)).astype(np.int64)}


def _metric_inputs(rng: np.random.Generator) -> dict[str, Any]:
    masks = np.zeros((6, 24, 24), np.int32)
    masks[1, 3:8, 4:9] = masks[4, 10:20, 2:5] = masks[4, 0:3, 0:3] = 1
    maps = (rng.random(masks.shape) * 0.6 + masks * 0.3 * rng.random(masks.shape)).astype(
        np.float32
    )
    return {
        "gt_masks": masks,
        "gt_labels": masks.any(axis=(1, 2)).astype(np.int32),
        "sample_ids": np.array(["s0", "s0", "s1", "s1", "s2", "s2"]),
        "plain_maps": maps,
        "plain_scores": maps.max(axis=(1, 2)),
    }


def _write(
    folder: Path,
    config: dict[str, Any],
    arrays: dict[str, dict[str, Any]],
    figures: dict[str, Any],
    samplings: dict[str, Any],
) -> None:
    for file, content in arrays.items():
        np.savez(folder / file, **content)
    for file, document in (
        ("config.json", config),
        ("metrics.json", figures),
        ("kshot_indices.json", samplings),
    ):
        (folder / file).write_text(json.dumps(document))
