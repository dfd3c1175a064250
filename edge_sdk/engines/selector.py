"""Engines by name; a runtime is imported only when it is asked for."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import entry_points
from typing import Any, Protocol

from edge_sdk.engines.compiled import CompiledCache
from edge_sdk.errors import EngineError
from edge_sdk.protocols import InferenceEngine

ENTRY_POINT_GROUP = "edge_sdk.engines"
"""Entry points of this group name an ``EngineFactory``."""
PRECISIONS = ("fp32", "fp16", "bf16", "int8")


class EngineFactory(Protocol):
    """What loads a graph: an engine's class, or a function."""

    def __call__(
        self, *, model: bytes, weights: bytes | None, device: str, precision: str, threads: int
    ) -> InferenceEngine:
        """Load a graph; arguments and errors are those of ``open_engine``."""
        ...


def open_engine(
    name: str,
    *,
    model: bytes,
    weights: bytes | None,
    device: str,
    precision: str,
    threads: int,
    cache: CompiledCache | None = None,
) -> InferenceEngine:
    """Load a graph.

    Args:
        name: ``auto`` (which is onnxruntime), ``onnxruntime``, ``openvino``, or the name of an
            entry point of another distribution.
        model: the graph's file: ONNX, or an OpenVINO IR's ``.xml``.
        weights: an OpenVINO IR's ``.bin``; None for a graph in one file.
        device: where to run, for example ``cpu``; never silently replaced by another.
        precision: what the graph was written in, one of ``PRECISIONS``; ``bf16`` for torch only.
        threads: compute threads, 1 or more.
        cache: where our own engines keep compiled graphs; None: nowhere. Engines of other
            distributions keep their own.

    Raises:
        EngineError: no such engine, its package is missing, or it cannot run the graph there.
    """
    if precision not in PRECISIONS:
        raise EngineError(f"precision: expected one of {', '.join(PRECISIONS)}, got {precision}")
    if threads < 1:
        raise EngineError(f"threads: expected 1 or more, got {threads}")
    given: dict[str, Any] = {
        "model": model,
        "weights": weights,
        "device": device,
        "precision": precision,
        "threads": threads,
    }
    match name:
        case "auto" | "onnxruntime":
            with _needing("onnxruntime", "pip install onnxruntime"):
                # Inside the arm, so that an engine nobody asked for is never loaded.
                from edge_sdk.engines.onnxruntime import OnnxRuntimeEngine  # noqa: PLC0415 - above
            return OnnxRuntimeEngine(**given, cache=cache)
        case "openvino":
            with _needing("openvino", 'pip install "edge-inspection-sdk[openvino]"'):
                from edge_sdk.engines.openvino import OpenVinoEngine  # noqa: PLC0415 - above
            return OpenVinoEngine(**given, cache=cache)
        case _:
            return _third_party(name)(**given)


@contextmanager
def _needing(package: str, install: str) -> Iterator[None]:
    try:
        yield
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        raise EngineError(f"engine {package}: is not installed; run: {install}") from error
    except ImportError as error:
        raise EngineError(f"engine {package}: is installed but cannot load: {error}") from error


def _third_party(name: str) -> EngineFactory:
    found = tuple(entry_points(group=ENTRY_POINT_GROUP, name=name))
    if len(found) != 1:
        known = {"auto", "onnxruntime", "openvino"}
        known |= {entry.name for entry in entry_points(group=ENTRY_POINT_GROUP)}
        problem = "is offered by several packages" if found else "is not known"
        raise EngineError(f"engine {name}: {problem}; known are {', '.join(sorted(known))}")
    try:
        factory: EngineFactory = found[0].load()
    except (ImportError, AttributeError) as error:
        raise EngineError(f"engine {name}: {found[0].value} cannot load: {error}") from error
    return factory
