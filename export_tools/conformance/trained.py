"""Answers for two optimisation steps: ``train.npz``."""

from __future__ import annotations

import re
from collections.abc import Iterator

import torch
from torch import Tensor

from export_tools.adaptclip.adapters import Adapters
from export_tools.adaptclip.checkpoint import released_names
from export_tools.adaptclip.prompts import unit
from export_tools.conformance.encoded import Encoded
from export_tools.conformance.golden_set import GoldenSet, Towers
from export_tools.conformance.ledger import EXACT, GRADIENT, LOSS, STATE, Answer, Tolerance
from export_tools.training.losses import HeadLosses
from export_tools.training.step import FrozenText, TrainingBatch, training_step

_FILE = "train.npz"
_STEP = re.compile(r"train_step(\d+)_")


def training_answers(
    golden: GoldenSet, towers: Towers, adapters: Adapters, encoded: Encoded
) -> Iterator[Answer]:
    """Losses, gradients and the state after each step. The adapters are trained in place."""
    with torch.no_grad():
        query = towers.vision(golden.tensor("train_query"))
        prompt = towers.vision(golden.tensor("train_prompt"))
    batch = TrainingBatch(
        class_feature=query.class_feature,
        tokens=query.tokens,
        memories=tuple(unit(layer[:, 1:]) for layer in prompt.tokens),
        labels=golden.tensor("train_label"),
        masks=golden.tensor("train_mask"),
    )
    text = FrozenText(tower=towers.text, static=encoded.static_text)
    optimizer = torch.optim.Adam(
        adapters.parameters(),
        lr=golden.number("learning_rate"),
        betas=tuple(golden.number("adam_betas")),
    )
    found = (_STEP.match(key) for key in golden.arrays[_FILE])
    for step in range(1, max((int(match[1]) for match in found if match), default=0) + 1):
        losses = training_step(adapters, batch, optimizer, text=text)
        heads = {"va": losses.visual, "ta": losses.textual}
        heads |= {
            f"pq_L{layer}": head
            for layer, head in zip(golden.number("features_list"), losses.prompt_query, strict=True)
        }
        for name, head in heads.items():
            if head is not None:
                yield _answer(f"train_step{step}_{name}", _stack(head), LOSS)
        yield _answer(f"train_step{step}_total_global", losses.total_global(), LOSS)
        yield _answer(f"train_step{step}_total_local", losses.total_local(), LOSS)
        yield from _state(step, adapters)


def _state(step: int, adapters: Adapters) -> Iterator[Answer]:
    gradients = {name: parameter.grad for name, parameter in adapters.named_parameters()}
    layers = len(adapters.prompt_query.norms)
    for name, value in adapters.state_dict().items():
        key = next(iter(released_names(name, layers)))
        gradient = gradients.get(name)
        if gradient is not None:
            yield _answer(f"train_step{step}_grad/{key}", gradient, GRADIENT)
        is_count = name.endswith("num_batches_tracked")
        yield _answer(f"train_step{step}_after/{key}", value, EXACT if is_count else STATE)


def _stack(head: HeadLosses) -> Tensor:
    return torch.stack(list(head))


def _answer(key: str, value: Tensor, tolerance: Tolerance) -> Answer:
    # A copy: the next step changes parameters in place.
    return Answer(file=_FILE, key=key, value=value.detach().clone().numpy(), tolerance=tolerance)
