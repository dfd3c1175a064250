"""Does the bundle's graph, fed and run by the device half, answer as the file itself does?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from edge_sdk.bundle.manifest import ParityRow
from edge_sdk.config import EngineConfig
from edge_sdk.engines.selector import open_engine
from edge_sdk.errors import GateError, InputError
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.records import FloatArray, UInt8Array
from edge_sdk.scoring.end_to_end import EndToEndScorer, EndToEndSettings
from export_tools.anomalib.contract import LABEL, Contract
from export_tools.anomalib.files import ModelFile
from export_tools.anomalib.original import OriginalFile
from export_tools.anomalib.words import ImportOptions, graph_spec, input_spec, scorer_spec
from export_tools.faithful import Findings, Listener, installed_engines
from export_tools.parity import HEADER, ScoredMap, as_bound, compare_maps
from export_tools.parity_rows import MapParity
from export_tools.pictures import ParityPictures

PRECISION: Final = "fp32"
_ADDING_ORDER = 1e-5
"""Differences below this are told as this: what the order makes in which a CPU adds."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Comparison:
    """What was found on the judged pictures."""

    findings: Findings
    scores: Sequence[float]
    """Of the file itself, one a picture."""
    map_range: float
    """Largest value of all the file's maps less the smallest."""

    def telling(self, contract: Contract) -> list[int]:
        """Pictures whose score was not cut off, by score: differences would be seen in them."""
        inside = [
            index
            for index, score in enumerate(self.scores)
            if not contract.is_normalised or 0 < score < 1
        ]
        return sorted(inside, key=lambda index: self.scores[index])


def engines_for(file: ModelFile) -> tuple[str, ...]:
    """Engines that can run it: OpenVINO runs both formats, onnxruntime its own."""
    return installed_engines() if file.format == "onnx" else ("openvino",)


def compare_with_file(
    file: ModelFile,
    contract: Contract,
    options: ImportOptions,
    *,
    pictures: ParityPictures,
    listener: Listener,
) -> Comparison:
    """Compare maps, scores and verdicts; the gate is not applied.

    Both get the same resized pictures. The file gets them by numpy's own division and runs in its
    own library; the bundle's graph goes the device's way: its bytes, its engines, its scorer.

    Args:
        file: the export.
        contract: read out of it.
        options: what it does not say.
        pictures: the first four good, the others anything.
        listener: gets each row of the table as it is known.

    Raises:
        EngineError: an engine cannot run the graph.
        GateError: the file's labels are not what its scores and its cut say.
        InputError: on these pictures the file says the same of everything, so that nothing can be
            compared.
    """
    preprocess = Preprocessor(input_spec(contract, options))
    tensors = [preprocess(as_frame(one)).tensor for one in pictures.judged]
    good = [preprocess(as_frame(one)).tensor for one in pictures.references]
    settings = EndToEndSettings.from_spec(scorer_spec(contract), graph_spec(file, contract))
    original = OriginalFile(file, contract)
    answers = [
        _ask(original, contract, settings, tensor)
        for tensor in listener.watch("pictures through the file", [*good, *tensors])
    ]
    _check_labels(file, contract, answers)
    scored = [(one.map, one.score) for one in answers[len(good) :]]
    _check_scores(file, contract, [score for _, score in scored])
    cut = contract.threshold
    threshold = max(one.score for one in answers[: len(good)]) if cut is None else cut
    listener.row(HEADER)
    rows = compare_maps(
        scored,
        _through_engines(file, settings, tensors),
        threshold=threshold,
        precision=PRECISION,
        show=listener.row,
    )
    maps = [one.map for one in answers]
    return Comparison(
        findings=Findings(rows=rows, threshold=threshold),
        scores=[score for _, score in scored],
        map_range=float(max(one.max() for one in maps) - min(one.min() for one in maps)),
    )


def manifest_rows(findings: Findings) -> tuple[ParityRow, ...]:
    """The rows as a manifest has them: bounds, which do not depend on the CPU that measured."""
    return tuple(
        ParityRow(
            graph="end_to_end",
            precision=PRECISION,
            engine=row.engine,
            compared=row.compared,
            pictures=row.pictures,
            weights="real",
            max_abs_map=as_bound(max(row.max_abs, _ADDING_ORDER)),
            mean_abs_map=as_bound(row.mean_abs),
            rank_correlation=1 - as_bound(1 - row.rank_correlation),
            verdict_flips=row.verdict_flips,
            verdict="failed" if row.failures else "ok",
        )
        for row in findings.rows
        if isinstance(row, MapParity)
    )


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Answer:
    """The file's own, of one picture."""

    map: FloatArray
    score: float
    label: bool | None


def _ask(
    original: OriginalFile, contract: Contract, settings: EndToEndSettings, tensor: UInt8Array
) -> _Answer:
    planes = (tensor.transpose(0, 3, 1, 2) / 255.0).astype(np.float32)
    values = original.infer({contract.input.name: planes})
    label = values.get(LABEL)
    anomaly_map = np.asarray(values[settings.map], np.float32)
    return _Answer(
        map=anomaly_map.reshape(anomaly_map.shape[-2:]),
        score=float(values[settings.score].reshape(())),
        label=None if label is None else bool(label.reshape(())),
    )


def _through_engines(
    file: ModelFile, settings: EndToEndSettings, tensors: Sequence[UInt8Array]
) -> Mapping[str, Sequence[ScoredMap]]:
    results = {}
    for name in engines_for(file):
        engine = open_engine(
            name,
            model=file.model,
            weights=file.weights,
            device="cpu",
            precision=PRECISION,
            threads=EngineConfig().threads,
        )
        scorer = EndToEndScorer(engine, settings)
        answers = [scorer.infer(tensor) for tensor in tensors]
        results[name] = [(anomaly_map, score) for score, anomaly_map in answers]
        engine.close()
    return results


def _check_labels(file: ModelFile, contract: Contract, answers: Sequence[_Answer]) -> None:
    """The cut that was read must be the one the file goes by."""
    cut = contract.threshold
    if cut is None:
        return
    wrong = [one for one in answers if one.label is not None and one.label != (one.score > cut)]
    if wrong:
        raise GateError(
            f"{file.path}: {LABEL} is {wrong[0].label} where the score is {wrong[0].score:g} and "
            f"its own cut {cut:g}, in {len(wrong)} of {len(answers)} pictures"
        )


def _check_scores(file: ModelFile, contract: Contract, scores: Sequence[float]) -> None:
    if contract.is_normalised and not all(0 <= score <= 1 for score in scores):
        raise GateError(
            f"{file.path}: expected scores from 0 to 1, where the graph cuts them off, got "
            f"{min(scores):g} to {max(scores):g}"
        )
    telling = {score for score in scores if not contract.is_normalised or 0 < score < 1}
    if len(telling) < 2:
        raise InputError(
            f"{file.path}: of {len(scores)} pictures, {len(telling)} got a score that is not cut "
            f"off (scores {min(scores):g} to {max(scores):g}), so nothing can be compared; give "
            "pictures of the parts it was trained on with --pictures"
        )
