"""A bundle as one file: a zip archive with one spelling.

Members are stored, one after another, ``manifest.json`` first and the rest by name, without
extra fields, comments or times. A reader of general archives has to guess what an odd one means;
this one compares every header with what the writer below would have written, so that the same
bundle is always the same bytes and other bytes are never a bundle. Standard tools can read it.
"""

from __future__ import annotations

import os
import stat
import struct
import zlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from edge_sdk.bundle.fields import MAX_FILES
from edge_sdk.bundle.paths import MANIFEST_NAME, MAX_PATH_LENGTH, check_path, check_unique
from edge_sdk.errors import BundleError, BundleIntegrityError

MAX_ARCHIVE_BYTES = 2**32 - 1

_LOCAL = struct.Struct("<4s5H3L2H")
_CENTRAL = struct.Struct("<4s6H3L5H2L")
_END = struct.Struct("<4s4H2LH")
_LOCAL_MAGIC, _CENTRAL_MAGIC, _END_MAGIC = b"PK\x03\x04", b"PK\x01\x02", b"PK\x05\x06"
_VERSION_NEEDED = 10
_MADE_BY_UNIX = 3 << 8 | _VERSION_NEEDED
_NEW_YEAR_1980 = 0x21
_PLAIN_FILE = (stat.S_IFREG | 0o644) << 16
_IS_ENCRYPTED, _HAS_DATA_DESCRIPTOR = 0x1, 0x8
_DOS_FOLDER = 0x10
_MAX_CENTRAL_BYTES = (MAX_FILES + 2) * (_CENTRAL.size + MAX_PATH_LENGTH)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Member:
    """One file in an archive, and the headers it has there."""

    path: str
    size: int
    crc: int
    offset: int
    """Of its local header."""

    def local_header(self) -> bytes:
        common = (_VERSION_NEEDED, 0, 0, 0, _NEW_YEAR_1980, self.crc, self.size, self.size)
        return _LOCAL.pack(_LOCAL_MAGIC, *common, len(self.path), 0) + self.path.encode("ascii")

    def central_header(self) -> bytes:
        common = (_VERSION_NEEDED, 0, 0, 0, _NEW_YEAR_1980, self.crc, self.size, self.size)
        rest = (len(self.path), 0, 0, 0, 0, _PLAIN_FILE, self.offset)
        packed = _CENTRAL.pack(_CENTRAL_MAGIC, _MADE_BY_UNIX, *common, *rest)
        return packed + self.path.encode("ascii")

    @property
    def data_offset(self) -> int:
        return self.offset + _LOCAL.size + len(self.path)

    @property
    def end(self) -> int:
        return self.data_offset + self.size


def order_of(path: str) -> tuple[bool, str]:
    """Sort key of the members: the manifest first, the rest by name."""
    return path != MANIFEST_NAME, path


def write_archive(stream: BinaryIO, files: Iterable[tuple[str, bytes]]) -> None:
    """Write files, which come in the order of ``order_of``, as an archive.

    Raises:
        BundleError: they need more than 4 GB, which only a folder can hold.
    """
    members: list[_Member] = []
    for path, data in files:
        offset = members[-1].end if members else 0
        member = _Member(path=path, size=len(data), crc=zlib.crc32(data), offset=offset)
        if member.end > MAX_ARCHIVE_BYTES - _MAX_CENTRAL_BYTES:
            raise BundleError(f"{path}: an archive holds 4 GB at most; leave this one a folder")
        stream.write(member.local_header())
        stream.write(data)
        members.append(member)
    central = b"".join(member.central_header() for member in members)
    stream.write(central)
    stream.write(_end_record(len(members), len(central), members[-1].end))


class ArchiveFiles:
    """The files in an archive.

    Args:
        location: the archive.

    Raises:
        BundleError: it cannot be read, or was not made by ``write_archive``.
        BundleIntegrityError: it is cut off, has something behind its end, or a member is a link,
            a device, a folder, there twice, or has a name that a bundle must not hold.
    """

    def __init__(self, location: Path) -> None:
        self.location = location
        self._where = str(location)
        try:
            with location.open("rb") as stream:
                self._members = {member.path: member for member in self._scan(stream)}
        except OSError as error:
            raise BundleError(f"{location}: cannot be read: {error}") from error
        self.sizes: Mapping[str, int] = {m.path: m.size for m in self._members.values()}

    def read(self, path: str, size: int) -> bytes:
        """Read one member of a known size.

        Raises:
            BundleError: the archive cannot be read.
            BundleIntegrityError: the member has another size, or its checksum is wrong.
        """
        member = self._members[path]
        if member.size != size:
            raise BundleIntegrityError(
                f"{self._where}: {path}: expected {size} bytes, got {member.size}"
            )
        try:
            with self.location.open("rb") as stream:
                stream.seek(member.data_offset)
                data = stream.read(size)
        except OSError as error:
            raise BundleError(f"{self._where}: {path}: cannot be read: {error}") from error
        if len(data) != size or zlib.crc32(data) != member.crc:
            raise BundleIntegrityError(f"{self._where}: {path}: the archive's checksum is wrong")
        return data

    def _scan(self, stream: BinaryIO) -> list[_Member]:
        total = os.fstat(stream.fileno()).st_size
        if total > MAX_ARCHIVE_BYTES:
            raise BundleError(f"{self._where}: {total} bytes, expected {MAX_ARCHIVE_BYTES} at most")
        count, central_bytes, central_offset = self._read_end(stream, total)
        stream.seek(central_offset)
        central = stream.read(central_bytes)
        members: list[_Member] = []
        position = 0
        for _ in range(count):
            member = self._read_member(central, position)
            expected = members[-1].end if members else 0
            if member.offset != expected:
                raise BundleIntegrityError(
                    f"{self._where}: {member.path}: starts at byte {member.offset}, expected "
                    f"{expected}: members overlap or leave a gap"
                )
            stream.seek(member.offset)
            header = member.local_header()
            if stream.read(len(header)) != header:
                raise BundleIntegrityError(
                    f"{self._where}: {member.path}: its header is not what the directory says"
                )
            members.append(member)
            position += len(member.central_header())
        paths = [member.path for member in members]
        check_unique(paths, where=self._where)
        if paths != sorted(paths, key=order_of):
            raise BundleError(f"{self._where}: expected {MANIFEST_NAME} first, the rest by name")
        if position != central_bytes or (members and members[-1].end != central_offset):
            raise BundleIntegrityError(f"{self._where}: bytes that belong to no member")
        return members

    def _read_end(self, stream: BinaryIO, total: int) -> tuple[int, int, int]:
        stream.seek(max(0, total - 2**16 - _END.size))
        tail = stream.read()
        at = tail.rfind(_END_MAGIC)
        if at < 0 or len(tail) - at < _END.size:
            stream.seek(0)
            if stream.read(4) == _LOCAL_MAGIC:
                raise BundleIntegrityError(f"{self._where}: the archive is cut off")
            raise BundleError(f"{self._where}: expected a folder or a .edgebundle archive")
        if len(tail) - at > _END.size:
            raise BundleIntegrityError(
                f"{self._where}: {len(tail) - at - _END.size} bytes behind the end of the archive"
            )
        _, _, _, _, count, size, offset, _ = _END.unpack_from(tail, at)
        if tail[at:] != _end_record(count, size, offset) or count > MAX_FILES + 2:
            raise BundleError(f"{self._where}: the archive's end is not as edge-bundle packs it")
        if size > _MAX_CENTRAL_BYTES or offset + size + _END.size != total:
            raise BundleIntegrityError(f"{self._where}: the archive's directory has a wrong size")
        return count, size, offset

    def _read_member(self, central: bytes, position: int) -> _Member:
        if len(central) - position < _CENTRAL.size:
            raise BundleIntegrityError(f"{self._where}: the archive's directory is cut off")
        (magic, _, _, flags, method, _, _, crc, packed, size, name_bytes, *rest) = (
            _CENTRAL.unpack_from(central, position)
        )
        attributes, offset = rest[-2:]
        name_at = position + _CENTRAL.size
        # Latin-1 takes every byte, so that the rule for names can say what is wrong with it.
        path = central[name_at : name_at + name_bytes].decode("latin-1")
        self._check_kind(path, attributes)
        check_path(path, where=self._where)
        where = f"{self._where}: {path}"
        if flags & _IS_ENCRYPTED:
            raise BundleError(f"{where}: an encrypted member")
        if flags & _HAS_DATA_DESCRIPTOR:
            raise BundleError(f"{where}: keeps its size behind its data (data descriptor)")
        if method != 0:
            raise BundleError(f"{where}: a compressed member (method {method}), expected stored")
        if packed != size:
            raise BundleIntegrityError(f"{where}: two sizes, {packed} and {size}")
        member = _Member(path=path, size=size, crc=crc, offset=offset)
        header = member.central_header()
        if magic != _CENTRAL_MAGIC or central[position : position + len(header)] != header:
            raise BundleError(
                f"{where}: its directory entry is not as edge-bundle packs it "
                "(extra fields, comments, times or attributes)"
            )
        return member

    def _check_kind(self, path: str, attributes: int) -> None:
        kind = stat.S_IFMT(attributes >> 16)
        where = f"{self._where}: {path!a}"
        if stat.S_ISLNK(kind):
            raise BundleIntegrityError(f"{where}: a symbolic link, expected a plain file")
        if path.endswith("/") or stat.S_ISDIR(kind) or attributes & _DOS_FOLDER:
            raise BundleIntegrityError(f"{where}: a folder entry, expected plain files only")
        if kind not in (0, stat.S_IFREG):
            raise BundleIntegrityError(f"{where}: a pipe, socket or device, expected a plain file")


def _end_record(count: int, central_bytes: int, central_offset: int) -> bytes:
    return _END.pack(_END_MAGIC, 0, 0, count, count, central_bytes, central_offset, 0)
