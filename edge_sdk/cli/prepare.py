"""``edge-run --prepare``: compile for this box before there is a line to hold up."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from edge_sdk.console import print_json

if TYPE_CHECKING:
    from edge_sdk.config import DeviceConfig


def prepare(config: DeviceConfig, *, allow_untrained: bool, as_json: bool) -> int:
    """Load every graph, which compiles it into the state folder, and run the self-test.

    TensorRT builds at the first picture of a size: the self-test gives it that picture.

    Raises:
        BundleError: no valid bundle, or nothing in it for this engine and precision.
        EngineError: the engine or the device is not to be had.
        SelfTestError: this box does not compute what the exporter computed.
    """
    from edge_sdk.choice import open_model
    from edge_sdk.selftest import run_self_test

    seconds: dict[str, float] = {}

    @contextmanager
    def watch(name: str) -> Iterator[None]:
        print(f"{name} \N{HORIZONTAL ELLIPSIS}", end="", file=sys.stderr, flush=True)
        start = time.monotonic()
        try:
            yield
        except BaseException:
            print(file=sys.stderr)
            raise
        seconds[name] = round(time.monotonic() - start, 3)
        print(f" {seconds[name]:.1f} s", file=sys.stderr, flush=True)

    model = open_model(config, allow_untrained=allow_untrained, watch=watch)
    with watch("self-test"):
        report = run_self_test(model)
    if as_json:
        print_json(
            {
                "bundle_id": model.bundle.manifest.bundle_id,
                "precision": model.precision,
                "frames": report.frames,
                "seconds": seconds,
            }
        )
    else:
        print(f"ready: {sum(seconds.values()):.1f} s; the next start finds what was compiled")
    return 0
