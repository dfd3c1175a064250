"""Digital inputs: each signal one trigger, with the moment it came, and none lost on the way."""

from __future__ import annotations

import json
import os
import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from importlib.util import find_spec
from pathlib import Path

import pytest

from edge_sdk.errors import ConfigError, EdgeError, LineError
from edge_sdk.inputs.fifo import MAX_LINE_BYTES
from edge_sdk.inputs.selector import open_input
from edge_sdk.inputs.signal import TriggerInput, TriggerSignal
from edge_sdk.runtime.listener import TriggerListener
from edge_sdk.runtime.triggers import TriggerCommand, TriggerDesk


@contextmanager
def reading(line: TriggerInput) -> Iterator[queue.Queue[TriggerSignal]]:
    """All signals of an input, read by a thread of its own."""
    heard: queue.Queue[TriggerSignal] = queue.Queue()

    def read() -> None:
        for signal in line.signals():
            heard.put(signal)

    thread = threading.Thread(target=read)
    thread.start()
    try:
        yield heard
    finally:
        line.close()
        thread.join(10)
    assert not thread.is_alive(), "an input ends within a second"


def write(path: Path, data: bytes) -> None:
    with path.open("wb", buffering=0) as pipe:
        pipe.write(data)


def payloads(heard: queue.Queue[TriggerSignal], count: int) -> list[bytes | None]:
    return [heard.get(timeout=10).payload for _ in range(count)]


def test_each_line_of_a_pipe_is_a_signal_of_the_moment_it_came(tmp_path: Path) -> None:
    path = tmp_path / "part"
    with reading(open_input("fifo", str(path))) as heard:
        before = time.monotonic_ns()
        write(path, b'{"part_id": "A-1"}\n')
        signal = heard.get(timeout=10)
        assert signal.payload == b'{"part_id": "A-1"}'
        assert before <= signal.monotonic_ns <= time.monotonic_ns()
        write(path, b"second\nthird\nfour")
        write(path, b"th\n")
        assert payloads(heard, 3) == [b"second", b"third", b"fourth"]


def test_writers_come_and_go_and_none_mixes_with_another(tmp_path: Path) -> None:
    path = tmp_path / "part"
    line = open_input("fifo", str(path))
    with reading(line) as heard:
        writers = [
            threading.Thread(target=write_many, args=(path, f"{name}"), daemon=True)
            for name in "abcd"
        ]
        for writer in writers:
            writer.start()
        got = payloads(heard, 400)
    expected = {json.dumps([name, n, "x" * 500]).encode() for name in "abcd" for n in range(100)}
    assert set(got) == expected


def write_many(path: Path, name: str) -> None:
    for number in range(100):
        write(path, json.dumps([name, number, "x" * 500]).encode() + b"\n")


def test_a_line_without_an_end_is_cut_off(tmp_path: Path) -> None:
    path = tmp_path / "part"
    with reading(open_input("fifo", str(path))) as heard:
        write(path, b"x" * (MAX_LINE_BYTES + 1))
        assert payloads(heard, 1) == [b"x" * MAX_LINE_BYTES]
        write(path, b"good\n")
        assert payloads(heard, 1) == [b"good"]


def test_a_pipe_that_is_there_is_used_and_left(tmp_path: Path) -> None:
    path = tmp_path / "part"
    os.mkfifo(path)
    with reading(open_input("fifo", str(path))) as heard:
        write(path, b"A\n")
        assert payloads(heard, 1) == [b"A"]
    assert path.is_fifo()


@pytest.mark.parametrize(
    ("driver", "address", "words"),
    [
        ("fifo", "part", "absolute path"),
        ("button", "x", "known are fifo, gpio"),
    ],
)
def test_an_address_that_means_nothing_is_refused(driver: str, address: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_input(driver, address)


def test_a_file_in_the_place_of_the_pipe_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "part"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="expected a pipe or nothing there"):
        open_input("fifo", str(path))
    assert path.read_text() == "mine"


def test_a_pipe_that_cannot_be_made_is_a_line_that_cannot_be_opened(tmp_path: Path) -> None:
    with pytest.raises(LineError, match="No such file"):
        open_input("fifo", str(tmp_path / "missing" / "part"))


@pytest.mark.skipif(find_spec("gpiod") is None, reason="gpiod is not installed")
def test_a_gpio_line_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="gpiochipN:LINE"):
        open_input("gpio", "/dev/gpiochip0")
    with pytest.raises(ConfigError, match="gpiochipN:LINE"):
        open_input("gpio", "/dev/gpiochip0:17:rising")
    with pytest.raises(LineError, match="gpiochip987"):
        open_input("gpio", "/dev/gpiochip987:17")


@pytest.mark.skipif(find_spec("gpiod") is not None, reason="gpiod is installed")
def test_without_gpiod_it_is_said_what_to_install() -> None:
    with pytest.raises(ConfigError, match="edge-inspection-sdk\\[gpio\\]"):
        open_input("gpio", "/dev/gpiochip0:17")


# --- the thread that listens ---


class Button:
    """An input that is pressed by the test, and whose wire breaks when it says so."""

    def __init__(self) -> None:
        self.presses: queue.Queue[TriggerSignal | Exception | None] = queue.Queue()

    def press(self, payload: bytes | None = None) -> TriggerSignal:
        signal = TriggerSignal(monotonic_ns=time.monotonic_ns(), payload=payload)
        self.presses.put(signal)
        return signal

    def signals(self) -> Iterator[TriggerSignal]:
        while (press := self.presses.get()) is not None:
            if isinstance(press, Exception):
                raise press
            yield press

    def close(self) -> None:
        self.presses.put(None)


def wait_for(claim: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not claim():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def take(desk: TriggerDesk, count: int) -> list[TriggerCommand]:
    taken: list[TriggerCommand] = []

    def has_enough() -> bool:
        taken.extend(desk.take())
        return len(taken) >= count

    wait_for(has_enough)
    return taken


def test_what_an_input_says_is_handed_in_for_its_camera() -> None:
    button, news = Button(), threading.Event()
    desk = TriggerDesk(news.set)
    with closing(TriggerListener("cam1", lambda: button, desk)):
        pressed = [button.press(), button.press(b'{"part_id": "A"}')]
        commands = take(desk, 2)
        assert news.is_set()
    assert [command.payload for command in commands] == [None, b'{"part_id": "A"}']
    assert [command.received_ns for command in commands] == [s.monotonic_ns for s in pressed]
    assert {(command.way, command.camera) for command in commands} == {("input", "cam1")}


def test_no_signal_is_lost_while_the_loop_is_busy() -> None:
    button = Button()
    desk = TriggerDesk(lambda: None)
    with closing(TriggerListener("cam1", lambda: button, desk)):
        for number in range(1000):
            button.press(b"%d" % number)
        wait_for(lambda: button.presses.qsize() < 1000)
        commands = take(desk, 1000)
    assert [command.payload for command in commands] == [b"%d" % number for number in range(1000)]


@pytest.mark.parametrize(
    ("failure", "words"),
    [
        (LineError("wire: it broke"), "it broke"),
        (ZeroDivisionError("oops"), "ZeroDivisionError: oops"),
        (None, "has ended"),
    ],
)
def test_an_input_that_is_lost_is_said_and_opened_again(
    failure: Exception | None, words: str
) -> None:
    buttons: list[Button] = []
    is_plugged = threading.Event()
    is_plugged.set()

    def open_button() -> TriggerInput:
        if not is_plugged.is_set():
            raise LineError("wire: it broke" if isinstance(failure, LineError) else words)
        buttons.append(Button())
        return buttons[-1]

    desk = TriggerDesk(lambda: None)
    with closing(TriggerListener("cam1", open_button, desk)) as listener:
        assert listener.error is None
        is_plugged.clear()
        buttons[0].presses.put(failure)
        wait_for(lambda: listener.error is not None)
        error: EdgeError | None = listener.error
        assert words in str(error)
        is_plugged.set()
        wait_for(lambda: len(buttons) == 2 and listener.error is None)
        buttons[1].press(b"again")
        assert [command.payload for command in take(desk, 1)] == [b"again"]
