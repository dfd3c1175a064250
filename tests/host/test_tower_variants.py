"""Other precisions and formats of AdaptCLIP's towers, judged with and without references."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest
import torch
from tiny_adaptclip import Silent, few_pictures, tiny_parts

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.bundle.fields import GraphFormat, Precision
from edge_sdk.config import EngineConfig
from edge_sdk.errors import InputError
from edge_sdk.model import load_model
from edge_sdk.selftest import run_self_test
from export_tools.adaptclip.bundle import export_adaptclip
from export_tools.cli import main
from export_tools.clip.outliers import FACTOR, inject_outliers
from export_tools.clip.vision import PatchEncoder
from export_tools.variants import Wanted, can_be

ALL = Wanted(precisions=("fp32", "fp16", "bf16", "int8"), formats=("onnx", "openvino", "torch"))


def pictures_of(count: int) -> torch.Tensor:
    return torch.rand(count, 3, 96, 96, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """All that can be asked for."""
    folder = tmp_path_factory.mktemp("towers") / "bundle"
    export_adaptclip(tiny_parts(), folder, pictures=few_pictures(), listener=Silent(), wanted=ALL)
    return open_bundle(folder)


@pytest.mark.slow
def test_each_variant_has_a_row_for_each_way_of_judging(bundle: Bundle) -> None:
    report = json.loads((bundle.location / "report.json").read_bytes())
    ways: dict[tuple[str, str, str], list[str]] = {}
    for row in report["variants"]:
        key = (row["engine"], row["precision"], row["recipe"])
        ways.setdefault(key, []).append(row["judged"])
    assert all(found == ["few-shot", "zero-shot"] for found in ways.values())
    tried = {(engine, precision) for engine, precision, _ in ways}
    engines: dict[str, GraphFormat] = {
        "onnxruntime": "onnx", "openvino": "openvino", "torch": "torch"
    }  # fmt: skip
    precisions: tuple[Precision, ...] = ("fp32", "fp16", "bf16", "int8")
    asked = {
        (engine, precision)
        for engine, kind in engines.items()
        for precision in precisions
        if can_be(precision, kind)
    }
    assert tried == asked - {("onnxruntime", "fp32"), ("torch", "fp32")}


@pytest.mark.slow
def test_fewer_bits_of_random_weights_are_written_as_unproven(bundle: Bundle) -> None:
    fewer = [row for row in bundle.manifest.parity if row.precision != "fp32"]
    assert {(row.engine, row.precision) for row in fewer} >= {
        ("onnxruntime", "fp16"),
        ("openvino", "fp16"),
        ("torch", "fp16"),
    }
    assert {(row.weights, row.verdict) for row in fewer} == {("random", "unproven")}
    exact = [row for row in bundle.manifest.parity if row.precision == "fp32"]
    assert {row.verdict for row in exact} == {"ok"}
    assert {row.engine for row in exact} == {"onnxruntime", "openvino", "torch"}


@pytest.mark.slow
def test_every_variant_that_was_written_passes_its_self_test_on_the_device(
    bundle: Bundle,
) -> None:
    encoders = [graph for graph in bundle.manifest.graphs if graph.role == "encoder"]
    assert len({(one.format, one.precision) for one in encoders}) == len(encoders) > 5
    for graph in encoders:
        name = "onnxruntime" if graph.format == "onnx" else graph.format
        model = load_model(bundle, EngineConfig(name=name, precision=graph.precision))
        assert model.precision == graph.precision
        assert run_self_test(model).frames == 2


@pytest.mark.slow
def test_heads_stay_in_fp32_whatever_the_encoder_is(bundle: Bundle) -> None:
    heads = [graph for graph in bundle.manifest.graphs if graph.role.startswith("head")]
    assert {graph.precision for graph in heads} == {"fp32"}
    assert {graph.format for graph in heads} == {"onnx", "torch"}


def test_injected_outliers_change_nothing_but_what_the_products_read() -> None:
    tower = tiny_parts().vision
    spoilt = inject_outliers(tower)
    pictures = pictures_of(2)
    with torch.inference_mode():
        before, after = PatchEncoder(tower)(pictures), PatchEncoder(spoilt)(pictures)
    for ours, theirs in zip(before, after, strict=True):
        torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=1e-4)
    widest = []
    for one in (tower, spoilt):
        seen: list[torch.Tensor] = []
        hook = one.transformer.blocks[0].ln_1.register_forward_hook(
            lambda _module, _given, out, seen=seen: seen.append(out)
        )
        with torch.inference_mode():
            PatchEncoder(one)(pictures)
        hook.remove()
        widest.append(float(seen[0].abs().max() / seen[0].abs().median()))
    assert widest[1] > FACTOR / 8 * widest[0]


def test_more_outliers_than_channels_are_refused() -> None:
    with pytest.raises(InputError, match="expected 0 to 64 channels"):
        inject_outliers(tiny_parts().vision, channels=65)


@pytest.mark.slow
def test_outliers_cost_int8_what_random_weights_hide(tmp_path: Path) -> None:
    """The same computation; only what the products read differs."""
    plain = tiny_parts()
    spoilt = dataclasses.replace(plain, vision=inject_outliers(plain.vision))
    wanted = Wanted(precisions=("fp32", "int8"), formats=("onnx",))
    lowest = []
    for name, parts in (("plain", plain), ("spoilt", spoilt)):
        exported = export_adaptclip(
            parts, tmp_path / name, pictures=few_pictures(), listener=Silent(), wanted=wanted
        )
        found = [row.mean_map_correlation for row in exported.variants]
        lowest.append(min(value for value in found if value is not None))
    assert lowest[1] < lowest[0] - 0.001


TOWER = ("--clip", "ViT-B-32", "--random-weights", "1")


@pytest.mark.parametrize(
    ("option", "why"),
    [
        (("--precision", "bf16"), "expected --format torch beside it"),
        (("--precision", "int8", "--format", "torch"), "expected --format onnx or openvino"),
    ],
)
def test_a_precision_that_no_format_asked_for_knows_is_wrong_usage(
    option: tuple[str, ...], why: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main([*TOWER, *option, "--out", str(tmp_path / "out")])
    assert stopped.value.code == 2
    assert why in capsys.readouterr().err


def test_a_cnn_has_no_torch_part(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(
            ["--backbone", "efficientnet-lite0", "--format", "torch", "--out", str(tmp_path / "b")]
        )
    assert stopped.value.code == 2
    assert "--format torch: expected only beside --clip" in capsys.readouterr().err
