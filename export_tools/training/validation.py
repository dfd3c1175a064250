"""How good adapters are on base data that was held out of their training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch

from edge_sdk.metrics.curves import roc_area
from edge_sdk.metrics.pixels import PixelTally
from edge_sdk.metrics.ranking import auroc
from export_tools.adaptclip.adapters import Adapters
from export_tools.adaptclip.model import AdaptClip
from export_tools.training.examples import Example, Source, seed_of
from export_tools.training.frozen import FrozenBackbone
from export_tools.training.store import FeatureStore

_AT_ONCE = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """AUROC, each the mean over the categories that have both classes; None: none has."""

    image: float | None
    """Of the fused score with one good picture beside."""
    pixel: float | None
    """Of the fused map."""
    zero_shot: float | None
    """Of the score by texts alone; None, too, where there are no texts."""
    distance: float | None
    """Of the largest distance to the nearest good patch: what no training changes."""

    def row(self) -> dict[str, Any]:
        """Rounded, for tables and files."""
        return {
            name: None if value is None else round(value, 4) for name, value in asdict(self).items()
        }


def split_examples(
    examples: Sequence[Example], share: float, seed: int
) -> tuple[list[Example], list[Example]]:
    """Hold out some groups of each category, as many of each kind as their share of all.

    Args:
        examples: all.
        share: to hold out, 0 to less than 1; where it is above 0, at least one group of a kind
            that has two or more.
        seed: of chance.

    Returns:
        Those to train on, and those held out. Prompts never show a piece that was held out.
    """
    strata: dict[tuple[str, tuple[bool, bool]], list[str]] = {}
    members: dict[tuple[str, str], list[Example]] = {}
    for example in examples:
        members.setdefault((example.category, example.group), []).append(example)
    for (category, group), inside in sorted(members.items(), key=lambda one: one[0]):
        kind = (any(e.is_bad for e in inside), all(e.is_bad for e in inside))
        strata.setdefault((category, kind), []).append(group)
    held: set[tuple[str, str]] = set()
    for (category, kind), groups in strata.items():
        count = round(share * len(groups))
        if share > 0 and len(groups) > 1:
            count = min(max(count, 1), len(groups) - 1)
        order = np.random.default_rng(seed_of(seed, "held out", category, kind))
        held.update((category, groups[i]) for i in order.permutation(len(groups))[:count])
    hidden = {e.source.path for e in examples if (e.category, e.group) in held}
    sides: tuple[list[Example], list[Example]] = ([], [])
    for example in examples:
        sides[(example.category, example.group) in held].append(_without(example, hidden))
    return sides


def _without(example: Example, hidden: set[Any]) -> Example:
    kept = tuple(prompt for prompt in example.prompts if prompt.path not in hidden)
    # A pair's template is there for its own board alone.
    if not kept or len(kept) == len(example.prompts):
        return example
    return Example(
        category=example.category, group=example.group, source=example.source, prompts=kept
    )


def draw_prompts(examples: Sequence[Example], seed: int) -> list[Source]:
    """One good picture for each, by chance."""
    rng = np.random.default_rng(seed)
    return [example.prompts[rng.integers(len(example.prompts))] for example in examples]


@torch.no_grad()
def validate(
    adapters: Adapters, store: FeatureStore, examples: Sequence[Example], *, seed: int
) -> Found:
    """Judge held-out pictures, each with one good picture beside, the same in every epoch.

    Args:
        adapters: left in evaluation mode.
        store: of features.
        examples: held out.
        seed: of the prompts.
    """
    if not examples:
        return Found(image=None, pixel=None, zero_shot=None, distance=None)
    model = build_model(adapters.eval(), store.backbone)
    prompts = draw_prompts(examples, seed_of(seed, "validation"))
    scores: dict[str, list[tuple[str, bool, float]]] = {
        "image": [],
        "zero_shot": [],
        "distance": [],
    }
    tallies: dict[str, PixelTally] = {}
    for start in range(0, len(examples), _AT_ONCE):
        part = examples[start : start + _AT_ONCE]
        batch = store.batch(part, prompts[start : start + _AT_ONCE])
        patches = [layer[:, -model.grid[0] * model.grid[1] :] for layer in batch.tokens]
        found = model.few_shot(batch.class_feature, patches, batch.memories)
        columns = {"image": found.score, "distance": found.align_map.amax(dim=(1, 2))}
        if batch.class_feature is not None:
            columns["zero_shot"] = model.zero_shot(batch.class_feature, patches[-1]).score
        for name, values in columns.items():
            scores[name] += [
                (example.category, example.is_bad, float(value))
                for example, value in zip(part, values, strict=True)
            ]
        for example, one in zip(part, found.map.cpu().numpy(), strict=True):
            mask = store.mask(example.source)
            tallies.setdefault(example.category, PixelTally()).add(one, mask)
    return Found(
        pixel=_mean([_pixel(tally) for tally in tallies.values()]),
        **{name: _mean(_by_category(rows)) for name, rows in scores.items()},
    )


def build_model(adapters: Adapters, backbone: FrozenBackbone) -> AdaptClip:
    """Adapters as they are now, put together as a device has them."""
    text, textual = backbone.text, adapters.textual
    return (
        AdaptClip(
            static_text=None if text is None else text.static,
            learned_text=None if text is None or textual is None else textual(text.tower),
            visual=adapters.visual,
            prompt_query=adapters.prompt_query,
            image_size=backbone.size,
            grid=backbone.spec.common().grid,
        )
        .to(backbone.device)
        .eval()
    )


def _by_category(rows: Sequence[tuple[str, bool, float]]) -> list[float | None]:
    found: list[float | None] = []
    for category in sorted({category for category, _, _ in rows}):
        sides: tuple[list[float], list[float]] = ([], [])
        for name, is_bad, score in rows:
            if name == category:
                sides[is_bad].append(score)
        found.append(auroc(*sides) if sides[0] and sides[1] else None)
    return found


def _pixel(tally: PixelTally) -> float | None:
    counts = tally.counts()
    return roc_area(counts.pixel_curve()) if counts.regions else None


def _mean(values: Sequence[float | None]) -> float | None:
    there = [value for value in values if value is not None]
    return float(np.mean(there)) if there else None
