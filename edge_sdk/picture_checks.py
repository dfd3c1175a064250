"""What is wrong with a picture that is to become a reference: a person may take it again.

The limits were set on the good pictures of seven public data sets and blurred copies of them;
docs/enrolment.md says with what result.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from edge_sdk.imaging import box_average, resize_picture
from edge_sdk.records import Frame, UInt8Array

Gravity = Literal["refused", "doubtful"]
Fault = Literal["black", "over_exposed", "exposure", "blurred", "duplicate", "odd"]

BLACK_BELOW, SATURATED_FROM = 16, 250
"""Grey levels, 0-255, as the faults of running frames have them by default."""
BLURRED_BELOW = 0.2
"""Sharpness as a share of the fellows' median, where the blur metric is also higher than theirs:
a bare board has no edges and is sharp all the same. Good pictures of seven sets: 0.19 and more
(a bare board 0.11); blurred by 3 px: at most 0.16 in six of the sets, 0.27 in the seventh."""
BLURRIER_BY = 0.15
"""How much higher the blur metric must then be than the fellows' median."""
SOFT_FROM = 0.75
"""Blur metric of a picture that has no sharper fellows. Good pictures: at most 0.71."""
BRIGHTNESS_FACTOR = 1.75
"""Mean brightness against the fellows' median, either way."""
SAME_WITHIN = 2
"""Grey levels within which all of two pictures agree, coarsely seen, that show one unmoved part.
Noise of 4 levels and a JPEG of quality 80 make 2; two good parts in one fixture 3 and more."""
ODD_FACTOR = 3.0
"""Score of a picture against its fellows, as a multiple of the median of theirs."""

_COARSE_PX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """Something wrong with one picture."""

    picture: int
    """From 1, in the order they were taken."""
    fault: Fault
    gravity: Gravity
    """``refused``: it must not become a reference. ``doubtful``: a person decides."""
    detail: str
    """One line for that person: what was measured, and what to do."""


def check_pixels(frames: Sequence[Frame]) -> list[Finding]:
    """Look at exposure, sharpness and repeats.

    Args:
        frames: the pictures, at least one, in the order they were taken.

    Returns:
        Findings by picture. A picture that shows nothing is not looked at further.
    """
    greys = [_grey(frame.pixels) for frame in frames]
    findings = [
        finding
        for number, grey in enumerate(greys, start=1)
        if (finding := _blindness(number, grey)) is not None
    ]
    blind = {finding.picture for finding in findings}
    seen = {number: grey for number, grey in enumerate(greys, 1) if number not in blind}
    findings += _exposures(seen) + _blurs(seen) + _repeats(seen)
    return sorted(findings, key=lambda finding: finding.picture)


def check_fellows(scores: Sequence[float]) -> list[Finding]:
    """Find pictures that resemble the others less than those resemble one another.

    Args:
        scores: image score of each picture against the others (leave one out). Of fewer than
            three, none can be told to be the odd one.
    """
    findings = []
    for index, score in enumerate(scores if len(scores) > 2 else ()):
        usual = float(np.median([*scores[:index], *scores[index + 1 :]]))
        if score > ODD_FACTOR * usual:
            findings.append(
                Finding(
                    picture=index + 1,
                    fault="odd",
                    gravity="doubtful",
                    detail=f"differs from the other pictures: score {score:.3f}, theirs about "
                    f"{usual:.3f}; is it a good part, in its place?",
                )
            )
    return findings


def sharpness(grey: UInt8Array) -> float:
    """Variance of the Laplacian after a 3x3 mean (Pech-Pacheco et al., ICPR 2000).

    Args:
        grey: (H, W).
    """
    smooth = box_average(grey[:, :, None].astype(np.float32), 3)[:, :, 0]
    laplacian = (
        smooth[:-2, 1:-1] + smooth[2:, 1:-1] + smooth[1:-1, :-2] + smooth[1:-1, 2:]
        - 4 * smooth[1:-1, 1:-1]
    )  # fmt: skip
    return float(laplacian.var()) if laplacian.size else 0.0


def blur_metric(grey: UInt8Array) -> float:
    """Share of the variation between neighbours that survives a further blur, 0 sharp to 1.

    Crete et al., "The blur effect", SPIE 6492, 2007.

    Args:
        grey: (H, W).
    """
    picture = grey.astype(np.float32)
    worst = 0.0
    for turned in (picture, picture.T):
        kernel = np.ones(9, np.float32) / 9
        padded = np.pad(turned, ((0, 0), (4, 4)), mode="edge")
        sums = np.cumsum(np.pad(padded, ((0, 0), (1, 0))), axis=1, dtype=np.float64)
        blurred = (sums[:, len(kernel) :] - sums[:, : -len(kernel)]) / len(kernel)
        sharp_steps = np.abs(np.diff(turned, axis=1))
        lost = np.maximum(0, sharp_steps - np.abs(np.diff(blurred, axis=1)))
        total = float(sharp_steps.sum())
        if total > 0:
            worst = max(worst, 1 - float(lost.sum()) / total)
    return worst


def _grey(pixels: UInt8Array) -> UInt8Array:
    return np.asarray(np.rint(pixels.mean(axis=2, dtype=np.float32)), np.uint8)


def _blindness(number: int, grey: UInt8Array) -> Finding | None:
    dark, bright = np.percentile(grey, (1, 99))
    if bright >= BLACK_BELOW and dark < SATURATED_FROM:
        return None
    is_black = bright < BLACK_BELOW
    what = "black" if is_black else "over-exposed"
    return Finding(
        picture=number,
        fault="black" if is_black else "over_exposed",
        gravity="refused",
        detail=f"{what}: grey levels {dark:.0f} to {bright:.0f}; uncover the lens, mind the light",
    )


def _exposures(greys: dict[int, UInt8Array]) -> list[Finding]:
    means = {number: float(grey.mean()) for number, grey in greys.items()}
    findings = []
    for number, mean in means.items():
        usual = _median_of_others(means, number)
        if usual is None or usual / BRIGHTNESS_FACTOR <= mean <= usual * BRIGHTNESS_FACTOR:
            continue
        findings.append(
            Finding(
                picture=number,
                fault="exposure",
                gravity="doubtful",
                detail=f"{'darker' if mean < usual else 'brighter'} than the others: mean grey "
                f"level {mean:.0f}, theirs about {usual:.0f}; is the lamp on, the exposure fixed?",
            )
        )
    return findings


def _blurs(greys: dict[int, UInt8Array]) -> list[Finding]:
    values = {number: sharpness(grey) for number, grey in greys.items()}
    metrics = {number: blur_metric(grey) for number, grey in greys.items()}
    findings = []
    for number, value in values.items():
        soft = metrics[number]
        usual, usual_soft = _median_of_others(values, number), _median_of_others(metrics, number)
        is_soft = usual_soft is not None and soft > usual_soft + BLURRIER_BY
        if is_soft and usual is not None and value < BLURRED_BELOW * usual:
            detail = (
                f"blurred: {value / usual:.0%} of the sharpness of the others; was something "
                "moving, or the lens out of focus?"
            )
        elif soft >= SOFT_FROM:
            detail = f"blurred: blur metric {soft:.2f}, limit {SOFT_FROM}; focus the lens"
        else:
            continue
        findings.append(Finding(picture=number, fault="blurred", gravity="refused", detail=detail))
    return findings


def _repeats(greys: dict[int, UInt8Array]) -> list[Finding]:
    coarse = {number: _coarse(grey) for number, grey in greys.items()}
    findings = []
    for number, grey in greys.items():
        for other in (earlier for earlier in greys if earlier < number):
            if grey.shape != greys[other].shape:
                continue
            if np.array_equal(grey, greys[other]):
                gravity: Gravity = "refused"
                detail = f"is picture {other} again, byte for byte; show another part"
            elif np.percentile(np.abs(coarse[number] - coarse[other]), 99.5) <= SAME_WITHIN:
                gravity = "doubtful"
                detail = f"shows nothing that picture {other} does not; was the part changed?"
            else:
                continue
            findings.append(
                Finding(picture=number, fault="duplicate", gravity=gravity, detail=detail)
            )
            break
    return findings


def _coarse(grey: UInt8Array) -> np.ndarray[tuple[int, ...], np.dtype[np.int16]]:
    height, width = (max(1, side // _COARSE_PX) for side in grey.shape)
    return resize_picture(grey[:, :, None], (height, width), kernel="area", antialias=True).astype(
        np.int16
    )


def _median_of_others(values: dict[int, float], number: int) -> float | None:
    """Of at least two fellows: one of two cannot be told to be the wrong one."""
    others = [value for other, value in values.items() if other != number]
    return float(np.median(others)) if len(others) > 1 else None
