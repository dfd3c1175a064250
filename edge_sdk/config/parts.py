"""Settings of what a camera's parts come in by and go out by: triggers and output lines."""

from __future__ import annotations

import ipaddress
from typing import Annotated, Literal, TypeAlias

from pydantic import Field, model_validator

from edge_sdk.config.base import Group, SettingPath, refusal

Seconds: TypeAlias = Annotated[float, Field(ge=0.05, le=3600)]
DriverName: TypeAlias = Annotated[
    str,
    Field(
        pattern=r"^[a-z][a-z0-9_-]{0,62}$",
        json_schema_extra={"x-expected": "the name of a driver, such as socket, gpio or fifo"},
    ),
]
Address: TypeAlias = Annotated[str, Field(min_length=1, max_length=4096)]


class InputConfig(Group):
    """A line, or a gateway's pipe, whose signal is a trigger."""

    driver: DriverName
    """`fifo` (a named pipe that a PLC gateway writes), `gpio` (a line of a Linux gpiochip), or
    the name of one that another package adds."""
    address: Address
    """`fifo`: the pipe's path. `gpio`: chip and line, such as `/dev/gpiochip0:17`, with
    `:falling` behind it where the falling edge counts."""


class OutputConfig(Group):
    """The reject/hold line: acts at decision time, safe in all other cases."""

    driver: DriverName
    """`socket` (a Unix socket that a PLC gateway reads), `gpio` (lines of a Linux gpiochip), or
    the name of one that another package adds."""
    address: Address
    """`socket`: the socket's path. `gpio`: chip, the line that is active while a part may pass,
    and the line of the heartbeat, such as `/dev/gpiochip0:22:23`."""
    pass_seconds: Annotated[float, Field(ge=0.01, le=60)] = 1.0
    """Seconds, 0.01 to 60, after which `pass` ends by itself."""
    heartbeat_seconds: Annotated[float, Field(ge=0.01, le=10)] = 0.1
    """Seconds between two beats, 0.01 to 10. The other side goes safe after two or three."""
    stall_seconds: Annotated[float, Field(ge=0.1, le=60)] = 3.0
    """Seconds, 0.1 to 60, without a sign of life of the inspection, after which the beats stop;
    longer than the slowest inspection."""


class TriggerConfig(Group):
    """What makes the camera's picture a part to be judged."""

    mode: Literal["continuous", "interval", "mqtt", "http", "input"] = "continuous"
    """`continuous`: every frame, incidents open and close. `interval`: one result every
    `interval_seconds`. `mqtt`, `http`, `input`: one result for each trigger that comes over the
    broker, over `trigger_server`, or by `input`."""
    interval_seconds: Seconds | None = None
    """Seconds between two triggers, 0.05 to 3600. Needed with `mode: interval`, and only there."""
    input: InputConfig | None = None
    """Where triggers come from. Needed with `mode: input`, and only there."""
    deadline_seconds: Annotated[float, Field(ge=0.01, le=60)] = 1.0
    """Seconds, 0.01 to 60, after which a triggered part without a verdict is a fault."""

    @model_validator(mode="after")
    def _interval_belongs_to_its_mode(self) -> TriggerConfig:
        if self.mode == "interval" and self.interval_seconds is None:
            raise refusal(
                "missing; 'mode: interval' needs a number of seconds from 0.05 to 3600",
                "interval_seconds",
            )
        if self.mode != "interval" and self.interval_seconds is not None:
            raise refusal(
                f"expected only with 'mode: interval', but the mode is '{self.mode}'",
                "interval_seconds",
            )
        return self

    @model_validator(mode="after")
    def _input_belongs_to_its_mode(self) -> TriggerConfig:
        if self.mode == "input" and self.input is None:
            raise refusal("missing; 'mode: input' needs a driver and an address", "input")
        if self.mode != "input" and self.input is not None:
            raise refusal(
                f"expected only with 'mode: input', but the mode is '{self.mode}'", "input"
            )
        return self


class TriggerServerConfig(Group):
    """An HTTP server that takes triggers: `POST /trigger`. Off unless this group is there."""

    host: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$|^[0-9A-Fa-f:.]{2,45}$",
            json_schema_extra={"x-expected": "an address of this computer, such as 127.0.0.1"},
        ),
    ] = "127.0.0.1"
    """Address of this computer to listen on. Any other than its loopback needs `token_file`."""
    port: Annotated[int, Field(ge=1, le=65535)] = 8765
    """TCP port, 1 to 65535."""
    token_file: SettingPath | None = None
    """File with the token that callers must send (`Authorization: Bearer ...`), readable by its
    owner only. `$CREDENTIALS_DIRECTORY` is searched first."""

    @model_validator(mode="after")
    def _others_need_a_token(self) -> TriggerServerConfig:
        if self.token_file is None and not is_loopback(self.host):
            raise refusal(
                "expected 'token_file:' for an address that other computers reach, got none",
                "host",
            )
        return self


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this computer only; of a name nobody knows."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        # A name: it may resolve to anything, at any time.
        return False
