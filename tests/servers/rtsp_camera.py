"""An RTSP camera: a real GStreamer server, whose pictures tell when they were taken.

Run by the distribution's Python, for which PyGObject is packaged: no numpy here, nothing of ours.
The number in a picture (see ``capture_media.numbered_picture``) is the monotonic clock in frames.
"""

import argparse
import sys
import time
from pathlib import Path

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtsp", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtsp, GstRtspServer  # noqa: E402 - versions come first

BITS = 12
ENCODERS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay name=pay0",
    "jpeg": "jpegenc quality=95 ! rtpjpegpay name=pay0",
}


def numbered(number: int, block: int) -> bytes:
    """RGB: the number in black and white blocks above a red band; 12 blocks wide, 4 high."""
    blocks = (b"\xff" if number >> bit & 1 else b"\x00" for bit in range(BITS))
    line = b"".join(value * (3 * block) for value in blocks)
    return line * (2 * block) + b"\xff\x00\x00" * (BITS * block) * (2 * block)


def configure(media: GstRtspServer.RTSPMedia, options: argparse.Namespace) -> None:
    source = media.get_element().get_by_name("camera")
    period = Gst.SECOND // options.fps

    def push() -> bool:
        taken = source.get_current_running_time()  # before it is seen: what waits here gets old
        number = int(time.monotonic() * options.fps) % (1 << BITS)
        seen = options.sees.read_bytes() if options.sees else numbered(number, options.block)
        picture = Gst.Buffer.new_wrapped(seen)
        picture.pts, picture.duration = taken, period
        return bool(source.emit("push-buffer", picture) == Gst.FlowReturn.OK)

    GLib.timeout_add(1000 // options.fps, push)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fps", type=int, default=20)
    parser.add_argument("--block", type=int, default=16)
    parser.add_argument("--codec", choices=ENCODERS, default="h264")
    parser.add_argument("--auth", choices=("basic", "digest"))
    parser.add_argument("--sees", type=Path, help="file with raw RGB, read anew for each picture")
    parser.add_argument("--size", default="192x64", help="of that, WIDTHxHEIGHT")
    options = parser.parse_args()
    Gst.init(None)
    server = GstRtspServer.RTSPServer(address="127.0.0.1", service=str(options.port))
    factory = GstRtspServer.RTSPMediaFactory()
    width, height = 12 * options.block, 4 * options.block
    if options.sees:
        width, height = map(int, options.size.split("x"))
    caps = f"width={width},height={height},framerate={options.fps}/1"
    factory.set_launch(
        "( appsrc name=camera is-live=true format=time "
        f"caps=video/x-raw,format=RGB,{caps} ! videoconvert ! video/x-raw,format=I420 "
        f"! {ENCODERS[options.codec]} )"
    )
    factory.set_shared(True)
    factory.connect("media-configure", lambda _, media: configure(media, options))
    if options.auth:
        user, password = sys.stdin.readline().rstrip("\n").split(" ", 1)
        auth = GstRtspServer.RTSPAuth()
        token = GstRtspServer.RTSPToken()
        token.set_string("media.factory.role", "viewer")
        if options.auth == "basic":
            auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
        else:
            auth.set_supported_methods(GstRtsp.RTSPAuthMethod.DIGEST)
            auth.add_digest(user, password, token)
        server.set_auth(auth)
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
    server.get_mount_points().add_factory("/line", factory)
    server.attach(None)
    print("ready", flush=True)
    GLib.MainLoop().run()


main()
