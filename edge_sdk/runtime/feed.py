"""One camera's frames, read by a thread of its own into a slot for one frame."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from typing import Literal

from edge_sdk.alerting.pulse import NAME_SERVICE_SECONDS, USUAL_SECONDS, Pulse
from edge_sdk.capture.settings import Settings
from edge_sdk.errors import CaptureError, EdgeError
from edge_sdk.protocols import AdjustableSource, FrameSource
from edge_sdk.records import Frame

_CLOSE_SECONDS = 5.0
_ASK_SECONDS = 1.0
"""From one question whether a lost camera is back to the next."""


class FrameFeed:
    """Keeps the newest frame, or each one, for a reader that polls.

    Args:
        name: of the camera, for the thread and for messages.
        open_source: opens the source; called until it succeeds when ``reopens``. The source's
            ``frames`` is called again after a failure, so that its numbers go on.
        keeps: ``newest``: a frame not taken in time is replaced and counted; ``every``: reading
            waits until the frame is taken.
        reopens: True for cameras, which may come back; False for files, whose failure is final.
        on_news: called from the thread when there is a frame, a failure or the end.
        pause_seconds: (first, longest) pause between two attempts; jitter takes off up to half.
        is_there: tells within about a second whether the camera answers. Asked during a pause,
            which ends when the camera comes back.
        pulse: beats while the thread works; None: one by the clock.
    """

    def __init__(
        self,
        name: str,
        open_source: Callable[[], FrameSource],
        *,
        keeps: Literal["newest", "every"],
        reopens: bool,
        on_news: Callable[[], None],
        pause_seconds: tuple[float, float] = (1.0, 30.0),
        is_there: Callable[[], bool] | None = None,
        pulse: Pulse | None = None,
    ) -> None:
        self.has_ended = False
        """True when no frame will be read any more; one may still be in the slot."""
        self.error: EdgeError | None = None
        """Why there are no frames just now; None while they come."""
        self.is_seeing = False
        """True once a frame has come, until the next failure."""
        self._name = name
        self._open_source = open_source
        self._keeps = keeps
        self._reopens = reopens
        self._on_news = on_news
        self._pause_seconds = pause_seconds
        self._is_there = is_there
        self._changed = threading.Condition()
        self._frame: Frame | None = None
        self._source: FrameSource | None = None
        self._settings: Settings | None = None
        self._is_closed = False
        self._replaced = 0
        self._pulse = pulse or Pulse()
        # A recording is played at whatever rate it was made; a camera is given up after 8 s.
        self._read_seconds = USUAL_SECONDS if reopens else NAME_SERVICE_SECONDS
        self._thread = threading.Thread(target=self._run, name=f"feed-{name}", daemon=True)

    def start(self, source: FrameSource | None = None) -> None:
        """Begin to read; ``source``: one that the caller has opened already."""
        self._source = source
        self.adjust(self._settings)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Frames that a newer one replaced before they were looked at."""
        with self._changed:
            return self._replaced + (self._source.dropped if self._source is not None else 0)

    @property
    def has_frame(self) -> bool:
        """True when ``take`` would give a frame."""
        return self._frame is not None

    @property
    def is_working(self) -> bool:
        """Whether the thread has shown lately that it works, or has ended as it should.

        It works also while there are no frames: then it is trying to get some.
        """
        return self.has_ended or (self._thread.is_alive() and not self._pulse.is_late)

    @property
    def is_drained(self) -> bool:
        """True when no frame will come any more."""
        with self._changed:
            return self.has_ended and self._frame is None

    def take(self) -> Frame | None:
        """The frame in the slot, once; None where there is no new one.

        Where each one is kept, a frame's time is when it is taken: it was waiting for its reader,
        and is no older than that.
        """
        with self._changed:
            frame, self._frame = self._frame, None
            self._changed.notify_all()
        if frame is None or self._keeps == "newest":
            return frame
        now = datetime.now(timezone.utc)
        return replace(frame, captured_at=now, monotonic_ns=time.monotonic_ns())

    def adjust(self, settings: Settings | None) -> None:
        """Have the camera set so, if it can be (see ``AdjustableSource``)."""
        with self._changed:
            self._settings = settings
            if isinstance(self._source, AdjustableSource):
                self._source.adjust(settings)

    def check(self) -> None:
        """See that the thread still reads, or has ended as it should.

        Raises:
            EdgeError: a defect has ended it; its traceback is on standard error.
        """
        if not self._thread.is_alive() and not self.has_ended:
            raise EdgeError(
                f"{self._name}: a defect has ended the thread that reads it; standard error tells "
                "where"
            )

    def close(self) -> None:
        """Stop reading and release the source; waits at most a few seconds for the thread.

        Raises:
            CaptureError: a driver holds the camera.
        """
        with self._changed:
            self._is_closed = True
            source = self._source
            self._changed.notify_all()
        try:
            if source is not None:
                source.close()
        finally:
            if self._thread.is_alive():
                self._thread.join(_CLOSE_SECONDS)

    def _run(self) -> None:
        failures = 0
        while True:
            started = time.monotonic()
            error = self._read()
            if self._is_closed or not self._reopens:
                self._end(error)
                return
            self._fail(error or CaptureError(f"{self._name}: the stream ended"))
            if time.monotonic() - started > self._pause_seconds[1]:
                failures = 0  # not with the first frame: one that fails after each is not well
            self._pause(jittered_pause(failures, *self._pause_seconds))
            failures += 1

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt: until the camera comes back, or as long as this."""
        deadline = time.monotonic() + seconds
        was_there = True if self._is_there is None else self._is_there()
        while not self._is_closed and (remaining := deadline - time.monotonic()) > 0:
            self._pulse.beat(NAME_SERVICE_SECONDS)
            with self._changed:
                self._changed.wait_for(lambda: self._is_closed, min(remaining, _ASK_SECONDS))
            is_there = True if self._is_there is None else self._is_there()
            if is_there and not was_there:
                return
            was_there = is_there

    def _read(self) -> EdgeError | None:
        """Read until the source ends, fails or is closed; why it failed."""
        try:
            self._pulse.beat(NAME_SERVICE_SECONDS)
            source = self._opened()
            self._pulse.beat(self._read_seconds)
            for frame in source.frames():
                if not self._put(frame):
                    break
                self._pulse.beat(self._read_seconds)
        except EdgeError as error:
            return error
        return None

    def _opened(self) -> FrameSource:
        source = self._source
        if source is None:
            source = self._open_source()
            with self._changed:
                self._source = source
                if isinstance(source, AdjustableSource):
                    source.adjust(self._settings)
            if self._is_closed:  # meanwhile, by one who found nothing to close
                source.close()
        return source

    def _put(self, frame: Frame) -> bool:
        """Lay a frame into the slot; False once the feed is closed."""
        with self._changed:
            self.error = None
            self.is_seeing = True
            if self._keeps == "every":
                while not self._changed.wait_for(self._may_put, _ASK_SECONDS):
                    self._pulse.beat()
            if self._is_closed:
                return False
            self._replaced += self._frame is not None
            self._frame = frame
        self._on_news()
        return True

    def _may_put(self) -> bool:
        return self._frame is None or self._is_closed

    def _fail(self, error: EdgeError) -> None:
        with self._changed:
            self.error = error
            self.is_seeing = False
        self._on_news()

    def _end(self, error: EdgeError | None) -> None:
        with self._changed:
            if error is not None and not self._is_closed:
                self.error = error
                self.is_seeing = False
            self.has_ended = True
        self._on_news()


def jittered_pause(failures: int, first_seconds: float, longest_seconds: float) -> float:
    """Seconds to wait after so many failures in a row: doubled each time, up to half taken off.

    The jitter keeps cameras that failed together from coming back together.
    """
    full = min(longest_seconds, first_seconds * 2.0 ** min(failures, 16))
    return full * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, no secret
