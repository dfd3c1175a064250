"""Kinds of value that a manifest is made of, each with its bounds."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import Annotated, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, PlainSerializer, PlainValidator, model_validator
from typing_extensions import Self

MAX_FILE_BYTES = 2**31 - 1
"""One file; also the most that a protobuf, and so an ONNX graph, can hold."""
MAX_TOTAL_BYTES = 2**32 - 2**24
"""All files; an archive without 64-bit offsets must hold them and its own headers."""
MAX_FILES = 1000

_TIME_FORMAT = "%Y-%m-%dT%H:%M:%SZ"


class Record(BaseModel):
    """Base of the parts of a manifest: frozen, strict, no unknown key but those of others.

    Keys that start with ``x_`` belong to whoever wrote them: kept, hashed, never looked at.
    """

    model_config = ConfigDict(frozen=True, extra="allow", strict=True, allow_inf_nan=False)

    @model_validator(mode="after")
    def _refuse_unknown_keys(self) -> Self:
        unknown = sorted(key for key in self.model_extra or {} if not key.startswith("x_"))
        if unknown:
            known = ", ".join(sorted(type(self).model_fields))
            raise ValueError(f"unknown key {unknown[0]!r}, expected one of {known}, or x_...")
        return self


def _read_time(value: object) -> datetime:
    if isinstance(value, str):
        value = datetime.strptime(value, _TIME_FORMAT).replace(tzinfo=timezone.utc)
    if not isinstance(value, datetime) or value.tzinfo is None:
        raise ValueError("expected a time with its zone, written as 2026-01-31T12:00:00Z")
    return value.astimezone(timezone.utc).replace(microsecond=0)


def write_time(value: datetime) -> str:
    """Write a time as a manifest has it.

    Raises:
        ValueError: it has no zone.
    """
    return _read_time(value).strftime(_TIME_FORMAT)


UtcTime: TypeAlias = Annotated[
    datetime, PlainValidator(_read_time), PlainSerializer(write_time, return_type=str)
]
"""UTC, to the second."""

Name: TypeAlias = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@+-]{0,99}$")]
Text: TypeAlias = Annotated[str, Field(max_length=2000, pattern=r"^[^\x00-\x1f\x7f-\x9f]*$")]
"""One line without control characters: it is shown on terminals."""
TensorName: TypeAlias = Annotated[str, Field(pattern=r"^[!-~]{1,200}$")]
Sha256: TypeAlias = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Digest: TypeAlias = Annotated[str, Field(pattern=r"^sha256:[0-9a-f]{64}$")]
Version: TypeAlias = Annotated[str, Field(pattern=r"^\d{1,6}(\.\d{1,6}){1,2}$")]

Count: TypeAlias = Annotated[int, Field(ge=0, le=2**53 - 1)]
Side: TypeAlias = Annotated[int, Field(ge=16, le=4096)]
"""Height or width of a picture in pixels."""
Dimension: TypeAlias = Annotated[int, Field(ge=1, le=2**31 - 1)]
Shape: TypeAlias = Annotated[tuple[Dimension | None, ...], Field(max_length=8)]
"""None where dynamic."""
Grid: TypeAlias = tuple[Dimension, Dimension]
"""(rows, cols)."""
NotNegative: TypeAlias = Annotated[float, Field(ge=0)]
Positive: TypeAlias = Annotated[float, Field(gt=0)]
Scalar: TypeAlias = bool | int | float | Text | None
Parameter: TypeAlias = Scalar | tuple[Scalar, ...]

Precision: TypeAlias = Literal["fp32", "fp16", "bf16", "int8"]
"""``bf16``: of format ``torch`` only."""
GraphRole: TypeAlias = Literal[
    "encoder", "encoder_normalised", "head_zero_shot", "head_few_shot", "end_to_end"
]
"""``encoder_normalised``: the encoder without its normalisation, (N, 3, H, W) float32 in, to be
compared with a publication apart from preprocessing."""
GraphFormat: TypeAlias = Literal["onnx", "openvino", "torch"]
