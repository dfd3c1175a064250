"""An HTTP camera: MJPEG at ``/stream``, one picture at ``/picture.jpg``; with faults on request."""

from __future__ import annotations

import argparse
import base64
import hashlib
import re
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar
from urllib.parse import parse_qs, urlsplit

sys.path.append(str(Path(__file__).resolve().parents[1]))

import cv2
from capture_media import numbered_picture

REALM = "camera"
BITS = 12


class Camera(BaseHTTPRequestHandler):
    options: ClassVar[argparse.Namespace]
    asked: ClassVar[int] = 0
    credentials: ClassVar[tuple[str, str] | None] = None

    def do_HEAD(self) -> None:
        self.send_response(200)
        self.end_headers()

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        if not self.is_allowed(place.query):
            return
        if place.path == "/stream":
            self.stream()
        elif place.path == "/picture.jpg":
            Camera.asked += 1
            data = jpeg(Camera.asked, self.options)
            self.send_response(200)
            self.send_header("Content-Type", "image/jpeg")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)
        elif place.path == "/page":
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<html>not a camera</html>")
        else:
            self.send_error(404)

    def stream(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=--frame")
        self.end_headers()
        for count in range(1_000_000):
            data = jpeg(count, self.options)
            if self.options.cut and count % 2:
                data = data[: len(data) // 2]
            length = f"Content-Length: {len(data)}\r\n" if not self.options.no_length else ""
            head = f"--frame\r\nContent-Type: image/jpeg\r\n{length}\r\n"
            self.wfile.write(head.encode() + data + b"\r\n")
            if self.options.trickle_after == count:
                for _ in range(1000):
                    self.wfile.write(b"-")
                    time.sleep(0.2)
            time.sleep(1 / self.options.fps)

    def is_allowed(self, query: str) -> bool:
        method, said = self.options.auth, self.headers.get("Authorization", "")
        if method is None or self.credentials is None:
            return True
        user, password = self.credentials
        if method == "query":
            given = parse_qs(query)
            is_right = given.get("user") == [user] and given.get("pwd") == [password]
        elif method == "basic":
            is_right = said == "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()
        else:
            is_right = self.is_right_digest(said, user, password)
        if not is_right:
            challenge = {
                "basic": f'Basic realm="{REALM}"',
                "digest": f'Digest realm="{REALM}", nonce="abc", qop="auth", algorithm=MD5',
                "query": "None",
            }
            self.send_response(401)
            self.send_header("WWW-Authenticate", challenge[method])
            self.send_header("Content-Length", "0")
            self.end_headers()
        return is_right

    def is_right_digest(self, said: str, user: str, password: str) -> bool:
        fields = dict(re.findall(r'(\w+)="?([^",]*)"?', said))
        if not said.startswith("Digest ") or fields.get("username") != user:
            return False
        first = md5(f"{user}:{REALM}:{password}")
        second = md5(f"{self.command}:{fields['uri']}")
        middle = f"{fields['nonce']}:{fields['nc']}:{fields['cnonce']}:{fields['qop']}"
        return str(fields["response"]) == md5(f"{first}:{middle}:{second}")

    def log_message(self, *_: object) -> None:
        """Say nothing."""


class Server(ThreadingHTTPServer):
    def handle_error(self, *_: object) -> None:
        """A reader that leaves is no error."""


def md5(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()  # noqa: S324 - what cameras do


def jpeg(count: int, options: argparse.Namespace) -> bytes:
    if options.pictures is not None:
        seen = sorted(options.pictures.iterdir())  # each time: what it sees may change
        return bytes(seen[count % len(seen)].read_bytes())
    picture = numbered_picture(int(time.monotonic() * options.fps) % (1 << BITS))
    done, data = cv2.imencode(".jpg", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    assert done
    return data.tobytes()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--fps", type=int, default=20)
    parser.add_argument("--auth", choices=("basic", "digest", "query"))
    parser.add_argument("--pictures", type=Path, help="folder with what it sees, in turn")
    parser.add_argument("--trickle-after", type=int)
    parser.add_argument("--no-length", action="store_true")
    parser.add_argument("--cut", action="store_true")
    Camera.options = parser.parse_args()
    if Camera.options.auth:
        user, password = sys.stdin.readline().rstrip("\n").split(" ", 1)
        Camera.credentials = (user, password)
    server = Server(("127.0.0.1", Camera.options.port), Camera)
    print("ready", flush=True)
    server.serve_forever()


main()
