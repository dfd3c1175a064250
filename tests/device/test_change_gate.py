"""A scene that does not change is not encoded again, and a change is never hidden."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edge_sdk.change_gate import CELL_PX, ChangeGate
from edge_sdk.config import load_config
from edge_sdk.config.camera import ChangeGateConfig
from edge_sdk.records import (
    AnomalyResult,
    Box,
    Frame,
    Geometry,
    PatchFeatures,
    Preprocessed,
    UInt8Array,
)

SIDE = 64
GEOMETRY = Geometry(
    frame_size=(SIDE, SIDE), window=Box(x=0, y=0, width=SIDE, height=SIDE), inspected=None
)
SETTINGS = ChangeGateConfig()


def shown(pixels: UInt8Array, seconds: float = 0.0, geometry: Geometry = GEOMETRY) -> Preprocessed:
    frame = Frame(
        pixels=pixels,
        frame_id=int(1000 * seconds),
        source_id="cam1",
        captured_at=datetime.now(timezone.utc),
        monotonic_ns=int(seconds * 1e9),
    )
    return Preprocessed(tensor=pixels[None].copy(), frame=frame, geometry=geometry)


def judged(preprocessed: Preprocessed, score: float = 0.1) -> AnomalyResult:
    features = PatchFeatures(
        tokens={}, class_token=None, extractor_id="", preprocessed=preprocessed
    )
    anomaly_map = np.zeros((SIDE, SIDE), np.float32)
    return AnomalyResult(
        anomaly_map=anomaly_map, image_score=score, nearest=None, features=features
    )


def scene(seed: int = 0) -> UInt8Array:
    return np.random.default_rng(seed).integers(40, 200, (SIDE, SIDE, 3), np.uint8)


def gate_after(pixels: UInt8Array, settings: ChangeGateConfig = SETTINGS) -> ChangeGate:
    gate = ChangeGate(settings)
    assert gate.known(shown(pixels)) is None, "nothing was judged yet"
    gate.keep(judged(shown(pixels)))
    return gate


def test_the_same_scene_is_known_for_an_interval_and_is_told_of_the_new_frame() -> None:
    gate = gate_after(scene())
    later = shown(scene(), 0.9)
    known = gate.known(later)
    assert known is not None
    assert known.image_score == 0.1
    assert known.features.preprocessed is later
    assert gate.known(shown(scene(), SETTINGS.every_seconds)) is None, "then it is judged anyway"
    assert gate.known(shown(scene(), -0.1)) is None, "a clock that went back proves nothing"


def test_the_noise_of_a_sensor_is_no_change() -> None:
    gate = gate_after(scene())
    noise = np.random.default_rng(1).normal(0, 3, (SIDE, SIDE, 3))
    noisy = np.clip(scene() + noise, 0, 255).astype(np.uint8)
    assert gate.known(shown(noisy, 0.1)) is not None


@given(
    x=st.integers(0, SIDE - CELL_PX),
    y=st.integers(0, SIDE - CELL_PX),
    contrast=st.sampled_from([-40, 50]),
)
def test_a_defect_of_one_cell_is_seen_at_once_wherever_it_lies(
    x: int, y: int, contrast: int
) -> None:
    """Lying across four cells, it still fills a quarter of one."""
    gate = gate_after(scene())
    spoilt = scene().astype(int)
    spoilt[y : y + CELL_PX, x : x + CELL_PX] += contrast
    wanted = 16 * abs(contrast) / 4 / 16  # of the cell that it covers most
    gate = gate_after(scene(), ChangeGateConfig(level=max(1, int(wanted) - 2)))
    assert gate.known(shown(np.clip(spoilt, 0, 255).astype(np.uint8), 0.1)) is None


@given(steps=st.lists(st.integers(-3, 3), min_size=1, max_size=60), level=st.integers(1, 20))
def test_however_slowly_a_scene_drifts_what_stands_was_said_of_one_within_the_level(
    steps: list[int], level: int
) -> None:
    settings = ChangeGateConfig(level=level, every_seconds=3600)
    start = np.full((SIDE, SIDE, 3), 128, np.uint8)
    gate, last = gate_after(start, settings), 128
    now = 128
    for number, step in enumerate(steps, start=1):
        now = int(np.clip(now + step, 0, 255))
        item = shown(np.full((SIDE, SIDE, 3), now, np.uint8), number / 100)
        if gate.known(item) is None:
            gate.keep(judged(item))
            last = now
        assert abs(now - last) <= level


def test_another_crop_and_a_score_that_is_no_number_are_judged_again() -> None:
    gate = gate_after(scene())
    other = replace(GEOMETRY, window=Box(x=1, y=0, width=SIDE - 1, height=SIDE))
    assert gate.known(shown(scene(), 0.1, other)) is None
    gate.keep(judged(shown(scene()), float("nan")))
    assert gate.known(shown(scene(), 0.1)) is None


@pytest.mark.parametrize("mode", ["mqtt", "interval"])
def test_parts_are_never_gated(mode: str, tmp_path: Any) -> None:
    interval = ", interval_seconds: 1" if mode == "interval" else ""
    file = tmp_path / "box.yaml"
    file.write_text(
        "cameras: [{name: cam1, source: '0', change_gate: {}, "
        f"trigger: {{mode: {mode}{interval}}}}}]\n"
    )
    with pytest.raises(Exception, match=r"change_gate: .*every part is judged, but the mode is"):
        load_config(file)
