"""What goes over the wire: payloads, schemas, topics, identifiers and the trigger command."""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import json
import math
import threading
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from alerts import CAMERA, TOPICS, make_draft
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator, ValidationError

from edge_sdk import (
    ConfigError,
    InputError,
    Message,
    MessageDraft,
    MessageKind,
    Region,
    Severity,
    Verdict,
)
from edge_sdk.alerting.broker import BrokerSettings
from edge_sdk.alerting.identity import boot_id, new_ulid, time_quality
from edge_sdk.alerting.payload import (
    MAX_BYTES,
    CameraState,
    CameraStatus,
    DeviceFlag,
    decode_message,
    encode_message,
    load_schema,
    state_payload,
    status_payload,
)
from edge_sdk.alerting.topics import Topics
from edge_sdk.alerting.trigger import TriggerRequest, parse_trigger
from edge_sdk.records import TimeQuality

Json = dict[str, Any]


def number(draft: MessageDraft, seq: int = 1) -> Message:
    values = {field.name: getattr(draft, field.name) for field in dataclasses.fields(MessageDraft)}
    return Message(**values, seq=seq)


def make_message(**changes: Any) -> Message:
    return number(make_draft(**changes))


def validator(name: str) -> Draft202012Validator:
    schema = load_schema(name)
    Draft202012Validator.check_schema(schema)
    return Draft202012Validator(schema)


def make_event(**changes: Any) -> Message:
    names = [field.name for field in dataclasses.fields(MessageDraft)]
    kept = {"message_id", "severity", "device", "boot_id", "captured_at", "mono_ns", "time_quality"}
    empty = {name: None for name in names if name not in kept}
    values = {**empty, "kind": MessageKind.EVENT, "regions": (), "event": "started", **changes}
    return make_message(**values)


def make_state(**changes: Any) -> bytes:
    values: Json = {
        "flags": [DeviceFlag.STORAGE_LOW, DeviceFlag.CLOCK_UNSYNCED],
        "cameras": {
            CAMERA: CameraStatus(
                state=CameraState.OK, verdict=Verdict.NORMAL, score=0.2, threshold=0.5
            ),
            "line-4": CameraStatus(state=CameraState.BLIND),
        },
        "bundle": "sha256:" + "ab" * 32,
        "spool_rows": 3,
        "spool_bytes": 2100,
        "spool_dropped": {"info": 1, "warn": 0, "critical": 0, "pictures": 2},
        "time_quality": TimeQuality.SYNCED,
        "version": "1.2.3",
    }
    return state_payload(**{**values, **changes})


GAP = {
    "from_seq": 3,
    "to_seq": 9,
    "reason": "spool_full",
    "by_severity": {"info": 6, "warn": 0, "critical": 0},
}


@pytest.mark.parametrize(
    "message",
    [
        make_message(),
        make_message(kind=MessageKind.RESULT, verdict=Verdict.NORMAL, part_id="A/1 ü", regions=()),
        make_message(
            kind=MessageKind.RESULT,
            verdict=Verdict.FAULT,
            reason="timeout",
            score=None,
            threshold=None,
        ),
        make_message(kind=MessageKind.FAULT_OPEN, camera=None, verdict=Verdict.FAULT),
        make_event(),
        make_event(event="gap", data=GAP),
    ],
    ids=["anomaly", "result", "result without a score", "fault of the device", "event", "gap"],
)
def test_every_kind_of_message_fits_its_schema_and_is_read_back_unchanged(message: Message) -> None:
    payload = encode_message(message)

    values = json.loads(payload)
    validator("message").validate(values)
    assert values["v"] == 1
    assert None not in values.values()
    names = {field.name for field in dataclasses.fields(Message)}
    assert values.keys() - {"v"} <= names, "the names are the record's"
    decoded = decode_message(payload)
    assert encode_message(decoded) == payload
    to_the_millisecond = message.captured_at.replace(
        microsecond=message.captured_at.microsecond // 1000 * 1000
    )
    assert decoded == dataclasses.replace(message, captured_at=to_the_millisecond)


def test_the_time_of_capture_is_utc_with_milliseconds_and_z() -> None:
    summer = timezone(timedelta(hours=2))
    message = make_message(captured_at=datetime(2026, 7, 1, 0, 30, 5, 123_999, summer))

    assert json.loads(encode_message(message))["captured_at"] == "2026-06-30T22:30:05.123Z"


PLANTED: dict[str, Callable[[Json], object]] = {
    "unknown key": lambda m: m.update(alert_id="x"),
    "no seq": lambda m: m.pop("seq"),
    "seq 0": lambda m: m.update(seq=0),
    "seq as a fraction": lambda m: m.update(seq=1.5),
    "other version": lambda m: m.update(v=2),
    "message_id in lower case": lambda m: m.update(message_id=m["message_id"].lower()),
    "kind of another contract": lambda m: m.update(kind="anomaly"),
    "unknown severity": lambda m: m.update(severity="error"),
    "unknown verdict": lambda m: m.update(verdict="unscored"),
    "unknown time quality": lambda m: m.update(time_quality="ok"),
    "wildcard in a camera": lambda m: m.update(camera="a/+"),
    "local time": lambda m: m.update(captured_at="2026-06-30T22:30:05.123+02:00"),
    "time without milliseconds": lambda m: m.update(captured_at="2026-06-30T22:30:05Z"),
    "score as text": lambda m: m.update(score="0.7"),
    "score null": lambda m: m.update(score=None),
    "anomaly without a score": lambda m: m.pop("score"),
    "anomaly without a camera": lambda m: m.pop("camera"),
    "anomaly without an incident": lambda m: m.pop("incident_id"),
    "result without a verdict": lambda m: (m.update(kind="result"), m.pop("verdict")),
    "fault without a reason": lambda m: (m.update(kind="fault.open"), m.pop("reason")),
    "event without a name": lambda m: m.update(kind="event"),
    "name of an event elsewhere": lambda m: m.update(event="gap"),
    "17 regions": lambda m: m.update(regions=m["regions"] * 17),
    "region without a score": lambda m: m["regions"][0].pop("score"),
    "region with an unknown key": lambda m: m["regions"][0].update(w=1),
    "size of three": lambda m: m.update(frame_size=[1, 2, 3]),
    "percentile over 100": lambda m: m.update(normal_percentile=101),
    "digest of the wrong length": lambda m: m.update(bundle="sha256:00"),
}


@pytest.mark.parametrize("name", PLANTED)
def test_the_schema_of_a_message_refuses_a_planted_error(name: str) -> None:
    values = json.loads(encode_message(make_message()))
    check = validator("message")
    check.validate(values)

    broken = copy.deepcopy(values)
    PLANTED[name](broken)

    with pytest.raises(ValidationError):
        check.validate(broken)


@pytest.mark.parametrize(
    "data",
    [
        {key: value for key, value in GAP.items() if key != "from_seq"},
        {**GAP, "by_severity": {"info": 1}},
        {**GAP, "reason": "mood"},
        {**GAP, "more": 1},
    ],
)
def test_the_schema_refuses_a_gap_that_does_not_say_what_is_missing(data: Json) -> None:
    values = json.loads(encode_message(make_event(event="gap", data=data)))

    with pytest.raises(ValidationError):
        validator("message").validate(values)


@pytest.mark.parametrize(
    "changes",
    [
        {"score": math.nan},
        {"score": math.inf},
        {"data": {"value": {1, 2}}},
        {"captured_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - a time without zone is the point
        {"camera": None},
        {"camera": "Line 3"},
        {"device": "a/b"},
        {"kind": MessageKind.EVENT, "event": None},
        {"data": {"log": "x" * 9000}},
    ],
)
def test_a_message_that_no_receiver_could_read_is_refused_before_it_is_stored(
    changes: Json,
) -> None:
    with pytest.raises(InputError):
        encode_message(make_message(**changes))


def test_the_regions_of_the_highest_scores_are_kept() -> None:
    regions = tuple(
        Region(x=i, y=0, width=1, height=1, score=i / 100, area_px=1) for i in range(30)
    )

    kept = json.loads(encode_message(make_message(regions=regions)))["regions"]

    assert [region["x"] for region in kept] == list(range(29, 13, -1))


@given(
    detail=st.text(max_size=20_000),
    scores=st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=40),
)
def test_a_payload_is_never_longer_than_8_kb(detail: str, scores: list[float]) -> None:
    regions = tuple(Region(x=1, y=2, width=3, height=4, score=s, area_px=5) for s in scores)
    message = make_message(detail=detail, regions=regions)

    payload = encode_message(message)

    assert len(payload) <= MAX_BYTES
    assert encode_message(decode_message(payload)) == payload
    assert json.loads(payload)["score"] == message.score


def test_a_long_detail_is_shortened_before_a_region_is_left_out() -> None:
    values = json.loads(encode_message(make_message(detail="ä" * 9000)))

    assert values["detail"].startswith("äää")
    assert values["detail"].endswith("…")
    assert len(values["regions"]) == 1


def test_what_is_no_text_in_a_detail_does_not_stop_an_alert() -> None:
    payload = encode_message(make_message(detail="camera \udce9"))  # bytes of a path, for example

    assert json.loads(payload)["detail"] == "camera ?"


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b'{"v":1}', b'{"v":2}', b"\xff", b'{"v":1,"seq":1,"more":2}']
)
def test_a_damaged_row_is_refused(payload: bytes) -> None:
    with pytest.raises(InputError):
        decode_message(payload)


def test_birth_and_last_will_fit_the_schema_and_a_mixture_does_not() -> None:
    check = validator("status")
    birth = json.loads(status_payload(online=True, reason="birth", boot_id=boot_id(), session=4))
    will = json.loads(status_payload(online=False, reason="lwt", boot_id=boot_id(), session=4))

    check.validate(birth)
    check.validate(will)
    for broken in (
        {**birth, "reason": "lwt"},
        {**will, "reason": "birth"},
        {**will, "online": "false"},
        {**birth, "session": 0},
        {**birth, "boot_id": "x"},
        {**birth, "device": "box-1"},
    ):
        with pytest.raises(ValidationError):
            check.validate(broken)


def test_the_state_has_sorted_flags_and_every_camera() -> None:
    values = json.loads(make_state())

    validator("state").validate(values)
    assert values["flags"] == ["clock_unsynced", "storage_low"]
    assert values["cameras"]["line-4"] == {
        "state": "blind",
        "verdict": None,
        "reason": None,
        "score": None,
        "threshold": None,
        "provisional": False,
        "anomaly": False,
        "run_in": None,
    }
    validator("state").validate(json.loads(make_state(bundle=None, flags=[], cameras={})))


def test_the_schema_of_the_state_refuses_planted_errors() -> None:
    values = json.loads(make_state())
    planted: list[Callable[[Json], object]] = [
        lambda s: s["flags"].append("tired"),
        lambda s: s["flags"].append("storage_low"),
        lambda s: s["cameras"][CAMERA].update(state="stale"),
        lambda s: s["cameras"][CAMERA].pop("anomaly"),
        lambda s: s["cameras"][CAMERA].update(fps=9),
        lambda s: s["cameras"].update({"Line 3": s["cameras"][CAMERA]}),
        lambda s: s["spool"]["dropped"].pop("critical"),
        lambda s: s["spool"].update(rows=-1),
        lambda s: s.update(bundle="latest"),
        lambda s: s.pop("time_quality"),
    ]
    for plant in planted:
        broken = copy.deepcopy(values)
        plant(broken)
        with pytest.raises(ValidationError):
            validator("state").validate(broken)


def test_a_state_never_holds_a_score_that_is_no_number() -> None:
    blank = CameraStatus(state=CameraState.UNSCORED, score=math.nan)

    with pytest.raises(InputError):
        make_state(cameras={CAMERA: blank})


def test_the_enumerations_are_those_of_the_schemas() -> None:
    message, state = load_schema("message")["properties"], load_schema("state")

    assert message["kind"]["enum"] == [kind.value for kind in MessageKind]
    assert message["severity"]["enum"] == [severity.value for severity in Severity]
    assert message["verdict"]["enum"] == [verdict.value for verdict in Verdict]
    assert message["time_quality"]["enum"] == [quality.value for quality in TimeQuality]
    assert state["properties"]["flags"]["items"]["enum"] == [flag.value for flag in DeviceFlag]
    camera = state["$defs"]["camera"]["properties"]
    assert camera["state"]["enum"] == [value.value for value in CameraState]
    assert message.keys() - {"v"} == {field.name for field in dataclasses.fields(Message)}


def test_a_schema_that_does_not_exist_is_named() -> None:
    with pytest.raises(InputError, match="alert"):
        load_schema("alert")


TRIGGERS = [
    (b'{"part_id":"A-1"}', TriggerRequest(part_id="A-1")),
    (
        '{"v":1,"part_id":"Teil 7/ü","trigger_id":"t1","camera":"line-3"}'.encode(),
        TriggerRequest(part_id="Teil 7/ü", trigger_id="t1", camera="line-3"),
    ),
    (
        b'{"part_id":"A-1","trigger_id":null,"camera":null}',
        TriggerRequest(part_id="A-1"),
    ),
]


@pytest.mark.parametrize(("payload", "request_"), TRIGGERS)
def test_a_trigger_is_read(payload: bytes, request_: TriggerRequest) -> None:
    assert parse_trigger(payload) == request_


@pytest.mark.parametrize("payload", [payload for payload, _ in TRIGGERS[:2]])
def test_the_schema_of_a_trigger_takes_what_the_parser_takes(payload: bytes) -> None:
    validator("trigger").validate(json.loads(payload))


@pytest.mark.parametrize(
    ("payload", "named"),
    [
        (b"", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b"null", "object"),
        (b'["A-1"]', "object"),
        (b"[" * 100_000, "JSON"),
        (b"{}", "part_id"),
        (b'{"part_id":""}', "part_id"),
        (b'{"part_id":7}', "part_id"),
        (b'{"part_id":null}', "part_id"),
        (b'{"part_id":"a\\nb"}', "part_id"),
        (b'{"part_id":"\\ud800"}', "part_id"),
        (b'{"part_id":"' + b"x" * 129 + b'"}', "part_id"),
        (b'{"part_id":"a","part_id":"b"}', "twice"),
        (b'{"part_id":"a","v":2}', r"\.v"),
        (b'{"part_id":"a","v":true}', r"\.v"),
        (b'{"part_id":"a","v":1.0}', r"\.v"),
        (b'{"part_id":"a","camera":"../x"}', "camera"),
        (b'{"part_id":"a","camera":3}', "camera"),
        (b'{"part_id":"a","trigger_id":""}', "trigger_id"),
        (b'{"part_id":"a","shutdown":1}', "shutdown"),
        (b'{"part_id":NaN}', "NaN"),
        (b'{"part_id":' + b"9" * 6000 + b"}", "JSON"),
    ],
)
def test_a_wrong_trigger_is_refused_by_the_name_of_what_is_wrong(
    payload: bytes, named: str
) -> None:
    with pytest.raises(InputError, match=named) as refused:
        parse_trigger(payload)

    assert len(str(refused.value)) < 300
    assert str(refused.value).isprintable()


def test_a_message_goes_to_the_topic_of_its_kind() -> None:
    base = "edge/v1/box-1"
    topic = TOPICS.topic_of

    assert topic(make_message(kind=MessageKind.RESULT)) == f"{base}/result/line-3"
    assert topic(make_message(kind=MessageKind.ANOMALY_CLOSE)) == f"{base}/alert/line-3"
    assert topic(make_message(kind=MessageKind.FAULT_OPEN)) == f"{base}/alert/line-3"
    assert topic(make_message(kind=MessageKind.FAULT_CLOSE, camera=None)) == f"{base}/event"
    assert topic(make_event()) == f"{base}/event"
    with pytest.raises(InputError):
        topic(make_message(kind=MessageKind.RESULT, camera=None))


def test_the_other_topics_lie_below_prefix_and_device() -> None:
    topics = Topics("Plant 7/hall", "box-1")

    assert topics.status == "Plant 7/hall/box-1/status"
    assert topics.state == "Plant 7/hall/box-1/state"
    assert topics.health == "Plant 7/hall/box-1/health"
    assert topics.command("trigger") == "Plant 7/hall/box-1/cmd/trigger"
    assert topics.response("plc") == "Plant 7/hall/box-1/rsp/plc"
    assert topics.image("line-3") == "Plant 7/hall/box-1/alert/line-3/image"


@pytest.mark.parametrize("name", ["", "A", "a/b", "a+", "#", "-a", "a" * 64, "a\n", "ä", "a\x00"])
def test_a_name_that_could_leave_its_level_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="device"):
        Topics("edge/v1", name)
    for method in (TOPICS.result, TOPICS.alert, TOPICS.image, TOPICS.command, TOPICS.response):
        with pytest.raises(ConfigError):
            method(name)


@pytest.mark.parametrize(
    "prefix", ["", "/edge", "edge//v1", "edge/", "$SYS", "a/+", "a/#", "a\x00"]
)
def test_a_prefix_with_a_wildcard_or_an_empty_level_is_refused(prefix: str) -> None:
    with pytest.raises(ConfigError, match="topic_prefix"):
        Topics(prefix, "box-1")


def test_identifiers_grow_and_never_repeat_in_many_threads() -> None:
    made: list[list[str]] = []

    def make() -> None:
        made.append([new_ulid() for _ in range(2000)])

    threads = [threading.Thread(target=make) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert all(ulids == sorted(ulids) for ulids in made), "they grow within a thread"
    assert len({ulid for ulids in made for ulid in ulids}) == 8000
    assert {len(ulid) for ulids in made for ulid in ulids} == {26}


def test_the_boot_is_the_kernels() -> None:
    assert boot_id() == Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def test_the_clock_is_believed_as_far_as_the_kernel_believes_it() -> None:
    is_unsynced = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(512)) == 5  # TIME_ERROR

    expected = TimeQuality.UNSYNCED if is_unsynced else TimeQuality.SYNCED
    assert time_quality() in {expected, TimeQuality.HOLDOVER}


def test_a_password_never_shows_and_plain_text_stays_on_this_computer() -> None:
    settings = BrokerSettings(host="127.0.0.1", username="box", password="s3cret")  # noqa: S106 - a test's

    assert "s3cret" not in repr(settings)
    assert not settings.is_insecure
    for host in ("192.168.0.9", "broker.plant", "::2"):
        with pytest.raises(ConfigError, match="TLS"):
            BrokerSettings(host=host)
        assert BrokerSettings(host=host, allow_insecure=True).is_insecure
