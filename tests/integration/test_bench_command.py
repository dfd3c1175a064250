from __future__ import annotations

from pathlib import Path

from commands import Box

STAGES = ("preprocess", "encode", "score", "decide")


def test_every_stage_is_timed_on_the_pictures_that_come_along(tmp_path: Path) -> None:
    few = ("--frames", "4", "--rounds", "2")
    answer = Box(tmp_path).run("bench", *few, "--json").expect(0).answer
    assert (answer["picture"], answer["samples"]) == ("640x360", 8)
    (engine,) = answer["engines"].values()
    latency = engine["latency_ms"]
    assert all(0 < latency[stage]["p50"] <= latency[stage]["p95"] for stage in STAGES)
    assert latency["total"]["p95"] >= latency["encode"]["p50"]
    assert answer["machine"]["usable_cores"] >= 1
