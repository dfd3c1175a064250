"""Features of the base data, whether kept on the disk or worked out again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from edge_sdk.errors import InputError
from edge_sdk.imaging import resize_mask
from edge_sdk.records import BoolArray, UInt8Array
from export_tools.adaptclip.prompts import unit
from export_tools.training.examples import Example, Source, read_source
from export_tools.training.feature_cache import FeatureCache, Features, cache_key
from export_tools.training.frozen import FrozenBackbone
from export_tools.training.step import TrainingBatch


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Known:
    """A picture that was looked at."""

    key: str
    mask: NDArray[np.uint8] | None
    """Packed bits of the mask at the input size; None where nothing is marked."""


class FeatureStore:
    """Gives features by source.

    Args:
        backbone: makes them.
        cache: keeps them.
    """

    def __init__(self, backbone: FrozenBackbone, cache: FeatureCache) -> None:
        self.backbone = backbone
        self._cache = cache
        self._known: dict[Source, _Known] = {}

    def prepare(
        self,
        examples: Iterable[Example],
        watch: Callable[[str, Sequence[Source]], Iterator[Source]],
    ) -> None:
        """Look at every picture, and encode those whose features are not kept.

        Args:
            examples: their pictures and prompts.
            watch: gives the sources one by one while progress is shown.

        Raises:
            InputError: a picture or mask cannot be used.
            EdgeError: the disk is full, or features are not finite.
        """
        wanted = dict.fromkeys(
            source for example in examples for source in (example.source, *example.prompts)
        )
        for source in watch("features", list(wanted)):
            picture, mask = self._show(source)
            key = cache_key(self.backbone.identity, picture)
            self._known[source] = _Known(key=key, mask=np.packbits(mask) if mask.any() else None)
            if not self._cache.has(key):
                self._encode(key, picture)

    def digest(self, examples: Iterable[Example]) -> str:
        """Name examples by their content: hexadecimal."""
        digest = hashlib.sha256()
        for example in examples:
            known = self._known[example.source]
            mask = b"" if known.mask is None else known.mask.tobytes()
            prompts = "".join(self._known[prompt].key for prompt in example.prompts)
            said = f"{example.category}\0{known.key}\0{prompts}\0{len(mask)}\0"
            digest.update(said.encode() + mask)
        return digest.hexdigest()

    def mask(self, source: Source) -> BoolArray:
        """(H, W) at the input size."""
        packed, size = self._known[source].mask, self.backbone.size
        if packed is None:
            return np.zeros(size, bool)
        return np.unpackbits(packed, count=size[0] * size[1]).reshape(size).astype(bool)

    def batch(self, examples: Sequence[Example], prompts: Sequence[Source]) -> TrainingBatch:
        """Queries, a prompt for each, and the truth, on the backbone's device."""
        queries = [self.features(example.source) for example in examples]
        beside = [self.features(prompt) for prompt in prompts]
        device, (rows, cols) = self.backbone.device, self.backbone.spec.common().grid
        labels = torch.tensor([int(example.is_bad) for example in examples])
        masks = np.stack([self.mask(example.source) for example in examples])
        class_features = [one.class_feature for one in queries if one.class_feature is not None]
        layers = range(len(self.backbone.spec.tokens))
        return TrainingBatch(
            class_feature=_joined(class_features, device) if class_features else None,
            tokens=[_joined([one.tokens[i] for one in queries], device) for i in layers],
            memories=[
                unit(_joined([one.tokens[i][-rows * cols :] for one in beside], device))
                for i in layers
            ],
            labels=labels.to(device),
            masks=torch.from_numpy(masks).float().to(device),
        )

    def features(self, source: Source) -> Features:
        """Of one picture that ``prepare`` has seen.

        Raises:
            InputError: its file has changed in between.
        """
        known = self._known[source]
        kept = self._cache.read(known.key)
        if kept is not None:
            return kept
        picture, _ = self._show(source)
        if cache_key(self.backbone.identity, picture) != known.key:
            raise InputError(f"{source.path}: expected the picture that was there before")
        return self._encode(known.key, picture)

    def _show(self, source: Source) -> tuple[UInt8Array, BoolArray]:
        pixels, mask = read_source(source)
        size = self.backbone.size
        shown = resize_mask(mask, size) if mask.any() else np.zeros(size, bool)
        return self.backbone.look(pixels), shown

    def _encode(self, key: str, picture: UInt8Array) -> Features:
        # One by one: the last bits of a batch depend on what else is in it.
        features = self.backbone.encode(picture)
        self._cache.write(key, features)
        return features


def _joined(rows: Sequence[Tensor], device: torch.device) -> Tensor:
    return torch.stack(list(rows)).to(device).float()
