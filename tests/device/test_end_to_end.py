"""A model that goes from picture to map by itself: no references, and its numbers as they are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fakes import cell_tokens
from numpy.typing import NDArray
from scenes import SIDE, camera_config, fixture_part, frame_of, make_bundle

from edge_sdk.bundle import Bundle, GraphSpec, OutputSpec, ScorerSpec, TensorSpec
from edge_sdk.config import default_config
from edge_sdk.errors import BundleError, ConfigError, EngineError, InputError
from edge_sdk.model import Model
from edge_sdk.pipeline import Pipeline, build_pipeline
from edge_sdk.records import Reason, Verdict
from edge_sdk.references import ReferenceSet, ReferenceStore, TokenCache
from edge_sdk.runtime.compose import build_pipelines
from edge_sdk.scoring.end_to_end import (
    EndToEndFactory,
    EndToEndSettings,
    PictureEncoder,
    as_input,
)

PARAMETERS: dict[str, Any] = {
    "input": "nchw_float32",
    "score": "pred_score",
    "map": "anomaly_map",
    "highest_score": 1.0,
}
CELL_PX = 4
GOOD, BAD = fixture_part(0), fixture_part(1, is_complete=False)


@dataclass
class RednessEngine:
    """An ``InferenceEngine`` that knows one thing: a good part has a red label somewhere."""

    device: str = "cpu"
    outputs: Sequence[str] = ("pred_score", "anomaly_map", "pred_label")
    inputs: Mapping[str, tuple[int | None, ...]] = field(
        default_factory=lambda: {"input": (None, 3, SIDE, SIDE)}
    )
    answers: dict[str, NDArray[Any]] = field(default_factory=dict)
    """Given instead of what it works out."""

    def infer(self, tensors: Mapping[str, NDArray[Any]]) -> Mapping[str, NDArray[Any]]:
        (planes,) = tensors["input"]
        assert planes.dtype == np.float32
        assert 0 <= planes.min() <= planes.max() <= 1
        picture = np.rint(planes.transpose(1, 2, 0) * 255).astype(np.uint8)
        colour = cell_tokens(picture, CELL_PX)[:, :3]
        redness = (colour[:, 0] - colour[:, 1:].max(axis=1)).reshape(SIDE // CELL_PX, -1)
        score = np.clip(1 - redness.max() / 2, 0, 1)
        worked_out = {
            "pred_score": np.array([[score]], np.float32),
            "anomaly_map": np.clip(score - redness / 4, 0, 1)[None, None].astype(np.float32),
            "pred_label": np.array([[score > 0.5]]),
        }
        return worked_out | self.answers

    def close(self) -> None:
        """There is nothing to free."""


def graph_spec() -> GraphSpec:
    return GraphSpec(
        role="end_to_end",
        format="onnx",
        precision="fp32",
        paths=("graphs/encoder_fp32.onnx",),
        opset=17,
        inputs=(TensorSpec(name="input", shape=(None, 3, SIDE, SIDE)),),
        outputs=(
            OutputSpec(name="pred_score", shape=(None, 1)),
            OutputSpec(name="anomaly_map", shape=(None, 1, SIDE // CELL_PX, SIDE // CELL_PX)),
        ),
    )


def bundle_with(folder: Path, threshold: float | None) -> Bundle:
    return make_bundle(
        folder,
        graphs=[graph_spec().model_dump(mode="json", exclude_none=False)],
        scorers=[{"name": "end_to_end", "parameters": PARAMETERS}],
        threshold={"value": threshold, "method": "anomalib", "n": 0},
        parity=[],
    )


@dataclass
class Site:
    """A box with an imported model, and a state folder."""

    bundle: Bundle
    engine: RednessEngine
    state: Path

    @property
    def model(self) -> Model:
        (spec,) = self.bundle.manifest.scorers
        settings = EndToEndSettings.from_spec(spec, graph_spec())
        return Model(
            bundle=self.bundle,
            encoder=PictureEncoder(self.bundle.manifest.extractor_id),
            factory=EndToEndFactory(self.engine, settings),
            precision="fp32",
            needs_references=False,
            takes_references=False,
            matches_brightness=False,
            takes_regions=False,
            highest_score=settings.highest_score,
        )

    def start(self, references: ReferenceSet | None = None, **camera: Any) -> Pipeline:
        return build_pipeline(
            self.model, camera_config(**camera), references, TokenCache(self.state)
        )

    def enrol(self, *pictures: Any) -> ReferenceSet:
        frames = [frame_of(picture) for picture in pictures]
        return ReferenceStore(self.state, "cam1").save("default", frames, source="test")


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(bundle_with(tmp_path / "bundle", 0.5), RednessEngine(), tmp_path / "state")


def test_nothing_need_be_enrolled_and_the_bundles_threshold_is_the_cut(site: Site) -> None:
    pipeline = site.start()
    good, bad = pipeline.inspect(frame_of(GOOD)), pipeline.inspect(frame_of(BAD))
    assert (good.verdict, bad.verdict) == (Verdict.NORMAL, Verdict.ANOMALOUS)
    assert (good.threshold, good.provisional) == (0.5, True)
    assert pipeline.reference_label is None
    assert pipeline.decider.threshold.method == "anomalib"


def test_the_score_is_the_graphs_own_whatever_the_verdict(site: Site) -> None:
    pipeline = site.start()
    for picture in (GOOD, BAD):
        result = pipeline.inspect(frame_of(picture)).result
        assert result is not None
        answer = site.engine.infer({"input": as_input(picture[None], "nchw_float32")})
        assert result.image_score == float(answer["pred_score"][0, 0])
        assert result.anomaly_map.shape == (SIDE, SIDE)
        assert result.anomaly_map.max() == pytest.approx(answer["anomaly_map"].max(), abs=1e-3)
        assert result.nearest is None


def test_pictures_reach_the_graph_as_they_are_though_the_lamp_has_aged(site: Site) -> None:
    references = site.enrol(GOOD, fixture_part(2))
    dim = (GOOD * 0.6).astype(np.uint8)
    result = site.start(references).inspect(frame_of(dim)).result
    assert result is not None
    answer = site.engine.infer({"input": as_input(dim[None], "nchw_float32")})
    assert result.image_score == float(answer["pred_score"][0, 0])


def test_a_threshold_fitted_on_enrolled_pictures_outranks_the_bundles(site: Site) -> None:
    references = site.enrol(GOOD, fixture_part(2), fixture_part(3))
    pipeline = site.start(references)
    fitted = pipeline.decider.threshold
    assert fitted.method != "anomalib"
    assert fitted.value == max(fitted.good_scores) < 0.5
    assert pipeline.reference_label == "default/1"
    assert site.start(references, threshold_override=0.4).decider.threshold.value == 0.4


def test_without_any_threshold_it_is_said_what_to_do(tmp_path: Path) -> None:
    site = Site(bundle_with(tmp_path / "bundle", None), RednessEngine(), tmp_path / "state")
    with pytest.raises(InputError, match=r"no threshold.*edge-enroll.*threshold_override"):
        site.start()
    assert site.start(threshold_override=0.5).inspect(frame_of(BAD)).verdict is Verdict.ANOMALOUS


def test_a_threshold_that_no_score_can_exceed_is_refused(site: Site) -> None:
    site.engine.answers = {"pred_score": np.ones((1, 1), np.float32)}
    with pytest.raises(InputError, match="nothing could ever be anomalous"):
        site.start(site.enrol(GOOD, GOOD))
    with pytest.raises(InputError, match=r"threshold 1 \(override\)"):
        site.start(threshold_override=1.0)


def test_regions_are_refused_and_a_crop_is_not(site: Site) -> None:
    corner = {"name": "corner", "mode": "exclude", "polygon": [(0, 0), (6, 0), (6, 6)]}
    with pytest.raises(ConfigError, match=r"regions: .* scores whole pictures"):
        site.start(regions=(corner,))
    pipeline = site.start(crop={"x": 8, "y": 4, "width": 24, "height": 20})
    result = pipeline.inspect(frame_of(GOOD)).result
    assert result is not None
    assert result.anomaly_map[:4].max() == 0
    assert result.anomaly_map[4:24, 8:].max() > 0


@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize("output", ["pred_score", "anomaly_map"])
def test_an_answer_that_is_not_finite_is_a_fault(site: Site, output: str, value: float) -> None:
    pipeline = site.start()
    shape = {"pred_score": (1, 1), "anomaly_map": (1, 1, 8, 8)}[output]
    site.engine.answers = {output: np.full(shape, value, np.float32)}
    decision = pipeline.inspect(frame_of(GOOD))
    assert (decision.verdict, decision.reason) == (Verdict.FAULT, Reason.NON_FINITE_SCORE)


@pytest.mark.parametrize(
    "answers",
    [
        {"pred_score": np.zeros((2, 1), np.float32)},
        {"anomaly_map": np.zeros((2, 1, 8, 8), np.float32)},
        {"anomaly_map": np.zeros((64,), np.float32)},
        {"pred_score": np.zeros((1, 1), bool)},
    ],
    ids=["two scores", "two maps", "a flat map", "a label for a score"],
)
def test_an_answer_in_another_shape_is_a_fault(site: Site, answers: dict[str, Any]) -> None:
    pipeline = site.start()
    site.engine.answers = answers
    decision = pipeline.inspect(frame_of(GOOD))
    assert (decision.verdict, decision.reason) == (Verdict.FAULT, Reason.ENGINE_ERROR)


def test_a_box_without_enrolment_starts_unless_a_set_was_asked_for(site: Site) -> None:
    config = default_config()
    (camera,) = config.cameras
    here = config.model_copy(update={"state_dir": site.state})
    assert build_pipelines(site.model, here)[camera.name].reference_label is None
    named = camera.model_copy(update={"reference_set": "night"})
    with pytest.raises(InputError, match="no reference set 'night'"):
        build_pipelines(site.model, here.model_copy(update={"cameras": (named,)}))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"score": "pred_scores"}, "expected two of"),
        ({"map": "pred_score"}, "expected two of"),
        ({"input": "nchw_uint8"}, "unknown kind"),
        ({"highest_score": "one"}, "expected a number"),
        ({"sharpness": 1}, "unknown parameters"),
    ],
)
def test_parameters_that_do_not_fit_the_graph_are_refused(
    change: dict[str, Any], said: str
) -> None:
    spec = ScorerSpec(name="end_to_end", parameters=PARAMETERS | change)
    with pytest.raises(BundleError, match=said):
        EndToEndSettings.from_spec(spec, graph_spec())


def test_a_missing_parameter_is_named() -> None:
    spec = ScorerSpec(name="end_to_end", parameters={"input": "nchw_float32"})
    with pytest.raises(BundleError, match="expected a parameter 'score'"):
        EndToEndSettings.from_spec(spec, graph_spec())


def test_a_loaded_graph_without_the_promised_output_is_refused() -> None:
    spec = ScorerSpec(name="end_to_end", parameters=PARAMETERS)
    settings = EndToEndSettings.from_spec(spec, graph_spec())
    with pytest.raises(EngineError, match="pred_score and anomaly_map, got"):
        EndToEndFactory(RednessEngine(outputs=("pred_score",)), settings)


def test_colours_first_or_last_both_give_the_pictures_size(tmp_path: Path) -> None:
    last = graph_spec().model_copy(
        update={"inputs": (TensorSpec(name="input", shape=(None, SIDE, SIDE, 3)),)}
    )
    wrong = graph_spec().model_copy(
        update={"inputs": (TensorSpec(name="input", shape=(None, 3, SIDE, SIDE + 1)),)}
    )
    scorers = [{"name": "end_to_end", "parameters": PARAMETERS}]
    make_bundle(
        tmp_path / "last", graphs=[last.model_dump(mode="json")], scorers=scorers, parity=[]
    )
    with pytest.raises(ValueError, match="expected one input"):
        make_bundle(
            tmp_path / "wrong", graphs=[wrong.model_dump(mode="json")], scorers=scorers, parity=[]
        )
