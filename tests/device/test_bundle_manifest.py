"""Manifests that are refused, each for its own reason."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

import pytest
from bundle_samples import EXPECTED_MAP, GOLDEN, read_document

from edge_sdk._version import __version__
from edge_sdk.bundle import canonical_json, parse_manifest
from edge_sdk.bundle.manifest import identity_of
from edge_sdk.errors import BundleError, BundleIntegrityError

Change: TypeAlias = Callable[[dict[str, Any]], object]

RAW = (GOLDEN / "manifest.json").read_bytes()


def sealed(change: Change) -> bytes:
    document = read_document(GOLDEN)
    change(document)
    document["bundle_id"] = identity_of(document)
    return canonical_json(document)


def spelled(old: bytes, new: bytes) -> bytes:
    assert old in RAW
    return RAW.replace(old, new, 1)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        pytest.param(b"", "not JSON at line 1, column 1", id="empty"),
        pytest.param(RAW[:-1], "not JSON", id="cut off"),
        pytest.param(RAW + b"}", "not JSON", id="something behind"),
        pytest.param(b"[]", "expected a JSON object, got list", id="no object"),
        pytest.param(b"\xef\xbb\xbf" + RAW, "byte order mark", id="byte order mark"),
        pytest.param(RAW.decode().encode("utf-16"), "not UTF-8 at byte 0", id="UTF-16"),
        pytest.param(
            spelled(b'{"bundle_id"', b'{"licence":"MIT","bundle_id"'),
            "duplicate key 'licence'",
            id="duplicate key",
        ),
        pytest.param(spelled(b'"sigma":1.5', b'"sigma":NaN'), "NaN is not a JSON", id="NaN"),
        pytest.param(spelled(b'"sigma":1.5', b'"sigma":-Infinity'), "-Infinity is", id="infinity"),
        pytest.param(spelled(b'"sigma":1.5', b'"sigma":1e999'), "1e999 is too large", id="1e999"),
        pytest.param(
            spelled(b'"serial":1', b'"serial":' + b"1" * 5000), "is beyond", id="5000 digits"
        ),
        pytest.param(
            spelled(b'"serial":1', b'"serial":9223372036854775808'), "is beyond", id="serial 2^63"
        ),
        pytest.param(
            spelled(b'"serial":1', b'"serial":9007199254740992'), "is beyond", id="serial 2^53"
        ),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, "nested deeper than 16", id="depth 100000"),
        pytest.param(b'\\"' * 500_000, "not JSON", id="quotes without end"),
        pytest.param(b'{"a":' * 17 + b"1" + b"}" * 17, "nested deeper than 16", id="depth 17"),
        pytest.param(b" " * (2**20 + 1), "expected at most 1048576", id="over 1 MB"),
        pytest.param(
            spelled(b'"licence":"Apache-2.0"', b'"licence":"\\ud800"'), "surrogate", id="surrogate"
        ),
        pytest.param(
            json.dumps(json.loads(RAW)).encode(), "not canonical JSON at byte", id="spaces"
        ),
        pytest.param(spelled(b"1e-06", b"1E-06"), "not canonical JSON at byte", id="1E-06"),
        pytest.param(spelled(b'"rgb"', b'"\\u0072gb"'), "not canonical JSON at", id="escapes"),
    ],
)
def test_json_that_could_be_read_in_two_ways_is_refused(raw: bytes, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        parse_manifest(raw)
    assert not isinstance(caught.value, BundleIntegrityError)
    assert caught.value.exit_code == 4


def graph(index: int, **values: object) -> Change:
    return lambda d: d["graphs"][index].update(values)


def output(**values: object) -> Change:
    return lambda d: d["graphs"][0]["outputs"][0].update(values)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format_version=2), "format_version 2: edge_sdk .* reads .* 1"),
        (lambda d: d.update(format_version=True), "format_version True"),
        (lambda d: d.pop("format_version"), "format_version None"),
        (lambda d: d.update(requires_runtime="latest"), "requires_runtime: .* got 'latest'"),
        (lambda d: d.update(colour="red"), "unknown key 'colour'"),
        (lambda d: d["input"].update(colour="red"), "input: unknown key 'colour'"),
        (lambda d: d["graphs"][0].update(size=1), "graphs.0: unknown key 'size'"),
        (lambda d: d.pop("licence"), "licence: Field required"),
        (lambda d: d.update(licence=1), "licence: Input should be a valid string, got '1'"),
        (lambda d: d.update(licence="\x1b[2Jgone"), "licence: String should match"),
        (lambda d: d.update(commercial_use="maybe"), "commercial_use: .* got 'maybe'"),
        (lambda d: d.update(serial=-1), "serial: .* greater than or equal to 0"),
        (lambda d: d.update(expires="tomorrow"), "expires: .*tomorrow"),
        (lambda d: d.update(created="2026-11-20 12:00"), "created: "),
        (lambda d: d.update(extractor_id="abc"), "extractor_id: String should match"),
        (lambda d: d["model"].update(dims=[6, 6]), "model: dims: expected 1, one a layer"),
        (lambda d: d["model"].update(streams=[]), "is not among model.streams"),
        (lambda d: d["input"].update(size=[0, 32]), "input.size.0: .* to 16, got '0'"),
        (lambda d: d["input"].update(size=[32, 10**9]), "input.size.1: .* to 4096"),
        (lambda d: d["input"].update(size=[32]), "input.size.1: Field required"),
        (lambda d: d["input"].update(size=[32.5, 32]), "input.size.0: .* valid integer"),
        (lambda d: d["input"].update(std=[0.2, 0.0, 0.2]), "input.std.1: .* greater than 0"),
        (lambda d: d["input"].update(std=[0.2, -0.2, 0.2]), "input.std.1: .* greater than 0"),
        (lambda d: d["input"].update(mean=[0.5]), "mean and std: expected 3 values each"),
        (lambda d: d["input"].update(mean=[]), "mean and std: expected 3"),
        (lambda d: d["input"].update(color="bgr"), "input.color: .* got 'bgr'"),
        (lambda d: d["input"]["resize"].update(kernel="lanczos"), "input.resize.kernel"),
        (lambda d: d["input"]["resize"].update(mode="stretch"), "input.resize.mode"),
        (lambda d: d.update(graphs=[]), "graphs: Tuple should have at least 1"),
        (lambda d: d["graphs"].append(d["graphs"][0]), "graphs: .* is there twice"),
        (graph(0, precision="fp64"), "graphs.0.precision: .* got 'fp64'"),
        (graph(0, format="tensorrt"), "graphs.0.format: .* got 'tensorrt'"),
        (graph(0, paths=["a.engine"]), "graphs.0: paths: expected .*onnx"),
        (graph(1, paths=["a.bin", "a.xml"]), "graphs.1: paths: expected .*xml"),
        (graph(0, opset=None), "graphs.0: opset: belongs to onnx graphs"),
        (graph(1, opset=17), "graphs.1: opset: belongs to onnx graphs"),
        (graph(0, tolerance={"map": 1.0}), r"graphs.0: tolerance: \['map'\] are not outputs"),
        (graph(0, tolerance={"conv_1": -1.0}), "graphs.0.tolerance.conv_1: .* equal to 0"),
        (graph(0, outputs=[{"name": "image", "shape": []}]), "graphs.0: .* different names"),
        (graph(1, outputs=[{"name": "x", "shape": [6]}]), "encoder fp32: expected outputs with"),
        (
            graph(0, inputs=[{"name": "image", "shape": [None, 32, 16, 3]}]),
            r"encoder fp32: expected one input \(batch, 32, 32, channels\)",
        ),
        (
            graph(0, inputs=[{"name": "image", "shape": [None, 2**40, 32, 3]}]),
            "graphs.0.inputs.0.shape.1: .* less than or equal",
        ),
        (output(grid=[4, 5]), "graphs.0.outputs.0: output conv_1: expected shape .*20"),
        (output(grid=None), "stream, layer and grid belong together"),
        (output(layer=2), "output conv_1 of .*'conv', 2.* not among"),
        (output(stream="vv"), "output conv_1 of .*'vv', 1.* not among"),
        (output(shape=[None, 16, 7]), "length 7 is not among"),
        (lambda d: d["scorers"].append(d["scorers"][0]), "scorers: few_shot is there twice"),
        (lambda d: d.update(scorers=[]), "scorers: Tuple should have at least 1"),
        (lambda d: d["scorers"][0].update(sigma=-1.0), "scorers.0.sigma: .* equal to 0"),
        (
            lambda d: d["scorers"][0]["parameters"].update(deep={"a": 1}),
            "scorers.0.parameters.deep",
        ),
        (lambda d: d["scorers"][0].update(text_features="x.npz"), "scorers.0.text_features"),
        (lambda d: d["threshold"].update(value=-0.1), "threshold.value: .* equal to 0"),
        (lambda d: d["threshold"].pop("value"), "threshold.value: Field required"),
        (lambda d: d["parity"][0].update(rank_correlation=1.5), "parity.0.rank_correlation"),
        (lambda d: d["parity"][0].update(weights="guessed"), "parity.0.weights"),
        (lambda d: d["golden"].update(frames=[]), "golden.frames: Tuple should have"),
        (lambda d: d["golden"].update(frames=["a.jpg"]), "golden: frames and references: .*png"),
        (lambda d: d["golden"].update(tolerance={}), "golden.tolerance: .* for .'fp32'"),
        (lambda d: d["golden"].update(expected="elsewhere"), "entry for .*elsewhere/0/map.npy"),
        (lambda d: d["files"].reverse(), "files: expected to be sorted"),
        (lambda d: d["files"][0].update(size=5 * 10**9), "files.0.size: .* equal to 2147483647"),
        (
            lambda d: [entry.update(size=2**31 - 1) for entry in d["files"]],
            "files: expected at most 4278190080 bytes",
        ),
        (lambda d: d["files"][0].update(sha256="0"), "files.0.sha256: String should match"),
        (
            lambda d: d.update(files=[{**d["files"][0], "path": f"{n:04}"} for n in range(1001)]),
            "files: expected at most 1000",
        ),
        (
            lambda d: d["files"].insert(0, {**d["files"][0], "path": "A.onnx"}),
            r"files: \['A.onnx'\] belong to no graph",
        ),
        (
            lambda d: d["files"].insert(-1, {**d["files"][0], "path": "manifest.json"}),
            "files: manifest.json is never listed",
        ),
        (lambda d: d["input"].update(mean=[0, 0, 0]), "not canonical JSON at byte"),
    ],
)
def test_values_that_the_format_does_not_allow_are_refused(change: Change, message: str) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        parse_manifest(sealed(change))
    assert caught.value.exit_code == 4


def test_a_bundle_for_a_newer_runtime_is_refused_naming_both_versions() -> None:
    message = f"made for edge_sdk 99.1 or newer, this is edge_sdk {__version__}"
    with pytest.raises(BundleError, match=message) as caught:
        parse_manifest(sealed(lambda d: d.update(requires_runtime="99.1", unheard_of=1)))
    assert caught.value.exit_code == 4


@pytest.mark.parametrize("version", ["0.0.9", "0.1", "0.1.0"])
def test_a_bundle_for_this_or_an_older_runtime_is_read(version: str) -> None:
    manifest = parse_manifest(sealed(lambda d: d.update(requires_runtime=version)))
    assert manifest.requires_runtime == version


@pytest.mark.parametrize(
    "place",
    [
        lambda d: d,
        lambda d: d["input"]["resize"],
        lambda d: d["graphs"][0]["outputs"][0],
        lambda d: d["golden"]["tolerance"]["fp32"],
        lambda d: d["files"][3],
    ],
)
def test_keys_of_others_are_ignored_everywhere(
    place: Callable[[dict[str, Any]], dict[str, Any]],
) -> None:
    raw = sealed(lambda d: place(d).update({"x_a": {"b": [1, 2.5, None, "c"]}, "x_b": True}))
    manifest = parse_manifest(raw)
    assert canonical_json(manifest.document()) == raw
    assert manifest.bundle_id != parse_manifest(RAW).bundle_id


def test_reserved_keys_may_be_there_or_not() -> None:
    reserved = ("serial", "device_class", "expires", "key_id")
    manifest = parse_manifest(sealed(lambda d: [d.pop(key) for key in reserved]))
    assert [getattr(manifest, key) for key in reserved] == [None] * 4
    signed = parse_manifest(sealed(lambda d: d.update(signature="ed25519:abc")))
    assert signed.signature == "ed25519:abc"
    assert signed.bundle_id == parse_manifest(RAW).bundle_id


@pytest.mark.parametrize(
    "raw",
    [
        pytest.param(spelled(b'"rgb"', b'"rgc"'), id="one value"),
        pytest.param(spelled(b'"bundle_id":"sha256:14', b'"bundle_id":"sha256:24'), id="the id"),
        pytest.param(spelled(b'"licence":', b'"licencf":'), id="a key"),
    ],
)
def test_a_manifest_that_was_changed_is_called_damaged(raw: bytes) -> None:
    with pytest.raises(BundleIntegrityError, match="bundle_id: the content is sha256:") as caught:
        parse_manifest(raw)
    assert caught.value.exit_code == 5


@pytest.mark.parametrize(
    ("path", "message"),
    [
        ("", "empty"),
        ("../evil.txt", "leads out of the bundle"),
        ("a/../../x.txt", "leads out of the bundle"),
        ("/etc/passwd", "absolute"),
        ("a\\b.txt", "backslash"),
        ("a\x00b.txt", "NUL"),
        ("a\nb.txt", "expected letters"),
        ("\x1b[31mred.txt", "expected letters"),
        ("-rf.txt", "expected letters"),
        (".hidden.txt", "expected letters"),
        ("./a.txt", "expected letters"),
        ("a//b.txt", "expected letters"),
        ("caf\u00e9.txt", "expected letters"),
        ("cafe\u0301.txt", "expected letters"),
        ("a.txt.", "expected letters"),
        ("a" * 300 + ".txt", "longer than 200"),
        ("a/b/c/d/e/f/g.txt", "deeper than 6"),
        ("CON.txt", "for a device"),
        ("a/lpt1/b.txt", "for a device"),
        ("GOLDEN/expected/0/map.npy", "differs from .* in case only"),
        (EXPECTED_MAP, "is there twice"),
        ("weights.pt", "kind of file '.pt' is not allowed"),
        ("weights.pth", "kind of file '.pth'"),
        ("memory.pkl", "kind of file '.pkl'"),
        ("memory.joblib", "kind of file '.joblib'"),
        ("memory.npz", "kind of file '.npz'"),
        ("host.engine", "kind of file '.engine'"),
        ("nested.edgebundle", "kind of file '.edgebundle'"),
        ("run.sh", "kind of file '.sh'"),
        ("LICENSE", "kind of file ''"),
    ],
)
def test_file_names_that_are_no_plain_names_are_refused(path: str, message: str) -> None:
    def list_it(document: dict[str, Any]) -> None:
        document["files"].append({**document["files"][0], "path": path})
        document["files"].sort(key=lambda entry: str(entry["path"]))

    with pytest.raises(BundleIntegrityError, match=message) as caught:
        parse_manifest(sealed(list_it))
    assert caught.value.exit_code == 5
    assert "\x1b" not in str(caught.value)
