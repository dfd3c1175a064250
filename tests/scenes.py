"""Pictures, features and bundles that the tests of the stages share."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import numpy as np
from bundle_samples import GOLDEN, read_document
from fakes import NumpyEngine, numpy_encoder
from numpy.typing import NDArray

import edge_sdk
from edge_sdk.bundle import Bundle, InputSpec, ManifestDraft, ResizeSpec, open_bundle, write_bundle
from edge_sdk.bundle.canonical import canonical_json
from edge_sdk.config import CameraConfig, EngineConfig
from edge_sdk.imaging import decode_image
from edge_sdk.model import Model
from edge_sdk.records import (
    Box,
    Frame,
    Geometry,
    PatchFeatures,
    Preprocessed,
    Threshold,
    TokenGrid,
    TokenKey,
    UInt8Array,
)
from edge_sdk.scoring.nearest_neighbour import NearestNeighbourFactory, NearestNeighbourSettings

SIDE = 32
"""Side of the model's picture in these tests, pixels."""
FINE: TokenKey = ("conv", 1)
COARSE: TokenKey = ("conv", 2)
CREATED = datetime(2026, 11, 20, 12, 0, tzinfo=timezone.utc)
DIGEST = "sha256:" + "0d" * 32
INSTALLED = Path(edge_sdk.__file__).parents[1]
NN_PARAMETERS: dict[str, Any] = {
    "tokens": ["conv:1"],
    "neighbourhood": 1,
    "blur_sigma": 0.0,
    "reach": 0.25,
    "stillness": 0.05,
}


def child_environment() -> dict[str, str]:
    """For a process that imports what this one imports."""
    paths = (str(INSTALLED), str(Path(__file__).parent))
    return os.environ | {"PYTHONPATH": os.pathsep.join(paths)}


def input_spec(size: tuple[int, int] = (SIDE, SIDE), **changes: Any) -> InputSpec:
    """What a bundle says of the model's picture."""
    resize = ResizeSpec(mode="squash", kernel="area", antialias=True)
    spec = InputSpec(
        size=size, color="rgb", resize=resize, mean=(0.5, 0.5, 0.5), std=(0.25, 0.25, 0.25)
    )
    return spec.model_copy(update=changes)


def settings(**changes: Any) -> NearestNeighbourSettings:
    """A scorer without averaging and blur, so that every number can be foreseen."""
    values: dict[str, Any] = {
        "tokens": (FINE,),
        "neighbourhood": 1,
        "blur_sigma": 0.0,
        "reach": 0.13,
        "stillness": 0.05,
    }
    return NearestNeighbourSettings(**(values | changes))


def flat(level: int, size: tuple[int, int] = (SIDE, SIDE)) -> UInt8Array:
    """(H, W, 3) of one grey level."""
    return np.full((*size, 3), level, np.uint8)


LABEL = (slice(8, 24), slice(16, 28))
"""(rows, columns) of the label of ``fixture_part``, in pixels."""


def fixture_part(seed: int, *, is_complete: bool = True) -> UInt8Array:
    """A plate that lies still: shaded so that each place has its own colour, with a red label.

    The shading repeats itself after half of the width, so that what comes to light where the
    label is missing is also seen on the left, beside the label.

    Args:
        seed: of the camera's noise.
        is_complete: False leaves the label out.

    Returns:
        (32, 32, 3) RGB.
    """
    y, x = np.mgrid[0:SIDE, 0:SIDE]
    angle = 2 * np.pi * (x - 15.5) / (SIDE / 2) + np.pi / 4
    picture = np.dstack([60 + 4 * y, 100 + 60 * np.sin(angle), 100 + 60 * np.cos(angle)])
    if is_complete:
        picture[LABEL] = (250, 10, 10)
    noise = np.random.default_rng(seed).integers(-3, 4, picture.shape)
    return np.asarray(np.clip(picture + noise, 0, 255), np.uint8)


def frame_of(
    pixels: UInt8Array, *, frame_id: int = 0, age_seconds: float = 0.0, source_id: str = "test"
) -> Frame:
    """A frame taken just now, or some time ago."""
    return Frame(
        pixels=pixels.copy(),
        frame_id=frame_id,
        source_id=source_id,
        captured_at=datetime.now(timezone.utc),
        monotonic_ns=time.monotonic_ns() - int(age_seconds * 1e9),
    )


def numbered_frames(count: int) -> list[Frame]:
    """Tiny frames, numbered from 0."""
    return [frame_of(flat(7, (2, 2)), frame_id=number) for number in range(count)]


def preprocessed_of(
    pixels: UInt8Array,
    *,
    age_seconds: float = 0.0,
    frame_size: tuple[int, int] | None = None,
    window: Box | None = None,
    inspected: NDArray[np.bool_] | None = None,
) -> Preprocessed:
    """A picture as the encoder gets it; with ``frame_size``, out of an even grey frame."""
    height, width = frame_size or pixels.shape[:2]
    seen = pixels if frame_size is None else flat(128, frame_size)
    frame = frame_of(seen, age_seconds=age_seconds)
    geometry = Geometry(
        frame_size=(height, width),
        window=window or Box(x=0, y=0, width=width, height=height),
        inspected=inspected,
    )
    return Preprocessed(tensor=pixels[None].copy(), frame=frame, geometry=geometry)


def features_of(
    rows: Any,
    grid: tuple[int, int],
    *,
    preprocessed: Preprocessed | None = None,
    extractor_id: str = DIGEST,
    **others: tuple[Any, tuple[int, int]],
) -> PatchFeatures:
    """Features with these tokens at ``conv:1``; ``layer_2=(rows, grid)`` adds ``conv:2``."""
    layers = {"layer_1": (rows, grid), **others}
    return PatchFeatures(
        tokens={
            ("conv", int(name.removeprefix("layer_"))): TokenGrid(
                rows=np.array(values, np.float32), grid=shape
            )
            for name, (values, shape) in layers.items()
        },
        class_token=None,
        extractor_id=extractor_id,
        preprocessed=preprocessed or preprocessed_of(flat(128)),
    )


def threshold_of(value: float, **changes: Any) -> Threshold:
    """A threshold fitted on two scores."""
    values: dict[str, Any] = {
        "value": value,
        "method": "leave_one_out",
        "good_scores": (value / 2, value),
        "pictures": 2,
        "provisional": True,
        "expected_false_alarm_rate": 1 / 3,
    }
    return Threshold(**(values | changes))


def as_npy(values: Any) -> bytes:
    """A ``.npy`` file."""
    stream = io.BytesIO()
    np.save(stream, np.asarray(values), allow_pickle=False)
    return stream.getvalue()


def enlarge(grid: NDArray[Any], size: tuple[int, int]) -> NDArray[np.float64]:
    """Bilinear enlargement with half-pixel centres and repeated edges, written out."""
    result = np.asarray(grid, np.float64)
    for axis, (count, wanted) in enumerate(zip(grid.shape, size, strict=False)):
        place = np.clip((np.arange(wanted) + 0.5) * count / wanted - 0.5, 0, count - 1)
        below = np.floor(place).astype(int)
        above = np.minimum(below + 1, count - 1)
        share = (place - below).reshape([-1 if other == axis else 1 for other in range(grid.ndim)])
        result = np.take(result, below, axis) * (1 - share) + np.take(result, above, axis) * share
    return result


def cosine_distances(queries: Any, references: Any) -> NDArray[np.float64]:
    """(P, M) 1 - cosine in double precision, pair by pair."""
    first, second = np.asarray(queries, np.float64), np.asarray(references, np.float64)
    distances = np.empty((len(first), len(second)))
    for i, query in enumerate(first):
        for j, reference in enumerate(second):
            lengths = np.sqrt((query**2).sum()) * np.sqrt((reference**2).sum())
            distances[i, j] = 1 - (query * reference).sum() / lengths
    return distances


def golden_tokens(picture: UInt8Array) -> NDArray[np.float64]:
    """(16, 6) what the golden bundle's encoder says, as the script that made it draws it up."""
    weight = np.random.default_rng(0).normal(size=(6, 3, 8, 8)).astype(np.float32) / 8
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    normal = (picture / 255 - mean) / std
    cells = normal.reshape(4, 8, 4, 8, 3)
    return np.asarray(np.einsum("ryclk,dkyl->rcd", cells, weight).reshape(16, 6), np.float64)


def golden_pictures() -> tuple[UInt8Array, UInt8Array]:
    """The golden bundle's good part, and the scratched one."""
    names = ("golden/references/0.png", "golden/frames/0.png")
    good, bad = (decode_image((GOLDEN / name).read_bytes(), name=name) for name in names)
    return good, bad


def golden_answers() -> dict[str, bytes]:
    """Map and score of the golden frame, worked out in double precision by other code."""
    tokens = np.load(GOLDEN / "golden/expected/0/tokens_conv_1.npy", allow_pickle=False)
    distances = cosine_distances(tokens, golden_tokens(golden_pictures()[0])).min(axis=1)
    anomaly_map = enlarge(distances.reshape(4, 4), (SIDE, SIDE)).astype(np.float32)
    return {
        "golden/expected/0/map.npy": as_npy(anomaly_map),
        "golden/expected/0/score.npy": as_npy(anomaly_map.max()),
    }


def make_bundle(
    folder: Path, *, files: Mapping[str, bytes] | None = None, **manifest: Any
) -> Bundle:
    """A bundle around the golden encoder whose scorer is nearest neighbour.

    Args:
        folder: to write it in.
        files: contents that replace those of the same path.
        manifest: keys of the manifest that replace those of the golden one.
    """
    document = read_document(GOLDEN)
    for key in ("bundle_id", "created", "files"):
        del document[key]
    document["graphs"] = [graph for graph in document["graphs"] if graph["role"] == "encoder"]
    document["scorers"] = [{"name": "nearest_neighbour", "parameters": NN_PARAMETERS}]
    document |= manifest
    spoken_of = {path for graph in document["graphs"] for path in graph["paths"]}
    spoken_of |= {*document["golden"]["frames"], *document["golden"]["references"]}
    spoken_of.add("golden/expected/0/tokens_conv_1.npy")
    content = {**golden_answers(), **(files or {})}
    content |= {path: (GOLDEN / path).read_bytes() for path in spoken_of - content.keys()}
    draft = ManifestDraft.model_validate_json(canonical_json(document))
    write_bundle(folder, draft, content, CREATED)
    return open_bundle(folder)


def engine_config(**changes: Any) -> EngineConfig:
    """onnxruntime on one thread."""
    values: dict[str, Any] = {"name": "onnxruntime", "threads": 1}
    return EngineConfig(**(values | changes))


def camera_config(**changes: Any) -> CameraConfig:
    """A camera with no crop and no regions."""
    values: dict[str, Any] = {"name": "cam1", "source": "0"}
    return CameraConfig.model_validate_json(json.dumps(values | changes))


def numpy_model(
    bundle: Bundle, engine: NumpyEngine, *, extractor_id: str | None = None, **changes: Any
) -> Model:
    """A model whose encoder is a numpy engine; ``changes`` are those of the scorer's settings."""
    return Model(
        bundle=bundle,
        encoder=numpy_encoder(engine, extractor_id or bundle.manifest.extractor_id),
        factory=NearestNeighbourFactory(settings(**changes)),
        precision="fp32",
    )
