"""Answers for adapters and fusion: the second half of ``outputs.npz``."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from edge_sdk.errors import InputError
from export_tools.adaptclip.adapters import Adapters
from export_tools.adaptclip.fusion import upsample_map
from export_tools.adaptclip.model import AdaptClip, FewShot, ZeroShot
from export_tools.adaptclip.prompt_query import build_memory
from export_tools.conformance.encoded import OUTPUTS, Encoded, answer
from export_tools.conformance.golden_set import GoldenSet, Towers
from export_tools.conformance.ledger import EXACT, FEATURE, PROBABILITY, Answer

_SMALL_SIZE = (256, 256)
_SMALL_STEP = 5
_FEW_SHOT = re.compile(r"(\d+)shot(_noctx)?_")


def judgement_answers(
    golden: GoldenSet, towers: Towers, adapters: Adapters, encoded: Encoded
) -> Iterator[Answer]:
    """Zero-shot, and few-shot for every number of shots that the set has arrays of.

    Raises:
        InputError: there are fewer prompts than shots.
    """
    model = AdaptClip(
        static_text=encoded.static_text,
        learned_text=encoded.learned_text,
        visual=adapters.visual,
        prompt_query=adapters.prompt_query,
        image_size=(golden.number("image_size"),) * 2,
        grid=towers.vision.grid,
        sigma=float(golden.number("sigma")),
    ).eval()
    query = encoded.query
    yield from _zero_shot(model.zero_shot(query.class_feature, query.patches[-1]))
    cases = {(shots, "") for shots in golden.number("shots")}
    for key in golden.arrays[OUTPUTS]:
        if found := _FEW_SHOT.match(key):
            cases.add((int(found[1]), found[2] or ""))
    for shots, variant in sorted(cases):
        adapters.prompt_query.context = variant != "_noctx"
        judged = _by_class(golden, model, encoded, shots)
        yield from _few_shot(f"{shots}shot{variant}", golden.number("features_list"), judged)
    adapters.prompt_query.context = True


def _by_class(
    golden: GoldenSet, model: AdaptClip, encoded: Encoded, shots: int
) -> list[tuple[list[int], FewShot]]:
    """Each class's queries against its own references."""
    classes = golden.number("query_class")
    judged: list[tuple[list[int], FewShot]] = []
    for name in sorted(set(classes)):
        rows = [row for row, own in enumerate(classes) if own == name]
        if name not in encoded.prompts or encoded.prompts[name].class_feature.shape[0] < shots:
            raise InputError(f"inputs.npz: prompt_{name}: expected at least {shots} pictures")
        good = encoded.prompts[name].patches
        memories = build_memory([layer[shot] for layer in good] for shot in range(shots))
        patches = [layer[rows] for layer in encoded.query.patches]
        judged.append((rows, model.few_shot(encoded.query.class_feature[rows], patches, memories)))
    return judged


def _zero_shot(found: ZeroShot) -> Iterator[Answer]:
    for name, branch, score, local in zip(
        ("va", "ta"), found.branches, found.scores, found.local_maps, strict=True
    ):
        yield answer(f"{name}_global_logit", branch.global_logits, FEATURE)
        yield answer(f"{name}_global_score", score, PROBABILITY)
        yield answer(f"{name}_local_prob", local, PROBABILITY)
    yield answer("zero_map_raw", found.raw_map, PROBABILITY)
    yield answer("zero_map", found.map, PROBABILITY)
    yield answer("zero_map_max", found.peak, PROBABILITY)
    yield answer("zero_score", found.score, PROBABILITY)
    small = upsample_map(found.map, _SMALL_SIZE)[:, ::_SMALL_STEP, ::_SMALL_STEP]
    yield answer("zero_map_256", small, PROBABILITY)


def _few_shot(
    prefix: str, layers: Sequence[int], judged: list[tuple[list[int], FewShot]]
) -> Iterator[Answer]:
    order = torch.tensor([row for rows, _ in judged for row in rows]).argsort()

    def joined(parts: list[Tensor]) -> Tensor:
        return torch.cat(parts)[order]

    found = [one for _, one in judged]
    adapter = [one.prompt_query for one in found]
    for at, layer in enumerate(layers):
        for name, values, tolerance in (
            ("align_min", [one.matches[at].distance for one in adapter], PROBABILITY),
            ("align_idx", [one.matches[at].row for one in adapter], EXACT),
            ("align_map", [one.align_maps[at] for one in found], PROBABILITY),
            ("fused_feat", [one.fused[at] for one in adapter], FEATURE),
            ("fused_bn", [one.normed[at] for one in adapter], FEATURE),
            ("pq_local_prob", [one.local_maps[at] for one in found], PROBABILITY),
            ("pq_global_logit", [one.global_logits[at] for one in adapter], FEATURE),
        ):
            yield answer(f"{prefix}_{name}_L{layer}", joined(values), tolerance)
    for name, values in (
        ("pq_local_map", [one.local_map for one in found]),
        ("align_map", [one.align_map for one in found]),
        ("pq_global_score", [one.prompt_query_score for one in found]),
        ("map_avg", [one.mean_map for one in found]),
        ("map_raw", [one.raw_map for one in found]),
        ("map", [one.map for one in found]),
        ("map_max", [one.peak for one in found]),
        ("score_avg", [one.mean_score for one in found]),
        ("score", [one.score for one in found]),
    ):
        yield answer(f"{prefix}_{name}", joined(values), PROBABILITY)
