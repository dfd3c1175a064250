"""Master pictures and parts as they are shown to a camera's pipeline, and how they came out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from edge_sdk.config import CameraConfig
from edge_sdk.errors import InputError
from edge_sdk.imaging import decode_image
from edge_sdk.pipeline import Pipeline, as_frame
from edge_sdk.records import UInt8Array, Verdict


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Master:
    """A picture or part whose verdict is known beforehand."""

    name: str
    expected: Verdict
    pixels: UInt8Array | None
    """(H, W, 3) RGB; None of a part."""
    part_id: str | None
    reference_set: str | None
    """Only while this set is in use; None: always."""

    def concerns(self, reference_label: str | None) -> bool:
        """Whether it counts while a set is in use (``day/3``, or None)."""
        return self.reference_set in (None, (reference_label or "").partition("/")[0])


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How a master came out."""

    name: str
    is_right: bool
    data: dict[str, Any]
    """For the event: name, what was expected, what came, in JSON values."""


def load_masters(camera: CameraConfig) -> tuple[Master, ...]:
    """Read the pictures of a camera's masters.

    Raises:
        InputError: a picture is missing or does not decode.
    """
    masters = []
    for index, declared in enumerate(camera.challenge.masters if camera.challenge else ()):
        pixels = None
        if declared.picture is not None:
            where = f"camera {camera.name}: challenge.masters[{index}].picture: {declared.picture}"
            try:
                data = declared.picture.read_bytes()
            except OSError as error:
                raise InputError(f"{where}: expected a picture, got: {error.strerror}") from error
            pixels = decode_image(data, name=where)
        masters.append(
            Master(
                name=declared.name,
                expected=Verdict(declared.expect),
                pixels=pixels,
                part_id=declared.part_id,
                reference_set=declared.reference_set,
            )
        )
    return tuple(masters)


def show_picture(pipeline: Pipeline, master: Master) -> Outcome:
    """Judge a master picture as if the camera had just taken it."""
    if master.pixels is None:
        raise ValueError(f"master {master.name} is a part, which only a camera can see")
    decision = pipeline.inspect(as_frame(master.pixels))
    return Outcome(
        name=master.name,
        is_right=decision.verdict is master.expected,
        data={
            "master": master.name,
            "expected": str(master.expected),
            "verdict": str(decision.verdict),
            "detail": decision.detail[:120],
        },
    )


def challenge_fault(pipeline: Pipeline, masters: tuple[Master, ...]) -> str | None:
    """Show all master pictures that count; what came out wrong, None where nothing did."""
    outcomes = [
        show_picture(pipeline, master)
        for master in masters
        if master.pixels is not None and master.concerns(pipeline.reference_label)
    ]
    return describe_wrong(outcomes)


def describe_wrong(outcomes: list[Outcome]) -> str | None:
    """One line for people about those that came out wrong; None: all are right."""
    wrong = [one.data for one in outcomes if not one.is_right]
    if not wrong:
        return None
    return "; ".join(
        f"master {one['master']}: expected {one['expected']}, got {one['verdict']} "
        f"({one['detail']})"
        for one in wrong
    )
