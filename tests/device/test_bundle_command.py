"""``edge-bundle``, and what it shares with the other commands."""

from __future__ import annotations

import argparse
import io
import json
import os
import pty
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import pytest
from bundle_samples import ENCODER, GOLDEN, copy_golden, read_document, seal

from edge_sdk.cli.bundle import main
from edge_sdk.console import Progress, add_common_arguments, print_json, run_command
from edge_sdk.errors import BusyError, EdgeError

ROOT = Path(__file__).parents[2]
PROGRAM = "import sys; from edge_sdk.cli.bundle import main; sys.exit(main())"


def edge_bundle(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, *map(str, arguments)],
        capture_output=True,
        check=False,
        cwd=ROOT,
        text=True,
    )


def test_verify_says_what_was_checked() -> None:
    done = edge_bundle("verify", GOLDEN)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(f"ok: {GOLDEN}\nsha256:14338ff8")
    assert "11 files, 24.4 kB" in done.stdout
    assert "signature: none" in done.stdout


def test_a_damaged_bundle_ends_with_exit_code_5_and_one_line(tmp_path: Path) -> None:
    bundle = copy_golden(tmp_path)
    (bundle / ENCODER).write_bytes(bytes(5125))
    done = edge_bundle("verify", "--bundle", bundle)
    assert (done.returncode, done.stdout) == (5, "")
    assert done.stderr.startswith(f"edge-bundle: error: {bundle}: {ENCODER}: expected sha256 ")
    assert done.stderr.count("\n") == 1


def test_a_bundle_for_a_newer_runtime_ends_with_exit_code_4(tmp_path: Path) -> None:
    bundle = seal(copy_golden(tmp_path), lambda d: d.update(requires_runtime="99.0"))
    done = edge_bundle("info", bundle, "--json")
    assert (done.returncode, done.stdout) == (4, "")
    assert "made for edge_sdk 99.0 or newer" in done.stderr


def test_wrong_arguments_end_with_exit_code_2() -> None:
    done = edge_bundle("verify", GOLDEN, "--bundle", GOLDEN)
    assert done.returncode == 2
    assert "expected BUNDLE or --bundle, got both" in done.stderr
    assert edge_bundle().returncode == 2


def test_packing_over_something_else_ends_with_exit_code_3(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "notes.txt").write_text("mine", encoding="utf-8")
    assert main(["pack", str(GOLDEN), "--out", str(tmp_path / "notes.txt")]) == 3
    assert "is left alone" in capsys.readouterr().err


def test_pack_info_and_verify_agree(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    archive = tmp_path / "sub" / "a.edgebundle"
    assert main(["pack", str(GOLDEN), "--out", str(archive), "--for-device", "--json"]) == 0
    packed = json.loads(capsys.readouterr().out)
    assert packed["bytes"] == archive.stat().st_size
    assert main(["verify", str(archive), "--json"]) == 0
    verified = json.loads(capsys.readouterr().out)
    assert verified["verified"] is True
    assert verified["files"] == 11
    assert main(["info", "--bundle", str(archive), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert shown["manifest"] == read_document(GOLDEN)
    assert packed["bundle_id"] == verified["bundle_id"] == shown["manifest"]["bundle_id"]


def test_info_shows_what_a_person_asks_first(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["info", str(GOLDEN)]) == 0
    out = capsys.readouterr().out
    lines = [" ".join(line.split()) for line in out.splitlines()]
    assert "model one_convolution, conv tokens of layers 1" in lines
    assert "trained no adapter" in lines
    assert "licence Apache-2.0, commercial use: yes" in lines
    assert "input 32 x 32 rgb, squash, area with antialiasing" in lines
    assert "encoder openvino fp32 - 11.6 kB" in lines
    assert "few_shot mean 1.5 blur=False, neighbourhood=1, tokens=conv:1" in lines
    assert "encoder fp32 openvino onnxruntime 1 random 1e-06 1e-07 - 0 ok" in lines
    assert any(line.startswith(f"{ENCODER} 5.1 kB ") for line in lines)


def test_a_foreign_file_name_cannot_move_the_cursor(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "a\x1b[2Jb"
    assert main(["info", str(folder)]) == 4
    err = capsys.readouterr().err
    assert "\x1b" not in err
    assert r"a\x1b[2Jb: no such bundle" in err


def test_commands_import_nothing_heavy_to_show_their_help() -> None:
    program = (
        "import sys\n"
        "import edge_sdk.cli.bundle, edge_sdk.console\n"
        "heavy = {'numpy', 'cv2', 'pydantic', 'yaml', 'onnxruntime', 'openvino', 'paho'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        cwd=ROOT,
        text=True,
    )
    assert done.stdout.strip() == "[]"


def run(error: BaseException | None, arguments: Sequence[str] = ()) -> int:
    parser = argparse.ArgumentParser(prog="edge-test")
    add_common_arguments(parser, "verbose")

    def body(_: argparse.Namespace) -> int:
        if error is not None:
            raise error
        return 10

    return run_command(parser, body, arguments)


@pytest.mark.parametrize(
    ("error", "exit_code", "said"),
    [
        (None, 10, ""),
        (BusyError("camera 0: in use"), 75, "edge-test: error: camera 0: in use\n"),
        (EdgeError("a\nb\x1b[2J"), 1, "edge-test: error: a\nedge-test: error: b\\x1b[2J\n"),
        (KeyboardInterrupt(), 130, ""),
        (
            ZeroDivisionError("by zero"),
            1,
            "edge-test: error: unexpected ZeroDivisionError: by zero (--verbose shows where)\n",
        ),
    ],
)
def test_an_error_becomes_one_line_and_an_exit_code(
    error: BaseException | None, exit_code: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(error) == exit_code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", said)


def test_verbose_shows_where_an_error_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(ZeroDivisionError("by zero"), ["--verbose"]) == 1
    err = capsys.readouterr().err
    assert "Traceback (most recent call last)" in err
    assert err.endswith("edge-test: error: unexpected ZeroDivisionError: by zero\n")


def test_common_arguments_have_one_meaning_and_no_default() -> None:
    parser = argparse.ArgumentParser()
    names = ("bundle", "config", "state", "engine", "device", "precision", "json", "verbose")
    add_common_arguments(parser, *names)
    unsaid = vars(parser.parse_args([]))
    assert unsaid == dict.fromkeys(names[:6]) | {"json": False, "verbose": False}
    said = parser.parse_args(["--device", "gpu", "--precision", "auto", "--state", "s", "--json"])
    assert (said.device, said.precision, said.state, said.json) == ("gpu", "auto", Path("s"), True)
    with pytest.raises(SystemExit):
        parser.parse_args(["--precision", "fp64"])


def test_a_json_answer_is_one_object_without_nan(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"a": 1, "b": "ä"})
    assert json.loads(capsys.readouterr().out) == {"a": 1, "b": "ä"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        print_json({"a": float("nan")})


def test_progress_in_a_log_is_a_line_for_every_tenth() -> None:
    stream = io.StringIO()
    with Progress("encode", 250, stream) as progress:
        for _ in range(250):
            progress.advance()
    assert stream.getvalue().splitlines() == [f"encode: {n} %" for n in range(10, 101, 10)]


def on_a_terminal(environment: dict[str, str]) -> str:
    program = (
        "from edge_sdk.console import Progress\n"
        "with Progress('encode', 4) as progress:\n"
        "    progress.advance(2)\n"
        "    progress.advance(2)\n"
    )
    controller, terminal = pty.openpty()
    subprocess.run(
        [sys.executable, "-c", program],
        check=True,
        cwd=ROOT,
        env={"PATH": os.environ["PATH"], **environment},
        stderr=terminal,
    )
    os.close(terminal)
    shown = b""
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # the other side is closed and all was read
            part = b""
        if not part:
            os.close(controller)
            return shown.decode()
        shown += part


def test_progress_on_a_terminal_is_a_bar() -> None:
    shown = on_a_terminal({"TERM": "xterm"})
    assert shown.count("\r") == 4, "three states of one line, and its end"
    assert "\x1b[32m" + "#" * 15 + "\x1b[0m" + "." * 15 + "]  50 %" in shown
    assert shown.endswith("100 %\r\n")


def test_progress_has_no_colour_where_none_is_wanted_and_no_bar_on_a_dumb_terminal() -> None:
    plain = on_a_terminal({"TERM": "xterm", "NO_COLOR": "1"})
    assert "\x1b" not in plain
    assert "[" + "#" * 30 + "] 100 %" in plain
    assert on_a_terminal({"TERM": "dumb"}) == "encode: 50 %\r\nencode: 100 %\r\n"


def test_a_bar_ends_its_line_when_the_task_fails() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    def fail() -> NoReturn:
        raise BusyError("in use")

    stream = Terminal()
    with pytest.raises(BusyError), Progress("encode", 4, stream):
        fail()
    assert stream.getvalue().endswith("0 %\n")
    with pytest.raises(ValueError, match="at least one step"):
        Progress("encode", 0)
