"""The seams: what a stage needs of another is one of these, composed in the command line."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from edge_sdk.records import AnomalyResult, Frame, Message, PatchFeatures, Preprocessed


class FrameSource(Protocol):
    """Where frames come from."""

    source_id: str

    def frames(self) -> Iterator[Frame]:
        """Yield frames until the source ends.

        May be called again after a ``CaptureError``; a camera's frame numbers go on.

        Raises:
            CaptureError: the source cannot be opened or gave no frame in time. A made-up frame
                is never yielded.
        """
        ...

    @property
    def dropped(self) -> int:
        """Frames the camera gave that were never yielded because a newer one replaced them."""
        ...

    def close(self) -> None:
        """Release the camera; may be called twice and from another thread."""
        ...


@runtime_checkable
class AdjustableSource(Protocol):
    """A source of frames whose camera can be set."""

    def adjust(self, settings: Mapping[str, float | int | str] | None) -> None:
        """Set the camera so whenever it is opened, and open it anew where it is read otherwise.

        Args:
            settings: by the camera's own names, as frames tell them; None: as it is.
        """
        ...


class InferenceEngine(Protocol):
    """A loaded graph: tensors in, tensors out; knows nothing of pictures."""

    inputs: Mapping[str, tuple[int | None, ...]]
    """Input name -> shape; None where dynamic."""
    outputs: Sequence[str]
    device: str
    """Where it really runs, for example ``cpu``."""

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Run the graph once.

        Raises:
            EngineError: a name, shape or type does not fit, or the runtime failed.
        """
        ...

    def close(self) -> None:
        """Free the graph."""
        ...


class Encoder(Protocol):
    """Pictures to patch tokens."""

    extractor_id: str

    def encode(self, preprocessed: Preprocessed) -> PatchFeatures:
        """Encode one picture.

        Raises:
            EngineError: the graph failed.
        """
        ...


class Scorer(Protocol):
    """Compares a picture's features with what it was fitted on."""

    def score(self, features: PatchFeatures) -> AnomalyResult:
        """Score one picture.

        Raises:
            InputError: the features come from another extractor than the references.
        """
        ...


class ReferenceScorer(Scorer, Protocol):
    """A scorer that compares with references."""

    def without(self, reference: int) -> Scorer:
        """The same scorer with one reference left out, for honest scores of that one."""
        ...


class ScorerFactory(Protocol):
    """Makes scorers; the name is recorded with every threshold fitted through it."""

    name: str

    def fit(self, references: Sequence[PatchFeatures]) -> ReferenceScorer:
        """Build a scorer from known-good pictures.

        Raises:
            InputError: no references, or references of several extractors.
        """
        ...


class Publisher(Protocol):
    """The way to the plant system."""

    def publish(self, messages: Sequence[Message]) -> frozenset[int]:
        """Publish messages and wait for the broker.

        A batch rather than one message, so that a long line is not paid for once a message.

        Returns:
            ``seq`` of the messages that the broker acknowledged without a failure code.

        Raises:
            PublishError: the connection is down; nothing may be assumed acknowledged.
        """
        ...
