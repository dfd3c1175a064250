"""Output drivers by name; one is imported only when it is asked for."""

from __future__ import annotations

from edge_sdk.drivers import load_third_party, needing_gpiod
from edge_sdk.outputs.signal import OutputDriver, OutputFactory

ENTRY_POINT_GROUP = "edge_sdk.output_drivers"
"""Entry points of this group name an ``OutputFactory``."""


def open_output(driver: str, address: str) -> OutputDriver:
    """Open an output line; it shows its safe side.

    Args:
        driver: ``socket``, ``gpio``, or the name of another distribution's entry point.
        address: what the driver understands.

    Raises:
        ConfigError: no such driver, or the address means nothing to it.
        LineError: it cannot be opened now.
    """
    return find_output(driver)(address)


def find_output(driver: str) -> OutputFactory:
    """Load a driver without opening anything.

    Raises:
        ConfigError: no such driver, or something that it needs is not installed.
    """
    factory: OutputFactory
    match driver:
        case "socket":
            from edge_sdk.outputs.socket import SocketOutput  # noqa: PLC0415 - only if asked for

            factory = SocketOutput
        case "gpio":
            with needing_gpiod():
                from edge_sdk.outputs.gpio import GpioOutput  # noqa: PLC0415 - only if asked for

            factory = GpioOutput
        case _:
            factory = load_third_party(
                "output driver", driver, group=ENTRY_POINT_GROUP, known=("socket", "gpio")
            )
    return factory
