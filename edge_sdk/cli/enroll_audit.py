"""``edge-enroll audit``: who changed what this box judges by, and how its challenges came out."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.settings import resolve_settings
from edge_sdk.console import add_common_arguments, print_json, run_command

if TYPE_CHECKING:
    from edge_sdk.config import CameraConfig, DeviceConfig

_KNOWN = ("at", "time_quality", "what", "by", "user", "camera", "old", "new", "message_id")
_DIGEST_CHARACTERS = 19


def audit_main(words: Sequence[str]) -> int:
    """Run ``edge-enroll audit``."""
    parser = argparse.ArgumentParser(
        prog="edge-enroll audit",
        description="Show what was noted of references, thresholds, overrides and challenges: "
        "when, by whom, from what to what.",
    )
    parser.add_argument("--camera", metavar="SOURCE", help="only of this camera")
    parser.add_argument("--last", type=_count, metavar="N", help="only the newest N entries")
    add_common_arguments(parser, "config", "state", "json", "verbose")
    return run_command(parser, _audit, words)


def note(
    config: DeviceConfig,
    camera: CameraConfig,
    what: str,
    *,
    old: object,
    new: object,
    **details: object,
) -> None:
    """Note what a person has changed with ``edge-enroll``.

    Raises:
        ConfigError: the state folder cannot be written.
    """
    from edge_sdk.audit import AuditLog
    from edge_sdk.errors import ConfigError

    try:
        AuditLog(config.state_dir).append(
            what, by="edge-enroll", camera=camera.name, old=old, new=new, **details
        )
    except OSError as error:
        raise ConfigError(
            f"{what}: done, but the audit log cannot be written: {error.strerror}"
        ) from error


def _count(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(text)
    return value


def _audit(options: argparse.Namespace) -> int:
    from edge_sdk.audit import AuditLog

    config = resolve_settings(options)
    camera = config.cameras[0].name if options.camera is not None else None
    entries = AuditLog(config.state_dir).read(camera=camera)
    entries = entries[-options.last :] if options.last else entries
    if options.json:
        print_json({"entries": entries})
        return 0
    for entry in entries:
        print(_line(entry))
    if not entries:
        print("nothing was noted yet")
    return 0


def _line(entry: dict[str, Any]) -> str:
    when = str(entry.get("at"))[:19].replace("T", " ")
    who = f"{entry.get('user')}, {entry.get('by')}"
    parts = [f"{when}  {entry.get('camera') or '-':10}{entry.get('what')}  ({who})"]
    if entry.get("old") is not None or entry.get("new") is not None:
        parts.append(f"{_short(entry.get('old'))} -> {_short(entry.get('new'))}")
    parts += [
        f"{key} {_short(value)}"
        for key, value in entry.items()
        if key not in _KNOWN and value is not None
    ]
    return "  ".join(parts)


def _short(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {_short(one)}" for key, one in value.items() if one is not None)
    if isinstance(value, list):
        return "; ".join(_short(one) for one in value)
    if isinstance(value, float):
        return f"{value:.4g}"
    text = str(value)
    return text[:_DIGEST_CHARACTERS] + "…" if text.startswith("sha256:") else text
