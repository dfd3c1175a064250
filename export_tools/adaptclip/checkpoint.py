"""Adapters on disk: the layout of the released checkpoints, and ours in safetensors.

A released checkpoint is a pickled dictionary of three state dicts. Its shared prompt-query heads
are listed once a layer, its visual adapter has a misspelt key, and it repeats embeddings that are
CLIP's own; all three are checked here rather than believed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from edge_sdk.errors import InputError
from export_tools.adaptclip.adapters import Adapters, AdapterSettings
from export_tools.adaptclip.textual import template_tokens
from export_tools.backbones.spec import BackboneSpec
from export_tools.clip.text import TextTower
from export_tools.tensors import Source, load_strictly, read_tensors

_LEARNERS = ("textual_learner", "visual_learner", "pq_learner")
_NOTES = "edge-adapters"
_WORDS_AGREE = 1e-4
"""Largest difference between embeddings that a checkpoint repeats and those of the tower."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReleasedAdapters:
    """A checkpoint that the authors of the method have published."""

    file: str
    sha256: str
    training_data: str
    licence: str = "GPL-2.0 (model card)"


RELEASED = {
    "mvtec": ReleasedAdapters(
        file="12_4_128_train_on_mvtec_3adapters_batch8/epoch_15.pth",
        sha256="90b95703879af490b6ce841e141625516db63d23fdaef4cf86731b3d7bb3b1bb",
        training_data="MVTec AD, test split (CC BY-NC-SA 4.0)",
    ),
    "visa": ReleasedAdapters(
        file="12_4_128_train_on_visa_3adapters_batch8/epoch_15.pth",
        sha256="777821da141eb57d159acef46868440faf773a2dd0acf5c276ec3f258c27edee",
        training_data="VisA, test split (CC BY 4.0)",
    ),
}
"""Known by their digest, whatever the file is called."""


def load_adapters(
    path: Path, spec: BackboneSpec, text: TextTower | None, *, sha256: str | None = None
) -> tuple[Adapters, Source]:
    """Read adapters of either layout, in evaluation mode.

    Sizes are read off the tensors, and so is whether the learners fit the backbone.

    Args:
        path: ``.pth`` in the released layout, or ``.safetensors`` as ``save_adapters`` writes.
        spec: of the backbone they are for.
        text: its text tower; None where there is none.
        sha256: expected digest of the file.

    Raises:
        InputError: another digest, code in the file, a tensor missing, left over, of another
            shape or not finite, shared heads that differ, or another CLIP's embeddings.
    """
    tensors, source = read_tensors(path, sha256=sha256)
    names = _common_names(tensors, str(path), len(spec.tokens), text)
    adapters = Adapters(
        spec,
        text_width=None if text is None else text.token_embedding.embedding_dim,
        settings=_settings_of(names, str(path)),
    )
    load_strictly(adapters, names, str(path))
    return adapters.eval(), source


def save_adapters(adapters: Adapters, path: Path, *, notes: Mapping[str, str]) -> None:
    """Write our layout: safetensors, each tensor once.

    Args:
        adapters: any.
        path: of the new file.
        notes: what to say beside, such as the training data.
    """
    state = {name: value.contiguous() for name, value in adapters.state_dict().items()}
    save_file(state, str(path), metadata={_NOTES: json.dumps(dict(notes), sort_keys=True)})


def read_notes(path: Path) -> dict[str, str]:
    """What ``save_adapters`` wrote beside the tensors; empty for files of others.

    Raises:
        InputError: the file cannot be read, or its notes are no texts.
    """
    if path.suffix != ".safetensors":
        return {}
    try:
        with safe_open(str(path), framework="pt") as file:
            notes = json.loads((file.metadata() or {}).get(_NOTES, "{}"))
    except (OSError, SafetensorError, ValueError) as error:
        raise InputError(f"{path}: expected adapters, cannot be read: {error}") from error
    if not isinstance(notes, dict) or not all(isinstance(one, str) for one in notes.values()):
        raise InputError(f"{path}: {_NOTES}: expected texts by name, got {notes!r}")
    return notes


def save_released(adapters: Adapters, text: TextTower, path: Path) -> None:
    """Write the released layout, for programs that read it.

    Args:
        adapters: with all three.
        text: the text tower whose embeddings the layout repeats.
        path: of the new file.
    """
    torch.save(released_state(adapters, text), path)


def released_state(adapters: Adapters, text: TextTower) -> dict[str, dict[str, Tensor]]:
    """The three state dicts of the released layout; shared heads are the same tensors.

    Raises:
        InputError: an adapter is missing.
    """
    if adapters.textual is None or adapters.visual is None:
        raise InputError("released layout: expected all three adapters, got no text branch")
    state: dict[str, dict[str, Tensor]] = {learner: {} for learner in _LEARNERS}
    for name, value in adapters.state_dict().items():
        for released in released_names(name, len(adapters.prompt_query.norms)):
            learner, _, key = released.partition(".")
            state[learner][key] = value
    state["textual_learner"].update(_repeated_words(text, adapters.textual.contexts))
    return state


def released_names(name: str, layers: int) -> Iterator[str]:
    """Ours to theirs; a shared head has one name a layer."""
    part, _, rest = name.partition(".")
    if part == "textual":
        yield f"textual_learner.{rest}"
    elif part == "visual":
        yield f"visual_learner.{rest.replace('local_adapter', 'local_adater')}"
    elif rest.startswith("norms."):
        yield f"pq_learner.sharebn.{rest.removeprefix('norms.')}"
    else:
        head, _, key = rest.partition(".")
        for layer in range(layers):
            yield f"pq_learner.{head.replace('_head', '_adapter')}.{layer}.{key}"


def _our_name(name: str) -> tuple[str, int]:
    """Theirs to ours, and the layer of a shared head, 0 for everything else."""
    learner, _, key = name.partition(".")
    if learner == "textual_learner":
        return f"textual.{key}", 0
    if learner == "visual_learner":
        return f"visual.{key.replace('local_adater', 'local_adapter')}", 0
    if key.startswith("sharebn."):
        return f"prompt_query.norms.{key.removeprefix('sharebn.')}", 0
    head, layer, rest = (*key.split(".", 2), "", "")[:3]
    if not layer.isdigit() or not head.endswith("_adapter"):
        return f"prompt_query.{key}", 0
    return f"prompt_query.{head.replace('_adapter', '_head')}.{rest}", int(layer)


def _common_names(
    tensors: Mapping[str, Tensor], source: str, layers: int, text: TextTower | None
) -> dict[str, Tensor]:
    """Our names, whichever layout it is; what the released layout repeats is checked and dropped.

    Raises:
        InputError: repetitions differ.
    """
    if not any(name.startswith(_LEARNERS) for name in tensors):
        return dict(tensors)
    names: dict[str, Tensor] = {}
    listed: dict[str, set[int]] = {}
    words: dict[str, Tensor] = {}
    for theirs, value in tensors.items():
        ours, layer = _our_name(theirs)
        if ours.startswith(("textual.token", "textual.tokenized")):
            words[ours.removeprefix("textual.")] = value
            continue
        if ours in names and not torch.equal(names[ours], value):
            raise InputError(f"{source}: {theirs}: expected the same tensor for every layer")
        names[ours] = value
        if "_head." in ours:
            listed.setdefault(ours, set()).add(layer)
    for ours, found in sorted(listed.items()):
        if found != set(range(layers)):
            raise InputError(
                f"{source}: {ours}: expected it listed for {layers} layers, got {sorted(found)}"
            )
    _check_words(words, names, source, text)
    return names


def _check_words(
    words: Mapping[str, Tensor], names: Mapping[str, Tensor], source: str, text: TextTower | None
) -> None:
    """The embeddings that a checkpoint repeats show whether it was trained on this CLIP."""
    if text is None or not words or "textual.ctx_pos" not in names:
        return
    expected = _repeated_words(text, names["textual.ctx_pos"].shape[2])
    if words.keys() != expected.keys():
        raise InputError(
            f"{source}: textual_learner: expected {sorted(expected)}, got {sorted(words)}"
        )
    for name, value in expected.items():
        got = words[name]
        if got.shape != value.shape:
            raise InputError(
                f"{source}: textual_learner.{name}: expected {tuple(value.shape)}, "
                f"got {tuple(got.shape)}"
            )
        difference = float((got.double() - value.double()).abs().max()) if got.numel() else 0.0
        if not difference <= _WORDS_AGREE:
            raise InputError(
                f"{source}: textual_learner.{name}: expected the embeddings of this CLIP's text "
                f"tower, got some {difference:.3g} apart: trained with another CLIP"
            )


def _repeated_words(text: TextTower, contexts: int) -> dict[str, Tensor]:
    tokens = template_tokens(text, contexts)
    words = text.token_embedding(tokens).detach()[None, None]
    repeated: dict[str, Tensor] = {}
    for side in ("pos", "neg"):
        repeated[f"token_prefix_{side}"] = words[:, :, :1]
        repeated[f"token_suffix_{side}"] = words[:, :, 1 + contexts :]
        repeated[f"tokenized_prompts_{side}"] = tokens.int()[None, None]
    return repeated


def _settings_of(names: Mapping[str, Tensor], source: str) -> AdapterSettings:
    """Read the sizes off the tensors.

    Raises:
        InputError: the tensors that tell are missing.
    """
    defaults = asdict(AdapterSettings())
    try:
        defaults["mid"] = names["prompt_query.local_head.0.weight"].shape[0]
        if "textual.ctx_pos" in names:
            defaults["contexts"] = names["textual.ctx_pos"].shape[2]
        if "visual.global_adapter.fc.0.weight" in names:
            inner, dim = names["visual.global_adapter.fc.0.weight"].shape
            defaults["reduction"] = dim // inner
    except (KeyError, IndexError, ValueError, ZeroDivisionError) as error:
        raise InputError(f"{source}: expected AdaptCLIP adapters, got no {error}") from error
    return AdapterSettings(**defaults)
