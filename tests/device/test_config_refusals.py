"""Device files that are wrong: each refusal names file, line, column and key."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.config import load_config
from edge_sdk.errors import ConfigError

MARK = "»"
"""Stands in a text where the refusal is to point."""


def _refusal(folder: Path, text: str | bytes) -> list[str]:
    """Lines of the refusal of a file, without the folder's name in them."""
    path = folder / "press.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ConfigError) as caught:
        load_config(path)
    assert caught.value.exit_code == 3
    return str(caught.value).replace(f"{folder}/", "").split("\n")


def _one_line(folder: Path, text: str | bytes) -> str:
    (line,) = _refusal(folder, text)
    return line


def _refuses_at_the_mark(folder: Path, text: str, expected: str) -> str:
    """Check that the only problem of a file is at the mark, and what is said of it."""
    before, _, after = text.partition(MARK)
    place = f"{before.count(chr(10)) + 1}:{len(before) - before.rfind(chr(10))}"
    line = _one_line(folder, before + after)
    assert line.startswith(f"press.yaml:{place}: {expected}")
    return line


def _camera(settings: str) -> str:
    """A file whose third line has more settings of its only camera."""
    return f"cameras:\n  - {{name: a, source: 'dir:x',\n     {settings}}}\n"


def _regions(*polygons: str) -> str:
    items = ", ".join(
        f"{{name: r{index}, mode: include, polygon: {polygon}}}"
        for index, polygon in enumerate(polygons)
    )
    return f"regions: [{items}]"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("bundle: »!!python/object/apply:os.system ['true']\n", "bundle: expected no '!'"),
        ("device: »!name {name: a}\n", "device: expected no '!'"),
        ("device: {»! name: a}\n", "device: expected no '!'"),
        ("device: »&d {name: a}\n", "device: expected no '&' or '*'"),
        ("device:\n  name: »*d\n", "device.name: expected no '&' or '*'"),
        ("device: {»&n name: a}\n", "device: expected no '&' or '*'"),
        ("mqtt:\n  port: 1\n  host: h\n  »port: 2\n", "mqtt.port: given twice, first in line 2"),
        ("cameras: []\n»cameras: []\n", "cameras: given twice, first in line 1"),
        ("»%YAML 1.1\n---\na: 1\n", "expected no line that starts with '%'"),
        ("device: {name: a}\n»---\nmqtt: {}\n", "expected one document, got a second '---'"),
        ("? »[a, b]\n: 1\n", "expected a plain word as key, got a list or group"),
        ("---\n»...\n", "expected keys such as 'cameras:', got an empty file"),
        ("»- name: a\n", "expected keys such as 'cameras:', got a list"),
        ("»press\n", "expected keys such as 'cameras:', got a single value"),
        ("a:\n  b: »\x00\n", "expected text, got the control character U+0000"),
        ("a: b»\u2028c\n", "expected text, got the control character U+2028"),
        ("a: 1»\rb: 2\n", "expected text, got the control character U+000D"),
        ("device:\n»\tname: a\n", "expected spaces, got a tab"),
        ("device: {name: a\n»", "a comma or a closing bracket is missing"),
        ("device:\n  name: 'a\n»", "a quote is opened and never closed"),
        ("bundle: a\nstate_dir b\n»mqtt: {}\n", "a key without a colon; expected 'key: value'"),
        ("host: a»: b\n", "a ': ' too much; expected quotes round a text with ': ' in it"),
        ("device:\n    name: a\n  »x: b\n", "indented unlike the lines above it"),
        ("device: »@a\n", "no value starts with this character; expected quotes round the text"),
        ('device: "\\»q"\n', "not valid YAML"),
        ('device: {name: »"a\\0b"}\n', "device.name: expected one line of text"),
        ('device: {name: »"a\\nb"}\n', "device.name: expected one line of text"),
        ('device: {name: »"a\\ud800"}\n', "device.name: expected one line of text"),
        ("device:\n  name: »|\n    a\n    b\n", "device.name: expected one line of text"),
        (f"bundle: »{'x' * 5000}\n", "bundle: expected at most 4096 characters, got more"),
    ],
)
def test_a_file_that_is_not_plain_yaml_is_refused_at_its_place(
    tmp_path: Path, text: str, expected: str
) -> None:
    _refuses_at_the_mark(tmp_path, text, expected)


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", ": expected settings, got an empty file"),
        (b"# nothing but words\n\n", ": expected settings, got an empty file"),
        ("x: 1\ny: caf\xe9\n".encode("latin-1"), ":2:7: expected UTF-8, got byte 0xe9"),
        ("device: {}\n".encode("utf-8-sig"), ":1:1: expected UTF-8 without a byte order mark"),
        ("device: {}\n".encode("utf-16"), ":1:1: expected UTF-8 without a byte order mark"),
    ],
)
def test_a_file_that_is_not_text_is_refused(tmp_path: Path, data: bytes, expected: str) -> None:
    assert _one_line(tmp_path, data).startswith(f"press.yaml{expected}")


@pytest.mark.parametrize(
    ("word", "advice"),
    [
        ("no", "expected true or false in small letters, got 'no'"),
        ("YES", "expected true or false in small letters, got 'YES'"),
        ("On", "expected true or false in small letters, got 'On'"),
        ("True", "expected true or false in small letters, got 'True'"),
        ("012", "write the number without it"),
        ("-007.5", "write the number without it"),
        ("0x1F", "not decimal"),
        ("0o17", "not decimal"),
        ("12:30", "write seconds as one number"),
        ("12:30:00", "write seconds as one number"),
        ("1e3", "write it out, as 1000"),
        ("1.5E-3", "write it out, as 1000"),
        ("1_000", "write the number without it"),
        (".5", "write 0.5 or 5.0"),
        ("5.", "write 0.5 or 5.0"),
        (".nan", "expected a number, got '.nan'"),
        ("-.inf", "expected a number, got '-.inf'"),
        ("2024-01-31", "got a date; put quotes round it"),
        ("1234567890123456789012", "write at most 18"),
        ("NULL", "leave the key out"),
        ("<<", "leave the key out"),
    ],
)
def test_a_word_that_yaml_would_guess_at_is_refused_with_what_to_write(
    tmp_path: Path, word: str, advice: str
) -> None:
    line = _refuses_at_the_mark(tmp_path, f"mqtt:\n  enabled: »{word}\n", "mqtt.enabled: ")

    assert advice in line
    if advice != "leave the key out":
        assert "quotes" in line


def test_quotes_make_a_text_of_any_word(tmp_path: Path) -> None:
    path = tmp_path / "press.yaml"
    for word in ("no", "012", "12:30", "1e3"):
        path.write_text(f"mqtt: {{topic_prefix: '{word}'}}\n")
        assert load_config(path).mqtt.topic_prefix == word


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        # Types: nothing is turned into something else.
        (
            _camera("incident: {hold_frames: »three}"),
            (
                "cameras[0].incident.hold_frames: "
                "expected a whole number from 1 to 1000, got 'three'"
            ),
        ),
        (
            _camera("incident: {hold_frames: »'3'}"),
            (
                "cameras[0].incident.hold_frames: "
                "expected a whole number from 1 to 1000, got '3'; write 3 without quotes"
            ),
        ),
        (_camera("incident: {hold_frames: »3.0}"), "cameras[0].incident.hold_frames: "),
        (
            _camera("incident: {hold_frames: »true}"),
            ("cameras[0].incident.hold_frames: expected a whole number from 1 to 1000, got true"),
        ),
        (
            _camera("threshold_override: »'0,5'"),
            (
                "cameras[0].threshold_override: "
                "expected a number above 0 and at most 1000000, got '0,5'; write 0.5 without quotes"
            ),
        ),
        ("mqtt: {enabled: »'yes'}\n", "mqtt.enabled: expected true or false, got 'yes'"),
        (
            "mqtt: {enabled: »'true'}\n",
            "mqtt.enabled: expected true or false, got 'true'; write true without quotes",
        ),
        ("mqtt: {enabled: »1}\n", "mqtt.enabled: expected true or false, got 1"),
        (
            "cameras: [{name: a, source: »0}]\n",
            (
                "cameras[0].source: expected a camera such as \"0\" or 'dir:pictures', got 0; "
                'write it in quotes: "0"'
            ),
        ),
        (
            "mqtt: {protocol: »5}\n",
            'mqtt.protocol: expected one of auto, 5, 3.1.1, got 5; write it in quotes: "5"',
        ),
        ("mqtt:»\n", "mqtt: expected a group of keys, got nothing"),
        ("mqtt: »[a]\n", "mqtt: expected a group of keys, got a list of 1"),
        ("cameras: »{name: a}\n", "cameras: expected a list of 1 to 16, got a group of keys"),
        ("cameras: »[]\n", "cameras: expected a list of 1 to 16, got a list of 0"),
        ("cameras:\n  - »{name: a}\n", "cameras[0].source: missing; expected a camera"),
        ("state_dir: »''\n", "state_dir: expected the path of a file or a folder, got none"),
        ("bundle: »http://host/x\n", "bundle: expected a path on this computer"),
        # Unknown keys.
        (
            _camera("incident: {»hold_frame: 3}"),
            "cameras[0].incident.hold_frame: unknown key; did you mean 'hold_frames'?",
        ),
        ("»mqt: {}\n", "mqt: unknown key; did you mean 'mqtt'?"),
        (
            "mqtt: {»keep-alive-seconds: 3}\n",
            "mqtt.keep-alive-seconds: unknown key; did you mean 'keepalive_seconds'?",
        ),
        ("logging: {»colour: x}\n", "logging.(a key): unknown key; known are format, level"),
        ("mqtt: {»port:1883}\n", "mqtt.(a key): unknown key; a space is missing after its colon"),
        (
            "mqtt: {»password: x}\n",
            (
                "mqtt.password: unknown key; secrets do not belong in this file: "
                "set password_file or password_env"
            ),
        ),
        # Names that go into topics.
        *(
            (f"device: {{name: »{name}}}\n", "device.name: expected a name of 1 to 63")
            for name in ("a/b", "'+'", "'#'", "$SYS", "''", "a" * 300, "\U0001f600", "A", "-a")
        ),
        ("mqtt: {topic_prefix: »a/#}\n", "mqtt.topic_prefix: expected words joined by '/'"),
        ("mqtt: {topic_prefix: »/a}\n", "mqtt.topic_prefix: expected words joined by '/'"),
        ("mqtt: {topic_prefix: »$SYS}\n", "mqtt.topic_prefix: expected words joined by"),
        # Sources.
        *(
            (
                f"cameras: [{{name: a, source: »'{source}'}}]\n",
                'cameras[0].source: expected a camera ("0" or /dev/v4l/by-id/...)',
            )
            for source in (
                "concat:a|b",
                "-i",
                "file:///etc/passwd",
                "file:",
                "dir:",
                "webcam",
                "",
                "/dev/../x",
                "user@10.0.0.1/s",
                "dir:rtsp://host/s",
                "1234",
            )
        ),
        *(
            (
                f"cameras: [{{name: a, source: »'{source}'}}]\n",
                "cameras[0].source: expected an address without user and password: set username",
            )
            for source in (
                "rtsp://user:hunter2@host/s",
                "rtsp://user@host/s",
                "http://host/s?user=a&password=hunter2",
                "gst:rtspsrc location=rtsp://host/s user-pw=hunter2",
                "gst:rtspsrc location=rtsp://user:hunter2@host/s",
            )
        ),
        (
            "cameras: [{name: a, source: »'rtsp://host:99999/s'}]\n",
            "cameras[0].source: expected a port from 1 to 65535",
        ),
        (
            "cameras: [{name: a, source: '0', username: »me}]\n",
            "cameras[0].username: expected only where the source is rtsp, http or gst",
        ),
        (
            "cameras: [{name: a, source: 'rtsp://h/s', password_env: »P}]\n",
            "cameras[0].password_env: expected username beside it, got none",
        ),
        (
            "cameras: [{name: a, source: 'rtsp://h/', password_file: p, password_env: »P}]\n",
            "cameras[0].password_env: expected password_file or password_env, got both",
        ),
        (
            "cameras: [{name: a, source: '0', pace: »every}]\n",
            "cameras[0].pace: expected only where the source is a file or folder",
        ),
        # Polygons and crops.
        (
            _camera(_regions("»[[0, 0], [9, 9]]")),
            "cameras[0].regions[0].polygon: expected a list of 3 to 64, got a list of 2",
        ),
        (
            _camera(_regions("»[[0, 0], [9, 9], [9, 0], [0, 9]]")),
            "cameras[0].regions[0].polygon: expected edges that do not cross or touch",
        ),
        (
            _camera(_regions("»[[0, 0], [5, 5], [9, 9]]")),
            "cameras[0].regions[0].polygon: expected an area above 0",
        ),
        (
            _camera(_regions("[[0, 0], »[5, 5, 5], [9, 0]]")),
            (
                "cameras[0].regions[0].polygon[1]: expected a corner [x, y] in frame pixels, "
                "got a list of 3"
            ),
        ),
        (
            _camera(_regions("[[0, 0], [5, »-5], [9, 0]]")),
            "cameras[0].regions[0].polygon[1][1]: expected a whole number from 0 to 16384",
        ),
        (
            _camera(
                "crop: {x: 0, y: 0, width: 99, height: 99}, "
                + _regions("[[0, 0], »[100, 5], [9, 9]]")
            ),
            (
                "cameras[0].regions[0].polygon[1]: expected a corner inside the crop "
                "(x 0 to 99, y 0 to 99), got [100, 5]"
            ),
        ),
        (
            _camera("crop: {x: 0, y: 0, width: »0, height: 99}"),
            "cameras[0].crop.width: expected a whole number from 16 to 16384, got 0",
        ),
        (
            _camera(
                "regions: [{name: r, mode: include, polygon: [[0, 0], [9, 0], [9, 9]]},\n"
                " {name: »r, mode: include, polygon: [[0, 0], [9, 0], [9, 9]]}]"
            ),
            "cameras[0].regions[1].name: expected a name of its own, got 'r' again",
        ),
        # Numbers out of range.
        *(
            (
                _camera(f"trigger: {{mode: interval, interval_seconds: »{value}}}"),
                "cameras[0].trigger.interval_seconds: expected a number from 0.05 to 3600",
            )
            for value in ("0", "-1", "1000000000")
        ),
        ("mqtt: {keepalive_seconds: »0}\n", "mqtt.keepalive_seconds: expected a whole number"),
        *(
            (f"mqtt: {{port: »{port}}}\n", "mqtt.port: expected a whole number from 1 to 65535")
            for port in ("0", "70000", "1883abc")
        ),
        ("spool: {max_rows: »0}\n", "spool.max_rows: expected a whole number from 100"),
        ("spool: {max_megabytes: »0}\n", "spool.max_megabytes: expected a whole number"),
        # What does not go together.
        (
            _camera("trigger: »{mode: interval}"),
            "cameras[0].trigger.interval_seconds: missing; 'mode: interval' needs",
        ),
        (
            _camera("trigger: {mode: mqtt, interval_seconds: »1}"),
            "cameras[0].trigger.interval_seconds: expected only with 'mode: interval'",
        ),
        (
            _camera("faults: {black_below: »250, saturated_above: 200}"),
            "cameras[0].faults.black_below: expected less than saturated_above (200), got 250",
        ),
        (
            "cameras:\n- {name: a, source: '0'}\n- {name: »a, source: '1'}\n",
            "cameras[1].name: expected a name of its own, got 'a' again",
        ),
        (
            "spool: {max_megabytes: 2,\n keep_acknowledged_megabytes: »3}\n",
            "spool.keep_acknowledged_megabytes: expected at most max_megabytes (2), got 3",
        ),
        ("mqtt: {host: »10.0.0.3}\n", "mqtt.host: expected 'tls:' for a broker on another"),
        ("mqtt: {host: »'mqtt://h'}\n", "mqtt.host: expected a host name or address"),
        (
            "mqtt: {username: u, password_file: a, password_env: »B}\n",
            "mqtt.password_env: expected password_file or password_env, got both",
        ),
        ("mqtt: {password_file: »a}\n", "mqtt.password_file: expected username beside it"),
        ("mqtt: {tls: {cert_file: »a}}\n", "mqtt.tls.cert_file: expected key_file beside it"),
    ],
)
def test_a_wrong_setting_is_refused_with_its_place_and_what_was_expected(
    tmp_path: Path, text: str, expected: str
) -> None:
    _refuses_at_the_mark(tmp_path, text, expected)


def test_all_wrong_settings_are_listed_in_the_order_of_the_file(tmp_path: Path) -> None:
    text = "mqtt:\n  port: 0\n  hots: h\ncameras:\n  - {name: a, source: 0}\nbundle: 3\n"

    lines = _refusal(tmp_path, text)

    places = [line.split(" ")[0] for line in lines]
    assert places == [
        "press.yaml:2:9:", "press.yaml:3:3:", "press.yaml:5:23:", "press.yaml:6:9:",
    ]  # fmt: skip


def test_a_long_list_of_problems_is_cut_and_counted(tmp_path: Path) -> None:
    lines = _refusal(tmp_path, "".join(f"key{index}: 1\n" for index in range(50)))

    assert len(lines) == 21
    assert lines[-1] == "... and 30 more"


def test_a_value_cannot_forge_a_line_of_a_log(tmp_path: Path) -> None:
    line = _one_line(tmp_path, "mqtt: {host: '\u202eevil \U0001f600" + "x" * 200 + "'}\n")

    assert "\u202e" not in line
    assert len(line) < 200


@pytest.mark.parametrize(
    "text",
    [
        "[" * 5000 + "]" * 5000,
        "a: " + "{a: " * 30 + "1" + "}" * 30 + "\n",
        "\n".join("  " * depth + "a:" for depth in range(300)),
    ],
)
def test_a_deep_file_is_refused_at_once(tmp_path: Path, text: str) -> None:
    started = time.monotonic()

    assert "expected at most 20 levels, got more" in _one_line(tmp_path, text)
    assert time.monotonic() - started < 2


def test_a_large_file_is_refused_unread(tmp_path: Path) -> None:
    assert "expected at most 262144 bytes, got more" in _one_line(tmp_path, "#" * 300_000)


def test_a_file_that_is_missing_or_none_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for path, expected in (
        (tmp_path / "none.yaml", "got no such file"),
        (tmp_path / "none.yaml/x.yaml", "got no such file"),
        (tmp_path, "got something else than a file"),
        (pipe, "got something else than a file"),
        (tmp_path / ("x" * 300), "cannot be read: File name too long"),
    ):
        with pytest.raises(ConfigError) as caught:
            load_config(path)
        assert str(caught.value).startswith(f"{path}: ")
        assert expected in str(caught.value)


@settings(max_examples=200, deadline=None)
@given(
    data=st.one_of(
        st.text("ab:-[]{}#&*!|>'\"%@~,?.\\ \n01e", max_size=40).map(str.encode),
        st.lists(
            st.sampled_from(
                ["cameras", "mqtt", "tls", "regions", "polygon", ": ", "\n", "  ", "- ", "[", "]",
                 "{", "}", ", ", "0", "1.5", "true", "'a'", "dir:x", "name", "source"]
            ),
            max_size=20,
        ).map(lambda words: "".join(words).encode()),
        st.binary(max_size=30),
    )
)  # fmt: skip
def test_whatever_stands_in_a_file_it_is_settings_or_a_configuration_error(
    tmp_path_factory: pytest.TempPathFactory, data: bytes
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_bytes(data)

    with suppress(ConfigError):
        load_config(path)
