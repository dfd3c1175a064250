"""A computer with one triggered camera, and ``edge-run`` on it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import cv2
from commands import Box, Running, bad_part, good_part, write_config, write_pictures
from plant import Plant
from scenes import make_bundle

DEVICE: Final = "press-3"
BAD_FROM: Final = 100
"""Frame of the video from which the parts are bad."""
ABSENT: Final = next(number for number in count() if not Path(f"/dev/video{number}").exists())
_FRAMES_PER_SECOND: Final = 25.0
_FRAMES: Final = 1500


def enroll_box(
    folder: Path, *, is_bad: Callable[[int], bool] = lambda number: number >= BAD_FROM
) -> Box:
    """A computer with a small bundle, references, and two videos, one without bad parts.

    Args:
        folder: its own.
        is_bad: tells of a frame of the other video whether it shows a bad part.
    """
    make_bundle(folder / "bundle")
    pictures = write_pictures(folder / "good", [good_part(seed) for seed in range(4)])
    box = Box(folder)
    box.run("enroll", "--bundle", folder / "bundle", "--camera", pictures).expect(0)
    write_pictures(folder / "bad", [bad_part(seed) for seed in range(4)])
    _write_video(folder / "line.avi", is_bad)
    _write_video(folder / "good.avi", lambda _: False)
    return box


def _write_video(path: Path, is_bad: Callable[[int], bool]) -> None:
    """A minute of parts."""
    video = cv2.VideoWriter(
        str(path), cv2.VideoWriter.fourcc(*"FFV1"), _FRAMES_PER_SECOND, (32, 32)
    )
    assert video.isOpened()
    for number in range(_FRAMES):
        part = bad_part(number % 50) if is_bad(number) else good_part(number % 50)
        video.write(cv2.cvtColor(part, cv2.COLOR_RGB2BGR))
    video.release()


def is_bad_in_fives(frame: int) -> bool:
    """For ``enroll_box``: five good parts, five bad ones, and so on."""
    return frame // 5 % 2 == 1


def true_verdict(result: dict[str, Any]) -> str:
    """What a result of such a video should say, by the frame that it is about."""
    return "anomalous" if is_bad_in_fives(result["frame_id"]) else "normal"


def device_file(box: Box, *, settings: dict[str, Any] | None = None, **camera: Any) -> Path:
    """A device file with one triggered camera that reads the video as a camera would.

    Args:
        box: whose.
        settings: groups of the device file beside its camera.
        camera: keys of the camera; None takes one away.
    """
    values = {
        "name": "cam1",
        "source": f"file:{box.folder / 'line.avi'}",
        "pace": "realtime",
        "trigger": {"mode": "mqtt"},
        **camera,
    }
    return write_config(
        box.folder / "box.yaml",
        device={"name": DEVICE},
        bundle=str(box.folder / "bundle"),
        cameras=[{key: value for key, value in values.items() if value is not None}],
        **(settings or {}),
    )


@contextmanager
def service(box: Box, plant: Plant, config: Path, *options: str) -> Iterator[Running]:
    """``edge-run``, listening for triggers."""
    births = len(plant.all_of("status"))
    run = ("run", "--config", config, "--mqtt", plant.address, "--json", *options)
    with box.start(*run) as running:
        plant.wait_until(
            lambda plant: any(s["online"] for s in plant.all_of("status")[births:]), 30
        )
        yield running


def results(plant: Plant) -> list[dict[str, Any]]:
    """All ``result`` messages so far, each once: a repeat carries the same ``message_id``."""
    return list({message["message_id"]: message for message in plant.messages("result")}.values())


def wait_for_results(plant: Plant, number: int) -> None:
    """Wait until so many parts have their result."""
    plant.wait_until(lambda plant: len(results(plant)) >= number, 20)


def trigger(plant: Plant, **values: Any) -> None:
    """Send ``cmd/trigger``."""
    plant.command("trigger", values, device=DEVICE)
