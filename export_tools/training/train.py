"""The training: epochs over the base data, a checkpoint and held-out figures after each.

As published: one good picture drawn for each query and epoch, the losses of all adapters summed,
Adam, a fixed number of epochs of which the last one counts. Chance depends on the seed and the
epoch alone, so that a training that was gone on with gives what an unbroken one gives.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch

from edge_sdk.errors import EdgeError, InputError
from export_tools.adaptclip.adapters import Adapters, AdapterSettings
from export_tools.training.checkpoint import (
    Progress,
    checkpoint_of,
    load_checkpoint,
    save_checkpoint,
)
from export_tools.training.examples import Example, seed_of
from export_tools.training.step import LEARNING_RATE, StepLosses, build_optimizer, training_step
from export_tools.training.store import FeatureStore
from export_tools.training.validation import draw_prompts, split_examples, validate


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """What the numbers depend on; the defaults are the published ones."""

    epochs: int = 15
    batch: int = 8
    learning_rate: float = LEARNING_RATE
    seed: int = 10
    validation: float = 0.2
    """Share of the base data that is held out; nothing of it is trained on."""

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch < 2:
            raise InputError(
                "training: expected at least 1 epoch and batches of at least 2 pictures, got "
                f"{self.epochs} and {self.batch}"
            )
        if not 0 < self.learning_rate < float("inf"):
            raise InputError(f"training: expected a rate above 0, got {self.learning_rate}")
        if not 0 <= self.validation <= 0.9:
            raise InputError(
                f"training: expected a share of 0 to 0.9 to hold out, got {self.validation}"
            )


class Observer(Protocol):
    """Is told how far a training is."""

    def epoch(self, row: Mapping[str, Any]) -> None:
        """An epoch is over; epoch 0 is what was found before the first."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Trained:
    """What came out."""

    adapters: Adapters
    history: Sequence[Mapping[str, Any]]
    """A row an epoch, the untrained adapters' as epoch 0."""
    trained_on: int
    held_out: int


def train(
    store: FeatureStore,
    examples: Sequence[Example],
    out: Path,
    *,
    settings: TrainingSettings,
    observer: Observer,
    adapter_settings: AdapterSettings | None = None,
    resume: bool = False,
) -> Trained:
    """Train adapters; a checkpoint beside ``out`` is replaced after every epoch.

    Args:
        store: has seen every example.
        examples: the base data.
        out: file that will be written; names the checkpoint.
        settings: of the training.
        observer: is told of every epoch.
        adapter_settings: sizes; None: the published ones.
        resume: go on from the checkpoint.

    Raises:
        InputError: too few pictures, a loss that is not finite, or a checkpoint that is missing
            or belongs to another configuration. The last good checkpoint is kept.
        EdgeError: the disk is full; likewise.
    """
    sizes = adapter_settings or AdapterSettings()
    training, held_out = split_examples(examples, settings.validation, settings.seed)
    _check_classes(training)
    backbone = store.backbone
    adapters = Adapters(
        backbone.spec, text_width=backbone.text_width, settings=sizes, seed=settings.seed
    ).to(backbone.device)
    optimizer = build_optimizer(adapters, settings.learning_rate)
    configuration = _configuration(store, examples, settings, sizes)
    checkpoint = checkpoint_of(out)
    if resume:
        done = load_checkpoint(checkpoint, adapters, optimizer, configuration=configuration)
    else:
        found = validate(adapters, store, held_out, seed=settings.seed)
        done = Progress(epochs=0, history=[{"epoch": 0, **found.row()}])
    for row in done.history:
        observer.epoch(row)
    history = [*done.history]
    for epoch in range(done.epochs + 1, settings.epochs + 1):
        start = time.perf_counter()
        try:
            losses = _run_epoch(
                adapters, store, training, optimizer, epoch=epoch, settings=settings
            )
            found = validate(adapters, store, held_out, seed=settings.seed)
            history.append({"epoch": epoch, **losses, **found.row()})
            save_checkpoint(
                checkpoint,
                adapters,
                optimizer,
                configuration=configuration,
                progress=Progress(epochs=epoch, history=history),
            )
        except EdgeError as error:
            raise type(error)(f"epoch {epoch}: {error}; {what_is_kept(checkpoint)}") from error
        observer.epoch({**history[-1], "seconds": round(time.perf_counter() - start, 1)})
    return Trained(
        adapters=adapters.eval(),
        history=history,
        trained_on=len(training),
        held_out=len(held_out),
    )


def _run_epoch(
    adapters: Adapters,
    store: FeatureStore,
    examples: Sequence[Example],
    optimizer: torch.optim.Optimizer,
    *,
    epoch: int,
    settings: TrainingSettings,
) -> dict[str, float]:
    """Mean losses over the steps."""
    rng = np.random.default_rng(seed_of(settings.seed, "order", epoch))
    order = [examples[i] for i in rng.permutation(len(examples))]
    prompts = draw_prompts(order, seed_of(settings.seed, "prompts", epoch))
    sums: dict[str, float] = {}
    spans = batches(len(order), settings.batch)
    for first, last in spans:
        batch = store.batch(order[first:last], prompts[first:last])
        losses = training_step(adapters, batch, optimizer, text=store.backbone.text)
        for name, value in _columns(losses).items():
            sums[name] = sums.get(name, 0.0) + value
    return {name: round(value / len(spans), 6) for name, value in sums.items()}


def batches(count: int, size: int) -> list[tuple[int, int]]:
    """(first, last) of each batch; a single picture over joins the batch before.

    A batch norm over one picture is none.
    """
    edges = [*range(0, count, size), count]
    if len(edges) > 2 and edges[-1] - edges[-2] == 1:
        del edges[-2]
    return list(pairwise(edges))


def _columns(losses: StepLosses) -> dict[str, float]:
    heads = {"visual": losses.visual, "textual": losses.textual}
    columns = {
        name: float(head.total().detach()) for name, head in heads.items() if head is not None
    }
    return columns | {
        "prompt_query": sum(float(head.total().detach()) for head in losses.prompt_query)
    }


def _check_classes(training: Sequence[Example]) -> None:
    bad = sum(example.is_bad for example in training)
    if not bad or bad == len(training):
        raise InputError(
            "training: expected good and bad pictures beside those that are held out, got "
            f"{len(training) - bad} good and {bad} bad; hold out fewer (--validation) or add data"
        )


def _configuration(
    store: FeatureStore,
    examples: Sequence[Example],
    settings: TrainingSettings,
    sizes: AdapterSettings,
) -> dict[str, Any]:
    said = {name: value for name, value in asdict(settings).items() if name != "epochs"}
    return {
        **said,
        **asdict(sizes),
        "backbone": store.backbone.name,
        "device": store.backbone.device.type,
        "extractor": store.backbone.identity,
        "data": store.digest(examples),
    }


def what_is_kept(checkpoint: Path) -> str:
    """For messages of a training that ends with an error."""
    if not checkpoint.is_file():
        return "no epoch was finished, so nothing is kept"
    return f"the last good checkpoint is kept, --resume goes on from it: {checkpoint}"
