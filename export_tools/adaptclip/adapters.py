"""The three adapters together: what is trained, saved and loaded."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from export_tools.adaptclip.prompt_query import MID_DIM, PromptQueryAdapter
from export_tools.adaptclip.textual import CONTEXT_TOKENS, TextualAdapter
from export_tools.adaptclip.visual import REDUCTION, VisualAdapter
from export_tools.backbones.spec import BackboneSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class AdapterSettings:
    """Sizes of the adapters. The defaults are those of the released checkpoints."""

    contexts: int = CONTEXT_TOKENS
    """Learned tokens in a prompt."""
    reduction: int = REDUCTION
    """E over the inner width of the visual adapter."""
    mid: int = MID_DIM
    """Width of the prompt-query heads."""
    context: bool = True
    """Prompt-query adapter: features beside the residual."""


class Adapters(nn.Module):
    """Textual, visual and prompt-query adapter; the first two only where there is text.

    Args:
        spec: of the backbone.
        text_width: of the text tower; None where there is none.
        settings: sizes.
        seed: of the initial weights.
    """

    def __init__(
        self,
        spec: BackboneSpec,
        *,
        text_width: int | None,
        settings: AdapterSettings,
        seed: int = 0,
    ) -> None:
        super().__init__()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.textual: TextualAdapter | None = None
            self.visual: VisualAdapter | None = None
            if spec.has_text and text_width is not None:
                self.textual = TextualAdapter(text_width, settings.contexts)
                self.visual = VisualAdapter(spec.common().dim, settings.reduction)
            self.prompt_query = PromptQueryAdapter(spec, settings.mid, context=settings.context)

    def counts(self) -> dict[str, int]:
        """Learnable numbers of each adapter that is there."""
        parts = {"textual": self.textual, "visual": self.visual, "pq": self.prompt_query}
        return {
            name: sum(parameter.numel() for parameter in part.parameters())
            for name, part in parts.items()
            if part is not None
        }
