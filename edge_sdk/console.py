"""What all commands share: arguments, exit codes, JSON answers and progress.

Only the standard library is imported here, so that ``--help`` is quick.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Protocol, TextIO

from edge_sdk.errors import EdgeError

EXIT_UNEXPECTED: Final = 1
EXIT_INTERRUPTED: Final = 130

_BAR_CELLS = 30
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")

_COMMON: Mapping[str, dict[str, Any]] = {
    "bundle": {
        "type": Path,
        "metavar": "PATH",
        "help": "bundle folder or .edgebundle file (default: the built-in one)",
    },
    "config": {"type": Path, "metavar": "FILE", "help": "device file (YAML)"},
    "state": {"type": Path, "metavar": "FOLDER", "help": "where this box keeps what it learns"},
    "engine": {"metavar": "NAME", "help": "inference library: onnxruntime, openvino, torch"},
    "device": {
        "choices": ("cpu", "gpu", "npu", "cuda", "tensorrt"),
        "help": "where the engine runs",
    },
    "precision": {
        "choices": ("fp32", "fp16", "bf16", "int8", "auto"),
        "help": "which graphs to use",
    },
    "json": {"action": "store_true", "help": "print one JSON object on standard output"},
    "allow-untrained": {
        "action": "store_true",
        "help": "take a bundle of random numbers, which is made for tests and timing",
    },
    "verbose": {"action": "store_true", "help": "say more, with tracebacks"},
}


def add_common_arguments(parser: argparse.ArgumentParser, *names: str) -> None:
    """Add arguments that mean the same in every command.

    Args:
        parser: of a command or subcommand.
        names: from ``bundle config state engine device precision json allow-untrained
            verbose``, without dashes.
            None of them has a default but ``None`` or ``False``: what is not said on the command
            line may be said in the device file.
    """
    for name in names:
        parser.add_argument(f"--{name}", **_COMMON[name])


class ErrorReporter(Protocol):
    """Tells people that a command failed."""

    def __call__(self, program: str, text: str, *, verbose: bool) -> None:
        """Say why; with ``verbose`` also where, for the error is being handled."""
        ...


def report_error(program: str, text: str, *, verbose: bool) -> None:
    """Print the line, or lines, that every failed command ends with, on standard error."""
    if verbose:
        traceback.print_exc()
    # File names and keys of a broken bundle come into messages; they must not move the cursor.
    for line in text.split("\n"):
        print(f"{program}: error: {printable(line)}", file=sys.stderr)


def printable(line: str) -> str:
    """A line without characters that could end it or move the cursor."""
    return _CONTROL.sub(lambda match: ascii(match.group())[1:-1], line)


def run_command(
    parser: argparse.ArgumentParser,
    body: Callable[[argparse.Namespace], int],
    arguments: Sequence[str] | None,
    *,
    report: ErrorReporter = report_error,
) -> int:
    """Parse arguments, run a command, and turn its errors into one line and an exit code.

    Args:
        parser: its ``prog`` starts the error line; has ``--verbose``.
        body: the command; returns its exit code.
        arguments: without the program's name; None: from the command line.
        report: tells of a failure.

    Returns:
        The exit code: what ``body`` returned, the ``exit_code`` of an ``EdgeError``, 130 after
        Ctrl-C, or 1 after anything unexpected.

    Raises:
        SystemExit: from argparse, 2 for wrong arguments and 0 after ``--help``.
    """
    options = parser.parse_args(arguments)
    # One pool computes, the inference runtime's. Beside it numpy's would fight for the cores: the
    # slowest scores then take ten times as long. Read once, when numpy is imported: after this.
    for library in ("OPENBLAS", "MKL", "BLIS", "VECLIB"):
        os.environ.setdefault(f"{library}_NUM_THREADS", "1")
    try:
        return body(options)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except EdgeError as error:
        report(parser.prog, str(error), verbose=options.verbose)
        return error.exit_code
    except Exception as error:  # noqa: BLE001 - the outermost place, and it ends the process
        hint = "" if options.verbose else " (--verbose shows where)"
        text = f"unexpected {type(error).__name__}: {error}{hint}"
        report(parser.prog, text, verbose=options.verbose)
        return EXIT_UNEXPECTED


def print_json(value: Mapping[str, Any]) -> None:
    """Print the command's answer, one JSON object, on standard output.

    Raises:
        ValueError: a NaN or an infinity is in it.
    """
    print(json.dumps(value, indent=2, allow_nan=False))


class Progress:
    """Says on standard error how far a long task is.

    A bar on a terminal; otherwise, as in a log, one line for every 10 %. A context manager: the
    bar's line is ended also when the task fails.

    Args:
        label: what is being done.
        total: steps, at least 1.
        stream: None: standard error.
    """

    def __init__(self, label: str, total: int, stream: TextIO | None = None) -> None:
        if total < 1:
            raise ValueError(f"progress {label}: expected at least one step, got {total}")
        self._label = label
        self._total = total
        self._stream = sys.stderr if stream is None else stream
        self._is_bar = self._stream.isatty() and os.environ.get("TERM") != "dumb"
        self._has_color = self._is_bar and not os.environ.get("NO_COLOR")
        self._done = 0
        self._shown = -1

    def __enter__(self) -> Progress:  # noqa: PYI034 - Self is not in Python 3.10
        self._show()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._is_bar:
            print(file=self._stream, flush=True)

    def advance(self, steps: int = 1) -> None:
        """Count finished steps."""
        self._done = min(self._done + steps, self._total)
        self._show()

    def _show(self) -> None:
        percent = 100 * self._done // self._total
        mark = percent if self._is_bar else percent // 10 * 10
        if mark == self._shown:
            return
        self._shown = mark
        if self._is_bar:
            filled = _BAR_CELLS * self._done // self._total
            bar = "#" * filled
            if self._has_color:
                bar = f"\x1b[32m{bar}\x1b[0m"
            bar += "." * (_BAR_CELLS - filled)
            print(f"\r{self._label} [{bar}] {percent:3d} %", end="", file=self._stream, flush=True)
        elif mark > 0:
            print(f"{self._label}: {mark} %", file=self._stream, flush=True)
