"""The textual adapter: two learned contexts in place of words. Section 3.2 of the paper."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_sdk.errors import InputError
from export_tools.clip.text import TextTower

CONTEXT_TOKENS = 12
_INITIAL_DEVIATION = 0.02
_PLACEHOLDER = 343  # "x</w>" in CLIP's vocabulary
_FULL_STOP = 269  # ".</w>"


class TextualAdapter(nn.Module):
    """Learned words of a good and of a bad object; class-agnostic.

    Args:
        width: of the text tower.
        contexts: learned tokens in a prompt.
    """

    def __init__(self, width: int, contexts: int = CONTEXT_TOKENS) -> None:
        super().__init__()
        self.ctx_pos = nn.Parameter(torch.empty(1, 1, contexts, width))
        self.ctx_neg = nn.Parameter(torch.empty(1, 1, contexts, width))
        for context in (self.ctx_pos, self.ctx_neg):
            nn.init.normal_(context, std=_INITIAL_DEVIATION)

    @property
    def contexts(self) -> int:
        """Learned tokens in a prompt."""
        return self.ctx_pos.shape[2]

    def prompts(self, tower: TextTower) -> Tensor:
        """The embedded prompts, positions not yet added: (2, context length, width).

        Row 0 is the good object. Only the learned tokens take gradients.

        Raises:
            InputError: the tower has another width, or prompts too short for the contexts.
        """
        if tower.token_embedding.embedding_dim != self.ctx_pos.shape[3]:
            raise InputError(
                f"textual adapter: expected a text tower {self.ctx_pos.shape[3]} wide, "
                f"got {tower.token_embedding.embedding_dim}"
            )
        tokens = template_tokens(tower, self.contexts)
        words = tower.token_embedding(tokens).detach()
        first, rest = words[:1], words[1 + self.contexts :]
        return torch.stack(
            [torch.cat([first, context[0, 0], rest]) for context in (self.ctx_pos, self.ctx_neg)]
        )

    def forward(self, tower: TextTower) -> Tensor:
        """Learned text features, not normalised: (2, E); row 0 normal, row 1 abnormal."""
        ends = template_tokens(tower, self.contexts).argmax().expand(2)
        features: Tensor = tower(self.prompts(tower), ends)
        return features


def template_tokens(tower: TextTower, contexts: int) -> Tensor:
    """Token ids of the prompt whose placeholders the contexts replace.

    Start, ``contexts`` placeholders, a full stop, end, zeros.

    Returns:
        (context length,) int64 on the tower's device.

    Raises:
        InputError: the prompt is too long.
    """
    end = tower.token_embedding.num_embeddings - 1
    ids = [end - 1, *[_PLACEHOLDER] * contexts, _FULL_STOP, end]
    if len(ids) > tower.context_length:
        raise InputError(
            f"textual adapter: expected at most {tower.context_length - 3} learned tokens, "
            f"got {contexts}"
        )
    row = torch.zeros(
        tower.context_length, dtype=torch.int64, device=tower.positional_embedding.device
    )
    row[: len(ids)] = torch.tensor(ids)
    return row
