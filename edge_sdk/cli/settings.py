"""From a command's options and its device file to the settings it runs with."""

from __future__ import annotations

import argparse
import os
import sys
from typing import TYPE_CHECKING, Any

from edge_sdk.errors import ConfigError

if TYPE_CHECKING:
    from edge_sdk.config import DeviceConfig

PASSWORD_VARIABLE = "EDGE_CAMERA_PASSWORD"  # noqa: S105 - where one is
"""Environment variable with the password of the camera named on the command line."""
_CAMERA_OPTIONS = {"pace": "pace", "references": "reference_set"}
_PATH_OPTIONS = {"bundle": "bundle", "state": "state_dir"}
_ENGINE_OPTIONS = {"engine": "name", "device": "device", "precision": "precision"}


def resolve_settings(options: argparse.Namespace, *, keeps_changes: bool = False) -> DeviceConfig:
    """The device file, or the defaults, with what the command line says on top.

    ``--camera`` without a device file is a source; beside one it may also be the name of one of
    its cameras, and then only that camera is used.

    A camera's reference set is the one that it was changed to, if it was.

    Args:
        options: of the command.
        keeps_changes: also where ``--references`` is given: a service is always started with the
            same words, and must come back with the set that the line was changed to.

    Raises:
        ConfigError: the file or an option is wrong.
        InputError: the note of a change cannot be read.
    """
    from edge_sdk.config import default_config, load_config, override_config

    config = load_config(options.config) if options.config else default_config()
    given = {name: value for name, value in vars(options).items() if value is not None}
    cameras = [camera.model_dump(mode="json") for camera in config.cameras]
    if "camera" in given:
        cameras = _choose_camera(cameras, given["camera"], has_file="config" in given)
    changes: dict[tuple[str | int, ...], Any] = {}
    for camera in cameras:
        _override_camera(camera, given)
    changes["cameras",] = cameras
    if given.get("trigger", "").partition(":")[0] == "http":
        changes.update(_server(given["trigger"], has_server=config.trigger_server is not None))
    for name, key in _PATH_OPTIONS.items():
        if name in given:
            changes[key,] = str(given[name].absolute())
    for name, key in _ENGINE_OPTIONS.items():
        if name in given:
            changes["engine", key] = given[name]
    if "mqtt" in given:
        changes.update(_broker(given["mqtt"]))
    resolved = override_config(config, changes)
    return resolved if "references" in given and not keeps_changes else _with_sets_in_use(resolved)


def _with_sets_in_use(config: DeviceConfig) -> DeviceConfig:
    from edge_sdk.active_set import ActiveSet

    cameras = []
    for camera in config.cameras:
        name = ActiveSet(config.state_dir, camera.name).name(camera.reference_set)
        if name != camera.reference_set:
            print(
                f"{camera.name}: reference set {name}, as it was changed to; the settings say "
                f"{camera.reference_set}",
                file=sys.stderr,
            )
        cameras.append(camera.model_copy(update={"reference_set": name}))
    return config.model_copy(update={"cameras": tuple(cameras)})


def _override_camera(camera: dict[str, Any], given: dict[str, Any]) -> None:
    camera.update({key: given[name] for name, key in _CAMERA_OPTIONS.items() if name in given})
    if "run_in" in given:
        camera["run_in"] = {**(camera["run_in"] or {}), "parts": given["run_in"]}
    if "trigger" in given:
        camera["trigger"] = _trigger(given["trigger"])


def _broker(text: str) -> dict[tuple[str | int, ...], Any]:
    host, separator, port = text.rpartition(":")
    if not separator:
        return {("mqtt", "host"): text}
    if not port.isdecimal():
        # Not repeated: whoever writes user:password here shall not find it in a log.
        raise ConfigError("--mqtt: expected HOST or HOST:PORT")
    return {("mqtt", "host"): host, ("mqtt", "port"): int(port)}


def _choose_camera(
    cameras: list[dict[str, Any]], wanted: str, *, has_file: bool
) -> list[dict[str, Any]]:
    if has_file:
        named = [camera for camera in cameras if camera["name"] == wanted]
        if named:
            return named
        if len(cameras) > 1:
            names = ", ".join(camera["name"] for camera in cameras)
            raise ConfigError(f"--camera: expected one of {names}, got {wanted!r}")
    return [source_and_credentials(cameras[0], wanted)]


def source_and_credentials(camera: dict[str, Any], source: str) -> dict[str, Any]:
    """A camera's settings with another source; what the address says of a user is kept apart.

    A password goes on in this process's environment, where only its own user can see it.
    """
    from edge_sdk.config.address import is_address, parse_address

    changed = {**camera, "source": source}
    if not is_address(source):
        if "{password}" in source and PASSWORD_VARIABLE in os.environ:
            changed["password_env"] = PASSWORD_VARIABLE
        return changed
    address = parse_address(source)
    changed["source"] = address.location
    if address.password is not None:
        os.environ[PASSWORD_VARIABLE] = address.password
    if address.username is not None:
        changed["username"] = address.username
        changed["password_file"] = None
    if PASSWORD_VARIABLE in os.environ and (address.username is not None or address.has_places):
        changed["password_env"] = PASSWORD_VARIABLE
    return changed


def _server(text: str, *, has_server: bool) -> dict[tuple[str | int, ...], Any]:
    """``http``: as in the device file, or the default; ``http:PORT``."""
    _, separator, port = text.partition(":")
    if not separator:
        return {} if has_server else {("trigger_server",): {}}
    if not port.isdecimal():
        raise ConfigError(f"--trigger: expected http or http:PORT, got {text!r}")
    if has_server:
        return {("trigger_server", "port"): int(port)}
    return {("trigger_server",): {"port": int(port)}}


def _trigger(text: str) -> dict[str, Any]:
    """``continuous``, ``mqtt``, ``http``, ``interval:SECONDS``, ``input:DRIVER:ADDRESS``."""
    mode, separator, argument = text.partition(":")
    if mode == "interval":
        try:
            return {"mode": mode, "interval_seconds": float(argument.removesuffix("s"))}
        except ValueError:
            raise ConfigError(
                f"--trigger: expected interval:SECONDS, for example interval:2, got {text!r}"
            ) from None
    if mode == "input":
        driver, _, address = argument.partition(":")
        if not address:
            raise ConfigError(
                f"--trigger: expected input:DRIVER:ADDRESS, for example input:fifo:/run/edge/part, "
                f"got {text!r}"
            )
        return {"mode": mode, "input": {"driver": driver, "address": address}}
    if mode == "http":
        return {"mode": mode}
    if separator or mode not in ("continuous", "mqtt"):
        raise ConfigError(
            "--trigger: expected continuous, mqtt, http, http:PORT, interval:SECONDS or "
            f"input:DRIVER:ADDRESS, got {text!r}"
        )
    return {"mode": mode}
