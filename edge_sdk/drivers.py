"""Drivers of other packages, found by entry point."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any

from edge_sdk.errors import ConfigError


def load_third_party(kind: str, name: str, *, group: str, known: Collection[str]) -> Any:  # noqa: ANN401 - the caller knows the protocol
    """Load what another distribution offers under a name.

    Args:
        kind: for messages, for example ``output driver``.
        name: of the entry point.
        group: of the entry point.
        known: names that need no entry point, for the message.

    Raises:
        ConfigError: nobody or several packages offer it, or it cannot be loaded.
    """
    found = tuple(entry_points(group=group, name=name))
    if len(found) != 1:
        names = {*known, *(entry.name for entry in entry_points(group=group))}
        problem = "is offered by several packages" if found else "is not known"
        raise ConfigError(f"{kind} {name}: {problem}; known are {', '.join(sorted(names))}")
    try:
        return found[0].load()
    except (ImportError, AttributeError) as error:
        raise ConfigError(f"{kind} {name}: {found[0].value} cannot load: {error}") from error


@contextmanager
def needing_gpiod() -> Iterator[None]:
    """Say what to install where the driver ``gpio`` finds no gpiod.

    Raises:
        ConfigError: it is not installed.
    """
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != "gpiod":
            raise
        raise ConfigError(
            'driver gpio: gpiod is not installed; run: pip install "edge-inspection-sdk[gpio]"'
        ) from error
