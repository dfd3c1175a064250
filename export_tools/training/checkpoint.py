"""A training that can be gone on with: adapters, the optimiser's memory, and what was seen so far.

Beside the file that is to be written, safetensors as well: no code is in it. The one before is
replaced only when the new one is on the disk whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from edge_sdk.durable_files import sync_folder, write_durably
from edge_sdk.errors import EdgeError, InputError
from export_tools.tensors import load_strictly

SUFFIX = ".checkpoint"
_NOTE = "edge-training"
_ADAPTERS, _OPTIMIZER = "adapters.", "optimizer."


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """How far a training is."""

    epochs: int
    """Finished ones."""
    history: Sequence[Mapping[str, Any]]
    """A row an epoch."""


def checkpoint_of(out: Path) -> Path:
    """Where the checkpoint of a training lies that writes ``out``."""
    return out.with_name(out.name + SUFFIX)


def save_checkpoint(
    path: Path,
    adapters: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    configuration: Mapping[str, Any],
    progress: Progress,
) -> None:
    """Replace the checkpoint.

    Args:
        path: of it.
        adapters: as they are after a whole epoch.
        optimizer: over their parameters.
        configuration: everything that the numbers depend on.
        progress: how far it is.

    Raises:
        InputError: a number is not finite; the checkpoint before is kept.
        EdgeError: the disk is full; likewise.
    """
    tensors = {_ADAPTERS + name: value for name, value in adapters.state_dict().items()}
    for index, moments in optimizer.state_dict()["state"].items():
        for name, value in moments.items():
            tensors[f"{_OPTIMIZER}{index}.{name}"] = value
    for name, value in tensors.items():
        if not bool(torch.isfinite(value).all()):
            raise InputError(
                f"training: {name}: expected finite numbers after epoch "
                f"{progress.epochs}, got NaN or infinity"
            )
    note = {
        "configuration": dict(configuration),
        "epochs": progress.epochs,
        "history": [dict(row) for row in progress.history],
    }
    content = {name: value.detach().cpu().contiguous() for name, value in tensors.items()}
    data = save(content, metadata={_NOTE: json.dumps(note, sort_keys=True)})
    partial = path.with_name(f".{path.name}.partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_durably(partial, data)
        partial.replace(path)
        sync_folder(path.parent)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise EdgeError(f"{path}: cannot be written: {error}") from error


def load_checkpoint(
    path: Path,
    adapters: nn.Module,
    optimizer: torch.optim.Optimizer,
    *,
    configuration: Mapping[str, Any],
) -> Progress:
    """Go on from a checkpoint; adapters and optimiser are changed in place.

    Raises:
        InputError: it is missing or damaged, or belongs to another configuration.
    """
    tensors, note = _read(path)
    kept = note["configuration"]
    for key in sorted(kept.keys() | configuration.keys()):
        if kept.get(key) != configuration.get(key):
            raise InputError(
                f"{path}: {key}: expected {kept.get(key)!r}, as the training was begun with, got "
                f"{configuration.get(key)!r}; another --out begins anew"
            )
    own = {
        name.removeprefix(_ADAPTERS): value
        for name, value in tensors.items()
        if name.startswith(_ADAPTERS)
    }
    load_strictly(adapters, own, str(path))
    state: dict[int, dict[str, Tensor]] = {}
    for name, value in tensors.items():
        if name.startswith(_OPTIMIZER):
            index, _, moment = name.removeprefix(_OPTIMIZER).partition(".")
            state.setdefault(int(index), {})[moment] = value
    optimizer.load_state_dict({**optimizer.state_dict(), "state": state})
    return Progress(epochs=note["epochs"], history=note["history"])


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    if not path.is_file():
        raise InputError(f"{path}: expected the checkpoint of a training to go on with, found none")
    try:
        with safe_open(str(path), framework="pt") as file:
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
            note = json.loads((file.metadata() or {})[_NOTE])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise InputError(f"{path}: expected a checkpoint of edge-train: {error}") from error
    if not isinstance(note, dict) or not {"configuration", "epochs", "history"} <= note.keys():
        raise InputError(f"{path}: expected a checkpoint of edge-train, got another file")
    return tensors, note
