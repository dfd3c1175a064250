"""Settings of the masters: parts and pictures whose verdict is known beforehand."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from edge_sdk.config.base import Group, Name, SettingPath, refusal, repeated


class MasterConfig(Group):
    """A picture, or a part, and how it must come out."""

    name: Name
    """What people call it."""
    expect: Literal["normal", "anomalous"]
    """Its verdict. Any other is a fault of the camera."""
    picture: SettingPath | None = None
    """A PNG or JPEG of it as this camera takes it: whole, uncropped. Needs nobody to show it."""
    part_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    """Or the `part_id` of the trigger with which the part itself is shown to the camera."""
    reference_set: Name | None = None
    """Only while this reference set is in use. Left out: always."""

    @model_validator(mode="after")
    def _is_picture_or_part(self) -> MasterConfig:
        if (self.picture is None) == (self.part_id is None):
            got = "neither" if self.picture is None else "both"
            raise refusal(f"expected picture or part_id, got {got}", "picture")
        return self


class ChallengeConfig(Group):
    """Masters, and how often they must come out right."""

    masters: Annotated[tuple[MasterConfig, ...], Field(min_length=1, max_length=16)]
    """1 to 16 pictures and parts; at least one good and one bad make sense."""
    every_hours: Annotated[float, Field(ge=0.001, le=8760)] = 24.0
    """Hours, 0.001 to 8760, after which each must be shown again. Pictures are also shown at the
    start, and whenever the reference set or the threshold changes."""
    retry_seconds: Annotated[float, Field(ge=0.05, le=3600)] = 30.0
    """Seconds, 0.05 to 3600, after which a picture that came out wrong is tried again."""

    @model_validator(mode="after")
    def _masters_are_told_apart(self) -> ChallengeConfig:
        for key in ("name", "part_id"):
            values = [value for one in self.masters if (value := getattr(one, key)) is not None]
            if (index := repeated(values)) is not None:
                raise refusal(f"expected each {key} once, got '{values[index]}' again", "masters")
        return self
