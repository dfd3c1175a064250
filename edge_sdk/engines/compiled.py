"""Graphs as an inference library has compiled them for this box, so that the next start is quick.

A cache: whatever is missing, damaged or from another library version or processor is compiled anew,
and a folder that cannot be written costs time, not parts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import secrets
import shutil
from contextlib import suppress
from pathlib import Path

from edge_sdk.machine import processor_digest

MAX_FILES = 8
MAX_BYTES = 2 * 2**30
"""Of all files together: two precisions of the largest tower that runs on such a box."""

_DIGEST_BYTES = 32
_BUILT = ".built"
"""End of the name of a folder that a library keeps for itself."""
_LOG = logging.getLogger(__name__)


class CompiledCache:
    """Compiled graphs in ``state_dir/compiled``, the least recently used dropped first.

    Args:
        state_dir: where this box keeps what it learns.
        max_files: kept at most.
        max_bytes: kept at most.
    """

    def __init__(
        self, state_dir: Path, *, max_files: int = MAX_FILES, max_bytes: int = MAX_BYTES
    ) -> None:
        self._folder = state_dir / "compiled"
        self._max_files = max_files
        self._max_bytes = max_bytes

    @staticmethod
    def key(model: bytes, weights: bytes | None, **settings: object) -> str:
        """Name a graph compiled with these settings on this processor.

        Args:
            model: the graph's file.
            weights: a second file, or None.
            settings: library, version, device, precision, threads: JSON values.
        """
        described = json.dumps({"processor": processor_digest(), **settings}, sort_keys=True)
        digest = hashlib.sha256(described.encode())
        for part in (model, weights or b""):
            digest.update(hashlib.sha256(part).digest())
        return digest.hexdigest()[:32]

    def read(self, key: str) -> bytes | None:
        """What was stored under ``key``; None: nothing, or not what was written."""
        path = self._path(key)
        try:
            stored = path.read_bytes()
            os.utime(path)  # it was used just now
        except OSError:
            return None
        digest, data = stored[:_DIGEST_BYTES], stored[_DIGEST_BYTES:]
        if hashlib.sha256(data).digest() != digest:  # cut off or damaged: never given to a library
            self.discard(key)
            return None
        return data

    def write(self, key: str, data: bytes) -> None:
        """Store a compiled graph whole or not at all, and drop what is too much."""
        if len(data) + _DIGEST_BYTES > self._max_bytes:
            return
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            partial = self._folder / f".{key}.{secrets.token_hex(4)}.partial"
            partial.write_bytes(hashlib.sha256(data).digest() + data)
            partial.rename(self._path(key))
            self._prune()
        except OSError as error:
            _LOG.warning("compiled graphs cannot be kept, every start compiles again: %s", error)

    def discard(self, key: str) -> None:
        """Forget what is stored under ``key``."""
        with suppress(OSError):
            self._path(key).unlink()

    def scratch(self, key: str) -> Path | None:
        """A file that a library may write to; None: the folder cannot be written."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
        except OSError:
            return None
        return self._folder / f".{key}.{secrets.token_hex(4)}.partial"

    def folder(self, key: str) -> Path | None:
        """A folder that a library keeps what it builds in; None: it cannot be written.

        The library names its files itself and checks them itself. It counts as one graph.
        """
        path = self._folder / f"{key}{_BUILT}"
        try:
            path.mkdir(parents=True, exist_ok=True)
            os.utime(path)  # it is used now
            self._prune()
        except OSError as error:
            _LOG.warning("what is built for this box cannot be kept: %s", error)
            return None
        return path

    def _path(self, key: str) -> Path:
        return self._folder / f"{key}.graph"

    def _prune(self) -> None:
        """Drop the least recently used beyond the limits, and what a killed process left."""
        found = [*self._folder.glob("*.graph"), *self._folder.glob(f"*{_BUILT}")]
        kept = [(path.stat(), path) for path in found]
        kept.sort(key=lambda entry: -entry[0].st_mtime_ns)
        total = 0
        for number, (status, path) in enumerate(kept, start=1):
            is_folder = path.is_dir()
            total += _size_of(path) if is_folder else status.st_size
            # The newest stays: a library is about to build in it, or has just done so.
            if number > self._max_files or (total > self._max_bytes and number > 1):
                shutil.rmtree(path) if is_folder else path.unlink(missing_ok=True)
        newest = max((status.st_mtime for status, _ in kept), default=0.0)
        for path in self._folder.glob(".*.partial"):
            with suppress(OSError):
                if path.stat().st_mtime < newest - 3600:
                    path.unlink()


def _size_of(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.iterdir() if path.is_file())
