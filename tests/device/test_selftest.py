from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import pytest
from bundle_samples import GOLDEN
from fakes import NumpyEngine
from numpy.typing import NDArray
from scenes import as_npy, engine_config, golden_answers, make_bundle, numpy_model

from edge_sdk.bundle import Bundle
from edge_sdk.errors import BundleError, EngineError, SelfTestError
from edge_sdk.model import Model, load_model
from edge_sdk.protocols import Encoder
from edge_sdk.records import FloatArray, PatchFeatures, Preprocessed, TokenGrid
from edge_sdk.selftest import run_self_test

TOKENS = "golden/expected/0/tokens_conv_1.npy"
MAP = "golden/expected/0/map.npy"
SCORE = "golden/expected/0/score.npy"
Spoil: TypeAlias = Callable[[FloatArray], FloatArray]
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
ENGINES = [
    "onnxruntime",
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif(not HAS_OPENVINO, reason="the openvino extra is not installed"),
    ),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("selftest") / "bundle")


def expected(path: str) -> FloatArray:
    answers = golden_answers() | {TOKENS: (GOLDEN / TOKENS).read_bytes()}
    data = answers[path]
    header = 10 + int.from_bytes(data[8:10], "little")
    shapes = {TOKENS: (16, 6), MAP: (32, 32), SCORE: ()}
    return np.array(np.frombuffer(data[header:], np.float32).reshape(shapes[path]))


def model_expecting(folder: Path, path: str, values: NDArray[Any]) -> Model:
    return load_model(make_bundle(folder / "b", files={path: as_npy(values)}), engine_config())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_box_that_computes_what_other_code_computes_passes(bundle: Bundle, engine: str) -> None:
    report = run_self_test(load_model(bundle, engine_config(name=engine)))
    assert report.frames == 1
    assert max(report.tokens, report.map, report.score) < 1e-5


@pytest.mark.parametrize(
    ("path", "name"), [(TOKENS, "tokens_conv_1"), (MAP, "map"), (SCORE, "score")]
)
@pytest.mark.parametrize("change", [0.0011, -0.0011, 0.5, np.nan, np.inf])
def test_a_difference_beyond_the_tolerance_is_refused_with_frame_and_array(
    path: str, name: str, change: float, tmp_path: Path
) -> None:
    values = expected(path)
    values[(0,) * values.ndim] += change
    with pytest.raises(SelfTestError, match=rf"golden/frames/0\.png: {name} differs by"):
        run_self_test(model_expecting(tmp_path, path, values))


@pytest.mark.parametrize("path", [TOKENS, MAP, SCORE])
def test_a_difference_within_the_tolerance_passes_and_is_reported(
    path: str, tmp_path: Path
) -> None:
    values = expected(path)
    values[(0,) * values.ndim] += 0.0009
    report = run_self_test(model_expecting(tmp_path, path, values))
    assert max(report.tokens, report.map, report.score) == pytest.approx(0.0009, rel=0.01)


@pytest.mark.parametrize("path", [TOKENS, MAP, SCORE])
def test_an_answer_of_another_shape_is_refused(path: str, tmp_path: Path) -> None:
    values = expected(path).reshape(-1)[None]
    with pytest.raises(SelfTestError, match="differs by nan"):
        run_self_test(model_expecting(tmp_path, path, values))


def test_a_golden_answer_that_is_not_in_the_bundle_is_refused(tmp_path: Path) -> None:
    golden = {
        "frames": ["golden/frames/0.png"],
        "references": ["golden/references/0.png"],
        "expected": "golden/other",
        "tolerance": {"fp32": {"tokens": 1.0, "map": 1.0, "score": 1.0}},
    }
    others = {path.replace("expected", "other"): data for path, data in golden_answers().items()}
    lacking = make_bundle(tmp_path / "b", golden=golden, files=others)
    with pytest.raises(BundleError, match=r"golden/other/0/tokens_conv_1\.npy: no such file"):
        run_self_test(load_model(lacking, engine_config()))


class SpoiltEncoder:
    """A graph that this box computes wrongly."""

    def __init__(self, encoder: Encoder, spoil: Spoil) -> None:
        self.extractor_id = encoder.extractor_id
        self._encoder = encoder
        self._spoil = spoil

    def encode(self, preprocessed: Preprocessed) -> PatchFeatures:
        features = self._encoder.encode(preprocessed)
        tokens = {
            key: TokenGrid(rows=self._spoil(grid.rows.copy()), grid=grid.grid)
            for key, grid in features.tokens.items()
        }
        return replace(features, tokens=tokens)


def rounded(rows: FloatArray) -> FloatArray:
    return np.asarray((rows * 8).round() / 8, np.float32)


@pytest.mark.parametrize(
    "spoil",
    [
        np.zeros_like,
        lambda rows: np.full_like(rows, np.nan),
        lambda rows: rows[::-1].copy(),
        lambda rows: 1.01 * rows,
        rounded,
    ],
    ids=["zeros", "no numbers", "upside down", "scaled", "rounded"],
)
def test_a_box_that_computes_something_else_is_refused(spoil: Spoil, bundle: Bundle) -> None:
    sound = load_model(bundle, engine_config())
    broken = replace(sound, encoder=SpoiltEncoder(sound.encoder, spoil))
    with pytest.raises(SelfTestError):
        run_self_test(broken)


def test_a_box_that_computes_one_value_that_is_no_number_is_refused(bundle: Bundle) -> None:
    sound = load_model(bundle, engine_config())

    def only_for_the_frame(rows: FloatArray) -> FloatArray:
        if np.abs(rows - expected(TOKENS)).max() < 1e-3:
            rows[3, 2] = np.nan
        return rows

    broken = replace(sound, encoder=SpoiltEncoder(sound.encoder, only_for_the_frame))
    with pytest.raises(SelfTestError, match="differs by nan"):
        run_self_test(broken)


def test_an_engine_that_fails_in_the_self_test_is_an_engine_error(bundle: Bundle) -> None:
    engine = NumpyEngine(fails_with=EngineError("no such device"))
    with pytest.raises(EngineError, match="no such device"):
        run_self_test(numpy_model(bundle, engine))
