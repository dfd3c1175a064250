"""What the box works with: engines, bundle, graph, self-test, trigger server, broker."""

from __future__ import annotations

import importlib
import secrets
import socket
from collections.abc import Iterator, Sequence
from contextlib import closing
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING

from edge_sdk.doctor.findings import Finding, fail, ok, warn
from edge_sdk.errors import BundleError, ConfigError, EngineError, PublishError

if TYPE_CHECKING:
    from edge_sdk.alerting.mqtt import Version
    from edge_sdk.bundle import Bundle
    from edge_sdk.config import DeviceConfig
    from edge_sdk.model import Model

ENGINES = {
    "onnxruntime": "pip install --force-reinstall onnxruntime",
    "openvino": 'pip install --force-reinstall "edge-inspection-sdk[openvino]"',
}
_USUAL_ENGINE = "onnxruntime"


def check_engines(wanted: str) -> Iterator[Finding]:
    """Load every engine that comes with the SDK; only the wanted one has to be there.

    Args:
        wanted: name of the settings' engine; ``auto`` means onnxruntime.
    """
    needed = _USUAL_ENGINE if wanted == "auto" else wanted
    for name, install in ENGINES.items():
        label = f"engine {name}"
        try:
            importlib.import_module(f"edge_sdk.engines.{name}")
            yield ok(label, _version(name) + (", the one in use" if name == needed else ""))
        except ImportError as error:
            is_absent = isinstance(error, ModuleNotFoundError) and error.name == name
            said = "is not installed" if is_absent else f"is installed but cannot load: {error}"
            if name == needed:
                others = " or ".join(sorted(set(ENGINES) - {name}))
                yield fail(
                    label, said, f"{install} (or use --engine {others}, if that one is ok)",
                    exit_code=EngineError.exit_code,
                )  # fmt: skip
            elif is_absent:
                yield ok(label, f"{said}; not needed")
            else:
                yield warn(label, said, install)
    if needed not in ENGINES:
        yield ok(f"engine {needed}", "of another package; graph, below, tells whether it is there")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:  # onnxruntime-gpu, openvino of the system
        return str(getattr(importlib.import_module(name), "__version__", "of another package"))


def check_bundle(bundle: Bundle, *, allow_untrained: bool) -> Iterator[Finding]:
    """What is said of an opened bundle, whose digests are right."""
    manifest = bundle.manifest
    said = f"{bundle.location}: {manifest.model.backbone}, {manifest.bundle_id[:19]}"
    if manifest.model.random_weights:
        said = f"{said}: random numbers, which judge nothing"
        fix = "export one with trained weights; --allow-untrained is for tests and timing"
        if allow_untrained:
            yield warn("bundle", said, fix)
        else:
            yield fail("bundle", said, fix, exit_code=BundleError.exit_code)
        return
    if manifest.commercial_use == "yes":
        yield ok("bundle", said)
    else:
        yield warn(
            "bundle",
            f"{said}, commercial use: {manifest.commercial_use} ({manifest.licence})",
            "read its licence before it judges parts that are sold",
        )


def load_graph(bundle: Bundle, config: DeviceConfig | None) -> tuple[Model, str]:
    """Load what this box would judge with; measures nothing that was not measured before.

    Args:
        bundle: opened.
        config: for its engine and what ``edge-bench --choose`` or an earlier start has kept.

    Returns:
        The model, and what is said of it.

    Raises:
        BundleError: nothing fits the settings.
        EngineError: the engine or the device is not to be had.
    """
    from edge_sdk.choice import stored_choice  # noqa: PLC0415 - the doctor imports late
    from edge_sdk.config import EngineConfig  # noqa: PLC0415 - as above
    from edge_sdk.model import graph_choices, load_model  # noqa: PLC0415 - as above

    engine = EngineConfig() if config is None else config.engine
    reason = ""
    if engine.precision == "auto" and config is not None:
        fitting = {one.precision for one in graph_choices(bundle, engine)}
        choice = stored_choice(bundle, engine, config.state_dir)
        if choice is not None:
            engine = engine.model_copy(
                update={"name": choice.engine, "precision": choice.precision}
            )
            reason = f"; {choice.reason}"
        elif len(fitting) > 1:
            reason = f"; the first start will measure {', '.join(sorted(fitting))}"
    model = load_model(bundle, engine)
    name = graph_choices(bundle, engine)[0].engine
    return model, f"{name} on {engine.device} in {model.precision}{reason}"


def check_self_test(model: Model) -> Iterator[Finding]:
    """Run the golden frames."""
    from edge_sdk.selftest import run_self_test  # noqa: PLC0415 - the doctor imports late

    report = run_self_test(model)
    yield ok(
        "self-test",
        f"{report.frames} golden frames, largest difference of scores {report.score:.1e}",
    )


def check_trigger_server(config: DeviceConfig, *, running: int | None) -> Iterator[Finding]:
    """Whether its token can be read and its address be listened on; nothing where it is off."""
    from edge_sdk.config import read_secret  # noqa: PLC0415 - as above

    server = config.trigger_server
    if server is None:
        return
    if server.token_file is not None:
        read_secret("trigger_server", file=server.token_file, environment=None, kind="token")
    where = f"{server.host}:{server.port}"
    if running is not None:
        yield ok("trigger server", f"{where}: process {running} has it")
        return
    try:
        family = socket.getaddrinfo(server.host, server.port, type=socket.SOCK_STREAM)[0][0]
        with socket.create_server((server.host, server.port), family=family):
            pass
    except OSError as error:
        yield fail(
            "trigger server",
            f"{where}: cannot be listened on: {error.strerror or error}",
            f"who has it: sudo ss -ltnp sport = :{server.port}; or give another port",
            exit_code=ConfigError.exit_code,
        )
        return
    yield ok("trigger server", f"{where}: can be listened on")


def check_broker(config: DeviceConfig) -> Iterator[Finding]:
    """Log in at the broker with the device's credentials; nothing is published."""
    from edge_sdk.alerting.broker import Outgoing  # noqa: PLC0415 - as above
    from edge_sdk.alerting.mqtt import MqttConnection  # noqa: PLC0415 - as above
    from edge_sdk.alerting.topics import Topics  # noqa: PLC0415 - as above
    from edge_sdk.runtime.outbox import broker_settings  # noqa: PLC0415 - as above

    mqtt = config.mqtt
    if not mqtt.enabled:
        yield warn("broker", "mqtt.enabled is false: nobody is told", "turn it on, if that is new")
        return
    settings = broker_settings(config)
    where = f"{mqtt.host}:{mqtt.port}"
    versions: Sequence[Version] = (
        ("5", "3.1.1") if settings.protocol == "auto" else (settings.protocol,)
    )
    # A client of its own: with the device's name it would push a running edge-run out.
    client_id = f"edge-doctor-{secrets.token_hex(4)}"
    will = Outgoing(topic=Topics(mqtt.topic_prefix, config.device.name).doctor, payload=b"")
    try:
        for protocol in versions:
            connection = MqttConnection(settings, protocol, client_id, will)
            with closing(connection):
                is_spoken = connection.open()
            if is_spoken:
                said = f"{where}: lets this device in, MQTT {protocol}"
                if mqtt.is_insecure:
                    yield warn("broker", f"{said}, unencrypted", "give mqtt.tls a certificate")
                else:
                    yield ok("broker", said)
                return
    except PublishError as error:
        yield fail(
            "broker",
            str(error),
            "start it or correct mqtt in the device file; nothing is lost meanwhile, messages wait "
            "on the disk",
            exit_code=error.exit_code,
        )
        return
    yield fail(
        "broker",
        f"{where}: no answer to a connection with MQTT {' or '.join(versions)}",
        "is it a broker that listens there, and does it want TLS?",
        exit_code=PublishError.exit_code,
    )
