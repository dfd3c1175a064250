"""AdaptCLIP put together: zero-shot with no reference, few-shot with one or more."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from torch import Tensor, nn

from edge_sdk.errors import InputError
from export_tools.adaptclip.fusion import (
    SIGMA,
    SMALLEST_DISTANCE,
    TEMPERATURE,
    Smoothing,
    abnormal,
    arithmetic_mean,
    harmonic_mean,
    upsample_map,
)
from export_tools.adaptclip.prompt_query import PromptQueryAdapter, PromptQueryOutput
from export_tools.adaptclip.prompts import unit
from export_tools.adaptclip.visual import VisualAdapter


class TextBranch(NamedTuple):
    """What one set of text features says of pictures."""

    global_logits: Tensor
    """(B, 2)."""
    local_logits: Tensor
    """(B, 2, rows, cols)."""


class ZeroShot(NamedTuple):
    """What is known without a reference."""

    branches: tuple[TextBranch, ...]
    scores: tuple[Tensor, ...]
    """(B,) abnormal probability of each branch's class feature."""
    local_maps: tuple[Tensor, ...]
    """(B, H, W) abnormal probability of each branch's patches."""
    raw_map: Tensor
    """(B, H, W) their mean."""
    map: Tensor
    """(B, H, W) smoothed."""
    peak: Tensor
    """(B,) maximum of the smoothed map."""
    score: Tensor
    """(B,)."""


class FewShot(NamedTuple):
    """What is known with references."""

    prompt_query: PromptQueryOutput
    align_maps: tuple[Tensor, ...]
    """(B, H, W) distance to the nearest good patch, one a layer."""
    local_maps: tuple[Tensor, ...]
    """(B, H, W) abnormal probability, one a layer."""
    align_map: Tensor
    """(B, H, W) harmonic mean of the align maps."""
    local_map: Tensor
    """(B, H, W) mean of the local maps."""
    prompt_query_score: Tensor
    """(B,) mean abnormal probability of the global head."""
    mean_map: Tensor
    """(B, H, W) mean of all adapters' maps."""
    raw_map: Tensor
    """(B, H, W) harmonic mean of ``mean_map`` and ``align_map``."""
    map: Tensor
    """(B, H, W) smoothed."""
    peak: Tensor
    """(B,) maximum of the smoothed map."""
    mean_score: Tensor
    """(B,) mean of all adapters' global scores."""
    score: Tensor
    """(B,)."""


class AdaptClip(nn.Module):
    """Adapters, text features and fusion, over what a vision tower has encoded.

    Text features are constants here: no text tower is needed to judge a picture. Without a
    visual adapter the static texts read the features as they are, which is plain CLIP; without
    learned texts that branch is left out.

    Args:
        static_text: (2, E) mean features of the prompt ensemble; row 0 normal. None: a backbone
            without texts, whose pictures are judged by good ones alone.
        learned_text: (2, E) features of the learned prompts; None: no textual adapter.
        visual: None: no visual adapter.
        prompt_query: None: ``few_shot`` is refused.
        image_size: (height, width) of maps, in pixels of the tower's input.
        grid: (rows, cols) of patches.
        sigma: of the map's Gaussian, in pixels.
    """

    static_text: Tensor | None
    learned_text: Tensor | None

    def __init__(
        self,
        *,
        static_text: Tensor | None,
        learned_text: Tensor | None,
        visual: VisualAdapter | None,
        prompt_query: PromptQueryAdapter | None,
        image_size: tuple[int, int],
        grid: tuple[int, int],
        sigma: float = SIGMA,
    ) -> None:
        super().__init__()
        for name, text in (("static_text", static_text), ("learned_text", learned_text)):
            self.register_buffer(name, None if text is None else unit(text.detach()))
        self.visual = visual
        self.prompt_query = prompt_query
        self.smoothing = Smoothing(image_size, sigma)
        self.image_size = image_size
        self.grid = grid

    def zero_shot(self, class_feature: Tensor, patches: Tensor) -> ZeroShot:
        """Judge by texts alone.

        Args:
            class_feature: (B, E), not normalised.
            patches: (B, L, E) of the last layer, not normalised.

        Raises:
            InputError: there are no texts.
        """
        branches = self._text_branches(class_feature, patches)
        scores = tuple(abnormal(branch.global_logits) for branch in branches)
        # Softmax comes before the resize; the resize is linear, so that one does for the mean.
        probabilities = [abnormal(branch.local_logits) for branch in branches]
        raw = upsample_map(arithmetic_mean(probabilities), self.image_size)
        smoothed = self.smoothing(raw)
        peak = smoothed.amax(dim=(1, 2))
        return ZeroShot(
            branches=branches,
            scores=scores,
            local_maps=tuple(upsample_map(one, self.image_size) for one in probabilities),
            raw_map=raw,
            map=smoothed,
            peak=peak,
            score=arithmetic_mean((*scores, peak)),
        )

    def few_shot(
        self, class_feature: Tensor | None, patches: Sequence[Tensor], memories: Sequence[Tensor]
    ) -> FewShot:
        """Judge by texts and by good pictures.

        Args:
            class_feature: (B, E), not normalised; None where there are no texts.
            patches: one (B, L, E) a layer, not normalised.
            memories: one (M, E), or (B, M, E), of unit rows a layer.

        Raises:
            InputError: there is no prompt-query adapter, or a memory does not fit.
        """
        if self.prompt_query is None:
            raise InputError("few-shot: expected a prompt-query adapter, got a model without one")
        zero = None if class_feature is None else self.zero_shot(class_feature, patches[-1])
        found = self.prompt_query(patches, memories)
        align_maps = tuple(
            upsample_map(
                matched.distance.clamp(min=SMALLEST_DISTANCE).reshape(-1, *self.grid),
                self.image_size,
            )
            for matched in found.matches
        )
        probabilities = [abnormal(logits) for logits in found.local_logits]
        align_map = harmonic_mean(align_maps)
        local_map = upsample_map(arithmetic_mean(probabilities), self.image_size)
        own_score = arithmetic_mean([abnormal(logits) for logits in found.global_logits])
        mean_map, scores = local_map, [own_score]
        if zero is not None:
            texts = len(zero.branches)
            mean_map = (texts * zero.raw_map + local_map) / (texts + 1)
            scores = [*zero.scores, own_score]
        raw = harmonic_mean((mean_map, align_map))
        smoothed = self.smoothing(raw)
        peak = smoothed.amax(dim=(1, 2))
        mean_score = arithmetic_mean(scores)
        return FewShot(
            prompt_query=found,
            align_maps=align_maps,
            local_maps=tuple(upsample_map(one, self.image_size) for one in probabilities),
            align_map=align_map,
            local_map=local_map,
            prompt_query_score=own_score,
            mean_map=mean_map,
            raw_map=raw,
            map=smoothed,
            peak=peak,
            mean_score=mean_score,
            score=harmonic_mean((mean_score, peak)),
        )

    def _text_branches(self, class_feature: Tensor, patches: Tensor) -> tuple[TextBranch, ...]:
        if self.static_text is None:
            raise InputError("zero-shot: expected text features, got a model without texts")
        adapted = class_feature, patches
        if self.visual is not None:
            adapted = self.visual(class_feature, patches)
        branches = [text_branch(*adapted, text=self.static_text, grid=self.grid)]
        if self.learned_text is not None:
            branches.append(
                text_branch(class_feature, patches, text=self.learned_text, grid=self.grid)
            )
        return tuple(branches)


def text_branch(
    class_feature: Tensor, patches: Tensor, *, text: Tensor, grid: tuple[int, int]
) -> TextBranch:
    """Cosines with texts over the temperature.

    Args:
        class_feature: (B, E), not normalised.
        patches: (B, L, E), not normalised.
        text: (2, E) unit rows.
        grid: (rows, cols), L in all.
    """
    local = unit(patches) @ text.T / TEMPERATURE
    return TextBranch(
        global_logits=unit(class_feature) @ text.T / TEMPERATURE,
        local_logits=local.transpose(1, 2).reshape(local.shape[0], -1, *grid),
    )
