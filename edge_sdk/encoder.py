"""Stage 3: pictures to patch tokens, through the bundle's encoder graph."""

from __future__ import annotations

from edge_sdk.bundle.manifest import GraphSpec
from edge_sdk.errors import EngineError
from edge_sdk.protocols import InferenceEngine
from edge_sdk.records import PatchFeatures, Preprocessed, TokenGrid


class GraphEncoder:
    """Runs the encoder graph and names its outputs.

    Args:
        engine: the loaded encoder graph.
        graph: its entry in the manifest, which says what each output is.
        extractor_id: digest of everything that turns pixels into tokens.

    Raises:
        EngineError: the loaded graph lacks an output that the manifest promises.
    """

    def __init__(self, engine: InferenceEngine, graph: GraphSpec, extractor_id: str) -> None:
        missing = sorted({output.name for output in graph.outputs} - set(engine.outputs))
        if missing:
            raise EngineError(f"encoder graph: outputs {missing} of the manifest are not in it")
        self.extractor_id = extractor_id
        self._engine = engine
        self._outputs = graph.outputs
        (self._input,) = engine.inputs

    def encode(self, preprocessed: Preprocessed) -> PatchFeatures:
        """Encode one picture.

        Raises:
            EngineError: the graph failed.
        """
        values = self._engine.infer({self._input: preprocessed.tensor})
        tokens = {}
        for output in self._outputs:
            if output.stream is None or output.layer is None or output.grid is None:
                continue
            rows, patches = values[output.name], output.grid[0] * output.grid[1]
            # The exporter works the golden answers out in float64 through this same code.
            if rows.shape != (1, patches, output.shape[2]) or rows.dtype.kind != "f":
                raise EngineError(
                    f"encoder graph: output {output.name}: expected (1, {patches}, "
                    f"{output.shape[2]}) of floats, got {rows.shape} {rows.dtype}"
                )
            tokens[output.stream, output.layer] = TokenGrid(rows=rows[0], grid=output.grid)
        class_token = values["class_token"][0] if "class_token" in values else None
        return PatchFeatures(
            tokens=tokens,
            class_token=class_token,
            extractor_id=self.extractor_id,
            preprocessed=preprocessed,
        )
