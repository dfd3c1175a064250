"""Whether a camera's input and output lines work; said once when that changes."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from edge_sdk.errors import EdgeError
from edge_sdk.records import Severity
from edge_sdk.runtime.dispatch import Dispatch
from edge_sdk.runtime.drafts import DraftMaker


class LineWatch:
    """Makes an event of a line that fails, and of one that works again.

    Args:
        camera: whose lines.
        drafts: makes messages.
        errors: name of the line to what tells why it does not work, or None.
    """

    def __init__(
        self, camera: str, drafts: DraftMaker, errors: Mapping[str, Callable[[], EdgeError | None]]
    ) -> None:
        self._camera = camera
        self._drafts = drafts
        self._errors = errors
        self._failed: set[str] = set()

    @property
    def has_failed(self) -> bool:
        """Whether one of them does not work."""
        return bool(self._failed)

    def tell(self) -> list[Dispatch]:
        """What has changed since the last call."""
        dispatches = []
        for line, read_error in self._errors.items():
            error = read_error()
            if (error is not None) == (line in self._failed):
                continue
            data = {"line": line}
            if error is None:
                self._failed.discard(line)
                name, severity = "line_restored", Severity.INFO
            else:
                self._failed.add(line)
                data["reason"] = str(error)
                name, severity = "line_failed", Severity.CRITICAL
            draft = self._drafts.event(name, data, severity=severity, camera=self._camera)
            dispatches.append(Dispatch(draft=draft))
        return dispatches
