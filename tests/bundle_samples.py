"""Bundles for tests: copies of the golden one, spoilt on purpose and named anew."""

from __future__ import annotations

import hashlib
import json
import shutil
import struct
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edge_sdk.bundle.canonical import canonical_json
from edge_sdk.bundle.manifest import identity_of

GOLDEN = Path(__file__).parent / "data" / "golden_bundle_v1"
ENCODER = "graphs/encoder_fp32.onnx"
EXPECTED_MAP = "golden/expected/0/map.npy"


def copy_golden(folder: Path) -> Path:
    """A copy of the golden bundle, to be spoilt."""
    return Path(shutil.copytree(GOLDEN, folder / "bundle"))


def read_document(bundle: Path) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((bundle / "manifest.json").read_bytes())
    return document


def seal(bundle: Path, change: Callable[[dict[str, Any]], object] = lambda _: None) -> Path:
    """Change the manifest and give it the identity that a writer would."""
    document = read_document(bundle)
    change(document)
    document["bundle_id"] = identity_of(document)
    (bundle / "manifest.json").write_bytes(canonical_json(document))
    return bundle


def put(bundle: Path, path: str, data: bytes) -> Path:
    """Write a file and list it as a writer would."""
    target = bundle / path
    target.parent.mkdir(parents=True, exist_ok=True)
    target.write_bytes(data)

    def list_it(document: dict[str, Any]) -> None:
        files = [entry for entry in document["files"] if entry["path"] != path]
        digest = hashlib.sha256(data).hexdigest()
        files.append({"path": path, "size": len(data), "sha256": digest})
        document["files"] = sorted(files, key=lambda entry: str(entry["path"]))

    return seal(bundle, list_it)


def field(number: int, value: bytes | int) -> bytes:
    """One protobuf field."""
    if isinstance(value, int):
        return _varint(number << 3) + _varint(value)
    return _varint(number << 3 | 2) + _varint(len(value)) + value


def onnx_model(graph: bytes = b"", *, opset: int = 17, rest: bytes = b"") -> bytes:
    """An ONNX model around the fields of a graph."""
    return field(1, 8) + field(7, graph) + field(8, field(1, b"") + field(2, opset)) + rest


def _varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes([*out, value])


def npy(header: str, data: bytes, *, version: bytes = b"\x01\x00") -> bytes:
    """A ``.npy`` file with a header of one's own."""
    text = header.encode() + b"\n"
    length = len(text).to_bytes(2 if version == b"\x01\x00" else 4, "little")
    return b"\x93NUMPY" + version + length + text + data


@dataclass(frozen=True, kw_only=True)
class ZipMember:
    """A member of a zip archive; each default is what a bundle has."""

    name: bytes
    data: bytes
    flags: int = 0
    method: int = 0
    time: int = 0
    extra: bytes = b""
    comment: bytes = b""
    mode: int = 0o100644
    local_flags: int | None = None
    crc: int | None = None
    size: int | None = None
    offset: int | None = None


def build_zip(members: Sequence[ZipMember], *, comment: bytes = b"") -> bytes:
    """A zip archive, without asking whether it makes sense."""
    body, central = b"", b""
    for m in members:
        packed = zlib.compress(m.data, 9)[2:-4] if m.method == 8 else m.data
        crc = zlib.crc32(m.data) if m.crc is None else m.crc
        size = len(m.data) if m.size is None else m.size
        offset = len(body) if m.offset is None else m.offset
        common = struct.pack(
            "<3H3L2H", m.method, m.time, 0x21, crc, len(packed), size, len(m.name), len(m.extra)
        )
        local_flags = m.flags if m.local_flags is None else m.local_flags
        body += b"PK\x03\x04" + struct.pack("<2H", 10, local_flags) + common
        body += m.name + m.extra + packed
        central += b"PK\x01\x02" + struct.pack("<3H", 3 << 8 | 10, 10, m.flags) + common
        central += struct.pack("<3H2L", len(m.comment), 0, 0, m.mode << 16, offset)
        central += m.name + m.extra + m.comment
    count = len(members)
    end = struct.pack("<4H2LH", 0, 0, count, count, len(central), len(body), len(comment))
    return body + central + b"PK\x05\x06" + end + comment


def golden_members() -> list[ZipMember]:
    """The golden bundle's files, in the order of an archive."""
    files = sorted(path for path in GOLDEN.rglob("*") if path.is_file())
    names = {path: path.relative_to(GOLDEN).as_posix() for path in files}
    files.sort(key=lambda path: (names[path] != "manifest.json", names[path]))
    return [ZipMember(name=names[path].encode(), data=path.read_bytes()) for path in files]
