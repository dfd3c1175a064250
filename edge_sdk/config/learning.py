"""Settings of what a camera learns after its enrolment."""

from __future__ import annotations

import math
from typing import Annotated

from pydantic import Field, model_validator

from edge_sdk.config.base import Group, refusal
from edge_sdk.config.parts import Seconds


class RunInConfig(Group):
    """Learn from the first parts how good parts score; a person looks at the odd ones."""

    parts: Annotated[int, Field(ge=20, le=10000)] = 150
    """Good parts to learn from, 20 to 10000."""
    false_alarms_per_100: Annotated[float, Field(gt=0, le=50)] = 1.0
    """False alarms among 100 good parts, above 0 to 50, that the threshold is fitted for."""
    every_seconds: Seconds = 1.0
    """Of a camera that is watched continuously: seconds from one learned frame to the next, 0.05
    to 3600; about as long as a part is in the picture."""

    @model_validator(mode="after")
    def _is_long_enough(self) -> RunInConfig:
        fewest = math.ceil(100 / self.false_alarms_per_100 - 1e-9) - 1
        if self.parts < fewest:
            raise refusal(
                f"expected at least {fewest} for {self.false_alarms_per_100:g} false alarms per "
                f"100, got {self.parts}",
                "parts",
            )
        return self
