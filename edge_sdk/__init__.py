"""Edge inspection SDK, device half: records, seams and errors.

``import edge_sdk`` loads no camera, engine or network library; take the rest from its modules.
Records and seams are loaded when they are first asked for (PEP 562): they bring numpy along, and
every command imports this package before it can answer ``--help``.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from edge_sdk._version import __version__
from edge_sdk.errors import (
    BundleError,
    BundleIntegrityError,
    BusyError,
    CaptureError,
    ConfigError,
    EdgeError,
    EngineError,
    GateError,
    InputError,
    LineError,
    PublishError,
    SelfTestError,
    SpoolError,
)

if TYPE_CHECKING:
    from edge_sdk.protocols import (
        Encoder,
        FrameSource,
        InferenceEngine,
        Publisher,
        Scorer,
        ScorerFactory,
    )
    from edge_sdk.records import (
        AnomalyResult,
        Decision,
        Frame,
        Geometry,
        Message,
        MessageDraft,
        MessageKind,
        Nearest,
        PatchFeatures,
        Preprocessed,
        Reason,
        Region,
        Severity,
        TokenGrid,
        Verdict,
    )

__all__ = [
    "AnomalyResult",
    "BundleError",
    "BundleIntegrityError",
    "BusyError",
    "CaptureError",
    "ConfigError",
    "Decision",
    "EdgeError",
    "Encoder",
    "EngineError",
    "Frame",
    "FrameSource",
    "GateError",
    "Geometry",
    "InferenceEngine",
    "InputError",
    "LineError",
    "Message",
    "MessageDraft",
    "MessageKind",
    "Nearest",
    "PatchFeatures",
    "Preprocessed",
    "PublishError",
    "Publisher",
    "Reason",
    "Region",
    "Scorer",
    "ScorerFactory",
    "SelfTestError",
    "Severity",
    "SpoolError",
    "TokenGrid",
    "Verdict",
    "__version__",
]

if not TYPE_CHECKING:  # hidden from the type checker, to which it would make every name known
    _SEAMS = frozenset(
        {"Encoder", "FrameSource", "InferenceEngine", "Publisher", "Scorer", "ScorerFactory"}
    )

    def __getattr__(name: str) -> object:
        if name in __all__:
            home = "protocols" if name in _SEAMS else "records"
            return getattr(import_module(f"{__name__}.{home}"), name)
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        return sorted({*globals(), *__all__})
