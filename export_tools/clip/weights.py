"""A CLIP model from a preset, a folder, a repository of the hub, or one file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from edge_sdk.errors import InputError
from export_tools.clip.config import (
    ClipConfig,
    PictureTowerSettings,
    TextConfig,
    VisionConfig,
    parse_open_clip,
)
from export_tools.clip.hub import fetch
from export_tools.clip.presets import PRESETS
from export_tools.clip.state import load_text, load_vision
from export_tools.clip.text import TextTower
from export_tools.clip.tokenizer import PromptTokenizer, build_clip_tokenizer, load_tokenizer
from export_tools.clip.transformers_names import parse_transformers, to_openai_names
from export_tools.clip.vision import VisionTower
from export_tools.tensors import read_tensors

_LAYOUTS: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("open_clip_config.json", ("open_clip_model.safetensors", "open_clip_pytorch_model.bin")),
    ("config.json", ("model.safetensors",)),
)
"""(configuration, weights, the first that is there) of open_clip and of transformers."""
_HEAD_DIM = 64


@dataclass(frozen=True, kw_only=True, eq=False)
class LoadedClip:
    """Both towers with their weights, in evaluation mode."""

    name: str
    config: ClipConfig
    vision: VisionTower
    text: TextTower
    tokenizer: PromptTokenizer
    source: str
    """For people: repository and commit, or the file."""
    sha256: str
    """Of the file of weights; of random weights, of their description."""
    licence: str
    training_data: str
    is_random: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Found:
    """Files of a model."""

    name: str
    weights: Path
    config: ClipConfig | None
    tokenizer: Path | None
    source: str
    rename: Callable[[Mapping[str, Tensor], str], dict[str, Tensor]] | None


def load_clip(
    source: str,
    settings: PictureTowerSettings | None = None,
    *,
    revision: str | None = None,
    sha256: str | None = None,
    offline: bool = False,
) -> LoadedClip:
    """Load a model.

    Args:
        source: name of a preset; a folder in the layout of open_clip or of transformers; a file
            with a state dict in OpenAI's names, whose sizes say the configuration; or
            ``owner/name`` of the hub.
        settings: picture size and blocks; None: the preset's, or as ``default_settings`` says.
        revision: of a repository.
        sha256: expected of the file of weights.
        offline: use no network.

    Raises:
        InputError: an unknown tower; nothing to fetch or a wrong digest; a tensor that is missing,
            left over, of another shape or not finite; code in the file; another tokenizer; a size
            that is no multiple of the patch.
    """
    found = _find(source, revision=revision, offline=offline)
    tensors, kept = read_tensors(found.weights, sha256=sha256)
    state = {name.removeprefix("module."): value.float() for name, value in tensors.items()}
    if found.rename is not None:
        state = found.rename(state, str(found.weights))
    config = found.config or config_of_state(state, str(found.weights))
    preset = PRESETS.get(source)
    if preset is not None and config.vision != preset.config.vision:
        raise InputError(f"{source}: expected {preset.config.vision}, got {config.vision}")
    tower_settings = settings or (preset.settings if preset else default_settings(config))
    vision, text = VisionTower(config, tower_settings), TextTower(config)
    load_vision(vision, state, str(found.weights))
    load_text(text, state, str(found.weights))
    sizes = {"context_length": config.text.context_length, "vocab_size": config.text.vocab_size}
    return LoadedClip(
        name=found.name,
        config=config,
        vision=vision.eval(),
        text=text.eval(),
        tokenizer=load_tokenizer(found.tokenizer, **sizes)
        if found.tokenizer
        else build_clip_tokenizer(**sizes),
        source=found.source,
        sha256=kept.sha256,
        licence=preset.licence if preset else "unknown",
        training_data=preset.training_data if preset else "unknown",
        is_random=False,
    )


def random_clip(
    name: str, settings: PictureTowerSettings | None = None, *, seed: int = 0
) -> LoadedClip:
    """A preset's towers with random weights: for tests and timing, never for parts.

    Raises:
        InputError: no such preset, or settings that do not fit it.
    """
    if name not in PRESETS:
        raise InputError(f"tower: expected one of {', '.join(PRESETS)}, got {name!r}")
    return build_random_clip(
        name, PRESETS[name].config, settings or PRESETS[name].settings, seed=seed
    )


def build_random_clip(
    name: str, config: ClipConfig, settings: PictureTowerSettings, *, seed: int
) -> LoadedClip:
    """Towers of any configuration with random weights of the usual size."""
    vision, text = VisionTower(config, settings), TextTower(config)
    generator = torch.Generator().manual_seed(seed)
    for tower in (vision, text):
        _draw(tower, generator)
    return LoadedClip(
        name=name,
        config=config,
        vision=vision.eval(),
        text=text.eval(),
        tokenizer=build_clip_tokenizer(
            context_length=config.text.context_length, vocab_size=config.text.vocab_size
        ),
        source=f"random numbers, seed {seed}",
        sha256=f"{seed:064x}",
        licence="Apache-2.0",
        training_data="nothing",
        is_random=True,
    )


def default_settings(config: ClipConfig) -> PictureTowerSettings:
    """The native size, the ends of the quarters, and the last three quarters dual path."""
    layers = config.vision.layers
    ends = sorted({max(1, round(layers * quarter / 4)) for quarter in (1, 2, 3, 4)})
    return PictureTowerSettings(
        image_size_px=config.vision.native_size_px,
        layers=tuple(ends),
        dual_path_layers=layers - layers // 4,
    )


def config_of_state(state: Mapping[str, Tensor], source: str) -> ClipConfig:
    """Read the sizes off a state dict in OpenAI's names; QuickGELU, as OpenAI's are.

    Raises:
        InputError: the tensors that tell are missing.
    """
    try:
        conv, embed = state["visual.conv1.weight"], state["text_projection"].shape[1]
        grid = round((state["visual.positional_embedding"].shape[0] - 1) ** 0.5)
        width, patch_px = conv.shape[0], conv.shape[2]
        context, text_width = state["positional_embedding"].shape
        vocabulary = state["token_embedding.weight"].shape[0]
    except (KeyError, IndexError, ValueError) as error:
        raise InputError(f"{source}: expected a CLIP state dict, got no {error}") from error
    return ClipConfig(
        embed_dim=embed,
        vision=VisionConfig(
            width=width,
            layers=_blocks(state, "visual.transformer.resblocks."),
            heads=max(1, width // _HEAD_DIM),
            patch_size_px=patch_px,
            native_size_px=grid * patch_px,
        ),
        text=TextConfig(
            width=text_width,
            layers=_blocks(state, "transformer.resblocks."),
            heads=max(1, text_width // _HEAD_DIM),
            context_length=context,
            vocab_size=vocabulary,
        ),
        activation="quick_gelu",
    )


def _blocks(state: Mapping[str, Tensor], prefix: str) -> int:
    return len({name[len(prefix) :].split(".")[0] for name in state if name.startswith(prefix)})


def _find(source: str, *, revision: str | None, offline: bool) -> _Found:
    path = Path(source)
    if source in PRESETS:
        fetched = fetch(PRESETS[source].repository, revision=revision, offline=offline)
        label = f"{PRESETS[source].repository} at {fetched.commit}"
        return replace(_in_folder(fetched.folder), name=source, source=label)
    if path.is_dir():
        return _in_folder(path)
    if path.is_file():
        return _Found(
            name=path.stem,
            weights=path,
            config=None,
            tokenizer=None,
            source=path.name,
            rename=None,
        )
    if source.count("/") == 1 and not source.startswith((".", "/")):
        fetched = fetch(source, revision=revision, offline=offline)
        return replace(
            _in_folder(fetched.folder), name=source, source=f"{source} at {fetched.commit}"
        )
    raise InputError(
        f"tower: expected one of {', '.join(PRESETS)}, a folder, a file or owner/name of the hub, "
        f"got {source!r}"
    )


def _in_folder(folder: Path) -> _Found:
    for config_name, weights_names in _LAYOUTS:
        config_path = folder / config_name
        weights = next((folder / one for one in weights_names if (folder / one).is_file()), None)
        if not config_path.is_file() or weights is None:
            continue
        document = _read_json(config_path)
        is_open_clip = config_name == "open_clip_config.json"
        parse = parse_open_clip if is_open_clip else parse_transformers
        tokenizer = folder / "tokenizer.json"
        return _Found(
            name=folder.name,
            weights=weights,
            config=parse(document, str(config_path)),
            tokenizer=tokenizer if tokenizer.is_file() else None,
            source=f"{folder.name}/{weights.name}",
            rename=None if is_open_clip else to_openai_names,
        )
    names = sorted(path.name for path in folder.glob("*"))
    wanted = "; or ".join(f"{config} beside {' or '.join(names)}" for config, names in _LAYOUTS)
    raise InputError(f"{folder}: expected {wanted}, got {names}")


def _read_json(path: Path) -> Mapping[str, Any]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: expected JSON: {error}") from error
    if not isinstance(document, dict):
        raise InputError(f"{path}: expected a JSON object, got {type(document).__name__}")
    return document


def _draw(module: nn.Module, generator: torch.Generator) -> None:
    """Norms at 1, matrices of variance 1 / inputs: tokens of the size of a trained tower's."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            is_norm = ".ln_" in f".{name}"
            if is_norm and name.endswith("weight"):
                parameter.fill_(1.0)
            elif parameter.ndim < 2:
                parameter.normal_(std=0.02, generator=generator)
            else:
                parameter.normal_(std=parameter[0].numel() ** -0.5, generator=generator)
