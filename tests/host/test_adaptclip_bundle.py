from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_golden_set import make_golden_set
from tiny_adaptclip import SIDE_PX, Silent, export_tiny, few_pictures, tiny_parts

from edge_sdk.bundle import open_bundle
from edge_sdk.bundle.reader import Bundle
from edge_sdk.cli import bundle as bundle_command
from edge_sdk.config import EngineConfig
from edge_sdk.errors import BundleError, InputError
from edge_sdk.model import Model, load_model, open_role
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.records import PatchFeatures, UInt8Array
from edge_sdk.scoring.adaptclip import AdaptClipFactory
from edge_sdk.scoring.adaptclip_heads import AdaptClipSettings, check_heads
from export_tools.adaptclip.bundle import export_adaptclip
from export_tools.adaptclip.reference import torch_encoder, torch_factory
from export_tools.conformance.bundle import export_golden_set

ENGINES = ("onnxruntime", "openvino", "torch")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tiny") / "bundle"
    export_tiny(path)
    return path


@pytest.fixture(scope="module")
def bundle(folder: Path) -> Bundle:
    return open_bundle(folder)


@pytest.fixture(scope="module")
def pictures() -> list[UInt8Array]:
    return list(few_pictures(5).judged)


def encoded(model: Model, pixels: UInt8Array) -> PatchFeatures:
    return model.encoder.encode(Preprocessor(model.bundle.manifest.input)(as_frame(pixels)))


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("shots", [0, 1, 3])
def test_every_engine_scores_as_torch_does_with_and_without_references(
    bundle: Bundle, pictures: list[UInt8Array], engine: str, shots: int
) -> None:
    model = load_model(bundle, EngineConfig(name=engine))
    _, reference_encoder = torch_encoder(tiny_parts())
    preprocess = Preprocessor(bundle.manifest.input)
    references = [encoded(model, pixels) for pixels in pictures[:shots]]
    ours = model.factory.fit(references).score(encoded(model, pictures[4]))
    theirs = (
        torch_factory(tiny_parts())
        .fit([reference_encoder.encode(preprocess(as_frame(one))) for one in pictures[:shots]])
        .score(reference_encoder.encode(preprocess(as_frame(pictures[4]))))
    )
    assert ours.image_score == pytest.approx(theirs.image_score, abs=1e-5)
    np.testing.assert_allclose(ours.anomaly_map, theirs.anomaly_map, atol=1e-5)
    if shots:
        assert ours.nearest is not None
        assert theirs.nearest is not None
        assert (ours.nearest.reference == theirs.nearest.reference).all()
        assert (ours.nearest.patch == theirs.nearest.patch).all()


def test_a_picture_taken_as_reference_finds_itself(
    bundle: Bundle, pictures: list[UInt8Array]
) -> None:
    model = load_model(bundle, EngineConfig())
    features = [encoded(model, pixels) for pixels in pictures[:3]]
    result = model.factory.fit(features).score(features[1])
    assert result.nearest is not None
    assert (result.nearest.reference == 1).all()
    assert (result.nearest.patch == np.arange(len(result.nearest.patch))).all()
    assert result.image_score < 1e-3


def test_a_memory_too_large_for_the_graph_gives_the_same_result(
    bundle: Bundle, pictures: list[UInt8Array]
) -> None:
    model = load_model(bundle, EngineConfig())
    references = [encoded(model, pixels) for pixels in pictures[:4]]
    picture = encoded(model, pictures[4])
    whole = model.factory.fit(references).score(picture)
    in_chunks = AdaptClipFactory(
        zero_shot=None,
        few_shot=open_role(bundle, "head_few_shot", EngineConfig()),
        settings=AdaptClipSettings.from_spec(bundle.manifest.scorers[0]),
        max_bank_bytes=2**20,
        rows_in_graph=10,
    )
    chosen = in_chunks.fit(references).score(picture)
    assert chosen.image_score == pytest.approx(whole.image_score, abs=1e-6)
    assert whole.nearest is not None
    assert chosen.nearest is not None
    assert (chosen.nearest.reference == whole.nearest.reference).all()
    assert (chosen.nearest.patch == whole.nearest.patch).all()


def test_half_precision_memories_take_half_and_score_nearly_the_same(
    bundle: Bundle, pictures: list[UInt8Array]
) -> None:
    scores = []
    for bank in ("fp32", "fp16"):
        model = load_model(bundle, EngineConfig.model_validate({"bank": bank}))
        scorer = model.factory.fit([encoded(model, pixels) for pixels in pictures[:2]])
        scores.append(scorer.score(encoded(model, pictures[4])).image_score)
    assert scores[1] == pytest.approx(scores[0], rel=0.01)
    assert scores[1] != scores[0]


def test_a_coreset_compares_with_fewer_rows_and_names_them_as_the_whole_does(
    bundle: Bundle, pictures: list[UInt8Array]
) -> None:
    results = {}
    for share in (1.0, 0.5):
        model = load_model(bundle, EngineConfig.model_validate({"coreset": share}))
        references = [encoded(model, pixels) for pixels in pictures[:3]]
        results[share] = model.factory.fit(references).score(encoded(model, pictures[1]))
    whole, fewer = results[1.0].nearest, results[0.5].nearest
    assert whole is not None
    assert fewer is not None
    assert (whole.reference == 1).all()
    found = fewer.distance < 1e-5  # its own patch was kept
    assert 0 < found.sum() < len(found)
    assert (fewer.reference[found] == 1).all()
    assert (fewer.patch[found] == np.arange(len(found))[found]).all()
    assert (fewer.distance >= whole.distance - 1e-5).all()
    assert results[0.5].image_score >= results[1.0].image_score


def test_more_references_than_the_limit_are_refused_with_the_bytes(
    bundle: Bundle, pictures: list[UInt8Array]
) -> None:
    model = load_model(bundle, EngineConfig.model_validate({"max_bank_mib": 1}))
    features = encoded(model, pictures[0])
    model.factory.fit([features] * 100)
    with pytest.raises(InputError, match=r"120 pictures take 1 MiB .*at most 1 .*max_bank_mib"):
        model.factory.fit([features] * 120)


def test_leaving_one_of_several_references_out_is_a_bank_without_it(
    bundle: Bundle, pictures: list[UInt8Array]
) -> None:
    model = load_model(bundle, EngineConfig())
    features = [encoded(model, pixels) for pixels in pictures[:3]]
    left_out = model.factory.fit(features).without(0).score(features[0])
    expected = model.factory.fit(features[1:]).score(features[0])
    assert left_out.image_score == expected.image_score
    alone = model.factory.fit(features[:1]).without(0).score(features[0])
    assert alone.image_score == model.factory.fit([]).score(features[0]).image_score


def test_regions_restrict_the_peak_to_what_is_inspected(
    bundle: Bundle, pictures: list[UInt8Array]
) -> None:
    model = load_model(bundle, EngineConfig())
    pixels = pictures[4]
    height, width = pixels.shape[:2]
    whole = model.factory.fit([encoded(model, pictures[0])])
    left = Preprocessor(
        bundle.manifest.input,
        include=[[(0, 0), (width // 2, 0), (width // 2, height), (0, height)]],
    )
    inside = whole.score(model.encoder.encode(left(as_frame(pixels))))
    everywhere = whole.score(encoded(model, pixels))
    assert inside.image_score <= everywhere.image_score
    assert not inside.anomaly_map[:, width // 2 + 1 :].any()


def test_a_tower_without_adapters_works_by_static_prompts_and_nearest_patches(
    tmp_path: Path, pictures: list[UInt8Array]
) -> None:
    exported = export_tiny(tmp_path / "plain", with_adapters=False)
    assert exported.manifest.model.trained_branches == ()
    model = load_model(open_bundle(tmp_path / "plain"), EngineConfig())
    features = [encoded(model, pixels) for pixels in pictures[:3]]
    few = model.factory.fit(features[:2]).score(features[2])
    assert few.image_score == pytest.approx(float(few.anomaly_map.max()), rel=1e-3)
    assert 0 < model.factory.fit([]).score(features[2]).image_score < 1


@pytest.mark.slow
def test_two_exports_are_the_same_bundle_whatever_the_number_of_threads(
    folder: Path, tmp_path: Path
) -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(1 if threads > 1 else 2)
    try:
        again = export_tiny(tmp_path / "again").manifest
    finally:
        torch.set_num_threads(threads)
    assert again.bundle_id == open_bundle(folder).manifest.bundle_id


def test_the_manifest_says_what_it_is(bundle: Bundle) -> None:
    manifest = bundle.manifest
    assert manifest.model.random_weights
    assert {row.weights for row in manifest.parity} == {"random"}
    assert {graph.role for graph in manifest.graphs} == {
        "encoder",
        "head_zero_shot",
        "head_few_shot",
    }
    assert manifest.input.resize.kernel == "bicubic"
    assert manifest.input.size == (SIDE_PX, SIDE_PX)


def test_a_head_of_another_encoder_is_refused_before_any_verdict(folder: Path) -> None:
    bundle = open_bundle(folder)
    encoder, zero_shot, few_shot, *_ = bundle.manifest.graphs
    wrong = encoder.model_copy(
        update={
            "outputs": tuple(
                output.model_copy(update={"shape": (*output.shape[:-1], 48)})
                for output in encoder.outputs
            )
        }
    )
    with pytest.raises(BundleError, match="they belong to different bundles"):
        check_heads(wrong, [zero_shot])
    with pytest.raises(BundleError, match=r"memory_2|vv_2"):
        check_heads(wrong, [few_shot])
    check_heads(encoder, [zero_shot, few_shot])


def test_weights_that_are_no_numbers_are_not_exported(tmp_path: Path) -> None:
    parts = tiny_parts()
    spoilt = dataclasses.replace(parts, static_text=torch.full_like(parts.static_text, torch.nan))
    with pytest.raises(InputError, match="static_text: expected finite weights"):
        export_adaptclip(spoilt, tmp_path / "b", pictures=few_pictures(3), listener=Silent())
    assert not (tmp_path / "b").exists()


@pytest.fixture(scope="module")
def conforming(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("golden")
    golden = make_golden_set(root / "set")
    export_golden_set(golden, root / "bundle")
    return golden, root / "bundle"


@pytest.mark.parametrize("engine", ENGINES)
def test_the_exported_graphs_conform_to_a_golden_set_without_torch(
    conforming: tuple[Path, Path], engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    golden, exported = conforming
    arguments = ["verify", str(exported), "--conformance", str(golden), "--engine", engine]
    assert bundle_command.main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)["conformance"]
    names = {row["key"] for row in rows}
    assert {"zero_map", "zero_score", "1shot_score", "3shot_map", "query_patch_L5"} <= names
    assert all(row["passed"] for row in rows)


def test_an_altered_golden_score_fails_on_the_device_too(
    conforming: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    golden, exported = conforming
    for name in ("config.json", "inputs.npz"):
        (tmp_path / name).write_bytes((golden / name).read_bytes())
    arrays: dict[str, Any] = dict(np.load(golden / "outputs.npz"))
    np.savez(tmp_path / "outputs.npz", **(arrays | {"2shot_score": arrays["2shot_score"] + 0.01}))
    assert bundle_command.main(["verify", str(exported), "--conformance", str(tmp_path)]) == 8
    assert "2shot_score" in capsys.readouterr().err


@pytest.mark.slow
def test_the_published_arrays_agree_through_the_exported_graphs(
    shared_data: Path, tmp_path: Path
) -> None:
    golden = shared_data.parent / "goldens" / "adaptclip"
    if not golden.is_dir():
        pytest.skip("the golden arrays of the published method are not here")
    export_golden_set(golden, tmp_path / "bundle")
    for engine in ENGINES:
        command = ["verify", str(tmp_path / "bundle"), "--conformance", str(golden)]
        assert bundle_command.main([*command, "--engine", engine]) == 0
