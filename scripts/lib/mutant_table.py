"""Ways to spoil a promise that look harmless in a review, each with the test that notices."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Edit:
    """One replacement in one file; the text must be there exactly once."""

    path: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Mutant:
    """A defect, and what must notice it."""

    name: str
    edits: tuple[Edit, ...]
    tests: tuple[str, ...]
    """Each must turn red, or be skipped where this machine cannot run it; one at least is red."""


_DATABASE = "edge_sdk/alerting/database.py"
_MQTT = "edge_sdk/alerting/mqtt.py"
_LIVE = "edge_sdk/capture/live.py"
_RTSP = "edge_sdk/capture/rtsp.py"
_MAILBOX = "edge_sdk/capture/mailbox.py"
_FEED = "edge_sdk/runtime/feed.py"
_STATION = "edge_sdk/runtime/station.py"
_LOOP = "edge_sdk/runtime/loop.py"

_DELIVERY = "tests/integration/test_mqtt_delivery.py"
_CAMERAS = "tests/integration/test_network_cameras.py"
_OUTPUTS = "tests/integration/test_outputs.py"
_CAPTURE = "tests/device/test_capture_live.py"


def _of(path: str, sentence: str) -> str:
    """The test of this name in a file."""
    return f"{path}::test_{sentence.replace(' ', '_')}"


MUTANTS = (
    Mutant(
        "synchronous-normal",
        (Edit(_DATABASE, '"PRAGMA synchronous = FULL"', '"PRAGMA synchronous = NORMAL"'),),
        (_of("tests/device/test_spool.py", "a commit waits for the disk"),),
    ),
    Mutant(
        "no-suppress-exceptions",
        (Edit(_MQTT, "client.suppress_exceptions = True", "client.suppress_exceptions = False"),),
        (_of(_DELIVERY, "a callback that raises does not end delivery"),),
    ),
    Mutant(
        "acknowledged-by-any-puback",
        (Edit(_MQTT, "for reason in reasons if reason.is_failure]", "for reason in reasons[:0]]"),),
        (_of(_DELIVERY, "a message that the brokers rules forbid is kept and stops no others[5]"),),
    ),
    Mutant(
        "trusting-read",
        (Edit(_RTSP, "if took_seconds >= 0.9 * self._read_seconds:", "if took_seconds < 0:"),),
        (_of(_CAMERAS, "a read that took as long as its limit is a failure whatever it returns"),),
    ),
    Mutant(
        "trusting-first-pictures",
        (Edit(_RTSP, "is_old = not clock.is_live and", "is_old = False and"),),
        (
            _of(
                _CAMERAS,
                "pictures kept since a stream was opened are not taken for fresh ones",
            ),
        ),
    ),
    Mutant(
        "trusting-arrival",
        (
            Edit(
                _LIVE,
                "newest, limit = found.monotonic_ns / 1e9, self._stale_seconds",
                "newest, limit = time.monotonic(), self._stale_seconds",
            ),
        ),
        (_of(_CAPTURE, "pictures from long ago are not taken for fresh ones"),),
    ),
    Mutant(
        "wall-clock-in-the-watchdog",
        (
            Edit(
                _LIVE,
                "newest, limit = time.monotonic(), self._open_seconds",
                "newest, limit = time.time(), self._open_seconds",
            ),
            Edit(
                _LIVE,
                "reader.take(max(0.0, newest + limit - time.monotonic()))",
                "reader.take(max(0.0, newest + limit - time.time()))",
            ),
            Edit(
                _LIVE,
                "newest, limit = found.monotonic_ns / 1e9, self._stale_seconds",
                "newest, limit = time.time(), self._stale_seconds",
            ),
            Edit(
                _LIVE,
                "age_seconds = time.monotonic() - newest",
                "age_seconds = time.time() - newest",
            ),
        ),
        (
            _of(
                _CAPTURE,
                "a wall clock that is set neither blinds a camera nor hides that it hangs",
            ),
        ),
    ),
    Mutant(
        "mailbox-of-two",
        (
            Edit(
                _MAILBOX,
                "        self._take_back()\n        self._posted = memory",
                "        if frame.frame_id % 2:\n            self._take_back()\n"
                "        self._posted = memory",
            ),
        ),
        (
            _of(
                "tests/device/test_capture_mailbox.py",
                "the newest frame wins and the writer never waits",
            ),
        ),
    ),
    Mutant(
        "slot-of-two",
        (
            Edit(
                _FEED,
                "            self._replaced += self._frame is not None\n"
                "            self._frame = frame",
                "            if self._frame is None or frame.frame_id % 2:\n"
                "                self._frame = frame",
            ),
        ),
        (
            _of(
                "tests/device/test_feed.py",
                "a reader however slow finds the newest frame and no older one",
            ),
        ),
    ),
    Mutant(
        "output-after-the-commit",
        (
            Edit(
                _STATION,
                "if self.output is not None and not self.output.answer(decision):",
                "self.__dict__.setdefault('late', {})[trigger.trigger_id] = decision\n"
                "        if False:",
            ),
            Edit(
                _LOOP,
                "            if self._on_message is not None:\n",
                "            station = self._stations.get(message.camera or '')\n"
                "            if station is not None and station.output is not None:\n"
                "                station.output.answer(station.late[message.trigger_id])\n"
                "            if self._on_message is not None:\n",
            ),
        ),
        (
            _of(
                _OUTPUTS,
                "verdicts are shown while the disk stalls for two seconds and none is lost",
            ),
        ),
    ),
    Mutant(
        "signs-of-life-though-hung",
        (
            Edit(
                "edge_sdk/runtime/watchdog.py",
                "if seconds is not None and not hung and",
                "if seconds is not None and",
            ),
        ),
        (
            _of(
                "tests/device/test_watchdog.py",
                "a forwarder that hangs ends the signs of life",
            ),
        ),
    ),
    Mutant(
        "settings-not-read-back",
        (
            Edit(
                "edge_sdk/capture/settings.py",
                "            found = self._controls.read()\n        return found",
                "            found = {**found, **self._wanted}\n        return found",
            ),
        ),
        (
            _of(
                "tests/device/test_camera_settings.py",
                "what a camera does not take is read back as it is",
            ),
        ),
    ),
    Mutant(
        "lines-in-an-event",
        (
            Edit(
                "edge_sdk/logs.py",
                "name, text = record.name, one_line(_message(record))",
                "name, text = record.name, _message(record)",
            ),
        ),
        (
            _of(
                "tests/device/test_logs.py",
                "in a log for people too an event is one line and moves no cursor[newline]",
            ),
        ),
    ),
    Mutant(
        "any-host-name",
        (
            Edit(
                "edge_sdk/config/tls.py",
                "context.minimum_version = ssl.TLSVersion.TLSv1_2",
                "context.check_hostname = False",
            ),
        ),
        (
            _of(
                "tests/integration/test_mqtt_security.py",
                "a broker that cannot show who it is gets nothing[elsewhere-authority]",
            ),
        ),
    ),
)
