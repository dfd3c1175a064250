"""A camera that a test plays by hand, a tiny real pipeline, and a rig that joins them."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timezone
from pathlib import Path
from queue import Queue
from typing import Any, TypeAlias

import jsonschema
import numpy as np

from edge_sdk.alerting.ledger import TriggerNote
from edge_sdk.alerting.payload import CameraState, CameraStatus, encode_message, load_schema
from edge_sdk.bundle.specs import InputSpec, ResizeSpec
from edge_sdk.config import CameraConfig
from edge_sdk.decision import Decider, FaultLimits
from edge_sdk.errors import CaptureError, EdgeError, EngineError
from edge_sdk.outputs.line import OutputLine
from edge_sdk.pipeline import Pipeline, as_frame
from edge_sdk.preprocess import Preprocessor
from edge_sdk.protocols import FrameSource
from edge_sdk.records import (
    Decision,
    Frame,
    Message,
    PatchFeatures,
    Preprocessed,
    Threshold,
    TokenGrid,
    UInt8Array,
)
from edge_sdk.references import ReferenceStore
from edge_sdk.runtime.dispatch import Dispatch, Dispatcher
from edge_sdk.runtime.drafts import DraftMaker
from edge_sdk.runtime.feed import FrameFeed
from edge_sdk.runtime.loop import MessageListener, Outbox, Runtime
from edge_sdk.runtime.outbox import number_draft
from edge_sdk.runtime.station import Station
from edge_sdk.runtime.summary import CameraSummary
from edge_sdk.runtime.triggers import TriggerCommand, TriggerDesk
from edge_sdk.runtime.writer import StoredListener
from edge_sdk.scoring.nearest_neighbour import NearestNeighbourFactory, NearestNeighbourSettings

BUNDLE_ID = "sha256:" + "0b" * 32
QUICK = (0.01, 0.04)
"""Pauses of a feed in seconds, for tests that wait for a camera to come back."""
_PATIENCE_SECONDS = 10.0
_CELLS, _CELL_PX = 8, 4
_MESSAGE = jsonschema.Draft202012Validator(load_schema("message"))


def good_part(number: int = 0) -> UInt8Array:
    """(64, 64, 3) RGB: a grey part with a little noise of its own."""
    noise = np.random.default_rng(number).integers(-6, 7, (64, 64, 3))
    return (150 + noise).astype(np.uint8)


def bad_part() -> UInt8Array:
    """A good part with a red spot, two cells wide."""
    picture = good_part(99)
    picture[16:32, 24:40] = (220, 20, 20)
    return picture


class PlayedSource:
    """A camera whose frames, failures and end a test gives one by one, from its own thread.

    As with a camera that comes back, ``frames`` may be called again after a failure.
    """

    def __init__(self, source_id: str = "cam1") -> None:
        self.source_id = source_id
        self.dropped = 0
        self.readings: list[int] = []
        """Monotonic times of the calls of ``frames``."""
        self.closed = threading.Event()
        self.adjusted: list[Mapping[str, float | int | str] | None] = []
        """How it was asked to be set."""
        self._script: Queue[Frame | Exception | None] = Queue()
        self._given = 0

    def give(
        self,
        pixels: UInt8Array | None = None,
        *,
        age_seconds: float = 0.0,
        settings: dict[str, float | int | str] | None = None,
    ) -> Frame:
        """Take a picture now; ``age_seconds`` ago, as one that was delayed on its way."""
        frame = Frame(
            pixels=good_part() if pixels is None else pixels,
            frame_id=self._given,
            source_id=self.source_id,
            captured_at=datetime.now(timezone.utc),
            monotonic_ns=time.monotonic_ns() - int(age_seconds * 1e9),
            camera_settings=settings,
        )
        self._given += 1
        self._script.put(frame)
        return frame

    def adjust(self, settings: Mapping[str, float | int | str] | None) -> None:
        self.adjusted.append(settings)

    def fail(self, error: Exception | None = None) -> None:
        """Let the reading fail, after what was given before."""
        self._script.put(error or CaptureError("cam1: no new frame for 3.0 s"))

    def end(self) -> None:
        """Let the stream end."""
        self._script.put(None)

    def frames(self) -> Iterator[Frame]:
        self.readings.append(time.monotonic_ns())
        while not self.closed.is_set():
            step = self._script.get()
            if step is None:
                return
            if isinstance(step, Exception):
                raise step
            yield step

    def close(self) -> None:
        self.closed.set()
        self._script.put(None)


@contextmanager
def streaming(source: PlayedSource) -> Iterator[None]:
    """Let a camera give a good part about 100 times a second."""
    is_over = threading.Event()

    def play() -> None:
        while not is_over.wait(0.01):
            source.give()

    thread = threading.Thread(target=play)
    thread.start()
    try:
        yield
    finally:
        is_over.set()
        thread.join()


class News:
    """Counts what a feed tells, and lets a test wait for it."""

    def __init__(self) -> None:
        self.event = threading.Event()
        self._changed = threading.Condition()

    def __call__(self) -> None:
        with self._changed:
            self._changed.notify_all()
        self.event.set()

    def wait_for(self, claim: Callable[[], bool]) -> None:
        """Wait until ``claim`` holds; it is looked at whenever there is news."""
        with self._changed:
            assert self._changed.wait_for(claim, _PATIENCE_SECONDS), "it never came true"


class CellEncoder:
    """Mean colours of 8 x 8 cells: an ``Encoder`` in numpy.

    Args:
        seconds: how long each picture takes.
    """

    extractor_id = "sha256:" + "0e" * 32

    def __init__(self, seconds: float = 0.0) -> None:
        self.seconds = seconds
        self.error: EngineError | None = None
        """Raised while it is set."""

    def encode(self, preprocessed: Preprocessed) -> PatchFeatures:
        if self.error is not None:
            raise self.error
        time.sleep(self.seconds)  # the slow engine is the subject where it is not 0
        cells = preprocessed.tensor[0].reshape(_CELLS, _CELL_PX, _CELLS, _CELL_PX, 3)
        rows = cells.mean(axis=(1, 3), dtype=np.float32).reshape(_CELLS * _CELLS, 3)
        return PatchFeatures(
            tokens={("conv", 1): TokenGrid(rows=rows, grid=(_CELLS, _CELLS))},
            class_token=None,
            extractor_id=self.extractor_id,
            preprocessed=preprocessed,
        )


def make_pipeline(
    state_dir: Path,
    camera: CameraConfig,
    encoder: CellEncoder,
    *,
    name: str = "default",
    settings: Mapping[str, float | int | str] | None = None,
) -> Pipeline:
    """A pipeline fitted to four good parts, which are enrolled in ``state_dir``."""
    pictures = [as_frame(good_part(number)) for number in range(4)]
    references = ReferenceStore(state_dir, camera.name).save(
        name, pictures, source="test", camera_settings=settings
    )
    preprocess = Preprocessor(
        InputSpec(
            size=(_CELLS * _CELL_PX, _CELLS * _CELL_PX),
            color="rgb",
            resize=ResizeSpec(mode="squash", kernel="area", antialias=True),
            mean=(0.0, 0.0, 0.0),
            std=(1.0, 1.0, 1.0),
        )
    )
    features = [CellEncoder().encode(preprocess(frame)) for frame in pictures]
    scorer = NearestNeighbourFactory(
        NearestNeighbourSettings(
            tokens=(("conv", 1),), neighbourhood=1, blur_sigma=0.0, reach=0.1, stillness=0.0
        )
    ).fit(features)
    return Pipeline(
        preprocess=preprocess,
        encoder=encoder,
        scorer=scorer,
        decider=Decider(
            Threshold(
                value=0.05,  # noise scores some 0.0005, the red spot 0.3
                method="override",
                good_scores=(),
                pictures=0,
                provisional=False,
                expected_false_alarm_rate=None,
            ),
            limits=FaultLimits(max_frame_age_seconds=camera.faults.max_frame_age_seconds),
        ),
        bundle_id=BUNDLE_ID,
        references=references,
    )


Payload: TypeAlias = dict[str, Any]
"""A message as the plant system reads it."""


def read_payload(message: Message) -> Payload:
    """What goes over the wire for a message, checked against the published schema."""
    payload: Payload = json.loads(encode_message(message))
    _MESSAGE.validate(payload)
    return payload


@dataclass
class ListedOutbox:
    """An ``Outbox`` that numbers messages, keeps them in lists, and lets a test send triggers."""

    payloads: list[Payload] = field(default_factory=list)
    reports: list[dict[str, CameraStatus]] = field(default_factory=list)
    visits: int = 0
    """How often triggers were asked for."""
    pictures: list[bytes | None] = field(default_factory=list)
    notes: list[TriggerNote] = field(default_factory=list)
    """Triggers that were taken."""
    known: list[TriggerNote] = field(default_factory=list)
    """Triggers of an earlier run."""
    unanswered: list[TriggerNote] = field(default_factory=list)
    """Those of them that have no result."""
    news: Callable[[], None] = lambda: None
    """Called when a trigger has come."""
    changed: threading.Condition = field(default_factory=threading.Condition)
    _triggers: list[TriggerCommand] = field(default_factory=list)

    def send(self, dispatch: Dispatch, on_stored: StoredListener | None = None) -> None:
        message = number_draft(dispatch.draft, len(self.payloads) + 1)
        with self.changed:
            self.payloads.append(read_payload(message))
            self.pictures.append(dispatch.picture)
            if on_stored is not None:
                on_stored(message)
            self.changed.notify_all()

    def note(self, trigger: TriggerNote, on_stored: StoredListener) -> None:
        self.notes.append(trigger)
        on_stored(None)

    def recall(self) -> tuple[list[TriggerNote], list[TriggerNote]]:
        return self.known, self.unanswered

    def flush(self) -> None:
        pass

    def take_triggers(self) -> list[TriggerCommand]:
        self.visits += 1
        with self.changed:
            taken, self._triggers = self._triggers, []
            return taken

    def report(self, cameras: Mapping[str, CameraStatus]) -> None:
        with self.changed:
            self.reports.append(dict(cameras))
            self.changed.notify_all()

    def close(self) -> int:
        return 0

    def trigger(self, command: bytes | None = None, /, **fields: str) -> None:
        """Let a command arrive: as it is, or made of its fields."""
        payload = json.dumps(fields).encode() if command is None else command
        with self.changed:
            received_ns = time.monotonic_ns()
            self._triggers.append(TriggerCommand(payload=payload, received_ns=received_ns))
        self.news()

    def of_kind(self, kind: str) -> list[Payload]:
        """Payloads of one kind, in order."""
        return [payload for payload in self.payloads if payload["kind"] == kind]

    def wait_for_results(self, count: int) -> None:
        """Wait until so many parts have their result."""
        self.wait_for(lambda: len(self.of_kind("result")) >= count)

    def wait_for_state(self, state: CameraState) -> CameraStatus:
        """Wait until the only camera is reported in a state; what is said of it."""

        def last() -> CameraStatus | None:
            return next(iter(self.reports[-1].values())) if self.reports else None

        self.wait_for(lambda: (status := last()) is not None and status.state is state)
        status = last()
        assert status is not None
        return status

    def wait_for(self, claim: Callable[[], bool]) -> None:
        """Wait until ``claim`` holds; it is looked at after each message and report."""
        with self.changed:
            assert self.changed.wait_for(claim, _PATIENCE_SECONDS), "it never came true"


def make_camera(
    name: str = "cam1",
    source: str = "0",
    *,
    mode: str = "continuous",
    ignore: Sequence[str] = (),
    interval_seconds: float | None = None,
    deadline_seconds: float = 5.0,
    max_frame_age_seconds: float = 3.0,
) -> CameraConfig:
    """Settings of a camera, or of one that plays a file where ``source`` names one.

    The deadline is so long that only tests about it meet it. An incident opens with its first
    frame and closes with the second clear one.
    """
    trigger = {
        "mode": mode,
        "interval_seconds": interval_seconds,
        "deadline_seconds": deadline_seconds,
    }
    return CameraConfig.model_validate_json(
        json.dumps(
            {
                "name": name,
                "source": source,
                "trigger": trigger,
                "incident": {
                    "hold_frames": 1,
                    "hold_seconds": 0,
                    "clear_frames": 2,
                    "cooldown_seconds": 0,
                },
                "faults": {
                    "max_frame_age_seconds": max_frame_age_seconds,
                    "ignore": list(ignore),
                },
            }
        )
    )


@dataclass(kw_only=True)
class Rig:
    """Stations that are fed by what a test plays, and all that they say."""

    stations: list[Station]
    outbox: ListedOutbox
    drafts: DraftMaker
    news: News
    summaries: dict[str, CameraSummary]
    decided: list[str]
    """Name of the camera of each decision, in order."""
    decisions: list[Decision]

    @property
    def station(self) -> Station:
        """The only one."""
        (station,) = self.stations
        return station

    def step(self) -> list[Payload]:
        """One step of the only station; the messages that came of it."""
        before = len(self.outbox.payloads)
        for dispatch in (*self.station.tend(), *self.inspect()):
            self.outbox.send(dispatch)
        return self.outbox.payloads[before:]

    def inspect(self) -> list[Dispatch]:
        """One inspection of the only station, where there is something to inspect."""
        return self.station.inspect() if self.station.job_deadline_ns is not None else []

    def step_with_frame(self) -> list[Payload]:
        """Wait until a frame is there, and step."""
        self.news.wait_for(lambda: self.station.feed.has_frame)
        return self.step()

    def wait_for_frames(self) -> None:
        """Wait until each station has a frame before it."""
        self.news.wait_for(lambda: all(station.feed.has_frame for station in self.stations))

    def step_when_due(self) -> list[Payload]:
        """Let time pass until the station wants to be called without a frame, and step."""
        due = self.station.next_due_ns
        assert due is not None
        time.sleep(max(0.0, (due - time.monotonic_ns()) / 1e9))
        return self.step()

    def runtime(
        self,
        *,
        max_frames: int | None = None,
        outbox: Outbox | None = None,
        on_message: MessageListener | None = None,
        desk: TriggerDesk | None = None,
    ) -> Runtime:
        """The loop over all stations."""
        return Runtime(
            self.stations,
            outbox or self.outbox,
            self.drafts,
            news=self.news.event,
            summaries=self.summaries,
            max_frames=max_frames,
            on_message=on_message,
            desk=desk,
        )

    @contextmanager
    def running(self, *, max_frames: int | None = None) -> Iterator[threading.Event]:
        """Run the loop in a thread, stop it at the end, and pass on what it raised."""
        stop = threading.Event()
        raised: list[EdgeError] = []

        def run() -> None:
            try:
                self.runtime(max_frames=max_frames).run(stop)
            except EdgeError as error:
                raised.append(error)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield stop
        finally:
            stop.set()
            self.news()
            thread.join(_PATIENCE_SECONDS)
        assert not thread.is_alive()
        if raised:
            raise raised[0]


@contextmanager
def make_rig(
    state_dir: Path,
    cameras: Sequence[tuple[CameraConfig, FrameSource]],
    *,
    encoders: Mapping[str, CellEncoder] | None = None,
    picture_max_bytes: int | None = None,
    outputs: Mapping[str, OutputLine] | None = None,
    settings: Mapping[str, float | int | str] | None = None,
) -> Iterator[Rig]:
    """Stations over sources, with real pipelines; closed at the end.

    Args:
        state_dir: where references are enrolled.
        cameras: settings, and what gives the frames.
        encoders: by camera; the others have a quick one.
        picture_max_bytes: largest picture; None: none.
        outputs: lines, by camera.
        settings: of all cameras when good parts were shown to them.
    """
    news = News()
    outbox = ListedOutbox(news=news)
    drafts = DraftMaker(device="box-1", bundle_id=BUNDLE_ID)
    rig = Rig(
        stations=[],
        outbox=outbox,
        drafts=drafts,
        news=news,
        summaries={camera.name: CameraSummary() for camera, _ in cameras},
        decided=[],
        decisions=[],
    )

    def on_decision(name: str, decision: Decision) -> None:
        rig.decided.append(name)
        rig.decisions.append(decision)
        rig.summaries[name].count(decision)

    try:
        for camera, source in cameras:
            encoder = (encoders or {}).get(camera.name) or CellEncoder()
            feed = FrameFeed(
                camera.name,
                _opener_of(source),
                keeps="every" if camera.reads_every_frame else "newest",
                reopens=not camera.source.startswith(("file:", "dir:")),
                on_news=news,
                pause_seconds=QUICK,
            )
            rig.stations.append(
                Station(
                    camera,
                    make_pipeline(state_dir, camera, encoder, settings=settings),
                    feed,
                    Dispatcher(drafts, camera.name, picture_max_bytes),
                    on_decision=on_decision,
                    output=(outputs or {}).get(camera.name),
                )
            )
            feed.start()
        yield rig
    finally:
        for station in rig.stations:
            station.feed.close()


def _opener_of(source: FrameSource) -> Callable[[], FrameSource]:
    return lambda: source
