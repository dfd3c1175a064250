"""The visual adapter: a residual MLP on the class feature, another on the patch tokens.

Section 3.1 of the paper.
"""

from __future__ import annotations

from torch import Tensor, nn

REDUCTION = 4


class ResidualMlp(nn.Module):
    """``x + W2 ReLU(BN(W1 x))``, without biases; every row is an example of the batch norm.

    Args:
        dim: E.
        reduction: E over the width between.
    """

    def __init__(self, dim: int, reduction: int = REDUCTION) -> None:
        super().__init__()
        self.fc = nn.Sequential(
            nn.Linear(dim, dim // reduction, bias=False),
            nn.BatchNorm1d(dim // reduction),
            nn.ReLU(),
            nn.Linear(dim // reduction, dim, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """(..., E) -> (..., E)."""
        out: Tensor = x + self.fc(x.reshape(-1, x.shape[-1])).reshape(x.shape)
        return out


class VisualAdapter(nn.Module):
    """Moves pictures towards the static texts; what it reads is not normalised.

    Args:
        dim: E.
        reduction: E over the width between.
    """

    def __init__(self, dim: int, reduction: int = REDUCTION) -> None:
        super().__init__()
        self.local_adapter = ResidualMlp(dim, reduction)
        self.global_adapter = ResidualMlp(dim, reduction)

    def forward(self, class_feature: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Adapt both.

        Args:
            class_feature: (B, E).
            tokens: (B, N, E); in training the class token belongs to them, for it counts in the
                batch norm.
        """
        return self.global_adapter(class_feature), self.local_adapter(tokens)
