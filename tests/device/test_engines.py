from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import textwrap
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

import edge_sdk
from edge_sdk.engines.compiled import CompiledCache
from edge_sdk.engines.onnxruntime import OnnxRuntimeEngine
from edge_sdk.engines.selector import open_engine
from edge_sdk.errors import EngineError
from edge_sdk.protocols import InferenceEngine

GRAPH = (Path(__file__).parents[1] / "data" / "tiny_encoder.onnx").read_bytes()
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
NEEDS_OPENVINO = pytest.mark.skipif(not HAS_OPENVINO, reason="the openvino extra is not installed")
ENGINES = ["onnxruntime", pytest.param("openvino", marks=NEEDS_OPENVINO)]


def opened(name: str, **changes: Any) -> InferenceEngine:
    arguments: dict[str, Any] = {
        "model": GRAPH,
        "weights": None,
        "device": "cpu",
        "precision": "fp32",
        "threads": 1,
    }
    return open_engine(name, **(arguments | changes))


def pictures(count: int) -> NDArray[np.uint8]:
    return np.random.default_rng(count).integers(0, 256, (count, 4, 6, 3), np.uint8)


def sums_by_hand(batch: NDArray[np.uint8]) -> NDArray[np.float64]:
    patches = batch.astype(np.float64).reshape(-1, 2, 2, 3, 2, 3).sum(axis=(2, 4))
    colours = patches.reshape(-1, 6, 3)
    return np.stack([colours.sum(-1), colours @ np.array([1, 10, 100])], axis=-1)


def run_apart(code: str, *paths: Path, options: tuple[str, ...] = ()) -> Any:
    """Run code in a fresh process with a bare environment; the first path is its home too."""
    environment = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": os.pathsep.join(map(str, paths)),
        "HOME": str(paths[0]),
    }
    return subprocess.run(
        [sys.executable, *options, "-c", textwrap.dedent(code)],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


OPEN_BOTH = f"""
import sys
import numpy as np
from pathlib import Path
from edge_sdk.engines.selector import open_engine
from edge_sdk.errors import EngineError
graph = Path({str(Path(__file__).parents[1] / "data" / "tiny_encoder.onnx")!r}).read_bytes()
options = dict(weights=None, device="cpu", precision="fp32", threads=2)
"""
INSTALLED = Path(edge_sdk.__file__).parents[1]


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("count", [1, 3])
def test_a_graph_gives_what_it_was_written_to_give_for_any_batch(name: str, count: int) -> None:
    engine = opened(name)
    batch = pictures(count)

    values = engine.infer({"picture": batch})

    assert list(values) == ["sums", "half"]
    np.testing.assert_allclose(values["sums"], sums_by_hand(batch), rtol=1e-6)
    np.testing.assert_allclose(values["half"], sums_by_hand(batch) / 2, rtol=1e-6)
    assert values["sums"].dtype == np.float32


@NEEDS_OPENVINO
def test_both_engines_say_the_same_of_a_graph() -> None:
    first, second = opened("onnxruntime"), opened("openvino")
    batch = pictures(2)

    assert dict(first.inputs) == dict(second.inputs) == {"picture": (None, 4, 6, 3)}
    assert list(first.outputs) == list(second.outputs) == ["sums", "half"]
    assert first.device == second.device == "cpu"
    for ours, theirs in zip(
        first.infer({"picture": batch}).values(),
        second.infer({"picture": batch}).values(),
        strict=True,
    ):
        np.testing.assert_allclose(ours, theirs, rtol=1e-6)


def test_auto_is_onnxruntime() -> None:
    assert isinstance(opened("auto"), OnnxRuntimeEngine)


@pytest.mark.parametrize("name", ENGINES)
def test_results_belong_to_the_caller(name: str) -> None:
    engine = opened(name)
    first = engine.infer({"picture": pictures(2)})["sums"]
    expected = first.copy()

    engine.infer({"picture": np.zeros((2, 4, 6, 3), np.uint8)})
    engine.close()
    del engine

    np.testing.assert_array_equal(first, expected)
    first += 1.0  # an array that is somebody else's would refuse this


@pytest.mark.parametrize("name", ENGINES)
def test_read_only_and_strided_pictures_are_read_where_they_lie(name: str) -> None:
    engine = opened(name)
    wide = np.random.default_rng(0).integers(0, 256, (2, 4, 12, 3), np.uint8)
    wide.setflags(write=False)

    values = engine.infer({"picture": wide[:, :, ::2]})

    np.testing.assert_allclose(values["sums"], sums_by_hand(wide[:, :, ::2]), rtol=1e-6)


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({}, r"inputs: expected \['picture'\], got \[\]"),
        ({"image": pictures(1)}, r"inputs: expected \['picture'\], got \['image'\]"),
        (
            {"picture": pictures(1), "more": pictures(1)},
            r"inputs: expected \['picture'\], got \['more', 'picture'\]",
        ),
        (
            {"picture": pictures(1).astype(np.float32)},
            r"input picture: expected \(N, 4, 6, 3\) uint8, got \(1, 4, 6, 3\) float32",
        ),
        ({"picture": pictures(1)[:, :, :5]}, r"uint8, got \(1, 4, 5, 3\) uint8"),
        ({"picture": pictures(1)[0]}, r"uint8, got \(4, 6, 3\) uint8"),
        ({"picture": pictures(0)}, r"uint8, got \(0, 4, 6, 3\) uint8"),
    ],
)
def test_a_tensor_that_does_not_fit_is_refused_by_name_shape_and_type(
    name: str, tensors: dict[str, NDArray[Any]], message: str
) -> None:
    engine = opened(name)
    with pytest.raises(EngineError, match=message):
        engine.infer(tensors)


@pytest.mark.parametrize("name", ENGINES)
def test_a_closed_engine_says_so(name: str) -> None:
    engine = opened(name)
    engine.close()
    engine.close()
    with pytest.raises(EngineError, match="is closed"):
        engine.infer({"picture": pictures(1)})


@pytest.mark.parametrize("name", ENGINES)
@pytest.mark.parametrize("model", [b"", b"not a graph", GRAPH[: len(GRAPH) // 2]])
def test_bytes_that_are_no_graph_are_refused(name: str, model: bytes) -> None:
    with pytest.raises(EngineError, match=f"engine {name}: cannot load: "):
        opened(name, model=model)


@pytest.mark.parametrize("name", ENGINES)
def test_a_graph_with_an_operator_that_the_engine_lacks_is_refused_before_any_picture(
    name: str,
) -> None:
    strange = GRAPH.replace(b"Cast", b"Cask")
    assert strange != GRAPH
    with pytest.raises(EngineError, match=rf"engine {name}: cannot load: .*Cask"):
        opened(name, model=strange)


@pytest.mark.parametrize("name", ENGINES)
def test_an_unknown_device_is_refused(name: str) -> None:
    with pytest.raises(EngineError, match=r"device: expected one of \['cpu'.*got toaster"):
        opened(name, device="toaster")


def test_a_device_that_this_onnxruntime_lacks_is_refused_rather_than_replaced() -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime was built with CUDA")
    for device, provider in (("cuda", "CUDA"), ("tensorrt", "Tensorrt")):
        with pytest.raises(
            EngineError, match=f"device {device}: this build has no {provider}ExecutionProvider"
        ):
            opened("onnxruntime", device=device)


def test_what_tensorrt_builds_is_kept_by_graph_precision_version_and_driver(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from edge_sdk.engines import onnxruntime as engine

    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    cache = CompiledCache(tmp_path)

    def folder(model: bytes = b"graph", precision: str = "fp32", version: str = "1") -> str:
        (name, options), (second, _) = engine.provider_options(
            "tensorrt", model, precision=precision, cache=cache, version=version
        )
        assert (name, second) == ("TensorrtExecutionProvider", "CUDAExecutionProvider")
        assert options["trt_fp16_enable"] == str(int(precision == "fp16"))
        assert Path(options["trt_engine_cache_path"]).is_dir()
        return options["trt_engine_cache_path"]

    first = folder()
    assert folder() == first
    others = {folder(b"other"), folder(precision="fp16"), folder(version="2")}
    monkeypatch.setattr(engine, "gpu_driver", lambda: "570.1")
    others.add(folder())
    assert len(others | {first}) == 5
    assert os.environ["NVIDIA_TF32_OVERRIDE"] == "0", "fp32 is to be fp32"


@NEEDS_OPENVINO
def test_a_device_that_openvino_does_not_find_is_refused_rather_than_replaced() -> None:
    import openvino

    present = {name.partition(".")[0] for name in openvino.Core().available_devices}
    absent = sorted({"GPU", "NPU"} - present)
    if not absent:
        pytest.skip("this machine has every device OpenVINO knows")
    with pytest.raises(EngineError, match=f"this machine has no {absent[0]}, only .*CPU"):
        opened("openvino", device=absent[0].lower())


def test_an_unknown_engine_is_refused_with_the_known_ones() -> None:
    with pytest.raises(EngineError, match="engine abacus: is not known; known are auto, onnx"):
        opened("abacus")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threads": 0}, "threads: expected 1 or more, got 0"),
        ({"precision": "fp7"}, "precision: expected one of fp32, fp16, bf16, int8, got fp7"),
        ({"weights": b"abc"}, "weights inside, got 3 bytes of weights"),
    ],
)
def test_arguments_out_of_range_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(EngineError, match=message):
        opened("onnxruntime", **changes)


def test_onnxruntime_computes_with_the_threads_it_was_given_and_does_not_spin() -> None:
    engine = opened("onnxruntime", threads=2)
    assert isinstance(engine, OnnxRuntimeEngine)
    assert engine._session is not None
    options = engine._session.get_session_options()

    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@NEEDS_OPENVINO
def test_openvino_is_held_to_the_threads_and_the_precision_it_was_given() -> None:
    from edge_sdk.engines.openvino import OpenVinoEngine

    engine = opened("openvino", threads=1)
    assert isinstance(engine, OpenVinoEngine)
    assert engine._request is not None
    compiled = engine._request.get_compiled_model()

    assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
    assert compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name() == "f32"


@pytest.mark.parametrize("name", ENGINES)
def test_an_engine_prints_nothing_and_talks_to_nobody(name: str, tmp_path: Path) -> None:
    code = f"""
    import sys
    touched = []
    def watch(event, details):
        if event.startswith(("socket.connect", "socket.getaddrinfo", "subprocess.", "os.posix_sp")):
            touched.append((event, details))
    sys.addaudithook(watch)
    {OPEN_BOTH.replace(chr(10), chr(10) + "    ")}
    engine = open_engine({name!r}, model=graph, **options)
    engine.infer({{"picture": np.zeros((1, 4, 6, 3), np.uint8)}})
    for broken in (b"junk", graph[:100]):
        try:
            open_engine({name!r}, model=broken, **options)
        except EngineError:
            pass
        else:
            raise SystemExit("junk was accepted")
    engine.close()
    assert not touched, touched
    assert "openvino_telemetry" not in sys.modules
    """
    done = run_apart(code, tmp_path, INSTALLED)

    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == [], "something was left in the home directory"


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("onnxruntime", "pip install onnxruntime"),
        ("openvino", 'pip install "edge-inspection-sdk[openvino]"'),
    ],
)
def test_a_missing_package_is_named_with_the_line_that_installs_it(
    name: str, line: str, tmp_path: Path
) -> None:
    # Without site-packages: numpy and the package itself, as on a box that has no engine.
    packages = Path(np.__file__).parents[1]
    for folder in (INSTALLED / "edge_sdk", packages / "numpy", packages / "numpy.libs"):
        if folder.exists():
            (tmp_path / folder.name).symlink_to(folder)
    code = f"""
    {OPEN_BOTH.replace(chr(10), chr(10) + "    ")}
    try:
        open_engine({name!r}, model=graph, **options)
    except EngineError as error:
        print(error)
    """
    done = run_apart(code, tmp_path, options=("-S",))

    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.strip() == f"engine {name}: is not installed; run: {line}"


THIRD_PARTY = """
class Doubler:
    inputs = {"x": (None,)}
    outputs = ("y",)

    def __init__(self, *, model, weights, device, precision, threads):
        self.device = device

    def infer(self, tensors):
        return {"y": tensors["x"] * 2}

    def close(self):
        pass
"""


def test_another_distribution_adds_an_engine_by_an_entry_point(tmp_path: Path) -> None:
    (tmp_path / "doubling.py").write_text(THIRD_PARTY)
    described = tmp_path / "doubling-1.0.dist-info"
    described.mkdir()
    (described / "METADATA").write_text("Metadata-Version: 2.1\nName: doubling\nVersion: 1.0\n")
    (described / "entry_points.txt").write_text(
        "[edge_sdk.engines]\ndoubler = doubling:Doubler\nbroken = doubling:Missing\n"
    )
    code = f"""
    {OPEN_BOTH.replace(chr(10), chr(10) + "    ")}
    engine = open_engine("doubler", model=b"", **options)
    print(engine.device, engine.infer({{"x": np.arange(3)}})["y"].tolist())
    for name in ("broken", "abacus"):
        try:
            open_engine(name, model=b"", **options)
        except EngineError as error:
            print(error)
    """
    done = run_apart(code, tmp_path, INSTALLED)

    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[0] == "cpu [0, 2, 4]"
    assert lines[1].startswith("engine broken: doubling:Missing cannot load: ")
    # The host half, where it is installed, adds one of its own.
    installed = {entry.name for entry in entry_points(group="edge_sdk.engines")}
    known = sorted({"auto", "broken", "doubler", "onnxruntime", "openvino"} | installed)
    assert lines[2].endswith(f"known are {', '.join(known)}")
