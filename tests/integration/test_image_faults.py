"""A lens that loses its focus while the line runs: the plant is told what it is, and its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import pytest
from commands import CLIP, Box
from plant import Plant
from spoilt_pictures import defocused

from edge_sdk.capture.video import VideoSource

GOOD = (20, 150)
"""Frames with good parts."""


@pytest.fixture(autouse=True)
def _needs_mosquitto(mosquitto_path: Path) -> None:
    """Skip where there is no broker (CI fails instead)."""


def write_video(path: Path) -> None:
    """Four seconds in focus, six out of it by 2 px, and six in focus again."""
    source = VideoSource(CLIP, source_id="clip", pace="every")
    good = [frame.pixels for frame in source.frames()][GOOD[0] : GOOD[1]]
    height, width = good[0].shape[:2]
    video = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"FFV1"), 15.0, (width, height))
    assert video.isOpened()
    for number in range(16 * 15):
        picture = good[number % len(good)]
        is_blurred = 4 * 15 <= number < 10 * 15
        picture = defocused(picture, 2) if is_blurred else picture
        video.write(cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    video.release()


@pytest.mark.slow
def test_a_lens_out_of_focus_is_on_the_state_and_gone_from_it_when_it_is_mended(
    tmp_path: Path,
) -> None:
    box = Box(tmp_path)
    box.run("enroll", "--camera", f"file:{CLIP}", "--last-frame", 165).expect(0)
    assert len(list(box.state.glob("cameras/*/reference_sets/default/0001/statistics/*.npz"))) == 1
    write_video(tmp_path / "line.avi")
    with Plant() as plant:
        words = ("run", "--camera", f"file:{tmp_path / 'line.avi'}", "--pace", "realtime")
        answer = box.run(*words, "--mqtt", plant.address, "--json").expect(0).answer

    def cameras() -> list[dict[str, Any]]:
        return [one for state in plant.all_of("state") for one in state["cameras"].values()]

    said = [(one["state"], one["reason"]) for one in cameras() if one["verdict"] is not None]
    assert any(reason == "defocused" and state != "ok" for state, reason in said), said
    assert said[-1] == ("ok", None)
    opened, closed = plant.messages("fault")
    assert (opened["kind"], opened["reason"]) == ("fault.open", "defocused")
    assert closed["kind"] == "fault.close"
    assert "log2 of the fine detail lost" in opened["detail"]
    assert answer["cameras"]["cam1"]["latency_ms"]["watch"]["p50"] > 0
