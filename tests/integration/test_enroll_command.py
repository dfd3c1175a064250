"""``edge-enroll``: what it keeps, what it refuses, and what another bundle makes of it."""

from __future__ import annotations

import hashlib
import json
import signal
import time
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundle_samples import GOLDEN, read_document
from commands import CLIP, Box, bad_part, good_part, write_config, write_pictures
from scenes import DIGEST, NN_PARAMETERS, flat, make_bundle

from edge_sdk.capture import open_source
from edge_sdk.enrollment import pick_frames
from edge_sdk.imaging import read_image

ABSENT = next(number for number in count() if not Path(f"/dev/video{number}").exists())
FRAMES = (3, 50, 120, 165)


@pytest.fixture
def box(tmp_path: Path) -> Box:
    """A computer with a small bundle, six good pictures, and nothing learnt yet."""
    make_bundle(tmp_path / "bundle")
    write_pictures(tmp_path / "good", [good_part(seed) for seed in range(6)])
    return Box(tmp_path)


def enroll(box: Box, *options: object) -> tuple[object, ...]:
    """The command with the small bundle, from the good pictures where no camera is named."""
    camera = () if "--camera" in options else ("--camera", f"dir:{box.folder / 'good'}")
    return ("enroll", "--bundle", box.folder / "bundle", *camera, *options)


def judge(box: Box, *options: object) -> dict[str, Any]:
    """What ``edge-run --once`` says of the first good picture."""
    run = ("run", "--camera", f"dir:{box.folder / 'good'}", "--once", "--json", *options)
    answer: dict[str, Any] = box.run(*run).expect(0).answer["cameras"][0]
    return answer


def sets(box: Box, camera: str = "cam1", name: str = "default") -> Path:
    return box.state / "cameras" / camera / "reference_sets" / name


def test_the_very_frames_that_were_named_are_kept_without_loss(box: Box) -> None:
    clip = ("--camera", f"file:{CLIP}", "--frames", ",".join(map(str, FRAMES)))
    answer = box.run(*enroll(box, *clip, "--json")).expect(0).answer

    assert answer["reference_set"] == "default/1"
    assert (answer["pictures"], answer["frames"]) == (4, list(FRAMES))
    assert (answer["method"], answer["provisional"]) == ("leave_one_out", True)
    assert answer["expected_false_alarm_rate"] == pytest.approx(0.2)
    folder = Path(answer["folder"])
    assert folder == sets(box) / "0001"
    description = json.loads((folder / "set.json").read_text())
    wanted = pick_frames(open_source(f"file:{CLIP}"), FRAMES)
    for entry, frame in zip(description["pictures"], wanted, strict=True):
        file = folder / entry["file"]
        assert hashlib.sha256(file.read_bytes()).hexdigest() == entry["sha256"]
        assert np.array_equal(read_image(file), frame.pixels)
        assert entry["frame_id"] == frame.frame_id


def test_without_numbers_the_pictures_are_spread_over_the_stretch_that_was_named(box: Box) -> None:
    stretch = ("--camera", f"file:{CLIP}", "--first-frame", 20, "--last-frame", 165)
    frames = box.run(*enroll(box, *stretch, "--count", 5, "--json")).expect(0).answer["frames"]
    assert len(frames) == 5
    assert frames[0] >= 20
    assert frames[-1] <= 165
    apart = np.diff(frames)
    assert apart.min() >= 20, frames


def test_people_are_told_that_four_pictures_promise_little(box: Box) -> None:
    told = box.run(*enroll(box)).expect(0).stdout
    assert "cam1: 4 good pictures kept as default/1" in told
    assert "provisional" in told
    assert "about 20 false alarms per 100 good parts" in told


def test_twenty_pictures_are_no_longer_provisional(box: Box) -> None:
    write_pictures(box.folder / "good", [good_part(seed) for seed in range(20)])
    answer = box.run(*enroll(box, "--count", 20, "--json")).expect(0).answer
    assert (answer["pictures"], answer["provisional"]) == (20, False)
    assert answer["expected_false_alarm_rate"] == pytest.approx(1 / 21)
    assert judge(box, "--bundle", box.folder / "bundle")["provisional"] is False


def test_a_second_enrolment_is_the_one_that_judges_and_the_first_is_kept(box: Box) -> None:
    box.run(*enroll(box)).expect(0)
    first = {path: path.read_bytes() for path in sets(box).rglob("*.png")}
    other = write_pictures(box.folder / "other", [bad_part(seed) for seed in range(4)])
    answer = box.run(*enroll(box, "--camera", other, "--json")).expect(0).answer
    assert answer["reference_set"] == "default/2"
    for path, data in first.items():
        assert path.read_bytes() == data
    assert judge(box, "--bundle", box.folder / "bundle")["verdict"] == "anomalous", (
        "what was bad is now what good looks like"
    )


def test_sets_of_several_names_stand_side_by_side(box: Box) -> None:
    box.run(*enroll(box, "--references", "day")).expect(0)
    other = write_pictures(box.folder / "other", [bad_part(seed) for seed in range(4)])
    box.run(*enroll(box, "--references", "night", "--camera", other)).expect(0)
    bundle = ("--bundle", box.folder / "bundle")
    assert judge(box, *bundle, "--references", "day")["verdict"] == "normal"
    assert judge(box, *bundle, "--references", "night")["verdict"] == "anomalous"


def test_pictures_taken_before_teach_a_camera_that_is_not_there(box: Box) -> None:
    cameras = [{"name": name, "source": str(ABSENT)} for name in ("top", "belt")]
    bundle = str(box.folder / "bundle")
    config = write_config(box.folder / "two.yaml", cameras=cameras, bundle=bundle)
    pictures = ("--from", f"dir:{box.folder / 'good'}")
    box.run("enroll", "--config", config, *pictures).expect(3, "choose one of top, belt")
    answer = box.run("enroll", "--config", config, "--camera", "belt", *pictures, "--json")
    assert answer.expect(0).answer["camera"] == "belt"
    assert [path.name for path in (box.state / "cameras").iterdir()] == ["belt"]


def test_without_its_camera_nothing_is_enrolled(box: Box) -> None:
    box.run(*enroll(box, "--camera", str(ABSENT))).expect(6, f"/dev/video{ABSENT} does not exist")
    assert not sets(box).exists()


@pytest.mark.parametrize(
    ("options", "word"),
    [
        (("--count", "7"), "expected at least 7 frames, got 6"),
        (("--frames", "0,1,99"), "has no frames [99]"),
        (("--frames", "2,2,3"), "expected different numbers"),
    ],
)
def test_pictures_that_are_not_there_are_refused(
    box: Box, options: tuple[str, ...], word: str
) -> None:
    box.run(*enroll(box, *options)).expect(11, word)
    assert not sets(box).exists()


@pytest.mark.parametrize(
    "options", [("--count", "1"), ("--count", "65"), ("--frames", "5"), ("--frames", "a,b")]
)
def test_a_number_of_pictures_out_of_range_is_a_usage_error(
    box: Box, options: tuple[str, ...]
) -> None:
    box.run(*enroll(box, *options)).expect(2, "usage: edge-enroll", options[0])


def test_a_picture_that_does_not_decode_is_named_and_nothing_is_kept(box: Box) -> None:
    (box.folder / "good" / "0002.png").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    box.run(*enroll(box)).expect(11, "0002.png")
    assert not sets(box).exists()


def test_pictures_of_several_sizes_do_as_long_as_no_region_is_meant_in_their_pixels(
    box: Box,
) -> None:
    mixed = write_pictures(box.folder / "mixed", [good_part(0), good_part(1)[:24]])
    box.run(*enroll(box, "--camera", mixed, "--count", 2)).expect(0)


def test_an_enrolment_that_fails_leaves_the_earlier_one_in_use(box: Box) -> None:
    crop = {"x": 4, "y": 4, "width": 24, "height": 24}
    cameras = [{"name": "cam1", "source": f"dir:{box.folder / 'good'}", "crop": crop}]
    bundle = str(box.folder / "bundle")
    config = write_config(box.folder / "box.yaml", cameras=cameras, bundle=bundle)
    box.run("enroll", "--config", config).expect(0)
    small = write_pictures(box.folder / "small", [good_part(seed)[:20, :20] for seed in range(4)])
    box.run("enroll", "--config", config, "--from", small).expect(3, "crop", "20x20")
    assert [path.name for path in sets(box).iterdir()] == ["0001"]
    box.run("run", "--config", config, "--once").expect(0)


def test_an_enrolment_that_is_killed_leaves_the_earlier_one_in_use(box: Box) -> None:
    box.run(*enroll(box)).expect(0)
    many = ("--camera", f"file:{CLIP}", "--count", 64)
    with box.start(*enroll(box, *many)) as doomed:
        while not any(sets(box).glob(".*/pictures/*.png")):  # a folder tells nobody of its files
            assert doomed.process.poll() is None, doomed.finish()
            time.sleep(0.001)
        doomed.process.kill()
        assert doomed.finish().exit_code == -signal.SIGKILL
    assert judge(box, "--bundle", box.folder / "bundle")["verdict"] == "normal"
    assert box.run(*enroll(box, "--json")).expect(0).answer["reference_set"] == "default/2"
    assert sorted(path.name for path in sets(box).iterdir()) == ["0001", "0002"]


def test_a_state_folder_that_cannot_be_one_is_said_in_words(box: Box) -> None:
    state = box.folder / "state"
    state.write_text("a file, not a folder")
    refused = box.run(*enroll(box, "--state", state))
    assert str(state) in refused.stderr
    assert "unexpected" not in refused.stderr


def test_another_bundle_encodes_the_pictures_again_and_fits_its_own_threshold(box: Box) -> None:
    """The small bundle, then the built-in one: other tokens, another size of picture."""
    clip = ("--camera", f"file:{CLIP}", "--frames", ",".join(map(str, FRAMES)))
    enrolled = box.run(*enroll(box, *clip, "--json")).expect(0).answer
    pictures = {path: path.read_bytes() for path in sets(box).rglob("*.png")}
    thresholds = sets(box) / "0001" / "thresholds"
    cached = set((box.state / "token_cache").iterdir())
    before = set(thresholds.iterdir())

    run = ("run", "--camera", f"file:{CLIP}", "--once", "--json")
    judged = box.run(*run).expect(0).answer["cameras"][0]
    (fitted,) = set(thresholds.iterdir()) - before
    assert json.loads(fitted.read_text())["value"] == judged["threshold"]
    assert judged["threshold"] != pytest.approx(enrolled["threshold"], rel=1e-3)
    assert judged["verdict"] == "normal", "the first frame of the clip shows a good part"
    assert len(set((box.state / "token_cache").iterdir()) - cached) == len(FRAMES)
    assert {path: path.read_bytes() for path in sets(box).rglob("*.png")} == pictures

    again = box.run(*run, "--bundle", box.folder / "bundle").expect(0).answer["cameras"][0]
    assert again["threshold"] == enrolled["threshold"], "the first bundle finds its own again"
    assert set(thresholds.iterdir()) == before | {fitted}


def test_the_same_graph_under_another_extractor_id_does_not_take_over_tokens(box: Box) -> None:
    box.run(*enroll(box)).expect(0)
    make_bundle(box.folder / "other", extractor_id=DIGEST)
    cached = set((box.state / "token_cache").iterdir())
    judge(box, "--bundle", box.folder / "other")
    assert len(set((box.state / "token_cache").iterdir()) - cached) == 4
    assert len(list((sets(box) / "0001" / "thresholds").iterdir())) == 2


def test_other_settings_of_the_scorer_get_a_threshold_of_their_own(box: Box) -> None:
    golden = read_document(GOLDEN)["golden"]
    golden["tolerance"]["fp32"] = {"tokens": 9.0, "map": 9.0, "score": 9.0}
    scorer = {"name": "nearest_neighbour", "parameters": NN_PARAMETERS | {"blur_sigma": 1.0}}
    make_bundle(box.folder / "blurred", scorers=[scorer], golden=golden)
    first = box.run(*enroll(box, "--json")).expect(0).answer
    cached = set((box.state / "token_cache").iterdir())
    assert judge(box, "--bundle", box.folder / "blurred")["threshold"] < first["threshold"]
    assert set((box.state / "token_cache").iterdir()) == cached, "the tokens are the same"
    assert judge(box, "--bundle", box.folder / "bundle")["threshold"] == first["threshold"]


def test_a_reference_picture_that_was_changed_on_the_disk_is_not_judged_by(box: Box) -> None:
    box.run(*enroll(box)).expect(0)
    picture = next(iter(sorted(sets(box).rglob("*.png"))))
    whole = picture.read_bytes()
    run = ("run", "--bundle", box.folder / "bundle", "--camera", f"dir:{box.folder / 'good'}",
           "--once")  # fmt: skip
    picture.write_bytes(whole[:-1] + b"\x00")
    box.run(*run).expect(11, str(picture), "sha256", "enrol again")
    picture.unlink()
    box.run(*run).expect(11, str(picture), "missing")
    picture.write_bytes(whole)
    box.run(*run).expect(0)


@pytest.mark.parametrize("kept_share", [0.0, 0.5])
def test_cached_tokens_that_a_power_cut_damaged_are_encoded_again(
    box: Box, kept_share: float
) -> None:
    box.run(*enroll(box)).expect(0)
    expected = judge(box, "--bundle", box.folder / "bundle")
    for path in (box.state / "token_cache").iterdir():
        data = path.read_bytes()
        path.write_bytes(data[: int(len(data) * kept_share)])
    answer = judge(box, "--bundle", box.folder / "bundle")
    assert (answer["verdict"], answer["score"]) == ("normal", expected["score"])


def test_a_threshold_file_that_is_damaged_is_named_with_the_cure(box: Box) -> None:
    box.run(*enroll(box)).expect(0)
    (threshold,) = (sets(box) / "0001" / "thresholds").iterdir()
    threshold.write_text('{"value": 0.5')
    run = ("run", "--bundle", box.folder / "bundle", "--camera", f"dir:{box.folder / 'good'}")
    box.run(*run, "--once").expect(11, str(threshold))
    threshold.unlink()
    box.run(*run, "--once").expect(0)


@pytest.mark.parametrize("level", [0, 255])
def test_pictures_that_show_nothing_are_not_taken_for_good_parts(box: Box, level: int) -> None:
    """A lens cap that was left on would otherwise be what good looks like from then on."""
    blind = write_pictures(box.folder / "blind", [flat(level)] * 4)
    refused = box.run(*enroll(box, "--camera", blind))
    assert refused.exit_code == 11, refused
    assert not any(sets(box).glob("[0-9]*"))


def test_the_sets_are_listed_with_their_versions_and_the_one_in_use(box: Box) -> None:
    nothing = box.run("enroll", "list").expect(0)
    assert "no reference set is enrolled" in nothing.stdout
    box.run(*enroll(box)).expect(0)
    box.run(*enroll(box, "--count", 2)).expect(0)
    box.run(*enroll(box, "--references", "night")).expect(0)
    rows = box.run("enroll", "list", "--json").expect(0).answer["sets"]
    assert [(row["reference_set"], row["pictures"], row["used"]) for row in rows] == [
        ("default/1", 4, False),
        ("default/2", 2, True),
        ("night/1", 4, False),
    ]
    assert rows[0]["thresholds"][0]["provisional"] is True
    told = box.run("enroll", "list").expect(0).stdout
    assert "default/2" in told
    assert "provisional" in told


def test_appended_pictures_stand_beside_the_old_ones_in_a_new_version(box: Box) -> None:
    box.run(*enroll(box, "--count", 2)).expect(0)
    old = [path.read_bytes() for path in sorted((sets(box) / "0001").rglob("*.png"))]
    more = write_pictures(box.folder / "more", [good_part(seed) for seed in (20, 21, 22)])
    _, bundle, folder, *_ = enroll(box)
    append = ("enroll", "append", bundle, folder, "--camera", more, "--count", 2, "--json")
    answer = box.run(*append).expect(0).answer
    assert (answer["reference_set"], answer["pictures"]) == ("default/2", 4)
    new = [path.read_bytes() for path in sorted((sets(box) / "0002").rglob("*.png"))]
    assert new[:2] == old
    assert (sets(box) / "0001").is_dir()


def test_appending_to_a_set_that_does_not_exist_names_those_that_do(box: Box) -> None:
    box.run(*enroll(box, "--references", "day")).expect(0)
    _, bundle, folder, *_ = enroll(box)
    append = ("enroll", "append", bundle, folder, "--camera", f"dir:{box.folder / 'good'}")
    box.run(*append, "--references", "nihgt").expect(11, "no reference set 'nihgt'", "day")


def test_an_undone_enrolment_leaves_the_one_before_in_use_and_its_number_unused(box: Box) -> None:
    box.run(*enroll(box)).expect(0)
    other = write_pictures(box.folder / "other", [bad_part(seed) for seed in range(4)])
    box.run(*enroll(box, "--camera", other)).expect(0)
    bundle = ("--bundle", box.folder / "bundle")
    assert judge(box, *bundle)["verdict"] == "anomalous"
    answer = box.run("enroll", "undo", "--json").expect(0).answer
    assert (answer["undone"], answer["reference_set"]) == ("default/2", "default/1")
    assert judge(box, *bundle)["verdict"] == "normal"
    assert box.run(*enroll(box, "--json")).expect(0).answer["reference_set"] == "default/3"
    assert list(sets(box).glob("0002.undone/pictures/*.png")), "nothing that was taken is lost"
    box.run("enroll", "undo").expect(0)
    assert "no version is left" in box.run("enroll", "undo").expect(0).stdout
    box.run("enroll", "undo").expect(11, "no reference set 'default'")


def test_a_picture_given_twice_is_refused_unless_it_is_wanted(box: Box) -> None:
    twice = write_pictures(box.folder / "twice", [good_part(0), good_part(1), good_part(0)])
    refused = enroll(box, "--camera", twice, "--count", 3)
    box.run(*refused).expect(11, "picture 3", "is picture 1 again", "nothing was enrolled")
    assert not sets(box).exists()
    box.run(*refused, "--keep-refused").expect(0, "doubtful: picture 3")


def test_a_picture_unlike_its_fellows_is_said_and_left_to_people(box: Box) -> None:
    mixed = [good_part(0), good_part(1), bad_part(2), good_part(3)]
    folder = write_pictures(box.folder / "mixed", mixed)
    done = box.run(*enroll(box, "--camera", folder, "--json")).expect(0, "doubtful: picture 3")
    faults = {(row["picture"], row["fault"]) for row in done.answer["findings"]}
    assert (3, "odd") in faults
    assert {number for number, fault in faults if fault == "odd"} == {3}


def test_a_station_that_sees_too_little_is_not_suitable_and_exits_8(box: Box) -> None:
    box.run(*enroll(box)).expect(0)
    _, *rest = enroll(box)
    examine = ("enroll", *rest, "--smallest-defect", "--mm-per-px", "0.5")
    answer = box.run(*examine, "--must-see", "0.1", "--json").expect(8).answer
    assert answer["suitable"] is False
    assert answer["must_see_px"] == pytest.approx(0.2)
    told = box.run(*examine, "--must-see", "0.1").expect(8).stdout
    assert "not suitable for this part" in told
    assert "4 px (2 mm)" in told
    assert [path.name for path in sets(box).iterdir()] == ["0001"], "nothing was enrolled"


def test_without_a_set_there_is_nothing_to_examine(box: Box) -> None:
    _, *rest = enroll(box)
    box.run("enroll", *rest, "--smallest-defect").expect(11, "no reference set 'default'")


@pytest.mark.slow
def test_larger_defects_on_the_sample_clip_are_seen_more_often(box: Box) -> None:
    clip = ("--camera", f"file:{CLIP}")
    box.run("enroll", *clip, "--frames", ",".join(map(str, FRAMES))).expect(0)
    done = box.run("enroll", *clip, "--smallest-defect", "--json", timeout_seconds=300)
    answer = done.answer
    shares = {size["size_px"]: size["found"] / size["of"] for size in answer["sizes"]}
    assert shares[4] < 0.2 < shares[96]
    assert done.exit_code == (0 if answer["suitable"] else 8)
