"""What the value-value stream costs over the plain tower, measured in turns and by arithmetic.

    python benchmarks/dual_path.py ViT-B-16:240 ViT-L-14-336:518 [--rounds 7]

Both towers give the patches of the same layers and the class feature, exported alike, with random
weights by seed; the plain one reads them from its ordinary stream.
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from statistics import median

import numpy as np

from edge_sdk.config import EngineConfig
from edge_sdk.engines.selector import open_engine
from edge_sdk.protocols import InferenceEngine
from edge_sdk.scoring.adaptclip_heads import CLASS_TOKEN
from export_tools.adaptclip.graphs import token_name
from export_tools.clip.config import ClipConfig, PictureTowerSettings, grid_side
from export_tools.clip.presets import PRESETS
from export_tools.clip.vision import PatchEncoder
from export_tools.clip.weights import random_clip
from export_tools.graph import PICTURE_INPUT, export_encoder

ENGINES = ("onnxruntime", "openvino")
HEADER = (
    "| tower | px | engine | plain ms | with value-value ms | extra cost measured | arithmetic |\n"
    "|---|---|---|---|---|---|---|"
)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("towers", nargs="+", metavar="TOWER:PX")
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    print(HEADER, flush=True)
    for one in options.towers:
        tower, _, side = one.partition(":")
        dual = replace(PRESETS[tower].settings, image_size_px=int(side))
        plain = replace(dual, dual_path_layers=0)
        config = PRESETS[tower].config
        extra = multiply_adds(config, dual) / multiply_adds(config, plain) - 1
        graphs = [_graph(tower, settings) for settings in (plain, dual)]
        for name in ENGINES:
            engines = [_open(name, graph) for graph in graphs]
            times = _in_turns(engines, int(side), options.rounds)
            ratio = median(after / before for before, after in times) - 1
            before, after = (1000 * median(column) for column in zip(*times, strict=True))
            print(
                f"| {tower} | {side} | {name} | {before:.1f} | {after:.1f} | {ratio:+.1%} | "
                f"{extra:+.1%} |",
                flush=True,
            )
            for engine in engines:
                engine.close()
    return 0


def multiply_adds(config: ClipConfig, settings: PictureTowerSettings) -> int:
    """Of one picture through the tower, as it is written for export.

    Args:
        config: sizes.
        settings: with 0 dual-path blocks: the plain tower.
    """
    vision = config.vision
    width, rows = vision.width, 1 + grid_side(vision, settings.image_size_px) ** 2
    hidden = int(width * vision.mlp_ratio)
    total = (rows - 1) * width * 3 * vision.patch_size_px**2
    first_dual = vision.layers - settings.dual_path_layers
    for layer in range(1, vision.layers + 1):
        is_dual = layer > first_dual
        # In a last block whose ordinary patches nobody reads, only the class token goes on.
        only_class = layer == vision.layers and (is_dual or layer not in settings.layers)
        query_rows = 1 if only_class else rows
        total += (query_rows + 2 * rows) * width * width  # query, key, value
        total += 2 * query_rows * rows * width  # attention
        total += query_rows * (width * width + 2 * width * hidden)  # projection, MLP
        if is_dual and layer <= max(settings.layers):
            total += 2 * rows * rows * width + rows * width * width
    return total + (len(settings.layers) * rows + 1) * width * config.embed_dim


def _graph(tower: str, settings: PictureTowerSettings) -> bytes:
    clip = random_clip(tower, settings, seed=1)
    return export_encoder(
        PatchEncoder(clip.vision),
        input_size=(settings.image_size_px,) * 2,
        mean=clip.config.mean,
        std=clip.config.std,
        output_names=[*map(token_name, settings.layers), CLASS_TOKEN],
    )


def _open(name: str, graph: bytes) -> InferenceEngine:
    return open_engine(
        name,
        model=graph,
        weights=None,
        device="cpu",
        precision="fp32",
        threads=EngineConfig().threads,
    )


def _in_turns(engines: list[InferenceEngine], side: int, rounds: int) -> list[tuple[float, float]]:
    picture = np.random.default_rng(0).integers(0, 256, (1, side, side, 3), np.uint8)
    times = []
    for turn in range(rounds + 1):
        taken = []
        for engine in engines:
            start = time.perf_counter()
            engine.infer({PICTURE_INPUT: picture})
            taken.append(time.perf_counter() - start)
        if turn:  # the first one warms up
            times.append((taken[0], taken[1]))
    return times


if __name__ == "__main__":
    sys.exit(main())
