"""Settings of one camera: a frozen group a stage, in the order of the stages."""

from __future__ import annotations

from typing import Annotated, Literal, TypeAlias

from pydantic import AfterValidator, Field, model_validator

from edge_sdk.config.base import EnvironmentName, Group, Name, SettingPath, refusal, repeated
from edge_sdk.config.challenge import ChallengeConfig
from edge_sdk.config.learning import RunInConfig
from edge_sdk.config.parts import OutputConfig, Seconds, TriggerConfig
from edge_sdk.config.polygon import polygon_fault
from edge_sdk.config.source import is_camera_source, normalised_source, takes_credentials
from edge_sdk.records import Box

Pixel: TypeAlias = Annotated[int, Field(ge=0, le=16384)]
Corner: TypeAlias = Annotated[
    tuple[Pixel, Pixel], Field(json_schema_extra={"x-expected": "a corner [x, y] in frame pixels"})
]


PictureFault: TypeAlias = Literal[
    "exposure_drift",
    "lamp_failed",
    "defocused",
    "blurred_out",
    "camera_moved",
    "dirty_lens",
    "camera_settings",
]


class CropConfig(Group):
    """The part of the frame that is looked at, in frame pixels."""

    x: Pixel
    """Left edge, pixels from the left of the frame, 0 to 16384."""
    y: Pixel
    """Upper edge, pixels from the top of the frame, 0 to 16384."""
    width: Annotated[int, Field(ge=16, le=16384)]
    """Pixels, 16 to 16384."""
    height: Annotated[int, Field(ge=16, le=16384)]
    """Pixels, 16 to 16384."""

    @property
    def box(self) -> Box:
        """The crop as the record that the stages use."""
        return Box(x=self.x, y=self.y, width=self.width, height=self.height)


class RegionConfig(Group):
    """A polygon that counts, or one that never does."""

    name: Name
    """What the operator calls it."""
    mode: Literal["include", "exclude"]
    """`include`: only what lies in such regions counts. `exclude`: what lies here never counts."""
    polygon: Annotated[tuple[Corner, ...], Field(min_length=3, max_length=64)]
    """Corners [x, y] in frame pixels, 3 to 64 of them, in order, not crossing itself."""

    @model_validator(mode="after")
    def _polygon_has_an_inside(self) -> RegionConfig:
        fault = polygon_fault(self.polygon)
        if fault is not None:
            raise refusal(fault, "polygon")
        return self


class IncidentConfig(Group):
    """How single verdicts become incidents; of continuous inspection only."""

    hold_frames: Annotated[int, Field(ge=1, le=1000)] = 3
    """Anomalous frames in a row that open an incident, 1 (at once) to 1000."""
    hold_seconds: Annotated[float, Field(ge=0, le=3600)] = 0.5
    """And seconds, 0 to 3600, for which they must have gone on. 0: only frames are counted."""
    clear_frames: Annotated[int, Field(ge=1, le=1000)] = 5
    """Normal frames in a row that close it, 1 to 1000."""
    hysteresis: Annotated[float, Field(ge=0, le=0.9)] = 0.1
    """How far below the threshold, as a share of it (0 to 0.9), a score must fall to count
    towards closing."""
    cooldown_seconds: Annotated[float, Field(ge=0, le=3600)] = 1.0
    """Seconds after a closed incident before the next may open, 0 to 3600; a critical one opens at
    once."""
    update_seconds: Seconds = 1.0
    """Seconds between two updates of an open incident, 0.05 to 3600."""


class FaultConfig(Group):
    """When a frame cannot be judged."""

    max_frame_age_seconds: Seconds = 3.0
    """Seconds, 0.05 to 3600, after which a frame is too old to be judged."""
    black_below: Annotated[int, Field(ge=0, le=255)] = 16
    """Grey level, 0 to 255. A picture is black whose brightest percent lies below it."""
    saturated_above: Annotated[int, Field(ge=0, le=255)] = 250
    """Grey level, 0 to 255, at and above which a pixel is saturated."""
    saturated_share: Annotated[float, Field(gt=0, le=1)] = 0.6
    """Share of saturated pixels, above 0 to 1, above which a picture is over-exposed."""
    ignore: Annotated[tuple[PictureFault, ...], Field(max_length=7)] = ()
    """Faults of lamp, lens and camera that are not looked for here."""
    enter_seconds: Seconds = 0.6
    """Seconds, 0.05 to 3600, for which such a fault must be seen on a watched camera to count."""
    leave_seconds: Seconds = 1.0
    """Seconds, 0.05 to 3600, for which it must be gone on a watched camera to be over."""

    @model_validator(mode="after")
    def _black_is_below_saturated(self) -> FaultConfig:
        if self.black_below >= self.saturated_above:
            raise refusal(
                f"expected less than saturated_above ({self.saturated_above}), "
                f"got {self.black_below}",
                "black_below",
            )
        return self


class ChangeGateConfig(Group):
    """When a watched scene need not be judged again; of continuous inspection only."""

    level: Annotated[int, Field(ge=1, le=64)] = 10
    """Grey levels, 1 to 64, by which a cell of 4 x 4 pixels of the model's picture must differ from
    the picture that was last judged."""
    every_seconds: Seconds = 1.0
    """Seconds, 0.05 to 3600, after which a frame is judged though nothing seems to have changed."""


class SeverityConfig(Group):
    """How grave an anomaly is."""

    critical_margin: Annotated[float, Field(ge=0, le=1000)] = 1.0
    """Margin (score / threshold - 1), 0 to 1000, from which an anomaly is critical instead of a
    warning. 1.0: twice the threshold."""


class CameraConfig(Group):
    """One camera and what is done with its pictures."""

    name: Name
    """Name of the camera in topics, folders and on the page."""
    source: Annotated[
        str,
        Field(json_schema_extra={"x-expected": "a camera such as \"0\" or 'dir:pictures'"}),
        AfterValidator(normalised_source),
    ]
    """Where pictures come from: a camera's number in quotes ("0"), `/dev/v4l/by-id/...`,
    `rtsp://host/path`, `http://host/path`, `gst:pipeline`, `genicam:name`, `file:video.mp4` or
    `dir:folder`. Never with a password in it."""
    username: Annotated[str, Field(min_length=1, max_length=256)] | None = None
    """User name at a network camera."""
    password_file: SettingPath | None = None
    """File that holds the camera's password, readable by its owner only. `$CREDENTIALS_DIRECTORY`
    is searched first."""
    password_env: EnvironmentName | None = None
    """Environment variable that holds the camera's password, instead of a file."""
    rtsp_transport: Literal["tcp", "udp"] = "tcp"
    """How the pictures of an rtsp camera travel. `tcp`: none is lost on the way."""
    pace: Literal["every", "realtime"] | None = None
    """For files and folders only. `every`: each picture, as fast as it can be judged; that is
    the default. `realtime`: as a camera would, the newest picture wins."""
    reference_set: Name = "default"
    """Which of the camera's enrolled reference sets is used."""
    trigger: TriggerConfig = Field(default_factory=TriggerConfig)
    """What makes a picture a part to be judged."""
    crop: CropConfig | None = None
    """The part of the frame to look at. Left out: all of it."""
    regions: Annotated[tuple[RegionConfig, ...], Field(max_length=32)] = ()
    """Polygons that count or never count. None: all of the crop counts."""
    threshold_override: Annotated[float, Field(gt=0, le=1e6)] | None = None
    """Raw image score above which a picture is anomalous, above 0. Wins over the threshold that
    enrolment fitted on this site, and the status says so. Left out: the fitted one."""
    run_in: RunInConfig | None = None
    """What is learned from the first parts, until when every verdict is provisional. Left out:
    nothing, unless it was begun before."""
    incident: IncidentConfig = Field(default_factory=IncidentConfig)
    """How verdicts become incidents."""
    faults: FaultConfig = Field(default_factory=FaultConfig)
    """When a frame cannot be judged."""
    severity: SeverityConfig = Field(default_factory=SeverityConfig)
    """How grave an anomaly is."""
    change_gate: ChangeGateConfig | None = None
    """Spares the encoder while a watched scene does not change. Left out: every frame is judged."""
    challenge: ChallengeConfig | None = None
    """Masters whose verdict is known, shown again and again. Left out: none."""
    output: OutputConfig | None = None
    """The reject/hold line. Left out: verdicts go over MQTT only."""

    @property
    def reads_every_frame(self) -> bool:
        """True where no picture is skipped; False where the newest one wins."""
        return not is_camera_source(self.source) and self.pace != "realtime"

    def polygons(self, mode: Literal["include", "exclude"]) -> tuple[tuple[Corner, ...], ...]:
        """Polygons of one mode, corners (x, y) in frame pixels."""
        return tuple(region.polygon for region in self.regions if region.mode == mode)

    @model_validator(mode="after")
    def _threshold_is_given_or_learned(self) -> CameraConfig:
        if self.run_in is not None and self.threshold_override is not None:
            raise refusal("expected threshold_override or run_in, got both", "run_in")
        return self

    @model_validator(mode="after")
    def _master_parts_are_triggered(self) -> CameraConfig:
        masters = self.challenge.masters if self.challenge is not None else ()
        for index, master in enumerate(masters):
            if master.part_id is not None and self.trigger.mode in ("continuous", "interval"):
                raise refusal(
                    "expected only where triggers name their parts (mode mqtt, http or input), "
                    f"but the mode is '{self.trigger.mode}'",
                    "challenge", "masters", index, "part_id",
                )  # fmt: skip
        return self

    @model_validator(mode="after")
    def _parts_are_all_judged(self) -> CameraConfig:
        if self.change_gate is not None and self.trigger.mode != "continuous":
            raise refusal(
                "expected only where a camera is watched (trigger mode continuous): every part is "
                f"judged, but the mode is '{self.trigger.mode}'",
                "change_gate",
            )
        return self

    @model_validator(mode="after")
    def _pace_is_for_files(self) -> CameraConfig:
        if self.pace is not None and is_camera_source(self.source):
            raise refusal("expected only where the source is a file or folder", "pace")
        return self

    @model_validator(mode="after")
    def _credentials_belong_to_a_network_camera(self) -> CameraConfig:
        given = [
            key
            for key in ("username", "password_file", "password_env")
            if getattr(self, key) is not None
        ]
        if given and not takes_credentials(self.source):
            raise refusal("expected only where the source is rtsp, http or gst", given[0])
        if self.password_file is not None and self.password_env is not None:
            raise refusal("expected password_file or password_env, got both", "password_env")
        if given and "username" not in given and "{password}" not in self.source:
            raise refusal("expected username beside it, got none", given[0])
        return self

    @model_validator(mode="after")
    def _regions_fit(self) -> CameraConfig:
        index = repeated([region.name for region in self.regions])
        if index is not None:
            raise refusal(
                f"expected a name of its own, got '{self.regions[index].name}' again",
                "regions", index, "name",
            )  # fmt: skip
        crop = self.crop
        if crop is None:
            return self
        for index, region in enumerate(self.regions):
            for corner, (x, y) in enumerate(region.polygon):
                is_inside = 0 <= x - crop.x <= crop.width and 0 <= y - crop.y <= crop.height
                if region.mode == "include" and not is_inside:
                    raise refusal(
                        f"expected a corner inside the crop (x {crop.x} to {crop.x + crop.width}, "
                        f"y {crop.y} to {crop.y + crop.height}), got [{x}, {y}]",
                        "regions", index, "polygon", corner,
                    )  # fmt: skip
        return self
