"""Device files that are right: what they say, what they leave out, and the files we ship."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from edge_sdk.config import (
    CameraConfig,
    DeviceConfig,
    MqttConfig,
    config_schema,
    default_config,
    load_config,
    override_config,
)
from edge_sdk.config.base import device_name_from
from edge_sdk.config.polygon import Point, polygon_fault
from edge_sdk.errors import ConfigError
from edge_sdk.records import Box

ROOT = Path(__file__).resolve().parents[2]
SHARED_MEMORY = "/dev/shm/pictures"  # noqa: S108 - a folder of the user, below /dev yet no camera
SHIPPED = sorted((ROOT / "device_configs").glob("*.yaml"))

FULL = """\
# everything at once
device: {name: press-shop-3}
state_dir: state
bundle: bundles/bottle.edgebundle
engine: {name: openvino, device: gpu, precision: int8, threads: 3}
cameras:
  - name: top
    source: dir:pictures
    pace: realtime
    reference_set: winter
    trigger: {mode: interval, interval_seconds: 2, deadline_seconds: 0.5}
    crop: {x: 10, y: 20, width: 640, height: 360}
    regions:
      - {name: belt, mode: include, polygon: [[10, 20], [650, 20], [650, 380]]}
      - {name: clamp, mode: exclude, polygon: [[0, 0], [50, 0], [50, 50], [0, 50]]}
    threshold_override: 0.75
    incident: {hold_frames: 1, hold_seconds: 0, clear_frames: 2, hysteresis: 0,
               cooldown_seconds: 0, update_seconds: 0.5}
    faults: {max_frame_age_seconds: 1, black_below: 5, saturated_above: 250, saturated_share: 0.25}
    severity: {critical_margin: 0.5}
  - name: side
    source: "1"
    threshold_override: null
mqtt:
  enabled: true
  host: broker.plant.example
  port: 8883
  topic_prefix: plant 1/press
  protocol: "3.1.1"
  keepalive_seconds: 30
  username: press
  password_file: ~/mqtt.password
  tls: {ca_file: ca.pem, cert_file: me.pem, key_file: me.key}
  pictures: false
  picture_max_bytes: 65536
spool: {max_rows: 1000, max_megabytes: 10, keep_acknowledged_hours: 1,
        keep_acknowledged_megabytes: 2}
logging: {level: debug}
"""


def _load(folder: Path, text: str) -> DeviceConfig:
    path = folder / "press.yaml"
    path.write_bytes(text.encode())
    return load_config(path)


def test_every_setting_of_a_device_file_arrives(tmp_path: Path) -> None:
    config = _load(tmp_path, FULL)
    top, side = config.cameras

    assert config.device.name == "press-shop-3"
    assert (config.engine.name, config.engine.device) == ("openvino", "gpu")
    assert (config.engine.precision, config.engine.threads) == ("int8", 3)
    assert (top.name, top.pace, top.reference_set) == ("top", "realtime", "winter")
    assert (top.trigger.mode, top.trigger.interval_seconds) == ("interval", 2.0)
    assert top.trigger.deadline_seconds == 0.5
    assert top.crop is not None
    assert top.crop.box == Box(x=10, y=20, width=640, height=360)
    assert top.polygons("include") == (((10, 20), (650, 20), (650, 380)),)
    assert top.polygons("exclude") == (((0, 0), (50, 0), (50, 50), (0, 50)),)
    assert top.threshold_override == 0.75
    assert top.incident.hold_frames == 1
    assert top.incident.hold_seconds == 0
    assert top.incident.hysteresis == 0
    assert top.faults.saturated_share == 0.25
    assert top.severity.critical_margin == 0.5
    assert side.threshold_override is None
    assert (config.mqtt.host, config.mqtt.port) == ("broker.plant.example", 8883)
    assert (config.mqtt.protocol, config.mqtt.topic_prefix) == ("3.1.1", "plant 1/press")
    assert not config.mqtt.pictures
    assert config.spool.max_rows == 1000
    assert config.logging.level == "debug"


def test_paths_in_a_file_start_at_its_folder_wherever_the_command_runs(tmp_path: Path) -> None:
    config = _load(tmp_path, FULL)

    assert config.state_dir == tmp_path / "state"
    assert config.bundle_path == tmp_path / "bundles/bottle.edgebundle"
    assert config.cameras[0].source == f"dir:{tmp_path}/pictures"
    assert config.mqtt.password_file == Path.home() / "mqtt.password"
    assert config.mqtt.tls is not None
    assert config.mqtt.tls.ca_file == tmp_path / "ca.pem"


def test_a_relative_path_of_the_file_itself_still_gives_absolute_settings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _load(tmp_path, FULL)
    monkeypatch.chdir(tmp_path)

    assert load_config(Path("press.yaml")).state_dir == tmp_path / "state"


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("0", "0"),
        ("/dev/video0", "/dev/video0"),
        ("/dev/v4l/by-path/pci-0000:00:14.0-usb-0:2:1.0", None),
        ("file:/data/part.mp4", None),
        ("dir:pictures", "dir:{folder}/pictures"),
        ("file:part 1@noon.mp4", "file:{folder}/part 1@noon.mp4"),
        ("pictures/good", "{folder}/pictures/good"),
        ("part.mp4", "{folder}/part.mp4"),
        (SHARED_MEMORY, None),
    ],
)
def test_each_kind_of_source_is_understood(
    tmp_path: Path, source: str, expected: str | None
) -> None:
    config = _load(tmp_path, f"cameras: [{{name: a, source: {json.dumps(source)}}}]\n")

    assert config.cameras[0].source == (expected or source).format(folder=tmp_path)


@pytest.mark.parametrize(
    ("source", "pace", "expected"),
    [
        ("0", None, False),
        ("/dev/video0", None, False),
        ("file:a.mp4", None, True),
        (SHARED_MEMORY, None, True),
        ("dir:a", "every", True),
        ("dir:a", "realtime", False),
    ],
)
def test_files_are_read_picture_by_picture_unless_told_otherwise(
    source: str, pace: Any, expected: bool
) -> None:
    assert CameraConfig(name="a", source=source, pace=pace).reads_every_frame is expected


def test_without_a_file_the_first_camera_and_a_local_broker_are_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    config = default_config()

    assert re.fullmatch(r"[a-z0-9][a-z0-9_-]{0,62}", config.device.name)
    assert config.state_dir == tmp_path / "edge-inspect"
    assert config.bundle_path is None
    assert config.engine.threads >= 1
    assert [camera.source for camera in config.cameras] == ["0"]
    assert config.mqtt.host == "localhost"
    assert not config.mqtt.is_insecure


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("press-3", "press-3"),
        ("Press_3.plant.example", "press_3"),
        ("Förderband 2", "f-rderband-2"),
        ("-_-", "edge-device"),
        ("", "edge-device"),
        ("x" * 80, "x" * 63),
    ],
)
def test_a_host_name_becomes_a_valid_device_name(host: str, expected: str) -> None:
    assert device_name_from(host) == expected


def test_a_state_folder_that_is_not_absolute_in_the_environment_is_not_used(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", "state")

    assert default_config().state_dir == Path.home() / ".local/state/edge-inspect"


@pytest.mark.parametrize("text", [FULL, "device: {name: a}\n", "device: {name: a}\r\n"])
def test_settings_written_as_json_are_read_back_the_same(tmp_path: Path, text: str) -> None:
    config = _load(tmp_path, text)

    assert DeviceConfig.model_validate_json(config.model_dump_json()) == config


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    config = _load(tmp_path, FULL)

    with pytest.raises(ValidationError, match="frozen"):
        config.cameras[0].threshold_override = 0.5
    assert hash(config) == hash(_load(tmp_path, FULL))


def test_an_option_of_a_command_outranks_the_file_under_the_same_rules(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = _load(tmp_path, "device: {name: a}\nmqtt: {enabled: false}\n")
    monkeypatch.chdir(tmp_path)

    changed = override_config(
        config,
        {
            ("cameras", 0, "source"): "dir:pictures",
            ("engine", "threads"): 1,
            ("bundle",): Path("bottle.edgebundle"),
        },
    )
    assert changed.bundle_path == tmp_path / "bottle.edgebundle"
    assert changed.cameras[0].source == f"dir:{tmp_path}/pictures"
    assert (changed.engine.threads, changed.mqtt.enabled) == (1, False)
    assert config.cameras[0].source == "0"
    with pytest.raises(
        ConfigError, match=r"^command line: engine\.threads: expected a whole number from 1 to 256"
    ):
        override_config(config, {("engine", "threads"): 0})


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", False), ("::1", False), ("localhost", False), ("10.0.0.3", True)],
)
def test_only_messages_that_leave_the_computer_unencrypted_are_insecure(
    host: str, expected: bool
) -> None:
    assert MqttConfig(host=host, allow_insecure=True).is_insecure is expected
    assert not MqttConfig(host=host, enabled=False).is_insecure


def test_settings_are_read_without_camera_or_inference_libraries() -> None:
    script = (
        "import sys, edge_sdk.config;"
        "print(sorted({'cv2', 'onnxruntime', 'openvino', 'paho', 'torch'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, check=True, capture_output=True)

    assert done.stdout == b"[]\n"


def test_there_are_device_files_to_check() -> None:
    assert {path.stem for path in SHIPPED} >= {"desktop", "jetson_orin_nano", "x86_inspection_box"}


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_a_shipped_device_file_loads_fits_the_schema_and_says_where_it_ran(path: Path) -> None:
    text = path.read_text(encoding="utf-8")

    assert load_config(path).cameras
    jsonschema.validate(yaml.safe_load(text), config_schema())
    assert re.search(r"^# Run on: ", text, re.MULTILINE)


@pytest.mark.parametrize(
    "planted",
    [
        "cameras: [{name: a}]",
        "cameras: [{name: A, source: '0'}]",
        "cameras: []",
        "mqtt: {port: 70000}",
        "mqtt: {password: x}",
        "mqtt: {enabled: 'yes'}",
        "spool: {max_rows: 0}",
        "logging: {level: loud}",
        "engine: {threads: 1.5}",
        "cameras: [{name: a, source: '0', regions: [{name: b, mode: include, polygon: [[1, 1]]}]}]",
        "devcie: {name: a}",
    ],
)
def test_the_schema_refuses_what_the_reader_refuses(tmp_path: Path, planted: str) -> None:
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(yaml.safe_load(planted), config_schema())
    with pytest.raises(ConfigError):
        _load(tmp_path, planted)


def test_the_schema_file_for_editors_is_current() -> None:
    """Write it anew with ``python -m edge_sdk.config > device_configs/device.schema.json``."""
    done = subprocess.run(
        [sys.executable, "-m", "edge_sdk.config"], cwd=ROOT, check=True, capture_output=True
    )

    assert done.stdout == (ROOT / "device_configs/device.schema.json").read_bytes()
    jsonschema.Draft202012Validator.check_schema(json.loads(done.stdout))


def test_every_setting_is_described_in_the_schema() -> None:
    schema = config_schema()
    nodes = {"": schema, **schema["$defs"]}
    bare = [
        f"{group}.{name}"
        for group, node in nodes.items()
        for name, setting in node["properties"].items()
        if "description" not in setting and "$ref" not in setting
    ]

    assert bare == []
    assert all(node["description"] for node in nodes.values())


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), min_size=3, max_size=7))
def test_a_polygon_is_judged_the_same_from_any_corner_and_in_either_direction(
    corners: list[Point],
) -> None:
    is_refused = polygon_fault(corners) is not None

    for turn in range(len(corners)):
        turned = corners[turn:] + corners[:turn]
        assert (polygon_fault(turned) is not None) is is_refused
        assert (polygon_fault(turned[::-1]) is not None) is is_refused


@pytest.mark.parametrize(
    ("corners", "fault"),
    [
        ([(0, 0), (4, 0), (4, 4), (0, 4)], None),
        ([(0, 0), (6, 0), (6, 6), (3, 1), (0, 6)], None),
        ([(0, 0), (4, 0), (4, 4), (2, 0)], "do not cross or touch"),
        ([(0, 0), (4, 4), (4, 0), (0, 4)], "do not cross or touch"),
        ([(0, 0), (4, 0), (2, 0), (2, 3)], "do not cross or touch"),
        ([(0, 0), (2, 2), (4, 4)], "an area above 0"),
        ([(0, 0), (2, 2), (0, 0)], "twice"),
    ],
)
def test_only_a_polygon_with_one_inside_is_accepted(
    corners: list[Point], fault: str | None
) -> None:
    found = polygon_fault(corners)

    assert (found is None) if fault is None else (found is not None and fault in found)
