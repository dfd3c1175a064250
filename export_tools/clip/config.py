"""What a CLIP model's own configuration says, and the presets whose weights are known.

Only the standard library is imported here, so that a command can name towers without torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from edge_sdk.errors import InputError

Activation = Literal["quick_gelu", "gelu"]
HEAD_DIM = 64
"""Width of an attention head of every CLIP vision tower."""
CLIP_MEAN = (0.48145466, 0.4578275, 0.40821073)
"""Channel means of a picture in 0..1 that CLIP was trained with."""
CLIP_STD = (0.26862954, 0.26130258, 0.27577711)

_KNOWN_VISION = {"image_size", "layers", "width", "patch_size", "head_width", "mlp_ratio"}
_KNOWN_TEXT = {"context_length", "vocab_size", "width", "heads", "layers", "mlp_ratio"}
_KNOWN_TEXT |= {"hf_tokenizer_name"}  # the tokenizer.json beside it is what is read
_IGNORED_MODEL = {"custom_text", "init_logit_scale", "init_logit_bias"}


@dataclass(frozen=True, slots=True, kw_only=True)
class VisionConfig:
    """A plain vision transformer."""

    width: int
    layers: int
    heads: int
    patch_size_px: int
    native_size_px: int
    """Side of the square picture that the position table was made for."""
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        _check_positive("vision", self, ("width", "layers", "heads", "patch_size_px"))
        _check_heads("vision", self.width, self.heads)
        _check_side("vision native size", self.native_size_px, self.patch_size_px)


@dataclass(frozen=True, slots=True, kw_only=True)
class TextConfig:
    """A causal text transformer."""

    width: int
    layers: int
    heads: int
    context_length: int = 77
    vocab_size: int = 49408
    mlp_ratio: float = 4.0

    def __post_init__(self) -> None:
        _check_positive("text", self, ("width", "layers", "heads", "context_length", "vocab_size"))
        _check_heads("text", self.width, self.heads)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipConfig:
    """Both towers and what joins them."""

    embed_dim: int
    """Width of the space that pictures and texts share."""
    vision: VisionConfig
    text: TextConfig
    activation: Activation
    mean: tuple[float, float, float] = CLIP_MEAN
    std: tuple[float, float, float] = CLIP_STD

    def __post_init__(self) -> None:
        _check_positive("model", self, ("embed_dim",))
        if self.activation not in ("quick_gelu", "gelu"):
            raise InputError(f"activation: expected quick_gelu or gelu, got {self.activation!r}")


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureTowerSettings:
    """How a vision tower is used: at what size, and which blocks speak."""

    image_size_px: int
    """Side of the square picture in pixels; a multiple of the patch."""
    layers: tuple[int, ...]
    """1-based blocks whose output becomes patch tokens, ascending."""
    dual_path_layers: int
    """How many blocks, counted from the last, keep the value-value stream beside the original.

    The publication's ``DPAM_layer`` is one more than this number.
    """
    alias_quirk: bool = field(default=False)
    """Give, for the last ordinary block, the final value-value stream, as the published program
    does by an addition in place. False gives that block's own output."""

    def check(self, vision: VisionConfig) -> None:
        """Refuse what a tower cannot do.

        Raises:
            InputError: a size that is no multiple of the patch, or blocks that do not exist.
        """
        _check_side("image size", self.image_size_px, vision.patch_size_px)
        ascending = sorted(set(self.layers))
        if (
            not ascending
            or list(self.layers) != ascending
            or not (ascending[0] >= 1 and ascending[-1] <= vision.layers)
        ):
            raise InputError(
                f"layers: expected ascending blocks out of 1..{vision.layers}, "
                f"got {list(self.layers)}"
            )
        if not 0 <= self.dual_path_layers <= vision.layers:
            raise InputError(
                f"dual path blocks: expected 0 to {vision.layers}, got {self.dual_path_layers}"
            )


def grid_side(config: VisionConfig, image_size_px: int) -> int:
    """Patches along a side of the picture."""
    return image_size_px // config.patch_size_px


def parse_open_clip(document: Mapping[str, Any], source: str) -> ClipConfig:
    """Read an ``open_clip_config.json``, or one of open_clip's model configurations.

    As open_clip does, the exact GELU is taken where ``quick_gelu`` is not said.

    Args:
        document: the parsed JSON.
        source: its name, for messages.

    Raises:
        InputError: a key is missing, or says a tower that is no plain CLIP transformer.
    """
    model = _mapping(document.get("model_cfg", document), f"{source}: model_cfg")
    preprocess = _mapping(document.get("preprocess_cfg", {}), f"{source}: preprocess_cfg")
    vision = _mapping(model.get("vision_cfg"), f"{source}: vision_cfg")
    text = _mapping(model.get("text_cfg"), f"{source}: text_cfg")
    known = {"embed_dim", "vision_cfg", "text_cfg", "quick_gelu"} | _IGNORED_MODEL
    _refuse_unknown(model, known, source)
    _refuse_unknown(vision, _KNOWN_VISION, f"{source}: vision_cfg")
    _refuse_unknown(text, _KNOWN_TEXT, f"{source}: text_cfg")
    width = _integer(vision, "width", source)
    head_width = vision.get("head_width", HEAD_DIM)
    if not isinstance(head_width, int) or head_width < 1:
        raise InputError(f"{source}: head_width: expected a positive number, got {head_width!r}")
    return ClipConfig(
        embed_dim=_integer(model, "embed_dim", source),
        vision=VisionConfig(
            width=width,
            layers=_integer(vision, "layers", source),
            heads=width // head_width,
            patch_size_px=_integer(vision, "patch_size", source),
            native_size_px=_integer(vision, "image_size", source),
            mlp_ratio=_ratio(vision, source),
        ),
        text=TextConfig(
            width=_integer(text, "width", source),
            layers=_integer(text, "layers", source),
            heads=_integer(text, "heads", source),
            context_length=_integer(text, "context_length", source, default=77),
            vocab_size=_integer(text, "vocab_size", source, default=49408),
            mlp_ratio=_ratio(text, source),
        ),
        activation="quick_gelu" if model.get("quick_gelu", False) else "gelu",
        mean=_triple(preprocess.get("mean", CLIP_MEAN), f"{source}: mean"),
        std=_triple(preprocess.get("std", CLIP_STD), f"{source}: std"),
    )


def _refuse_unknown(document: Mapping[str, Any], known: set[str], source: str) -> None:
    said = {key for key, value in document.items() if value is not None}
    unknown = sorted(said - known)
    if unknown:
        raise InputError(
            f"{source}: expected a plain CLIP transformer ({', '.join(sorted(known))}), "
            f"got {', '.join(unknown)}"
        )


def _mapping(value: object, source: str) -> Mapping[str, Any]:
    if not isinstance(value, Mapping):
        raise InputError(f"{source}: expected an object, got {value!r}")
    return cast("Mapping[str, Any]", value)


def _integer(
    document: Mapping[str, Any], key: str, source: str, *, default: int | None = None
) -> int:
    value = document.get(key, default)
    if not isinstance(value, int) or isinstance(value, bool):
        raise InputError(f"{source}: {key}: expected a whole number, got {value!r}")
    return value


def _ratio(document: Mapping[str, Any], source: str) -> float:
    value = document.get("mlp_ratio", 4.0)
    if not isinstance(value, (int, float)) or not 0 < value <= 64:
        raise InputError(f"{source}: mlp_ratio: expected a number above 0, got {value!r}")
    return float(value)


def _triple(value: object, source: str) -> tuple[float, float, float]:
    if not isinstance(value, Sequence) or len(value) != 3:
        raise InputError(f"{source}: expected three numbers, got {value!r}")
    red, green, blue = (float(one) for one in value)
    return red, green, blue


def _check_positive(part: str, config: object, names: Sequence[str]) -> None:
    for name in names:
        value = getattr(config, name)
        if not isinstance(value, int) or value < 1:
            raise InputError(f"{part} {name}: expected a positive number, got {value!r}")


def _check_heads(part: str, width: int, heads: int) -> None:
    if width % heads:
        raise InputError(f"{part}: expected a width that {heads} heads divide, got {width}")


def _check_side(part: str, side_px: int, patch_size_px: int) -> None:
    if side_px < patch_size_px or side_px % patch_size_px:
        raise InputError(
            f"{part}: expected a multiple of the patch of {patch_size_px} px, got {side_px} px"
        )
