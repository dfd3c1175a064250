"""What runs in the child process: read the camera, post the newest frame, die with the parent."""

from __future__ import annotations

import ctypes
import os
import signal
import socket
import sys
from collections.abc import Mapping
from contextlib import closing
from typing import Any

from edge_sdk.capture.mailbox import MailboxWriter
from edge_sdk.capture.readers import build_reader
from edge_sdk.capture.spec import SourceSpec
from edge_sdk.errors import EdgeError
from edge_sdk.logs import LogFormat, start_logging

_PR_SET_PDEATHSIG = 1


def main(source: Mapping[str, Any], log: tuple[str, LogFormat] | None = None) -> None:
    """Read a source; the program's arguments are the parent's pid and the writer's ends.

    Args:
        source: fields of a ``SourceSpec``.
        log: the parent's (level, format), for this process shares its standard error.
    """
    if log is not None:
        start_logging(*log)
    parent, sender, receiver = (int(argument) for argument in sys.argv[1:])
    _die_with(parent)
    # A service manager signals all processes of a service at once. The parent decides: otherwise
    # every ordinary stop would first look like a lost camera. It closes the mailbox, or kills.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    writer = MailboxWriter(socket.socket(fileno=sender), socket.socket(fileno=receiver))
    with closing(writer):
        _deliver(SourceSpec(**source), writer)


def _deliver(spec: SourceSpec, writer: MailboxWriter) -> None:
    try:
        try:
            with closing(build_reader(spec)) as source:
                for frame in source.frames():
                    writer.write(frame, source_dropped=source.dropped)
        except EdgeError as error:
            writer.finish(error)
        else:
            writer.finish(None)
    except BrokenPipeError:  # the parent has closed the mailbox: it wants no more
        return


def _die_with(parent: int) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG) failed")
    if os.getppid() != parent:  # it died before we asked
        sys.exit(f"the parent, process {parent}, is gone")
