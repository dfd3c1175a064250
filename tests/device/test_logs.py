"""The log: one event, one line, whatever is in it; bounded, with what was dropped counted."""

from __future__ import annotations

import io
import json
import logging
import subprocess
import sys
import textwrap
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.logs import (
    FIELDS,
    LINES_A_PERIOD,
    MAX_CHARACTERS,
    PERIOD_SECONDS,
    LimitedHandler,
    _JsonFormatter,
    _PlainFormatter,
    one_line,
)

CORPUS = {
    "newline": 'part A\n{"level": "critical", "message": "forged"}',
    "carriage-return": "all well\rERROR",
    "colours-and-bell": "\x1b[31mred\x1b[0m\x07",
    "nul-and-delete": "a\x00b\x7fc",
    "c1": "a\x85b\x9bc",
    "line-separators": "a\u2028b\u2029c",
    "not-utf8": b"caf\xe9 \xff\xfe".decode("utf-8", "surrogateescape"),
    "half-a-character": "\ud83d",
    "quotes": "\"'\\{}%s%(name)d",
    "right-to-left": "\u202egnp.exe",
    "long": "x" * 10_000,
    "empty": "",
}
each_text = pytest.mark.parametrize("text", CORPUS.values(), ids=CORPUS)


def write(formatter: logging.Formatter, text: str, **more: Any) -> bytes:
    """What a logging call leaves on standard error."""
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="utf-8", write_through=True)
    handler = LimitedHandler(stream, formatter)
    values = {"name": "edge_sdk.test", "levelname": "WARNING", "levelno": 30, "msg": text, **more}
    handler.handle(logging.makeLogRecord(values))
    handler.close()
    return raw.getvalue()


@each_text
def test_whatever_is_in_an_event_it_is_one_line_of_ascii_json_that_says_it(text: str) -> None:
    for written in (
        write(_JsonFormatter(), text),
        write(_JsonFormatter(), "%s", args=(text,)),
        write(_JsonFormatter(), "m", **{FIELDS: {"part_id": text}}),
    ):
        assert written.endswith(b"\n")
        assert len(written.decode("ascii").splitlines()) == 1
        assert all(0x20 <= byte < 0x7F for byte in written[:-1])
    event = json.loads(write(_JsonFormatter(), "%s", args=(text,)))
    assert set(event) == {"ts", "level", "logger", "message"}
    assert (event["level"], event["logger"]) == ("warning", "edge_sdk.test")
    if text.isascii() and len(text) <= MAX_CHARACTERS:
        assert event["message"] == text, "nothing is lost on the way"
    event["message"].encode("utf-8")  # no half characters


@each_text
def test_in_a_log_for_people_too_an_event_is_one_line_and_moves_no_cursor(text: str) -> None:
    written = write(_PlainFormatter(), "%s", args=(text,)).decode("utf-8")

    assert len(written.splitlines()) == 1
    assert written[:-1].isprintable() or "\u202e" in text
    assert written.partition(" ")[2].startswith("WARNING edge_sdk.test: ")


@given(st.text())
def test_no_text_at_all_breaks_a_line(text: str) -> None:
    assert len(write(_JsonFormatter(), "%s", args=(text,)).splitlines()) == 1
    assert len(write(_PlainFormatter(), "%s", args=(text,)).decode().splitlines()) == 1
    assert one_line(one_line(text)) == one_line(text)


def test_a_mistake_in_a_logging_call_costs_no_event() -> None:
    event = json.loads(write(_JsonFormatter(), "%d of %s", args=("three",)))

    assert event["message"].startswith("%d of %s (TypeError")


def test_what_is_too_long_is_cut_and_told() -> None:
    event = json.loads(write(_JsonFormatter(), "%s", args=("x" * 10_000,)))

    assert event["message"] == "x" * MAX_CHARACTERS + "... (8000 more)"


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def limited() -> tuple[logging.Logger, Clock, Callable[[], list[dict[str, Any]]], LimitedHandler]:
    """A logger, its clock, and what it has written so far."""
    stream, clock = io.StringIO(), Clock()
    handler = LimitedHandler(stream, _JsonFormatter(), clock)
    logger = logging.getLogger("edge_sdk.flood")
    logger.handlers, logger.propagate = [handler], False
    logger.setLevel("INFO")

    def written() -> list[dict[str, Any]]:
        handler.flush()
        return [json.loads(line) for line in stream.getvalue().splitlines()]

    return logger, clock, written, handler


def test_a_flood_is_cut_off_counted_and_told_and_hides_no_warning() -> None:
    logger, clock, written, handler = limited()
    for number in range(1000):
        logger.info("flood %d", number)
    assert len(written()) == LINES_A_PERIOD
    logger.error("grave")
    assert written()[-1]["message"] == "grave", "what is grave has lines of its own"

    clock.now += PERIOD_SECONDS
    logger.info("later")
    told, later = written()[-2:]
    assert told["dropped"] == 1000 - LINES_A_PERIOD
    assert told["dropped_by_logger"] == {"edge_sdk.flood": 1000 - LINES_A_PERIOD}
    assert told["level"] == "warning"
    assert later["message"] == "later"

    for number in range(LINES_A_PERIOD + 3):
        logger.warning("flood %d", number)
    handler.close()
    lines = written()
    assert lines[-1]["dropped"] == 3, "also what was dropped last"
    events = [line for line in lines if line["logger"] == "edge_sdk.flood"]
    assert len(events) + sum(line.get("dropped", 0) for line in lines) == 1000 + 2 + 203


def test_a_log_that_nobody_reads_holds_nothing_up_and_what_was_not_written_is_counted() -> None:
    program = """
        import logging, time
        from edge_sdk.logs import start_logging
        start_logging("info", "json")
        began = time.monotonic()
        for number in range(20):
            logging.getLogger("edge_sdk.x").warning("%s", "x" * 1900)
        for number in range(3000):
            logging.getLogger("edge_sdk.x").info("%s", "y" * 1900)
        print(time.monotonic() - began, flush=True)
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        took = float(process.stdout.readline())  # its standard error holds 64 kB, and is full
        assert process.wait(20) == 0, "it ends, too"
        lines = process.stderr.read().splitlines()
    assert took < 5
    assert 10 < len(lines) < 220


def test_prints_warnings_and_defects_of_any_thread_are_events_too() -> None:
    program = """
        import sys, threading, warnings
        from edge_sdk.logs import start_logging
        start_logging("info", "json")
        start_logging("info", "json")  # as a command does once it knows its settings
        print("two\\nlines", file=sys.stderr)
        warnings.warn("of a library")
        def fail():
            raise ValueError("in a\\nthread")
        thread = threading.Thread(target=fail, name="feeder")
        thread.start(); thread.join()
        {}["key\\nwith a line"]
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        check=False,
        timeout=60,
    )

    events = [json.loads(line) for line in done.stderr.splitlines()]
    assert [event["message"].split(":")[0] for event in events[:2]] == ["two", "lines"]
    assert "of a library" in events[2]["message"]
    in_thread, at_end = events[3:]
    assert in_thread["message"] == "a defect ends thread feeder"
    assert "ValueError: in a\nthread" in in_thread["traceback"]
    assert in_thread["level"] == at_end["level"] == "critical"
    assert "KeyError" in at_end["traceback"]
    assert done.returncode == 1


def test_a_child_that_reads_a_camera_logs_as_its_parent_does() -> None:
    program = """
        from edge_sdk.capture.live import ChildProcessSource
        from edge_sdk.capture.spec import SourceSpec
        from edge_sdk.errors import CaptureError
        from edge_sdk.logs import start_logging
        start_logging("info", "json")
        if __name__ == "__main__":
            spec = SourceSpec(kind="file", place=42, source_id="cam1")  # a defect
            try:
                next(ChildProcessSource(spec).frames())
            except CaptureError as error:
                print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        capture_output=True,
        check=False,
        timeout=60,
    )

    assert b"ended with exit code 1" in done.stdout, done.stderr
    (event,) = [json.loads(line) for line in done.stderr.splitlines()]
    assert event["level"] == "critical"
    assert "TypeError" in event["traceback"]
