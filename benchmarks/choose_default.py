"""Which backbone, stages and input size the built-in bundle takes: few-shot image AUROC.

    python benchmarks/choose_default.py --data FOLDER --configs lite0:256:3,5 lite0:320:4,5

Uses the product's own preprocessing, graph, scorer and metric. Choosing by this table is tuning
on these categories; what it promises must be shown on others.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edge_sdk.bundle.manifest import InputSpec, ResizeSpec
from edge_sdk.engines.selector import open_engine
from edge_sdk.evaluation.layouts import Category, find_categories
from edge_sdk.evaluation.sampling import draw_references
from edge_sdk.imaging import read_image
from edge_sdk.metrics import auroc
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor, mean_brightness
from edge_sdk.protocols import InferenceEngine
from edge_sdk.records import PatchFeatures, TokenGrid
from edge_sdk.scoring.nearest_neighbour import NearestNeighbourFactory, NearestNeighbourSettings
from export_tools.backbones.efficientnet_lite import (
    VARIANTS,
    EfficientNetLite,
    load_imagenet_weights,
)
from export_tools.graph import export_encoder
from export_tools.recipe import RECIPES
from export_tools.weights import load_weights

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """One candidate."""

    variant: str
    size: int
    layers: tuple[int, ...]


class Encoder:
    """A candidate's graph in onnxruntime, all its stages at once."""

    extractor_id = "benchmark"

    def __init__(self, variant: str, size: int, layers: Sequence[int]) -> None:
        model = EfficientNetLite(VARIANTS[variant], layers).eval()
        load_imagenet_weights(model, load_weights(RECIPES[variant].weights))
        self.layers = tuple(layers)
        names = [f"conv_{layer}" for layer in layers]
        graph = export_encoder(
            model, input_size=(size, size), mean=MEAN, std=STD, output_names=names
        )
        self._engine: InferenceEngine = open_engine(
            "onnxruntime", model=graph, weights=None, device="cpu", precision="fp32", threads=2
        )
        self._plain = self._preprocess = Preprocessor(
            InputSpec(
                size=(size, size),
                color="rgb",
                resize=ResizeSpec(mode="squash", kernel="area", antialias=True),
                mean=MEAN,
                std=STD,
            )
        )

    def match_brightness(self, references: Sequence[Path]) -> None:
        """From now on bring every picture to the brightness of these, as the device does."""
        plain = [self._plain(as_frame(read_image(path))) for path in references]
        self._preprocess = self._plain.with_brightness(mean_brightness(plain))

    def encode(self, path: Path) -> PatchFeatures:
        """Tokens of a picture file."""
        preprocessed = self._preprocess(as_frame(read_image(path)))
        (name,) = self._engine.inputs
        values = self._engine.infer({name: preprocessed.tensor})
        tokens = {}
        for layer in self.layers:
            rows = values[f"conv_{layer}"][0]
            side = round(len(rows) ** 0.5)
            tokens["conv", layer] = TokenGrid(rows=rows, grid=(side, side))
        return PatchFeatures(
            tokens=tokens,
            class_token=None,
            extractor_id=self.extractor_id,
            preprocessed=preprocessed,
        )


def evaluate(
    category: Category, encoder: Encoder, configs: Sequence[Config], shots: int, seeds: int
) -> dict[Config, list[float]]:
    """Image AUROC of each candidate, one a seed."""
    train = category.train
    found: dict[Config, list[float]] = {config: [] for config in configs}
    for seed in range(seeds):
        draw = draw_references(len(train), shots, seed)
        encoder.match_brightness([train[index] for index in draw])
        references = [encoder.encode(train[index]) for index in draw]
        scorers = {
            config: NearestNeighbourFactory(
                NearestNeighbourSettings(
                    tokens=tuple(("conv", layer) for layer in config.layers),
                    neighbourhood=3,
                    blur_sigma=0.0,
                    reach=0.03,
                    stillness=0.002,
                )
            ).fit(references)
            for config in configs
        }
        scores: dict[Config, dict[bool, list[float]]] = {
            config: {True: [], False: []} for config in configs
        }
        for picture in category.test:
            features = encoder.encode(picture.path)
            for config, scorer in scorers.items():
                scores[config][not picture.is_bad].append(scorer.score(features).image_score)
        for config in configs:
            found[config].append(auroc(scores[config][True], scores[config][False]))
    return found


def parse_config(text: str) -> Config:
    """``lite0:256:3,5``."""
    variant, size, layers = text.split(":")
    return Config(
        variant=f"efficientnet-{variant}",
        size=int(size),
        layers=tuple(int(layer) for layer in layers.split(",")),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--configs", type=parse_config, nargs="+", required=True)
    parser.add_argument("--shots", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=5)
    options = parser.parse_args()
    categories = find_categories([options.data])
    names = [category.name for category in categories]
    print("config", *names, "mean", "mean_without_pcb", "worst", sep="\t")
    groups: dict[tuple[str, int], list[Config]] = {}
    for config in options.configs:
        groups.setdefault((config.variant, config.size), []).append(config)
    for (variant, size), configs in groups.items():
        start = time.perf_counter()
        layers = sorted({layer for config in configs for layer in config.layers})
        encoder = Encoder(variant, size, layers)
        table: dict[Config, list[list[float]]] = {config: [] for config in configs}
        for category in categories:
            found = evaluate(category, encoder, configs, options.shots, options.seeds)
            for config, values in found.items():
                table[config].append(values)
        for config, rows in table.items():
            means = [float(np.mean(row)) for row in rows]
            without = [m for m, name in zip(means, names, strict=True) if "pcb" not in name]
            cells = [f"{np.mean(row):.3f}±{np.std(row, ddof=1):.3f}" for row in rows]
            label = f"{variant}:{size}:{','.join(map(str, config.layers))}"
            summary = (f"{np.mean(means):.4f}", f"{np.mean(without):.4f}", f"{min(means):.3f}")
            print(label, *cells, *summary, sep="\t", flush=True)
        print(f"# {variant}:{size} took {time.perf_counter() - start:.0f} s", flush=True)


if __name__ == "__main__":
    main()
