"""The device file: where things are. What the numbers mean is the bundle's business."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, ValidationInfo, model_validator

from edge_sdk.config.base import (
    EnvironmentName,
    Group,
    Name,
    SettingPath,
    absolute_path,
    host_device_name,
    refusal,
    repeated,
    usable_cores,
    user_state_dir,
)
from edge_sdk.config.camera import CameraConfig
from edge_sdk.config.parts import TriggerServerConfig, is_loopback

BUILTIN_BUNDLE = "builtin"
"""Names the bundle that comes with the package."""


def _bundle_place(text: str, info: ValidationInfo) -> str:
    return text if text == BUILTIN_BUNDLE else str(absolute_path(text, info))


class DeviceGroup(Group):
    """Who this device is."""

    name: Name = Field(default_factory=host_device_name)
    """Name of the device in every topic; one of its kind on a broker. Left out: made from the
    computer's name."""


class EngineConfig(Group):
    """What computes."""

    name: Annotated[
        str,
        Field(
            pattern=r"^[a-z][a-z0-9_-]{0,62}$",
            examples=["auto", "onnxruntime", "openvino", "torch"],
            json_schema_extra={"x-expected": "auto, onnxruntime, openvino or an added engine"},
        ),
    ] = "auto"
    """Inference runtime: `auto`, `onnxruntime`, `openvino`, or the name of one that another
    package adds. `auto`: the one that the bundle and this box agree on."""
    device: Literal["cpu", "gpu", "npu", "cuda", "tensorrt"] = "cpu"
    """Where it computes."""
    precision: Literal["auto", "fp32", "fp16", "bf16", "int8"] = "auto"
    """Number format of the graphs. `auto`: what was measured as best on this box, else the most
    exact one that runs. `bf16`: engine `torch` only."""
    threads: Annotated[int, Field(ge=1, le=256)] = Field(default_factory=usable_cores)
    """Threads that compute, 1 to 256. Left out: as many as there are usable cores."""
    bank: Literal["fp32", "fp16"] = "fp32"
    """How AdaptCLIP's reference memories are kept; `fp16` halves them and costs time."""
    coreset: Annotated[float, Field(gt=0, le=1)] = 1.0
    """Share of the references' patches that AdaptCLIP compares with, above 0 and at most 1. Below 1
    the patches that tell most are kept, which costs exactness for time."""
    max_bank_mib: Annotated[int, Field(ge=1, le=1_000_000)] = 1024
    """Most memory, in MiB, that the references of one set may take; more are refused."""


class TlsConfig(Group):
    """An encrypted connection to the broker."""

    ca_file: SettingPath | None = None
    """Certificates of the authority that signed the broker's. Left out: the system's."""
    cert_file: SettingPath | None = None
    """This device's certificate, for brokers that ask for one."""
    key_file: SettingPath | None = None
    """Private key of `cert_file`, unencrypted, readable by its owner only.
    `$CREDENTIALS_DIRECTORY` is searched first, for the certificate, too."""

    @model_validator(mode="after")
    def _certificate_and_key_come_together(self) -> TlsConfig:
        if (self.cert_file is None) != (self.key_file is None):
            given, missing = (
                ("cert_file", "key_file") if self.key_file is None else ("key_file", "cert_file")
            )
            raise refusal(f"expected {missing} beside it, got none", given)
        return self


class MqttConfig(Group):
    """The way to the plant system."""

    enabled: bool = True
    """Whether messages are sent at all."""
    host: Annotated[
        str,
        Field(
            pattern=r"^[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?$|^[0-9A-Fa-f:.]{2,45}$",
            json_schema_extra={"x-expected": "a host name or address, without 'mqtt://' and port"},
        ),
    ] = "localhost"
    """Name or address of the broker."""
    port: Annotated[int, Field(ge=1, le=65535)] = 1883
    """TCP port of the broker, 1 to 65535; mostly 1883, and 8883 with `tls`."""
    topic_prefix: Annotated[
        str,
        Field(
            pattern=r"^[^$/+#\x00-\x1f\x7f][^/+#\x00-\x1f\x7f]*(/[^/+#\x00-\x1f\x7f]+)*$",
            max_length=200,
            json_schema_extra={
                "x-expected": "words joined by '/', at most 200 characters, without '+', '#' "
                "and a '$' at the start"
            },
        ),
    ] = "edge/v1"
    """What every topic starts with; the device's name follows."""
    protocol: Literal["auto", "5", "3.1.1"] = "auto"
    """Version of MQTT. `auto`: 5, and 3.1.1 where the broker refuses 5."""
    keepalive_seconds: Annotated[int, Field(ge=5, le=3600)] = 15
    """Whole seconds between two signs of life, 5 to 3600. The broker takes the device for gone
    after one and a half times that."""
    username: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """User name at the broker."""
    password_file: SettingPath | None = None
    """File that holds the password, readable by its owner only. `$CREDENTIALS_DIRECTORY` is
    searched first."""
    password_env: EnvironmentName | None = None
    """Environment variable that holds the password, instead of a file."""
    tls: TlsConfig | None = None
    """Encryption. `tls: {}` is enough where the system knows the broker's authority."""
    allow_insecure: bool = False
    """Whether a broker on another computer may be used without `tls`; the state then says so."""
    delivery: Literal["broker", "end_to_end"] = "broker"
    """When a message is done: when the broker has it, or only when a receiver has said on `ack`
    that it has it."""
    pictures: bool = True
    """Whether pictures of anomalies are sent."""
    picture_max_bytes: Annotated[int, Field(ge=4096, le=1048576)] = 131072
    """Largest picture, bytes, 4096 to 1048576."""

    @property
    def is_insecure(self) -> bool:
        """True where messages leave this computer unencrypted."""
        return self.enabled and self.tls is None and not is_loopback(self.host)

    @model_validator(mode="after")
    def _password_has_a_user(self) -> MqttConfig:
        if self.password_file is not None and self.password_env is not None:
            raise refusal("expected password_file or password_env, got both", "password_env")
        if self.username is None:
            for key in ("password_file", "password_env"):
                if getattr(self, key) is not None:
                    raise refusal("expected username beside it, got none", key)
        return self

    @model_validator(mode="after")
    def _plain_text_stays_on_this_computer(self) -> MqttConfig:
        if self.is_insecure and not self.allow_insecure:
            raise refusal(
                "expected 'tls:' for a broker on another computer, got none; "
                "'allow_insecure: true' permits it, and the device then says so in its state",
                "host",
            )
        return self


class SpoolConfig(Group):
    """Messages kept on disk until the broker has them."""

    max_rows: Annotated[int, Field(ge=100, le=10_000_000)] = 200_000
    """Messages kept at most, 100 to 10000000."""
    max_megabytes: Annotated[int, Field(ge=1, le=1_000_000)] = 256
    """Disk space, megabytes, 1 to 1000000."""
    keep_acknowledged_hours: Annotated[float, Field(ge=0, le=720)] = 24.0
    """Hours, 0 to 720, for which delivered messages stay, to be sent again when asked for."""
    keep_acknowledged_megabytes: Annotated[float, Field(ge=0, le=100_000)] = 20.0
    """Disk space for delivered messages, megabytes, 0 to 100000."""

    @model_validator(mode="after")
    def _acknowledged_fit_in(self) -> SpoolConfig:
        if self.keep_acknowledged_megabytes > self.max_megabytes:
            raise refusal(
                f"expected at most max_megabytes ({self.max_megabytes}), "
                f"got {self.keep_acknowledged_megabytes:g}",
                "keep_acknowledged_megabytes",
            )
        return self


class LoggingConfig(Group):
    """What is written to the log."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    """Least important line that is written."""
    format: Literal["auto", "plain", "json"] = "auto"
    """`plain`: for people. `json`: one JSON object a line. `auto`: `json` where the log goes to
    systemd's journal, else `plain`."""


class DeviceConfig(Group):
    """All settings of a device."""

    device: DeviceGroup = Field(default_factory=DeviceGroup)
    """Who this device is."""
    state_dir: SettingPath = Field(default_factory=user_state_dir)
    """Folder for what the device learns and keeps. Left out: `$XDG_STATE_HOME/edge-inspect` or
    `~/.local/state/edge-inspect`."""
    bundle: Annotated[str, AfterValidator(_bundle_place)] = BUILTIN_BUNDLE
    """Path of the bundle, or `builtin` for the one that comes with the package."""
    engine: EngineConfig = Field(default_factory=EngineConfig)
    """What computes."""
    cameras: Annotated[tuple[CameraConfig, ...], Field(min_length=1, max_length=16)] = (
        CameraConfig(name="cam1", source="0"),
    )
    """1 to 16 cameras. Left out: the first one found, as `cam1`."""
    mqtt: MqttConfig = Field(default_factory=MqttConfig)
    """The way to the plant system."""
    trigger_server: TriggerServerConfig | None = None
    """Takes triggers over HTTP. Left out: no port is opened."""
    spool: SpoolConfig = Field(default_factory=SpoolConfig)
    """Messages kept on disk until the broker has them."""
    logging: LoggingConfig = Field(default_factory=LoggingConfig)
    """What is written to the log."""

    @model_validator(mode="after")
    def _cameras_have_names_of_their_own(self) -> DeviceConfig:
        index = repeated([camera.name for camera in self.cameras])
        if index is not None:
            raise refusal(
                f"expected a name of its own, got '{self.cameras[index].name}' again",
                "cameras", index, "name",
            )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _triggers_have_a_server(self) -> DeviceConfig:
        for index, camera in enumerate(self.cameras):
            if camera.trigger.mode == "http" and self.trigger_server is None:
                raise refusal(
                    "'http' needs 'trigger_server:' in the device file, got none",
                    "cameras", index, "trigger", "mode",
                )  # fmt: skip
        return self

    @property
    def bundle_path(self) -> Path | None:
        """Folder or file of the bundle; None for the one that comes with the package."""
        return None if self.bundle == BUILTIN_BUNDLE else Path(self.bundle)
