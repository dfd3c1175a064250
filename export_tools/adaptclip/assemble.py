"""Towers and adapters put together, with what a manifest has to say of both."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from edge_sdk.errors import InputError
from export_tools.adaptclip.adapters import Adapters, AdapterSettings
from export_tools.adaptclip.checkpoint import RELEASED, load_adapters, read_notes
from export_tools.adaptclip.parts import AdaptClipParts
from export_tools.adaptclip.prompts import encode_static_prompts
from export_tools.backbones.spec import clip_spec
from export_tools.clip.weights import LoadedClip
from export_tools.tensors import Source

CommercialUse = Literal["yes", "no", "unknown"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Provenance:
    """What the user says of the weights; None: what is known of them."""

    licence: str | None = None
    commercial_use: CommercialUse | None = None
    training_data: str | None = None


def assemble(
    clip: LoadedClip,
    adapters: Path | None,
    *,
    adapters_sha256: str | None = None,
    provenance: Provenance | None = None,
) -> AdaptClipParts:
    """Join towers with adapters.

    Args:
        clip: the towers.
        adapters: in the released layout or ours; None: a tower by itself, or random adapters where
            the towers are random.
        adapters_sha256: expected digest of the file.
        provenance: what the user says.

    Raises:
        InputError: the adapters do not fit the towers, or are trained ones on random towers.
    """
    spec = clip_spec(clip.vision)
    said = provenance or Provenance()
    source: Source | None = None
    notes: dict[str, str] = {}
    made: Adapters | None = None
    if clip.is_random:
        if adapters is not None:
            raise InputError(f"{adapters}: expected no trained adapters beside random towers")
        made = Adapters(
            spec, text_width=clip.config.text.width, settings=AdapterSettings(), seed=0
        ).eval()
    elif adapters is not None:
        made, source = load_adapters(adapters, spec, clip.text, sha256=adapters_sha256)
        notes = read_notes(adapters)
        layers = clip.vision.settings.layers
        check_notes(notes, adapters, weights_sha256=clip.sha256, layers=layers)
    return AdaptClipParts(
        name=clip.name,
        config=clip.config,
        vision=clip.vision,
        text=clip.text,
        static_text=encode_static_prompts(clip.text, clip.tokenizer),
        adapters=made,
        weights_source=_one_line(clip.source, source),
        weights_sha256=clip.sha256 if source is None else _joined(clip.sha256, source.sha256),
        random_weights=clip.is_random,
        licence=said.licence or _licence(clip, source, notes),
        commercial_use=said.commercial_use or _commercial_use(clip, notes),
        training_data=said.training_data or _training_data(clip, source, notes),
    )


def _one_line(clip: str, adapters: Source | None) -> str:
    if adapters is None:
        return clip
    return f"{clip}; adapters {adapters.path.name}, sha256 {adapters.sha256}"


def _joined(*digests: str) -> str:
    return hashlib.sha256("".join(digests).encode()).hexdigest()


def check_notes(
    notes: Mapping[str, str], path: Path, *, weights_sha256: str, layers: Sequence[int]
) -> None:
    """Hold what a file says of itself against a backbone; files of others say nothing.

    Raises:
        InputError: the adapters were trained on another backbone, or on other blocks of it.
    """
    expected = {"weights_sha256": weights_sha256, "layers": ",".join(map(str, layers))}
    for name, own in expected.items():
        if notes.get(name, own) != own:
            raise InputError(
                f"{path}: {name}: expected adapters of this backbone, {own}, "
                f"got some that were trained with {notes[name]}"
            )


def _licence(clip: LoadedClip, adapters: Source | None, notes: Mapping[str, str]) -> str:
    if adapters is None:
        return clip.licence
    released = _released(adapters)
    return (
        f"{clip.licence}; adapters: {released[0] if released else notes.get('licence', 'unknown')}"
    )


def _training_data(clip: LoadedClip, adapters: Source | None, notes: Mapping[str, str]) -> str:
    if adapters is None:
        return clip.training_data
    released = _released(adapters)
    saw = released[1] if released else notes.get("training_data", "unknown")
    return f"{clip.training_data}; adapters: {saw}"


def _commercial_use(clip: LoadedClip, notes: Mapping[str, str]) -> CommercialUse:
    if clip.is_random:
        return "yes"
    # Of the tower nobody but the user knows; that the adapters may not be used is certain.
    return "no" if notes.get("commercial_use") == "no" else "unknown"


def _released(adapters: Source | None) -> tuple[str, str] | None:
    for known in RELEASED.values():
        if adapters is not None and adapters.sha256 == known.sha256:
            return known.licence, known.training_data
    return None
