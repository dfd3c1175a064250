"""Settings of a device: read from YAML, checked, frozen; secrets stay outside.

``load_config`` turns a device file into a ``DeviceConfig``; what is wrong with it is a
``ConfigError`` that names file, line, column, key, what was expected and what came.
"""

from edge_sdk.config.camera import (
    CameraConfig,
    CropConfig,
    FaultConfig,
    IncidentConfig,
    RegionConfig,
    SeverityConfig,
)
from edge_sdk.config.learning import RunInConfig
from edge_sdk.config.load import config_schema, default_config, load_config, override_config
from edge_sdk.config.model import (
    BUILTIN_BUNDLE,
    DeviceConfig,
    DeviceGroup,
    EngineConfig,
    LoggingConfig,
    MqttConfig,
    SpoolConfig,
    TlsConfig,
)
from edge_sdk.config.parts import (
    InputConfig,
    OutputConfig,
    TriggerConfig,
    TriggerServerConfig,
)
from edge_sdk.config.secrets import read_camera_password, read_mqtt_password, read_secret
from edge_sdk.config.tls import build_tls_context

__all__ = [
    "BUILTIN_BUNDLE",
    "CameraConfig",
    "CropConfig",
    "DeviceConfig",
    "DeviceGroup",
    "EngineConfig",
    "FaultConfig",
    "IncidentConfig",
    "InputConfig",
    "LoggingConfig",
    "MqttConfig",
    "OutputConfig",
    "RegionConfig",
    "RunInConfig",
    "SeverityConfig",
    "SpoolConfig",
    "TlsConfig",
    "TriggerConfig",
    "TriggerServerConfig",
    "build_tls_context",
    "config_schema",
    "default_config",
    "load_config",
    "override_config",
    "read_camera_password",
    "read_mqtt_password",
    "read_secret",
]
