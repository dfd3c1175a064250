"""The thread that reads a camera's trigger input, and keeps at it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

from edge_sdk.errors import EdgeError, LineError
from edge_sdk.inputs.signal import TriggerInput
from edge_sdk.runtime.feed import jittered_pause
from edge_sdk.runtime.triggers import TriggerCommand, TriggerDesk

_CLOSE_SECONDS = 2.0
_FULL_SECONDS = 0.01
_PAUSE_SECONDS = (0.5, 10.0)

_LOGGER = logging.getLogger(__name__)


class TriggerListener:
    """Hands in what an input says.

    Args:
        camera: whose input it is.
        open_input: opens it; called again after a failure.
        desk: where triggers are handed in.
    """

    def __init__(
        self, camera: str, open_input: Callable[[], TriggerInput], desk: TriggerDesk
    ) -> None:
        self.error: EdgeError | None = None
        """Why no trigger can come just now; None while it works."""
        self._camera = camera
        self._open_input = open_input
        self._desk = desk
        self._input: TriggerInput | None = open_input()
        self._is_closed = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"trigger-{camera}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Stop listening."""
        self._is_closed.set()
        if self._input is not None:
            self._input.close()
        self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        failures = 0
        while not self._is_closed.is_set():
            try:
                self._listen()
            except EdgeError as error:
                self._fail(error)
            except Exception as error:
                self._fail(LineError(f"trigger input: {type(error).__name__}: {error}"))
                _LOGGER.exception("%s: a defect in the trigger input", self._camera)
            self._input = None
            self._is_closed.wait(jittered_pause(failures, *_PAUSE_SECONDS))
            failures += 1

    def _listen(self) -> None:
        if self._input is None:
            self._input = self._open_input()
            self.error = None
        for signal in self._input.signals():
            command = TriggerCommand(
                payload=signal.payload,
                received_ns=signal.monotonic_ns,
                way="input",
                camera=self._camera,
            )
            # A trigger that was heard gets its result: it waits until there is room for it.
            while not self._desk.offer(command) and not self._is_closed.is_set():
                self._is_closed.wait(_FULL_SECONDS)
        if not self._is_closed.is_set():
            raise LineError(f"{self._camera}: the trigger input has ended")

    def _fail(self, error: EdgeError) -> None:
        if self._input is not None:
            self._input.close()
        if str(error) != str(self.error):
            _LOGGER.error("%s: %s", self._camera, error)
        self.error = error
