from __future__ import annotations

import json
import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from bundle_samples import GOLDEN
from scenes import engine_config, make_bundle

from edge_sdk.bundle import Bundle
from edge_sdk.choice import (
    Measured,
    _best,
    choice_path,
    choose_encoder,
    resolve_engine,
    stored_choice,
)
from edge_sdk.errors import BundleError, SelfTestError
from edge_sdk.model import graph_choices

INT8 = "graphs/encoder_int8.onnx"


def two_precisions(folder: Path, *, tolerance: float = 1e-3, graph: bytes | None = None) -> Bundle:
    """A bundle in fp32 and int8; the int8 graph is the same one, or ``graph``."""
    document = make_bundle(folder / "plain").manifest.document()
    exact = next(graph for graph in document["graphs"] if graph["format"] == "onnx")
    golden = document["golden"]
    limits = dict.fromkeys(("tokens", "map", "score"), tolerance)
    return make_bundle(
        folder / "both",
        graphs=[exact, exact | {"precision": "int8", "paths": [INT8]}],
        golden=golden | {"tolerance": golden["tolerance"] | {"int8": limits}},
        files={INT8: graph or (GOLDEN / "graphs/encoder_fp32.onnx").read_bytes()},
    )


def auto(**changes: Any) -> Any:
    return engine_config(precision="auto", **changes)


def found(engine: str, precision: str, ms: float | None, problem: str | None = None) -> Measured:
    return Measured(
        engine=engine, precision=precision, format="onnx", p50_ms=ms, p95_ms=ms, problem=problem
    )


def test_the_answer_is_kept_with_its_reason_and_not_measured_again(tmp_path: Path) -> None:
    bundle, state = two_precisions(tmp_path), tmp_path / "state"
    assert stored_choice(bundle, auto(), state) is None
    first = resolve_engine(bundle, auto(), state)
    kept = stored_choice(bundle, auto(), state)
    assert kept is not None
    assert (first.name, first.precision) == (kept.engine, kept.precision)
    assert [one.precision for one in kept.measured] == ["fp32", "int8"]
    assert all(one.p50_ms is not None and one.p50_ms > 0 for one in kept.measured)
    assert "ms a picture" in kept.reason

    path = choice_path(bundle, auto(), state)
    document = json.loads(path.read_bytes())
    other = {"fp32": "int8", "int8": "fp32"}[kept.precision]
    path.write_text(json.dumps(document | {"precision": other}))
    assert resolve_engine(bundle, auto(), state).precision == other, "what is kept is what counts"


def test_a_precision_asked_for_is_not_measured(tmp_path: Path) -> None:
    bundle, state = two_precisions(tmp_path), tmp_path / "state"
    asked = engine_config(precision="int8")
    assert resolve_engine(bundle, asked, state) == asked
    assert not state.exists()


def test_a_bundle_with_one_precision_needs_no_choice(tmp_path: Path) -> None:
    bundle, state = make_bundle(tmp_path / "b"), tmp_path / "state"
    assert resolve_engine(bundle, auto(), state) == auto()
    assert not state.exists()


def test_another_bundle_or_another_number_of_threads_is_another_question(tmp_path: Path) -> None:
    first, second = two_precisions(tmp_path / "1"), two_precisions(tmp_path / "2", tolerance=2e-3)
    paths = {
        choice_path(first, auto(), tmp_path),
        choice_path(second, auto(), tmp_path),
        choice_path(first, auto(threads=2), tmp_path),
        choice_path(first, auto(name="auto"), tmp_path),
    }
    assert len(paths) == 4


@pytest.mark.parametrize(
    "damage", [b"", b"[]", b"{}", b'{"format": 1}', b'{"format": 2}', b'{"format": 1, "x": 0}']
)
def test_an_answer_that_cannot_be_read_is_measured_again(
    damage: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    bundle, state = two_precisions(tmp_path), tmp_path / "state"
    path = choice_path(bundle, auto(), state)
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    with caplog.at_level(logging.WARNING):
        resolve_engine(bundle, auto(), state)
    assert stored_choice(bundle, auto(), state) is not None


def test_a_precision_that_fails_its_self_test_here_is_never_chosen(tmp_path: Path) -> None:
    bundle = two_precisions(tmp_path, tolerance=0.0)  # no box is that exact
    choice = choose_encoder(bundle, auto(), tmp_path / "state")
    assert choice.precision == "fp32"
    exact, less = choice.measured
    assert exact.problem is None
    assert less.p50_ms is None
    assert "self-test" in str(less.problem)
    assert "1 others cannot be used here" in choice.reason


def test_a_graph_that_no_engine_here_runs_is_never_chosen(tmp_path: Path) -> None:
    bundle = two_precisions(tmp_path)
    broken = (GOLDEN / "graphs/encoder_fp32.onnx").read_bytes()
    broken = broken.replace(b"Conv", b"Cosv")
    bundle = two_precisions(tmp_path / "broken", graph=broken)
    choice = choose_encoder(bundle, auto(), tmp_path / "state")
    assert choice.precision == "fp32"
    assert "cannot load" in str(choice.measured[1].problem)


def test_where_nothing_gives_the_golden_answers_nothing_is_chosen(tmp_path: Path) -> None:
    bundle = two_precisions(tmp_path, tolerance=0.0)
    asked = engine_config(precision="int8")
    with pytest.raises(SelfTestError):
        choose_encoder(bundle, asked, tmp_path / "state")
    assert not (tmp_path / "state" / "choices").exists()


@pytest.mark.parametrize(
    ("milliseconds", "engine", "precision", "reason"),
    [
        ((10, 12, 5), "onnxruntime", "int8", "2.00 times as fast as the most exact"),
        ((10, 4, 5), "openvino", "fp32", "the most exact"),
        ((10, 12, 9.5), "onnxruntime", "fp32", "1.05 times as fast, worthwhile from 1.1"),
        ((10, 12, 20), "onnxruntime", "fp32", "0.50 times as fast"),
    ],
)
def test_less_exact_is_chosen_only_where_it_is_clearly_quicker(
    milliseconds: tuple[float, float, float], engine: str, precision: str, reason: str
) -> None:
    names = [("onnxruntime", "fp32"), ("openvino", "fp32"), ("onnxruntime", "int8")]
    rows = [found(*name, ms) for name, ms in zip(names, milliseconds, strict=True)]
    best, why = _best(rows)
    assert (best.engine, best.precision) == (engine, precision)
    assert reason in why


def test_openvino_gets_onnx_in_fp32_only(tmp_path: Path) -> None:
    bundle = two_precisions(tmp_path)
    choices = graph_choices(bundle, auto(name="openvino"))
    assert [(one.graph.format, one.precision) for one in choices] == [("onnx", "fp32")]
    with pytest.raises(BundleError, match="no encoder graph for engine openvino in precision int8"):
        graph_choices(bundle, engine_config(name="openvino", precision="int8"))


def test_auto_means_an_engine_that_can_use_the_device(tmp_path: Path) -> None:
    bundle = two_precisions(tmp_path)
    on_cpu = {one.engine for one in graph_choices(bundle, auto(name="auto"))}
    assert "onnxruntime" in on_cpu
    on_cuda = {one.engine for one in graph_choices(bundle, auto(name="auto", device="cuda"))}
    assert on_cuda == {"onnxruntime"}


def test_a_choice_that_the_bundle_no_longer_offers_is_forgotten(tmp_path: Path) -> None:
    bundle, state = two_precisions(tmp_path), tmp_path / "state"
    choice = choose_encoder(bundle, auto(), state)
    path = choice_path(bundle, auto(), state)
    document = json.loads(path.read_bytes())
    path.write_text(json.dumps(document | {"precision": "fp16"}))
    assert stored_choice(bundle, auto(), state) is None
    assert replace(choice, precision="fp16") != choice
