"""The static prompt ensemble: 147 texts of good objects and 84 of bad ones.

Section 3 of the AdaptCLIP paper takes it from WinCLIP and AnomalyCLIP; the articles, and the one
template that is listed twice, are those of the published program, for the mean depends on them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from export_tools.clip.text import TextTower
from export_tools.clip.tokenizer import PromptTokenizer

OBJECT = "object"
"""What every part is called: the method knows no class names."""
NORMAL_STATES = (
    "{}",
    "flawless {}",
    "perfect {}",
    "unblemished {}",
    "{} without flaw",
    "{} without defect",
    "{} without damage",
)
ABNORMAL_STATES = ("damaged {}", "{} with flaw", "{} with defect", "{} with damage")
TEMPLATES = (
    "a cropped photo of the {}.",
    "a close-up photo of a {}.",
    "a close-up photo of the {}.",
    "a bright photo of a {}.",
    "a bright photo of the {}.",
    "a dark photo of the {}.",
    "a dark photo of a {}.",
    "a jpeg corrupted photo of the {}.",
    "a jpeg corrupted photo of the {}.",
    "a blurry photo of the {}.",
    "a blurry photo of a {}.",
    "a photo of a {}.",
    "a photo of the {}.",
    "a photo of a small {}.",
    "a photo of the small {}.",
    "a photo of a large {}.",
    "a photo of the large {}.",
    "a photo of the {} for visual inspection.",
    "a photo of a {} for visual inspection.",
    "a photo of the {} for anomaly detection.",
    "a photo of a {} for anomaly detection.",
)


def ensemble(states: Sequence[str], name: str = OBJECT) -> list[str]:
    """Every template of every state of an object."""
    return [template.format(state.format(name)) for state in states for template in TEMPLATES]


def encode_static_prompts(tower: TextTower, tokenizer: PromptTokenizer) -> Tensor:
    """Mean text features of both ensembles.

    Returns:
        (2, E), not normalised; row 0 normal, row 1 abnormal.
    """
    with torch.no_grad():
        return torch.stack(
            [
                tower.encode_tokens(torch.from_numpy(tokenizer.encode(ensemble(states)))).mean(0)
                for states in (NORMAL_STATES, ABNORMAL_STATES)
            ]
        )


def unit(features: Tensor) -> Tensor:
    """Rows of length 1, along the last axis."""
    return functional.normalize(features, dim=-1)
