"""``edge-bundle verify --run``: does this machine compute what the exporter computed?"""

from __future__ import annotations

import io
import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from bundle_samples import put

from edge_sdk.bundle import open_bundle
from edge_sdk.cli.bundle import main

ENGINES = [
    "onnxruntime",
    pytest.param(
        "openvino",
        marks=pytest.mark.skipif(find_spec("openvino") is None, reason="openvino is not installed"),
    ),
]


def copy_built_in(folder: Path) -> Path:
    return Path(shutil.copytree(open_bundle(None).location, folder / "bundle"))


@pytest.mark.parametrize("engine", ENGINES)
def test_the_differences_are_shown_beside_what_is_allowed(
    engine: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["verify", "--run", "--engine", engine, "--precision", "fp32"]) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert f"self-test: engine {engine} on cpu, fp32, 2 frames".split() in lines
    found = {line[0]: (float(line[1]), float(line[2])) for line in lines[-3:]}
    assert list(found) == ["tokens", "map", "score"]
    assert all(0 < difference < limit for difference, limit in found.values())


def test_with_json_they_are_part_of_the_answer(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", "--run", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)["self_test"]
    assert answer["frames"] == 2
    assert answer["differences"].keys() == answer["tolerance"].keys() == {"tokens", "map", "score"}
    assert main(["verify", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["self_test"] is None


def test_another_answer_than_the_exporters_ends_with_exit_code_9(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = copy_built_in(tmp_path)
    path = "golden/expected/1/map.npy"
    expected = open_bundle(bundle).load_array(path).copy()
    expected[10, 10] += 0.001
    stream = io.BytesIO()
    np.save(stream, expected, allow_pickle=False)
    put(bundle, path, stream.getvalue())
    assert main(["verify", str(bundle)]) == 0, "the copy itself is sound"
    assert main(["verify", str(bundle), "--run"]) == 9
    assert "golden/frames/1.png: map differs by 0.001" in capsys.readouterr().err


def test_a_precision_that_the_bundle_lacks_ends_with_exit_code_4(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["verify", "--run", "--precision", "int8"]) == 4
    assert "in precision int8" in capsys.readouterr().err


def test_an_engine_is_only_named_to_run_it(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["verify", "--engine", "openvino", "--device", "cpu"])
    assert stopped.value.code == 2
    assert "expected --run or --conformance beside --engine, --device" in capsys.readouterr().err
