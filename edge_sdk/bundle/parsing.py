"""From the bytes of ``manifest.json`` to a checked manifest."""

from __future__ import annotations

import re
from typing import Any

from pydantic import ValidationError

from edge_sdk._version import __version__
from edge_sdk.bundle.canonical import canonical_json, parse_json
from edge_sdk.bundle.manifest import FORMAT_VERSION, BundleManifest, identity_of
from edge_sdk.bundle.paths import MANIFEST_NAME, check_path, check_suffix, check_unique
from edge_sdk.errors import BundleError, BundleIntegrityError

MAX_MANIFEST_BYTES = 2**20


def parse_manifest(raw: bytes, *, name: str = MANIFEST_NAME) -> BundleManifest:
    """Read and check a manifest; looks at no other file.

    Args:
        raw: the whole of ``manifest.json``.
        name: what to call it in messages.

    Raises:
        BundleError: too long, no canonical JSON, made for another runtime, or a value that the
            format does not allow.
        BundleIntegrityError: the content does not have the identity it claims, or lists a file
            that a bundle must not hold.
    """
    if len(raw) > MAX_MANIFEST_BYTES:
        raise BundleError(f"{name}: {len(raw)} bytes, expected at most {MAX_MANIFEST_BYTES}")
    document = parse_json(raw, name=name)
    if not isinstance(document, dict):
        raise BundleError(f"{name}: expected a JSON object, got {type(document).__name__}")
    _refuse_other_runtimes(document, name)
    _refuse_other_spellings(document, raw, name)
    # Before the values are looked at: a damaged copy is to be called damaged, not malformed.
    identity = identity_of(document)
    if document.get("bundle_id") != identity:
        raise BundleIntegrityError(
            f"{name}: bundle_id: the content is {identity}, "
            f"the manifest claims {document.get('bundle_id')!r}"
        )
    try:
        manifest = BundleManifest.model_validate_json(raw)
    except ValidationError as error:
        raise BundleError(f"{name}: {explain(error)}") from error
    # A 0 where the format has 0.0 reads the same, but would be written, and named, differently.
    _refuse_other_spellings(manifest.document(), raw, name)
    paths = [entry.path for entry in manifest.files]
    for path in paths:
        check_path(path, where=name)
        check_suffix(path, where=name)
    check_unique(paths, where=name)
    return manifest


def explain(error: ValidationError) -> str:
    """One line on what is wrong first: key, rule, value."""
    problems = error.errors(include_url=False, include_context=False)
    first = problems[0]
    where = ".".join(str(part) for part in first["loc"])
    text = first["msg"].removeprefix("Value error, ")
    if isinstance(first["input"], str | int | float):
        text += f", got {str(first['input'])[:80]!r}"
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{where}: {text}{more}" if where else f"{text}{more}"


def _refuse_other_runtimes(document: dict[str, Any], name: str) -> None:
    version = document.get("format_version")
    if version != FORMAT_VERSION or isinstance(version, bool):
        raise BundleError(
            f"{name}: format_version {version!r}: edge_sdk {__version__} reads "
            f"format_version {FORMAT_VERSION}"
        )
    needed = document.get("requires_runtime")
    if isinstance(needed, str) and _release(needed) > _release(__version__):
        raise BundleError(
            f"{name}: requires_runtime: made for edge_sdk {needed} or newer, "
            f"this is edge_sdk {__version__}"
        )


def _refuse_other_spellings(document: dict[str, Any], raw: bytes, name: str) -> None:
    try:
        expected = canonical_json(document)
    except ValueError as error:
        raise BundleError(f"{name}: {error}") from error
    if expected != raw:
        pairs = zip(expected, raw, strict=False)
        at = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(expected), len(raw)))
        raise BundleError(
            f"{name}: not canonical JSON at byte {at}: expected {expected[at : at + 20]!r}, "
            f"got {raw[at : at + 20]!r}"
        )


def _release(version: str) -> tuple[int, ...]:
    """The numbers in front, without trailing zeros: 1.0 is as new as 1.0.0."""
    numbers = re.match(r"\d{1,6}(\.\d{1,6})*", version)
    if numbers is None:
        return ()
    parts = [int(part) for part in numbers.group().split(".")]
    while parts and parts[-1] == 0:
        parts.pop()
    return tuple(parts)
