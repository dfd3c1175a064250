"""Are faults of lamp, lens and camera seen, how soon, and how often is one seen that is none?

    python benchmarks/image_faults.py [--bundle B] [--loops 3] [FOLDER...]

The sample clip, four references out of its first good stretch, goes through the pipeline and the
rules of entry and exit as a watched camera's frames do. First as it is, ``--loops`` times over:
every fault that is entered is false. Then each fault is put on all frames of a good stretch, and on
the frames where bottles are missing, where the bad part must stay ``anomalous``.

Each FOLDER is a category in MVTec's layout: eight references, every other picture is a part that
was triggered. Good parts called a fault are false; bad ones called a fault instead of anomalous
would be swallowed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from clip_intervals import CLIP, read_labels
from run_in_promise import pictures_of

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
from spoilt_pictures import SPOILT

from edge_sdk.bundle.reader import open_bundle
from edge_sdk.capture.video import VideoSource
from edge_sdk.config import default_config
from edge_sdk.config.camera import CameraConfig, FaultConfig
from edge_sdk.model import Model, load_model
from edge_sdk.pipeline import Pipeline, as_frame, build_pipeline
from edge_sdk.records import Decision, Frame, UInt8Array, Verdict
from edge_sdk.references import ReferenceStore, TokenCache
from edge_sdk.runtime.health import WATCH, PictureHealth

FRAME_NS = 33_333_333
REFERENCES = (20, 61, 103, 144)
GOOD = (412, 458)
"""A good stretch that no reference is from; the bottles were put back by hand before it."""
DAY_SECONDS = 86_400
PER_SET = 8


def read_clip() -> list[UInt8Array]:
    """All frames of the clip."""
    source = VideoSource(CLIP, source_id="clip", pace="every")
    return [frame.pixels for frame in source.frames()]


def build(model: Model, references: Sequence[UInt8Array], folder: str) -> Pipeline:
    """The pipeline of a camera that was enrolled with these pictures."""
    camera: CameraConfig = default_config().cameras[0]
    frames = [as_frame(pixels) for pixels in references]
    kept = ReferenceStore(Path(folder), camera.name).save("default", frames, source="benchmark")
    return build_pipeline(model, camera, kept, TokenCache(Path(folder)), watches_pictures=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One frame of a stream, judged."""

    number: int
    plain: Decision
    """As the pipeline says."""
    final: Decision
    """After the faults of the camera."""
    standing: str | None


def play(pipeline: Pipeline, pictures: Iterable[tuple[int, UInt8Array]]) -> Iterator[Step]:
    """Let a watched camera give pictures at 30 frames a second."""
    health = PictureHealth(FaultConfig(), is_watched=True)
    for count, (number, pixels) in enumerate(pictures):
        plain = pipeline.inspect(frame_at(pixels, count))
        final = health.examine(pipeline, plain)
        standing = str(health.standing[0]) if health.standing is not None else None
        yield Step(number=number, plain=plain, final=final, standing=standing)


def frame_at(pixels: UInt8Array, count: int) -> Frame:
    """The picture as the stream's frame of this number."""
    return replace(as_frame(pixels), frame_id=count, media_ns=count * FRAME_NS)


def false_faults(pipeline: Pipeline, frames: Sequence[UInt8Array], loops: int) -> None:
    """Play the clip as it is, and count faults that are entered."""
    entered: Counter[tuple[str, str]] = Counter()
    faulty: Counter[str] = Counter()
    seen: Counter[str] = Counter()
    spent: list[float] = []
    last: str | None = None
    labels = {
        number: interval.label
        for interval in read_labels()
        for number in range(interval.first_frame, interval.last_frame + 1)
    }
    stream = ((number, pixels) for _ in range(loops) for number, pixels in enumerate(frames))
    for step in play(pipeline, stream):
        label = labels.get(step.number, "between")
        seen[label] += 1
        faulty[label] += step.final.verdict is Verdict.FAULT
        if step.standing is not None and step.standing != last:
            entered[label, step.standing] += 1
        last = step.standing
        if WATCH in step.final.latency_ms:
            spent.append(step.final.latency_ms[WATCH])
    seconds = loops * len(frames) * FRAME_NS / 1e9
    scale = DAY_SECONDS / seconds
    print(f"clip as it is, {loops} times over ({seconds:.0f} s)")
    for label, count in seen.items():
        names = ", ".join(f"{n} x {name}" for (where, name), n in entered.items() if where == label)
        print(f"  {label:10} {count:6} frames, {faulty[label]:4} faults; entered: {names or '-'}")
    total = sum(entered.values())
    good = sum(n for (where, _), n in entered.items() if where == "normal")
    print(f"  false faults per 24 h of clip: {total * scale:.0f}; of them in good stretches: "
          f"{good * scale:.0f}")  # fmt: skip
    print(f"  a measurement takes {np.median(spent):.1f} ms (p95 {np.percentile(spent, 95):.1f})")


def detection(pipeline: Pipeline, frames: Sequence[UInt8Array]) -> None:
    """Put each fault on a good stretch, and on stretches where bottles are missing."""
    intervals = read_labels()
    missing = [one for one in intervals if one.label == "missing"]
    clear = list(range(GOOD[0], GOOD[1] + 1))
    bad = [number for one in missing for number in range(one.first_frame, one.last_frame + 1, 5)]
    print("each fault on a good stretch: what is entered, after which time; what it is once it has")
    print("ended; and on frames with missing bottles (anomalous before): their verdicts")
    for what, (expected, spoil) in SPOILT.items():
        # Dirt on parts that are anomalous by it needs more patience than anything else.
        spoilt = clear * (24 if expected == "dirty_lens" else 2)
        stream = [
            *((number, frames[number]) for number in clear),
            *((number, spoil(frames[number])) for number in spoilt),
            *((number, frames[number]) for number in (*clear, *clear)),
        ]
        steps = list(play(pipeline, stream))
        begin, end = len(clear), len(clear) + len(spoilt)
        entry = next((at for at in range(begin, end) if name_of(steps[at]) == expected), None)
        exit_ = next((at for at in range(end, len(steps)) if name_of(steps[at]) is None), None)
        passed = sum(
            step.final.verdict is Verdict.NORMAL
            for step in steps[entry if entry is not None else begin : end]
        )
        spoilt_bad = [pipeline.inspect(as_frame(spoil(frames[number]))) for number in bad]
        health = PictureHealth(FaultConfig(), is_watched=False)
        finals = [health.examine(pipeline, decision) for decision in spoilt_bad]
        swallowed = sum(
            before.verdict is Verdict.ANOMALOUS and after.verdict is Verdict.FAULT
            for before, after in zip(spoilt_bad, finals, strict=True)
        )
        verdicts = Counter(str(one.verdict) for one in finals)
        print(
            f"  {what:32} {expected if entry is not None else 'NOT SEEN':16}"
            f"{seconds_after(entry, begin):>7} in, {seconds_after(exit_, end):>7} out, "
            f"{passed} normal while it stood; bad parts {dict(verdicts)}, swallowed {swallowed}"
        )


def name_of(step: Step) -> str | None:
    """The fault that stands, or that the frame itself is."""
    if step.standing is not None:
        return step.standing
    return str(step.final.reason) if step.final.verdict is Verdict.FAULT else None


def seconds_after(at: int | None, begin: int) -> str:
    """Seconds of the stream."""
    return "never" if at is None else f"{(at - begin + 1) * FRAME_NS / 1e9:.2f} s"


def drift(pipeline: Pipeline, frames: Sequence[UInt8Array]) -> None:
    """Let the exposure drift away slowly, and tell where it is noticed."""
    clear = list(range(GOOD[0], GOOD[1] + 1))
    gains = np.geomspace(1, 0.5, 600)
    spoil: Callable[[UInt8Array, float], UInt8Array] = lambda pixels, gain: np.asarray(  # noqa: E731
        np.rint(pixels * gain), np.uint8
    )
    stream = (
        (number, spoil(frames[clear[number % len(clear)]], gain))
        for number, gain in enumerate(gains)
    )
    steps = list(play(pipeline, stream))
    entry = next((step.number for step in steps if step.standing is not None), None)
    if entry is None:
        print("exposure drifting to a half over 20 s: NOT SEEN")
    else:
        print(
            f"exposure drifting to a half over 20 s: {steps[entry].standing} at {gains[entry]:.2f}"
        )


def category(model: Model, folder: Path) -> None:
    """Good and bad parts of a public data set, as parts that were triggered."""
    good, bad = pictures_of(folder)
    size = Counter(pixels.shape for pixels in good).most_common(1)[0][0]
    good = [pixels for pixels in good if pixels.shape == size]
    bad = [pixels for pixels in bad if pixels.shape == size]
    if len(good) < 2 * PER_SET:
        print(f"{folder.name}: pictures of too many sizes: not watched")
        return
    step = max(1, len(good) // PER_SET)
    chosen = set(list(range(0, len(good), step))[:PER_SET])
    others = [pixels for number, pixels in enumerate(good) if number not in chosen]
    with tempfile.TemporaryDirectory() as place:
        pipeline = build(model, [good[number] for number in sorted(chosen)], place)
        if pipeline.watch is None:
            print(f"{folder.name}: pictures too small, or of several sizes: not watched")
            return
        verdicts = []
        for parts in (others, bad):
            health = PictureHealth(FaultConfig(), is_watched=False)
            plain = [pipeline.inspect(as_frame(pixels)) for pixels in parts]
            final = [health.examine(pipeline, decision) for decision in plain]
            verdicts.append(list(zip(plain, final, strict=True)))
        found = Counter(str(after.reason) for _, after in verdicts[0] if after.verdict == "fault")
        seen = 0
        tried = others[:: max(1, len(others) // 8)][:8]
        for _, spoil in SPOILT.values():
            for pixels in tried:
                fresh = PictureHealth(FaultConfig(), is_watched=False)
                after = fresh.examine(pipeline, pipeline.inspect(as_frame(spoil(pixels))))
                seen += after.verdict is not Verdict.NORMAL
        print(
            f"{folder.name}: {len(others)} good parts, {sum(found.values())} of them a fault "
            f"{dict(found)}; {len(bad)} bad parts, anomalous "
            f"{sum(a.verdict is Verdict.ANOMALOUS for a, _ in verdicts[1])} before and "
            f"{sum(b.verdict is Verdict.ANOMALOUS for _, b in verdicts[1])} after; spoilt good "
            f"parts not called normal: {seen} of {len(SPOILT) * len(tried)}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("folders", nargs="*", type=Path, metavar="FOLDER")
    parser.add_argument("--bundle", type=Path)
    parser.add_argument("--loops", type=int, default=3)
    options = parser.parse_args()
    config = default_config()
    bundle = open_bundle(options.bundle)
    model = load_model(bundle, config.engine)
    frames = read_clip()
    with tempfile.TemporaryDirectory() as folder:
        pipeline = build(model, [frames[number] for number in REFERENCES], folder)
        false_faults(pipeline, frames, options.loops)
        detection(pipeline, frames)
        drift(pipeline, frames)
    for category_folder in options.folders:
        category(model, category_folder)


if __name__ == "__main__":
    main()
