"""What an OpenVINO IR may hold, checked before any inference library sees it."""

from __future__ import annotations

import re

from edge_sdk.errors import BundleError

_START = re.compile(rb'(<\?xml version="1\.0"( encoding="(?i:utf-8)")?\?>)?\s*<net\b')
_DECLARATION = re.compile(rb"<!(?!--)")
_RANGE = re.compile(rb"""\b(offset|size)\s*=\s*(?:"([^"]*)"|'([^']*)')""")
_DATA = re.compile(rb"""<data\b(?:[^<>"']|"[^"<]*"|'[^'<]*')*>""")


def check_openvino(xml: bytes, *, name: str, weights_bytes: int) -> None:
    """Refuse an IR with a document type (entities), or whose constants lie outside its weights.

    Args:
        xml: the whole ``.xml`` file.
        name: the file, for messages.
        weights_bytes: size of its ``.bin`` file.

    Raises:
        BundleError: says which.
    """
    if b"\0" in xml or _START.match(xml) is None:
        raise BundleError(f"{name}: expected an OpenVINO IR: XML in UTF-8 that starts with <net>")
    if _DECLARATION.search(xml) is not None:
        raise BundleError(f"{name}: document types, entities and CDATA are not allowed in an IR")
    for element in _DATA.finditer(xml):
        ranges = _RANGE.findall(element[0])
        found = {key: double or single for key, double, single in ranges}
        if len(found) < 2:
            continue  # an operator's own attribute; a constant has both
        if len(ranges) > 2:
            raise BundleError(f"{name}: a constant with several offsets or sizes")
        offset, size = found[b"offset"], found[b"size"]
        if not _is_number(offset) or not _is_number(size):
            raise BundleError(f"{name}: a constant at offset {offset[:40]!r}, size {size[:40]!r}")
        if int(offset) + int(size) > weights_bytes:
            raise BundleError(
                f"{name}: a constant at {int(offset)} of {int(size)} bytes, "
                f"the weights have {weights_bytes}"
            )


def _is_number(text: bytes) -> bool:
    return text.isdigit() and len(text) <= 15
