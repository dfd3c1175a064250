"""Format ``torch``: safetensors of a tower or a head, with what it takes to build it again.

No code is stored and none is loaded. Each file names what it takes and gives, so that whoever
loads it needs no manifest.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, cast

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from edge_sdk.bundle.manifest import GraphSpec
from edge_sdk.engines.tensors import TensorSpec
from edge_sdk.errors import InputError
from export_tools.adaptclip.graphs import FewShotHead, NearestHead, ZeroShotHead
from export_tools.adaptclip.model import AdaptClip
from export_tools.adaptclip.parts import AdaptClipParts
from export_tools.adaptclip.prompt_query import PromptQueryAdapter
from export_tools.adaptclip.visual import VisualAdapter
from export_tools.backbones.spec import BackboneSpec, TokenSpec
from export_tools.bundle_variants import TORCH_PATH, variant_spec
from export_tools.clip.config import ClipConfig, PictureTowerSettings, TextConfig, VisionConfig
from export_tools.clip.vision import PatchEncoder, VisionTower
from export_tools.gates import GraphFile
from export_tools.graph import PICTURE_INPUT, NormalisedEncoder, PictureEncoder

_ABOUT = "about"
_LENGTH_BYTES = 8
_PROMPT_QUERY = "prompt_query."


@dataclass(frozen=True, kw_only=True, eq=False)
class TorchPart:
    """A module, and what it takes and gives, in order."""

    module: nn.Module
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[str, ...]


def torch_parts(
    parts: AdaptClipParts, *, with_normalised: bool
) -> tuple[tuple[GraphSpec, ...], dict[str, bytes]]:
    """Encoder and heads in fp32: entries of the manifest, and files by path.

    Args:
        parts: left as they are.
        with_normalised: add the encoder without its normalisation.
    """
    graphs = [parts.encoder_spec(), *parts.head_specs()]
    if with_normalised:
        graphs.append(parts.normalised_spec())
    specs, files = [], {}
    for graph in graphs:
        path = torch_path(graph.role)
        data = _encoder(parts, graph) if "encoder" in graph.role else _head(parts, graph)
        part = GraphFile(format="torch", precision="fp32", files=(data,), recipe="weights")
        specs.append(variant_spec(graph, part, (path,)))
        files[path] = data
    return tuple(specs), files


def torch_path(role: str) -> str:
    """Where the file of a role lies in a bundle."""
    return TORCH_PATH if role == "encoder" else f"graphs/{role}_torch.safetensors"


def load_part(data: bytes) -> TorchPart:
    """Build what a file holds; on the CPU, in fp32, for inference.

    Raises:
        InputError: it is no such file, or its weights do not fit what it says of itself.
    """
    about, tensors = _read(data)
    try:
        module = _tower(about) if "config" in about else _heads(about, tensors)
        inner = module.model if isinstance(module, (PictureEncoder, NormalisedEncoder)) else module
        target = inner.tower if isinstance(inner, PatchEncoder) else inner.get_submodule("model")
        target.load_state_dict(tensors, strict=True)
        inputs = tuple(
            TensorSpec(name=name, dtype=dtype, shape=tuple(shape))
            for name, dtype, shape in about["inputs"]
        )
        outputs = tuple(map(str, about["outputs"]))
    except (KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        raise InputError(f"torch part: expected a tower or a head of AdaptCLIP: {error}") from error
    return TorchPart(
        module=module.eval().requires_grad_(requires_grad=False), inputs=inputs, outputs=outputs
    )


def _encoder(parts: AdaptClipParts, graph: GraphSpec) -> bytes:
    about = {
        "config": asdict(parts.config),
        "settings": asdict(parts.vision.settings),
        **_ends(graph),
    }
    return _write(parts.vision.state_dict(), about)


def _head(parts: AdaptClipParts, graph: GraphSpec) -> bytes:
    model = parts.model
    is_zero_shot = graph.role == "head_zero_shot"
    state = {
        name: value
        for name, value in model.state_dict().items()
        if not (is_zero_shot and name.startswith(_PROMPT_QUERY))
    }
    about = {
        "role": graph.role,
        "layers": parts.layers,
        "dim": parts.config.embed_dim,
        "grid": model.grid,
        "image_size": model.image_size,
        "sigma": parts.sigma,
        "context": model.prompt_query is None or model.prompt_query.context,
        **_ends(graph),
    }
    return _write(state, about)


def _ends(graph: GraphSpec) -> dict[str, Any]:
    return {
        "inputs": [
            (one.name, "uint8" if one.name == PICTURE_INPUT else "float32", one.shape)
            for one in graph.inputs
        ],
        "outputs": [one.name for one in graph.outputs],
    }


def _write(state: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    tensors = {name: value.detach().cpu().float().contiguous() for name, value in state.items()}
    written = json.dumps(about, sort_keys=True, separators=(",", ":"))
    return bytes(save(tensors, metadata={_ABOUT: written}))


def _read(data: bytes) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        length = int.from_bytes(data[:_LENGTH_BYTES], "little")
        header = json.loads(data[_LENGTH_BYTES : _LENGTH_BYTES + length])
        about = json.loads(header["__metadata__"][_ABOUT])
        return cast("dict[str, Any]", about), load(data)
    except (SafetensorError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"torch part: expected a safetensors file of ours: {error}") from error


def _tower(about: Mapping[str, Any]) -> nn.Module:
    said = about["config"]
    mean, std = (tuple(said[name]) for name in ("mean", "std"))
    config = ClipConfig(
        **said
        | {
            "vision": VisionConfig(**said["vision"]),
            "text": TextConfig(**said["text"]),
            "mean": mean,
            "std": std,
        }
    )
    settings = about["settings"]
    tower = VisionTower(
        config, PictureTowerSettings(**settings | {"layers": tuple(settings["layers"])})
    )
    encoder = PatchEncoder(tower)
    if about["inputs"][0][0] == PICTURE_INPUT:
        return PictureEncoder(encoder, mean, std)
    return NormalisedEncoder(encoder)


def _heads(about: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> nn.Module:
    dim, layers = about["dim"], about["layers"]
    rows, cols = about["grid"]
    height, width = about["image_size"]
    spec = BackboneSpec(
        tokens=tuple(
            TokenSpec(layer=layer, dim=dim, grid=(rows, cols), stride_px=height // rows)
            for layer in layers
        ),
        has_text=True,
    )
    first_of = {
        name: None if key not in tensors else len(tensors[key])
        for name, key in (
            ("visual", "visual.local_adapter.fc.0.weight"),
            ("prompt_query", f"{_PROMPT_QUERY}local_head.0.weight"),
        )
    }
    inner, mid = first_of["visual"], first_of["prompt_query"]
    model = AdaptClip(
        static_text=torch.zeros(2, dim),
        learned_text=torch.zeros(2, dim) if "learned_text" in tensors else None,
        visual=None if inner is None else VisualAdapter(dim, dim // inner),
        prompt_query=None
        if mid is None
        else PromptQueryAdapter(spec, mid, context=bool(about["context"])),
        image_size=(height, width),
        grid=(rows, cols),
        sigma=about["sigma"],
    )
    if about["role"] == "head_zero_shot":
        return ZeroShotHead(model)
    return (NearestHead if mid is None else FewShotHead)(model, len(layers))
