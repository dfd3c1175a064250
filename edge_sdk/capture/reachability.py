"""Asks whether a camera is there, in a second and without opening it.

A camera that was away for an hour is tried only every half a minute; so that it is nevertheless
seen again within seconds of its return, it is asked this every second meanwhile.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable

from edge_sdk.capture.camera_nodes import camera_node
from edge_sdk.config.address import Address, is_address, parse_address
from edge_sdk.errors import CaptureError

_ANSWER_SECONDS = 1.0
_GVCP_PORT = 3956
_GVCP_DISCOVERY = bytes.fromhex("4211000200000001")
"""GigE Vision control protocol: a DISCOVERY_CMD that asks for an acknowledgement."""
_GVCP_DISCOVERY_ACK = 0x0003


def find_probe(source: str) -> Callable[[], bool] | None:
    """What tells in about a second whether a camera is there; None where nothing can.

    Args:
        source: as a user names it.
    """
    if is_address(source):
        address = parse_address(source)
        return lambda: answers(address)
    kind, _, place = source.partition(":")
    if kind in {"aravis", "genicam"} and _is_number(place):
        return lambda: answers_gige(place)
    if source.isdecimal() or source.startswith("/dev/"):
        return camera_node(source).exists
    return None


def answers(address: Address) -> bool:
    """Whether a network camera answers: a program that is stopped accepts calls, but is silent."""
    if address.scheme not in {"rtsp", "http"}:
        return _accepts(address)
    if address.scheme == "rtsp":
        question = f"OPTIONS {address.shown} RTSP/1.0\r\nCSeq: 1\r\n\r\n"
    else:
        question = f"HEAD / HTTP/1.0\r\nHost: {address.host}\r\n\r\n"
    try:
        return bool(_ask(address, question))
    except OSError:
        return False


def check_reachable(address: Address, *, timeout_seconds: float = 3.0) -> None:
    """Say what is wrong where a network camera does not even accept a connection.

    Raises:
        CaptureError: its name is unknown, or it refuses, or it is not there.
    """
    try:
        socket.create_connection((address.host, address.port), timeout_seconds).close()
    except socket.gaierror as error:
        raise CaptureError(
            f"{address.shown}: the name {address.host} is not known here ({error.strerror})"
        ) from error
    except ConnectionRefusedError as error:
        raise CaptureError(
            f"{address.shown}: {address.host} refuses connections to port {address.port}: is the "
            "camera's stream switched on, and is this its port?"
        ) from error
    except TimeoutError as error:
        raise CaptureError(
            f"{address.shown}: no answer from {address.host} port {address.port} within "
            f"{timeout_seconds:g} s: is the camera on, and in this network?"
        ) from error
    except OSError as error:
        raise CaptureError(f"{address.shown}: cannot be reached ({error.strerror})") from error


def describe_rtsp_refusal(address: Address) -> str:
    """What an rtsp server says to one who has no password; for an error, so never raises."""
    question = (
        f"DESCRIBE {address.filled().location} RTSP/1.0\r\nCSeq: 1\r\n"
        "Accept: application/sdp\r\n\r\n"
    )
    try:
        status = _ask(address, question, timeout_seconds=2.0).split(b"\r\n")[0].decode("latin-1")
    except OSError:
        status = ""
    code = status.split(" ")[1] if status.startswith("RTSP/") and " " in status else ""
    if code == "401":
        if address.username is None:
            return "asks for a user and a password: set username and password_file"
        return "does not accept this user and password"
    if code == "404":
        return "has no stream of this path (404)"
    if code == "200":
        return "describes its stream, but no picture of it could be decoded in time"
    return f"answers {code}" if code.isdecimal() else "does not answer as an rtsp camera does"


def answers_gige(host: str) -> bool:
    """Whether a GigE Vision camera at this address answers a discovery."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asker:
        asker.settimeout(_ANSWER_SECONDS)
        try:
            asker.connect((host, _GVCP_PORT))
            asker.send(_GVCP_DISCOVERY)
            answer = asker.recv(1024)
        except OSError:
            return False
    return len(answer) >= 8 and struct.unpack(">HH", answer[:4]) == (0, _GVCP_DISCOVERY_ACK)


def _accepts(address: Address) -> bool:
    try:
        socket.create_connection((address.host, address.port), _ANSWER_SECONDS).close()
    except OSError:
        return False
    return True


def _ask(address: Address, question: str, *, timeout_seconds: float = _ANSWER_SECONDS) -> bytes:
    place = (address.host, address.port)
    with socket.create_connection(place, timeout_seconds) as connection:
        connection.settimeout(timeout_seconds)
        connection.sendall(question.encode("ascii"))
        return connection.recv(4096)


def _is_number(host: str) -> bool:
    try:
        socket.inet_aton(host)
    except OSError:
        return False
    return host.count(".") == 3
