"""The document of promises: each test that it names exists, and no state or mutant is left out."""

from __future__ import annotations

import re

import pytest
from contract.tree import ROOT

from edge_sdk.alerting.payload import CameraState, DeviceFlag

DOCUMENT = (ROOT / "docs" / "reliability.md").read_text(encoding="utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)::(test_\w+)`", DOCUMENT)))


def test_promises_are_shown_by_tests() -> None:
    assert len(NAMED) > 30
    assert DOCUMENT.count("tests/") - DOCUMENT.count("<!-- not run") == len(
        re.findall(r"`tests/[\w/]+\.py::test_\w+`", DOCUMENT)
    ), "each test is named in full"


@pytest.mark.parametrize(("path", "name"), NAMED, ids=lambda value: value.rpartition("/")[2])
def test_a_test_that_is_named_exists(path: str, name: str) -> None:
    text = (ROOT / path).read_text(encoding="utf-8")
    assert re.search(rf"^def {name}\(", text, re.MULTILINE)


@pytest.mark.parametrize("member", [*CameraState, *DeviceFlag], ids=lambda member: member.value)
def test_each_state_of_the_wire_contract_has_its_row(member: CameraState | DeviceFlag) -> None:
    row = re.search(rf"^\| `{member.value}` \|.*\|$", DOCUMENT, re.MULTILINE)
    assert row is not None
    assert "tests/" in row[0] or "reserved" in row[0]


def test_each_mutant_is_in_the_document() -> None:
    table = (ROOT / "scripts" / "lib" / "mutant_table.py").read_text(encoding="utf-8")
    names = re.findall(r'Mutant\(\n\s+"([\w-]+)"', table)
    assert len(names) >= 9
    assert set(names) == set(re.findall(r"^([a-z-]+) +red\b", DOCUMENT, re.MULTILINE))
