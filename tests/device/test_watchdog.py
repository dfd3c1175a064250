"""Signs of life for a service manager: only while the loop, each camera's thread and the forwarder
have shown lately that they work."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
from alerts import QUICK, make_draft, open_spool
from notify_socket import NotifySocket
from runtime_fakes import QUICK as QUICK_PAUSES
from runtime_fakes import News, PlayedSource

from edge_sdk.alerting.forwarder import Forwarder
from edge_sdk.alerting.payload import DeviceFlag
from edge_sdk.alerting.pulse import NAME_SERVICE_SECONDS, USUAL_SECONDS, Pulse
from edge_sdk.alerting.topics import DEFAULT_PREFIX, Topics
from edge_sdk.records import Message
from edge_sdk.runtime.feed import FrameFeed
from edge_sdk.runtime.service_manager import ServiceManager
from edge_sdk.runtime.watchdog import Watchdog

LIMIT_SECONDS = 1e-6
"""Within which the manager of these tests wants a sign: one is due whenever the loop turns."""


class Clock:
    """Monotonic seconds that pass when a test lets them."""

    now = 0.0

    def __call__(self) -> float:
        return self.now


class HangingLink:
    """A way to the plant whose thread gets stuck in it, as soon as there is a message to send."""

    def __init__(self) -> None:
        self.topics = Topics(DEFAULT_PREFIX, "box-1")
        self.is_connected = True
        self.flags: frozenset[DeviceFlag] = frozenset()
        self.is_stuck = threading.Event()
        self.release = threading.Event()

    def connect(self) -> None:
        pass

    def publish(self, messages: Sequence[Message]) -> frozenset[int]:
        self.is_stuck.set()
        self.release.wait()
        return frozenset(message.seq for message in messages)

    def publish_retained(self, _topic: str, _payload: bytes) -> bool:
        return True

    def publish_picture(self, *, camera: str, message_id: str, seq: int, jpeg: bytes) -> bool:  # noqa: ARG002 - none is sent
        return True

    def take_confirmed(self) -> list[int]:
        return []

    def poll(self, timeout_seconds: float) -> None:
        self.release.wait(timeout_seconds)

    def close(self) -> None:
        pass


@contextmanager
def watching(folder: Path, **parts: Callable[[], bool]) -> Iterator[tuple[Watchdog, NotifySocket]]:
    """A loop's watchdog, and the manager that it tells."""
    with NotifySocket(folder) as manager, ExitStack() as opened:
        watchdog = Watchdog(
            ServiceManager(manager.address, LIMIT_SECONDS), parts, lambda: "1 camera"
        )
        opened.callback(watchdog.close)
        yield watchdog, manager


def gives_a_sign(watchdog: Watchdog, manager: NotifySocket) -> bool:
    """Whether one turn of the loop is told as a sign of life."""
    manager.drain()
    before = len(manager.told)
    watchdog.attend()
    manager.drain()
    return "WATCHDOG=1" in manager.told[before:]


@contextmanager
def feeding(source: PlayedSource, clock: Clock) -> Iterator[tuple[FrameFeed, News]]:
    news = News()
    feed = FrameFeed(
        "cam1",
        lambda: source,
        keeps="newest",
        reopens=True,
        on_news=news,
        pause_seconds=QUICK_PAUSES,
        pulse=Pulse(clock),
    )
    feed.start()
    try:
        yield feed, news
    finally:
        feed.close()


def test_a_service_is_ready_when_its_loop_turns_and_stops_aloud(tmp_path: Path) -> None:
    with watching(tmp_path) as (watchdog, manager):
        watchdog.attend()
        watchdog.attend()
        watchdog.close()
        manager.drain()

    told = [line for line in manager.told if line != "WATCHDOG=1"]
    assert told == ["READY=1", "STATUS=1 camera", "STOPPING=1"]


@pytest.mark.parametrize("is_abstract", [False, True])
def test_variables_come_whole_through_either_kind_of_socket(
    tmp_path: Path, is_abstract: bool
) -> None:
    with NotifySocket(None if is_abstract else tmp_path) as heard:
        manager = ServiceManager(heard.address, None)
        manager.tell(STATUS="first line\nREADY=1", MAINPID=17)
        manager.close()
        heard.drain()

    assert heard.told == ["STATUS=first line READY=1", "MAINPID=17"]


def test_a_camera_that_gives_no_frames_works_and_a_thread_that_hangs_in_it_does_not(
    tmp_path: Path,
) -> None:
    clock, source = Clock(), PlayedSource()
    with (
        feeding(source, clock) as (feed, news),
        watching(tmp_path, camera=lambda: feed.is_working) as (watchdog, manager),
    ):
        source.give()
        news.wait_for(lambda: feed.has_frame)
        assert gives_a_sign(watchdog, manager)

        clock.now += USUAL_SECONDS - 0.1
        readings = len(source.readings)
        source.fail()  # it is given up after 3 s, again and again, and tried anew
        assert _comes_true(lambda: len(source.readings) > readings)
        clock.now += USUAL_SECONDS - 0.1
        assert gives_a_sign(watchdog, manager), "blind, but at work"

        clock.now += NAME_SERVICE_SECONDS  # the last attempt never returns
        assert not gives_a_sign(watchdog, manager)
        assert "STATUS=hung: camera" in manager.told

        source.give()
        assert _comes_true(lambda: feed.is_working)
        assert gives_a_sign(watchdog, manager), "it works again"


def test_a_recording_that_waits_for_its_reader_works() -> None:
    clock, source, news = Clock(), PlayedSource(), News()
    pulse = Pulse(clock)
    feed = FrameFeed(
        "cam1", lambda: source, keeps="every", reopens=False, on_news=news, pulse=pulse
    )
    feed.start()
    try:
        source.give()
        source.give()
        news.wait_for(lambda: feed.has_frame)
        clock.now += 10 * NAME_SERVICE_SECONDS  # nobody has a use for the first one
        assert _comes_true(lambda: feed.is_working)
    finally:
        feed.close()
    assert feed.is_working, "it has ended as it should"


def test_a_forwarder_that_hangs_ends_the_signs_of_life(tmp_path: Path) -> None:
    clock, link = Clock(), HangingLink()
    spool = open_spool(tmp_path)
    forwarder = Forwarder(spool, link, QUICK, pulse=Pulse(clock))
    forwarder.start()
    try:
        with watching(tmp_path, forwarder=lambda: forwarder.is_working) as (watchdog, manager):
            clock.now += 10 * USUAL_SECONDS
            assert _comes_true(lambda: forwarder.is_working), "it has nothing to do"
            assert gives_a_sign(watchdog, manager)

            spool.append(make_draft())
            assert link.is_stuck.wait(10)
            assert gives_a_sign(watchdog, manager), "it may take its time"
            clock.now += USUAL_SECONDS + 0.1
            assert not gives_a_sign(watchdog, manager)
            assert "STATUS=hung: forwarder" in manager.told
    finally:
        link.release.set()
        forwarder.stop(5.0)
        spool.close()


def test_variables_are_taken_out_of_the_environment_and_a_sign_for_another_is_not_given() -> None:
    mine = {
        "NOTIFY_SOCKET": "/run/n",
        "WATCHDOG_USEC": "15000000",
        "WATCHDOG_PID": f"{os.getpid()}",
    }
    other = {**mine, "WATCHDOG_PID": "1"}
    none = {"WATCHDOG_USEC": "15000000"}
    odd = {"NOTIFY_SOCKET": "vsock:2:1234", "WATCHDOG_USEC": "x"}

    managers = [ServiceManager.from_environment(each) for each in (mine, other, none, odd)]

    assert [manager and manager.watchdog_seconds for manager in managers] == [15, None, None, None]
    assert [manager is None for manager in managers] == [False, False, True, True]
    assert not (mine | other | none | odd)
    for manager in managers:
        if manager is not None:
            manager.tell(READY=1)  # nobody listens there: said to nobody
            manager.close()


def _comes_true(claim: Callable[[], bool]) -> bool:
    """Whether a claim about another thread holds within ten seconds."""
    pause = threading.Event()
    return any(claim() or pause.wait(0.02) for _ in range(500))
