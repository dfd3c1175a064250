"""The values that flow through the pipeline, one a stage, and nothing else.

``Frame`` → ``Preprocessed`` → ``PatchFeatures`` → ``AnomalyResult`` → ``Decision`` → ``Message``.
All are frozen. Those that hold arrays compare by identity, and their arrays are made read-only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

UInt8Array: TypeAlias = NDArray[np.uint8]
FloatArray: TypeAlias = NDArray[np.float32]
IntArray: TypeAlias = NDArray[np.int32]
BoolArray: TypeAlias = NDArray[np.bool_]

TokenKey: TypeAlias = tuple[str, int]
"""(stream, layer): ``("vv", 24)``, ``("ori", 24)`` of a ViT, ``("conv", 3)`` of a CNN's stage."""


class _Name(str, Enum):
    """A string enumeration that prints as its value (``enum.StrEnum`` needs Python 3.11)."""

    def __str__(self) -> str:
        return str(self.value)


class Verdict(_Name):
    """What is said of a frame. ``fault``: nothing can be said, never to be read as good."""

    NORMAL = "normal"
    ANOMALOUS = "anomalous"
    FAULT = "fault"


class Reason(_Name):
    """Why a verdict is what it is."""

    BELOW_THRESHOLD = "below_threshold"
    OVER_THRESHOLD = "over_threshold"
    NON_FINITE_SCORE = "non_finite_score"
    STALE_FRAME = "stale_frame"
    BLACK_FRAME = "black_frame"
    SATURATED_FRAME = "saturated_frame"
    WRONG_SIZE = "wrong_size"
    NO_FRAME = "no_frame"
    TIMEOUT = "timeout"
    INTERRUPTED = "interrupted"
    """The device stopped before the part was judged."""
    ENGINE_ERROR = "engine_error"
    SELF_TEST_FAILED = "self_test_failed"
    CHANGEOVER = "changeover"
    CHALLENGE_FAILED = "challenge_failed"
    """A master part or picture, whose verdict is known, came out wrong."""
    EXPOSURE_DRIFT = "exposure_drift"
    LAMP_FAILED = "lamp_failed"
    DEFOCUSED = "defocused"
    BLURRED_OUT = "blurred_out"
    CAMERA_MOVED = "camera_moved"
    DIRTY_LENS = "dirty_lens"
    CAMERA_SETTINGS = "camera_settings"
    """The camera is set otherwise than when good parts were shown to it."""
    CHALLENGE_DUE = "challenge_due"
    """Master parts are to be shown before any other part is judged."""


class Severity(_Name):
    """How much a message matters, for whom it wakes and what is dropped first."""

    INFO = "info"
    WARN = "warn"
    CRITICAL = "critical"


class MessageKind(_Name):
    """Kinds of durable message on the wire."""

    RESULT = "result"
    ANOMALY_OPEN = "anomaly.open"
    ANOMALY_UPDATE = "anomaly.update"
    ANOMALY_CLOSE = "anomaly.close"
    FAULT_OPEN = "fault.open"
    FAULT_CLOSE = "fault.close"
    EVENT = "event"


class TimeQuality(_Name):
    """How far the wall clock can be believed."""

    SYNCED = "synced"
    HOLDOVER = "holdover"
    UNSYNCED = "unsynced"


def _freeze(*arrays: NDArray[Any] | None) -> None:
    for array in arrays:
        if array is not None:
            array.setflags(write=False)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Frame:
    """One picture as the camera gave it."""

    pixels: UInt8Array
    """(H, W, 3) uint8 RGB, or (H, W, 1) mono."""
    frame_id: int
    """Number within its source, from 0, counting frames that were dropped."""
    source_id: str
    """Which camera; free of credentials."""
    captured_at: datetime
    """UTC wall clock, for people."""
    monotonic_ns: int
    """``time.monotonic_ns()`` at capture, for every age and timeout."""
    media_ns: int | None = None
    """Nanoseconds from the start of a recording that is read frame by frame; None: of a camera,
    or read as a camera would be, where ``monotonic_ns`` tells how much later one frame is."""
    camera_settings: Mapping[str, float | int | str] | None = None
    """How the camera said that it was set, by its own names; None: it cannot tell."""

    def __post_init__(self) -> None:
        shape, dtype = self.pixels.shape, self.pixels.dtype
        if dtype != np.uint8 or len(shape) != 3 or shape[2] not in (1, 3) or 0 in shape:
            raise ValueError(f"frame: expected (H, W, 3) or (H, W, 1) uint8, got {shape} {dtype}")
        _freeze(self.pixels)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) in pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @property
    def scene_ns(self) -> int:
        """When it happened in front of the lens, in ns: what one frame tells beside another.

        A recording read as fast as this box can says the same on a quick box and on a slow one.
        """
        return self.monotonic_ns if self.media_ns is None else self.media_ns


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A rectangle in frame pixels, ``x`` to the right, ``y`` down."""

    x: int
    y: int
    width: int
    height: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Geometry:
    """How the model's picture lies in the frame."""

    frame_size: tuple[int, int]
    """(height, width) of the whole frame."""
    window: Box
    """The part of the frame that the whole model input shows."""
    inspected: BoolArray | None
    """(H, W) True where the map counts (regions of interest); None: everywhere in ``window``."""

    def __post_init__(self) -> None:
        _freeze(self.inspected)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Preprocessed:
    """A frame, cut and resized to what the encoder takes. Normalisation is in the graph."""

    tensor: UInt8Array
    """(1, H, W, 3) uint8 RGB, (H, W) the bundle's input size."""
    frame: Frame
    geometry: Geometry

    def __post_init__(self) -> None:
        _freeze(self.tensor)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class TokenGrid:
    """Patch tokens of one layer."""

    rows: FloatArray
    """(P, D) float32, row-major over the grid, raw: not normalised."""
    grid: tuple[int, int]
    """(rows, cols) with rows * cols == P."""

    def __post_init__(self) -> None:
        if self.rows.ndim != 2 or self.rows.shape[0] != self.grid[0] * self.grid[1]:
            raise ValueError(f"tokens: expected {self.grid} rows, got shape {self.rows.shape}")
        _freeze(self.rows)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class PatchFeatures:
    """What the backbone says of a picture."""

    tokens: Mapping[TokenKey, TokenGrid]
    class_token: FloatArray | None
    """(D,) float32, or None where the backbone has none."""
    extractor_id: str
    """Digest of everything that turns pixels into tokens; compared before features are mixed."""
    preprocessed: Preprocessed


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Nearest:
    """For every patch of the scoring grid, the reference patch it resembles most."""

    reference: IntArray
    """(P,) index of the reference picture."""
    patch: IntArray
    """(P,) row-major index in that picture's grid."""
    distance: FloatArray
    """(P,) distance to it, 0 = same."""
    grid: tuple[int, int]

    def __post_init__(self) -> None:
        _freeze(self.reference, self.patch, self.distance)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class AnomalyResult:
    """Scores of one frame. Higher is worse; never flipped, clipped or rescaled by the verdict."""

    anomaly_map: FloatArray
    """(H, W) float32 in frame pixels; 0 outside the inspected region."""
    image_score: float
    nearest: Nearest | None
    features: PatchFeatures

    def __post_init__(self) -> None:
        _freeze(self.anomaly_map)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """A cut on ``image_score``, with what is known of its promise."""

    value: float
    """A frame scoring above it is anomalous."""
    method: str
    """How it was found: ``leave_one_out``, ``run_in``, ``override``, or what the bundle says."""
    good_scores: tuple[float, ...]
    """Scores of the good pictures it was fitted on, ascending; empty where it was given."""
    pictures: int
    """How many pictures those scores come from."""
    provisional: bool
    """True while too few good parts were seen to promise a false-alarm rate."""
    expected_false_alarm_rate: float | None
    """About 1 / (pictures + 1) at the highest of n good scores; None where it was given."""
    false_alarm_interval: tuple[float, float] | None = None
    """Between which the true rate lies with 95 %; None where that cannot be said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A connected part of the map above the threshold."""

    x: int
    y: int
    width: int
    height: int
    score: float
    """Highest value of the map inside."""
    area_px: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Decision:
    """The verdict on one frame, and why."""

    verdict: Verdict
    reason: Reason
    severity: Severity
    threshold: float | None
    provisional: bool
    """True while the threshold has not seen enough good parts to promise anything."""
    margin: float | None
    """image_score / threshold - 1; above 0 is anomalous."""
    normal_percentile: float | None
    """Share, in percent, of the good scores the threshold was fitted on that lie below this one."""
    regions: tuple[Region, ...]
    detail: str
    """One line for people: which limit, which value."""
    frame: Frame | None
    """None where a trigger got no frame at all."""
    result: AnomalyResult | None
    """None for a fault found before scoring."""
    part_id: str | None = None
    trigger_id: str | None = None
    latency_ms: Mapping[str, float] = field(default_factory=dict)
    """Stage name -> milliseconds: capture, preprocess, encode, score, decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MessageDraft:
    """A message before the spool has numbered it. Field names are the payload's."""

    message_id: str
    """ULID, made once; receivers drop repeats by it."""
    kind: MessageKind
    severity: Severity
    device: str
    camera: str | None
    boot_id: str
    captured_at: datetime
    mono_ns: int
    time_quality: TimeQuality
    bundle: str | None = None
    reference_set: str | None = None
    verdict: Verdict | None = None
    reason: str | None = None
    detail: str | None = None
    score: float | None = None
    threshold: float | None = None
    margin: float | None = None
    normal_percentile: float | None = None
    provisional: bool | None = None
    frame_id: int | None = None
    frame_size: tuple[int, int] | None = None
    """(height, width) in pixels: what ``regions`` refer to."""
    incident_id: str | None = None
    part_id: str | None = None
    trigger_id: str | None = None
    regions: tuple[Region, ...] = ()
    latency_ms: Mapping[str, float] | None = None
    picture_sha256: str | None = None
    """Digest of the JPEG on the camera's image topic, where one was made."""
    event: str | None = None
    """Name of an event, for kind ``event``."""
    data: Mapping[str, Any] | None = None
    """JSON values that belong to an event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Message(MessageDraft):
    """A message as committed to the spool."""

    seq: int
    """Per device, from 1, +1 a message, never used twice."""
