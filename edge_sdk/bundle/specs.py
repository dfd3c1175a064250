"""The parts of a manifest: what the numbers of a bundle mean."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator
from typing_extensions import Self

from edge_sdk.bundle.fields import (
    MAX_FILE_BYTES,
    Count,
    GraphFormat,
    GraphRole,
    Grid,
    Name,
    NotNegative,
    Parameter,
    Positive,
    Precision,
    Record,
    Sha256,
    Shape,
    Side,
    TensorName,
    Text,
    Version,
)


class ModelSpec(Record):
    """What the graphs were made from."""

    backbone: Name
    weights_source: Text
    """Where the weights came from, for people."""
    weights_sha256: Sha256
    trained_branches: tuple[Name, ...]
    """Adapters that were trained: ``textual``, ``visual``, ``prompt_query``. Empty: none was."""
    streams: tuple[Name, ...]
    """``vv`` and ``ori`` of a ViT, ``conv`` of a CNN. Empty, as the two below, where the bundle has
    no encoder but a graph from picture to map."""
    layers: tuple[Count, ...]
    dims: tuple[Annotated[int, Field(ge=1)], ...]
    """Length of a token, one for each of ``layers``."""
    patch_size_px: Annotated[int, Field(ge=1)] | None = None
    """Side of a ViT's patch; None for a CNN, whose grids are with its outputs."""
    random_weights: bool = False
    """True where nothing was trained at all: for tests and timing, never for parts."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(self.dims) != len(self.layers):
            raise ValueError(f"dims: expected {len(self.layers)}, one a layer, got {self.dims}")
        return self


class ResizeSpec(Record):
    """How a frame becomes the model's picture."""

    mode: Literal["squash", "letterbox", "crop"]
    kernel: Literal["area", "bilinear", "bicubic"]
    antialias: bool


class InputSpec(Record):
    """What the encoder takes. Normalisation, ``(pixel / 255 - mean) / std``, is in the graph.

    A graph of role ``end_to_end`` may do more to its picture; mean and std are then those of what
    it is given.
    """

    size: tuple[Side, Side]
    """(height, width) in pixels."""
    color: Literal["rgb", "gray"]
    resize: ResizeSpec
    mean: tuple[float, ...]
    """One a channel, for pixels from 0 to 1."""
    std: tuple[Positive, ...]

    @model_validator(mode="after")
    def _check(self) -> Self:
        allowed = (3,) if self.color == "rgb" else (1, 3)
        if len(self.mean) not in allowed or len(self.std) != len(self.mean):
            raise ValueError(
                f"mean and std: expected {' or '.join(map(str, allowed))} values each for "
                f"{self.color}, got {len(self.mean)} and {len(self.std)}"
            )
        return self


class TensorSpec(Record):
    """A named tensor of a graph."""

    name: TensorName
    shape: Shape
    """None where dynamic, as the batch axis is."""


class OutputSpec(TensorSpec):
    """What a graph gives. The three below are there for patch tokens, and only together."""

    stream: Name | None = None
    layer: Count | None = None
    grid: Grid | None = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        parts = (self.stream, self.layer, self.grid)
        if any(part is None for part in parts) and any(part is not None for part in parts):
            raise ValueError(f"output {self.name}: stream, layer and grid belong together")
        if self.grid is not None:
            patches = self.grid[0] * self.grid[1]
            if len(self.shape) != 3 or self.shape[1] != patches:
                raise ValueError(
                    f"output {self.name}: expected shape (batch, {patches}, dim) for grid "
                    f"{self.grid}, got {self.shape}"
                )
        return self


_PATHS: dict[str, tuple[str, ...]] = {"onnx": (".onnx",), "openvino": (".xml", ".bin")}


class GraphSpec(Record):
    """One computation in one format and precision."""

    role: GraphRole
    format: GraphFormat
    precision: Precision
    paths: Annotated[tuple[str, ...], Field(min_length=1)]
    """``onnx``: one file. ``openvino``: the ``.xml``, then its ``.bin``. ``torch``: any number."""
    opset: Annotated[int, Field(ge=1)] | None = None
    """Operator set of an ONNX graph; None for the others."""
    min_runtime: Version | None = None
    """Oldest version of its inference library known to run it; None: the oldest we install."""
    inputs: Annotated[tuple[TensorSpec, ...], Field(min_length=1)]
    outputs: Annotated[tuple[OutputSpec, ...], Field(min_length=1)]
    tolerance: dict[TensorName, NotNegative] = Field(default_factory=dict)
    """Output name -> largest difference from full precision that the exporter accepted."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        suffixes = _PATHS.get(self.format)
        endings = tuple("." + path.rpartition(".")[2] for path in self.paths)
        if suffixes is not None and endings != suffixes:
            raise ValueError(f"paths: expected {suffixes} for {self.format}, got {self.paths}")
        if (self.opset is not None) != (self.format == "onnx"):
            raise ValueError(f"opset: belongs to onnx graphs, got {self.opset} for {self.format}")
        if self.precision == "bf16" and self.format != "torch":
            raise ValueError(f"precision: bf16 is of format torch only, got {self.format}")
        names = [tensor.name for tensor in (*self.inputs, *self.outputs)]
        if len(set(names)) != len(names):
            raise ValueError(f"inputs and outputs: expected different names, got {names}")
        strangers = sorted(set(self.tolerance) - {output.name for output in self.outputs})
        if strangers:
            raise ValueError(f"tolerance: {strangers} are not outputs")
        return self


class ScorerSpec(Record):
    """A way of scoring that this bundle was made for. The first one is the default."""

    name: Name
    text_features: Annotated[str, Field(pattern=r"\.npy$")] | None = None
    """``.npy``, (2, D) float32, row 0 normal, row 1 anomalous; None: in the head, or unused."""
    fusion: Name | None = None
    sigma: NotNegative = 0.0
    """Gaussian over the map, in pixels of the model's input; 0: none."""
    parameters: dict[Name, Parameter] = Field(default_factory=dict)


class ThresholdSpec(Record):
    """The exporter's cut on the score. One that was fitted on the site outranks it."""

    value: NotNegative | None
    """None: there is none."""
    method: Name
    n: Count
    """Pictures it was fitted on."""


class QuantizationSpec(Record):
    """How INT8 graphs came about."""

    method: Name
    calibration_source: Text
    calibration_pictures: Count
    parameters: dict[Name, Parameter] = Field(default_factory=dict)


class ParityRow(Record):
    """What the exporter measured of one graph against full precision. None: does not apply."""

    graph: GraphRole
    precision: Precision
    engine: Name
    compared: Text
    pictures: Count
    weights: Literal["real", "random"]
    max_abs_map: NotNegative | None
    mean_abs_map: NotNegative | None
    rank_correlation: Annotated[float, Field(ge=-1, le=1)] | None
    verdict_flips: Count | None
    verdict: Literal["ok", "failed", "unproven"]
    """``unproven``: passed with random weights, which say little of trained ones."""


class Tolerance(Record):
    """How far a device may be from the golden arrays: largest absolute difference of each."""

    tokens: NotNegative
    map: NotNegative
    score: NotNegative


class GoldenSpec(Record):
    """Frames with known answers, scored by the first scorer: the device's self-test."""

    frames: Annotated[tuple[str, ...], Field(min_length=1)]
    """PNG files."""
    references: tuple[str, ...]
    """PNG files, the known-good pictures they are scored against; empty for a scorer without."""
    expected: str
    """Folder of the arrays; ``array_path`` names them."""
    has_tokens: bool = True
    """False where tokens are too many to ship; maps and scores tell then."""
    has_zero_shot: bool = False
    """True where there are ``zero_shot_map`` and ``zero_shot_score`` beside ``map`` and ``score``:
    what is said of the frame without references."""
    tolerance: dict[Precision, Tolerance]

    @model_validator(mode="after")
    def _check(self) -> Self:
        others = [path for path in (*self.frames, *self.references) if not path.endswith(".png")]
        if others:
            raise ValueError(f"frames and references: expected .png files, got {others}")
        return self

    def array_path(self, frame: int, name: str) -> str:
        """Where an expected array of a frame lies.

        Args:
            frame: index into ``frames``.
            name: ``map`` (H, W) float32 in pixels of the golden frame, ``score`` () float32,
                ``tokens_<stream>_<layer>`` (P, D) float32, ``class_token`` (D,) float32.
        """
        return f"{self.expected}/{frame}/{name}.npy"


class FileEntry(Record):
    """One file of the bundle."""

    path: str
    size: Annotated[int, Field(ge=0, le=MAX_FILE_BYTES)]
    """Bytes."""
    sha256: Sha256
