"""The text tower. It runs where a bundle is made, never on a device."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from edge_sdk.errors import InputError
from export_tools.clip.config import ClipConfig
from export_tools.clip.layers import LAYER_NORM_EPSILON, Transformer

_TEXTS_AT_ONCE = 32


class TextTower(nn.Module):
    """Prompts -> (n, E) features, not normalised. Parameter names are OpenAI's.

    Args:
        config: of the model.
    """

    causal_mask: Tensor

    def __init__(self, config: ClipConfig) -> None:
        super().__init__()
        text = config.text
        self.token_embedding = nn.Embedding(text.vocab_size, text.width)
        self.positional_embedding = nn.Parameter(torch.empty(text.context_length, text.width))
        self.transformer = Transformer(
            text.width, text.layers, text.heads, text.mlp_ratio, config.activation
        )
        self.ln_final = nn.LayerNorm(text.width, eps=LAYER_NORM_EPSILON)
        self.text_projection = nn.Parameter(torch.empty(text.width, config.embed_dim))
        mask = torch.full((text.context_length, text.context_length), float("-inf")).triu(1)
        self.register_buffer("causal_mask", mask, persistent=False)

    @property
    def context_length(self) -> int:
        """Tokens in a prompt, padding included."""
        return self.positional_embedding.shape[0]

    def forward(self, embeddings: Tensor, ends: Tensor) -> Tensor:
        """Encode prompts that are embedded already.

        Args:
            embeddings: (n, context, width), positions not yet added.
            ends: (n,) index of each prompt's end-of-text token.

        Returns:
            (n, E).
        """
        x = embeddings + self.positional_embedding
        for block in self.transformer.blocks:
            x = block(x, self.causal_mask)
        x = self.ln_final(x)
        last: Tensor = x[torch.arange(x.shape[0], device=x.device), ends]
        return last @ self.text_projection

    def encode_tokens(self, tokens: Tensor) -> Tensor:
        """Encode token ids, a few prompts at a time.

        Args:
            tokens: (n, context) whole numbers; the end of text has the highest id.

        Raises:
            InputError: another length than the tower's, or an id outside its vocabulary.
        """
        if tokens.ndim != 2 or tokens.shape[1] != self.context_length:
            raise InputError(
                f"tokens: expected (n, {self.context_length}), got {tuple(tokens.shape)}"
            )
        size = self.token_embedding.num_embeddings
        if int(tokens.min()) < 0 or int(tokens.max()) >= size:
            raise InputError(
                f"tokens: expected ids of 0 to {size - 1}, "
                f"got {int(tokens.min())} to {int(tokens.max())}: another tower's tokenizer"
            )
        return torch.cat(
            [
                self(self.token_embedding(part), part.argmax(dim=-1))
                for part in torch.split(tokens.long(), _TEXTS_AT_ONCE)
            ]
        )
