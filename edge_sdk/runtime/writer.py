"""The thread between decisions and the disk: inspection hands over, this one waits for the sync.

A disk can stall for seconds (an SD card that tidies up, a log that is rotated, a full queue of
writes). Nothing that acts at a part may wait for it, and nothing may be published that is not
stored; so what is decided is queued here, stored in its order, and only then told.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from edge_sdk.alerting.entries import Entry
from edge_sdk.errors import InputError, SpoolError
from edge_sdk.records import Message

MAX_WAITING = 10_000
"""Entries that may wait for the disk before the run gives up."""
MAX_PICTURE_BYTES = 32_000_000
"""Pictures that may wait for the disk; further ones are left out, their messages are not."""
_BATCH = 100

_LOGGER = logging.getLogger(__name__)

StoredListener = Callable[[Message | None], None]
"""Told, in the writer's thread, that an entry is on the disk, with its message if it has one."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Waiting:
    entry: Entry
    on_stored: StoredListener


class SpoolWriter:
    """Stores entries in the order in which they are put; ``put`` never waits for the disk.

    Args:
        store: stores a batch durably (``Spool.store``).
    """

    def __init__(self, store: Callable[[Sequence[Entry]], list[Message | None]]) -> None:
        self._store = store
        self._changed = threading.Condition()
        self._waiting: deque[_Waiting] = deque()
        self._picture_bytes = 0
        self._leaves_pictures_out = False
        self._task: Callable[[], None] | None = None
        self._is_busy = False
        self._is_closing = False
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._run, name="edge-spool-writer", daemon=True)
        self._thread.start()

    def put(self, entry: Entry, on_stored: StoredListener) -> None:
        """Queue an entry.

        Raises:
            Exception: what happened when an earlier one was stored or told.
            SpoolError: the disk has stalled for too long.
        """
        with self._changed:
            self._raise_failure()
            if len(self._waiting) >= MAX_WAITING:
                raise SpoolError(f"spool: {MAX_WAITING} messages wait for the disk")
            if entry.picture is not None:
                size = len(entry.picture)
                if self._picture_bytes + size > MAX_PICTURE_BYTES:
                    if not self._leaves_pictures_out:
                        _LOGGER.warning("pictures are left out: too many wait for the disk")
                    self._leaves_pictures_out = True
                    entry = replace(entry, picture=None, is_picture_left_out=True)
                    size = 0
                self._picture_bytes += size
            self._waiting.append(_Waiting(entry=entry, on_stored=on_stored))
            self._changed.notify_all()

    def do_next(self, task: Callable[[], None]) -> None:
        """Have the thread do something after what waits; a later task replaces one not begun.

        Raises:
            Exception: an entry or an earlier task failed.
        """
        with self._changed:
            self._raise_failure()
            self._task = task
            self._changed.notify_all()

    def flush(self, timeout_seconds: float) -> None:
        """Wait until everything is stored and told.

        Raises:
            Exception: something could not be stored or told.
            SpoolError: not in time.
        """
        with self._changed:
            is_done = self._changed.wait_for(
                lambda: self._failure is not None or self._is_idle, timeout_seconds
            )
            self._raise_failure()
            if not is_done:
                raise SpoolError(
                    f"spool: {len(self._waiting)} messages still wait for the disk after "
                    f"{timeout_seconds:g} s"
                )

    def close(self, timeout_seconds: float) -> bool:
        """Store what waits and end the thread; False where it is held up by the disk."""
        with self._changed:
            self._is_closing = True
            self._changed.notify_all()
        self._thread.join(timeout_seconds)
        return not self._thread.is_alive()

    @property
    def _is_idle(self) -> bool:
        return not self._waiting and self._task is None and not self._is_busy

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _run(self) -> None:
        try:
            while self._turn():
                pass
        except Exception as error:  # noqa: BLE001 - raised again where the run can end by it
            self._fail(error)
            with self._changed:
                self._is_busy = False

    def _fail(self, error: Exception) -> None:
        with self._changed:
            self._failure = self._failure or error
            self._changed.notify_all()

    def _turn(self) -> bool:
        """Store one batch and do the task; False when all is done at the end."""
        with self._changed:
            self._changed.wait_for(
                lambda: self._waiting or self._task is not None or self._is_closing
            )
            batch = [self._waiting.popleft() for _ in range(min(_BATCH, len(self._waiting)))]
            self._picture_bytes -= sum(len(item.entry.picture or b"") for item in batch)
            self._leaves_pictures_out = False
            task, self._task = (None, self._task) if self._waiting else (self._task, None)
            if not batch and task is None:
                return False
            self._is_busy = True
        started = time.monotonic()
        self._store_batch(batch)
        if task is not None:
            task()
        if (took := time.monotonic() - started) > 1:
            _LOGGER.warning("the disk took %.1f s to store %d messages", took, len(batch))
        with self._changed:
            self._is_busy = False
            self._changed.notify_all()
        return True

    def _store_batch(self, batch: list[_Waiting]) -> None:
        if not batch:
            return
        try:
            messages = self._store([item.entry for item in batch])
        except InputError:
            if len(batch) == 1:
                raise
            for item in batch:  # one cannot be encoded: it shall take no others along
                self._store_batch([item])
            return
        for item, message in zip(batch, messages, strict=True):
            self._tell(item.on_stored, message)

    def _tell(self, on_stored: StoredListener, message: Message | None) -> None:
        try:
            on_stored(message)
        except Exception as error:  # noqa: BLE001 - it ends the run, but what waits is stored
            self._fail(error)
