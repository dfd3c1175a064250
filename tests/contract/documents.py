"""Read the commands out of a Markdown document, and run them as its reader would."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

_FENCE = re.compile(r"^(?P<indent> *)(?P<marks>`{3,})(?P<language>[\w+-]*).*$")
_NOTE = re.compile(r"^<!--\s*(?P<what>not run:|exit)\s*(?P<value>.*?)\s*-->$")
_RUN = frozenset({"console", "bash"})
_MISLABELLED = frozenset({"sh", "shell", "zsh", "shell-session"})


class DocumentError(Exception):
    """A document cannot be run as it is written."""


@dataclass(frozen=True)
class Command:
    """One command of a document."""

    line: int
    """Of its first line, from 1."""
    text: str
    """What bash gets; may have several lines."""
    exit_code: int = 0
    """What it ends with, as the document says."""
    reason_not_run: str | None = None


@dataclass(frozen=True)
class _Block:
    line: int
    language: str
    lines: list[str]
    notes: dict[str, str]


def read_commands(text: str) -> list[Command]:
    """Read the commands of all ``console`` and ``bash`` blocks.

    In a ``console`` block a line starting with ``$`` and a space is a command, the rest is what
    it prints; a line ending in a backslash goes on in the next. A ``bash`` block is one script.
    An HTML comment before a block holds for that block: ``<!-- not run: reason -->``, or
    ``<!-- exit N -->`` where its only command ends with another code than 0.

    Args:
        text: Markdown.

    Returns:
        Commands in reading order, with those that are not to be run.

    Raises:
        DocumentError: a block without commands, without an end or with another name for a
            shell; a note without a block, reason or number.
    """
    return [command for block in _blocks(text) for command in _commands_of(block)]


def run_commands(commands: list[Command], folder: Path, environment: Mapping[str, str]) -> str:
    """Run commands in one shell, so that ``cd`` and ``export`` last, until one goes wrong.

    Args:
        commands: Of one document, in order.
        folder: Where the reader stands.
        environment: Variables that the shell starts with.

    Returns:
        What was typed and printed.

    Raises:
        DocumentError: a command ended with another exit code than the document says.
    """
    script = "".join(
        f"printf '%s\\n' {shlex.quote(f'$ {command.text}')}\n"
        f"eval {shlex.quote(command.text)}\n"
        f'edge_status=$?; [ "$edge_status" = {command.exit_code} ] || '
        f"{{ echo 'line {command.line}: expected exit code {command.exit_code}, got' "
        '"$edge_status"; exit 1; }\n'
        for command in commands
        if command.reason_not_run is None
    )
    # A file rather than a pipe: a program left running would hold a pipe open for ever.
    log = folder / ".commands.log"
    with log.open("wb") as output:
        shell = subprocess.Popen(
            ["bash", "-c", f"{script}\necho 'end of document'"],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            status = shell.wait()
        finally:
            _end_session(shell.pid)
            shell.wait()
    said = log.read_text("utf-8", errors="replace")
    if status != 0 or not said.endswith("end of document\n"):
        raise DocumentError(said)
    return said


def _end_session(leader: int) -> None:
    """Stop what a document started in the background."""
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return  # nothing was left


def _blocks(text: str) -> Iterator[_Block]:
    lines = iter(enumerate(text.splitlines(), start=1))
    notes: dict[str, str] = {}
    for number, line in lines:
        note, fence = _NOTE.match(line.strip()), _FENCE.match(line)
        if note:
            notes[note["what"]] = note["value"]
        elif fence:
            content = _content(lines, fence, number)
            if fence["language"] in _MISLABELLED:
                raise DocumentError(f"line {number}: {fence['language']}: name it console or bash")
            if fence["language"] in _RUN:
                yield _Block(number, fence["language"], content, notes)
            elif notes:
                raise DocumentError(f"line {number}: a note before a block that is not run anyway")
            notes = {}
        elif line.strip() and notes:
            raise DocumentError(f"line {number}: expected a block after the note, got {line!r}")
    if notes:
        raise DocumentError("the document ends after a note")


def _content(lines: Iterator[tuple[int, str]], fence: re.Match[str], opened: int) -> list[str]:
    content: list[str] = []
    for _, line in lines:
        if line.strip() == fence["marks"]:
            return content
        content.append(line.removeprefix(fence["indent"]))
    raise DocumentError(f"line {opened}: the block does not end")


def _commands_of(block: _Block) -> list[Command]:
    reason = block.notes.get("not run:")
    if reason == "":
        raise DocumentError(f"line {block.line}: not run, but why?")
    code = block.notes.get("exit", "0")
    if not code.isdigit():
        raise DocumentError(f"line {block.line}: expected an exit code, got {code!r}")
    typed = _typed(block) if block.language == "console" else _script(block)
    if not typed:
        raise DocumentError(f"line {block.line}: expected commands, found none")
    if code != "0" and len(typed) > 1:
        raise DocumentError(f"line {block.line}: an exit code belongs to one command alone")
    return [Command(line, text, int(code), reason) for line, text in typed]


def _typed(block: _Block) -> list[tuple[int, str]]:
    """What stands behind the prompts of a console block."""
    typed: list[tuple[int, str]] = []
    for number, line in enumerate(block.lines, start=block.line + 1):
        if typed and typed[-1][1].endswith("\\"):
            first, text = typed[-1]
            typed[-1] = (first, f"{text}\n{line.removeprefix('> ')}")
        elif line.startswith("$ "):
            typed.append((number, line[2:].rstrip()))
    return typed


def _script(block: _Block) -> list[tuple[int, str]]:
    """A whole bash block, which stops at its first failure."""
    text = "\n".join(block.lines)
    return [(block.line + 1, f"(set -e\n{text}\n)")] if text.strip() else []
