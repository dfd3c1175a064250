"""A golden set on disk, and the model that it was made with."""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from edge_sdk.errors import InputError
from export_tools.adaptclip.adapters import Adapters, AdapterSettings
from export_tools.adaptclip.checkpoint import load_adapters
from export_tools.backbones.spec import clip_spec
from export_tools.clip.config import (
    Activation,
    ClipConfig,
    PictureTowerSettings,
    TextConfig,
    VisionConfig,
)
from export_tools.clip.state import load_text, load_vision
from export_tools.clip.text import TextTower
from export_tools.clip.vision import VisionTower
from export_tools.conformance.ledger import Array

ARRAY_FILES = (
    "weights.npz",
    "inputs.npz",
    "outputs.npz",
    "train.npz",
    "metrics.npz",
    "preprocess.npz",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class GoldenSet:
    """Configuration and arrays of one folder."""

    folder: Path
    config: Mapping[str, Any]
    arrays: Mapping[str, Mapping[str, Array]]
    """By file, then key."""
    metrics: Mapping[str, Mapping[str, Any]]
    samplings: Mapping[str, Any]

    def tensor(self, key: str) -> Tensor:
        """An input.

        Raises:
            InputError: it is missing.
        """
        return torch.from_numpy(np.ascontiguousarray(self.array("inputs.npz", key)))

    def array(self, file: str, key: str) -> Array:
        """An array.

        Raises:
            InputError: it is missing.
        """
        try:
            return self.arrays[file][key]
        except KeyError:
            raise InputError(
                f"{self.folder / file}: expected an array {key!r}, "
                f"got {len(self.arrays[file])} others"
            ) from None

    def number(self, key: str) -> Any:  # noqa: ANN401 -- what JSON holds
        """A value of ``config.json``.

        Raises:
            InputError: it is missing.
        """
        try:
            return self.config[key]
        except KeyError:
            raise InputError(f"{self.folder / 'config.json'}: expected a key {key!r}") from None


def read_golden_set(folder: Path) -> GoldenSet:
    """Read everything.

    Raises:
        InputError: a file is missing or cannot be read.
    """
    return GoldenSet(
        folder=folder,
        config=_read_json(folder / "config.json"),
        arrays={name: _read_arrays(folder / name) for name in ARRAY_FILES},
        metrics=_read_json(folder / "metrics.json"),
        samplings=_read_json(folder / "kshot_indices.json"),
    )


def clip_config(golden: GoldenSet) -> ClipConfig:
    """The towers as the configuration says them. QuickGELU where it names no activation.

    Raises:
        InputError: a key is missing or says something impossible.
    """
    number = golden.number
    return ClipConfig(
        embed_dim=number("embed_dim"),
        vision=VisionConfig(
            width=number("vision_width"),
            layers=number("vision_layers"),
            heads=number("vision_heads"),
            patch_size_px=number("patch_size"),
            native_size_px=number("native_res"),
        ),
        text=TextConfig(
            width=number("text_width"),
            layers=number("text_layers"),
            heads=number("text_heads"),
            context_length=number("context_length"),
            vocab_size=number("vocab_size"),
        ),
        activation=_activation(golden),
    )


def tower_settings(golden: GoldenSet, *, alias: bool = False) -> PictureTowerSettings:
    """How the set uses the vision tower.

    Args:
        golden: the set.
        alias: the layers that ask for the aliasing quirk, with the quirk.
    """
    return PictureTowerSettings(
        image_size_px=golden.number("image_size"),
        layers=tuple(golden.number("alias_features_list" if alias else "features_list")),
        dual_path_layers=golden.number("dpam_layer") - 1,
        alias_quirk=alias,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Towers:
    """The frozen CLIP of a set."""

    vision: VisionTower
    text: TextTower


def build_towers(golden: GoldenSet) -> Towers:
    """The towers with the set's weights.

    Raises:
        InputError: weights do not fit the configuration.
    """
    return Towers(vision=build_vision(golden), text=_build_text(golden))


def build_vision(golden: GoldenSet, *, alias: bool = False) -> VisionTower:
    """The vision tower with the set's weights."""
    tower = VisionTower(clip_config(golden), tower_settings(golden, alias=alias))
    load_vision(tower, _clip_weights(golden), "weights.npz")
    return tower.eval()


def _build_text(golden: GoldenSet) -> TextTower:
    tower = TextTower(clip_config(golden))
    load_text(tower, _clip_weights(golden), "weights.npz")
    return tower.eval()


def build_adapters(golden: GoldenSet, towers: Towers, *, context: bool = True) -> Adapters:
    """The adapters with the weights of ``adapters.pth``.

    Args:
        golden: the set.
        towers: that they are for.
        context: of the prompt-query adapter.

    Raises:
        InputError: the checkpoint does not fit.
    """
    loaded, _ = load_adapters(golden.folder / "adapters.pth", clip_spec(towers.vision), towers.text)
    loaded.prompt_query.context = context
    return loaded


def adapter_settings(golden: GoldenSet) -> AdapterSettings:
    """The sizes that the configuration says."""
    return AdapterSettings(
        contexts=golden.number("n_ctx"),
        reduction=golden.number("vl_reduction"),
        mid=golden.number("pq_mid_dim"),
    )


def _activation(golden: GoldenSet) -> Activation:
    said = golden.config.get("activation", golden.config.get("quick_gelu", True))
    if said in (True, "quick_gelu", "quickgelu", "QuickGELU"):
        return "quick_gelu"
    if said in (False, "gelu", "GELU"):
        return "gelu"
    raise InputError(
        f"{golden.folder / 'config.json'}: activation: expected quick_gelu or gelu, got {said!r}"
    )


def _clip_weights(golden: GoldenSet) -> dict[str, Tensor]:
    """The weights of CLIP under their own names, in float32."""
    return {
        key.removeprefix("clip/"): torch.from_numpy(np.asarray(value, np.float32))
        for key, value in golden.arrays["weights.npz"].items()
        if key.startswith("clip/")
    }


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected a JSON file of a golden set: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document


def _read_arrays(path: Path) -> dict[str, Array]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected arrays of a golden set: {error}") from error
