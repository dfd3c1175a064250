"""Secrets: where they come from, who may read them, and that nothing ever shows one."""

from __future__ import annotations

import json
import os
import ssl
import string
import subprocess
import traceback
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edge_sdk.config import (
    MqttConfig,
    TlsConfig,
    build_tls_context,
    load_config,
    override_config,
    read_mqtt_password,
    read_secret,
)
from edge_sdk.errors import ConfigError

MARK = "qZ7w"
"""Part of every secret here: not even a piece of one may show."""

_around = st.text(string.ascii_letters + string.digits + string.punctuation + " ", max_size=12)
secrets = st.builds(lambda before, after: f"{before}{MARK}{after}", _around, _around)

# Ways in which people put a secret into a device file. QUOTED: as a quoted text; RAW: as it is.
ROUTES = (
    "mqtt: {password: QUOTED}",
    "mqtt: {password: RAW}",
    "mqtt: {password: {value: QUOTED}}",
    "mqtt: {passwort: QUOTED, token: [QUOTED]}",
    "mqtt: {api_key: QUOTED, username: [QUOTED]}",
    "mqtt: {password_file: [QUOTED]}",
    "mqtt: {username: u, password_env: QUOTED}",
    "mqtt: {username: u, password_env: RAW}",
    "mqtt: {password:RAW}",
    "mqtt: {password=RAW}",
    "mqtt: password=RAW",
    "mqtt: 'password: QUOTED",
    "password RAW\nmqtt: {}",
    "mqtt: {passwordRAW: 1}",
    "mqtt: {password: x, RAW: no, RAW: no}",
    "mqtt:\n  password: *RAW",
    "mqtt:\n  password: &RAW x",
    "mqtt:\n  password: !RAW x",
    "mqtt:\n  password: @RAW",
    "mqtt:\n  password: |\n    RAW\n    RAW",
    "mqtt:\n  password: 1:RAW",
    'mqtt: {password: "\\qRAW"}',
    "%TAG !e! RAW\n---\nmqtt: {}",
    "mqtt: {host: QUOTED_URL}",
    "mqtt: {host: QUOTED_USER}",
    "bundle: QUOTED_URL",
    "state_dir: QUOTED_URL",
    "cameras: [{name: a, source: QUOTED_URL}]",
    "cameras: [{name: a, source: QUOTED_USER}]",
    "cameras: [{name: a, source: QUOTED_QUERY}]",
    "cameras: [{name: a, source: '0', password: QUOTED}]",
    "password: QUOTED",
)


def _device_file(route: str, secret: str) -> str:
    for word, text in (
        ("QUOTED_URL", json.dumps(f"rtsp://user:{secret}@host/stream")),
        ("QUOTED_USER", json.dumps(f"user:{secret}@10.0.0.1/stream")),
        ("QUOTED_QUERY", json.dumps(f"10.0.0.1/stream?user=a&password={secret}")),
        ("QUOTED", json.dumps(secret)),
        ("RAW", secret),
    ):
        route = route.replace(word, text)
    return route + "\n"


def _everything_said(error: BaseException) -> str:
    """What a log or a crash report may have of an error, those behind it included."""
    said = "".join(traceback.format_exception(error))
    behind: BaseException | None = error
    while behind is not None:
        said += f"{behind!s} {behind!r}"
        behind = behind.__cause__ or behind.__context__
    return said


@pytest.mark.parametrize("route", ROUTES)
@settings(max_examples=25, deadline=None)
@given(secret=secrets)
def test_a_secret_in_a_device_file_is_refused_or_dropped_but_never_shown(
    tmp_path_factory: pytest.TempPathFactory, route: str, secret: str
) -> None:
    path = tmp_path_factory.getbasetemp() / "press.yaml"
    path.write_text(_device_file(route, secret), encoding="utf-8")

    try:
        config = load_config(path)
    except ConfigError as error:
        said = _everything_said(error)
    else:  # the secret was in a comment: a '#' was in it
        said = f"{config!r} {config!s} {config.model_dump_json()} {config.model_dump()}"
    assert MARK not in said


@settings(max_examples=25, deadline=None)
@given(secret=secrets)
def test_a_secret_given_as_an_option_is_not_shown(secret: str) -> None:
    config = load_config(Path(__file__).resolve().parents[2] / "device_configs/desktop.yaml")

    for path in (("cameras", 0, "source"), ("mqtt", "host"), ("bundle",)):
        with pytest.raises(ConfigError) as caught:
            override_config(config, {path: f"rtsp://user:{secret}@host/x"})
        assert MARK not in _everything_said(caught.value)


def _secret_file(folder: Path, content: bytes, mode: int = 0o600) -> Path:
    path = folder / "mqtt.password"
    path.write_bytes(content)
    path.chmod(mode)
    return path


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"hunter2", "hunter2"),
        (b"hunter2\n", "hunter2"),
        (b"hunter2\r\n", "hunter2"),
        (b" p@ss#:w\xc3\xb6rt \n", " p@ss#:w\u00f6rt "),
    ],
)
def test_a_secret_is_its_file_without_the_last_line_break(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    secret = read_secret("mqtt", file=_secret_file(tmp_path, content), environment=None)

    assert secret.get_secret_value() == expected
    assert expected not in f"{secret!r} {secret!s}"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644, 0o602])
def test_a_secret_that_others_may_touch_is_refused(tmp_path: Path, mode: int) -> None:
    path = _secret_file(tmp_path, b"hunter2\n", mode)

    with pytest.raises(ConfigError) as caught:
        read_secret("mqtt", file=path, environment=None)
    assert str(caught.value) == (
        f"mqtt.password_file: {path}: expected a file that only its owner may read (chmod 600), "
        f"got mode {mode:04o}"
    )


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "expected a password, got nothing"),
        (b"\n", "expected a password, got nothing"),
        (b"user\nqZ7w\n", "expected one line, got a control character in it"),
        (b"qZ7w\x00\n", "expected one line, got a control character in it"),
        (b"qZ7w\xff\n", "expected UTF-8, got other bytes"),
        (b"qZ7w" * 2000, "expected at most 4096 bytes, got more"),
    ],
)
def test_a_file_that_is_no_password_is_refused_without_showing_it(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = _secret_file(tmp_path, content)

    with pytest.raises(ConfigError) as caught:
        read_secret("mqtt", file=path, environment=None)
    assert f"{path}: {expected}" in str(caught.value)
    assert MARK not in _everything_said(caught.value)


def test_a_secret_file_that_is_missing_or_none_is_refused(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe, 0o600)

    for path, expected in (
        (tmp_path / "none", "cannot be read: No such file or directory"),
        (tmp_path, "expected a file, got something else"),
        (pipe, "expected a file, got something else"),
    ):
        with pytest.raises(ConfigError) as caught:
            read_secret("mqtt", file=path, environment=None)
        assert str(caught.value) == f"mqtt.password_file: {path}: {expected}"


def test_the_services_own_credentials_are_searched_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    credentials = tmp_path / "credentials"
    credentials.mkdir()
    path = _secret_file(tmp_path, b"from the file\n")
    monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(credentials))

    def read() -> str:
        return read_secret("mqtt", file=path, environment=None).get_secret_value()

    assert read() == "from the file"
    # systemd lets its service in through an access list, which shows as a right of the group.
    given_by_systemd = _secret_file(credentials, b"from systemd\n", 0o440)
    assert read() == "from systemd"
    given_by_systemd.chmod(0o444)
    with pytest.raises(ConfigError, match="got mode 0444"):
        read()


def test_a_secret_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EDGE_TEST_PASSWORD", "hunter2")
    mqtt = MqttConfig(username="u", password_env="EDGE_TEST_PASSWORD")  # noqa: S106 - its name

    password = read_mqtt_password(mqtt)
    assert password is not None
    assert password.get_secret_value() == "hunter2"
    assert "hunter2" not in f"{mqtt!r} {mqtt.model_dump_json()}"


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, "mqtt.password_env: expected environment variable EDGE_TEST_PASSWORD to be set"),
        ("", "expected a password, got nothing"),
        ("qZ7w\n", "expected one line"),
    ],
)
def test_an_environment_variable_that_is_no_password_is_refused(
    monkeypatch: pytest.MonkeyPatch, value: str | None, expected: str
) -> None:
    monkeypatch.delenv("EDGE_TEST_PASSWORD", raising=False)
    if value is not None:
        monkeypatch.setenv("EDGE_TEST_PASSWORD", value)

    with pytest.raises(ConfigError) as caught:
        read_secret("mqtt", file=None, environment="EDGE_TEST_PASSWORD")
    assert expected in str(caught.value)
    assert "EDGE_TEST_PASSWORD" in str(caught.value)
    assert MARK not in _everything_said(caught.value)


def test_no_password_is_read_where_none_is_configured() -> None:
    assert read_mqtt_password(MqttConfig()) is None


def test_settings_load_where_their_secrets_are_out_of_reach(tmp_path: Path) -> None:
    path = tmp_path / "press.yaml"
    path.write_text("mqtt: {username: u, password_file: none}\n", encoding="utf-8")
    config = load_config(path)

    with pytest.raises(ConfigError, match=f"mqtt.password_file: {tmp_path}/none: cannot be read"):
        read_mqtt_password(config.mqtt)


def _certificate(folder: Path, name: str) -> tuple[Path, Path]:
    """A self-signed certificate and its key."""
    certificate, key = folder / f"{name}.pem", folder / f"{name}.key"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
         "-nodes", "-subj", f"/CN={name}", "-days", "2", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip
    key.chmod(0o600)
    return certificate, key


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Path]]:
    folder = tmp_path_factory.mktemp("certificates")
    return {name: _certificate(folder, name) for name in ("press", "other")}


def test_an_encrypted_connection_checks_the_brokers_name(
    certificates: dict[str, tuple[Path, Path]],
) -> None:
    certificate, key = certificates["press"]
    context = build_tls_context(TlsConfig(ca_file=certificate, cert_file=certificate, key_file=key))

    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    assert [ca["subject"] for ca in context.get_ca_certs()] == [((("commonName", "press"),),)]


def test_an_encrypted_connection_without_files_trusts_the_systems_authorities() -> None:
    assert build_tls_context(TlsConfig()).verify_mode is ssl.CERT_REQUIRED


def test_tls_files_that_are_missing_or_no_pair_are_refused_by_key_and_name(
    certificates: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    certificate, key = certificates["press"]
    none, other_key = tmp_path / "none.pem", certificates["other"][1]
    encrypted = tmp_path / "encrypted.key"
    subprocess.run(
        ["openssl", "ec", "-aes256", "-passout", "pass:hunter2", "-in", key, "-out", encrypted],
        check=True,
        capture_output=True,
    )
    encrypted.chmod(0o600)
    refused_pair = (
        f"mqtt.tls.cert_file: {certificate}: expected a certificate in PEM form and its "
        "unencrypted key in "
    )

    for tls, expected in (
        (TlsConfig(ca_file=none), f"mqtt.tls.ca_file: {none}: expected a file, got none"),
        (TlsConfig(ca_file=key), f"mqtt.tls.ca_file: {key}: expected certificates in PEM form"),
        (
            TlsConfig(cert_file=none, key_file=key),
            f"mqtt.tls.cert_file: {none}: expected a file, got none",
        ),
        (
            TlsConfig(cert_file=certificate, key_file=none),
            f"mqtt.tls.key_file: {none}: expected a file, got none",
        ),
        (
            TlsConfig(cert_file=certificate, key_file=other_key),
            f"{refused_pair}{other_key}",
        ),
        (
            TlsConfig(cert_file=certificate, key_file=encrypted),
            f"{refused_pair}{encrypted}",
        ),
    ):
        with pytest.raises(ConfigError) as caught:
            build_tls_context(tls)
        assert str(caught.value).startswith(expected)


def test_a_private_key_that_others_may_read_is_refused(
    certificates: dict[str, tuple[Path, Path]], tmp_path: Path
) -> None:
    certificate, key = certificates["press"]
    open_key = tmp_path / "open.key"
    open_key.write_bytes(key.read_bytes())
    open_key.chmod(0o644)

    with pytest.raises(ConfigError, match=r"mqtt\.tls\.key_file: .*open\.key: .* got mode 0644"):
        build_tls_context(TlsConfig(cert_file=certificate, key_file=open_key))
