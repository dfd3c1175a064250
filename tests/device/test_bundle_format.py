"""What a bundle promises: it reads back, has one identity and one spelling."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
import zipfile
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from bundle_samples import ENCODER, EXPECTED_MAP, GOLDEN, copy_golden, field, onnx_model, put, seal
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.bundle import (
    Bundle,
    ManifestDraft,
    bundle_id_of,
    canonical_json,
    open_bundle,
    pack_bundle,
    parse_manifest,
    write_bundle,
)
from edge_sdk.bundle.folder import FolderFiles
from edge_sdk.errors import BundleError, BundleIntegrityError, ConfigError

CREATED = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)
ROOT = Path(__file__).parents[2]


def golden_draft() -> tuple[ManifestDraft, dict[str, bytes]]:
    """The golden bundle as its exporter had it."""
    document = json.loads((GOLDEN / "manifest.json").read_bytes())
    files = {entry["path"]: (GOLDEN / entry["path"]).read_bytes() for entry in document["files"]}
    for key in ("bundle_id", "created", "files"):
        del document[key]
    return ManifestDraft.model_validate_json(canonical_json(document)), files


def add_torch_graph(bundle: Path) -> Path:
    """Give a bundle the full-precision model, as the exporter does for the reference path."""
    put(bundle, "torch/model.safetensors", b"weights")
    put(bundle, "torch/config.json", b"{}")

    def list_it(document: dict[str, Any]) -> None:
        graph = dict(document["graphs"][0])
        del graph["opset"]
        graph |= {"format": "torch", "paths": ["torch/config.json", "torch/model.safetensors"]}
        document["graphs"].append(graph)
        document["parity"].append(document["parity"][0] | {"engine": "torch"})

    return seal(bundle, list_it)


def test_the_golden_bundle_of_version_1_still_reads() -> None:
    manifest = open_bundle(GOLDEN).manifest
    assert manifest.bundle_id == (
        "sha256:14338ff8cdb98672877e6e975f2cfde8bd5011d3d3fd143d6646e6fce9e6ea42"
    )
    assert manifest.created == CREATED
    assert manifest.expires == datetime(2099, 12, 31, 23, 59, 59, tzinfo=timezone.utc)
    assert manifest.input.size == (32, 32)
    assert [(graph.role, graph.format) for graph in manifest.graphs] == [
        ("encoder", "onnx"),
        ("encoder", "openvino"),
        ("head_few_shot", "onnx"),
    ]
    assert manifest.graphs[0].outputs[0].grid == (4, 4)
    assert manifest.scorers[0].parameters == {
        "tokens": ("conv:1",),
        "neighbourhood": 1,
        "blur": False,
    }
    assert manifest.document()["x_note"] == {"written_by": "tests/data/make_golden_bundle.py"}


def test_the_golden_graph_gives_the_golden_tokens() -> None:
    bundle = open_bundle(GOLDEN)
    golden = bundle.manifest.golden
    encoded = np.frombuffer(bundle.read(golden.frames[0]), np.uint8)
    picture = cv2.imdecode(encoded, cv2.IMREAD_COLOR)
    assert picture is not None
    (graph,) = bundle.read_graph(bundle.manifest.graphs[0])
    session = onnxruntime.InferenceSession(graph, providers=["CPUExecutionProvider"])
    (tokens,) = session.run(None, {"image": np.ascontiguousarray(picture[..., ::-1])[None]})
    expected = bundle.load_array(golden.array_path(0, "tokens_conv_1"))
    np.testing.assert_allclose(tokens[0], expected, atol=golden.tolerance["fp32"].tokens)


def test_an_openvino_graph_is_given_as_two_files() -> None:
    openvino = pytest.importorskip("openvino")
    bundle = open_bundle(GOLDEN)
    graph = bundle.manifest.graphs[1]
    xml, weights = bundle.read_graph(graph)
    assert openvino.Core().read_model(model=xml, weights=weights).inputs[0].any_name == "image"
    assert bundle.path_of(graph) == GOLDEN / "graphs/encoder_fp32.xml"


def test_an_array_is_read_only_and_what_numpy_wrote() -> None:
    bundle = open_bundle(GOLDEN)
    array = bundle.load_array(EXPECTED_MAP)
    np.testing.assert_array_equal(array, np.load(GOLDEN / EXPECTED_MAP, allow_pickle=False))
    assert array.shape == (32, 32)
    assert not array.flags.writeable
    assert bundle.load_array("golden/expected/0/score.npy").shape == ()


def test_a_file_that_is_not_in_the_manifest_is_not_given() -> None:
    with pytest.raises(BundleError, match="no such file in this bundle"):
        open_bundle(GOLDEN).read("../make_golden_bundle.py")


def test_canonical_json_has_one_spelling() -> None:
    value = {"b": [1, 0.1, 1e-07, -0.0, None, True], "a": "ä\n"}
    spelling = '{"a":"ä\\n","b":[1,0.1,1e-07,-0.0,null,true]}'.encode()
    assert canonical_json(value) == spelling
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json({"a": float("nan")})


def test_the_identity_depends_on_content_but_not_on_time_or_order_of_keys() -> None:
    draft, _ = golden_draft()
    document = draft.document()
    shuffled = dict(random.Random(1).sample(list(document.items()), len(document)))
    again = ManifestDraft.model_validate_json(json.dumps(shuffled))
    assert bundle_id_of(again) == bundle_id_of(draft)
    manifest = open_bundle(GOLDEN).manifest
    later = manifest.model_copy(update={"created": CREATED + timedelta(days=1)})
    assert bundle_id_of(later) == manifest.bundle_id
    other = manifest.model_copy(update={"licence": "MIT"})
    assert bundle_id_of(other) != manifest.bundle_id


def test_foreign_keys_are_kept_and_are_part_of_the_identity(tmp_path: Path) -> None:
    bundle = seal(copy_golden(tmp_path), lambda d: d["model"].update(x_owner="line 3"))
    manifest = open_bundle(bundle).manifest
    assert manifest.bundle_id != open_bundle(GOLDEN).manifest.bundle_id
    assert manifest.document()["model"]["x_owner"] == "line 3"


def test_writing_twice_gives_the_same_bundle_whatever_the_time(tmp_path: Path) -> None:
    draft, files = golden_draft()
    first = write_bundle(tmp_path / "a", draft, files, CREATED)
    reversed_files = dict(reversed(files.items()))
    second = write_bundle(tmp_path / "b", draft, reversed_files, CREATED + timedelta(hours=3))
    golden = open_bundle(GOLDEN).manifest
    assert first.bundle_id == second.bundle_id == golden.bundle_id
    assert first == golden
    assert (tmp_path / "a/manifest.json").read_bytes() == (GOLDEN / "manifest.json").read_bytes()
    assert second.created == CREATED + timedelta(hours=3)
    assert open_bundle(tmp_path / "b").manifest == second


def test_an_older_bundle_is_replaced_and_nothing_else_is(tmp_path: Path) -> None:
    draft, files = golden_draft()
    target = tmp_path / "out"
    write_bundle(target, draft, files, CREATED)
    newer = draft.model_copy(update={"licence": "MIT"})
    write_bundle(target, newer, files, CREATED)
    assert open_bundle(target).manifest.licence == "MIT"
    assert [path.name for path in tmp_path.iterdir()] == ["out"]

    (target / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(ConfigError, match="not a bundle and is left alone"):
        write_bundle(target, draft, files, CREATED)
    assert (target / "holiday.jpg").read_bytes() == b"precious"

    (tmp_path / "notes").write_text("mine", encoding="utf-8")
    with pytest.raises(ConfigError, match="not a folder"):
        write_bundle(tmp_path / "notes", draft, files, CREATED)
    with pytest.raises(ConfigError, match="not a bundle and is left alone"):
        pack_bundle(GOLDEN, tmp_path / "notes", for_device=False)
    with pytest.raises(ConfigError, match="not a file"):
        pack_bundle(GOLDEN, target, for_device=False)
    assert (tmp_path / "notes").read_text(encoding="utf-8") == "mine"


def test_a_bundle_that_could_not_be_read_back_is_not_left_behind(tmp_path: Path) -> None:
    draft, files = golden_draft()
    tensor = field(8, b"w") + field(14, 1)
    bad = files | {ENCODER: onnx_model(field(5, tensor))}
    with pytest.raises(BundleError, match=r"out: graphs/encoder_fp32\.onnx: .*external data"):
        write_bundle(tmp_path / "out", draft, bad, CREATED)
    with pytest.raises(BundleError, match="NOTICE"):
        write_bundle(tmp_path / "out", draft, files | {"notice.txt": b""}, CREATED)
    del files[ENCODER]
    with pytest.raises(BundleError, match=r"expected an entry for \['graphs/encoder_fp32.onnx'\]"):
        write_bundle(tmp_path / "out", draft, files, CREATED)
    assert list(tmp_path.iterdir()) == []


def test_a_time_without_zone_is_refused(tmp_path: Path) -> None:
    draft, files = golden_draft()
    with pytest.raises(ValueError, match="a time with its zone"):
        write_bundle(tmp_path / "out", draft, files, CREATED.replace(tzinfo=None))


def test_a_report_lies_beside_the_bundle_without_being_part_of_it(tmp_path: Path) -> None:
    draft, files = golden_draft()
    manifest = write_bundle(tmp_path / "a", draft, files | {"report.json": b"{}"}, CREATED)
    assert manifest.bundle_id == open_bundle(GOLDEN).manifest.bundle_id
    (tmp_path / "a/report.json").write_bytes(b'{"milliseconds": 12}')
    assert open_bundle(tmp_path / "a").manifest == manifest
    pack_bundle(tmp_path / "a", tmp_path / "full.edgebundle", for_device=False)
    pack_bundle(tmp_path / "a", tmp_path / "device.edgebundle", for_device=True)
    assert "report.json" in zipfile.ZipFile(tmp_path / "full.edgebundle").namelist()
    assert "report.json" not in zipfile.ZipFile(tmp_path / "device.edgebundle").namelist()


def test_packing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    first, second = tmp_path / "a.edgebundle", tmp_path / "b.edgebundle"
    manifest = pack_bundle(GOLDEN, first, for_device=False)
    shuffled = copy_golden(tmp_path)
    for path in sorted(shuffled.rglob("*"), reverse=True):
        os.utime(path, (1, 1))
    pack_bundle(shuffled, second, for_device=False)
    assert first.read_bytes() == second.read_bytes()
    pack_bundle(first, second, for_device=False)
    assert first.read_bytes() == second.read_bytes()
    assert manifest == open_bundle(first).manifest == open_bundle(GOLDEN).manifest


def test_an_archive_reads_like_its_folder_and_with_other_tools(tmp_path: Path) -> None:
    archive = tmp_path / "a.edgebundle"
    pack_bundle(GOLDEN, archive, for_device=False)
    folder, packed = open_bundle(GOLDEN), open_bundle(archive)
    for entry in folder.manifest.files:
        assert packed.read(entry.path) == folder.read(entry.path)
    with zipfile.ZipFile(archive) as stock:
        assert stock.testzip() is None
        stock.extractall(tmp_path / "unpacked")
    assert open_bundle(tmp_path / "unpacked").manifest == folder.manifest


def test_a_pack_for_a_device_leaves_out_the_torch_graph(tmp_path: Path) -> None:
    bundle = add_torch_graph(copy_golden(tmp_path))
    full = open_bundle(bundle).manifest
    assert len(full.graphs) == 4
    manifest = pack_bundle(bundle, tmp_path / "a.edgebundle", for_device=True)
    assert manifest.bundle_id == open_bundle(GOLDEN).manifest.bundle_id != full.bundle_id
    assert manifest == open_bundle(tmp_path / "a.edgebundle").manifest
    names = zipfile.ZipFile(tmp_path / "a.edgebundle").namelist()
    assert not [name for name in names if name.startswith("torch/")]


def test_a_bundle_with_nothing_for_a_device_is_not_packed_for_one(tmp_path: Path) -> None:
    bundle = add_torch_graph(copy_golden(tmp_path))
    document = json.loads((bundle / "manifest.json").read_bytes())
    gone = {path for graph in document["graphs"][:3] for path in graph["paths"]}
    for path in gone:
        (bundle / path).unlink()

    def only_torch(document: dict[str, Any]) -> None:
        document["graphs"] = document["graphs"][3:]
        document["files"] = [entry for entry in document["files"] if entry["path"] not in gone]

    with pytest.raises(BundleError, match="nothing for a device"):
        pack_bundle(seal(bundle, only_torch), tmp_path / "a.edgebundle", for_device=True)


@pytest.mark.parametrize("how", ["folder", "archive"])
def test_a_file_exchanged_after_opening_is_not_given_out(tmp_path: Path, how: str) -> None:
    path = copy_golden(tmp_path)
    if how == "archive":
        path = tmp_path / "a.edgebundle"
        pack_bundle(GOLDEN, path, for_device=False)
    bundle = open_bundle(path)
    changed = path / ENCODER if how == "folder" else path
    data = bytearray(changed.read_bytes())
    at = data.find(bundle.read(ENCODER)[100:200])
    data[at] ^= 1
    changed.write_bytes(data)
    with pytest.raises(BundleIntegrityError, match="encoder_fp32"):
        bundle.read(ENCODER)


@pytest.mark.timeout(20)
def test_a_pipe_or_link_put_in_a_files_place_after_opening_is_refused(tmp_path: Path) -> None:
    path = copy_golden(tmp_path)
    bundle = open_bundle(path)
    (path / ENCODER).unlink()
    os.mkfifo(path / ENCODER)
    with pytest.raises(BundleIntegrityError, match="a pipe, socket or device"):
        bundle.read(ENCODER)
    (path / ENCODER).unlink()
    (path / ENCODER).symlink_to(GOLDEN / ENCODER)
    with pytest.raises(BundleError, match="cannot be read"):
        bundle.read(ENCODER)


def test_a_bundle_is_found_through_a_link_that_is_swapped_later(tmp_path: Path) -> None:
    old, current = copy_golden(tmp_path), tmp_path / "current"
    current.symlink_to(old, target_is_directory=True)
    bundle = open_bundle(current)
    current.unlink()
    current.symlink_to(tmp_path, target_is_directory=True)
    assert bundle.read(ENCODER) == (GOLDEN / ENCODER).read_bytes()


def test_hard_links_are_fine_where_a_package_installer_made_them(tmp_path: Path) -> None:
    bundle = copy_golden(tmp_path)
    (tmp_path / "cache").hardlink_to(bundle / ENCODER)
    files = FolderFiles(bundle, hard_links_allowed=True)
    assert files.read(ENCODER, files.sizes[ENCODER]) == (GOLDEN / ENCODER).read_bytes()
    with pytest.raises(BundleIntegrityError, match="a hard link"):
        FolderFiles(bundle)


def created_bytes(path: str, data: bytes) -> range:
    """Where the time of making is in a manifest: the one value that no digest covers."""
    start = data.index(b'"created":"') + len('"created":"')
    return (
        range(start, start + len("2026-11-20T12:00:00Z")) if path == "manifest.json" else range(0)
    )


def all_paths() -> list[str]:
    return sorted(p.relative_to(GOLDEN).as_posix() for p in GOLDEN.rglob("*") if p.is_file())


@settings(max_examples=150, deadline=None)
@given(data=st.data(), path=st.sampled_from(all_paths()), mask=st.integers(1, 255))
def test_any_changed_byte_of_a_folder_is_refused(
    spare: Path, data: st.DataObject, path: str, mask: int
) -> None:
    good = (GOLDEN / path).read_bytes()
    position = data.draw(st.integers(0, len(good) - 1))
    if path == "manifest.json" and position in created_bytes(path, good):
        position = 0
    spoilt = bytearray(good)
    spoilt[position] ^= mask
    (spare / path).write_bytes(spoilt)
    try:
        with pytest.raises(BundleError):
            open_bundle(spare)
    finally:
        (spare / path).write_bytes(good)


@settings(max_examples=150, deadline=None)
@given(position=st.integers(0, 2**20), mask=st.integers(1, 255))
def test_any_changed_byte_of_an_archive_is_refused(
    spare_archive: bytes, spare: Path, position: int, mask: int
) -> None:
    spoilt = bytearray(spare_archive)
    spoilt[position % len(spoilt)] ^= mask
    target = spare.with_suffix(".spoilt")
    target.write_bytes(spoilt)
    with pytest.raises(BundleError):
        open_bundle(target)


@pytest.fixture(scope="module")
def spare(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One copy for all examples of a property; each puts back what it spoilt."""
    return copy_golden(tmp_path_factory.mktemp("spare"))


@pytest.fixture(scope="module")
def spare_archive(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    archive = tmp_path_factory.mktemp("spare") / "a.edgebundle"
    pack_bundle(GOLDEN, archive, for_device=False)
    return archive.read_bytes()


def test_a_bundle_of_5_mb_opens_in_50_ms(tmp_path: Path) -> None:
    bundle = copy_golden(tmp_path)
    weights = field(1, 5_000_000) + field(2, 2) + field(8, b"w") + field(9, bytes(5_000_000))
    node = field(1, b"in") + field(2, b"out") + field(4, b"Relu") + field(3, b"name" * 8)
    put(bundle, ENCODER, onnx_model(field(1, node) * 400 + field(5, weights)))

    def open_once() -> float:
        start = time.perf_counter()
        assert isinstance(open_bundle(bundle), Bundle)
        return time.perf_counter() - start

    seconds = min(open_once() for _ in range(8))
    print(f"opened in {1000 * seconds:.1f} ms")
    assert seconds < 0.05


def test_opening_a_bundle_needs_neither_numpy_nor_an_inference_library() -> None:
    program = (
        "import sys, pathlib\n"
        "from edge_sdk.bundle import open_bundle\n"
        "print(open_bundle(pathlib.Path(sys.argv[1])).manifest.bundle_id)\n"
        "heavy = {'numpy', 'cv2', 'onnx', 'onnxruntime', 'openvino', 'torch', 'yaml'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    out = subprocess.run(
        [sys.executable, "-c", program, str(GOLDEN)],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
    ).stdout.split()
    assert out == [open_bundle(GOLDEN).manifest.bundle_id, "[]"]


def test_a_manifest_alone_can_be_read() -> None:
    raw = (GOLDEN / "manifest.json").read_bytes()
    assert parse_manifest(raw) == open_bundle(GOLDEN).manifest


def test_a_bundle_is_gone_when_its_folder_is(tmp_path: Path) -> None:
    bundle = open_bundle(copy_golden(tmp_path))
    shutil.rmtree(bundle.location)
    with pytest.raises(BundleError, match="cannot be read"):
        bundle.read(ENCODER)
    with pytest.raises(BundleError, match="no such bundle"):
        open_bundle(bundle.location)
