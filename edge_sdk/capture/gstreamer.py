"""Any GStreamer pipeline as a camera, by PyGObject. For a child process."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import numpy as np

from edge_sdk.capture.introspection import GSTREAMER_PACKAGES, load_namespace
from edge_sdk.capture.pacing import wall_clock_at
from edge_sdk.config.address import PASSWORD_PLACE, USERNAME_PLACE, redacted
from edge_sdk.errors import CaptureError
from edge_sdk.records import Frame, UInt8Array

_PURPOSE = "a gst: camera"
_SINK = "edge_sink"
_FORMATS = {"GRAY8": 1, "RGB": 3}
"""Formats that are asked for, with their channels; grey stays grey."""
_TAIL = (
    f"videoconvert ! appsink name={_SINK} max-buffers=1 drop=true sync=false "
    f'caps="video/x-raw,format=(string){{ {", ".join(_FORMATS)} }}"'
)
_OWN_SINK = re.compile(r"!\s*appsink\b[^!]*$")
_LISTEN_NANOSECONDS = 100_000_000


class GStreamerSource:
    """Reads a pipeline such as ``v4l2src device=/dev/video2 ! image/jpeg ! jpegdec``.

    Args:
        pipeline: in the words of ``gst-launch-1.0``, without a sink; one of ``appsink`` at its
            end is replaced. ``{username}`` and ``{password}`` in it are filled in.
        source_id: what the frames are said to come from.
        username: for ``{username}``.
        password: for ``{password}``.
        open_seconds: how long the first picture may take.
        read_seconds: how long each one after it may take.
    """

    def __init__(
        self,
        pipeline: str,
        *,
        source_id: str,
        username: str | None = None,
        password: str | None = None,
        open_seconds: float = 7.0,
        read_seconds: float = 2.5,
    ) -> None:
        self.source_id = source_id
        self._text = pipeline
        self._username = username
        self._password = password
        self._open_seconds = open_seconds
        self._read_seconds = read_seconds
        self._closed = threading.Event()
        self._arrived = 0
        self._taken = 0

    @property
    def dropped(self) -> int:
        """Pictures that a newer one replaced in the sink."""
        return max(0, self._arrived - self._taken)

    def frames(self) -> Iterator[Frame]:
        """Yield frames until closed or the pipeline ends.

        Raises:
            CaptureError: GStreamer or an element is missing, the pipeline is wrong or fails, or it
                gave no picture in time.
        """
        if self._closed.is_set():
            raise CaptureError(f"{self.source_id}: the source is closed")
        # GstApp brings the sink's methods.
        gst, video, _ = (
            load_namespace(name, "1.0", purpose=_PURPOSE, packages=GSTREAMER_PACKAGES)
            for name in ("Gst", "GstVideo", "GstApp")
        )
        glib = load_namespace("GLib", "2.0", purpose=_PURPOSE, packages=GSTREAMER_PACKAGES)
        gst.init(None)
        pipeline = self._parse(gst, glib)
        sink = pipeline.get_by_name(_SINK)
        sink.get_static_pad("sink").add_probe(gst.PadProbeType.BUFFER, self._count, gst)
        try:
            change = pipeline.set_state(gst.State.PLAYING)
            if change == gst.StateChangeReturn.FAILURE:
                raise self._error(gst, pipeline, "does not start")
            yield from self._read(gst, video, pipeline, sink)
        finally:
            pipeline.set_state(gst.State.NULL)

    def close(self) -> None:
        """End the iteration before its next frame."""
        self._closed.set()

    def _parse(self, gst: Any, glib: Any) -> Any:  # noqa: ANN401 - made at run time
        text = _OWN_SINK.sub("", self._text.strip())
        for place, value in ((USERNAME_PLACE, self._username), (PASSWORD_PLACE, self._password)):
            # In quotes, as the language has it: a blank or '!' in a password ends nothing.
            escaped = (value or "").replace("\\", "\\\\").replace('"', '\\"')
            text = text.replace(f'"{place}"', place).replace(place, f'"{escaped}"')
        try:
            return gst.parse_launch(f"{text} ! {_TAIL}")
        except glib.Error as error:
            raise CaptureError(f"{self.source_id}: pipeline: {self._safe(error.message)}") from None

    def _count(self, _pad: Any, _info: Any, gst: Any) -> Any:  # noqa: ANN401 - made at run time
        self._arrived += 1
        return gst.PadProbeReturn.OK

    def _read(self, gst: Any, video: Any, pipeline: Any, sink: Any) -> Iterator[Frame]:  # noqa: ANN401 - made at run time
        is_live = False
        limit = self._open_seconds
        while not self._closed.is_set():
            sample = self._pull(gst, pipeline, sink, limit)
            now_ns = time.monotonic_ns()
            if self._taken == 0:
                is_live = _is_live(gst, pipeline)
                limit = self._read_seconds
            self._taken += 1
            # An average that may be off by the pictures that come just now, never by more.
            number = max(self._taken, self._arrived) - 1
            moment_ns = now_ns - (_age_ns(gst, pipeline, sample) if is_live else 0)
            yield Frame(
                pixels=_pixels(video, sample, self.source_id),
                frame_id=number,
                source_id=self.source_id,
                captured_at=wall_clock_at(moment_ns),
                monotonic_ns=moment_ns,
            )

    def _pull(self, gst: Any, pipeline: Any, sink: Any, limit: float) -> Any:  # noqa: ANN401 - made at run time
        """The next picture. An element that fails is heard at once: the sink would only wait."""
        deadline = time.monotonic() + limit
        bus = pipeline.get_bus()
        while not self._closed.is_set():
            # Takes all messages before it out of the bus, too, which would grow for months.
            failure = bus.pop_filtered(gst.MessageType.ERROR)
            if failure is not None:
                raise self._failure(failure)
            sample = sink.try_pull_sample(_LISTEN_NANOSECONDS)
            if sample is not None:
                return sample
            if sink.is_eos():
                raise self._error(gst, pipeline, f"ended after {self._taken} pictures")
            if time.monotonic() > deadline:
                break
        raise self._error(gst, pipeline, f"gave no picture for {limit:g} s, after {self._taken}")

    def _error(self, gst: Any, pipeline: Any, otherwise: str) -> CaptureError:  # noqa: ANN401 - made at run time
        """The pipeline's own error, else what we saw."""
        failure = pipeline.get_bus().pop_filtered(gst.MessageType.ERROR)
        if failure is not None:
            return self._failure(failure)
        return CaptureError(f"{self.source_id}: the pipeline {otherwise}")

    def _failure(self, message: Any) -> CaptureError:  # noqa: ANN401 - made at run time
        error, _ = message.parse_error()
        place = message.src.get_name() if message.src is not None else "the pipeline"
        return CaptureError(f"{self.source_id}: {place}: {self._safe(error.message)}")

    def _safe(self, text: str) -> str:
        return redacted(" ".join(text.split()), self._password)


def _is_live(gst: Any, pipeline: Any) -> bool:  # noqa: ANN401 - made at run time
    query = gst.Query.new_latency()
    return bool(pipeline.query(query) and query.parse_latency()[0])


def _age_ns(gst: Any, pipeline: Any, sample: Any) -> int:  # noqa: ANN401 - made at run time
    """How long ago a live picture was taken, by the pipeline's clock."""
    presented = sample.get_buffer().pts
    clock = pipeline.get_clock()
    if presented == gst.CLOCK_TIME_NONE or clock is None:
        return 0
    running = sample.get_segment().to_running_time(gst.Format.TIME, presented)
    if running == gst.CLOCK_TIME_NONE:
        return 0
    return max(0, int(clock.get_time()) - int(pipeline.get_base_time()) - int(running))


def _pixels(video: Any, sample: Any, name: str) -> UInt8Array:  # noqa: ANN401 - made at run time
    """(H, W, 1) of grey pictures, (H, W, 3) RGB of others; lines may be padded."""
    info = video.VideoInfo.new_from_caps(sample.get_caps())
    channels = _FORMATS[info.finfo.name]
    buffer = sample.get_buffer()
    meta = video.buffer_get_video_meta(buffer)
    stride = int(meta.stride[0] if meta else info.stride[0])
    start = int(meta.offset[0] if meta else info.offset[0])
    data = np.frombuffer(buffer.extract_dup(0, buffer.get_size()), np.uint8)
    height, width = int(info.height), int(info.width)
    needed = start + stride * (height - 1) + width * channels
    if len(data) < needed:
        raise CaptureError(f"{name}: a picture of {width}x{height} has {len(data)} bytes only")
    lines = np.lib.stride_tricks.as_strided(
        data[start:], (height, width * channels), (stride, 1), writeable=False
    )
    return np.ascontiguousarray(lines).reshape(height, width, channels)
