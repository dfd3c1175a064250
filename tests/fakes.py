"""Real implementations of the seams, small enough to be foreseen: nothing is patched anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from edge_sdk.bundle import GraphSpec, OutputSpec, TensorSpec
from edge_sdk.encoder import GraphEncoder
from edge_sdk.errors import CaptureError, EdgeError, EngineError, PublishError
from edge_sdk.records import FloatArray, Frame, Message, UInt8Array

STALL_LIMIT_SECONDS = 30.0


class Stall:
    """A step of a ``ScriptedSource``: the camera gives nothing until it is let go or closed."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        """Set when the source has come to this step."""
        self._may_go_on = threading.Event()

    def let_go(self) -> None:
        """Let the source go on; also what closing does."""
        self._may_go_on.set()

    def wait(self) -> None:
        """Stand still, but never for ever.

        Raises:
            CaptureError: nobody let it go, as a camera's own time limit would say.
        """
        self.reached.set()
        if not self._may_go_on.wait(STALL_LIMIT_SECONDS):
            raise CaptureError(f"no frame within {STALL_LIMIT_SECONDS:g} s")


Step: TypeAlias = Frame | EdgeError | Stall


class ScriptedSource:
    """A ``FrameSource`` that yields, fails and stalls as its steps say, and then ends.

    A failure is passed once: iterating again goes on behind it, as a camera that came back.
    """

    def __init__(
        self, steps: Iterable[Step], *, source_id: str = "scripted", dropped: int = 0
    ) -> None:
        self.source_id = source_id
        self.dropped = dropped
        self.is_closed = False
        self._steps = iter(steps)
        self._stall: Stall | None = None

    def frames(self) -> Iterator[Frame]:
        """Play the steps that are left."""
        for step in self._steps:
            if self.is_closed:
                return
            if isinstance(step, EdgeError):
                raise step
            if isinstance(step, Stall):
                self._stall = step
                step.wait()
                if self.is_closed:
                    return
            else:
                yield step

    def close(self) -> None:
        """End the iteration, also one that stands still."""
        self.is_closed = True
        if self._stall is not None:
            self._stall.let_go()


CHANNELS = 6
"""Length of a numpy engine's tokens: mean colour, gradient to the right and down, a constant."""


def cell_tokens(picture: UInt8Array, cell_px: int) -> FloatArray:
    """What a numpy engine says of a picture, cell by cell.

    Args:
        picture: (H, W, 3) RGB.
        cell_px: side of a cell; divides both sides of the picture.

    Returns:
        (rows * cols, 6) float32: mean colour from -1 to 1, mean brightness gradient to the right
        and downwards, and 0.25.
    """
    colour = picture.astype(np.float32) / 127.5 - 1
    grey = colour.mean(axis=2)
    right = np.abs(np.diff(grey, axis=1, append=grey[:, -1:]))
    down = np.abs(np.diff(grey, axis=0, append=grey[-1:]))
    planes = np.dstack([colour, right, down, np.full_like(grey, 0.25)])
    rows, cols = picture.shape[0] // cell_px, picture.shape[1] // cell_px
    cells = planes.reshape(rows, cell_px, cols, cell_px, CHANNELS).mean(axis=(1, 3))
    return np.asarray(cells.reshape(rows * cols, CHANNELS), np.float32)


@dataclass(kw_only=True)
class NumpyEngine:
    """An ``InferenceEngine`` that is a numpy function with two outputs, ``fine`` and ``coarse``."""

    size: tuple[int, int] = (32, 32)
    """(height, width) of its picture in pixels."""
    fine_px: int = 4
    coarse_px: int = 8
    fails_with: EngineError | None = None
    """Raised instead of answering."""
    spoils: Callable[[FloatArray], FloatArray] | None = None
    """Applied to every output, (P, 6) float32: what a broken graph might say."""
    calls: int = 0
    """Pictures answered."""
    device: str = "cpu"
    outputs: Sequence[str] = ("fine", "coarse")
    inputs: Mapping[str, tuple[int | None, ...]] = field(init=False)

    def __post_init__(self) -> None:
        self.inputs = {"image": (None, *self.size, 3)}

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        """Answer, unless told to fail."""
        image = tensors["image"]
        if image.shape[1:] != (*self.size, 3) or image.dtype != np.uint8:
            raise EngineError(f"image: expected {self.size} uint8, got {image.shape} {image.dtype}")
        if self.fails_with is not None:
            raise self.fails_with
        self.calls += len(image)
        sides = {"fine": self.fine_px, "coarse": self.coarse_px}
        return {
            name: np.stack([self._answer(picture, side) for picture in image])
            for name, side in sides.items()
        }

    def _answer(self, picture: UInt8Array, side: int) -> FloatArray:
        tokens = cell_tokens(picture, side)
        return tokens if self.spoils is None else self.spoils(tokens)

    def close(self) -> None:
        """There is nothing to free."""


def numpy_graph(engine: NumpyEngine) -> GraphSpec:
    """What a manifest would say of a numpy engine: tokens ``conv:1`` (fine) and ``conv:2``."""
    height, width = engine.size
    outputs = []
    for layer, (name, side) in enumerate(
        (("fine", engine.fine_px), ("coarse", engine.coarse_px)), start=1
    ):
        grid = (height // side, width // side)
        shape = (None, grid[0] * grid[1], CHANNELS)
        outputs.append(OutputSpec(name=name, shape=shape, stream="conv", layer=layer, grid=grid))
    return GraphSpec(
        role="encoder",
        format="onnx",
        precision="fp32",
        paths=("graphs/none.onnx",),
        opset=17,
        inputs=(TensorSpec(name="image", shape=(None, height, width, 3)),),
        outputs=tuple(outputs),
    )


def numpy_encoder(engine: NumpyEngine, extractor_id: str) -> GraphEncoder:
    """The product's encoder over a numpy engine."""
    return GraphEncoder(engine, numpy_graph(engine), extractor_id)


class MemoryPublisher:
    """A ``Publisher`` that keeps what it is given, and refuses what it is told to."""

    def __init__(self) -> None:
        self.published: list[Message] = []
        """Acknowledged messages, in order."""
        self.refused: set[int] = set()
        """``seq`` of messages that are not acknowledged."""
        self.is_down = False

    def publish(self, messages: Sequence[Message]) -> frozenset[int]:
        """Acknowledge all but the refused ones.

        Raises:
            PublishError: it was told to be down.
        """
        if self.is_down:
            raise PublishError("the broker is down")
        accepted = [message for message in messages if message.seq not in self.refused]
        self.published += accepted
        return frozenset(message.seq for message in accepted)
