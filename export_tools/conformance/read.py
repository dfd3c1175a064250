"""Answers for what goes in: weights, the checkpoint, pictures, the sampler, the configuration."""

from __future__ import annotations

import re
from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from edge_sdk.evaluation.sampling import draw_references
from export_tools.adaptclip.adapters import Adapters
from export_tools.adaptclip.checkpoint import released_state
from export_tools.adaptclip.prompts import ABNORMAL_STATES, NORMAL_STATES, ensemble
from export_tools.adaptclip.textual import template_tokens
from export_tools.clip.preprocess import MASK_THRESHOLD, load_mask, load_picture
from export_tools.clip.tokenizer import build_clip_tokenizer
from export_tools.conformance.golden_set import GoldenSet, Towers
from export_tools.conformance.ledger import EXACT, FEATURE, PIXEL, Answer, Array

WEIGHTS, INPUTS, PICTURES = "weights.npz", "inputs.npz", "preprocess.npz"
SAMPLINGS, CONFIG = "kshot_indices.json", "config.json"
_SAMPLING = re.compile(r"seed(\d+)_n(\d+)_k(\d+)")
_EXTRACT = re.compile(r"(.+)_(\d+)_(sub|mean)")
_EXTRACT_ROWS, _EXTRACT_COLS = slice(3, None, 9), slice(2, None, 9)
_NOT_READ = ("clip/logit_scale",)
"""Part of CLIP, not of the method: its temperature is a constant."""


def weight_answers(golden: GoldenSet, towers: Towers, adapters: Adapters) -> Iterator[Answer]:
    """What the towers hold, and what was imported from the released checkpoint layout."""
    stored = golden.arrays[WEIGHTS]
    held = {f"clip/{name}": value for name, value in towers.text.state_dict().items()}
    held |= {f"clip/visual.{name}": value for name, value in towers.vision.state_dict().items()}
    del held["clip/visual.positional_embedding"]  # resized; see outputs.npz
    held["clip/token_embedding.weight"] = _only_used_rows(golden, towers)
    for name, value in held.items():
        yield Answer(file=WEIGHTS, key=name, value=value.numpy(), tolerance=EXACT)
    for name in ("clip/visual.positional_embedding", *_NOT_READ):
        if name in stored:
            yield Answer(file=WEIGHTS, key=name, value=stored[name], tolerance=EXACT)
    for learner, state in released_state(adapters, towers.text).items():
        for name, value in state.items():
            yield Answer(
                file=WEIGHTS,
                key=f"{learner}/{name}",
                value=value.detach().numpy(),
                tolerance=FEATURE if name.startswith("token_") else EXACT,
            )


def input_answers(golden: GoldenSet) -> Iterator[Answer]:
    """Inputs have no other answer than themselves, truth apart; they must be finite.

    A value that is wrong shows in the outputs.
    """
    masks = golden.array(INPUTS, "train_mask") > 0
    truth: dict[str, Array] = {
        "train_mask": masks,
        "train_label": np.asarray(masks.any(axis=(1, 2))),
    }
    for key, value in golden.arrays[INPUTS].items():
        if key.startswith(("query", "prompt_", "train_")):
            known = truth.get(key, value)
            yield Answer(file=INPUTS, key=key, value=known, tolerance=EXACT)


def picture_answers(golden: GoldenSet) -> Iterator[Answer]:
    """The PNG files as the tower reads them.

    Raises:
        InputError: a picture is missing.
    """
    size = golden.number("pre_size")
    for key in golden.arrays[PICTURES]:
        extract = _EXTRACT.fullmatch(key)
        if key in ("mask_tensor", "mask_binary"):
            mask = load_mask(golden.folder / "images" / "mask.png", size)[None]
            value: Array = mask if key == "mask_tensor" else np.asarray(mask > MASK_THRESHOLD)
        elif extract is not None:
            path = golden.folder / "images" / f"{extract[1]}.png"
            picture = load_picture(path, int(extract[2]))
            value = (
                picture.mean(axis=(1, 2), dtype=np.float64)
                if extract[3] == "mean"
                else picture[:, _EXTRACT_ROWS, _EXTRACT_COLS]
            )
        elif key.endswith("_tensor"):
            path = golden.folder / "images" / f"{key.removesuffix('_tensor')}.png"
            value = load_picture(path, size)
        else:
            continue
        yield Answer(file=PICTURES, key=key, value=value, tolerance=PIXEL)


def sampling_answers(golden: GoldenSet) -> Iterator[Answer]:
    """Which good pictures the published sampler draws."""
    for key in golden.samplings:
        if found := _SAMPLING.fullmatch(key):
            seed, available, shots = (int(group) for group in found.groups())
            drawn = draw_references(available, shots, seed, "adaptclip")
            yield Answer(file=SAMPLINGS, key=key, value=np.asarray(drawn), tolerance=EXACT)


def expected_samplings(golden: GoldenSet) -> dict[tuple[str, str], Array]:
    """The samplings of ``kshot_indices.json`` as arrays, by file and key."""
    return {(SAMPLINGS, key): np.asarray(value) for key, value in golden.samplings.items()}


def config_answers(golden: GoldenSet, towers: Towers, adapters: Adapters) -> Iterator[Answer]:
    """What follows from the other sizes: learnable numbers, heads, dual-path blocks."""
    settings, vision = towers.vision.settings, towers.vision.transformer.blocks
    first = len(vision) - settings.dual_path_layers + 1
    derived: dict[str, object] = {
        f"counts/{name}": count for name, count in adapters.counts().items()
    }
    derived["vision_heads"] = golden.number("vision_width") // 64
    derived["text_heads"] = golden.number("text_width") // 64
    derived["dual_path_blocks_1based"] = list(range(first, len(vision) + 1))
    for key, value in derived.items():
        yield Answer(file=CONFIG, key=key, value=np.asarray(value), tolerance=EXACT)


def expected_config(golden: GoldenSet) -> dict[tuple[str, str], Array]:
    """The derived values that the configuration states, by file and key."""
    stated = {
        key: golden.config[key]
        for key in ("vision_heads", "text_heads", "dual_path_blocks_1based")
        if key in golden.config
    }
    stated |= {f"counts/{name}": count for name, count in golden.config.get("counts", {}).items()}
    return {(CONFIG, key): np.asarray(value) for key, value in stated.items()}


def _only_used_rows(golden: GoldenSet, towers: Towers) -> Tensor:
    """The token table with the rows that no prompt uses at zero, as a set stores it."""
    tokenizer = build_clip_tokenizer(
        context_length=golden.number("context_length"), vocab_size=golden.number("vocab_size")
    )
    texts = ensemble(NORMAL_STATES) + ensemble(ABNORMAL_STATES)
    used = set(tokenizer.encode(texts).ravel().tolist())
    used |= set(template_tokens(towers.text, golden.number("n_ctx")).tolist())
    rows = torch.tensor(sorted(used))
    table = towers.text.token_embedding.weight.detach()
    kept = torch.zeros_like(table)
    kept[rows] = table[rows]
    return kept
