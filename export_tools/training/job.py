"""One run of ``edge-train``: from the command line's words to files."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

import torch
from safetensors import SafetensorError

from edge_sdk.errors import ConfigError, EdgeError, EngineError
from export_tools.adaptclip.checkpoint import save_adapters, save_released
from export_tools.adaptclip.command import load_tower
from export_tools.cli import recipe_of
from export_tools.output import Terminal
from export_tools.threads import use_cores
from export_tools.training.checkpoint import checkpoint_of
from export_tools.training.examples import BaseData, collect
from export_tools.training.feature_cache import FeatureCache
from export_tools.training.frozen import FrozenBackbone, clip_backbone, cnn_backbone
from export_tools.training.store import FeatureStore
from export_tools.training.train import Trained, TrainingSettings, train, what_is_kept

_COLUMNS = {
    "visual": "visual",
    "textual": "textual",
    "prompt_query": "prompt-query",
    "image": "image AUROC",
    "pixel": "pixel AUROC",
    "zero_shot": "zero-shot",
    "distance": "distance",
}
"""Key of a row -> heading."""


class _Table:
    """A line an epoch."""

    def __init__(self, terminal: Terminal, backbone: FrozenBackbone) -> None:
        text = ("visual", "textual", "zero_shot")
        self._terminal = terminal
        self._keys = [key for key in _COLUMNS if backbone.text is not None or key not in text]
        headings = "  ".join(f"{_COLUMNS[key]:>12}" for key in self._keys)
        terminal.row(f"epoch  {headings}  seconds")

    def epoch(self, row: Mapping[str, Any]) -> None:
        """See ``Observer``."""
        cells = "  ".join(
            f"{'-' if row.get(key) is None else format(row[key], '.4f'):>12}" for key in self._keys
        )
        self._terminal.row(f"{row['epoch']:5d}  {cells}  {row.get('seconds', '-')!s:>7}")


def run_job(options: argparse.Namespace, cache: Path, *, table: TextIO) -> dict[str, Any]:
    """Train and write.

    Args:
        options: of the command.
        cache: folder of features.
        table: where a line an epoch is printed.

    Returns:
        The object of ``--json``.

    Raises:
        ConfigError: nothing can be written there, or a checkpoint lies there.
        EngineError: no such device.
        InputError: weights, base data or the checkpoint cannot be used, or the loss is no number.
        EdgeError: the disk is full.
    """
    start = time.perf_counter()
    terminal = Terminal(table=table)
    settings = TrainingSettings(
        epochs=options.epochs,
        batch=options.batch,
        learning_rate=options.learning_rate,
        seed=options.seed,
        validation=options.validation,
    )
    _check_places(options)
    device = _device(options.device, options.threads)
    data = collect(
        labelled=options.data,
        pairs=options.pairs,
        good=options.synthetic,
        variants=options.variants,
        seed=options.seed,
    )
    _say_what_there_is(data, terminal)
    terminal.stage(f"loading {options.clip or options.backbone}")
    backbone = (
        clip_backbone(load_tower(options), device)
        if options.clip
        else cnn_backbone(recipe_of(options), device)
    )
    kept = FeatureCache(cache, int(options.cache_gib * 2**30))
    store = FeatureStore(backbone, kept)
    try:
        store.prepare(data.examples, terminal.watch)
    except EdgeError as error:
        if not options.resume:
            raise
        raise type(error)(f"{error}; {what_is_kept(checkpoint_of(options.out))}") from error
    if kept.left_out:
        terminal.stage(
            f"{kept.left_out} pictures' features do not fit in {options.cache_gib:g} GiB and are "
            "worked out anew each time: --cache-gib"
        )
    ready = time.perf_counter()
    trained = train(
        store,
        data.examples,
        options.out,
        settings=settings,
        observer=_Table(terminal, backbone),
        resume=options.resume,
    )
    notes = _notes(options, backbone, data, trained)
    _write(options, trained, backbone, notes)
    seconds = {"features": ready - start, "training": time.perf_counter() - ready}
    terminal.stage(
        f"{options.out}: {sum(trained.adapters.counts().values())} numbers trained on "
        f"{trained.trained_on} pictures, {trained.held_out} held out; features "
        f"{seconds['features']:.0f} s, training {seconds['training']:.0f} s"
    )
    return {
        "out": str(options.out),
        "released_layout": None
        if options.released_layout is None
        else str(options.released_layout),
        "notes": notes,
        "counts": trained.adapters.counts(),
        "trained_on": trained.trained_on,
        "held_out": trained.held_out,
        "left_out": data.left_out,
        "history": [dict(row) for row in trained.history],
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
    }


def _check_places(options: argparse.Namespace) -> None:
    """Refuse what would fail after hours."""
    if options.out.suffix != ".safetensors":
        raise ConfigError(f"--out {options.out}: expected a file that ends in .safetensors")
    for place in (options.out, options.released_layout):
        if place is not None and (place.is_dir() or not place.absolute().parent.is_dir()):
            raise ConfigError(f"{place}: expected a file in a folder that is there")
    checkpoint = checkpoint_of(options.out)
    if checkpoint.exists() and not options.resume:
        raise ConfigError(
            f"{checkpoint}: a training was broken off here; --resume goes on with it, without "
            "this file it begins anew"
        )


def _device(name: str, threads: int | None) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise EngineError("--device cuda: expected a CUDA device, torch finds none")
    # Of several ways to add up the one that always adds in the same order. On a GPU cuBLAS needs
    # CUBLAS_WORKSPACE_CONFIG=:4096:8 for it; without, torch warns and goes on.
    torch.use_deterministic_algorithms(mode=True, warn_only=True)
    use_cores(threads)
    return torch.device(name)


def _say_what_there_is(data: BaseData, terminal: Terminal) -> None:
    terminal.stage(f"base data: {data.description}")
    if data.left_out:
        terminal.stage(f"{data.left_out} bad pictures without a mask are left out")
    if len({example.category for example in data.examples}) == 1:
        terminal.stage(
            "one category alone: adapters learn what is wrong with anything from many of them"
        )


def _notes(
    options: argparse.Namespace, backbone: FrozenBackbone, data: BaseData, trained: Trained
) -> dict[str, str]:
    last = trained.history[-1]
    found = {f"held_out_{name}": last.get(name) for name in ("image", "pixel", "zero_shot")}
    return {
        "backbone": backbone.name,
        "weights_sha256": backbone.weights_sha256,
        "layers": ",".join(str(layer) for layer in backbone.layers),
        "size": "x".join(map(str, backbone.size)),
        "licence": options.licence,
        "commercial_use": options.commercial_use,
        "training_data": options.training_data or data.description,
        "epochs": str(options.epochs),
        "seed": str(options.seed),
        **{name: str(value) for name, value in found.items() if value is not None},
    }


def _write(
    options: argparse.Namespace,
    trained: Trained,
    backbone: FrozenBackbone,
    notes: Mapping[str, str],
) -> None:
    """Write the adapters; the checkpoint goes when they are there."""
    adapters = trained.adapters.cpu()
    partial = options.out.with_name(f".{options.out.name}.partial")
    try:
        save_adapters(adapters, partial, notes=notes)
        partial.replace(options.out)
        if options.released_layout is not None and backbone.text is not None:
            save_released(adapters, backbone.text.tower.cpu(), options.released_layout)
        checkpoint_of(options.out).unlink(missing_ok=True)
    except (OSError, RuntimeError, SafetensorError) as error:
        raise EdgeError(f"{options.out}: cannot be written: {error}") from error
