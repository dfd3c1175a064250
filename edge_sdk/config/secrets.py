"""Secrets, read from a file or the environment at the moment they are needed, and never shown."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from pydantic import SecretStr

from edge_sdk.config.camera import CameraConfig
from edge_sdk.config.model import MqttConfig
from edge_sdk.errors import ConfigError

MAX_SECRET_BYTES = 4096

_UNPRINTABLE = re.compile(r"[\x00-\x1f\x7f]")


def read_mqtt_password(mqtt: MqttConfig) -> SecretStr | None:
    """Read the password for the broker; None where the device file names none.

    Raises:
        ConfigError: it is named but cannot be had, or others may read it.
    """
    if mqtt.password_file is None and mqtt.password_env is None:
        return None
    return read_secret("mqtt", file=mqtt.password_file, environment=mqtt.password_env)


def read_camera_password(camera: CameraConfig) -> SecretStr | None:
    """Read a network camera's password; None where the device file names none.

    Raises:
        ConfigError: it is named but cannot be had, or others may read it.
    """
    if camera.password_file is None and camera.password_env is None:
        return None
    owner = f"camera {camera.name}"
    return read_secret(owner, file=camera.password_file, environment=camera.password_env)


def read_secret(
    owner: str, *, file: Path | None, environment: str | None, kind: str = "password"
) -> SecretStr:
    """Read one secret.

    Args:
        owner: whose secret it is, for messages, for example ``mqtt``.
        file: file with one line; when ``$CREDENTIALS_DIRECTORY`` (systemd's ``LoadCredential=``)
            has a file of that name, that one is read.
        environment: name of an environment variable, looked at where there is no file.
        kind: what it is; its keys are ``<kind>_file`` and ``<kind>_env``.

    Returns:
        The secret without the line break at its end; ``str()`` and ``repr()`` of it show nothing.

    Raises:
        ConfigError: it is missing, empty, longer than 4096 bytes, not one line of UTF-8, or its
            file may be read by others than the owner.
    """
    if file is not None:
        path, key = credential_path(file), f"{owner}.{kind}_file"
        text = _decoded(_read_private(path, key), path, key)
        return SecretStr(_checked(text, owner, path, kind))
    if environment is None:
        raise ConfigError(f"{owner}: expected {kind}_file or {kind}_env, got neither")
    where = f"environment variable {environment}"
    if environment not in os.environ:
        raise ConfigError(f"{owner}.{kind}_env: expected {where} to be set, got none")
    return SecretStr(_checked(os.environ[environment], owner, where, kind))


def check_private_file(path: Path, status: os.stat_result, key: str) -> None:
    """Refuse a secret's file that is no file, or that others may read.

    Args:
        path: the file, for messages.
        status: its status, taken from the open file.
        key: key that named it, for messages.

    Raises:
        ConfigError: others than the owner have any right on it.
    """
    if not stat.S_ISREG(status.st_mode):
        raise ConfigError(f"{key}: {path}: expected a file, got something else")
    # In its credentials directory systemd lets the service in through an access list, which
    # shows as a right of the group; the directory itself is closed to all others.
    is_credential = path.parent == _credentials_directory()
    if stat.S_IMODE(status.st_mode) & (0o007 if is_credential else 0o077):
        raise ConfigError(
            f"{key}: {path}: expected a file that only its owner may read (chmod 600), "
            f"got mode {stat.S_IMODE(status.st_mode):04o}"
        )


def _credentials_directory() -> Path | None:
    directory = os.environ.get("CREDENTIALS_DIRECTORY")
    return Path(directory) if directory else None


def credential_path(file: Path) -> Path:
    """The file of this name that systemd hands to this service alone; else the file itself."""
    directory = _credentials_directory()
    if directory is not None and (directory / file.name).is_file():
        return directory / file.name
    return file


def _read_private(path: Path, key: str) -> bytes:
    try:
        # Non-blocking, or a pipe in the file's place would be waited for.
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            check_private_file(path, os.fstat(descriptor), key)
            data = os.read(descriptor, MAX_SECRET_BYTES + 1)
        finally:
            os.close(descriptor)
    except OSError as error:
        raise ConfigError(f"{key}: {path}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_SECRET_BYTES:
        raise ConfigError(f"{key}: {path}: expected at most {MAX_SECRET_BYTES} bytes, got more")
    return data


def _decoded(data: bytes, path: Path, key: str) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        # The error holds the bytes: it must not be chained.
        text = None
    if text is None:
        raise ConfigError(f"{key}: {path}: expected UTF-8, got other bytes")
    return text.removesuffix("\n").removesuffix("\r")


def _checked(text: str, owner: str, where: Path | str, kind: str) -> str:
    if not text:
        raise ConfigError(f"{owner}: {where}: expected a {kind}, got nothing")
    if _UNPRINTABLE.search(text):
        raise ConfigError(f"{owner}: {where}: expected one line, got a control character in it")
    return text
