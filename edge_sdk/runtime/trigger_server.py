"""Triggers over HTTP: ``POST /trigger``, answered when the trigger is on the disk, or its result.

A small server of the standard library in threads of its own. It computes nothing, keeps nothing,
and knows one path; whatever else comes gets a short JSON answer that says what was expected.
"""

from __future__ import annotations

import hmac
import json
import logging
import socket
import sys
import threading
import time
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

from edge_sdk._version import __version__
from edge_sdk.alerting.commands import MAX_COMMAND_BYTES
from edge_sdk.alerting.payload import encode_message
from edge_sdk.errors import ConfigError
from edge_sdk.runtime.tickets import Progress, Ticket
from edge_sdk.runtime.triggers import TriggerCommand, TriggerDesk

MAX_THREADS = 16
"""Requests that are served at a time; the next ones are turned away."""
_SOCKET_SECONDS = 5.0
_ACCEPT_SECONDS = 10.0
_RESULT_SECONDS = 70.0
"""Above the longest deadline: every trigger has its result by then."""

_LOGGER = logging.getLogger(__name__)


class TriggerServer:
    """Listens in a thread of its own.

    Args:
        host: address of this computer.
        port: TCP port; 0: any free one.
        token: what callers must show; None: nothing.
        desk: where triggers are handed in.

    Raises:
        ConfigError: the address cannot be listened on.
    """

    def __init__(self, host: str, port: int, token: str | None, desk: TriggerDesk) -> None:
        try:
            self._server = _Server(host, port, token, desk)
        except OSError as error:
            raise ConfigError(
                f"trigger_server: {host}:{port} cannot be listened on: {error.strerror or error}"
            ) from error
        self.port: int = self._server.server_address[1]
        self._thread = threading.Thread(
            target=self._server.serve_forever, name="trigger-server", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; requests under way end with the process."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False
    request_queue_size = MAX_THREADS

    def __init__(self, host: str, port: int, token: str | None, desk: TriggerDesk) -> None:
        self.token = token
        self.desk = desk
        self._free = threading.BoundedSemaphore(MAX_THREADS)
        if ":" in host:
            self.address_family = socket.AF_INET6
        super().__init__((host, port), _Handler)

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as in the base class
        if not self._free.acquire(blocking=False):
            _LOGGER.warning("trigger server: %d requests are served already", MAX_THREADS)
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:  # noqa: ANN401 - as in the base class
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ANN401, ARG002 - as in the base class
        _LOGGER.debug("trigger server: a request broke off: %s", ascii(sys.exc_info()[1]))


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    server_version = f"edge-inspect/{__version__}"
    sys_version = ""
    timeout = _SOCKET_SECONDS

    def do_POST(self) -> None:
        received_ns = time.monotonic_ns()
        address = urlsplit(self.path)
        wait = parse_qs(address.query).get("wait", ["accepted"])[-1]
        if address.path != "/trigger":
            self._refuse(HTTPStatus.NOT_FOUND, "expected POST /trigger")
        elif not self._is_authorized():
            self._refuse(HTTPStatus.UNAUTHORIZED, "expected 'Authorization: Bearer TOKEN'")
        elif self.headers.get_content_type() != "application/json":
            # A page in a browser of this computer cannot send that without being let to.
            self._refuse(
                HTTPStatus.UNSUPPORTED_MEDIA_TYPE, "expected 'Content-Type: application/json'"
            )
        elif wait not in ("accepted", "result"):
            self._refuse(HTTPStatus.BAD_REQUEST, "wait: expected accepted or result")
        elif (payload := self._read_body()) is not None:
            self._take(payload, received_ns, waits_for_result=wait == "result")

    def do_GET(self) -> None:
        self._refuse(HTTPStatus.METHOD_NOT_ALLOWED, "expected POST /trigger")

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as in the base class
        _LOGGER.debug("trigger server: %s", ascii(format % args))

    def _is_authorized(self) -> bool:
        token = self.server.token
        if token is None:
            return True
        given = self.headers.get("Authorization", "").encode("utf-8", "replace")
        return hmac.compare_digest(given, f"Bearer {token}".encode())

    def _read_body(self) -> bytes | None:
        """The body, or None after the refusal of one without a length, or too long."""
        length = self.headers.get("Content-Length", "")
        if "Transfer-Encoding" in self.headers or not (length.isascii() and length.isdecimal()):
            self._refuse(HTTPStatus.LENGTH_REQUIRED, "expected one Content-Length")
            return None
        if len(length) > 9 or int(length) > MAX_COMMAND_BYTES:
            self._refuse(
                HTTPStatus.REQUEST_ENTITY_TOO_LARGE, f"expected at most {MAX_COMMAND_BYTES} bytes"
            )
            return None
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self._refuse(HTTPStatus.BAD_REQUEST, f"expected {length} bytes, got {len(body)}")
            return None
        return body

    def _take(self, payload: bytes, received_ns: int, *, waits_for_result: bool) -> None:
        ticket = Ticket()
        command = TriggerCommand(
            payload=payload, received_ns=received_ns, way="http", ticket=ticket
        )
        if not self.server.desk.offer(command):
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "too many triggers wait")
            return
        wanted = Progress.ANSWERED if waits_for_result else Progress.ACCEPTED
        seconds = _RESULT_SECONDS if waits_for_result else _ACCEPT_SECONDS
        progress = ticket.wait(wanted, received_ns + int(seconds * 1e9))
        if progress is Progress.REFUSED:
            status = HTTPStatus.CONFLICT if ticket.is_repeated else HTTPStatus.BAD_REQUEST
            self._refuse(status, str(ticket.refusal))
        elif waits_for_result and ticket.result is not None:
            self._answer(HTTPStatus.OK, encode_message(ticket.result))
        elif progress in (Progress.ACCEPTED, Progress.ANSWERED) and not waits_for_result:
            answer: dict[str, Any] = {"accepted": True, "trigger_id": ticket.trigger_id}
            self._answer(HTTPStatus.ACCEPTED, json.dumps(answer).encode())
        else:
            reason = f"not confirmed within {seconds:g} s; its result comes over MQTT"
            answer = {"accepted": None, "reason": reason}
            self._answer(HTTPStatus.GATEWAY_TIMEOUT, json.dumps(answer).encode())

    def _refuse(self, status: HTTPStatus, reason: str) -> None:
        self._answer(status, json.dumps({"accepted": False, "reason": reason}).encode())

    def _answer(self, status: HTTPStatus, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        if status is HTTPStatus.UNAUTHORIZED:
            self.send_header("WWW-Authenticate", "Bearer")
        self.end_headers()
        self.wfile.write(body)
