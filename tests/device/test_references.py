from __future__ import annotations

import json
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scenes import DIGEST, child_environment, features_of, flat, frame_of, threshold_of

from edge_sdk.errors import InputError
from edge_sdk.records import Frame, PatchFeatures
from edge_sdk.references import (
    ReferenceSet,
    ReferenceStore,
    TokenCache,
    load_threshold,
    save_threshold,
)

# Enrols version 1, then stops in the middle of version 2, which its frames make it write.
ENROL_AND_STOP = """
import sys
from pathlib import Path
from scenes import flat, frame_of
from edge_sdk.references import ReferenceStore

class Stopping(list):
    def __iter__(self):
        for index, frame in enumerate(list.__iter__(self)):
            if index == 2:
                print("in the middle", flush=True)
                sys.stdin.read()
            yield frame

store = ReferenceStore(Path(sys.argv[1]), "cam1")
store.save("default", [frame_of(flat(1)), frame_of(flat(2))], source="test")
store.save("default", Stopping(frame_of(flat(10 + level)) for level in range(4)), source="test")
"""
# Enrols version after version, as fast as it can.
ENROL_FOR_EVER = """
import sys
from pathlib import Path
from scenes import flat, frame_of
from edge_sdk.references import ReferenceStore

store = ReferenceStore(Path(sys.argv[1]), "cam1")
while True:
    saved = store.save("default", [frame_of(flat(level)) for level in range(3)], source="test")
    print(saved.version, flush=True)
"""


def start(program: str, state: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program), str(state)],
        env=child_environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def read_line(child: subprocess.Popen[str]) -> str:
    assert child.stdout is not None
    return child.stdout.readline().strip()


def frames(*levels: int) -> list[Frame]:
    return [frame_of(flat(level), frame_id=number) for number, level in enumerate(levels)]


def levels_of(references: ReferenceSet) -> list[int]:
    return [int(picture.pixels[0, 0, 0]) for picture in references.pictures]


def enrolled(state: Path, *levels: int) -> ReferenceSet:
    return ReferenceStore(state, "cam1").save("default", frames(*levels), source="test")


def test_pictures_come_back_as_they_were_in_their_order(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (12, 20, 3), np.uint8)
    mono = np.random.default_rng(1).integers(0, 256, (12, 20, 1), np.uint8)
    store = ReferenceStore(tmp_path, "cam1")
    saved = store.save("default", [frame_of(noise), frame_of(mono)], source="dir:good")
    loaded = store.load("default")
    assert [picture.sha256 for picture in saved.pictures] == [
        picture.sha256 for picture in loaded.pictures
    ]
    assert np.array_equal(loaded.pictures[0].pixels, noise)
    assert np.array_equal(loaded.pictures[1].pixels, np.repeat(mono, 3, axis=2))
    assert loaded.label == "default/1"
    assert (loaded.camera, loaded.name) == ("cam1", "default")


def test_every_enrolment_is_a_new_version_and_the_newest_is_used(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, "cam1")
    for level in range(1, 12):
        assert store.save("default", frames(level, level), source="test").version == level
    assert store.versions("default") == list(range(1, 12))
    assert levels_of(store.load("default")) == [11, 11]


def test_a_new_version_counts_on_from_the_newest_though_older_ones_were_deleted(
    tmp_path: Path,
) -> None:
    first, second = enrolled(tmp_path, 1), enrolled(tmp_path, 2)
    shutil.rmtree(first.folder)
    assert enrolled(tmp_path, 3).version == second.version + 1


def test_sets_and_cameras_are_apart(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, "cam1")
    store.save("blue", frames(1), source="test")
    store.save("red", frames(2), source="test")
    ReferenceStore(tmp_path, "cam2").save("blue", frames(3), source="test")
    assert store.names() == ["blue", "red"]
    assert levels_of(store.load("blue")) == [1]
    assert levels_of(ReferenceStore(tmp_path, "cam2").load("blue")) == [3]


def test_a_set_says_where_its_pictures_came_from(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, "cam1")
    taken = [frame_of(flat(5, (12, 20)), frame_id=7), frame_of(flat(6, (12, 20)), frame_id=9)]
    description = json.loads(
        (store.save("default", taken, source="file:a.mp4").folder / "set.json").read_bytes()
    )
    assert description["source"] == "file:a.mp4"
    assert [picture["frame_id"] for picture in description["pictures"]] == [7, 9]


def test_a_set_that_was_never_enrolled_is_named_with_those_that_were(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, "cam1")
    with pytest.raises(InputError, match=r"no reference set 'red' \(enrolled: none\)"):
        store.load("red")
    store.save("blue", frames(1), source="test")
    with pytest.raises(InputError, match=r"no reference set 'red' \(enrolled: blue\)"):
        store.load("red")


def test_a_set_without_pictures_is_refused_and_leaves_nothing(tmp_path: Path) -> None:
    store = ReferenceStore(tmp_path, "cam1")
    with pytest.raises(InputError, match="at least one picture"):
        store.save("default", [], source="test")
    assert store.versions("default") == []


def test_a_version_is_absent_after_a_kill_in_the_middle_and_its_number_is_used_again(
    tmp_path: Path,
) -> None:
    with start(ENROL_AND_STOP, tmp_path) as child:
        assert read_line(child) == "in the middle"
        partial = list((tmp_path / "cameras/cam1/reference_sets/default").glob(".*/pictures/*"))
        child.kill()
    assert len(partial) == 2
    store = ReferenceStore(tmp_path, "cam1")
    assert store.versions("default") == [1]
    assert levels_of(store.load("default")) == [1, 2]
    again = store.save("default", frames(7), source="test")
    assert again.version == 2
    assert levels_of(again) == [7]
    assert [path.name for path in again.folder.parent.iterdir() if path.name[0] == "."] == []


@pytest.mark.parametrize("saved_before_the_kill", [1, 4, 7])
def test_every_version_is_whole_after_a_kill_at_any_moment(
    saved_before_the_kill: int, tmp_path: Path
) -> None:
    with start(ENROL_FOR_EVER, tmp_path) as child:
        while read_line(child) != str(saved_before_the_kill):
            assert child.poll() is None
        child.kill()
    store = ReferenceStore(tmp_path, "cam1")
    versions = store.versions("default")
    assert versions == list(range(1, len(versions) + 1))
    assert len(versions) >= saved_before_the_kill
    assert levels_of(store.load("default")) == [0, 1, 2]
    assert enrolled(tmp_path, 9).version == len(versions) + 1


def test_a_picture_that_was_altered_is_named(tmp_path: Path) -> None:
    references = enrolled(tmp_path, 1, 2, 3)
    other = enrolled(tmp_path / "other", 200)
    picture = references.folder / "pictures" / "01.png"
    picture.write_bytes((other.folder / "pictures" / "00.png").read_bytes())
    with pytest.raises(InputError, match=r"01\.png: expected sha256 .*, got .*enrol again"):
        ReferenceStore(tmp_path, "cam1").load("default")


def test_a_picture_that_is_missing_is_named(tmp_path: Path) -> None:
    references = enrolled(tmp_path, 1, 2, 3)
    (references.folder / "pictures" / "02.png").unlink()
    with pytest.raises(InputError, match=r"02\.png: the reference picture is missing"):
        ReferenceStore(tmp_path, "cam1").load("default")


def drop(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda description: description.pop(key)


@pytest.mark.parametrize(
    "spoil",
    [
        drop("format"),
        drop("pictures"),
        lambda description: description.update(format=2),
        lambda description: description.update(pictures=None),
        lambda description: description.update(pictures=["pictures/00.png"]),
        lambda description: description["pictures"][0].pop("sha256"),
        lambda description: description["pictures"][0].pop("file"),
    ],
    ids=["no format", "no pictures", "format 2", "null", "bare names", "no digest", "no file"],
)
def test_a_description_that_makes_no_sense_is_refused_by_name(
    spoil: Callable[[dict[str, Any]], object], tmp_path: Path
) -> None:
    path = enrolled(tmp_path, 1, 2).folder / "set.json"
    description = json.loads(path.read_bytes())
    spoil(description)
    path.write_text(json.dumps(description))
    with pytest.raises(InputError, match=r"set\.json"):
        ReferenceStore(tmp_path, "cam1").load("default")


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe\0", b"null"])
def test_a_description_that_does_not_read_is_refused_by_name(
    content: bytes, tmp_path: Path
) -> None:
    path = enrolled(tmp_path, 1).folder / "set.json"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"set\.json"):
        ReferenceStore(tmp_path, "cam1").load("default")


def test_a_threshold_is_kept_for_its_key_alone(tmp_path: Path) -> None:
    references = enrolled(tmp_path, 1, 2)
    fitted = threshold_of(0.25, good_scores=(0.125, 0.25), pictures=2)
    assert load_threshold(references, "one") is None
    save_threshold(references, "one", fitted)
    assert load_threshold(references, "one") == fitted
    assert load_threshold(references, "two") is None
    save_threshold(references, "one", replace(fitted, value=0.5))
    assert load_threshold(references, "one") == replace(fitted, value=0.5)
    later = enrolled(tmp_path, 3, 4)
    assert load_threshold(later, "one") is None


@pytest.mark.parametrize(
    "changes",
    [
        {"value": float("nan")},
        {"value": float("inf")},
        {"value": None},
        {"value": "0.5"},
        {"good_scores": ["a"]},
        {"good_scores": [float("nan")]},
        {"good_scores": None},
        {"provisional": None},
        {"pictures": "many"},
        {"colour": "red"},
    ],
)
def test_a_stored_threshold_that_makes_no_sense_is_refused_by_name(
    changes: dict[str, Any], tmp_path: Path
) -> None:
    references = enrolled(tmp_path, 1, 2)
    save_threshold(references, "one", threshold_of(0.25))
    path = references.folder / "thresholds" / "one.json"
    path.write_text(json.dumps(json.loads(path.read_bytes()) | changes))
    with pytest.raises(InputError, match=r"one\.json"):
        load_threshold(references, "one")


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b'{"value": 0.5}'])
def test_a_stored_threshold_that_does_not_read_is_refused_by_name(
    content: bytes, tmp_path: Path
) -> None:
    references = enrolled(tmp_path, 1, 2)
    save_threshold(references, "one", threshold_of(0.25))
    (references.folder / "thresholds" / "one.json").write_bytes(content)
    with pytest.raises(InputError, match=r"one\.json"):
        load_threshold(references, "one")


def tokens(seed: int = 0) -> PatchFeatures:
    random = np.random.default_rng(seed)
    return features_of(
        random.normal(size=(12, 5)), (3, 4), layer_2=(random.normal(size=(2, 7)), (2, 1))
    )


def cache_file(state: Path) -> Path:
    (path,) = (state / "token_cache").iterdir()
    return path


def reread(cache: TokenCache, key: str) -> PatchFeatures | None:
    return cache.read(key, tokens().preprocessed, DIGEST)


def test_tokens_come_back_as_they_were(tmp_path: Path) -> None:
    cache, stored = TokenCache(tmp_path), tokens()
    assert reread(cache, "a") is None
    cache.write("a", stored)
    found = cache.read("a", stored.preprocessed, DIGEST)
    assert found is not None
    assert (found.extractor_id, found.preprocessed) == (DIGEST, stored.preprocessed)
    assert found.tokens.keys() == stored.tokens.keys()
    for key, grid in stored.tokens.items():
        assert found.tokens[key].grid == grid.grid
        assert found.tokens[key].rows.dtype == np.float32
        assert np.array_equal(found.tokens[key].rows, grid.rows)
    assert reread(cache, "b") is None


@pytest.mark.parametrize("share", [0.0, 0.01, 0.3, 0.7, 0.99])
def test_a_cut_off_cache_file_counts_as_absent(share: float, tmp_path: Path) -> None:
    cache = TokenCache(tmp_path)
    cache.write("a", tokens())
    path = cache_file(tmp_path)
    data = path.read_bytes()
    path.write_bytes(data[: int(share * len(data))])
    assert reread(cache, "a") is None
    cache.write("a", tokens())
    assert reread(cache, "a") is not None


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> tuple[TokenCache, Path, bytes]:
    folder = tmp_path_factory.mktemp("cache")
    cache = TokenCache(folder)
    cache.write("a", tokens())
    path = cache_file(folder)
    return cache, path, path.read_bytes()


@given(place=st.floats(0, 0.9999), bit=st.integers(0, 7))
def test_a_damaged_cache_file_counts_as_absent_or_gives_the_same_tokens(
    written: tuple[TokenCache, Path, bytes], place: float, bit: int
) -> None:
    cache, path, data = written
    damaged = bytearray(data)
    damaged[int(place * len(data))] ^= 1 << bit
    path.write_bytes(damaged)
    found = reread(cache, "a")
    if found is not None:
        for key, grid in tokens().tokens.items():
            assert np.array_equal(found.tokens[key].rows, grid.rows)


def test_a_cache_file_of_another_making_counts_as_absent(tmp_path: Path) -> None:
    cache = TokenCache(tmp_path)
    cache.write("a", tokens())
    path = cache_file(tmp_path)
    strangers: list[dict[str, Any]] = [
        {},
        {"conv": np.zeros((12, 5), np.float32)},
        {"conv:1:3:x": np.zeros((12, 5), np.float32)},
        {"conv:1:3:5": np.zeros((12, 5), np.float32)},
        {"conv:1:3:4": np.zeros((12, 5), np.int64)},
        {"conv:1:3:4": np.array([{"a": 1}] * 12).reshape(12, 1)},
    ]
    for arrays in strangers:
        with path.open("wb") as file:
            np.savez(file, **arrays)
        assert reread(cache, "a") is None, arrays.keys()


def test_the_cache_keeps_the_newest_of_many(tmp_path: Path) -> None:
    cache = TokenCache(tmp_path)
    small = features_of([[1.0]], (1, 1))
    for number in range(520):
        cache.write(f"{number}", small)
    kept = {int(path.stem) for path in (tmp_path / "token_cache").iterdir()}
    assert len(kept) == 512
    assert 519 in kept
