from __future__ import annotations

import importlib.util
import os
from pathlib import Path

import numpy as np
import pytest

from edge_sdk.engines.compiled import CompiledCache
from edge_sdk.engines.selector import open_engine

GRAPH = (Path(__file__).parents[1] / "data" / "tiny_encoder.onnx").read_bytes()
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None
NEEDS_OPENVINO = pytest.mark.skipif(not HAS_OPENVINO, reason="the openvino extra is not installed")
ENGINES = ["onnxruntime", pytest.param("openvino", marks=NEEDS_OPENVINO)]


def answer(engine: str, cache: CompiledCache | None) -> bytes:
    """What a graph loaded with this cache says of one picture."""
    loaded = open_engine(
        engine, model=GRAPH, weights=None, device="cpu", precision="fp32", threads=1, cache=cache
    )
    picture = np.random.default_rng(3).integers(0, 256, (1, 4, 6, 3), np.uint8)
    return loaded.infer({"picture": picture})["sums"].tobytes()


def files(folder: Path) -> list[Path]:
    return sorted((folder / "compiled").iterdir())


@pytest.mark.parametrize("engine", ENGINES)
def test_a_graph_is_compiled_once_and_says_the_same_afterwards(engine: str, tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path)
    expected = answer(engine, None)
    assert answer(engine, cache) == expected
    (kept,) = files(tmp_path)
    written = kept.stat().st_ino
    assert answer(engine, cache) == expected
    assert [path.stat().st_ino for path in files(tmp_path)] == [written]


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("damage", ["cut off", "one bit", "not a graph"])
def test_a_damaged_file_is_compiled_anew(engine: str, damage: str, tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path)
    expected = answer(engine, cache)
    (kept,) = files(tmp_path)
    sound = kept.read_bytes()
    if damage == "not a graph":  # its digest is right: only the library can tell
        cache.write(kept.stem, b"nothing that a library would write")
    else:
        broken = bytearray(sound[:-7] if damage == "cut off" else sound)
        broken[len(broken) // 2] ^= damage == "one bit"
        kept.write_bytes(broken)
    assert answer(engine, cache) == expected
    mended = kept.stat().st_ino
    assert answer(engine, cache) == expected
    assert kept.stat().st_ino == mended, "it is sound: nothing was compiled again"


@NEEDS_OPENVINO
def test_each_engine_keeps_its_own(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path)
    for engine in ("onnxruntime", "openvino", "onnxruntime"):
        answer(engine, cache)
    assert len(files(tmp_path)) == 2


def test_the_least_recently_used_is_dropped_beyond_the_limits(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path, max_files=3)
    for name in "abc":
        cache.write(name, name.encode())
        os.utime(tmp_path / "compiled" / f"{name}.graph", (ord(name), ord(name)))
    assert cache.read("a") == b"a"  # used just now
    cache.write("d", b"d")
    assert {path.stem for path in files(tmp_path)} == {"a", "c", "d"}

    small = CompiledCache(tmp_path, max_bytes=100)
    small.write("big", bytes(200))
    assert small.read("big") is None, "what is over the limit by itself is not kept at all"
    small.write("e", bytes(60))
    assert [path.stem for path in files(tmp_path)] == ["e"]


def test_what_a_library_builds_in_a_folder_of_its_own_is_bounded_too(tmp_path: Path) -> None:
    cache = CompiledCache(tmp_path, max_files=3, max_bytes=1000)
    for number, name in enumerate("abcd"):
        folder = cache.folder(name)
        assert folder is not None
        (folder / "engine").write_bytes(bytes(100))
        os.utime(folder, (number, number))
    cache.folder("b")  # used just now
    assert {path.stem for path in files(tmp_path)} == {"b", "c", "d"}
    large = cache.folder("large")
    assert large is not None
    (large / "engine").write_bytes(bytes(2000))
    assert cache.folder("large") == large, "what is used now is never dropped"
    assert (large / "engine").is_file()
    assert {path.stem for path in files(tmp_path)} == {"large"}


def test_a_folder_that_cannot_be_written_costs_time_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "compiled").write_text("a file in its place")
    assert answer("onnxruntime", CompiledCache(tmp_path)) == answer("onnxruntime", None)


def test_another_setting_is_another_file() -> None:
    keys = {
        CompiledCache.key(model, weights, threads=threads)
        for model, weights, threads in [(b"a", None, 1), (b"a", None, 2), (b"b", None, 1)]
    } | {CompiledCache.key(b"a", b"c", threads=1)}
    assert len(keys) == 4
