"""Triggers over HTTP, from a stranger, to a real ``edge-run``."""

from __future__ import annotations

import http.client
import json
import shutil
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import pytest
from commands import TERMINATED, Box, Running
from plant import Plant
from triggered import ABSENT, device_file, enroll_box, results, service, wait_for_results

from edge_sdk.alerting.commands import MAX_COMMAND_BYTES

TOKEN = "sesame-4711"  # noqa: S105 - of a test


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_path: Path) -> None:
    """Skip where there is no broker (CI fails instead)."""


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return enroll_box(tmp_path_factory.mktemp("http")).folder


@pytest.fixture
def box(enrolled: Path, tmp_path: Path) -> Box:
    shutil.copytree(enrolled, tmp_path / "box")
    return Box(tmp_path / "box")


@pytest.fixture
def port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as free:
        number: int = free.getsockname()[1]
        return number


def configure(box: Box, port: int, *, server: dict[str, Any] | None = None, **camera: Any) -> Path:
    values = {"source": f"file:{box.folder / 'good.avi'}", "trigger": {"mode": "http"}, **camera}
    return device_file(box, settings={"trigger_server": {"port": port, **(server or {})}}, **values)


def wait_for_server(port: int) -> None:
    deadline = time.monotonic() + 30
    while not is_listened_on(port):
        assert time.monotonic() < deadline, f"nobody listens on port {port}"
        time.sleep(0.02)


def is_listened_on(port: int) -> bool:
    with closing(socket.socket()) as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def serving(box: Box, plant: Plant, config: Path, port: int, *options: str) -> Iterator[Running]:
    with service(box, plant, config, *options) as running:
        wait_for_server(port)
        yield running


@pytest.fixture
def running(box: Box, port: int) -> Iterator[tuple[Plant, Running]]:
    with Plant() as plant, serving(box, plant, configure(box, port), port) as running:
        yield plant, running


def ask(
    port: int,
    body: bytes | dict[str, Any] = b"",
    *,
    method: str = "POST",
    path: str = "/trigger",
    **headers: str,
) -> tuple[int, dict[str, Any]]:
    """One request; status and JSON of the answer."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
        connection.request(
            method, path, body=content, headers={"Content-Type": "application/json", **named}
        )
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())


def test_a_trigger_is_accepted_and_its_result_comes_over_mqtt(
    running: tuple[Plant, Running], port: int
) -> None:
    plant, process = running
    assert ask(port, {"part_id": "A-1", "trigger_id": "t-1"}) == (
        202,
        {"accepted": True, "trigger_id": "t-1"},
    )
    wait_for_results(plant, 1)
    process.ask_to_stop().expect(TERMINATED)
    (result,) = results(plant)
    assert (result["part_id"], result["trigger_id"]) == ("A-1", "t-1")
    assert result["verdict"] == "normal"


def test_who_waits_gets_the_result_itself(running: tuple[Plant, Running], port: int) -> None:
    plant, _ = running
    status, answer = ask(port, {"part_id": "A-1"}, path="/trigger?wait=result")
    wait_for_results(plant, 1)
    assert status == 200
    assert [answer] == results(plant)


def test_a_second_trigger_of_one_id_is_refused(running: tuple[Plant, Running], port: int) -> None:
    plant, process = running
    assert ask(port, {"part_id": "A-1", "trigger_id": "t-1"})[0] == 202
    status, answer = ask(port, {"part_id": "A-2", "trigger_id": "t-1"})
    assert (status, answer["reason"]) == (409, "trigger_id was used before")
    wait_for_results(plant, 1)
    process.ask_to_stop().expect(TERMINATED)
    assert [result["part_id"] for result in results(plant)] == ["A-1"]
    assert plant.messages("event") == [], "who asked was told; nobody else needs to be"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"{}", "trigger.part_id"),
        (b'{"trigger_id": "t-1"}', "trigger.part_id"),
        (b'{"part_id": ""}', "1 to 128 characters"),
        (b'{"part_id": "A", "part_id": "B"}', "a key twice"),
        (b'{"part_id": "A", "speed": 3}', "speed"),
        (b'{"part_id": "A", "camera": "elsewhere"}', "expected one of ['cam1']"),
        (b"", "JSON object"),
        (b"\xff", "JSON object"),
    ],
)
def test_a_trigger_that_is_none_is_refused_with_the_reason(
    box: Box, port: int, body: bytes, words: str
) -> None:
    run = ("run", "--config", configure(box, port), "--dry-run")
    with box.start(*run) as process:
        wait_for_server(port)
        status, answer = ask(port, body)
        process.ask_to_stop()
    assert (status, answer["accepted"]) == (400, False)
    assert words in answer["reason"]


def test_requests_that_are_no_triggers_are_told_what_is_expected(
    running: tuple[Plant, Running], port: int
) -> None:
    plant, _ = running
    good = {"part_id": "A-1"}
    assert ask(port, good, path="/")[0] == 404
    assert ask(port, good, path="/trigger/x")[0] == 404
    assert ask(port, method="GET")[0] == 405
    assert ask(port, good, Content_Type="text/plain")[0] == 415, "as a web page could send"
    assert ask(port, good, path="/trigger?wait=long")[0] == 400
    assert ask(port, b"x" * (MAX_COMMAND_BYTES + 1))[0] == 413
    assert ask(port, good, Content_Length="-1")[0] == 411
    assert ask(port, good, Transfer_Encoding="chunked")[0] == 411
    assert ask(port, good, path="/trigger?wait=result")[0] == 200, "it still listens"
    assert len(results(plant)) <= 1


def test_a_caller_that_says_nothing_holds_nobody_up(
    running: tuple[Plant, Running], port: int
) -> None:
    del running
    with closing(socket.create_connection(("127.0.0.1", port))) as silent:
        silent.sendall(b"POST /trigger HTTP/1.1\r\n")
        assert ask(port, {"part_id": "A-1"})[0] == 202


def test_a_camera_that_is_triggered_in_another_way_says_so(box: Box, port: int) -> None:
    config = configure(box, port, trigger={"mode": "mqtt"})
    with Plant() as plant, serving(box, plant, config, port):
        status, answer = ask(port, {"part_id": "A-1"})
    assert (status, answer["reason"]) == (400, "camera runs in mode mqtt")


def test_a_part_that_no_camera_sees_gets_its_fault(box: Box, port: int) -> None:
    config = configure(
        box,
        port,
        source=str(ABSENT),
        pace=None,
        trigger={"mode": "http", "deadline_seconds": 0.2},
    )
    with Plant() as plant, serving(box, plant, config, port, "--wait-camera"):
        status, answer = ask(port, {"part_id": "A-1"}, path="/trigger?wait=result")
    assert status == 200
    assert (answer["verdict"], answer["reason"]) == ("fault", "timeout")


def test_only_who_knows_the_token_may_trigger(box: Box, port: int) -> None:
    token = box.folder / "token"
    token.write_text(f"{TOKEN}\n")
    token.chmod(0o600)
    config = configure(box, port, server={"host": "0.0.0.0", "token_file": str(token)})  # noqa: S104 - that is the point
    good = {"part_id": "A-1"}
    with Plant() as plant, serving(box, plant, config, port) as process:
        assert ask(port, good)[0] == 401
        assert ask(port, good, Authorization=TOKEN)[0] == 401
        assert ask(port, good, Authorization="Bearer sesame")[0] == 401
        assert ask(port, good, Authorization=f"Bearer {TOKEN}")[0] == 202
        wait_for_results(plant, 1)
        finished = process.ask_to_stop()
    assert TOKEN not in finished.stdout + finished.stderr
    assert len(results(plant)) == 1


def test_every_accepted_trigger_has_exactly_one_result_however_often_the_device_is_killed(
    box: Box, port: int
) -> None:
    config = configure(box, port)
    accepted: set[str] = set()
    with Plant() as plant:
        for life in range(4):
            with serving(box, plant, config, port) as process:
                killer = threading.Timer(0.4, process.process.send_signal, [signal.SIGKILL])
                if life < 3:
                    killer.start()
                accepted |= send_until_it_dies(port, life, limit=5 if life == 3 else 100_000)
                if life == 3:
                    wait_for_results(plant, len(accepted))
                    process.ask_to_stop().expect(TERMINATED)
    answers = Counter(result["trigger_id"] for result in results(plant))
    assert accepted <= answers.keys(), "silence never means good"
    assert set(answers.values()) == {1}
    assert len(accepted) > 20


def send_until_it_dies(port: int, life: int, *, limit: int) -> set[str]:
    """Trigger part after part; the ids that were accepted."""
    accepted = set()
    for number in range(limit):
        trigger_id = f"{life}-{number}"
        try:
            status, _ = ask(port, {"part_id": f"A-{number}", "trigger_id": trigger_id})
        except (OSError, http.client.HTTPException):
            break
        assert status == 202
        accepted.add(trigger_id)
    return accepted


@pytest.mark.parametrize(
    ("server", "words"),
    [
        ({"host": "0.0.0.0"}, "token_file"),  # noqa: S104 - that is the point
        ({"host": "plant.example"}, "token_file"),
        ({"token_file": "/nowhere/token"}, "/nowhere/token"),
        ({"port": 0}, "port"),
    ],
)
def test_a_server_that_cannot_be_trusted_is_refused(
    box: Box, port: int, server: dict[str, Any], words: str
) -> None:
    config = configure(box, port, server=server)
    box.run("run", "--config", config, "--dry-run", "--max-frames", "1").expect(3, words)


def test_a_port_in_use_ends_the_start(box: Box) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        config = configure(box, taken.getsockname()[1])
        run = box.run("run", "--config", config, "--dry-run", "--max-frames", "1")
    run.expect(3, "trigger_server", "in use")


def test_a_camera_in_mode_http_needs_a_server(box: Box) -> None:
    config = device_file(box, trigger={"mode": "http"})
    box.run("run", "--config", config, "--validate-config").expect(3, "trigger_server")
