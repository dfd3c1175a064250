"""One training step of the adapters.

The published "alternating" learning sums the losses of all adapters and makes one Adam step: the
three graphs share no trainable number, so each adapter is in effect trained by its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from edge_sdk.errors import InputError
from export_tools.adaptclip.adapters import Adapters
from export_tools.adaptclip.fusion import upsample
from export_tools.adaptclip.model import text_branch
from export_tools.adaptclip.prompts import unit
from export_tools.clip.text import TextTower
from export_tools.training.losses import HeadLosses, head_losses

LEARNING_RATE = 1e-3
ADAM_BETAS = (0.5, 0.999)


class TrainingBatch(NamedTuple):
    """Frozen features of queries and of one good picture for each, and the truth."""

    class_feature: Tensor | None
    """(B, E) of the queries; None where the backbone has no text."""
    tokens: Sequence[Tensor]
    """One (B, N, E) a layer, of the queries; N = 1 + L with a class token, else L."""
    memories: Sequence[Tensor]
    """One (B, M, E) of unit rows a layer: each query's own good pictures."""
    labels: Tensor
    """(B,) int64; 1 is abnormal."""
    masks: Tensor
    """(B, H, W) float, 1 where abnormal."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenText:
    """What the textual and the visual adapter read of the frozen towers."""

    tower: TextTower
    static: Tensor
    """(2, E) mean features of the prompt ensemble."""


class StepLosses(NamedTuple):
    """Losses before the step; a branch that is not trained has none."""

    visual: HeadLosses | None
    textual: HeadLosses | None
    prompt_query: tuple[HeadLosses, ...]
    """One a layer."""

    def heads(self) -> tuple[HeadLosses, ...]:
        """All there are."""
        text = tuple(head for head in (self.visual, self.textual) if head is not None)
        return text + self.prompt_query

    def total_global(self) -> Tensor:
        """Sum of the heads' image losses."""
        return torch.stack([head.image for head in self.heads()]).sum()

    def total_local(self) -> Tensor:
        """Sum of the heads' map losses."""
        return torch.stack([head.local() for head in self.heads()]).sum()


def build_optimizer(adapters: Adapters, rate: float = LEARNING_RATE) -> torch.optim.Adam:
    """Adam as published: 1e-3, betas 0.5 and 0.999, no decay, no schedule."""
    return torch.optim.Adam(adapters.parameters(), lr=rate, betas=ADAM_BETAS)


def training_step(
    adapters: Adapters,
    batch: TrainingBatch,
    optimizer: torch.optim.Optimizer,
    *,
    text: FrozenText | None = None,
) -> StepLosses:
    """Losses, gradients, one step; adapters are left in training mode.

    Args:
        adapters: trained in place; their gradients stay readable.
        batch: features of a frozen backbone.
        optimizer: over the adapters' parameters.
        text: of the frozen text tower; None where there is none.

    Raises:
        InputError: a loss is not finite; nothing is changed but batch-norm statistics.
    """
    adapters.train()
    optimizer.zero_grad(set_to_none=True)
    losses = compute_losses(adapters, batch, text=text)
    total = losses.total_global() + losses.total_local()
    if not bool(torch.isfinite(total)):
        raise InputError(f"training: expected a finite loss, got {total.item()}")
    total.backward()  # type: ignore[no-untyped-call]
    optimizer.step()
    return losses


def compute_losses(
    adapters: Adapters, batch: TrainingBatch, *, text: FrozenText | None = None
) -> StepLosses:
    """Losses of all adapters that are there, in the mode they are in.

    Raises:
        InputError: text adapters without text features.
    """
    size = (batch.masks.shape[-2], batch.masks.shape[-1])
    truth = batch.labels, batch.masks
    grid = adapters.prompt_query.grid
    patches = grid[0] * grid[1]
    visual = textual = None
    if adapters.visual is not None and adapters.textual is not None:
        if text is None or batch.class_feature is None:
            raise InputError("training: expected text and class features, got none")
        last = batch.tokens[-1]
        class_feature, tokens = adapters.visual(batch.class_feature, last)
        tokens, last = tokens[:, -patches:], last[:, -patches:]
        learned = unit(adapters.textual(text.tower))
        visual, textual = (
            head_losses(
                branch.global_logits, upsample(branch.local_logits.softmax(dim=1), size), *truth
            )
            for branch in (
                text_branch(class_feature, tokens, text=unit(text.static), grid=grid),
                text_branch(batch.class_feature, last, text=learned, grid=grid),
            )
        )
    found = adapters.prompt_query([layer[:, -patches:] for layer in batch.tokens], batch.memories)
    return StepLosses(
        visual=visual,
        textual=textual,
        prompt_query=tuple(
            head_losses(global_logits, upsample(local.softmax(dim=1), size), *truth)
            for global_logits, local in zip(found.global_logits, found.local_logits, strict=True)
        ),
    )
