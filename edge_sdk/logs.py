"""The log of a service: one event, one line, whatever is in it; and never more than can be read.

Only the standard library is imported here, for a child that reads a camera logs like its parent.
"""

from __future__ import annotations

import io
import json
import logging
import os
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import datetime, timezone
from queue import Full, Queue
from types import TracebackType
from typing import Any, Final, Literal, TextIO

LogFormat = Literal["plain", "json"]

LINES_A_PERIOD: Final = 200
"""Of warnings and errors; the same again of what is less."""
PERIOD_SECONDS: Final = 30.0
MAX_CHARACTERS: Final = 2000
"""Of one field; of a longer one the rest is left out, and its length told."""
MAX_TRACE_CHARACTERS: Final = 8000
_MOST_WAITING = 1000
_PATIENCE_SECONDS = 2.0
"""At the end of the process, for whoever reads the log."""
FIELDS = "fields"
"""``extra={FIELDS: {...}}`` of a logging call: more fields of the event, JSON's own values."""

_ESCAPED = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_LOGGER = logging.getLogger(__name__)
_started: tuple[str, LogFormat] | None = None


def start_logging(level: str, log_format: LogFormat, *, writes_prints: bool = True) -> None:
    """Keep a log on standard error, until the process ends or this is called again.

    Args:
        level: least important line that is written: ``debug``, ``info``, ``warning``, ``error``.
        log_format: ``plain`` for people, ``json`` for machines: a JSON object in ASCII a line, with
            ``ts`` (UTC), ``level``, ``logger`` and ``message``; where there is one, ``traceback``.
        writes_prints: under ``json``: also make events of what Python code prints there.
    """
    global _started  # noqa: PLW0603 - a process has one standard error
    _started = (level, log_format)
    logging.raiseExceptions = False  # a log that cannot be written ends nothing
    formatter = _JsonFormatter() if log_format == "json" else _PlainFormatter()
    stream = sys.stderr.stream if isinstance(sys.stderr, _PrintedLines) else sys.stderr
    handler = LimitedHandler(stream, formatter)
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_end
    threading.excepthook = _log_end_of_thread
    if log_format == "json" and writes_prints:
        sys.stderr = _PrintedLines(stream)
    else:
        sys.stderr = stream


def log_settings() -> tuple[str, LogFormat] | None:
    """(level, format) of the log that this process keeps; None where it keeps none."""
    return _started


def keeps_json() -> bool:
    """Whether this process keeps a log for machines."""
    return _started is not None and _started[1] == "json"


def service_format() -> LogFormat:
    """``json`` where standard error goes straight to systemd's journal, else ``plain``."""
    place = os.environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):  # closed, or no file at all
        return "plain"
    return "json" if place == f"{status.st_dev}:{status.st_ino}" else "plain"


def one_line(text: str, limit: int = MAX_CHARACTERS) -> str:
    """The text without a character that could break or forge a line, at most so long."""
    shown = _ESCAPED.sub(lambda match: ascii(match.group())[1:-1], text)
    if len(shown) <= limit:
        return shown
    return f"{shown[:limit]}... ({len(shown) - limit} more)"


class LimitedHandler(logging.Handler):
    """Writes so many lines a period, and counts the others.

    Args:
        stream: where to.
        formatter: makes one line, or several where people read them.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        stream: TextIO,
        formatter: logging.Formatter,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__()
        self.setFormatter(formatter)
        self._writer = _LineWriter(stream)
        self._clock = clock
        self._budgets = {is_grave: _Budget(clock()) for is_grave in (False, True)}

    def emit(self, record: logging.LogRecord) -> None:
        """Have a record written, or count it; waits for nobody who reads it."""
        budget = self._budgets[record.levelno >= logging.WARNING]
        now = self._clock()
        if now - budget.since >= PERIOD_SECONDS:
            self._tell_dropped(budget)
            budget.since, budget.written = now, 0
        if budget.written < LINES_A_PERIOD and self._write(record):
            budget.written += 1
        else:
            budget.dropped[record.name] += 1

    def flush(self) -> None:
        """Wait until all is written; not for ever, should nobody read it."""
        self._writer.drain(_PATIENCE_SECONDS)

    def close(self) -> None:
        """Tell what was dropped last, and end."""
        self.acquire()
        try:
            for budget in self._budgets.values():
                self._tell_dropped(budget)
        finally:
            self.release()
        self._writer.end(_PATIENCE_SECONDS)
        super().close()

    def _tell_dropped(self, budget: _Budget) -> None:
        if not budget.dropped:
            return
        count, names = budget.dropped.total(), dict(budget.dropped.most_common(10))
        text = f"{count} lines of the log were dropped: more than {LINES_A_PERIOD} in 30 s: {names}"
        record = _LOGGER.makeRecord(
            _LOGGER.name, logging.WARNING, __file__, 0, text, (), None,
            extra={FIELDS: {"dropped": count, "dropped_by_logger": names}},
        )  # fmt: skip
        if self._write(record):
            budget.dropped.clear()

    def _write(self, record: logging.LogRecord) -> bool:
        """Whether there is room for the record."""
        return self._writer.put(self.format(record) + "\n")


class _LineWriter:
    """Writes by a thread of its own, so that nothing that judges parts waits for a reader.

    A disk can stall, a journal hang, a terminal be stopped.

    Args:
        stream: where to. Its file is written to past its buffer, whose lock the interpreter would
            wait for at its end.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._lines: Queue[str | None] = Queue(_MOST_WAITING)
        self._thread = threading.Thread(target=self._run, name="edge-log", daemon=True)
        self._thread.start()

    def put(self, line: str) -> bool:
        """Whether it will be written: not where too many wait already."""
        try:
            self._lines.put_nowait(line)
        except Full:
            return False
        return True

    def drain(self, seconds: float) -> None:
        """Wait until all lines are written, at most so long."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, seconds)

    def end(self, seconds: float) -> None:
        """Write what waits, as far as the time goes, and end the thread."""
        self.drain(seconds)
        with suppress(Full):
            self._lines.put_nowait(None)

    def _run(self) -> None:
        line: str | None = ""
        while line is not None:
            line = self._lines.get()
            with suppress(OSError, ValueError):  # it is closed, or full: there is nobody to tell
                self._write(line or "")
            self._lines.task_done()

    def _write(self, line: str) -> None:
        try:
            descriptor = self._stream.fileno()
        except (OSError, AttributeError):
            self._stream.write(line)
            return
        data = line.encode("utf-8", "backslashreplace")
        while data:
            data = data[os.write(descriptor, data) :]


class _Budget:
    """Lines of one kind."""

    def __init__(self, since: float) -> None:
        self.since = since
        self.written = 0
        self.dropped: Counter[str] = Counter()


class _JsonFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "ts": _timestamp(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _cut(_message(record)),
        }
        fields: Mapping[str, Any] = getattr(record, FIELDS, {})
        event.update({name: _cut(value) for name, value in fields.items() if name not in event})
        if record.exc_info:
            trace = self.formatException(record.exc_info)
            event["traceback"] = _encodable(trace[-MAX_TRACE_CHARACTERS:])
        line = json.dumps(event, ensure_ascii=True, default=repr)
        return line.replace("\x7f", "\\u007f")  # the only one that JSON in ASCII lets through


class _PlainFormatter(logging.Formatter):
    """A traceback follows on lines that start with blanks, so that none can pose as an event."""

    def format(self, record: logging.LogRecord) -> str:
        name, text = record.name, one_line(_message(record))
        line = f"{_timestamp(record)} {record.levelname} {name}: {text}"
        if record.exc_info:
            trace = self.formatException(record.exc_info)[-MAX_TRACE_CHARACTERS:]
            line += "".join(f"\n    {one_line(part)}" for part in trace.splitlines())
        return line


class _PrintedLines(io.TextIOBase):
    """Takes the place of standard error: what is printed there becomes an event a line."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self._lock = threading.RLock()
        self._begun = ""

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self.stream.fileno()

    def write(self, text: str) -> int:
        with self._lock:
            *lines, self._begun = (self._begun + text).split("\n")
        for line in lines:
            if line:
                logging.getLogger("stderr").info("%s", line)
        return len(text)


def _timestamp(record: logging.LogRecord) -> str:
    moment = datetime.fromtimestamp(record.created, timezone.utc)
    return f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03d}Z"


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception as error:  # noqa: BLE001 - a mistake in a logging call shall cost no event
        return f"{record.msg!s} ({type(error).__name__} in its arguments)"


def _cut(value: object) -> object:
    """At most so long, and without halves of characters, which no UTF-8 has."""
    if not isinstance(value, str):
        return value
    left_out = len(value) - MAX_CHARACTERS
    return _encodable(value[:MAX_CHARACTERS]) + (f"... ({left_out} more)" if left_out > 0 else "")


def _encodable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode()


def _log_end(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
    logging.getLogger("edge_sdk").critical("a defect", exc_info=(kind, error, trace))


def _log_end_of_thread(ended: threading.ExceptHookArgs) -> None:
    if ended.exc_value is not None:
        name = ended.thread.name if ended.thread is not None else "?"
        info = (ended.exc_type, ended.exc_value, ended.exc_traceback)
        logging.getLogger("edge_sdk").critical("a defect ends thread %s", name, exc_info=info)
