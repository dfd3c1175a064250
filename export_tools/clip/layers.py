"""The blocks that both towers are made of. Parameter names are those of OpenAI's state dicts."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from export_tools.clip.config import Activation

LAYER_NORM_EPSILON = 1e-5


class QuickGelu(nn.Module):
    """``x * sigmoid(1.702 x)``, OpenAI's approximation of GELU."""

    def forward(self, x: Tensor) -> Tensor:
        """Any shape."""
        return x * torch.sigmoid(1.702 * x)


def build_activation(name: Activation) -> nn.Module:
    """The non-linearity of an MLP."""
    return QuickGelu() if name == "quick_gelu" else nn.GELU()


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """``softmax(Q Kᵀ / sqrt(d) + mask) V``, heads joined again.

    Args:
        query: (B, heads, N, d).
        key: (B, heads, M, d).
        value: (B, heads, M, d).
        mask: (N, M) added to the logits.

    Returns:
        (B, N, heads * d).
    """
    mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
    return mixed.transpose(1, 2).flatten(2)


class Attention(nn.Module):
    """Projections of multi-head attention; which of them attend to which is the tower's matter."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.in_proj_weight = nn.Parameter(torch.empty(3 * width, width))
        self.in_proj_bias = nn.Parameter(torch.empty(3 * width))
        self.out_proj = nn.Linear(width, width)

    def query_key_value(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, N, width) -> three of (B, heads, N, d), by one product."""
        query, key, value = functional.linear(x, self.in_proj_weight, self.in_proj_bias).chunk(
            3, dim=-1
        )
        return self._split(query), self._split(key), self._split(value)

    def value(self, x: Tensor) -> Tensor:
        """The value alone: (B, heads, N, d)."""
        width = self.in_proj_weight.shape[1]
        return self._split(
            functional.linear(x, self.in_proj_weight[2 * width :], self.in_proj_bias[2 * width :])
        )

    def query_of(self, x: Tensor) -> Tensor:
        """The query alone, for fewer rows than there are keys: (B, heads, N, d)."""
        width = self.in_proj_weight.shape[1]
        return self._split(
            functional.linear(x, self.in_proj_weight[:width], self.in_proj_bias[:width])
        )

    def key_value(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Key and value by one product."""
        width = self.in_proj_weight.shape[1]
        key, value = functional.linear(
            x, self.in_proj_weight[width:], self.in_proj_bias[width:]
        ).chunk(2, dim=-1)
        return self._split(key), self._split(value)

    def _split(self, x: Tensor) -> Tensor:
        return x.reshape(*x.shape[:-1], self.heads, -1).transpose(1, 2)


class Block(nn.Module):
    """Pre-norm transformer block."""

    def __init__(self, width: int, heads: int, mlp_ratio: float, activation: Activation) -> None:
        super().__init__()
        hidden = int(width * mlp_ratio)
        self.attn = Attention(width, heads)
        self.ln_1 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)
        self.mlp = nn.Sequential(
            OrderedDict(
                c_fc=nn.Linear(width, hidden),
                act=build_activation(activation),
                c_proj=nn.Linear(hidden, width),
            )
        )
        self.ln_2 = nn.LayerNorm(width, eps=LAYER_NORM_EPSILON)

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        """(B, N, width) -> (B, N, width)."""
        query, key, value = self.attn.query_key_value(self.ln_1(x))
        return self.finish(x, attend(query, key, value, mask))

    def forward_first(self, x: Tensor) -> Tensor:
        """The same, of the first row alone: (B, N, width) -> (B, 1, width)."""
        normed = self.ln_1(x)
        key, value = self.attn.key_value(normed)
        return self.finish(x[:, :1], attend(self.attn.query_of(normed[:, :1]), key, value))

    def finish(self, x: Tensor, mixed: Tensor) -> Tensor:
        """What follows the attention: its projection, the residual, the MLP."""
        attended = x + self.attn.out_proj(mixed)
        out: Tensor = attended + self.mlp(self.ln_2(attended))
        return out


class Transformer(nn.Module):
    """A row of blocks."""

    def __init__(
        self, width: int, layers: int, heads: int, mlp_ratio: float, activation: Activation
    ) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(
            Block(width, heads, mlp_ratio, activation) for _ in range(layers)
        )

    @property
    def blocks(self) -> Sequence[Block]:
        """First to last."""
        return [block for block in self.resblocks if isinstance(block, Block)]
