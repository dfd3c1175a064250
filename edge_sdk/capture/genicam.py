"""A GenICam camera (GigE Vision, USB3 Vision) through Aravis, by PyGObject. For a child process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np

from edge_sdk.capture.genicam_controls import GenicamControls
from edge_sdk.capture.introspection import ARAVIS_PACKAGES, load_namespace
from edge_sdk.capture.pacing import wall_clock_at
from edge_sdk.capture.settings import Settings, SettingsKeeper
from edge_sdk.errors import CaptureError
from edge_sdk.records import Frame, UInt8Array

_PURPOSE = "a genicam: camera"
_BAYER = {
    # Named by their first two pixels; OpenCV names them by the second line's.
    "BayerRG8": cv2.COLOR_BayerBG2RGB,
    "BayerBG8": cv2.COLOR_BayerRG2RGB,
    "BayerGR8": cv2.COLOR_BayerGB2RGB,
    "BayerGB8": cv2.COLOR_BayerGR2RGB,
}
_UNDERSTOOD = ("Mono8", "RGB8", *_BAYER)
_BUFFERS = 4


class GenicamSource:
    """Reads a GenICam camera; its pixel format is changed where it must be.

    Args:
        name: the camera's address, or what it calls itself; nothing: the first one found.
        source_id: what the frames are said to come from.
        open_seconds: how long the first picture may take.
        read_seconds: how long each one after it may take.
        settings: how it is to be set; None: as it was set up.
    """

    def __init__(
        self,
        name: str,
        *,
        source_id: str,
        open_seconds: float = 6.0,
        read_seconds: float = 2.5,
        settings: Settings | None = None,
    ) -> None:
        self.source_id = source_id
        self._name = name.strip()
        self._open_seconds = open_seconds
        self._read_seconds = read_seconds
        self._settings = settings
        self._closed = threading.Event()
        self._dropped = 0

    @property
    def dropped(self) -> int:
        """Pictures that arrived incomplete, or were overtaken by a newer one."""
        return self._dropped

    def frames(self) -> Iterator[Frame]:
        """Yield frames until closed.

        Raises:
            CaptureError: Aravis is missing, the camera is not there or another program has it,
                it has no pixel format that is understood, or it gave no picture in time.
        """
        if self._closed.is_set():
            raise CaptureError(f"{self.source_id}: the source is closed")
        aravis = load_namespace("Aravis", "0.8", purpose=_PURPOSE, packages=ARAVIS_PACKAGES)
        glib = load_namespace("GLib", "2.0", purpose=_PURPOSE, packages=ARAVIS_PACKAGES)
        camera = None
        try:
            camera = self._open(aravis, glib)
            keeper = SettingsKeeper(
                GenicamControls(camera.get_device(), glib.Error), self._settings
            )
            keeper.look()  # before the stream: it depends on the picture's size
            stream = camera.create_stream(None, None)
            if stream is None:
                raise CaptureError(f"{self._shown}: gives no stream")
            payload = camera.get_payload()
            for _ in range(_BUFFERS):
                stream.push_buffer(aravis.Buffer.new_allocate(payload))
            camera.start_acquisition()
            yield from self._read(aravis, stream, keeper)
        except glib.Error as error:
            raise CaptureError(f"{self._shown}: {' '.join(str(error.message).split())}") from None
        finally:
            self._stop(camera, glib)

    def close(self) -> None:
        """End the iteration before its next frame."""
        self._closed.set()

    @property
    def _shown(self) -> str:
        return f"genicam:{self._name or '(the first found)'}"

    def _open(self, aravis: Any, glib: Any) -> Any:  # noqa: ANN401 - made at run time
        try:
            camera = aravis.Camera.new(self._name or None)
        except glib.Error as error:
            raise CaptureError(
                f"{self._shown}: {error.message}; found: {_found(aravis)}. Is it on, in this "
                "network (GigE Vision is not routed), and used by no other program?"
            ) from None
        wanted = camera.get_pixel_format_as_string()
        if wanted not in _UNDERSTOOD:
            offered = camera.dup_available_pixel_formats_as_strings()
            usable = [name for name in _UNDERSTOOD if name in offered]
            if not usable:
                raise CaptureError(
                    f"{self._shown}: expected one of the pixel formats {', '.join(_UNDERSTOOD)}, "
                    f"the camera has {', '.join(offered)}"
                )
            camera.set_pixel_format_from_string(usable[0])
        camera.set_acquisition_mode(aravis.AcquisitionMode.CONTINUOUS)
        return camera

    def _read(
        self,
        aravis: Any,  # noqa: ANN401 - made at run time
        stream: Any,  # noqa: ANN401 - made at run time
        keeper: SettingsKeeper,
    ) -> Iterator[Frame]:
        count = 0
        deadline = time.monotonic() + self._open_seconds
        while not self._closed.is_set():
            remaining = deadline - time.monotonic()
            buffer = stream.timeout_pop_buffer(round(remaining * 1e6)) if remaining > 0 else None
            if buffer is None:
                raise CaptureError(f"{self._shown}: no whole picture in time, after {count}")
            newest_ns = time.monotonic_ns()
            while (newer := stream.try_pop_buffer()) is not None:
                stream.push_buffer(buffer)
                buffer, count = newer, count + 1
                self._dropped += 1
            is_whole = buffer.get_status() == aravis.BufferStatus.SUCCESS
            pixels = _pixels(buffer, aravis, self._shown) if is_whole else None
            stream.push_buffer(buffer)
            count += 1
            if pixels is None:  # packets were lost: part of it would be an old picture
                self._dropped += 1
                continue
            deadline = time.monotonic() + self._read_seconds
            settings = keeper.look()
            if keeper.is_settling:
                continue
            yield Frame(
                pixels=pixels,
                frame_id=count - 1,
                source_id=self.source_id,
                captured_at=wall_clock_at(newest_ns),
                monotonic_ns=newest_ns,
                camera_settings=settings,
            )

    def _stop(self, camera: Any, glib: Any) -> None:  # noqa: ANN401 - made at run time
        if camera is None:
            return
        try:
            camera.stop_acquisition()
        except glib.Error:
            return  # it is gone: nothing to stop


def _found(aravis: Any) -> str:  # noqa: ANN401 - made at run time
    aravis.update_device_list()
    names = [aravis.get_device_id(index) for index in range(aravis.get_n_devices())]
    return ", ".join(names) or "none"


def _pixels(buffer: Any, aravis: Any, name: str) -> UInt8Array:  # noqa: ANN401 - made at run time
    """(H, W, 1) of Mono8, (H, W, 3) RGB of colour."""
    height, width = buffer.get_image_height(), buffer.get_image_width()
    data = np.frombuffer(buffer.get_data(), np.uint8)
    number = buffer.get_image_pixel_format()
    known = {
        getattr(aravis, constant): label
        for constant, label in (
            ("PIXEL_FORMAT_MONO_8", "Mono8"),
            ("PIXEL_FORMAT_RGB_8_PACKED", "RGB8"),
            ("PIXEL_FORMAT_BAYER_RG_8", "BayerRG8"),
            ("PIXEL_FORMAT_BAYER_BG_8", "BayerBG8"),
            ("PIXEL_FORMAT_BAYER_GR_8", "BayerGR8"),
            ("PIXEL_FORMAT_BAYER_GB_8", "BayerGB8"),
        )
    }
    label = known.get(number, f"0x{number:08x}")
    channels = 3 if label == "RGB8" else 1
    size = height * width * channels
    if label not in _UNDERSTOOD or len(data) < size:
        raise CaptureError(
            f"{name}: cannot read a picture of {width}x{height} {label} with {len(data)} bytes"
        )
    picture = data[:size].reshape(height, width, channels)
    if label in _BAYER:
        return np.asarray(cv2.cvtColor(picture, _BAYER[label]), np.uint8)
    return np.array(picture)  # a copy: the buffer goes back to the camera
