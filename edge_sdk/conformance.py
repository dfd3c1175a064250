"""A bundle's exported graphs against the published method: arrays made by its own program.

The host compares every array (``python -m export_tools.conformance``). Here, without torch, those
that the graphs give are compared: tokens, class features, nearest patches, maps and scores.
"""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle.reader import Bundle
from edge_sdk.config import EngineConfig
from edge_sdk.errors import BundleError, InputError
from edge_sdk.model import open_role
from edge_sdk.protocols import InferenceEngine
from edge_sdk.scoring.adaptclip_fusion import fuse
from edge_sdk.scoring.adaptclip_heads import (
    CLASS_TOKEN,
    DISTANCE,
    MAP,
    ROW,
    SCORE,
    AdaptClipSettings,
)
from edge_sdk.scoring.memory_bank import unit_rows

Arrays = Mapping[str, NDArray[Any]]
TOLERANCE = 1e-4
"""Largest |difference| of an fp32 graph from a published array."""
_SHOTS = re.compile(r"(\d+)shot_score")


@dataclass(frozen=True, slots=True, kw_only=True)
class ConformanceRow:
    """One array."""

    key: str
    error: float
    """Largest |difference|; infinite where a shape differs or a value is no number."""
    limit: float

    @property
    def passed(self) -> bool:
        """Whether it agrees."""
        return self.error <= self.limit


def check_conformance(bundle: Bundle, folder: Path, engine: EngineConfig) -> list[ConformanceRow]:
    """Run a golden set's inputs through a bundle that was exported from its weights.

    Args:
        bundle: of ``python -m export_tools.conformance DIR --bundle OUT``.
        folder: the golden set.
        engine: to run it in.

    Returns:
        One row an array.

    Raises:
        InputError: the folder is no golden set.
        BundleError: the bundle has no encoder for normalised pictures, or no heads.
        EngineError: an engine cannot run a graph.
    """
    config = _read_config(folder / "config.json")
    inputs, expected = (_read_arrays(folder / name) for name in ("inputs.npz", "outputs.npz"))
    settings = AdaptClipSettings.from_spec(bundle.manifest.scorers[0])
    encoder, zero_shot, few_shot = (
        open_role(bundle, role, engine)
        for role in ("encoder_normalised", "head_zero_shot", "head_few_shot")
    )
    if encoder is None or zero_shot is None or few_shot is None:
        raise BundleError(
            f"{bundle.location}: expected encoder_normalised and both heads; make it with "
            "python -m export_tools.conformance DIR --bundle OUT"
        )
    (name,) = encoder.inputs
    pictures = {
        key: encoder.infer({name: np.ascontiguousarray(value, np.float32)})
        for key, value in inputs.items()
        if key == "query" or key.startswith("prompt_")
    }
    rows = list(_token_rows(pictures, settings, expected))
    rows += _zero_shot_rows(zero_shot, pictures["query"], settings, expected)
    shots = sorted(int(found[1]) for key in expected if (found := _SHOTS.fullmatch(key)))
    for count in shots:
        judged = _few_shot(few_shot, pictures, config["query_class"], settings, count)
        last = settings.tokens[-1][1]
        for key, value in judged.items():
            wanted = {MAP: "map", "fused": "score"}.get(key)
            wanted = wanted or {ROW: f"align_idx_L{last}", DISTANCE: f"align_min_L{last}"}[key]
            rows += _compare(f"{count}shot_{wanted}", value, expected, exact=key == ROW)
    return rows


def _token_rows(
    pictures: Mapping[str, Arrays], settings: AdaptClipSettings, expected: Arrays
) -> Iterator[ConformanceRow]:
    for picture, found in pictures.items():
        yield from _compare(f"{picture}_cls", found[CLASS_TOKEN], expected)
        for (_, layer), name in zip(settings.tokens, settings.names(), strict=True):
            key = f"{picture}_patch_L{layer}"
            if key in expected:  # theirs have the class token in front
                yield from _compare(key, found[name], {key: expected[key][:, 1:]})


def _zero_shot_rows(
    head: InferenceEngine, query: Arrays, settings: AdaptClipSettings, expected: Arrays
) -> Iterator[ConformanceRow]:
    last = settings.names()[-1]
    found = head.infer({last: query[last], CLASS_TOKEN: query[CLASS_TOKEN]})
    yield from _compare("zero_map", found[MAP], expected)
    scores = [
        fuse(float(branches), float(one.max()), text_branches=settings.text_branches)
        for branches, one in zip(found[SCORE], found[MAP], strict=True)
    ]
    yield from _compare("zero_score", np.array(scores), expected)


def _few_shot(
    head: InferenceEngine,
    pictures: Mapping[str, Arrays],
    classes: list[str],
    settings: AdaptClipSettings,
    count: int,
) -> dict[str, NDArray[Any]]:
    """Each query against its class's references."""
    parts: list[Arrays] = []
    for row, name in enumerate(classes):
        good, query = pictures[f"prompt_{name}"], pictures["query"]
        tensors = {token: query[token][row : row + 1] for token in (*settings.names(), CLASS_TOKEN)}
        for memory, token in zip(settings.memory_names(), settings.names(), strict=True):
            tensors[memory] = unit_rows(good[token][:count].reshape(-1, good[token].shape[-1]))
        parts.append(head.infer(tensors))
    joined = {key: np.concatenate([part[key] for part in parts]) for key in (MAP, ROW, DISTANCE)}
    joined["fused"] = np.array(
        [fuse(float(part[SCORE][0]), float(part[MAP].max()), text_branches=None) for part in parts]
    )
    return joined


def _compare(
    key: str, value: NDArray[Any], expected: Arrays, *, exact: bool = False
) -> Iterator[ConformanceRow]:
    """A row where the set has the array; sets differ in what they hold."""
    if key not in expected:
        return
    wanted, error = expected[key], np.inf
    if value.shape == wanted.shape:
        difference = np.abs(value.astype(np.float64) - wanted.astype(np.float64))
        error = float(np.where(np.isfinite(difference), difference, np.inf).max(initial=0.0))
    yield ConformanceRow(key=key, error=error, limit=0.0 if exact else TOLERANCE)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
        list(config["query_class"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}: expected the configuration of a golden set: {error}") from error
    return dict(config)


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as stored:
            return {key: stored[key] for key in stored.files}
    except (OSError, ValueError, zipfile.BadZipFile) as error:
        raise InputError(f"{path}: expected arrays of a golden set: {error}") from error
