from __future__ import annotations

import importlib.util
import json
import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_samples import GOLDEN
from fakes import NumpyEngine, numpy_encoder, numpy_graph
from scenes import (
    LABEL,
    NN_PARAMETERS,
    SIDE,
    camera_config,
    engine_config,
    fixture_part,
    flat,
    frame_of,
    golden_pictures,
    make_bundle,
    numpy_model,
    settings,
)

from edge_sdk.bundle import Bundle, open_bundle
from edge_sdk.config import CameraConfig
from edge_sdk.encoder import GraphEncoder
from edge_sdk.errors import BundleError, ConfigError, EngineError, InputError
from edge_sdk.imaging import scale_brightness
from edge_sdk.model import Model, load_model
from edge_sdk.pipeline import Pipeline, as_frame, build_pipeline, build_preprocessor
from edge_sdk.records import FloatArray, Reason, Severity, UInt8Array, Verdict
from edge_sdk.references import ReferenceSet, ReferenceStore, TokenCache
from edge_sdk.scoring.nearest_neighbour import NearestNeighbourFactory

PICTURES = [fixture_part(seed) for seed in range(4)]
VIEWS = 8
"""Varied copies of each reference that the threshold is fitted on."""
WHOLE_START = len(PICTURES) * (1 + VIEWS)
"""Pictures to encode where nothing is known of the references yet."""
HAS_OPENVINO = importlib.util.find_spec("openvino") is not None


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    return make_bundle(tmp_path_factory.mktemp("pipeline") / "bundle")


@dataclass(kw_only=True)
class Site:
    """A state directory with one enrolled camera, and a numpy engine that counts."""

    state: Path
    bundle: Bundle
    engine: NumpyEngine
    references: ReferenceSet

    def model(self, **changes: Any) -> Model:
        return numpy_model(self.bundle, self.engine, **changes)

    def start(self, model: Model | None = None, camera: CameraConfig | None = None) -> Pipeline:
        """What a start of the program does; the engine counts from 0 again."""
        self.engine.calls = 0
        return build_pipeline(
            model or self.model(),
            camera or camera_config(),
            self.references,
            TokenCache(self.state),
        )

    def enrol(self, pictures: list[UInt8Array]) -> None:
        store = ReferenceStore(self.state, "cam1")
        frames = [frame_of(picture) for picture in pictures]
        self.references = store.save("default", frames, source="test")

    def thresholds(self) -> list[Path]:
        return sorted((self.references.folder / "thresholds").glob("*.json"))


@pytest.fixture
def site(bundle: Bundle, tmp_path: Path) -> Site:
    store = ReferenceStore(tmp_path, "cam1")
    frames = [frame_of(picture) for picture in PICTURES]
    references = store.save("default", frames, source="test")
    return Site(state=tmp_path, bundle=bundle, engine=NumpyEngine(), references=references)


def test_a_good_part_is_normal_and_a_part_without_its_label_is_not(site: Site) -> None:
    pipeline = site.start()
    good = pipeline.inspect(frame_of(fixture_part(50)))
    assert (good.verdict, good.reason) == (Verdict.NORMAL, Reason.BELOW_THRESHOLD)
    assert good.result is not None
    assert good.regions == ()
    bad = pipeline.inspect(frame_of(fixture_part(51, is_complete=False)))
    assert (bad.verdict, bad.severity) == (Verdict.ANOMALOUS, Severity.CRITICAL)
    worst = bad.regions[0]
    assert LABEL[0].start - 6 <= worst.y <= LABEL[0].start + 2
    assert LABEL[1].start - 6 <= worst.x <= LABEL[1].start + 2
    assert bad.result is not None
    assert worst.score == bad.result.image_score


def test_every_stage_is_timed(site: Site) -> None:
    decision = site.start().inspect(frame_of(PICTURES[0], age_seconds=0.5))
    assert list(decision.latency_ms) == ["capture", "preprocess", "encode", "score", "decide"]
    assert 500 <= decision.latency_ms["capture"] < 2000
    assert all(value >= 0 for value in decision.latency_ms.values())


def test_a_mono_camera_is_judged_too(site: Site) -> None:
    grey = [picture.mean(axis=2, keepdims=True).astype(np.uint8) for picture in PICTURES]
    site.enrol(grey)
    assert site.start().inspect(frame_of(grey[0])).verdict is Verdict.NORMAL


def spoilt(value: float) -> Any:
    def spoil(tokens: FloatArray) -> FloatArray:
        tokens = tokens.copy()
        tokens[len(tokens) // 2, 1] = value
        return tokens

    return spoil


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_tokens_that_are_not_finite_are_a_fault(site: Site, value: float) -> None:
    pipeline = site.start()
    site.engine.spoils = spoilt(value)
    decision = pipeline.inspect(frame_of(PICTURES[0]))
    assert (decision.verdict, decision.reason) == (Verdict.FAULT, Reason.NON_FINITE_SCORE)


def test_an_engine_that_fails_is_a_fault_and_the_next_frame_is_judged_again(site: Site) -> None:
    pipeline = site.start()
    site.engine.fails_with = EngineError("out of memory")
    failed = pipeline.inspect(frame_of(PICTURES[0]))
    assert (failed.verdict, failed.reason) == (Verdict.FAULT, Reason.ENGINE_ERROR)
    assert "out of memory" in failed.detail
    assert failed.frame is not None
    site.engine.fails_with = None
    assert pipeline.inspect(frame_of(PICTURES[0])).verdict is Verdict.NORMAL


@pytest.mark.parametrize("spoil", [lambda tokens: tokens[1:], lambda tokens: tokens[0]])
def test_an_engine_that_answers_in_another_shape_is_a_fault(site: Site, spoil: Any) -> None:
    pipeline = site.start()
    site.engine.spoils = spoil
    decision = pipeline.inspect(frame_of(PICTURES[0]))
    assert (decision.verdict, decision.reason) == (Verdict.FAULT, Reason.ENGINE_ERROR)


def test_an_engine_that_answers_nothing_but_zeros_is_never_normal(site: Site) -> None:
    pipeline = site.start()
    site.engine.spoils = np.zeros_like
    assert pipeline.inspect(frame_of(PICTURES[0])).verdict is not Verdict.NORMAL


def test_references_encoded_by_a_dead_engine_are_refused(site: Site) -> None:
    site.engine.spoils = np.zeros_like
    with pytest.raises(InputError):
        site.start()


@pytest.mark.parametrize(
    ("picture", "age_seconds", "reason"),
    [
        (PICTURES[0], 3600.0, Reason.STALE_FRAME),
        (flat(0), 0.0, Reason.BLACK_FRAME),
        (flat(255), 0.0, Reason.SATURATED_FRAME),
    ],
    ids=["stale", "black", "saturated"],
)
def test_a_picture_that_says_nothing_of_the_part_is_a_fault(
    site: Site, picture: UInt8Array, age_seconds: float, reason: Reason
) -> None:
    decision = site.start().inspect(frame_of(picture, age_seconds=age_seconds))
    assert (decision.verdict, decision.reason) == (Verdict.FAULT, reason)


@pytest.mark.parametrize("has_crop", [False, True])
def test_a_frame_of_another_size_than_the_references_is_a_fault(site: Site, has_crop: bool) -> None:
    crop = {"x": 0, "y": 0, "width": 32, "height": 32} if has_crop else None
    pipeline = site.start(camera=camera_config(crop=crop))
    doubled = np.repeat(np.repeat(PICTURES[0], 2, axis=0), 2, axis=1)
    for other in (doubled, doubled[:SIDE], doubled[:, :SIDE], PICTURES[0][:24]):
        decision = pipeline.inspect(frame_of(other))
        assert (decision.verdict, decision.reason) == (Verdict.FAULT, Reason.WRONG_SIZE)
    assert pipeline.inspect(frame_of(PICTURES[0])).verdict is Verdict.NORMAL


def test_references_of_another_extractor_are_never_compared(site: Site) -> None:
    running = site.start()
    camera = camera_config()
    preprocess = build_preprocessor(site.model(), camera)
    features = [site.model().encoder.encode(preprocess(as_frame(picture))) for picture in PICTURES]
    mixed = Pipeline(
        preprocess=preprocess,
        encoder=numpy_encoder(site.engine, "sha256:" + "0e" * 32),
        scorer=NearestNeighbourFactory(settings()).fit(features),
        decider=running.decider,
        bundle_id=running.bundle_id,
        references=site.references,
    )
    decision = mixed.inspect(frame_of(PICTURES[0]))
    assert decision.verdict is Verdict.FAULT
    assert "references were encoded by" in decision.detail


def test_a_set_without_pictures_is_refused(site: Site) -> None:
    site.references = replace(site.references, pictures=())
    with pytest.raises(InputError):
        site.start()


def test_one_reference_needs_a_threshold_that_was_given(site: Site) -> None:
    site.enrol(PICTURES[:1])
    with pytest.raises(InputError, match="at least 2 good pictures, got 1"):
        site.start()
    pipeline = site.start(camera=camera_config(threshold_override=0.2))
    assert pipeline.inspect(frame_of(PICTURES[1])).verdict is Verdict.NORMAL


def test_a_given_threshold_wins_and_nothing_is_fitted(site: Site) -> None:
    pipeline = site.start(camera=camera_config(threshold_override=0.75))
    assert pipeline.decider.threshold.value == 0.75
    assert pipeline.decider.threshold.method == "override"
    assert site.engine.calls == len(PICTURES)
    assert site.thresholds() == []


def test_a_second_start_encodes_nothing_and_judges_the_same(site: Site) -> None:
    first = site.start()
    assert site.engine.calls == WHOLE_START
    again = site.start()
    assert site.engine.calls == 0
    assert again.decider.threshold == first.decider.threshold
    scores = [pipeline.inspect(frame_of(fixture_part(60))).result for pipeline in (first, again)]
    assert all(score is not None for score in scores)
    assert len({score.image_score for score in scores if score is not None}) == 1


def test_pictures_whose_tokens_are_lost_or_damaged_are_encoded_again(site: Site) -> None:
    site.start()
    first, second, *_ = sorted((site.state / "token_cache").iterdir())
    first.unlink()
    data = second.read_bytes()
    second.write_bytes(data[: len(data) // 2])
    site.start()
    assert site.engine.calls == 2
    site.start()
    assert site.engine.calls == 0


def test_another_extractor_or_precision_starts_anew_and_the_first_is_still_known(
    site: Site, tmp_path: Path
) -> None:
    site.start()
    other_id = "sha256:" + "0e" * 32
    newer = make_bundle(tmp_path / "newer", extractor_id=other_id)
    for model in (
        numpy_model(newer, site.engine),
        replace(site.model(), precision="int8"),
    ):
        site.start(model)
        assert site.engine.calls == WHOLE_START
    assert len(site.thresholds()) == 3
    site.start()
    assert site.engine.calls == 0


def test_another_crop_starts_anew_and_other_regions_refit_the_threshold_only(site: Site) -> None:
    site.start()
    cropped = camera_config(crop={"x": 0, "y": 4, "width": 32, "height": 24})
    site.start(camera=cropped)
    assert site.engine.calls == WHOLE_START
    corner = {"name": "corner", "mode": "exclude", "polygon": [(0, 0), (6, 0), (6, 6)]}
    site.start(camera=camera_config(regions=(corner,)))
    assert site.engine.calls == len(PICTURES) * VIEWS
    assert len(site.thresholds()) == 3
    for camera in (camera_config(), cropped):
        site.start(camera=camera)
        assert site.engine.calls == 0


def test_other_parameters_of_the_scorer_refit_the_threshold_only(
    site: Site, tmp_path: Path
) -> None:
    site.start()
    scorer = {"name": "nearest_neighbour", "parameters": NN_PARAMETERS | {"neighbourhood": 3}}
    changed = make_bundle(tmp_path / "changed", scorers=[scorer])
    site.start(numpy_model(changed, site.engine, neighbourhood=3))
    assert site.engine.calls == len(PICTURES) * VIEWS
    assert len(site.thresholds()) == 2


def test_another_enrolment_is_fitted_anew(site: Site) -> None:
    site.start()
    site.enrol([*PICTURES[:3], fixture_part(70)])
    site.start()
    assert site.engine.calls >= 1 + len(PICTURES) * VIEWS  # three pictures may be known
    assert len(site.thresholds()) == 1
    site.start()
    assert site.engine.calls == 0


def test_a_threshold_that_was_spoilt_on_the_disk_stops_the_start(site: Site) -> None:
    site.start()
    (path,) = site.thresholds()
    path.write_text(json.dumps(json.loads(path.read_bytes()) | {"value": float("nan")}))
    with pytest.raises(InputError, match=path.name):
        site.start()


def test_a_dark_field_station_is_judged_and_its_dead_camera_is_a_fault(site: Site) -> None:
    dark = [(picture // 20).astype(np.uint8) for picture in PICTURES]
    site.enrol(dark)
    pipeline = site.start()
    assert pipeline.inspect(frame_of(dark[1])).verdict is Verdict.NORMAL
    dead = pipeline.inspect(frame_of(flat(0)))
    assert (dead.verdict, dead.reason) == (Verdict.FAULT, Reason.BLACK_FRAME)


def test_a_station_with_a_white_background_is_judged(site: Site) -> None:
    white = []
    for picture in PICTURES:
        bright = flat(255)
        bright[LABEL] = picture[LABEL]
        white.append(bright)
    site.enrol(white)
    pipeline = site.start()
    assert pipeline.inspect(frame_of(white[1])).verdict is Verdict.NORMAL
    blinded = pipeline.inspect(frame_of(flat(255)))
    assert (blinded.verdict, blinded.reason) == (Verdict.FAULT, Reason.SATURATED_FRAME)


def test_heat_outside_the_regions_does_not_count(site: Site) -> None:
    stained = fixture_part(80)
    stained[0:12, 0:12] = (0, 255, 0)
    corner = {"name": "corner", "mode": "exclude", "polygon": [(0, 0), (15, 0), (15, 15), (0, 15)]}
    everywhere = site.start().inspect(frame_of(stained))
    elsewhere = site.start(camera=camera_config(regions=(corner,))).inspect(frame_of(stained))
    assert everywhere.verdict is Verdict.ANOMALOUS
    assert elsewhere.verdict is Verdict.NORMAL


@pytest.mark.parametrize("gain", [0.92, 1.08])
def test_a_good_part_under_a_lamp_that_drifts_is_normal(site: Site, gain: float) -> None:
    pipeline = site.start()
    for picture in PICTURES:
        decision = pipeline.inspect(frame_of(scale_brightness(picture, gain)))
        assert decision.verdict is Verdict.NORMAL


def test_the_limits_of_the_device_file_are_obeyed(site: Site) -> None:
    limits = {"max_frame_age_seconds": 60.0}
    camera = camera_config(faults=limits, severity={"critical_margin": 1000.0})
    pipeline = site.start(camera=camera)
    old = pipeline.inspect(frame_of(fixture_part(51, is_complete=False), age_seconds=30))
    assert old.verdict is Verdict.ANOMALOUS
    assert old.margin is not None
    assert 1 < old.margin < 1000
    assert old.severity is Severity.WARN


def test_a_bundle_is_loaded_and_judges_with_its_own_graph(bundle: Bundle, tmp_path: Path) -> None:
    good, scratched = golden_pictures()
    model = load_model(bundle, engine_config())
    store = ReferenceStore(tmp_path, "cam1")
    references = store.save("default", [frame_of(good), frame_of(good)], source="test")
    pipeline = build_pipeline(model, camera_config(), references, TokenCache(tmp_path))
    assert pipeline.bundle_id == bundle.manifest.bundle_id
    assert pipeline.inspect(frame_of(good)).verdict is Verdict.NORMAL
    decision = pipeline.inspect(frame_of(scratched))
    assert decision.verdict is Verdict.ANOMALOUS
    assert decision.result is not None
    y, _ = np.unravel_index(decision.result.anomaly_map.argmax(), (SIDE, SIDE))
    assert 14 <= y < 26  # the scratch is in rows 18 to 21, cells are 8 pixels high


@pytest.mark.skipif(not HAS_OPENVINO, reason="the openvino extra is not installed")
def test_onnx_comes_before_openvinos_own_format_and_both_load(bundle: Bundle) -> None:
    model = load_model(bundle, engine_config(name="openvino"))
    good, _ = golden_pictures()
    preprocess = build_preprocessor(model, camera_config())
    tokens = model.encoder.encode(preprocess(frame_of(good))).tokens["conv", 1].rows
    reference = load_model(bundle, engine_config()).encoder
    expected = reference.encode(preprocess(frame_of(good))).tokens["conv", 1].rows
    assert np.abs(tokens - expected).max() < 1e-4


def test_a_precision_that_the_bundle_lacks_is_refused_with_what_it_has(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match=r"precision int8; it has \[\('fp32', 'onnx'\)"):
        load_model(bundle, engine_config(precision="int8"))


def test_of_several_precisions_the_most_exact_is_taken(tmp_path: Path) -> None:
    document = make_bundle(tmp_path / "plain").manifest.document()
    exact = next(graph for graph in document["graphs"] if graph["format"] == "onnx")
    less = exact | {"precision": "int8", "paths": ["graphs/encoder_int8.onnx"]}
    tolerance = document["golden"]["tolerance"]
    both = make_bundle(
        tmp_path / "both",
        graphs=[less, exact],
        golden=document["golden"] | {"tolerance": tolerance | {"int8": tolerance["fp32"]}},
        files={"graphs/encoder_int8.onnx": (GOLDEN / "graphs/encoder_fp32.onnx").read_bytes()},
    )
    assert load_model(both, engine_config()).precision == "fp32"
    assert load_model(both, engine_config(precision="int8")).precision == "int8"


def test_a_bundle_with_a_scorer_that_this_runtime_lacks_is_refused() -> None:
    with pytest.raises(BundleError, match="no scorer 'few_shot'"):
        load_model(open_bundle(GOLDEN), engine_config())


def test_a_graph_without_an_output_of_the_manifest_is_refused() -> None:
    engine = NumpyEngine()
    graph = numpy_graph(engine)
    engine.outputs = ("fine",)
    with pytest.raises(EngineError, match=r"outputs \['coarse'\] of the manifest are not in it"):
        GraphEncoder(engine, graph, "sha256:" + "0d" * 32)


def test_pictures_of_a_folder_may_differ_in_size(site: Site) -> None:
    tall = np.repeat(PICTURES[0], 2, axis=0)
    site.enrol([*PICTURES, tall])
    folder = camera_config(source="dir:parts")
    assert site.start(camera=folder).inspect(frame_of(tall)).verdict is Verdict.NORMAL


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"crop": {"x": 0, "y": 8, "width": 32, "height": 32}},
            "cam1: crop: expected inside the 32x32 picture (x 0 to 32, y 0 to 32), got x 0 to 32",
        ),
        (
            {
                "regions": [
                    {"name": "all", "mode": "include", "polygon": [[0, 0], [32, 0], [32, 32]]},
                    {"name": "chain", "mode": "exclude", "polygon": [[0, 0], [9, 0], [33, 9]]},
                ]
            },
            "cam1: regions[1].polygon[2]: region 'chain': expected a corner inside the 32x32",
        ),
    ],
)
def test_a_crop_or_polygon_outside_the_frame_is_refused(
    site: Site, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        site.start(camera=camera_config(**changes))


def test_a_crop_needs_references_of_one_size(site: Site) -> None:
    site.enrol([*PICTURES, np.repeat(PICTURES[0], 2, axis=0)])
    crop = {"x": 0, "y": 0, "width": 16, "height": 16}
    with pytest.raises(InputError, match="references of one size"):
        site.start(camera=camera_config(source="dir:parts", crop=crop))


def test_with_a_change_gate_a_scene_that_does_not_change_is_encoded_once(site: Site) -> None:
    pipeline = site.start(camera=camera_config(change_gate={}))
    before = site.engine.calls
    good, bad = fixture_part(50), fixture_part(51, is_complete=False)
    decisions = [pipeline.inspect(frame_of(good)) for _ in range(4)]
    assert site.engine.calls == before + 1
    assert {decision.verdict for decision in decisions} == {Verdict.NORMAL}
    assert ["encode" in decision.latency_ms for decision in decisions] == [True, *[False] * 3]
    assert len({decision.frame.monotonic_ns for decision in decisions if decision.frame}) == 4
    assert pipeline.inspect(frame_of(bad)).verdict is Verdict.ANOMALOUS
    assert site.engine.calls == before + 2
