"""CLIP towers whose weights are published, and how AdaptCLIP uses each.

Only the standard library is imported here, so that a command can name towers without torch.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from export_tools.clip.config import ClipConfig, PictureTowerSettings, TextConfig, VisionConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipPreset:
    """One tower."""

    repository: str
    """On the Hugging Face hub. Its revision is the user's to pin: the commit that was taken is
    recorded in the bundle."""
    config: ClipConfig
    settings: PictureTowerSettings
    licence: str
    training_data: str


def _preset(
    repository: str,
    *,
    embed: int,
    vision: tuple[int, int, int, int],
    text: tuple[int, int],
    quick_gelu: bool,
    size_px: int,
    layers: tuple[int, ...],
    dual: int,
    licence: str,
    training_data: str,
) -> ClipPreset:
    width, depth, patch_px, native_px = vision
    text_width, text_depth = text
    return ClipPreset(
        repository=repository,
        config=ClipConfig(
            embed_dim=embed,
            vision=VisionConfig(
                width=width,
                layers=depth,
                heads=width // 64,
                patch_size_px=patch_px,
                native_size_px=native_px,
            ),
            text=TextConfig(width=text_width, layers=text_depth, heads=text_width // 64),
            activation="quick_gelu" if quick_gelu else "gelu",
        ),
        settings=PictureTowerSettings(image_size_px=size_px, layers=layers, dual_path_layers=dual),
        licence=licence,
        training_data=training_data,
    )


_OPENAI = "MIT (code); the model card asks for study before any deployment"
_WIT = "WebImageText, 400 million pairs of picture and text (OpenAI, not published)"
_QUARTERS = (3, 6, 9, 12)

PRESETS: Mapping[str, ClipPreset] = MappingProxyType(
    {
        "ViT-L-14-336": _preset(
            "timm/vit_large_patch14_clip_336.openai",
            embed=768,
            vision=(1024, 24, 14, 336),
            text=(768, 12),
            quick_gelu=True,
            size_px=518,
            layers=(6, 12, 18, 24),
            dual=19,
            licence=_OPENAI,
            training_data=_WIT,
        ),
        "ViT-B-16-plus-240": _preset(
            "timm/vit_base_patch16_plus_clip_240.laion400m_e31",
            embed=640,
            vision=(896, 12, 16, 240),
            text=(640, 12),
            quick_gelu=False,
            size_px=240,
            layers=_QUARTERS,
            dual=9,
            licence="MIT",
            training_data="LAION-400M",
        ),
        "ViT-B-16": _preset(
            "timm/vit_base_patch16_clip_224.openai",
            embed=512,
            vision=(768, 12, 16, 224),
            text=(512, 12),
            quick_gelu=True,
            size_px=240,
            layers=_QUARTERS,
            dual=9,
            licence=_OPENAI,
            training_data=_WIT,
        ),
        "ViT-B-32": _preset(
            "timm/vit_base_patch32_clip_224.openai",
            embed=512,
            vision=(768, 12, 32, 224),
            text=(512, 12),
            quick_gelu=True,
            size_px=256,
            layers=_QUARTERS,
            dual=9,
            licence=_OPENAI,
            training_data=_WIT,
        ),
        "TinyCLIP-ViT-8M-16": _preset(
            "wkcn/TinyCLIP-ViT-8M-16-Text-3M-YFCC15M",
            embed=512,
            vision=(256, 10, 16, 224),
            text=(256, 3),
            quick_gelu=True,
            size_px=240,
            layers=(3, 5, 8, 10),
            dual=8,
            licence="MIT",
            training_data="YFCC-15M, distilled from a CLIP of LAION-400M",
        ),
    }
)
"""The paper's two towers, OpenAI's smaller ones, and one for small boxes.

The layers of the paper are those of ViT-L-14; for the others, whose choice was not published, they
are the ends of the quarters. The third block of ViT-B-16-plus-240 is its last ordinary one: see
``PictureTowerSettings.alias_quirk``.
"""
