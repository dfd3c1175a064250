"""A camera over HTTP: a stream of JPEGs (MJPEG), or one picture at a time. For a child process.

The standard library reads it: its timeouts hold, and each picture's size is checked before it is
decoded. A thread only receives; whatever it receives replaces what has not been decoded yet.
"""

from __future__ import annotations

import http.client
import re
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from email.message import Message

from edge_sdk.capture.http_login import DigestLogin, direct_opener
from edge_sdk.capture.pacing import wall_clock_at
from edge_sdk.capture.rtsp import RtspSource
from edge_sdk.config.address import Address, redacted
from edge_sdk.errors import CaptureError, EdgeError, InputError
from edge_sdk.imaging import MAX_PICTURE_BYTES, decode_image
from edge_sdk.records import Frame, UInt8Array

_LINE_BYTES = 64 * 1024
_SNAPSHOT_SECONDS = 0.2
"""From one picture's request to the next one's, where the camera gives one at a time."""
_END_OF_JPEG = b"\xff\xd9"
_MAX_DAMAGED = 10
"""Damaged pictures in a row after which the camera is said to be broken."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Picture:
    data: bytes
    number: int
    monotonic_ns: int


class HttpSource:
    """Reads a camera's MJPEG stream, or asks again and again for its picture.

    What it is, the camera's own ``Content-Type`` says; any other video goes to FFmpeg.

    Args:
        address: with its credentials, for Basic or Digest, or in the places its path has for them.
        source_id: what the frames are said to come from.
        open_seconds: how long the camera may take to answer.
        read_seconds: how long one picture may take.
    """

    def __init__(
        self,
        address: Address,
        *,
        source_id: str,
        open_seconds: float = 5.0,
        read_seconds: float = 2.5,
    ) -> None:
        self.source_id = source_id
        self._address = address
        self._open_seconds = open_seconds
        self._read_seconds = read_seconds
        self._opener = direct_opener()
        self._changed = threading.Condition()
        self._newest: _Picture | None = None
        self._error: EdgeError | None = None
        self._is_closed = False
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Pictures replaced before they were decoded, and damaged ones."""
        return self._dropped

    def frames(self) -> Iterator[Frame]:
        """Yield frames until closed.

        Raises:
            CaptureError: the camera is not there, refuses, gave no picture in time, or ended.
        """
        if self._is_closed:
            raise CaptureError(f"{self._address.shown}: the source is closed")
        response = self._request()
        kind = response.headers.get_content_maintype()
        if kind not in {"multipart", "image"}:
            response.close()
            yield from self._with_ffmpeg()
            return
        threading.Thread(target=self._receive, args=(response,), daemon=True).start()
        damaged = 0
        while (picture := self._next()) is not None:
            try:
                pixels = _decoded(picture.data, self._address.shown)
            except InputError as error:
                damaged += 1
                self._dropped += 1
                if damaged >= _MAX_DAMAGED:
                    raise CaptureError(f"{error}, and so did {damaged - 1} before it") from error
                continue
            damaged = 0
            yield Frame(
                pixels=pixels,
                frame_id=picture.number,
                source_id=self.source_id,
                captured_at=wall_clock_at(picture.monotonic_ns),
                monotonic_ns=picture.monotonic_ns,
            )

    def close(self) -> None:
        """End the iteration before its next frame."""
        with self._changed:
            self._is_closed = True
            self._changed.notify_all()

    def _with_ffmpeg(self) -> Iterator[Frame]:
        source = RtspSource(
            self._address,
            source_id=self.source_id,
            open_seconds=self._open_seconds,
            read_seconds=self._read_seconds,
        )
        with closing(source):
            for frame in source.frames():
                if self._is_closed:
                    return
                self._dropped = source.dropped
                yield frame

    def _next(self) -> _Picture | None:
        with self._changed:
            self._changed.wait_for(
                lambda: self._newest or self._error or self._is_closed, self._read_seconds
            )
            picture, self._newest = self._newest, None
            if self._is_closed:
                return None
            if picture is None:
                raise self._error or CaptureError(
                    f"{self._address.shown}: no picture for {self._read_seconds:g} s"
                )
            return picture

    def _receive(self, response: http.client.HTTPResponse) -> None:
        """Lay each picture that comes into the slot; why no more come, likewise."""
        number = 0
        try:
            for data in self._pictures(response):
                with self._changed:
                    self._dropped += self._newest is not None
                    self._newest = _Picture(
                        data=data, number=number, monotonic_ns=time.monotonic_ns()
                    )
                    self._changed.notify_all()
                    if self._is_closed:
                        return
                number += 1
            error: EdgeError = CaptureError(f"{self._address.shown}: ended after {number} pictures")
        except EdgeError as raised:
            error = raised
        except (OSError, http.client.HTTPException, ValueError) as raised:
            error = CaptureError(f"{self._address.shown}: {self._describe(raised)}")
        with self._changed:
            self._error = error
            self._changed.notify_all()

    def _pictures(self, response: http.client.HTTPResponse) -> Iterator[bytes]:
        with closing(response):
            if response.headers.get_content_maintype() == "multipart":
                yield from _parts(response, self._address.shown)
                return
            yield _whole(response, self._address.shown)
        while True:
            time.sleep(_SNAPSHOT_SECONDS)
            with closing(self._request()) as again:
                yield _whole(again, self._address.shown)

    def _request(self) -> http.client.HTTPResponse:
        address = self._address.filled()
        try:
            return self._opened(address)
        except urllib.error.HTTPError as error:
            error.close()
            handler = self._login(address, error)
            if handler is None:
                raise CaptureError(f"{address.shown}: {self._refusal(error.code)}") from None
        self._opener = direct_opener(handler)  # kept: each further picture is one request
        try:
            return self._opened(address)
        except urllib.error.HTTPError as error:
            error.close()
            raise CaptureError(f"{address.shown}: {self._refusal(error.code)}") from None

    def _opened(self, address: Address) -> http.client.HTTPResponse:
        try:
            response = self._opener.open(address.location, timeout=self._open_seconds)
        except urllib.error.HTTPError:
            raise
        except (OSError, http.client.HTTPException, ValueError) as error:
            raise CaptureError(f"{address.shown}: {self._describe(error)}") from None
        return response  # type: ignore[no-any-return]

    def _login(
        self, address: Address, error: urllib.error.HTTPError
    ) -> urllib.request.BaseHandler | None:
        """What answers the camera's question for a password; None where there is no answer."""
        if error.code != 401 or address.username is None or self._address.has_places:
            return None
        passwords = urllib.request.HTTPPasswordMgrWithDefaultRealm()
        passwords.add_password(None, address.location, address.username, address.password or "")
        asked = " ".join(error.headers.get_all("WWW-Authenticate", [])).lower()
        if "digest" in asked:
            return DigestLogin(passwords)
        return urllib.request.HTTPBasicAuthHandler(passwords) if "basic" in asked else None

    def _refusal(self, code: int) -> str:
        if code != 401:
            return f"the camera answers {code} ({http.client.responses.get(code, 'unknown')})"
        if self._address.username is None:
            return "asks for a user and a password: set username and password_file"
        return "does not accept this user and password"

    def _describe(self, error: Exception) -> str:
        reason = getattr(error, "reason", error)
        if isinstance(reason, TimeoutError):
            return f"no answer within {self._open_seconds:g} s"
        return redacted(str(reason) or type(reason).__name__, self._address.password)


def _decoded(data: bytes, name: str) -> UInt8Array:
    if data.startswith(b"\xff\xd8") and _END_OF_JPEG not in data[-64:]:
        # It would decode, its lower part grey.
        raise InputError(f"{name}: a JPEG was cut short")
    return decode_image(data, name=name)


def _whole(response: http.client.HTTPResponse, name: str) -> bytes:
    data = response.read(MAX_PICTURE_BYTES + 1)
    return _checked(data, name)


def _parts(response: http.client.HTTPResponse, name: str) -> Iterator[bytes]:
    """The pictures of ``multipart/x-mixed-replace``, with or without their length."""
    boundary = (response.headers.get_param("boundary") or "").strip("-").encode("latin-1")  # type: ignore[union-attr]  # a plain text, but for RFC 2231
    if not boundary:
        raise CaptureError(f"{name}: expected a boundary between the pictures, got none")
    mark = re.compile(rb"-*" + re.escape(boundary) + rb"(--)?\s*")
    line = response.readline(_LINE_BYTES)
    while line:
        if not mark.fullmatch(line):
            line = response.readline(_LINE_BYTES)
            continue
        length = _length(response, name)
        if length is not None:
            data = response.read(length)
            if len(data) < length:
                return
            line = response.readline(_LINE_BYTES)
        else:
            data, line = _until(response, mark, name)
        if data:
            yield _checked(data, name)


def _length(response: http.client.HTTPResponse, name: str) -> int | None:
    """Read the lines above a picture; its length, where one tells it."""
    headers = Message()
    while (line := response.readline(_LINE_BYTES)).strip():
        key, _, value = line.decode("latin-1").partition(":")
        headers[key.strip()] = value.strip()
    text = headers["Content-Length"]
    if text is None:
        return None
    if not text.isdecimal() or int(text) > MAX_PICTURE_BYTES:
        raise CaptureError(
            f"{name}: expected a picture of at most {MAX_PICTURE_BYTES} bytes, got {text[:20]!r}"
        )
    return int(text)


def _until(
    response: http.client.HTTPResponse, mark: re.Pattern[bytes], name: str
) -> tuple[bytes, bytes]:
    """What comes before the next boundary, and the boundary."""
    data = bytearray()
    while line := response.readline(_LINE_BYTES):
        if mark.fullmatch(line):
            return bytes(data).removesuffix(b"\n").removesuffix(b"\r"), line
        data += line
        _checked(data, name)
    return b"", b""


def _checked(data: bytes | bytearray, name: str) -> bytes:
    if len(data) > MAX_PICTURE_BYTES:
        raise CaptureError(f"{name}: expected a picture of at most {MAX_PICTURE_BYTES} bytes")
    return bytes(data)
