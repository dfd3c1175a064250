"""What makes a message unique and tells how far its clock can be believed."""

from __future__ import annotations

import ctypes
import os
import threading
import time
import uuid
from functools import lru_cache
from pathlib import Path

from edge_sdk.records import TimeQuality

_ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # Crockford's base 32, as the ULID specification has
_RANDOM_BITS = 80

_BOOT_ID_FILE = Path("/proc/sys/kernel/random/boot_id")
_TIMESYNC_FILE = Path("/run/systemd/timesync/synchronized")

_STATUS_UNSYNCED = 0x0040  # STA_UNSYNC of <sys/timex.h>
_HOLDOVER_MICROSECONDS = 2_000_000
"""The kernel lets its error bound grow 500 ppm: 2 s say that nobody has corrected the clock for
over an hour, twice the longest polling interval of the usual time services."""


class _UlidSource:
    """Makes ULIDs that grow within a process, also inside one millisecond."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._milliseconds = -1
        self._random = 0

    def new(self) -> str:
        with self._lock:
            now = time.time_ns() // 1_000_000
            if now == self._milliseconds:
                # A random step rather than 1, so that a forked process does not go the same way.
                step = 1 + int.from_bytes(os.urandom(4), "big")
                self._random += step
            else:
                # Uniqueness comes from here, not from the clock, which may start at 1970. The top
                # bit stays free, so that steps do not overflow.
                self._random = int.from_bytes(os.urandom(10), "big") >> 1
                self._milliseconds = now
            number = (now & ((1 << 48) - 1)) << _RANDOM_BITS | self._random
        return "".join(_ALPHABET[number >> shift & 31] for shift in range(125, -1, -5))


_ulids = _UlidSource()


def new_ulid() -> str:
    """A new identifier of 26 characters, greater than the last one of the same millisecond."""
    return _ulids.new()


@lru_cache(maxsize=1)
def boot_id() -> str:
    """The kernel's identifier of this boot; where there is none, one of this process."""
    try:
        return str(uuid.UUID(_BOOT_ID_FILE.read_text(encoding="ascii").strip()))
    except (OSError, ValueError):
        return str(uuid.uuid4())


class _Timex(ctypes.Structure):
    """The head of ``struct timex``, with room for the rest of it."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("frequency", ctypes.c_long),
        ("max_error", ctypes.c_long),
        ("estimated_error", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


@lru_cache(maxsize=1)
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None)


def time_quality() -> TimeQuality:
    """Ask the kernel whether a time service keeps the wall clock right; needs no privileges.

    Returns:
        ``synced`` while it is corrected, ``holdover`` when it was but has been left alone for
        long, ``unsynced`` otherwise and where it cannot be told.
    """
    was_synced = _TIMESYNC_FILE.exists()
    fallback = TimeQuality.HOLDOVER if was_synced else TimeQuality.UNSYNCED
    timex = _Timex(modes=0)  # 0: read only
    try:
        answer = _libc().adjtimex(ctypes.byref(timex))
    except (AttributeError, OSError):  # not Linux
        return fallback
    if answer < 0 or timex.status & _STATUS_UNSYNCED:
        return fallback
    return TimeQuality.SYNCED if timex.max_error <= _HOLDOVER_MICROSECONDS else TimeQuality.HOLDOVER
