from __future__ import annotations

import json
from pathlib import Path

import pytest
from labelled_parts import bad_mask, save, write_mvtec
from scenes import fixture_part

from edge_sdk.errors import InputError
from edge_sdk.evaluation.layouts import find_categories
from edge_sdk.evaluation.sampling import draw_references


def test_one_mvtec_category_and_a_tree_of_them_are_found(tmp_path: Path) -> None:
    write_mvtec(tmp_path / "parts" / "screw", bad=2)
    write_mvtec(tmp_path / "parts" / "größe 2", bad=2)
    (one,) = find_categories([tmp_path / "parts" / "screw"])
    assert (one.name, one.layout, len(one.train)) == ("screw", "mvtec", 6)
    assert [category.name for category in find_categories([tmp_path])] == [
        "parts/größe 2",
        "parts/screw",
    ]
    kinds = {picture.kind for picture in one.test}
    assert kinds == {"good", "missing", "stain"}
    masked = [picture for picture in one.test if picture.mask]
    assert {picture.kind for picture in masked} == {"missing"}
    assert masked[0].mask == one.root / "ground_truth" / "missing" / "Teil 0 ü_mask.png"


def test_visa_is_read_from_its_csv(tmp_path: Path) -> None:
    lines = ["object,split,label,image,mask"]
    for number, (split, label) in enumerate(
        [("train", "normal"), ("train", "normal"), ("test", "normal"), ("test", "anomaly")]
    ):
        image = f"candle/Data/Images/{number}.png"
        save(tmp_path / image, fixture_part(number))
        mask = f"candle/Data/Masks/{number}.png" if label == "anomaly" else ""
        lines.append(f"candle,{split},{label},{image},{mask}")
    table = tmp_path / "split_csv" / "1cls.csv"
    table.parent.mkdir()
    table.write_text("\n".join(lines) + "\n")
    for place in (tmp_path, table):
        (category,) = find_categories([place])
        assert (category.name, category.layout) == ("candle", "visa")
        assert [path.name for path in category.train] == ["0.png", "1.png"]
        good, bad = category.test
        assert (good.kind, good.mask) == ("good", None)
        assert bad.mask == tmp_path / "candle/Data/Masks/3.png"
    table.write_text("object,image\n")
    with pytest.raises(InputError, match=r"1cls\.csv: expected the columns"):
        find_categories([table])


@pytest.mark.parametrize("masks", ["anomaly_mask", "label"])
def test_bmad_is_read_with_its_masks(tmp_path: Path, masks: str) -> None:
    save(tmp_path / "train" / "good" / "a.png", fixture_part(0))
    save(tmp_path / "test" / "good" / "img" / "b.png", fixture_part(1))
    save(tmp_path / "test" / "Ungood" / "img" / "c.png", fixture_part(2, is_complete=False))
    save(tmp_path / "test" / "Ungood" / masks / "c.png", bad_mask())
    (category,) = find_categories([tmp_path])
    assert category.layout == "bmad"
    assert [(p.path.name, p.kind, p.mask is not None) for p in category.test] == [
        ("b.png", "good", False),
        ("c.png", "ungood", True),
    ]


def test_plain_good_and_bad_folders_share_no_picture_between_references_and_test(
    tmp_path: Path,
) -> None:
    for index in range(7):
        save(tmp_path / "good" / f"{index}.png", fixture_part(index))
    save(tmp_path / "bad" / "x.png", fixture_part(9, is_complete=False))
    (category,) = find_categories([tmp_path])
    assert category.layout == "folders"
    judged = {picture.path for picture in category.test if not picture.is_bad}
    assert (len(category.train), len(judged)) == (4, 3)
    assert not judged & set(category.train)


def test_what_was_looked_for_is_said_where_nothing_is_found(tmp_path: Path) -> None:
    (tmp_path / "pictures").mkdir()
    with pytest.raises(InputError, match=r"no data in a known layout; looked for train/good with"):
        find_categories([tmp_path])
    with pytest.raises(InputError, match="found none"):
        find_categories([tmp_path / "absent"])


@pytest.mark.parametrize(
    ("counts", "what"),
    [
        ({"train": 0}, "good pictures to draw references from"),
        ({"good": 0}, "good test pictures"),
        ({"bad": 0}, "bad test pictures"),
    ],
)
def test_a_category_of_one_class_is_an_error(
    tmp_path: Path, counts: dict[str, int], what: str
) -> None:
    for folder in ("train/good", "test/good", "test/missing"):
        (tmp_path / folder).mkdir(parents=True)
    write_mvtec(tmp_path, **counts)
    with pytest.raises(InputError, match=f"expected {what}, found none"):
        find_categories([tmp_path])


def test_two_categories_of_one_name_are_an_error(tmp_path: Path) -> None:
    for place in ("a/screw", "b/screw"):
        write_mvtec(tmp_path / place, bad=1)
    with pytest.raises(InputError, match="two categories are called 'screw'"):
        find_categories([tmp_path / "a" / "screw", tmp_path / "b" / "screw"])


def test_references_are_drawn_without_replacement_and_the_same_for_the_same_seed() -> None:
    for seed in range(20):
        drawn = draw_references(9, 8, seed)
        assert drawn == draw_references(9, 8, seed)
        assert len(set(drawn)) == 8
    assert draw_references(9, 4, 0) != draw_references(9, 4, 1)
    assert draw_references(9, None, 3) == list(range(9))
    with pytest.raises(InputError, match="at least 10 good pictures to draw from, got 9"):
        draw_references(9, 10, 0)


def test_the_published_draw_is_the_mersenne_twisters_output_modulo_the_number() -> None:
    first = [3312796937, 1283169405, 89128932, 2124247567, 2721498432, 1902734705]
    assert draw_references(7, 6, 10, "adaptclip") == [value % 7 for value in first]
    assert draw_references(4, 4, 10, "adaptclip") == [1, 1, 0, 3]


def test_the_published_draw_gives_the_published_indices(shared_data: Path) -> None:
    goldens = shared_data.parent / "goldens" / "adaptclip" / "kshot_indices.json"
    if not goldens.is_file():
        pytest.skip(f"no golden indices: {goldens} is absent")
    for key, expected in json.loads(goldens.read_text()).items():
        seed, available, shots = (
            int("".join(filter(str.isdigit, word))) for word in key.split("_")
        )
        assert draw_references(available, shots, seed, "adaptclip") == expected, key
