"""Opening a bundle: everything is checked before anything of it is used."""

from __future__ import annotations

import hashlib
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from edge_sdk.bundle.archive import ArchiveFiles
from edge_sdk.bundle.arrays import check_npy, load_npy
from edge_sdk.bundle.folder import FolderFiles
from edge_sdk.bundle.ir_guard import check_openvino
from edge_sdk.bundle.manifest import BundleManifest, FileEntry, GraphSpec
from edge_sdk.bundle.onnx_guard import check_onnx
from edge_sdk.bundle.parsing import MAX_MANIFEST_BYTES, parse_manifest
from edge_sdk.bundle.paths import MANIFEST_NAME, REPORT_NAME
from edge_sdk.errors import BundleError, BundleIntegrityError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_PNG_MAGIC = b"\x89PNG\r\n\x1a\n"


class BundleFiles(Protocol):
    """Where the bytes of a bundle come from: a folder or an archive."""

    location: Path
    sizes: Mapping[str, int]
    """Path -> bytes, as found; nothing of it is believed."""

    def read(self, path: str, size: int) -> bytes:
        """Read one file of a known size; ``BundleError`` where that is not possible."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Bundle:
    """A bundle that was checked in full when it was opened."""

    manifest: BundleManifest
    files: BundleFiles

    @property
    def location(self) -> Path:
        """The folder or archive."""
        return self.files.location

    def read(self, path: str) -> bytes:
        """The bytes of a file, as the manifest has them.

        They are hashed again on the way: a file that was exchanged after the bundle was opened
        is never handed to an inference library, and a large graph is not held in memory twice.

        Raises:
            BundleError: the manifest has no such file, or it cannot be read.
            BundleIntegrityError: it is no longer the file that was checked.
        """
        entry = next((entry for entry in self.manifest.files if entry.path == path), None)
        if entry is None:
            raise BundleError(f"{self.location}: {path}: no such file in this bundle")
        return _read_verified(self.files, entry)

    def read_graph(self, graph: GraphSpec) -> tuple[bytes, ...]:
        """The bytes of a graph: one file for ONNX, the ``.xml`` and the ``.bin`` for OpenVINO.

        Raises:
            BundleError: as ``read``.
        """
        return tuple(self.read(path) for path in graph.paths)

    def path_of(self, graph: GraphSpec) -> Path:
        """Where a graph's first file lies, for messages; in an archive, its place in there.

        Engines get the checked bytes of ``read_graph`` and never open this path.
        """
        return self.location / graph.paths[0]

    def load_array(self, path: str) -> NDArray[Any]:
        """Load a ``.npy`` file; read-only, never unpickled.

        Raises:
            BundleError: as ``read``, or no array that a bundle may hold.
        """
        return load_npy(self.read(path), name=f"{self.location}: {path}")


def open_bundle(path: Path | None) -> Bundle:
    """Open a bundle and check all of it: the manifest first, then every file.

    Args:
        path: a folder or an ``.edgebundle`` archive; None: the built-in one.

    Raises:
        BundleError: there is none, it is malformed, or made for another runtime.
        BundleIntegrityError: it is not what its manifest says.
    """
    files = _built_in_files() if path is None else files_at(path)
    manifest = read_manifest(files)
    for entry in manifest.files:
        _check_content(_read_verified(files, entry), entry.path, manifest, str(files.location))
    return Bundle(manifest=manifest, files=files)


def files_at(path: Path) -> BundleFiles:
    """List the files of a folder or archive without opening what is neither.

    Raises:
        BundleError: there is nothing, or something else; and as ``FolderFiles``, ``ArchiveFiles``.
    """
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise BundleError(f"{path}: no such bundle: {error.strerror}") from error
    if stat.S_ISDIR(mode):
        return FolderFiles(path)
    if stat.S_ISREG(mode):
        return ArchiveFiles(path)
    raise BundleError(f"{path}: expected a folder or a .edgebundle archive")


def read_manifest(files: BundleFiles) -> BundleManifest:
    """Read the manifest and hold its list of files against what is there.

    Raises:
        BundleError: as ``parse_manifest``.
        BundleIntegrityError: a file is missing, undeclared or of another size.
    """
    where = str(files.location)
    size = files.sizes.get(MANIFEST_NAME)
    if size is None:
        raise BundleError(f"{where}: {MANIFEST_NAME}: not there, so this is no bundle")
    if size > MAX_MANIFEST_BYTES:
        raise BundleError(
            f"{where}: {MANIFEST_NAME}: {size} bytes, expected at most {MAX_MANIFEST_BYTES}"
        )
    manifest = parse_manifest(files.read(MANIFEST_NAME, size), name=f"{where}: {MANIFEST_NAME}")
    declared = {entry.path: entry.size for entry in manifest.files}
    undeclared = sorted(set(files.sizes) - set(declared) - {MANIFEST_NAME, REPORT_NAME})
    if undeclared:
        raise BundleIntegrityError(f"{where}: {undeclared[0]}: not in the manifest")
    for path, expected in declared.items():
        found = files.sizes.get(path)
        if found is None:
            raise BundleIntegrityError(f"{where}: {path}: missing, the manifest lists it")
        if found != expected:
            raise BundleIntegrityError(f"{where}: {path}: expected {expected} bytes, got {found}")
    return manifest


def _read_verified(files: BundleFiles, entry: FileEntry) -> bytes:
    data = files.read(entry.path, entry.size)
    digest = hashlib.sha256(data).hexdigest()
    if digest != entry.sha256:
        raise BundleIntegrityError(
            f"{files.location}: {entry.path}: expected sha256 {entry.sha256}, got {digest}"
        )
    return data


def _check_content(data: bytes, path: str, manifest: BundleManifest, where: str) -> None:
    name = f"{where}: {path}"
    graph = next((graph for graph in manifest.graphs if path in graph.paths), None)
    if path.endswith(".npy"):
        check_npy(data, name=name)
    elif path.endswith(".png") and not data.startswith(_PNG_MAGIC):
        raise BundleError(f"{name}: expected a PNG picture, it starts with {data[:8]!r}")
    elif path.endswith(".onnx") and graph is not None and graph.opset is not None:
        check_onnx(data, name=name, opset=graph.opset)
    elif path.endswith(".xml") and graph is not None:
        sizes = {entry.path: entry.size for entry in manifest.files}
        check_openvino(data, name=name, weights_bytes=sizes[graph.paths[1]])


def _built_in_files() -> BundleFiles:
    folder = resources.files("edge_sdk") / "builtin" / "bundle"
    if not isinstance(folder, Path) or not folder.is_dir():
        raise BundleError(f"built-in bundle: {folder}: not there; name a bundle with --bundle")
    return FolderFiles(folder, hard_links_allowed=True)
