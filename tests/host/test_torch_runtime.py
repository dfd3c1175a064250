"""Engine ``torch``: the full-precision model of a bundle, found by its entry point."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from commands import Box, good_part, write_pictures
from tiny_adaptclip import export_tiny, few_pictures, tiny_parts

from edge_sdk.bundle import open_bundle
from edge_sdk.bundle.reader import Bundle
from edge_sdk.config import EngineConfig
from edge_sdk.engines.selector import open_engine
from edge_sdk.errors import BundleError, EngineError, InputError
from edge_sdk.model import load_model
from edge_sdk.pipeline import as_frame
from edge_sdk.preprocess import Preprocessor
from export_tools.adaptclip.torch_files import load_part, torch_parts
from export_tools.bundle_variants import TORCH_PATH
from export_tools.torch_runtime import Resident, TorchEngine

DEVICES = [
    "cpu",
    pytest.param(
        "cuda", marks=pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is here")
    ),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("tiny") / "bundle"
    export_tiny(folder)
    return open_bundle(folder)


def engine(data: bytes, *, device: str = "cpu", precision: str = "fp32") -> TorchEngine:
    return TorchEngine(model=data, weights=None, device=device, precision=precision, threads=1)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("shots", [0, 2])
def test_it_scores_as_onnxruntime_does(bundle: Bundle, device: str, shots: int) -> None:
    preprocess = Preprocessor(bundle.manifest.input)
    pictures = [preprocess(as_frame(pixels)) for pixels in few_pictures(4).judged]
    results = []
    for config in ({"name": "onnxruntime"}, {"name": "torch", "device": device}):
        model = load_model(bundle, EngineConfig.model_validate(config))
        scorer = model.factory.fit([model.encoder.encode(one) for one in pictures[:shots]])
        # Several, for on a GPU the second one runs as a CUDA graph.
        results.append([scorer.score(model.encoder.encode(one)) for one in pictures[2:]])
    for theirs, ours in zip(*results, strict=True):
        assert ours.image_score == pytest.approx(theirs.image_score, abs=1e-4)
        np.testing.assert_allclose(ours.anomaly_map, theirs.anomaly_map, atol=1e-4)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("precision", "near"), [("fp16", 5e-3), ("bf16", 5e-2)])
def test_fewer_bits_are_near_and_not_the_same(
    bundle: Bundle, device: str, precision: str, near: float
) -> None:
    data = bundle.read(TORCH_PATH)
    picture = np.random.default_rng(0).integers(0, 255, (1, 96, 96, 3), np.uint8)
    exact = engine(data, device=device).infer({"picture": picture})
    fewer = engine(data, device=device, precision=precision).infer({"picture": picture})
    for name, value in exact.items():
        scale = float(np.abs(value).max())
        assert value.dtype == fewer[name].dtype == np.float32
        np.testing.assert_allclose(fewer[name], value, atol=near * scale)
        assert not np.array_equal(fewer[name], value)


def test_what_the_engine_gave_and_what_cannot_change_is_not_sent_again() -> None:
    resident = Resident("cpu")
    given = resident.array(torch.arange(6.0).reshape(1, 6))
    with pytest.raises(ValueError, match="read-only"):
        given[0, 0] = 7
    assert resident.tensor(given[0][None]).data_ptr() == resident.tensor(given).data_ptr()
    memory = np.arange(4, dtype=np.float32)
    memory.flags.writeable = False
    first = resident.tensor(memory)
    assert resident.tensor(memory).data_ptr() == first.data_ptr()
    assert torch.equal(resident.tensor(given[:, 2:4]), torch.tensor([[2.0, 3.0]]))


def test_an_array_that_somebody_may_change_is_read_each_time() -> None:
    resident = Resident("cpu")
    array = np.zeros(3, np.float32)
    assert resident.tensor(array).sum() == 0
    array[:] = 1
    assert resident.tensor(array).sum() == 3


def test_what_nobody_holds_any_more_is_freed() -> None:
    resident = Resident("cpu")
    array = resident.array(torch.ones(3))
    assert len(resident) == 1
    del array
    assert len(resident) == 0


@pytest.mark.parametrize("with_adapters", [True, False], ids=["adapters", "none"])
def test_a_part_gives_back_what_was_put_in(with_adapters: bool) -> None:
    parts = tiny_parts(with_adapters=with_adapters)
    specs, files = torch_parts(parts, with_normalised=True)
    again, other = torch_parts(parts, with_normalised=True)
    assert (specs, files) == (again, other), "the same bytes each time"
    for spec in specs:
        part = load_part(files[spec.paths[0]])
        assert [one.name for one in part.inputs] == [one.name for one in spec.inputs]
        assert list(part.outputs) == [one.name for one in spec.outputs]


def test_a_file_that_is_no_part_is_refused() -> None:
    _, files = torch_parts(tiny_parts(), with_normalised=False)
    whole = files[TORCH_PATH]
    for spoilt in (b"", b"nonsense" * 9, whole[:-100], whole.replace(b"settings", b"settinks")):
        with pytest.raises(InputError, match="torch part"):
            load_part(spoilt)
    with pytest.raises(EngineError, match="cannot load: torch part"):
        engine(b"nonsense" * 9)


def test_what_it_cannot_do_is_said() -> None:
    _, files = torch_parts(tiny_parts(), with_normalised=False)
    data = files[TORCH_PATH]
    with pytest.raises(EngineError, match=r"device: expected one of \['cpu', 'cuda'\], got npu"):
        engine(data, device="npu")
    with pytest.raises(EngineError, match=r"precision: expected one of .*, got int8"):
        engine(data, precision="int8")
    running = engine(data)
    with pytest.raises(EngineError, match="input picture: expected"):
        running.infer({"picture": np.zeros((1, 9, 9, 3), np.uint8)})
    running.close()
    with pytest.raises(EngineError, match="is closed"):
        running.infer({"picture": np.zeros((1, 96, 96, 3), np.uint8)})


@pytest.mark.skipif(torch.cuda.is_available(), reason="a GPU is here")
def test_a_gpu_that_is_not_there_is_an_error_before_any_verdict(
    bundle: Bundle, tmp_path: Path
) -> None:
    with pytest.raises(EngineError, match="finds no CUDA device here"):
        engine(bundle.read(TORCH_PATH), device="cuda")
    box = Box(tmp_path)
    line = write_pictures(tmp_path / "line", [good_part(0)])
    words = ("run", "--bundle", bundle.location, "--camera", line, "--once", "--allow-untrained")
    box.run(*words, "--engine", "torch", "--device", "cuda").expect(7, "device cuda")


def test_a_bundle_without_a_torch_part_is_told() -> None:
    with pytest.raises(BundleError, match="no encoder graph for engine torch"):
        load_model(open_bundle(None), EngineConfig(name="torch"))


def test_it_is_found_by_its_entry_point(bundle: Bundle) -> None:
    found = open_engine(
        "torch",
        model=bundle.read(TORCH_PATH),
        weights=None,
        device="cpu",
        precision="fp32",
        threads=1,
    )
    assert isinstance(found, TorchEngine)
