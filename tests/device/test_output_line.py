"""The reject/hold line: on its safe side unless a verdict in time has just said otherwise."""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import pytest
from runtime_fakes import PlayedSource, bad_part, good_part, make_camera, make_rig

from edge_sdk.alerting.trigger import TriggerRequest
from edge_sdk.errors import ConfigError, LineError
from edge_sdk.outputs.line import OutputLine, OutputTiming
from edge_sdk.outputs.selector import open_output
from edge_sdk.outputs.signal import OutputDriver, Signal
from edge_sdk.outputs.socket import MAX_READERS
from edge_sdk.records import Decision, Reason, Severity, Verdict

NORMAL = Decision(
    verdict=Verdict.NORMAL,
    reason=Reason.BELOW_THRESHOLD,
    severity=Severity.INFO,
    threshold=1.0,
    provisional=False,
    margin=-0.5,
    normal_percentile=None,
    regions=(),
    detail="",
    frame=None,
    result=None,
    part_id="A-1",
    trigger_id="t-1",
)
ANOMALOUS = replace(NORMAL, verdict=Verdict.ANOMALOUS, reason=Reason.OVER_THRESHOLD)
FAULT = replace(NORMAL, verdict=Verdict.FAULT, reason=Reason.NO_FRAME)
LONG = OutputTiming(heartbeat_seconds=0.02, pass_seconds=60, stall_seconds=60)


@dataclass
class Lamp:
    """An output driver that remembers what it showed, and can be unplugged."""

    shown: list[Signal] = field(default_factory=list)
    beats: int = 0
    opened: int = 0
    closed: int = 0
    is_unplugged: bool = False
    changed: threading.Condition = field(default_factory=threading.Condition)

    def open(self) -> OutputDriver:
        self._check()
        self.opened += 1
        return self

    def show(self, signal: Signal) -> None:
        self._check()
        with self.changed:
            self.shown.append(signal)
            self.changed.notify_all()

    def beat(self, signal: Signal) -> None:
        self._check()
        with self.changed:
            assert not self.shown or signal == self.shown[-1]
            self.beats += 1
            self.changed.notify_all()

    def close(self) -> None:
        self.closed += 1

    def wait_for(self, claim: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(claim, 10), [s.reason for s in self.shown]

    def reasons(self) -> list[tuple[str, str]]:
        return [(signal.side, signal.reason) for signal in self.shown]

    def _check(self) -> None:
        if self.is_unplugged:
            raise LineError("lamp: it is unplugged")


@contextmanager
def line_over(lamp: Lamp, timing: OutputTiming = LONG) -> Iterator[OutputLine]:
    line = OutputLine("cam1", lamp.open, timing)
    try:
        yield line
    finally:
        line.close()


def in_seconds(seconds: float) -> int:
    return time.monotonic_ns() + int(seconds * 1e9)


def test_only_a_normal_verdict_lets_a_part_pass() -> None:
    lamp = Lamp()
    with line_over(lamp) as line:
        for number, decision in enumerate((NORMAL, ANOMALOUS, FAULT)):
            line.expect(f"t-{number}", "A-1", in_seconds(60))
            assert line.answer(replace(decision, trigger_id=f"t-{number}"))

    assert lamp.reasons() == [
        ("pass", "below_threshold"),
        ("safe", "next_part"),
        ("safe", "over_threshold"),
        ("safe", "no_frame"),
        ("safe", "stopped"),
    ]
    assert [s.part_id for s in lamp.shown if s.side == "pass"] == ["A-1"]
    assert [s.provisional for s in lamp.shown] == [False, None, False, False, None]
    assert lamp.closed == 1


def test_a_pass_ends_by_itself() -> None:
    lamp = Lamp()
    with line_over(lamp, replace(LONG, pass_seconds=0.05)) as line:
        line.expect("t-1", "A-1", in_seconds(60))
        line.answer(NORMAL)
        lamp.wait_for(lambda: ("safe", "expired") in lamp.reasons())


def test_a_missed_deadline_is_shown_when_it_passes_and_a_later_verdict_changes_nothing() -> None:
    lamp = Lamp()
    with line_over(lamp) as line:
        line.expect("t-1", "A-1", in_seconds(0.05))
        lamp.wait_for(lambda: ("safe", "timeout") in lamp.reasons())
        assert not line.answer(NORMAL)
        assert line.shown.side == "safe"

    (timeout,) = [signal for signal in lamp.shown if signal.reason == "timeout"]
    assert (timeout.part_id, timeout.trigger_id, timeout.verdict) == ("A-1", "t-1", "fault")


def test_a_verdict_without_a_trigger_that_is_waited_for_lets_nothing_pass() -> None:
    lamp = Lamp()
    with line_over(lamp) as line:
        assert not line.answer(NORMAL)
        assert line.shown.side == "safe"


def test_the_heartbeat_stops_and_the_line_goes_safe_when_the_loop_stalls() -> None:
    lamp = Lamp()
    with line_over(lamp, replace(LONG, stall_seconds=0.2)) as line:
        line.tick()
        line.expect("t-1", "A-1", in_seconds(60))
        line.answer(NORMAL)
        lamp.wait_for(lambda: lamp.beats > 2)
        lamp.wait_for(lambda: ("safe", "stalled") in lamp.reasons())
        beats = lamp.beats
        time.sleep(0.2)
        assert lamp.beats == beats

        line.tick()
        lamp.wait_for(lambda: lamp.beats > beats)
        assert line.shown.side == "safe", "a pass from before the stall is over"


def test_a_line_that_fails_is_opened_again_on_its_safe_side() -> None:
    lamp = Lamp()
    with line_over(lamp) as line:
        line.expect("t-1", "A-1", in_seconds(60))
        lamp.is_unplugged = True
        assert line.answer(NORMAL)
        assert "unplugged" in str(line.error)
        assert lamp.closed == 1
        lamp.is_unplugged = False
        lamp.wait_for(lambda: bool(lamp.shown))
        assert line.shown.side == "safe"
        assert (line.error, lamp.opened) == (None, 2)


def test_a_watched_camera_passes_while_it_is_normal_and_holds_while_an_anomaly_lasts(
    tmp_path: Path,
) -> None:
    lamp, source = Lamp(), PlayedSource()
    with (
        line_over(lamp) as line,
        make_rig(tmp_path, [(make_camera(), source)], outputs={"cam1": line}) as rig,
    ):
        sides = []
        for pixels in (good_part(7), bad_part(), good_part(8), good_part(9), good_part(10)):
            source.give(pixels)
            rig.step_with_frame()
            sides.append(line.shown.side)
        assert sides == ["pass", "safe", "safe", "pass", "pass"], "two clear frames end it"
        source.fail()
        rig.news.wait_for(lambda: rig.station.feed.error is not None)
        rig.step()
        assert (line.shown.side, line.shown.reason) == ("safe", "no_frame")


def test_the_line_acts_before_the_message_is_made(tmp_path: Path) -> None:
    """What is drawn, encoded and stored comes after it."""
    lamp, source = Lamp(), PlayedSource()
    with (
        line_over(lamp) as line,
        make_rig(tmp_path, [(make_camera(mode="mqtt"), source)], outputs={"cam1": line}) as rig,
    ):
        request = TriggerRequest(part_id="A-1", trigger_id="t-1")
        rig.station.trigger(request, time.monotonic_ns())
        source.give(good_part(7))
        rig.news.wait_for(lambda: rig.station.feed.has_frame)
        dispatches = [*rig.station.tend(), *rig.inspect()]

        assert line.shown.side == "pass"
        assert rig.outbox.payloads == [], "nothing was sent yet"
        assert [dispatch.draft.trigger_id for dispatch in dispatches] == ["t-1"]


def test_line_and_result_never_disagree_about_a_deadline(tmp_path: Path) -> None:
    lamp, source = Lamp(), PlayedSource()
    camera = make_camera(mode="mqtt", deadline_seconds=0.05)
    with (
        line_over(lamp) as line,
        make_rig(tmp_path, [(camera, source)], outputs={"cam1": line}) as rig,
    ):
        for number in range(30):
            request = TriggerRequest(part_id=f"A-{number}", trigger_id=f"t-{number}")
            rig.station.trigger(request, time.monotonic_ns())
            time.sleep(0.045 + 0.0003 * number)
            source.give(good_part(number))
            while len(rig.outbox.of_kind("result")) <= number:
                rig.step()

    passed = {signal.part_id for signal in lamp.shown if signal.side == "pass"}
    normal = {p["part_id"] for p in rig.outbox.of_kind("result") if p["verdict"] == "normal"}
    assert passed == normal
    assert len(rig.outbox.of_kind("result")) == 30


# --- the driver ``socket`` ---


def read_lines(reader: socket.socket) -> Iterator[dict[str, object]]:
    with reader.makefile("rb") as lines:
        for line in lines:
            yield json.loads(line)


def connect(path: Path) -> socket.socket:
    reader = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    reader.settimeout(10)
    reader.connect(str(path))
    return reader


def test_a_gateway_reads_every_change_and_every_beat(tmp_path: Path) -> None:
    path = tmp_path / "line"
    line = OutputLine("cam1", lambda: open_output("socket", str(path)), LONG)
    with closing(connect(path)) as reader:
        lines = read_lines(reader)
        first = next(lines)
        assert (first["kind"], first["side"], first["reason"]) == ("beat", "safe", "idle")
        line.expect("t-1", "A-1", in_seconds(60))
        line.answer(NORMAL)
        shown = next(line for line in lines if line["kind"] == "show")
        assert (shown["side"], shown["part_id"], shown["trigger_id"]) == ("pass", "A-1", "t-1")
        line.close()
        assert [line["reason"] for line in lines if line["kind"] == "show"] == ["stopped"]
    assert not path.exists()


def test_a_socket_left_by_a_killed_process_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "line"
    with closing(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)) as dead:
        dead.bind(str(path))
    with closing(open_output("socket", str(path))), closing(connect(path)):
        pass


def test_a_socket_that_another_process_listens_on_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "line"
    with closing(open_output("socket", str(path))), closing(connect(path)):
        with pytest.raises(LineError, match="another process listens"):
            open_output("socket", str(path))
        assert path.exists()


def test_a_gateway_that_does_not_read_is_cut_off_and_the_others_are_served(tmp_path: Path) -> None:
    path = tmp_path / "line"
    signal = Signal(side="safe", reason="idle", camera="cam1", monotonic_ns=0)
    with (
        closing(open_output("socket", str(path))) as output,
        closing(connect(path)) as lazy,
        closing(connect(path)) as eager,
    ):
        eager.setblocking(False)
        for _ in range(20_000):
            output.beat(signal)
            eager.recv(1_000_000)
        lazy_bytes = 0
        while data := lazy.recv(1_000_000):
            lazy_bytes += len(data)
        assert lazy_bytes < 20_000 * 50, "it was closed in the middle"
        output.beat(signal)
        assert eager.recv(1000)


def test_more_gateways_than_allowed_are_turned_away(tmp_path: Path) -> None:
    path = tmp_path / "line"
    signal = Signal(side="safe", reason="idle", camera="cam1", monotonic_ns=0)
    with closing(open_output("socket", str(path))) as output:
        readers = []
        for _ in range(MAX_READERS + 1):
            readers.append(connect(path))
            output.beat(signal)
        assert [bool(reader.recv(1000)) for reader in readers] == [True] * MAX_READERS + [False]
        for reader in readers:
            reader.close()


@pytest.mark.parametrize(
    ("driver", "address", "words"),
    [
        ("socket", "line", "absolute path"),
        ("socket", "/" + "x" * 107, "107 bytes"),
        ("lamp", "x", "known are gpio, socket"),
    ],
)
def test_an_address_that_means_nothing_is_refused(driver: str, address: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        open_output(driver, address)


def test_a_file_in_the_place_of_the_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "line"
    path.write_text("mine")
    with pytest.raises(ConfigError, match="expected a socket or nothing there"):
        open_output("socket", str(path))
    assert path.read_text() == "mine"


# --- the driver ``gpio``: no more without a chip ---


@pytest.mark.skipif(find_spec("gpiod") is None, reason="gpiod is not installed")
def test_a_gpio_line_that_cannot_be_is_refused() -> None:
    with pytest.raises(ConfigError, match="PASS:HEARTBEAT"):
        open_output("gpio", "/dev/gpiochip0:22")
    with pytest.raises(ConfigError, match="two different lines"):
        open_output("gpio", "/dev/gpiochip0:22:22")
    with pytest.raises(LineError, match="gpiochip987"):
        open_output("gpio", "/dev/gpiochip987:22:23")


@pytest.mark.skipif(find_spec("gpiod") is not None, reason="gpiod is installed")
def test_without_gpiod_it_is_said_what_to_install() -> None:
    with pytest.raises(ConfigError, match="edge-inspection-sdk\\[gpio\\]"):
        open_output("gpio", "/dev/gpiochip0:22:23")
