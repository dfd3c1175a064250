"""Features of the frozen backbone on the disk, so that every epoch but the first is quick.

A file a picture, named by a digest of what the backbone is and of what it was shown. The folder
is bounded: what other runs left goes first, oldest first; what then does not fit is not kept.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from edge_sdk.bundle.canonical import canonical_json
from edge_sdk.errors import EdgeError
from edge_sdk.records import UInt8Array

_SUFFIX = ".safetensors"
_LAYOUT = 1
"""Grows when the files mean something else."""


class Features(NamedTuple):
    """What the backbone says of one picture, in float16: kept or not, it is the same."""

    tokens: tuple[Tensor, ...]
    """One (N, E) a layer; with the class token in front where there is one."""
    class_feature: Tensor | None
    """(E,)."""


class FeatureCache:
    """Features by key.

    Args:
        folder: where the files are; made where it is missing.
        max_bytes: of all files together.

    Raises:
        EdgeError: the folder cannot be made or read.
    """

    def __init__(self, folder: Path, max_bytes: int) -> None:
        self._folder = folder
        self._max_bytes = max_bytes
        self._mine: set[Path] = set()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            entries = [(entry, entry.stat()) for entry in folder.iterdir() if entry.is_file()]
        except OSError as error:
            raise self._unusable(error) from error
        entries.sort(key=lambda one: one[1].st_mtime)
        self._old = {path: status.st_size for path, status in entries}
        self._bytes = sum(self._old.values())
        self.left_out = 0
        """Pictures whose features did not fit."""

    def has(self, key: str) -> bool:
        """Whether the features are kept; they then stay for this run."""
        path = self._path(key)
        try:
            os.utime(path)  # what another run takes for old is what nobody asked for
        except OSError:
            return False
        self._mine.add(path)
        self._old.pop(path, None)
        return True

    def read(self, key: str) -> Features | None:
        """The features, or None where they are not kept or the file is damaged."""
        path = self._path(key)
        try:
            tensors = load(path.read_bytes())
        except (OSError, SafetensorError):
            return None
        class_feature = tensors.pop("class", None)
        return Features(tuple(tensors[name] for name in sorted(tensors)), class_feature)

    def write(self, key: str, features: Features) -> None:
        """Keep them, if there is room within the bound.

        Raises:
            EdgeError: the disk is full or refuses.
        """
        tensors = {f"layer_{i:03d}": value for i, value in enumerate(features.tokens)}
        if features.class_feature is not None:
            tensors["class"] = features.class_feature
        data = save({name: value.contiguous() for name, value in tensors.items()})
        path = self._path(key)
        if not self._make_room(len(data)):
            return
        partial = path.with_suffix(f".{os.getpid()}.partial")
        try:
            partial.write_bytes(data)
            partial.replace(path)
        except OSError as error:
            with contextlib.suppress(OSError):
                partial.unlink(missing_ok=True)
            raise self._unusable(error) from error
        self._mine.add(path)
        self._bytes += len(data)

    def _make_room(self, wanted: int) -> bool:
        for path, size in list(self._old.items()):
            if self._bytes + wanted <= self._max_bytes:
                break
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
            del self._old[path]
            self._bytes -= size
        if self._bytes + wanted <= self._max_bytes:
            return True
        self.left_out += 1
        return False

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}{_SUFFIX}"

    def _unusable(self, error: OSError) -> EdgeError:
        return EdgeError(
            f"{self._folder}: the feature cache cannot be used: {error}; make room, or choose "
            "another place with --cache or fewer bytes with --cache-gib"
        )


def cache_key(backbone: object, picture: UInt8Array) -> str:
    """Name features by what makes them.

    Args:
        backbone: JSON values that say all that turns pixels into features.
        picture: (H, W, 3) uint8, at the backbone's input size.
    """
    digest = hashlib.sha256(canonical_json([_LAYOUT, backbone, list(picture.shape)]))
    digest.update(picture.tobytes())
    return digest.hexdigest()


def pack(tokens: tuple[Tensor, ...], class_feature: Tensor | None) -> Features:
    """Round to float16.

    Raises:
        EdgeError: a value is not finite in it.
    """
    features = Features(
        tuple(layer.half().cpu() for layer in tokens),
        None if class_feature is None else class_feature.half().cpu(),
    )
    every = [*features.tokens, *([] if class_feature is None else [features.class_feature])]
    if not all(bool(torch.isfinite(value).all()) for value in every if value is not None):
        raise EdgeError("backbone: expected finite features within float16, got others")
    return features
