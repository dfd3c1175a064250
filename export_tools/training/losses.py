"""The losses of AdaptCLIP's training: section 3.5 of the paper, all weights 1."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

_SMOOTH = 1e-5


class HeadLosses(NamedTuple):
    """Scalars of one head."""

    image: Tensor
    """Cross entropy of the global logits."""
    focal: Tensor
    dice_abnormal: Tensor
    dice_normal: Tensor

    def local(self) -> Tensor:
        """Sum of the three on the map."""
        return self.focal + self.dice_abnormal + self.dice_normal

    def total(self) -> Tensor:
        """Sum of all four."""
        return self.image + self.local()


def head_losses(
    global_logits: Tensor, probabilities: Tensor, labels: Tensor, masks: Tensor
) -> HeadLosses:
    """What one head is trained by.

    Args:
        global_logits: (B, 2).
        probabilities: (B, 2, H, W), of the classes, at the masks' size.
        labels: (B,) int64; 1 is abnormal.
        masks: (B, H, W) float, 1 where abnormal.
    """
    return HeadLosses(
        image=functional.cross_entropy(global_logits, labels),
        focal=focal_loss(probabilities, masks),
        dice_abnormal=dice_loss(probabilities[:, 1], masks),
        dice_normal=dice_loss(probabilities[:, 0], 1 - masks),
    )


def focal_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """Mean of ``-(1 - p)^2 ln p`` over pixels (arXiv 1708.02002 with alpha 1, gamma 2).

    ``p`` is the probability of the true class, labels smoothed by 1e-5.

    Args:
        probabilities: (B, 2, H, W).
        masks: (B, H, W), 1 where abnormal.
    """
    truth = torch.stack([1 - masks, masks], dim=1).clamp(_SMOOTH, 1 - _SMOOTH)
    p = (truth * probabilities).sum(dim=1) + _SMOOTH
    return -((1 - p) ** 2 * p.log()).mean()


def dice_loss(probabilities: Tensor, masks: Tensor) -> Tensor:
    """``1 - (2 |P G| + 1) / (|P| + |G| + 1)``, mean over pictures (arXiv 1606.04797).

    Args:
        probabilities: (B, H, W).
        masks: (B, H, W), 0 or 1.
    """
    p, g = probabilities.flatten(1), masks.flatten(1)
    overlap = (2 * (p * g).sum(dim=1) + 1) / (p.sum(dim=1) + g.sum(dim=1) + 1)
    return 1 - overlap.mean()
