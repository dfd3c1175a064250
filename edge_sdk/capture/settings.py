"""How a camera is set: as when good parts were shown to it, or its pictures can not be compared.

Settings are the camera's own, by its own names, as far as it tells them and they are fixed: what an
automatic has in its hands is left out, only that it is on counts. They are read at enrolment, and
written again, read back and compared whenever the camera is opened.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Protocol, TypeAlias

Settings: TypeAlias = Mapping[str, float | int | str]

_LOOK_SECONDS = 5.0
"""From one look at the settings of a camera that runs to the next."""
_SETTLE_SECONDS = 0.5
"""Pictures that are on their way when a setting is changed were taken by the old one."""
_PASSES = 2
"""A width may fit only when an offset was written, and the other way round."""
_TOLERANCE = 0.005
"""Share by which a number that a camera converts may come back different."""
_AUTOMATICS: Settings = {
    "auto_exposure": 1,  # V4L2's "manual"
    "auto_white_balance": 0,
    "autofocus": 0,
    "ExposureAuto": "Off",
    "GainAuto": "Off",
    "BlackLevelAuto": "Off",
    "BalanceWhiteAuto": "Off",
}
"""Of all kinds of cameras: how each is off."""


class Controls(Protocol):
    """Reads and writes a camera that is open; what fails shows when it is read back."""

    def read(self) -> dict[str, float | int | str]:
        """All settings that the camera tells and that no automatic changes."""
        ...

    def write(self, name: str, value: float | str) -> None:
        """Ask for one setting."""
        ...


class SettingsKeeper:
    """Keeps a camera that is being read as it was enrolled.

    Args:
        controls: of the camera.
        wanted: what was so at enrolment; None: nothing is written.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        controls: Controls,
        wanted: Settings | None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._controls = controls
        self._wanted = wanted or {}
        self._clock = clock
        self._settled = clock()
        self._found: Settings = {}
        self._next_look = clock()

    def look(self) -> Settings:
        """How the camera is set; every few seconds it is asked anew, and corrected."""
        if self._clock() >= self._next_look:
            self._found = self._correct()
            self._next_look = self._clock() + _LOOK_SECONDS
        return self._found

    @property
    def is_settling(self) -> bool:
        """Whether pictures may still be as the camera was set before the last ``look``."""
        return self._clock() < self._settled

    def _correct(self) -> Settings:
        found = self._controls.read()
        for _ in range(_PASSES):
            wrong = [name for name in self._wanted if _differs(self._wanted[name], found.get(name))]
            if not wrong:
                break
            for name in wrong:
                self._controls.write(name, self._wanted[name])
            self._settled = self._clock() + _SETTLE_SECONDS
            found = self._controls.read()
        return found


def describe_deviations(wanted: Settings, found: Settings | None) -> str | None:
    """What of a camera is not as it was enrolled, in words; None: nothing.

    Args:
        wanted: at enrolment.
        found: now; None: the camera, or what gives the pictures, cannot tell.
    """
    if found is None:
        return None
    words = [
        f"{name} was {value:g} at enrolment, is {_shown(found.get(name))}"
        if isinstance(value, float | int)
        else f"{name} was {value} at enrolment, is {_shown(found.get(name))}"
        for name, value in wanted.items()
        if _differs(value, found.get(name))
    ]
    return "; ".join(words) or None


def common_settings(told: list[Settings | None]) -> Settings | None:
    """What was the same in all pictures of an enrolment; None where the camera could not tell."""
    first = told[0] if told else None
    if first is None:
        return None
    return {
        name: value
        for name, value in first.items()
        if all(other is not None and not _differs(value, other.get(name)) for other in told)
    }


def automatic_settings(settings: Settings) -> list[str]:
    """Names of automatics that are on: they let one part change how the next one looks."""
    return [name for name, off in _AUTOMATICS.items() if settings.get(name, off) != off]


def _differs(wanted: float | str, found: float | str | None) -> bool:
    if isinstance(wanted, str) or isinstance(found, str) or found is None:
        return wanted != found
    return not math.isclose(wanted, found, rel_tol=_TOLERANCE, abs_tol=1e-9)


def _shown(value: float | str | None) -> str:
    if value is None:
        return "automatic, or not told"
    return value if isinstance(value, str) else f"{value:g}"
