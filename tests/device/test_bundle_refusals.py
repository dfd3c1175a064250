"""Folders and archives that are refused, each for its own reason."""

from __future__ import annotations

import os
import pickle
import socket
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeAlias

import pytest
from bundle_samples import (
    ENCODER,
    EXPECTED_MAP,
    GOLDEN,
    ZipMember,
    build_zip,
    copy_golden,
    golden_members,
    npy,
    put,
)

from edge_sdk.bundle import open_bundle, pack_bundle
from edge_sdk.errors import BundleError, BundleIntegrityError

Spoil: TypeAlias = Callable[[Path], object]

IR = "graphs/encoder_fp32.xml"
DAMAGED, MALFORMED = 5, 4


def refuse(path: Path, message: str, exit_code: int) -> None:
    with pytest.raises(BundleError, match=message) as caught:
        open_bundle(path)
    assert caught.value.exit_code == exit_code
    assert isinstance(caught.value, BundleIntegrityError) == (exit_code == DAMAGED)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def flip_a_bit(bundle: Path) -> None:
    data = bytearray((bundle / ENCODER).read_bytes())
    data[3000] ^= 1
    (bundle / ENCODER).write_bytes(data)


def link_through(bundle: Path) -> None:
    (bundle / "golden").rename(bundle.parent / "elsewhere")
    (bundle / "golden").symlink_to(bundle.parent / "elsewhere", target_is_directory=True)


def symbolic_link(bundle: Path) -> None:
    (bundle / ENCODER).rename(bundle.parent / "moved.onnx")
    (bundle / ENCODER).symlink_to(bundle.parent / "moved.onnx")


def pipe(bundle: Path) -> None:
    (bundle / ENCODER).unlink()
    os.mkfifo(bundle / ENCODER)


def unix_socket(bundle: Path) -> None:
    (bundle / "NOTICE.txt").unlink()
    here = Path.cwd()
    os.chdir(bundle)  # a socket's path may have about a hundred characters
    try:
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("NOTICE.txt")
    finally:
        os.chdir(here)


def too_many_files(bundle: Path) -> None:
    for number in range(1100):
        (bundle / f"{number}.txt").touch()


FOLDERS: dict[str, tuple[Spoil, str, int]] = {
    "undeclared file": (
        lambda b: (b / "extra.txt").touch(),
        "extra.txt: not in the manifest",
        DAMAGED,
    ),
    "undeclared signature": (
        lambda b: (b / "manifest.sig").touch(),
        "manifest.sig: not in the manifest",
        DAMAGED,
    ),
    "missing file": (lambda b: (b / ENCODER).unlink(), f"{ENCODER}: missing", DAMAGED),
    "no manifest": (
        lambda b: (b / "manifest.json").unlink(),
        "manifest.json: not there",
        MALFORMED,
    ),
    "manifest of 0 bytes": (
        lambda b: (b / "manifest.json").write_bytes(b""),
        "manifest.json: not JSON",
        MALFORMED,
    ),
    "manifest of 1 GB": (
        lambda b: os.truncate(b / "manifest.json", 2**30),
        "manifest.json: 1073741824 bytes, expected at most",
        MALFORMED,
    ),
    "one bit": (flip_a_bit, f"{ENCODER}: expected sha256 [0-9a-f]+, got", DAMAGED),
    "cut off": (
        lambda b: os.truncate(b / ENCODER, 100),
        f"{ENCODER}: expected 5125 bytes, got 100",
        DAMAGED,
    ),
    "longer": (
        lambda b: os.truncate(b / ENCODER, 6000),
        f"{ENCODER}: expected 5125 bytes, got 6000",
        DAMAGED,
    ),
    "5 GB": (
        lambda b: os.truncate(b / ENCODER, 5 * 10**9),
        "5000000000 bytes, expected at most 2147483647",
        MALFORMED,
    ),
    "symbolic link": (symbolic_link, f"{ENCODER}: a symbolic link", DAMAGED),
    "link to a folder": (link_through, "golden: a symbolic link", DAMAGED),
    "dangling link": (
        lambda b: (b / "extra.txt").symlink_to("/nowhere"),
        "extra.txt: a symbolic link",
        DAMAGED,
    ),
    "hard link": (
        lambda b: (b.parent / "other").hardlink_to(b / ENCODER),
        rf"{ENCODER}: a hard link \(2 names\)",
        DAMAGED,
    ),
    "pipe": (pipe, f"{ENCODER}: a pipe, socket or device", DAMAGED),
    "socket": (unix_socket, "NOTICE.txt: a pipe, socket or device", DAMAGED),
    "set-user-id": (lambda b: (b / ENCODER).chmod(0o4755), "set-user-id", DAMAGED),
    "control characters": (
        lambda b: (b / "a\x1b[2J\n.txt").touch(),
        r"file name 'a\\x1b\[2J\\n.txt': expected letters",
        DAMAGED,
    ),
    "hidden folder": (lambda b: (b / ".git").mkdir(), "file name '.git': expected", DAMAGED),
    "backslash": (lambda b: (b / "a\\b.txt").touch(), "backslash", DAMAGED),
    "name no encoding has": (
        lambda b: (b / os.fsdecode(b"\xff.txt")).touch(),
        "expected letters",
        DAMAGED,
    ),
    "deep": (lambda b: (b / "a/b/c/d/e/f/g").mkdir(parents=True), "deeper than 6", DAMAGED),
    "case only": (
        lambda b: (b / "notice.txt").touch(),
        "notice.txt differs from NOTICE.txt in case only",
        DAMAGED,
    ),
    "1100 files": (too_many_files, "more than 1000 files", MALFORMED),
    "pickle as onnx": (
        lambda b: put(b, ENCODER, pickle.dumps({"weights": [1.0] * 99})),
        f"{ENCODER}: not an ONNX graph",
        MALFORMED,
    ),
    "empty onnx": (lambda b: put(b, ENCODER, b""), f"{ENCODER}: not an ONNX graph", MALFORMED),
    "no PNG": (
        lambda b: put(b, "golden/frames/0.png", b"GIF89a..."),
        "golden/frames/0.png: expected a PNG picture",
        MALFORMED,
    ),
}


@pytest.mark.parametrize("case", FOLDERS)
def test_a_folder_that_is_not_what_its_manifest_says_is_refused(tmp_path: Path, case: str) -> None:
    spoil, message, exit_code = FOLDERS[case]
    bundle = copy_golden(tmp_path)
    spoil(bundle)
    start = time.monotonic()
    refuse(bundle, message, exit_code)
    assert time.monotonic() - start < 5, "nothing was waited for, nothing huge was read"


def test_a_device_node_is_refused(tmp_path: Path) -> None:
    bundle = copy_golden(tmp_path)
    try:
        os.mknod(bundle / "null.txt", 0o20666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("only root makes device nodes")
    refuse(bundle, "null.txt: a pipe, socket or device", DAMAGED)


def test_what_is_neither_folder_nor_file_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refuse(tmp_path / "pipe", "expected a folder or a .edgebundle archive", MALFORMED)
    refuse(tmp_path / "nothing", "no such bundle", MALFORMED)
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    refuse(tmp_path / "loop", "no such bundle", MALFORMED)


FLOAT = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2), }"

ARRAYS: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "expected a .npy file of version 1.0"),
    "objects": (npy(FLOAT.replace("<f4", "|O"), bytes(16)), r"values of type '\|O' \(objects"),
    "pickle": (pickle.dumps([1, 2]), "expected a .npy file of version 1.0"),
    "zip (npz)": (b"PK\x03\x04" + bytes(100), "expected a .npy file of version 1.0"),
    "big-endian": (npy(FLOAT.replace("<f4", ">f4"), bytes(16)), "values of type '>f4'"),
    "structured": (npy(FLOAT.replace("'<f4'", "[('a', '<f4')]"), bytes(16)), "cannot read the"),
    "text": (npy(FLOAT.replace("<f4", "<U4"), bytes(16)), "values of type '<U4'"),
    "fortran": (npy(FLOAT.replace("False", "True"), bytes(16)), "Fortran order"),
    "terabytes": (
        npy(FLOAT.replace("(2, 2)", "(1000000, 1000000)"), bytes(16)),
        "needs 4000000000000 bytes, the file holds 16",
    ),
    "overflow": (
        npy(FLOAT.replace("(2, 2)", "(4294967296, 4294967296)"), bytes(16)),
        "the file holds 16",
    ),
    "negative": (
        npy(FLOAT.replace("(2, 2)", "(-2, -2)"), bytes(16)),
        "cannot read the .npy header",
    ),
    "no values": (npy(FLOAT.replace("(2, 2)", "(0, 2)"), b""), "needs 0 bytes"),
    "too short": (npy(FLOAT, bytes(15)), "needs 16 bytes, the file holds 15"),
    "too long": (npy(FLOAT, bytes(17)), "needs 16 bytes, the file holds 17"),
    "nine axes": (npy(FLOAT.replace("(2, 2)", "(2" + ", 1" * 8 + ")"), bytes(8)), "the file holds"),
    "code": (npy(FLOAT.replace("(2, 2)", "(__import__('os'),)"), bytes(16)), "cannot read the"),
    "long header": (npy(FLOAT + " " * 2000, bytes(16)), "with a short header"),
    "header of 1 MB": (
        npy(FLOAT + " " * 10**6, bytes(16), version=b"\x02\x00"),
        "expected a .npy file of version 1.0",
    ),
    "version 3": (
        npy(FLOAT, bytes(16), version=b"\x03\x00"),
        "expected a .npy file of version 1.0",
    ),
    "header beyond the file": (b"\x93NUMPY\x01\x00\xff\x03{'descr'", "with a short header"),
}


@pytest.mark.parametrize("case", ARRAYS)
def test_an_array_that_would_need_trust_is_refused(tmp_path: Path, case: str) -> None:
    data, message = ARRAYS[case]
    refuse(put(copy_golden(tmp_path), EXPECTED_MAP, data), f"map.npy: .*{message}", MALFORMED)


DOCTYPE = b'<!DOCTYPE n [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;&a;">]>'

IRS: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "entities": (
        lambda xml: xml.replace(b"?>", b"?>" + DOCTYPE, 1),
        "expected an OpenVINO IR",
    ),
    "late declaration": (
        lambda xml: xml.replace(b"<layers>", DOCTYPE + b"<layers>", 1),
        "document types, entities and CDATA",
    ),
    "UTF-16": (lambda xml: xml.decode().encode("utf-16"), "expected an OpenVINO IR"),
    "other encoding": (
        lambda xml: xml.replace(b'"1.0"', b'"1.0" encoding="UTF-7"', 1),
        "expected an OpenVINO IR",
    ),
    "no IR": (lambda _: b'<?xml version="1.0"?><html/>', "expected an OpenVINO IR"),
    "beyond the weights": (
        lambda xml: xml.replace(b'size="4608"', b'size="46080"', 1),
        "a constant at .* of 46080 bytes, the weights have 4712",
    ),
    "overflow": (
        lambda xml: xml.replace(b'size="4608"', b'size="18446744073709551615"', 1),
        "a constant at offset",
    ),
    "negative": (
        lambda xml: xml.replace(b'size="4608"', b'size="-1"', 1),
        "a constant at offset .* size b'-1'",
    ),
    "decoy": (
        lambda xml: xml.replace(b'size="4608"', b'size="46080" x="size=\'1\'"', 1),
        "several offsets or sizes",
    ),
    "bracket in a value": (
        lambda xml: xml.replace(b'offset="', b'x=">" offset="9999', 1),
        "a constant at 9999",
    ),
}


@pytest.mark.parametrize("case", IRS)
def test_an_openvino_graph_that_reaches_beyond_its_files_is_refused(
    tmp_path: Path, case: str
) -> None:
    spoil, message = IRS[case]
    good = (GOLDEN / IR).read_bytes()
    assert spoil(good) != good
    refuse(put(copy_golden(tmp_path), IR, spoil(good)), message, MALFORMED)


def spoil_second(**values: object) -> bytes:
    """The golden bundle as an archive whose second member is odd."""
    first, second, *rest = golden_members()
    return build_zip([first, replace(second, **values), *rest])  # type: ignore[arg-type]  # names vary


def with_member(name: bytes, data: bytes = b"") -> bytes:
    return build_zip([*golden_members(), ZipMember(name=name, data=data)])


GOOD = build_zip(golden_members())
BOMB = ZipMember(name=b"zeros.bin", data=bytes(10**7), method=8, size=10**7)

ARCHIVES: dict[str, tuple[bytes, str, int]] = {
    "0 bytes": (b"", "expected a folder or a .edgebundle archive", MALFORMED),
    "text": (b"hello" * 100, "expected a folder or a .edgebundle archive", MALFORMED),
    "no members": (build_zip([]), "manifest.json: not there", MALFORMED),
    "cut off": (GOOD[:-1], "cut off", DAMAGED),
    "half": (GOOD[: len(GOOD) // 2], "the archive is cut off", DAMAGED),
    "trailing bytes": (GOOD + b"more", "4 bytes behind the end", DAMAGED),
    "comment": (build_zip(golden_members(), comment=b"hi"), "2 bytes behind the end", DAMAGED),
    "leading bytes": (
        build_zip(
            [replace(m, offset=0) if i == 0 else m for i, m in enumerate(golden_members())]
        ).replace(b"PK\x03\x04", b"#!PK\x03\x04", 1),
        "directory has a wrong size",
        DAMAGED,
    ),
    "compressed": (spoil_second(method=8), "NOTICE.txt: a compressed member", MALFORMED),
    "zip bomb": (build_zip([*golden_members(), BOMB]), "zeros.bin: a compressed", MALFORMED),
    "encrypted": (spoil_second(flags=1), "NOTICE.txt: an encrypted member", MALFORMED),
    "data descriptor": (spoil_second(flags=8), "data descriptor", MALFORMED),
    "data descriptor in the local header only": (
        spoil_second(local_flags=8),
        "NOTICE.txt: its header is not what the directory says",
        DAMAGED,
    ),
    "two sizes": (spoil_second(size=31), "NOTICE.txt: two sizes, 32 and 31", DAMAGED),
    "checksum": (
        build_zip([replace(m, crc=1) if m.name == b"NOTICE.txt" else m for m in golden_members()]),
        "NOTICE.txt: the archive's checksum is wrong",
        DAMAGED,
    ),
    "extra field": (
        spoil_second(extra=b"\x01\x00\x04\x00abcd"),
        "NOTICE.txt: its directory entry is not as edge-bundle packs it",
        MALFORMED,
    ),
    "member comment": (spoil_second(comment=b"hi"), "directory entry is not as", MALFORMED),
    "time": (spoil_second(time=1), "directory entry is not as", MALFORMED),
    "set-user-id": (spoil_second(mode=0o104755), "directory entry is not as", MALFORMED),
    "symbolic link": (spoil_second(mode=0o120777), "a symbolic link", DAMAGED),
    "device node": (spoil_second(mode=0o020666), "a pipe, socket or device", DAMAGED),
    "pipe": (spoil_second(mode=0o010666), "a pipe, socket or device", DAMAGED),
    "folder": (with_member(b"zoo/"), "'zoo/': a folder entry", DAMAGED),
    "folder by its mode": (spoil_second(mode=0o040755), "a folder entry", DAMAGED),
    "twice": (
        build_zip([*golden_members(), golden_members()[-1]]),
        "tables/text_features.npy is there twice",
        DAMAGED,
    ),
    "case only": (
        with_member(b"tables/text_FEATURES.npy"),
        "differs from .* in case only",
        DAMAGED,
    ),
    "..": (with_member(b"../evil.txt"), "leads out of the bundle", DAMAGED),
    "inner ..": (with_member(b"a/../../evil.txt"), "leads out of the bundle", DAMAGED),
    "absolute": (with_member(b"/etc/evil.txt"), "absolute", DAMAGED),
    "backslash": (with_member(b"a\\evil.txt"), "backslash", DAMAGED),
    "NUL": (with_member(b"evil.txt\x00.png"), "NUL", DAMAGED),
    "UTF-8": (with_member("é.txt".encode()), "expected letters", DAMAGED),
    "undeclared": (with_member(b"zoo.txt"), "zoo.txt: not in the manifest", DAMAGED),
    "missing": (build_zip(golden_members()[:-1]), "text_features.npy: missing", DAMAGED),
    "order": (
        build_zip([*golden_members()[1:], golden_members()[0]]),
        "expected manifest.json first",
        MALFORMED,
    ),
    "overlap": (spoil_second(offset=0), "members overlap or leave a gap", DAMAGED),
    "gap": (
        build_zip([replace(golden_members()[0], offset=7), *golden_members()[1:]]),
        "members overlap or leave a gap",
        DAMAGED,
    ),
    "changed content": (
        spoil_second(data=b"Random weights; made for testS.\n"),
        "NOTICE.txt: expected sha256",
        DAMAGED,
    ),
}


@pytest.mark.parametrize("case", ARCHIVES)
def test_an_archive_that_is_odd_in_any_way_is_refused(tmp_path: Path, case: str) -> None:
    data, message, exit_code = ARCHIVES[case]
    (tmp_path / "a.edgebundle").write_bytes(data)
    refuse(tmp_path / "a.edgebundle", message, exit_code)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.edgebundle"]


def test_an_archive_of_5_gb_is_refused_without_reading_it(tmp_path: Path) -> None:
    archive = tmp_path / "a.edgebundle"
    archive.write_bytes(GOOD)
    os.truncate(archive, 5 * 10**9)
    refuse(archive, "5000000000 bytes, expected 4294967295 at most", MALFORMED)


def test_the_spoilt_archives_differ_from_a_good_one_in_one_thing(tmp_path: Path) -> None:
    pack_bundle(GOLDEN, tmp_path / "a.edgebundle", for_device=False)
    assert (tmp_path / "a.edgebundle").read_bytes() == GOOD
