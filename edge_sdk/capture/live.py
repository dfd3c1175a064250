"""A live camera, read in a child process, so that one that hangs can always be given up.

A read inside a driver or a decoder may block for ever, or come back after half a minute with an
old picture and say that all is well. No thread can be freed from that, a process can. Freshness is
therefore judged here, by the age of the newest frame on the monotonic clock.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from dataclasses import replace

from edge_sdk.capture.mailbox import Ending, MailboxReader, open_mailbox
from edge_sdk.capture.process import CaptureProcess
from edge_sdk.capture.settings import Settings
from edge_sdk.capture.spec import SourceSpec
from edge_sdk.errors import CaptureError
from edge_sdk.records import Frame

_GRACE_SECONDS = 0.8
"""How long a child may take to release its camera by itself before it is killed."""


class ChildProcessSource:
    """Reads another source in a child process and yields its newest frames.

    ``frames`` starts the child and ends it again. After a ``CaptureError`` the owner may call it
    once more: a new child is started, and ``frame_id`` and ``dropped`` go on counting.

    Args:
        spec: what the child reads.
        stale_seconds: the newest frame may be this old; then the camera is given up.
        open_seconds: how long the child may take from its start to its first frame.
    """

    def __init__(
        self, spec: SourceSpec, *, stale_seconds: float = 3.0, open_seconds: float = 8.0
    ) -> None:
        self.source_id = spec.source_id
        self._spec = spec
        self._stale_seconds = stale_seconds
        self._open_seconds = open_seconds
        self._lock = threading.Lock()
        self._running: tuple[MailboxReader, CaptureProcess] | None = None
        self._is_closed = False
        self._is_outdated = False
        self._next_frame_id = 0
        self._dropped_before = 0

    @property
    def dropped(self) -> int:
        """Frames overtaken by newer ones, in the child's source and in the mailbox."""
        running = self._running
        return self._dropped_before + (running[0].dropped if running else 0)

    @property
    def child_pid(self) -> int | None:
        """Process id of the child, None while there is none."""
        running = self._running
        return running[1].pid if running else None

    def frames(self) -> Iterator[Frame]:
        """Yield the newest frame, each once, until the source ends or is closed.

        Raises:
            CaptureError: no frame in time, the child died, or its source failed with this.
            EdgeError: the child's source failed with another of our errors; it keeps its class.
        """
        reader, process = self._start()
        try:
            yield from self._newest(reader, process)
        finally:
            self._end(reader, process)

    def adjust(self, settings: Settings | None) -> None:
        """Set the camera so whenever it is opened (see ``AdjustableSource``)."""
        if settings == self._spec.settings:
            return
        self._is_outdated = settings is not None
        self._spec = replace(self._spec, settings=settings)

    def close(self) -> None:
        """End the child, within two seconds also where it hangs, and with it the iteration.

        Raises:
            CaptureError: the child cannot be ended: a driver holds it.
        """
        with self._lock:
            self._is_closed = True
            running = self._running
            if running is not None:
                running[0].shut()
        if running is not None:
            running[1].stop(_GRACE_SECONDS)

    def _start(self) -> tuple[MailboxReader, CaptureProcess]:
        with self._lock:
            if self._is_closed or self._running is not None:
                state = "closed" if self._is_closed else "being read already"
                raise CaptureError(f"{self.source_id}: the source is {state}")
            reader, writer = open_mailbox(
                source_id=self.source_id, first_frame_id=self._next_frame_id
            )
            try:
                process = CaptureProcess(self._spec, inherited=writer.filenos())
            except CaptureError:
                reader.close()
                raise
            finally:
                writer.close()
            self._is_outdated = False
            self._running = reader, process
            return self._running

    def _end(self, reader: MailboxReader, process: CaptureProcess) -> None:
        with self._lock:
            self._running = None
            self._dropped_before += reader.dropped
            reader.close()
        process.stop(_GRACE_SECONDS)

    def _newest(self, reader: MailboxReader, process: CaptureProcess) -> Iterator[Frame]:
        newest, limit = time.monotonic(), self._open_seconds
        while True:
            found = reader.take(max(0.0, newest + limit - time.monotonic()))
            if self._is_closed:
                return
            if isinstance(found, Ending):
                self._raise_if_failed(found, process)
                return
            if isinstance(found, Frame):
                newest, limit = found.monotonic_ns / 1e9, self._stale_seconds
                self._next_frame_id = found.frame_id + 1
            age_seconds = time.monotonic() - newest
            if found is None or age_seconds > limit:
                process.stop(0.0)  # it hangs: asking would only cost time
                raise CaptureError(
                    f"{self.source_id}: no new frame for {age_seconds:.1f} s (limit {limit:g} s)"
                )
            yield found
            if self._is_outdated:
                raise CaptureError(f"{self.source_id}: opened anew, to be set otherwise")

    def _raise_if_failed(self, ending: Ending, process: CaptureProcess) -> None:
        if ending.error is not None:
            raise ending.error
        if not ending.is_announced:
            process.stop(_GRACE_SECONDS)
            raise CaptureError(f"{self.source_id}: {process.describe_end()}")
