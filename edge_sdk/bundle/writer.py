"""Writing a bundle: all of it, or nothing."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from edge_sdk.bundle.archive import order_of, write_archive
from edge_sdk.bundle.canonical import canonical_json
from edge_sdk.bundle.fields import write_time
from edge_sdk.bundle.manifest import BundleManifest, ManifestDraft, bundle_id_of
from edge_sdk.bundle.parsing import explain
from edge_sdk.bundle.paths import MANIFEST_NAME, REPORT_NAME, check_path, check_suffix, check_unique
from edge_sdk.bundle.reader import files_at, open_bundle, read_manifest
from edge_sdk.errors import BundleError, ConfigError, EdgeError


def write_bundle(
    destination: Path, draft: ManifestDraft, files: Mapping[str, bytes], created: datetime
) -> BundleManifest:
    """Write a bundle as a folder.

    It is written beside the destination, made durable, opened as a device would open it, and only
    then moved into place; an older bundle there is replaced.

    Args:
        destination: the folder.
        draft: what the numbers mean.
        files: path -> content of every file but the manifest; ``report.json`` is not listed.
        created: with its time zone; not part of the bundle's identity.

    Returns:
        The manifest as written.

    Raises:
        BundleError: the draft and the files do not fit, or a file cannot be in a bundle.
        ConfigError: the destination holds something that is not a bundle.
        EdgeError: the disk is full or not writable.
    """
    for path in files:
        check_path(path, where=str(destination))
        check_suffix(path, where=str(destination))
    check_unique(files, where=str(destination))
    entries = [
        {"path": path, "size": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        for path, data in sorted(files.items())
        if path != REPORT_NAME
    ]
    manifest = _finish(draft.document() | {"files": entries}, created, where=destination)
    _refuse_to_replace_others(destination, want_folder=True)
    content = {MANIFEST_NAME: canonical_json(manifest.document()), **files}
    try:
        with ExitStack() as undo:
            partial = _partial_beside(destination)
            undo.callback(shutil.rmtree, partial, ignore_errors=True)
            _write_folder(partial, content)
            _check_as_a_device_would(partial, destination)
            _move_into_place(partial, destination)
            undo.pop_all()
    except OSError as error:
        raise EdgeError(f"{destination}: cannot be written: {error}") from error
    return manifest


def pack_bundle(source: Path | None, archive: Path, *, for_device: bool) -> BundleManifest:
    """Write a bundle as one ``.edgebundle`` file; the same bundle always gives the same bytes.

    Args:
        source: a folder or archive; None: the built-in bundle.
        archive: the file to write; an older bundle there is replaced.
        for_device: leave out what no device can use, the graphs of format ``torch`` and the
            exporter's report. The result is another bundle, with its own ``bundle_id``.

    Returns:
        The manifest in the archive.

    Raises:
        BundleError: the source is no valid bundle, or has nothing for a device.
        ConfigError: the destination holds something that is not a bundle.
        EdgeError: the disk is full or not writable.
    """
    bundle = open_bundle(source)
    manifest = bundle.manifest
    if for_device:
        manifest = _without_torch(manifest, where=bundle.location)
    _refuse_to_replace_others(archive, want_folder=False)
    paths = [entry.path for entry in manifest.files]
    report_bytes = None if for_device else bundle.files.sizes.get(REPORT_NAME)

    def content() -> Iterable[tuple[str, bytes]]:
        names = [MANIFEST_NAME, *paths] + ([] if report_bytes is None else [REPORT_NAME])
        for path in sorted(names, key=order_of):
            if path == MANIFEST_NAME:
                yield path, canonical_json(manifest.document())
            elif path == REPORT_NAME and report_bytes is not None:
                yield path, bundle.files.read(path, report_bytes)
            else:
                yield path, bundle.read(path)

    try:
        with ExitStack() as undo:
            partial = _partial_beside(archive)
            undo.callback(partial.unlink, missing_ok=True)
            with partial.open("xb") as stream:
                write_archive(stream, content())
                stream.flush()
                os.fsync(stream.fileno())
            _check_as_a_device_would(partial, archive)
            partial.replace(archive)
            undo.pop_all()
        _sync_folder(archive.parent)
    except OSError as error:
        raise EdgeError(f"{archive}: cannot be written: {error}") from error
    return manifest


def _finish(document: dict[str, Any], created: datetime, *, where: Path) -> BundleManifest:
    """Give a manifest's document its name and time, and check it as a reader will."""
    pending = document | {"created": write_time(created), "bundle_id": "sha256:" + "0" * 64}
    try:
        unnamed = BundleManifest.model_validate_json(canonical_json(pending))
    except ValidationError as error:
        raise BundleError(f"{where}: {explain(error)}") from error
    return unnamed.model_copy(update={"bundle_id": bundle_id_of(unnamed)})


def _without_torch(manifest: BundleManifest, *, where: Path) -> BundleManifest:
    kept = [graph for graph in manifest.graphs if graph.format != "torch"]
    if len(kept) == len(manifest.graphs):
        return manifest
    if not kept:
        raise BundleError(f"{where}: holds graphs of format torch only, nothing for a device")
    document = manifest.document()
    document["graphs"] = [graph for graph in document["graphs"] if graph["format"] != "torch"]
    document["parity"] = [row for row in document["parity"] if row["engine"] != "torch"]
    in_use = {path for graph in kept for path in graph.paths}
    in_torch = {path for graph in manifest.graphs for path in graph.paths} - in_use
    document["files"] = [entry for entry in document["files"] if entry["path"] not in in_torch]
    # A signature over the old manifest says nothing of this one.
    document.pop("signature", None)
    return _finish(document, manifest.created, where=where)


def _refuse_to_replace_others(destination: Path, *, want_folder: bool) -> None:
    if not os.path.lexists(destination):
        return
    if destination.is_symlink() or destination.is_dir() != want_folder:
        kind = "folder" if want_folder else "file"
        raise ConfigError(f"{destination}: is there and not a {kind}; choose another place")
    if want_folder and not any(destination.iterdir()):
        return
    try:
        read_manifest(files_at(destination))
    except BundleError as error:
        raise ConfigError(
            f"{destination}: holds something that is not a bundle and is left alone ({error})"
        ) from error


def _check_as_a_device_would(partial: Path, destination: Path) -> None:
    try:
        open_bundle(partial)
    except BundleError as error:
        # The partial copy is gone when this is read.
        raise type(error)(str(error).replace(str(partial), str(destination))) from error


def _partial_beside(destination: Path) -> Path:
    """A name on the same file system, so that the last step is a rename."""
    destination.parent.mkdir(parents=True, exist_ok=True)
    return destination.parent / f".{destination.name}.{secrets.token_hex(4)}.partial"


def _write_folder(folder: Path, content: Mapping[str, bytes]) -> None:
    folder.mkdir()
    for path, data in content.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with target.open("xb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
    for inner in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        _sync_folder(inner)


def _move_into_place(partial: Path, destination: Path) -> None:
    """Rename; the older bundle is out of the way for the time between two renames."""
    replaced = destination.is_dir() and any(destination.iterdir())
    old = partial.with_suffix(".replaced")
    if replaced:
        destination.rename(old)
    partial.rename(destination)
    _sync_folder(destination.parent)
    if replaced:
        shutil.rmtree(old)


def _sync_folder(folder: Path) -> None:
    """Make names in a folder durable, where the system can."""
    flag = getattr(os, "O_DIRECTORY", None)
    if flag is None:
        return
    descriptor = os.open(folder, os.O_RDONLY | flag)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
