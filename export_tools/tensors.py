"""Weights from files of others: never code, never NaN, never silently another model's."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from edge_sdk.errors import InputError

_SAFETENSORS = ".safetensors"
_NAMED = 5
"""Names in a message before it says how many more there are."""
_READ_AT_ONCE = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """Where weights came from."""

    path: Path
    sha256: str


def read_tensors(path: Path, *, sha256: str | None = None) -> tuple[dict[str, Tensor], Source]:
    """Read a safetensors file, or a pickled state dict without running any code in it.

    Dictionaries in dictionaries become dotted names.

    Args:
        path: of the file.
        sha256: expected digest; the file is not opened when it has another.

    Raises:
        InputError: it cannot be read, has another digest, holds anything but tensors, or a
            value that is not finite.
    """
    digest = file_sha256(path)
    if sha256 is not None and digest != sha256.lower():
        raise InputError(f"{path}: expected sha256 {sha256}, got {digest}: fetch it again")
    tensors = dict(_flat(_load(path), str(path)))
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(f"{path}: {name}: expected finite numbers, got NaN or infinity")
    return tensors, Source(path=path, sha256=digest)


def file_sha256(path: Path) -> str:
    """Digest of a file, in hex.

    Raises:
        InputError: it cannot be read.
    """
    digest = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while block := file.read(_READ_AT_ONCE):
                digest.update(block)
    except OSError as error:
        raise InputError(f"{path}: expected a file of weights: {error}") from error
    return digest.hexdigest()


def load_strictly(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Give a module its weights; every tensor is used, and every one is there.

    Args:
        module: changed in place.
        tensors: by the module's own names.
        source: where they come from, for messages.

    Raises:
        InputError: a tensor is missing, left over or of another shape; the module is unchanged.
    """
    own = module.state_dict()
    if missing := sorted(own.keys() - tensors.keys()):
        raise InputError(f"{source}: expected {len(own)} tensors, got none for {_some(missing)}")
    if extra := sorted(tensors.keys() - own.keys()):
        raise InputError(f"{source}: expected {len(own)} tensors, got {_some(extra)} besides")
    for name, value in own.items():
        if tensors[name].shape != value.shape:
            raise InputError(
                f"{source}: {name}: expected the shape {tuple(value.shape)}, "
                f"got {tuple(tensors[name].shape)}"
            )
    module.load_state_dict(dict(tensors))


def _load(path: Path) -> object:
    try:
        if path.suffix == _SAFETENSORS:
            return load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except UnpicklingError as error:
        raise InputError(
            f"{path}: expected a state dict, got a pickle with code in it or a damaged one, "
            "which is not run"
        ) from error
    except (
        OSError,
        RuntimeError,
        ValueError,
        EOFError,
        zipfile.BadZipFile,
        SafetensorError,
    ) as error:
        raise InputError(f"{path}: expected tensors, cannot be read: {error}") from error


def _flat(content: object, source: str, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    if not isinstance(content, Mapping):
        raise InputError(f"{source}: expected a state dict, got {_kind(content)}")
    for name, value in content.items():
        if isinstance(value, Tensor):
            yield f"{prefix}{name}", value
        elif isinstance(value, Mapping):
            yield from _flat(value, source, f"{prefix}{name}.")
        else:
            raise InputError(f"{source}: {prefix}{name}: expected a tensor, got {_kind(value)}")


def _kind(value: Any) -> str:  # noqa: ANN401 -- whatever a pickle holds
    return type(value).__name__


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
