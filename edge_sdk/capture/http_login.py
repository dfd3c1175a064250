"""How an HTTP camera is asked: directly, and with a password where it wants one."""

from __future__ import annotations

import hashlib
import ssl
import urllib.request
from collections.abc import Callable


class DigestLogin(urllib.request.HTTPDigestAuthHandler):
    """The library's, for passwords beyond ASCII and for SHA-256, too (RFC 7616)."""

    def get_algorithm_impls(
        self, algorithm: str
    ) -> tuple[Callable[[str], str], Callable[[str, str], str]]:
        """The digest of a text, and of a secret with data, in hexadecimal.

        Raises:
            ValueError: an algorithm that is not known here.
        """
        name = {"MD5": "md5", "SHA": "sha1", "SHA-256": "sha256"}.get(algorithm)
        if name is None:
            raise ValueError(f"asks for a Digest by {algorithm[:20]!r}, which is not known here")

        def digest(text: str) -> str:
            return hashlib.new(name, text.encode()).hexdigest()

        return digest, lambda secret, data: digest(f"{secret}:{data}")


def direct_opener(*handlers: urllib.request.BaseHandler) -> urllib.request.OpenerDirector:
    """Asks the camera itself: it is in the plant, not behind the office's proxy."""
    secure = urllib.request.HTTPSHandler(context=ssl.create_default_context())
    return urllib.request.build_opener(urllib.request.ProxyHandler({}), secure, *handlers)
