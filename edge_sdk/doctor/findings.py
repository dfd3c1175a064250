"""What a check found. Only the standard library is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from edge_sdk.errors import EdgeError

Status = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report."""

    name: str
    """What was looked at: ``python``, ``engine openvino``, ``camera cam1``."""
    status: Status
    detail: str
    fix: str | None = None
    """What to do; of every ``warn`` and ``fail``."""
    exit_code: int = 0
    """What the command ends with where this is the first failure."""


def ok(name: str, detail: str) -> Finding:
    """All is well."""
    return Finding(name=name, status="ok", detail=detail)


def warn(name: str, detail: str, fix: str) -> Finding:
    """It works, but somebody should know."""
    return Finding(name=name, status="warn", detail=detail, fix=fix)


def fail(name: str, detail: str, fix: str, *, exit_code: int = 1) -> Finding:
    """The box cannot inspect like this."""
    return Finding(name=name, status="fail", detail=detail, fix=fix, exit_code=exit_code)


def guarded(name: str, fix: str, check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    """Run a check; whatever it raises becomes a finding, so that the others still have their turn.

    Args:
        name: of the finding.
        fix: for errors of the SDK's own.
        check: yields findings.
    """
    try:
        yield from check()
    except EdgeError as error:
        yield fail(name, str(error), fix, exit_code=error.exit_code)
    except ImportError as error:
        yield fail(
            name,
            f"cannot be checked: {error}",
            "install the SDK again: pip install --force-reinstall edge-inspection-sdk",
        )
    except Exception as error:  # noqa: BLE001 - the report goes on, and says what it was
        yield fail(
            name,
            f"unexpected {type(error).__name__}: {error}",
            "a defect of the SDK or of this machine: please report it with this line",
        )
