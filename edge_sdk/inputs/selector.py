"""Trigger inputs by name; one is imported only when it is asked for."""

from __future__ import annotations

from edge_sdk.drivers import load_third_party, needing_gpiod
from edge_sdk.inputs.signal import InputFactory, TriggerInput

ENTRY_POINT_GROUP = "edge_sdk.trigger_inputs"
"""Entry points of this group name an ``InputFactory``."""


def open_input(driver: str, address: str) -> TriggerInput:
    """Open a trigger input.

    Args:
        driver: ``fifo``, ``gpio``, or the name of another distribution's entry point.
        address: what the driver understands.

    Raises:
        ConfigError: no such driver, or the address means nothing to it.
        LineError: it cannot be opened now.
    """
    return find_input(driver)(address)


def find_input(driver: str) -> InputFactory:
    """Load a driver without opening anything.

    Raises:
        ConfigError: no such driver, or something that it needs is not installed.
    """
    factory: InputFactory
    match driver:
        case "fifo":
            from edge_sdk.inputs.fifo import FifoInput  # noqa: PLC0415 - only if asked for

            factory = FifoInput
        case "gpio":
            with needing_gpiod():
                from edge_sdk.inputs.gpio import GpioInput  # noqa: PLC0415 - only if asked for

            factory = GpioInput
        case _:
            factory = load_third_party(
                "trigger input", driver, group=ENTRY_POINT_GROUP, known=("fifo", "gpio")
            )
    return factory
