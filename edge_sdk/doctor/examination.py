"""All checks in their order; what one needs of an earlier one it gets, or is not done."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

from edge_sdk.doctor.box import (
    check_clock,
    check_disk,
    check_libraries,
    check_python,
    check_state,
    running_process,
)
from edge_sdk.doctor.cameras import check_camera, check_lines, check_references
from edge_sdk.doctor.findings import Finding, guarded, ok, warn
from edge_sdk.doctor.work import (
    check_broker,
    check_bundle,
    check_engines,
    check_self_test,
    check_trigger_server,
    load_graph,
)

if TYPE_CHECKING:
    from pathlib import Path

    from edge_sdk.bundle import Bundle
    from edge_sdk.config import CameraConfig, DeviceConfig
    from edge_sdk.model import Model

_UNSETTLED = "not checked: the settings cannot be read"


class Examination:
    """Looks at a box, one finding after another.

    Args:
        settle: gives the settings the commands would run with; may raise ``ConfigError``.
        bundle: the bundle to check where the settings cannot be read; None: the built-in one.
        enroll: a camera's name to the command that shows it good parts.
        allow_untrained: whether the commands would be told to take random numbers, too.
    """

    def __init__(
        self,
        settle: Callable[[], DeviceConfig],
        *,
        bundle: Path | None,
        enroll: Callable[[str], str],
        allow_untrained: bool = False,
    ) -> None:
        self._settle = settle
        self._bundle_path = bundle
        self._enroll = enroll
        self._allow_untrained = allow_untrained
        self._config: DeviceConfig | None = None
        self._bundle: Bundle | None = None
        self._model: Model | None = None
        self._sizes: dict[str, tuple[int, int]] = {}

    def findings(self) -> Iterator[Finding]:
        """Every finding as soon as it is there."""
        yield from guarded("python", "install Python 3.10 or later", check_python)
        yield from guarded("libraries", "install the SDK again", check_libraries)
        yield from guarded(
            "settings", "correct it, then: edge-run --validate-config", self._check_settings
        )
        yield from guarded(
            "engines", "pip install onnxruntime", lambda: check_engines(self._engine_name())
        )
        yield from guarded(
            "bundle", "copy it to this box again, or update the SDK", self._check_bundle
        )
        yield from guarded(
            "graph",
            "another engine, device or precision: those above that are ok, and what edge-bundle "
            "info lists",
            self._check_graph,
        )
        yield from guarded(
            "self-test",
            "judge no parts with it: try another engine or precision, or export the bundle again",
            self._check_self_test,
        )
        yield from guarded("clock", "turn a time service on", check_clock)
        config = self._config
        if config is None:
            for name in ("state", "disk", "camera", "references", "broker"):
                yield warn(name, _UNSETTLED, "correct the settings first")
            return
        yield from guarded("state", "correct state_dir", lambda: check_state(config))
        yield from guarded("disk", "make room", lambda: check_disk(config))
        for camera in config.cameras:
            yield from self._check_camera(config, camera)
        yield from guarded(
            "trigger server", "correct trigger_server in the device file",
            lambda: check_trigger_server(config, running=running_process(config.state_dir)),
        )  # fmt: skip
        yield from guarded(
            "broker", "correct mqtt in the device file", lambda: check_broker(config)
        )

    def _check_settings(self) -> Iterator[Finding]:
        self._config = config = self._settle()
        cameras = ", ".join(camera.name for camera in config.cameras)
        yield ok("settings", f"device {config.device.name}, cameras {cameras}")

    def _engine_name(self) -> str:
        return "auto" if self._config is None else self._config.engine.name

    def _check_bundle(self) -> Iterator[Finding]:
        reader = importlib.import_module("edge_sdk.bundle.reader")
        path = self._bundle_path if self._config is None else self._config.bundle_path
        self._bundle = reader.open_bundle(path)
        yield from check_bundle(self._bundle, allow_untrained=self._allow_untrained)

    def _check_graph(self) -> Iterator[Finding]:
        if self._bundle is None:
            yield warn("graph", "not loaded: there is no sound bundle", "see bundle, above")
            return
        self._model, said = load_graph(self._bundle, self._config)
        yield ok("graph", said)

    def _check_self_test(self) -> Iterator[Finding]:
        if self._model is None:
            yield warn("self-test", "not run: no graph was loaded", "see above")
            return
        yield from check_self_test(self._model)

    def _check_camera(self, config: DeviceConfig, camera: CameraConfig) -> Iterator[Finding]:
        def look() -> Iterator[Finding]:
            for found in check_camera(camera, running=running_process(config.state_dir)):
                if isinstance(found, tuple):
                    self._sizes[camera.name] = found
                else:
                    yield found

        enroll = self._enroll(camera.name)
        yield from guarded(f"camera {camera.name}", "correct cameras in the device file", look)
        yield from guarded(
            f"references {camera.name}",
            enroll,
            lambda: check_references(
                config, camera, self._model, self._sizes.get(camera.name), enroll=enroll
            ),
        )
        yield from guarded(
            f"lines {camera.name}", "correct them in the device file", lambda: check_lines(camera)
        )
