"""Addresses of cameras: taken apart whatever the password is, and never shown with it."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies

from edge_sdk.config.address import parse_address, redacted
from edge_sdk.errors import ConfigError


@pytest.mark.parametrize(
    ("text", "host", "port", "credentials", "shown"),
    [
        ("rtsp://10.0.0.9/line", "10.0.0.9", 554, (None, None), "rtsp://10.0.0.9/line"),
        ("RTSP://cam:8554", "cam", 8554, (None, None), "rtsp://cam:8554/"),
        ("http://a:b@cam/x?pwd=1", "cam", 80, ("a", "b"), "http://cam/x"),
        ("rtsp://admin:p@#!ss@cam:554/s", "cam", 554, ("admin", "p@#!ss"), "rtsp://cam/s"),
        ("rtsp://admin:a:b?c@cam/s", "cam", 554, ("admin", "a:b?c"), "rtsp://cam/s"),
        ("rtsp://admin:p%2F%25%40@cam/s", "cam", 554, ("admin", "p/%@"), "rtsp://cam/s"),
        ("https://[fe80::1]:8443/s", "fe80::1", 8443, (None, None), "https://[fe80::1]:8443/s"),
        ("rtsp://admin@cam/s", "cam", 554, ("admin", None), "rtsp://cam/s"),
        ("rtsp://cam/a@2x", "cam", 554, (None, None), "rtsp://cam/a@2x"),
    ],
)
def test_an_address_is_taken_apart_and_shown_without_credentials(
    text: str, host: str, port: int, credentials: tuple[str | None, str | None], shown: str
) -> None:
    address = parse_address(text)

    assert (address.host, address.port) == (host, port)
    assert (address.username, address.password) == credentials
    assert address.shown == shown


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rtsp://admin:hun/ter@cam/s", "a '/' in a password is written %2F"),
        ("rtsp://admin:hun%ter@cam/s", "a '%' in the user or password is written %25"),
        ("rtsp://:hunter@cam/s", "a user before the '@'"),
        ("rtsp://", "no host"),
        ("rtsp:///s", "no host"),
        ("rtsp://admin:hunter@cam:99999/s", "a port from 1 to 65535"),
        ("rtsp://cam/hunter ter", "a blank is written %20"),
        ("ftp://admin:hunter@cam/s", "expected rtsp://HOST"),
    ],
)
def test_what_is_no_address_is_refused_with_the_cure_and_nothing_of_it_is_repeated(
    text: str, message: str
) -> None:
    with pytest.raises(ConfigError, match=message) as caught:
        parse_address(text)

    assert "hun" not in str(caught.value)


@given(
    username=strategies.text(min_size=1, max_size=20).filter(lambda name: name.strip() == name),
    password=strategies.text(max_size=30),
)
def test_any_credentials_survive_the_way_through_an_escaped_address(
    username: str, password: str
) -> None:
    from dataclasses import replace

    try:
        f"{username}{password}".encode()
    except UnicodeEncodeError:
        return  # a lone surrogate: no terminal or file gives one
    address = replace(parse_address("rtsp://cam/s"), username=username, password=password)

    again = parse_address(address.with_credentials_inside())

    assert (again.username, again.password) == (username, password)
    assert repr(again) == repr(parse_address("rtsp://cam/s"))


def test_credentials_go_where_the_path_has_places_for_them() -> None:
    address = parse_address("http://cam/p.jpg?user={username}&pwd={password}")
    assert address.has_places

    from dataclasses import replace

    filled = replace(address, username="admin", password="p&=#").filled()  # noqa: S106 - not one

    assert filled.location == "http://cam/p.jpg?user=admin&pwd=p%26%3D%23"
    assert filled.shown == "http://cam/p.jpg"


def test_a_library_s_words_are_repeated_without_credentials() -> None:
    said = "could not open rtsp://admin:p@ss@10.0.0.9/s?pwd=p%40ss with p@ss"

    assert redacted(said, "p@ss") == "could not open rtsp://10.0.0.9/s with (hidden)"
