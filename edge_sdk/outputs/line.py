"""One camera's output line: on its safe side, unless a verdict has just said otherwise.

The safe side needs no action. ``pass`` is shown only after a ``normal`` verdict in time, and ends
by itself: with the next trigger, after ``pass_seconds``, at a fault, when the loop stalls, and
with the process, whose heartbeat then stops.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from edge_sdk.errors import EdgeError
from edge_sdk.outputs.signal import OutputDriver, Side, Signal
from edge_sdk.records import Decision, Reason, Verdict

_REOPEN_SECONDS = 1.0
_LOGGER = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputTiming:
    """How long what may be believed, seconds."""

    heartbeat_seconds: float = 0.1
    """Between two beats."""
    pass_seconds: float = 1.0
    """After which ``pass`` ends by itself."""
    stall_seconds: float = 3.0
    """Without a sign of life of the loop, after which the beats stop."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Expected:
    part_id: str
    deadline_ns: int


class OutputLine:
    """Shows verdicts at decision time, watches deadlines and beats, in a thread of its own.

    Args:
        camera: whose line it is.
        open_driver: opens the driver; called again after a failure.
        timing: how long what may be believed.
    """

    def __init__(
        self, camera: str, open_driver: Callable[[], OutputDriver], timing: OutputTiming
    ) -> None:
        self.error: EdgeError | None = None
        """Why the line shows nothing just now; None while it works."""
        self._camera = camera
        self._open_driver = open_driver
        self._timing = timing
        self._changed = threading.Condition()
        self._driver: OutputDriver | None = open_driver()
        self._shown = self._signal("safe", "idle")
        self._expires_ns: int | None = None
        self._expected: OrderedDict[str, _Expected] = OrderedDict()
        self._alive_ns = time.monotonic_ns()
        self._next_beat_ns = 0
        self._reopen_ns = 0
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name=f"output-{camera}", daemon=True)
        self._thread.start()

    @property
    def shown(self) -> Signal:
        """What the line shows."""
        return self._shown

    def tick(self) -> None:
        """Say that the loop lives; without it the beats stop."""
        self._alive_ns = time.monotonic_ns()

    def expect(self, trigger_id: str, part_id: str, deadline_ns: int) -> None:
        """A part has come: what was shown is not about it, and its deadline is watched."""
        with self._changed:
            self._expected[trigger_id] = _Expected(part_id=part_id, deadline_ns=deadline_ns)
            if self._shown.side == "pass":
                self._show(self._signal("safe", "next_part"))
            self._changed.notify_all()

    def answer(self, decision: Decision) -> bool:
        """Show the verdict on a part.

        Returns:
            False where its deadline was over: the line has said so already, and stays safe.
        """
        with self._changed:
            expected = self._expected.pop(decision.trigger_id or "", None)
            is_late = expected is None or time.monotonic_ns() > expected.deadline_ns
            if decision.verdict is not Verdict.FAULT and is_late:
                if expected is not None:
                    self._show_timeout(str(decision.trigger_id), expected.part_id)
                return False
            if expected is None:
                return True  # its timeout was shown when it happened
            self._show_decision(decision, is_good=decision.verdict is Verdict.NORMAL)
            return True

    def hold(self, decision: Decision, *, is_good: bool) -> None:
        """Show what is true of a camera that is watched continuously.

        Args:
            decision: the newest one.
            is_good: whether the line may go on.
        """
        with self._changed:
            if is_good and self._shown.side == "pass":
                self._expires_ns = time.monotonic_ns() + int(self._timing.pass_seconds * 1e9)
            elif is_good or self._shown.side == "pass" or self._shown.reason != decision.reason:
                self._show_decision(decision, is_good=is_good)

    def close(self) -> None:
        """Go to the safe side and stop beating; may be called twice."""
        with self._changed:
            if self._is_closed:
                return
            self._show(self._signal("safe", "stopped"))
            self._is_closed = True
            self._changed.notify_all()
        self._thread.join()
        self._drop_driver()

    def _signal(self, side: Side, reason: str) -> Signal:
        return Signal(
            side=side, reason=reason, camera=self._camera, monotonic_ns=time.monotonic_ns()
        )

    def _show_decision(self, decision: Decision, *, is_good: bool) -> None:
        self._show(
            Signal(
                side="pass" if is_good else "safe",
                reason=str(decision.reason),
                camera=self._camera,
                monotonic_ns=time.monotonic_ns(),
                verdict=str(decision.verdict),
                part_id=decision.part_id,
                trigger_id=decision.trigger_id,
                provisional=decision.provisional,
            )
        )

    def _show_timeout(self, trigger_id: str, part_id: str) -> None:
        self._show(
            Signal(
                side="safe",
                reason=str(Reason.TIMEOUT),
                camera=self._camera,
                monotonic_ns=time.monotonic_ns(),
                verdict=str(Verdict.FAULT),
                part_id=part_id,
                trigger_id=trigger_id,
            )
        )

    def _show(self, signal: Signal) -> None:
        self._shown = signal
        self._expires_ns = (
            signal.monotonic_ns + int(self._timing.pass_seconds * 1e9)
            if signal.side == "pass"
            else None
        )
        driver = self._driver
        if driver is not None:
            self._attempt(lambda: driver.show(signal))
        self._changed.notify_all()

    def _attempt(self, action: Callable[[], None]) -> None:
        try:
            action()
        except EdgeError as error:
            _LOGGER.error("%s: output: %s", self._camera, error)  # noqa: TRY400 - no trace needed
            self.error = error
            self._drop_driver()
            self._reopen_ns = time.monotonic_ns() + int(_REOPEN_SECONDS * 1e9)

    def _drop_driver(self) -> None:
        driver, self._driver = self._driver, None
        if driver is not None:
            driver.close()

    def _run(self) -> None:
        with self._changed:
            while not self._is_closed:
                now_ns = time.monotonic_ns()
                self._tell_overdue(now_ns)
                self._reopen(now_ns)
                self._beat(now_ns)
                self._changed.wait(max(0.001, (self._due_ns() - time.monotonic_ns()) / 1e9))

    def _tell_overdue(self, now_ns: int) -> None:
        overdue = [key for key, part in self._expected.items() if part.deadline_ns < now_ns]
        for trigger_id in overdue:
            self._show_timeout(trigger_id, self._expected.pop(trigger_id).part_id)
        if self._expires_ns is not None and now_ns >= self._expires_ns:
            self._show(self._signal("safe", "expired"))

    def _reopen(self, now_ns: int) -> None:
        if self._driver is not None or now_ns < self._reopen_ns:
            return
        self._reopen_ns = now_ns + int(_REOPEN_SECONDS * 1e9)
        try:
            self._driver = self._open_driver()
        except EdgeError as error:
            self.error = error
            return
        self.error = None
        self._show(self._signal("safe", "idle"))

    def _beat(self, now_ns: int) -> None:
        if now_ns < self._next_beat_ns:
            return
        self._next_beat_ns = now_ns + int(self._timing.heartbeat_seconds * 1e9)
        if now_ns - self._alive_ns > self._timing.stall_seconds * 1e9:
            if self._shown.reason != "stalled":
                self._show(self._signal("safe", "stalled"))
            return  # the silence says it, too, also where the line itself does not listen
        driver, shown = self._driver, self._shown
        if driver is not None:
            self._attempt(lambda: driver.beat(shown))

    def _due_ns(self) -> int:
        due = [self._next_beat_ns, *(part.deadline_ns for part in self._expected.values())]
        if self._expires_ns is not None:
            due.append(self._expires_ns)
        return min(due)
