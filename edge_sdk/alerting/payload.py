"""The JSON on the wire: what every payload is made of, and the schemas that describe it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from datetime import datetime, timezone
from enum import Enum
from importlib import resources
from typing import Any, Literal

from edge_sdk.alerting.topics import is_token
from edge_sdk.errors import InputError
from edge_sdk.records import Message, MessageKind, Region, Severity, TimeQuality, Verdict

VERSION = 1
MAX_BYTES = 8192
MAX_REGIONS = 16

_SHORT_DETAIL_CHARACTERS = 200
_TIMESTAMP = "%Y-%m-%dT%H:%M:%S.%fZ"
_NEEDS_CAMERA = frozenset(
    {
        MessageKind.RESULT,
        MessageKind.ANOMALY_OPEN,
        MessageKind.ANOMALY_UPDATE,
        MessageKind.ANOMALY_CLOSE,
    }
)


class CameraState(str, Enum):
    """What a camera is doing. Only ``ok`` may be read as being watched."""

    OK = "ok"
    DEGRADED = "degraded"
    BLIND = "blind"
    UNSCORED = "unscored"
    DISABLED = "disabled"


class DeviceFlag(str, Enum):
    """What is wrong, or weaker than it should be, with the whole device."""

    OFFLINE_SPOOLING = "offline_spooling"
    STORAGE_LOW = "storage_low"
    STORAGE_FAULT = "storage_fault"
    CLOCK_UNSYNCED = "clock_unsynced"
    SAFE_MODE = "safe_mode"
    TLS_ERROR = "tls_error"
    IDENTITY_CONFLICT = "identity_conflict"
    INSECURE_MQTT = "insecure_mqtt"
    UNTRAINED_BUNDLE = "untrained_bundle"
    PROVISIONAL_THRESHOLD = "provisional_threshold"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInStatus:
    """How far a camera's run-in is."""

    parts: int
    """Good parts learned."""
    of: int
    """Wanted."""
    waiting: int
    """Parts that a person has to look at."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraStatus:
    """One camera in the ``state`` payload; None where nothing has been scored."""

    state: CameraState
    verdict: Verdict | None = None
    reason: str | None = None
    """Why the verdict is ``fault``, or what is wrong with the pictures; None: nothing."""
    score: float | None = None
    threshold: float | None = None
    provisional: bool = False
    anomaly: bool = False
    """True while an incident is open."""
    run_in: RunInStatus | None = None
    """None where nothing is learned, or all was."""


def encode_message(message: Message) -> bytes:
    """Encode a message: ``v`` and its fields that are not None, under the record's names.

    Of the regions the 16 of the highest score are kept. Where the payload would be longer than
    8 kB, ``detail`` is shortened first, then regions are left out, the lowest first.

    Raises:
        InputError: a number is not finite, a value is no JSON, ``captured_at`` has no time zone,
            a camera is missing, or the payload is too long without detail and regions.
    """
    _check(message)
    values = {field.name: getattr(message, field.name) for field in fields(message)}
    values["captured_at"] = _timestamp(message.captured_at)
    values["regions"] = [asdict(region) for region in _highest(message.regions, MAX_REGIONS)]
    values = {"v": VERSION} | {name: value for name, value in values.items() if value is not None}
    payload = _dump(values)
    while len(payload) > MAX_BYTES:
        if len(values.get("detail", "")) > _SHORT_DETAIL_CHARACTERS:
            values["detail"] = values["detail"][: _SHORT_DETAIL_CHARACTERS - 1] + "…"
        elif values["regions"]:
            fewer = _highest(message.regions, len(values["regions"]) // 2)
            values["regions"] = [asdict(region) for region in fewer]
        else:
            raise InputError(
                f"message {message.message_id}: expected a payload of at most {MAX_BYTES} bytes, "
                f"got {len(payload)}; {max(values, key=lambda name: len(str(values[name])))} "
                f"is the longest field"
            )
        payload = _dump(values)
    return payload


def decode_message(payload: bytes) -> Message:
    """Read what ``encode_message`` wrote; encoding it again gives the same bytes.

    Raises:
        InputError: the payload was written by something else, or is damaged.
    """
    try:
        values = json.loads(payload)
        if values.pop("v") != VERSION:
            raise InputError(f"message: expected v {VERSION}, got {payload[:20]!r}")
        for name, convert in _CONVERTERS.items():
            if name in values:
                values[name] = convert(values[name])
        return Message(**{"camera": None, **values})
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(
            f"message: expected a payload of version {VERSION}, got {payload[:80]!r} ({error})"
        ) from error


def status_payload(
    *, online: bool, reason: Literal["birth", "lwt", "shutdown"], boot_id: str, session: int
) -> bytes:
    """Encode birth, last will or goodbye.

    Args:
        online: whether the device is there.
        reason: why this is said.
        boot_id: identifier of the boot.
        session: number of the connection; a last will of a lower number is to be ignored.
    """
    return _dump(
        {
            "v": VERSION,
            "online": online,
            "reason": reason,
            "boot_id": boot_id,
            "session": session,
        }
    )


def state_payload(
    *,
    flags: Iterable[DeviceFlag],
    cameras: Mapping[str, CameraStatus],
    bundle: str | None,
    spool_rows: int,
    spool_bytes: int,
    spool_dropped: Mapping[str, int],
    time_quality: TimeQuality,
    version: str,
) -> bytes:
    """Encode what the device and its cameras are doing.

    Args:
        flags: what is wrong with the device; sorted in the payload.
        cameras: name to status.
        bundle: ``bundle_id`` in use, None before one is loaded.
        spool_rows: messages waiting for the broker.
        spool_bytes: what the spool holds.
        spool_dropped: ``info``, ``warn``, ``critical`` and ``pictures`` to how many were dropped.
        time_quality: how far the wall clock can be believed.
        version: of this SDK.

    Raises:
        InputError: a score or threshold is not finite.
    """
    return _dump(
        {
            "v": VERSION,
            "version": version,
            "flags": sorted({flag.value for flag in flags}),
            "cameras": {name: asdict(status) for name, status in cameras.items()},
            "bundle": bundle,
            "spool": {"rows": spool_rows, "bytes": spool_bytes, "dropped": dict(spool_dropped)},
            "time_quality": time_quality,
        }
    )


def load_schema(name: str) -> dict[str, Any]:
    """Load a JSON Schema (2020-12).

    Args:
        name: ``message``, ``state``, ``status``, ``trigger``, ``references`` or ``challenge``.

    Raises:
        InputError: there is no such schema.
    """
    folder = resources.files("edge_sdk.alerting").joinpath("schemas")
    schemas = {
        entry.name.removesuffix(".json"): entry
        for entry in folder.iterdir()
        if entry.name.endswith(".json")
    }
    if name not in schemas:
        raise InputError(f"schema: expected one of {sorted(schemas)}, got {name!r}")
    schema: dict[str, Any] = json.loads(schemas[name].read_text(encoding="utf-8"))
    return schema


def _check(message: Message) -> None:
    names = [("device", message.device)]
    if message.camera is not None:
        names.append(("camera", message.camera))
    elif message.kind in _NEEDS_CAMERA:
        raise InputError(f"message of kind {message.kind}: expected a camera, got none")
    for what, name in names:
        if not is_token(name):
            raise InputError(f"message.{what}: expected a name fit for a topic, got {name!r}")
    if message.kind is MessageKind.EVENT and message.event is None:
        raise InputError("message of kind event: expected the event's name, got none")


def _timestamp(moment: datetime) -> str:
    if moment.tzinfo is None:
        raise InputError(f"message.captured_at: expected a time zone, got {moment.isoformat()}")
    utc = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return utc.isoformat(timespec="milliseconds") + "Z"


def _highest(regions: Iterable[Region], count: int) -> list[Region]:
    return sorted(regions, key=lambda region: region.score, reverse=True)[:count]


def _dump(values: Mapping[str, Any]) -> bytes:
    try:
        text = json.dumps(values, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    except (ValueError, TypeError) as error:
        raise InputError(f"payload: expected finite JSON values, got {values} ({error})") from error
    return text.encode("utf-8", "replace")  # file names may hold surrogates, the wire may not


_CONVERTERS: Mapping[str, Callable[[Any], Any]] = {
    "kind": MessageKind,
    "severity": Severity,
    "verdict": Verdict,
    "time_quality": TimeQuality,
    "captured_at": lambda text: datetime.strptime(text, _TIMESTAMP).replace(tzinfo=timezone.utc),
    "frame_size": tuple,
    "regions": lambda rows: tuple(Region(**row) for row in rows),
}
