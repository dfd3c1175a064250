"""A bundle as a folder: plain files only, nothing that leads elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

from edge_sdk.bundle.fields import MAX_FILE_BYTES, MAX_FILES
from edge_sdk.bundle.paths import check_path, check_unique
from edge_sdk.errors import BundleError, BundleIntegrityError

# A pipe that was put in a file's place must not make the open wait for a writer.
_FLAGS = (
    os.O_RDONLY
    | getattr(os, "O_NOFOLLOW", 0)
    | getattr(os, "O_NONBLOCK", 0)
    | getattr(os, "O_CLOEXEC", 0)
    | getattr(os, "O_BINARY", 0)
)


class FolderFiles:
    """The files below a folder.

    Args:
        location: the folder; a symlink is followed once, here, so that one that is swapped later
            cannot mix two bundles.
        hard_links_allowed: True for the built-in bundle, which package installers may link out of
            their cache.

    Raises:
        BundleError: it cannot be read, or holds too many files.
        BundleIntegrityError: a link, pipe, device or name that a bundle must not hold.
    """

    def __init__(self, location: Path, *, hard_links_allowed: bool = False) -> None:
        self.location = location
        self._root = location.resolve()
        self._hard_links_allowed = hard_links_allowed
        try:
            self.sizes: Mapping[str, int] = self._scan()
        except OSError as error:
            raise BundleError(f"{location}: cannot be read: {error}") from error
        check_unique(sorted(self.sizes), where=str(location))

    def read(self, path: str, size: int) -> bytes:
        """Read one file of a known size.

        Raises:
            BundleError: it cannot be read.
            BundleIntegrityError: it has another size or is no longer a plain file.
        """
        try:
            with os.fdopen(os.open(self._root / path, _FLAGS), "rb") as stream:
                self._check_kind(path, os.fstat(stream.fileno()))
                data = stream.read(size + 1)
        except OSError as error:
            raise BundleError(f"{self.location}: {path}: cannot be read: {error}") from error
        if len(data) != size:
            raise BundleIntegrityError(
                f"{self.location}: {path}: expected {size} bytes, got "
                f"{'more' if len(data) > size else len(data)}"
            )
        return data

    def _scan(self) -> dict[str, int]:
        sizes: dict[str, int] = {}
        pending = [""]
        while pending:
            folder = pending.pop()
            with os.scandir(self._root / folder) as entries:
                for entry in entries:
                    path = folder + entry.name
                    check_path(path, where=str(self.location))
                    status = entry.stat(follow_symlinks=False)
                    if stat.S_ISDIR(status.st_mode):
                        pending.append(path + "/")
                    else:
                        self._check_kind(path, status)
                        sizes[path] = status.st_size
                    if len(sizes) + len(pending) > MAX_FILES + 2:
                        raise BundleError(f"{self.location}: more than {MAX_FILES} files")
        return sizes

    def _check_kind(self, path: str, status: os.stat_result) -> None:
        where = f"{self.location}: {path}"
        if stat.S_ISLNK(status.st_mode):
            raise BundleIntegrityError(f"{where}: a symbolic link, expected a plain file")
        if not stat.S_ISREG(status.st_mode):
            raise BundleIntegrityError(f"{where}: a pipe, socket or device, expected a plain file")
        if status.st_mode & (stat.S_ISUID | stat.S_ISGID):
            raise BundleIntegrityError(f"{where}: has the set-user-id or set-group-id bit")
        if status.st_nlink > 1 and not self._hard_links_allowed:
            raise BundleIntegrityError(
                f"{where}: a hard link ({status.st_nlink} names), expected a file of its own"
            )
        if status.st_size > MAX_FILE_BYTES:
            raise BundleError(f"{where}: {status.st_size} bytes, expected at most {MAX_FILE_BYTES}")
