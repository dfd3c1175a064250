"""``edge-inspect`` as it is started: what it says of pictures, draws and refuses."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from commands import Box, bad_part, good_part, write_config, write_pictures
from scenes import flat, make_bundle

from edge_sdk.imaging import encode_png, read_image, scale_brightness

NOT_GOOD = (190, 28, 28)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    box = Box(tmp_path)
    make_bundle(tmp_path / "bundle")
    write_pictures(tmp_path / "good", [good_part(seed) for seed in range(4)])
    write_pictures(tmp_path / "parts", [good_part(50), bad_part(51), good_part(52)])
    return box


def inspect(*more: object) -> tuple[object, ...]:
    return ("inspect", "--bundle", "bundle", *more)


def test_a_folder_is_judged_against_a_folder_of_good_pictures(box: Box) -> None:
    done = box.run(*inspect("parts", "--references", "good")).expect(0, "inspect: 100 %")
    lines = done.stdout.splitlines()
    assert lines[0].split() == ["PICTURE", "VERDICT", "SCORE", "MARGIN", "WORST", "PLACE"]
    assert [line.split()[:2] for line in lines[1:4]] == [
        ["0000.png", "normal"], ["0001.png", "anomalous"], ["0002.png", "normal"],
    ]  # fmt: skip
    assert lines[4].startswith("3 pictures: 2 normal, 1 anomalous, 0 fault; threshold ")
    assert not (box.state / "cameras").exists(), "what was only compared with is not enrolled"


def test_the_json_answer_says_where_and_what_it_was_compared_with(box: Box) -> None:
    done = box.run(*inspect("parts", "--references", "dir:good", "--json")).expect(0)
    answer = done.answer
    assert answer["counts"] == {"normal": 2, "anomalous": 1, "fault": 0}
    assert answer["reference_pictures"] == 4
    assert answer["provisional"] is True
    good, bad, _ = answer["pictures"]
    assert good["regions"] == []
    assert good["score"] < answer["threshold"] < bad["score"]
    assert bad["margin"] == pytest.approx(bad["score"] / answer["threshold"] - 1)
    worst, match = bad["regions"][0], bad["match"]
    assert worst["x"] <= match["x"] < worst["x"] + worst["width"]
    assert worst["y"] <= match["y"] < worst["y"] + worst["height"]
    assert 8 <= match["x"] < 24, "where the green square is"
    assert 8 <= match["y"] < 24
    assert 0 <= match["reference"] < 4
    assert match["distance"] > 0


def test_an_enrolled_set_is_used_with_the_crop_and_threshold_of_the_line(box: Box) -> None:
    cameras = [{"name": "cam1", "source": "dir:good", "crop": {"x": 0, "y": 0, "width": 32, "height": 16}}]  # fmt: skip  # noqa: E501
    config = write_config(box.folder / "box.yaml", cameras=cameras, bundle="bundle")
    box.run("enroll", "--config", config).expect(0)
    line = box.run("run", "--config", config, "--once", "--json").expect(0).answer["cameras"][0]

    answer = box.run("inspect", "--config", config, "good/0000.png", "--json").expect(0).answer

    assert answer["references"] == "default/1"
    assert answer["threshold"] == line["threshold"]
    assert answer["pictures"][0]["score"] == pytest.approx(line["score"], abs=1e-6)
    # As at the line, a crop is meant in the pixels of one camera.
    small = write_pictures(box.folder / "small", [good_part(1)[:20, :20]])
    fault = box.run("inspect", "--config", config, small.removeprefix("dir:"), "--json").expect(0)
    assert [row["reason"] for row in fault.answer["pictures"]] == ["wrong_size"]


def test_sheets_are_written_one_a_picture_even_where_names_are_the_same(box: Box) -> None:
    write_pictures(box.folder / "more", [bad_part(60)])
    done = box.run(
        *inspect("parts", "more/0000.png", "--references", "good", "--out", "sheets", "--json")
    ).expect(0)
    sheets = [row["sheet"] for row in done.answer["pictures"]]
    assert sheets == [f"sheets/000{n}_{name}.png" for n, name in enumerate(["0000", "0001", "0002", "0000"], 1)]  # fmt: skip  # noqa: E501
    banners = [read_image(box.folder / sheet)[2, 2] for sheet in sheets]
    assert [bool((banner == NOT_GOOD).all()) for banner in banners] == [False, True, False, True]


def test_a_file_that_is_no_picture_does_not_end_the_series_nor_pass_for_good(box: Box) -> None:
    (box.folder / "parts" / "0001.png").write_bytes(b"\x89PNG\r\n\x1a\n but no more")
    done = box.run(*inspect("parts", "--references", "good", "--out", "sheets", "--json"))
    rows = done.expect(11).answer["pictures"]
    assert [row["verdict"] for row in rows] == ["normal", "fault", "normal"]
    assert rows[1]["reason"] == "unreadable"
    assert "0001.png" in rows[1]["detail"]
    assert rows[1]["sheet"] is None


def test_what_cannot_be_judged_is_a_fault_and_with_exit_status_not_clean(box: Box) -> None:
    (box.folder / "black.png").write_bytes(encode_png(flat(0)))
    table = box.run(*inspect("black.png", "--references", "good", "--exit-status"))
    assert "black_frame" in table.expect(10).stdout
    clean = inspect("parts/0000.png", "--references", "good", "--exit-status")
    box.run(*clean).expect(0)
    box.run(*inspect("parts", "--references", "good", "--exit-status")).expect(10)


def test_doubtful_good_pictures_are_named(box: Box) -> None:
    dark = scale_brightness(good_part(3), 0.4)
    (box.folder / "good" / "0003.png").write_bytes(encode_png(dark))
    done = box.run(*inspect("parts", "--references", "good"))
    done.expect(0, "reference good/0003.png", "darker than the others")


def test_a_black_picture_is_no_reference(box: Box) -> None:
    (box.folder / "good" / "0003.png").write_bytes(encode_png(flat(0)))
    done = box.run(*inspect("parts", "--references", "good"))
    assert done.expect(11, "good/0003.png (no. 4): black").stdout == ""


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nothing.png", "--references", "good"], 11, "nothing.png: expected a picture"),
        (["empty", "--references", "good"], 11, "empty: expected pictures"),
        (["parts", "--references", "empty"], 11, "empty: expected pictures"),
        (["parts", "--references", "one"], 11, "expected 2 to 64 good pictures"),
        (["parts", "--references", "no-such-set"], 11, "no reference set 'no-such-set'"),
        (["parts", "--references", "dir:nowhere"], 11, "nowhere: expected a folder of pictures"),
        (["parts"], 11, "edge-enroll"),
        (["parts", "--references", "good", "--out", "bundle/manifest.json"], 3, "--out"),
    ],
)
def test_what_cannot_be_done_is_said(box: Box, words: list[str], code: int, said: str) -> None:
    (box.folder / "empty").mkdir()
    write_pictures(box.folder / "one", [good_part(1)])
    box.run(*inspect(*words)).expect(code, said)


def test_a_device_file_with_several_cameras_needs_the_name_of_one(box: Box) -> None:
    cameras = [{"name": name, "source": "dir:good"} for name in ("top", "side")]
    config = write_config(box.folder / "box.yaml", cameras=cameras, bundle="bundle")
    box.run("inspect", "parts", "--config", config).expect(3, "choose one of top, side")
    box.run(
        "inspect", "parts", "--config", config, "--camera", "side", "--references", "good"
    ).expect(0)


def test_pictures_of_a_network_camera_with_a_login_are_judged_without_it(box: Box) -> None:
    camera = {"name": "cam1", "source": "rtsp://192.0.2.1/line", "username": "admin"}
    config = write_config(box.folder / "box.yaml", cameras=[camera], bundle="bundle")
    box.run("inspect", "parts", "--config", config, "--references", "good").expect(0)


def test_a_bundle_that_fails_its_self_test_judges_nothing(box: Box) -> None:
    wrong = np.zeros((), np.float32)
    make_bundle(box.folder / "wrong", files={"golden/expected/0/score.npy": _npy(wrong)})
    done = box.run("inspect", "--bundle", "wrong", "parts", "--references", "good")
    assert done.expect(9).stdout == ""


def _npy(array: np.ndarray[tuple[()], np.dtype[np.float32]]) -> bytes:
    stream = BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def test_missing_bottles_are_found_on_real_pictures(box: Box, shared_data: Path) -> None:
    bottles = shared_data / "bottle_line" / "bottles"
    good = sorted((bottles / "train" / "good").iterdir())[::3]
    (box.folder / "refs").mkdir()
    for path in good:
        (box.folder / "refs" / path.name).write_bytes(path.read_bytes())
    missing = sorted((bottles / "test" / "missing").iterdir())[::6]
    fine = sorted((bottles / "test" / "good").iterdir())[::6]
    answer = (
        box.run("inspect", *missing, *fine, "--references", "refs", "--out", "sheets", "--json")
        .expect(0)
        .answer
    )
    verdicts = [row["verdict"] for row in answer["pictures"]]
    assert verdicts == ["anomalous"] * len(missing) + ["normal"] * len(fine)
    assert len(list((box.folder / "sheets").iterdir())) == len(verdicts)
