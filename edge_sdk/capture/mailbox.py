"""The newest frame, handed from one process to another without a lock.

Each frame lies in an unnamed piece of shared memory of its own (a memfd), and a socket between the
two processes carries the letter that owns it. The writer first takes back the letter that nobody
has fetched, then posts the newer one, so at most one is ever waiting. The kernel gives a letter
to exactly one side, which makes three promises cheap:

* no torn frame, on any processor: whoever writes into a piece of memory is the only one who has
  it, and passing the letter orders the memory, which plain sequence numbers would not do on ARM;
* either side may be killed or stopped at any moment: there is no lock to be left held;
* nothing to clean up: unnamed memory is freed with the last process that has it, and it does not
  count against a container's small ``/dev/shm``.

A camera that changes its resolution needs nothing special, because a letter tells its own size.
Linux only.
"""

from __future__ import annotations

import array
import json
import mmap
import os
import select
import socket
import struct
import time
from dataclasses import dataclass
from datetime import datetime, timedelta, timezone

import numpy as np

from edge_sdk.capture import error_text
from edge_sdk.errors import CaptureError, EdgeError
from edge_sdk.records import Frame

_FRAME, _END, _ERROR = range(3)
_LETTER = struct.Struct("<BIIIQqQQ")
"""Kind, height, width, channels, frame_id, captured_at in µs, monotonic_ns, dropped; behind it, in
JSON, how the camera is set, where it tells."""

_EPOCH = datetime(1970, 1, 1, tzinfo=timezone.utc)
_MICROSECOND = timedelta(microseconds=1)
_MAX_LETTER_BYTES = 1 + error_text.MAX_BYTES
_FD_BYTES = array.array("i").itemsize


@dataclass(frozen=True, slots=True, kw_only=True)
class Ending:
    """The writer's last word: no frame comes after it."""

    is_announced: bool
    """False: the writer is gone without a word."""
    error: EdgeError | None = None
    """What ended it; None where the source just came to its end."""


class MailboxWriter:
    """The camera's side; never waits for the reader.

    Args:
        sender: the end that letters are posted into.
        receiver: the reader's own end, from which unread letters are taken back.
    """

    def __init__(self, sender: socket.socket, receiver: socket.socket) -> None:
        self.dropped = 0
        """Frames taken back unread."""
        self._sender = sender
        self._receiver = receiver
        self._posted: int | None = None
        self._spare: int | None = None

    def filenos(self) -> tuple[int, int]:
        """File descriptors of ``sender`` and ``receiver``, to be inherited by a child."""
        return self._sender.fileno(), self._receiver.fileno()

    def write(self, frame: Frame, *, source_dropped: int = 0) -> None:
        """Post a frame in place of the one waiting, if any.

        Args:
            frame: any size; sizes may change from frame to frame.
            source_dropped: frames that the source itself has dropped so far.

        Raises:
            BrokenPipeError: the reader is closed.
        """
        if self._spare is None:
            memory = os.memfd_create("edge-frame", os.MFD_CLOEXEC)
        else:  # its pages are already there: a third of the time of new ones
            memory, self._spare = self._spare, None
        _fill(memory, frame)
        self._take_back()
        self._posted = memory
        height, width, channels = frame.pixels.shape
        letter = _LETTER.pack(
            _FRAME,
            height,
            width,
            channels,
            frame.frame_id,
            (frame.captured_at - _EPOCH) // _MICROSECOND,
            frame.monotonic_ns,
            self.dropped + source_dropped,
        )
        if frame.camera_settings is not None:
            letter += json.dumps(dict(frame.camera_settings)).encode()
        ancillary = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [memory]))
        self._sender.sendmsg([letter], [ancillary], socket.MSG_DONTWAIT)

    def finish(self, error: EdgeError | None) -> None:
        """Say that no frame comes any more, and why; a frame still waiting is kept.

        Raises:
            BrokenPipeError: the reader is closed.
        """
        if error is None:
            letter = bytes([_END])
        else:
            letter = bytes([_ERROR]) + error_text.encode_error(error)
        self._sender.send(letter, socket.MSG_DONTWAIT)

    def close(self) -> None:
        """Close both ends and the memory; the reader then sees the ending."""
        for memory in (self._posted, self._spare):
            if memory is not None:
                os.close(memory)
        self._posted = self._spare = None
        self._sender.close()
        self._receiver.close()

    def _take_back(self) -> None:
        if self._posted is None:
            return
        posted, self._posted = self._posted, None
        try:
            letter, memory = _receive(self._receiver)
        except BlockingIOError:  # the reader has it, and the memory with it
            os.close(posted)
            return
        if memory is not None:
            os.close(memory)
        if letter:
            self.dropped += 1
            self._spare = posted
        else:  # the reader has closed; posting will say so
            os.close(posted)


class MailboxReader:
    """The pipeline's side.

    Args:
        receiver: the end that letters arrive at.
        source_id: what the frames are said to come from.
        first_frame_id: added to every ``frame_id``.
    """

    def __init__(self, receiver: socket.socket, *, source_id: str, first_frame_id: int = 0) -> None:
        self.dropped = 0
        """Frames lost on the way to the newest one taken: in the source and in the mailbox."""
        self._receiver = receiver
        self._source_id = source_id
        self._first_frame_id = first_frame_id

    def take(self, timeout_seconds: float) -> Frame | Ending | None:
        """Take the frame that is waiting, or wait for one; each is given once.

        The pixels are the shared memory itself, not a copy; nobody writes to them any more.

        Args:
            timeout_seconds: how long to wait; 0: not at all.

        Returns:
            The newest frame; an ``Ending`` once none can come; None when the time is over.

        Raises:
            CaptureError: the letter is not one of ours.
        """
        deadline = time.monotonic() + timeout_seconds
        poll = select.poll()
        poll.register(self._receiver, select.POLLIN)
        while poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            try:
                letter, memory = _receive(self._receiver)
            except BlockingIOError:  # the writer has just taken it back for a newer one
                continue
            if letter and letter[0] == _FRAME:
                return self._open_frame(letter, memory)
            return _read_ending(letter)
        return None

    def shut(self) -> None:
        """Refuse all letters: the writer's next call fails and a waiting ``take`` returns."""
        self._receiver.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Shut the mailbox and give its file descriptor back; frames taken stay valid."""
        self.shut()
        self._receiver.close()

    def _open_frame(self, letter: bytes, memory: int | None) -> Frame:
        if memory is None or len(letter) < _LETTER.size:
            raise CaptureError(f"{self._source_id}: a letter of {len(letter)} bytes has no frame")
        head, settings = letter[: _LETTER.size], letter[_LETTER.size :]
        _, height, width, channels, frame_id, captured_us, monotonic_ns, dropped = _LETTER.unpack(
            head
        )
        self.dropped = dropped
        try:
            mapped = mmap.mmap(memory, height * width * channels, prot=mmap.PROT_READ)
        finally:
            os.close(memory)
        return Frame(
            pixels=np.frombuffer(mapped, np.uint8).reshape(height, width, channels),
            frame_id=self._first_frame_id + frame_id,
            source_id=self._source_id,
            captured_at=_EPOCH + captured_us * _MICROSECOND,
            monotonic_ns=monotonic_ns,
            camera_settings=json.loads(settings) if settings else None,
        )


def open_mailbox(*, source_id: str, first_frame_id: int = 0) -> tuple[MailboxReader, MailboxWriter]:
    """Make a mailbox.

    To write from a child, let it inherit ``writer.filenos()`` and close the writer here: the
    reader can see the ending only when no other process holds the writer's end.
    """
    sender, receiver = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    reader = MailboxReader(receiver, source_id=source_id, first_frame_id=first_frame_id)
    return reader, MailboxWriter(sender, receiver.dup())


def _fill(memory: int, frame: Frame) -> None:
    pixels = np.ascontiguousarray(frame.pixels).reshape(-1).data
    os.ftruncate(memory, len(pixels))
    written = 0
    while written < len(pixels):
        written += os.pwrite(memory, pixels[written:], written)


def _receive(receiver: socket.socket) -> tuple[bytes, int | None]:
    """Take one letter without waiting: its bytes (none: the other side is gone), its memory."""
    flags = socket.MSG_DONTWAIT | socket.MSG_CMSG_CLOEXEC
    letter, ancillary, _, _ = receiver.recvmsg(
        _MAX_LETTER_BYTES, socket.CMSG_SPACE(_FD_BYTES), flags
    )
    for level, kind, data in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            return letter, array.array("i", data)[0]
    return letter, None


def _read_ending(letter: bytes) -> Ending:
    if not letter:
        return Ending(is_announced=False)
    if letter[0] == _END:
        return Ending(is_announced=True)
    return Ending(is_announced=True, error=error_text.decode_error(letter[1:]))
