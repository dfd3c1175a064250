"""Addresses of cameras, and the credentials in them: taken apart once, and shown without."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from urllib.parse import quote, unquote

from edge_sdk.errors import ConfigError

DEFAULT_PORTS = {"rtsp": 554, "rtsps": 322, "http": 80, "https": 443}
"""Schemes of network cameras, and where they are answered unless the address says otherwise."""
PASSWORD_PLACE = "{password}"  # noqa: S105 - the place of one
USERNAME_PLACE = "{username}"
"""Stand in an address or pipeline for what a file or the environment holds."""

_ADDRESS = re.compile(
    r"(?P<scheme>rtsps?|https?)://(?P<authority>[^/]*)(?P<path>/.*)?", re.IGNORECASE | re.DOTALL
)
_HOST = re.compile(r"(\[(?P<six>[0-9A-Fa-f:.]+)\]|(?P<host>[A-Za-z0-9._-]+))(:(?P<port>[0-9]+))?")
_PATH = re.compile(r"[!-~]*")
_BROKEN_ESCAPE = re.compile(r"%(?![0-9A-Fa-f]{2})")
_USER_IN_ADDRESS = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*://)[^/\s]*@")
_QUERY = re.compile(r"(?<=\S)\?[^\s\"']*")
_EXPECTED = "rtsp://HOST[:PORT]/PATH or http://HOST[:PORT]/PATH"


@dataclass(frozen=True, slots=True, kw_only=True)
class Address:
    """Where a network camera is, with its credentials kept apart."""

    scheme: str
    host: str
    """A name, or a number without brackets."""
    port: int
    path: str
    """With its query; may hold ``{username}`` and ``{password}``."""
    username: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def location(self) -> str:
        """The address without credentials, port included where it is not the usual one."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == DEFAULT_PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}{self.path}"

    @property
    def shown(self) -> str:
        """What a message may say: no credentials, and no query, where some cameras have them."""
        return self.location.partition("?")[0]

    def filled(self) -> Address:
        """The address with credentials in the places that its path has for them."""
        path = self.path
        for place, value in ((USERNAME_PLACE, self.username), (PASSWORD_PLACE, self.password)):
            path = path.replace(place, quote(value or "", safe=""))
        return replace(self, path=path)

    @property
    def has_places(self) -> bool:
        """Whether the path says where credentials go."""
        return PASSWORD_PLACE in self.path or USERNAME_PLACE in self.path

    def with_credentials_inside(self) -> str:
        """The address as media libraries take it: ``scheme://user:password@host``, escaped."""
        filled = self.filled()
        if self.username is None or self.has_places:
            return filled.location
        user = quote(self.username, safe="")
        secret = "" if self.password is None else ":" + quote(self.password, safe="")
        return filled.location.replace("://", f"://{user}{secret}@", 1)


def is_address(text: str) -> bool:
    """Whether a source is the address of a network camera."""
    return text.partition("://")[0].lower() in DEFAULT_PORTS and "://" in text


def parse_address(text: str) -> Address:
    """Take an address apart.

    The host starts behind the last ``@`` before the path, so ``@ # ! ? :`` may stand in a password
    as they are; a ``/`` in it must be written ``%2F`` and a ``%`` as ``%25``.

    Args:
        text: ``rtsp://[USER[:PASSWORD]@]HOST[:PORT]/PATH``, or the same with rtsps, http, https.

    Raises:
        ConfigError: it is none. The message repeats nothing of it: it may hold a password.
    """
    match = _ADDRESS.fullmatch(text)
    if match is None:
        raise ConfigError(f"camera: expected {_EXPECTED}")
    user, at, host_and_port = match["authority"].rpartition("@")
    scheme, found = match["scheme"].lower(), _HOST.fullmatch(host_and_port)
    if found is None:
        hint = "; a '/' in a password is written %2F" if "@" in text else ""
        raise ConfigError(f"camera: expected {_EXPECTED}, got no host that can be one{hint}")
    port = int(found["port"]) if found["port"] else DEFAULT_PORTS[scheme]
    if not 0 < port <= 65535:
        raise ConfigError(f"camera: expected a port from 1 to 65535, got {port}")
    path = match["path"] or "/"
    if not _PATH.fullmatch(path):
        raise ConfigError(
            "camera: expected a path of plain letters: a blank is written %20, and so on"
        )
    if _BROKEN_ESCAPE.search(user):
        raise ConfigError("camera: a '%' in the user or password is written %25, got one alone")
    name, colon, password = user.partition(":")
    if at and not name:
        raise ConfigError("camera: expected a user before the '@', got none")
    return Address(
        scheme=scheme,
        host=found["six"] or found["host"],
        port=port,
        path=path,
        username=unquote(name) if at else None,
        password=unquote(password) if colon else None,
    )


def redacted(text: str, *secrets: str | None) -> str:
    """A library's own words, without the addresses' credentials and queries, and these secrets."""
    for secret in secrets:
        if secret:
            for form in (secret, quote(secret, safe="")):
                text = text.replace(form, "(hidden)")
    return _QUERY.sub("", _USER_IN_ADDRESS.sub(r"\1", text))
