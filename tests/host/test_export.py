"""``edge-export`` from end to end: what it writes is proved, complete, and the same every time."""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.cli.bundle import main as edge_bundle
from edge_sdk.config import EngineConfig
from edge_sdk.imaging import decode_image
from edge_sdk.model import load_model
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.records import PatchFeatures, TokenGrid
from edge_sdk.scoring.nearest_neighbour import NearestNeighbourFactory, NearestNeighbourSettings
from edge_sdk.scoring.selector import build_scorer_factory
from edge_sdk.selftest import run_self_test
from export_tools.backbones.efficientnet_lite import VARIANTS, EfficientNetLite
from export_tools.bundle_words import extractor_id, graph_spec, input_spec, scorer_spec
from export_tools.faithful import installed_engines
from export_tools.golden import MAP_STEP, TOKEN_STEP, TOLERANCE
from export_tools.recipe import RECIPES, Recipe
from export_tools.report import tool_versions

ROOT = Path(__file__).parents[2]
ENGINES = installed_engines()
BUILT_IN = ROOT / "edge_sdk" / "builtin" / "bundle"
PROGRAM = "import sys; from export_tools.cli import main; sys.exit(main())"
LITE0 = RECIPES["efficientnet-lite0"]


@pytest.fixture(scope="module")
def shipped() -> Recipe:
    """The recipe of the bundle that ships inside the package."""
    return RECIPES[open_bundle(None).manifest.model.backbone]


def started(*arguments: str | Path) -> subprocess.Popen[str]:
    # Two of them run side by side: with as many threads each they would wait for one another.
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


class Finished:
    """A command that ran to its end, and the bundle it wrote."""

    def __init__(self, process: subprocess.Popen[str], out: Path) -> None:
        self.stdout, self.stderr = process.communicate()
        assert process.returncode == 0, self.stderr
        self.out = out
        self.bundle: Bundle = open_bundle(out)


@pytest.fixture(scope="module")
def exports(shipped: Recipe, tmp_path_factory: pytest.TempPathFactory) -> tuple[Finished, Finished]:
    """The same export by two processes into two folders: one for people, one with --json."""
    folder = tmp_path_factory.mktemp("export")
    outs = folder / "people", folder / "deep" / "er" / "json"
    common = ("--backbone", shipped.backbone, "--out")
    processes = started(*common, outs[0]), started(*common, outs[1], "--json")
    return Finished(processes[0], outs[0]), Finished(processes[1], outs[1])


def contents(folder: Path) -> dict[str, bytes]:
    """What identifies a bundle: all its files but the report and, in the manifest, the time."""
    files = {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }
    manifest = json.loads(files.pop("manifest.json"))
    manifest.pop("created")
    files.pop("report.json")
    return {**files, "manifest.json": json.dumps(manifest).encode()}


def test_two_exports_are_the_same_bundle_file_by_file(
    exports: tuple[Finished, Finished],
) -> None:
    first, second = exports
    assert contents(first.out) == contents(second.out)
    assert first.bundle.manifest.bundle_id == second.bundle.manifest.bundle_id


def test_the_shipped_bundle_is_a_fresh_export(exports: tuple[Finished, Finished]) -> None:
    versions = json.loads((BUILT_IN / "report.json").read_bytes())["versions"]
    made_with = {name: versions[name] for name in tool_versions()}
    if made_with != tool_versions():
        pytest.skip(f"an id is promised for the same tools; shipped {made_with}")
    assert contents(BUILT_IN) == contents(exports[0].out)
    assert open_bundle(None).manifest.bundle_id == exports[0].bundle.manifest.bundle_id


def test_people_see_the_parity_table_and_what_the_bundle_is(
    exports: tuple[Finished, Finished],
) -> None:
    export = exports[0]
    lines = export.stdout.splitlines()
    rows = [line.split() for line in lines if " fp32 " in line]
    assert lines[0].startswith("engine       precision compared")
    layers = len(export.bundle.manifest.model.layers)
    assert [row[0] for row in rows] == [
        *(engine for engine in ENGINES for _ in range(layers)),
        *ENGINES,
    ]
    assert all(row[-1] == "ok" and "24" in row for row in rows)
    assert export.bundle.manifest.bundle_id in export.stdout
    assert "no adapter" in export.stdout
    assert "Apache-2.0, commercial use: yes" in export.stdout
    assert "ImageNet's own terms are for the user to judge" in export.stdout
    assert export.stdout.count("self-test     ") == len(ENGINES)
    assert "pictures through torch: 100 %" in export.stderr


def test_with_json_one_object_is_all_of_standard_output(
    exports: tuple[Finished, Finished],
) -> None:
    export = exports[1]
    answer = json.loads(export.stdout)
    assert answer["bundle_id"] == export.bundle.manifest.bundle_id
    assert answer["out"] == str(export.out)
    assert answer["trained_branches"] == []
    assert answer["bytes"] == sum(entry.size for entry in export.bundle.manifest.files)
    assert {row["engine"] for row in answer["parity"]} == set(ENGINES) == set(answer["self_test"])
    assert max(report["tokens"] for report in answer["self_test"].values()) < 0.002
    assert "engine       precision" in export.stderr, "the table is still to be seen"


def test_the_manifest_says_what_the_recipe_says(
    exports: tuple[Finished, Finished], shipped: Recipe
) -> None:
    manifest = exports[0].bundle.manifest
    model = EfficientNetLite(VARIANTS[shipped.backbone], shipped.layers, shipped.last_blocks)
    assert manifest.requires_runtime == "0.1.0"
    assert manifest.model.weights_sha256 == shipped.weights.sha256
    assert manifest.model.layers == shipped.layers
    assert manifest.model.dims == tuple(model.dims[layer] for layer in shipped.layers)
    assert manifest.model.trained_branches == ()
    assert manifest.extractor_id == extractor_id(shipped)
    assert (manifest.input.size, manifest.input.resize.kernel) == (shipped.size, shipped.kernel)
    cut = manifest.threshold
    assert (cut.value, cut.method, cut.n) == (None, "site", 0)
    assert manifest.scorers[0].parameters == {
        "tokens": tuple(f"conv:{layer}" for layer in shipped.layers),
        "neighbourhood": shipped.neighbourhood,
        "blur_sigma": shipped.blur_sigma,
        "reach": shipped.reach,
        "stillness": shipped.stillness,
    }
    assert b"Copyright (c) 2020 ML Illustrated" in exports[0].bundle.read("NOTICE.txt")


def test_the_manifest_holds_bounds_and_the_report_what_was_measured(
    exports: tuple[Finished, Finished],
) -> None:
    manifest = exports[0].bundle.manifest
    report = json.loads((exports[0].out / "report.json").read_bytes())
    bounds = list(manifest.graphs[0].tolerance.values())
    bounds += [row.max_abs_map for row in manifest.parity if row.max_abs_map is not None]
    assert all(f"{bound:e}".startswith("1.000000e-") for bound in bounds), bounds
    assert {row.verdict for row in manifest.parity} == {"ok"}
    flips = [row.verdict_flips for row in manifest.parity if "maps" in row.compared]
    assert flips == [0] * len(ENGINES)
    assert b"seconds" not in (exports[0].out / "manifest.json").read_bytes()
    for measured, row in zip(report["parity"], manifest.parity, strict=True):
        assert (measured["engine"], measured["compared"]) == (row.engine, row.compared)
        assert measured["max_abs"] <= (
            row.max_abs_map or manifest.graphs[0].tolerance.get(measured.get("output", ""), 0)
        )
    assert report["seconds"].keys() >= {"weights", "graph", "parity", "golden", "proof"}
    assert report["threshold"] > 0


def test_the_bundle_is_small(exports: tuple[Finished, Finished]) -> None:
    total = sum(path.stat().st_size for path in exports[0].out.rglob("*") if path.is_file())
    assert total < 8e6


def test_golden_answers_tell_good_from_missing_and_are_whole_steps(
    exports: tuple[Finished, Finished],
) -> None:
    bundle = exports[0].bundle
    golden = bundle.manifest.golden
    scores = [
        float(bundle.load_array(golden.array_path(index, "score"))[()])
        for index in range(len(golden.frames))
    ]
    assert len(golden.frames) == len(golden.references) == 2
    assert scores[1] > 2 * scores[0] > 0
    tokens = [f"tokens_conv_{layer}" for layer in bundle.manifest.model.layers]
    steps_of = dict.fromkeys(tokens, TOKEN_STEP) | {"map": MAP_STEP, "score": MAP_STEP}
    for name, step in steps_of.items():
        array = bundle.load_array(golden.array_path(1, name))
        assert array.dtype == np.float32
        steps = array.astype(np.float64) / step
        assert np.array_equal(steps, np.round(steps)), name
        assert np.abs(steps).max() > 100, f"{name}: nothing is left of the values"
    limits = TOLERANCE["fp32"]
    assert limits.tokens >= 20 * TOKEN_STEP
    assert min(limits.map, limits.score) >= 50 * MAP_STEP


def test_golden_answers_do_not_hang_on_a_decision_at_its_edge(
    exports: tuple[Finished, Finished],
) -> None:
    """A little more or less stillness asked for: the references must still be judged alike."""
    bundle = exports[0].bundle
    model = load_model(bundle, EngineConfig(name="onnxruntime"))
    preprocess = Preprocessor(bundle.manifest.input)
    pictures = [
        decode_image(bundle.read(path), name=path) for path in bundle.manifest.golden.references
    ]
    references = [model.encoder.encode(preprocess(as_frame(pixels))) for pixels in pictures]
    settings = NearestNeighbourSettings.from_spec(bundle.manifest.scorers[0])
    judged = {
        NearestNeighbourFactory(replace(settings, stillness=settings.stillness * factor))
        .fit(references)
        .is_still
        for factor in (0.999, 1.001)
    }
    assert len(judged) == 1


def test_the_scorer_keeps_to_float64_as_golden_answers_need_it(shipped: Recipe) -> None:
    preprocessed = Preprocessor(input_spec(shipped))(as_frame(np.zeros((90, 120, 3), np.uint8)))
    numbers = np.random.default_rng(0)

    def features() -> PatchFeatures:
        model = EfficientNetLite(VARIANTS[shipped.backbone], shipped.layers, shipped.last_blocks)
        tokens = {
            (str(output.stream), int(output.layer or 0)): TokenGrid(
                rows=numbers.normal(size=output.shape[1:]),  # type: ignore[arg-type]  # fixed axes
                grid=output.grid or (0, 0),
            )
            for output in graph_spec(shipped, model).outputs
        }
        return PatchFeatures(
            tokens=tokens, class_token=None, extractor_id="x", preprocessed=preprocessed
        )

    scorer = build_scorer_factory(scorer_spec(shipped)).fit([features(), features()])
    result = scorer.score(features())
    assert result.nearest is not None
    assert [result.anomaly_map.dtype.name, result.nearest.distance.dtype.name] == ["float64"] * 2


@pytest.mark.parametrize("engine", ENGINES)
def test_every_engine_passes_the_self_test_with_room_to_spare(
    exports: tuple[Finished, Finished], engine: str
) -> None:
    model = load_model(exports[0].bundle, EngineConfig(name=engine))
    found, limits = run_self_test(model), TOLERANCE["fp32"]
    print(engine, found)
    assert found.tokens < limits.tokens / 10
    assert found.map < limits.map / 10
    assert found.score < limits.score / 10


@pytest.mark.parametrize("flags", [[], ["--for-device"]])
def test_the_bundle_works_after_packing(
    exports: tuple[Finished, Finished],
    flags: Sequence[str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    archive = tmp_path / "a.edgebundle"
    assert edge_bundle(["pack", str(exports[0].out), "--out", str(archive), *flags]) == 0
    capsys.readouterr()
    assert edge_bundle(["verify", str(archive), "--run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert answer["bundle_id"] == exports[0].bundle.manifest.bundle_id
    assert answer["self_test"]["frames"] == 2


def test_the_extractor_is_what_turns_pixels_into_tokens_and_nothing_else() -> None:
    name = extractor_id(LITE0)
    scoring: list[dict[str, Any]] = [
        {"neighbourhood": 1}, {"blur_sigma": 1.0}, {"reach": 0.1}, {"stillness": 0.0},
        {"licence": "MIT"},
    ]  # fmt: skip
    encoding: list[dict[str, Any]] = [
        {"layers": (2, 3, 5)}, {"layers": (5,)}, {"last_blocks": 2}, {"size": (256, 320)},
        {"kernel": "bilinear"}, {"mean": (0.5, 0.5, 0.5)}, {"std": (0.5, 0.5, 0.5)},
        {"backbone": "efficientnet-lite1"}, {"weights": RECIPES["efficientnet-lite1"].weights},
    ]  # fmt: skip
    assert {extractor_id(replace(LITE0, **change)) for change in scoring} == {name}
    others = {extractor_id(replace(LITE0, **change)) for change in encoding}
    assert len(others - {name}) == len(encoding)


def test_help_answers_at_once_and_without_torch() -> None:
    def processor_seconds() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        process = started("--help")
        stdout, _ = process.communicate()
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert process.returncode == 0
        assert "efficientnet-lite2" in stdout
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Of the processor, not of the clock: other tests may run beside this one.
    assert min(processor_seconds() for _ in range(3)) < 0.3
