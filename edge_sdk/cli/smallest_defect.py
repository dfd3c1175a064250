"""``edge-enroll --smallest-defect``: is this station fit for this part?"""

from __future__ import annotations

import argparse
import math
from dataclasses import asdict
from typing import TYPE_CHECKING

from edge_sdk.console import Progress, print_json

if TYPE_CHECKING:
    from edge_sdk.config import CameraConfig, DeviceConfig
    from edge_sdk.smallest_defect import Suitability


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of the examination."""
    parser.add_argument(
        "--smallest-defect",
        action="store_true",
        help="take no pictures: say from what size on defects are seen with the enrolled ones",
    )
    parser.add_argument(
        "--mm-per-px", type=positive, metavar="MM", help="scale, to say it in millimetres, too"
    )
    parser.add_argument(
        "--must-see",
        type=positive,
        metavar="SIZE",
        help="what must be seen, in mm with --mm-per-px, else in px "
        "(default: a tenth of the shorter side)",
    )


def positive(text: str) -> float:
    """A number above 0."""
    value = float(text)
    if not (math.isfinite(value) and value > 0):
        raise ValueError(text)
    return value


def examine(options: argparse.Namespace, config: DeviceConfig, camera: CameraConfig) -> int:
    """Examine the enrolled set; exit code 8 where it is not suitable."""
    from edge_sdk.choice import open_model
    from edge_sdk.errors import GateError
    from edge_sdk.pipeline import build_pipeline
    from edge_sdk.references import ReferenceStore, TokenCache
    from edge_sdk.selftest import run_self_test
    from edge_sdk.smallest_defect import SIZES_PX, measure_smallest_defect

    scale: float | None = options.mm_per_px
    references = ReferenceStore(config.state_dir, camera.name).load(camera.reference_set)
    model = open_model(config, allow_untrained=options.allow_untrained)
    run_self_test(model)
    pipeline = build_pipeline(model, camera, references, TokenCache(config.state_dir))
    must_see = None if options.must_see is None else options.must_see / (scale or 1.0)
    with Progress("defects", len(SIZES_PX)) as progress:
        found = measure_smallest_defect(pipeline, must_see_px=must_see, on_size=progress.advance)
    if options.json:
        print_json(
            {
                "camera": camera.name,
                "reference_set": references.label,
                "threshold": pipeline.decider.threshold.value,
                "seen_from_px": found.seen_from_px,
                "seen_from_mm": found.seen_from_px * scale
                if found.seen_from_px is not None and scale is not None
                else None,
                "must_see_px": found.must_see_px,
                "suitable": found.is_suitable,
                "sizes": [asdict(size) for size in found.sizes],
            }
        )
    else:
        _print(found, scale, f"{camera.name}, {references.label}")
    return 0 if found.is_suitable else GateError.exit_code


def _print(found: Suitability, scale: float | None, what: str) -> None:
    kinds = list(found.sizes[0].by_kind)
    print(f"{'SIZE':18}{'SEEN':>10}" + "".join(f"{kind.upper():>10}" for kind in kinds))
    for size in found.sizes:
        cells = [(size.found, size.of), *size.by_kind.values()]
        print(
            f"{_length(size.size_px, scale):18}"
            + "".join(f"{f'{seen} of {tried}':>10}" for seen, tried in cells)
        )
    largest = _length(found.sizes[-1].size_px, scale)
    if found.seen_from_px is None:
        sees = f"not even {largest} is seen reliably"
    else:
        sees = f"seen from {_length(found.seen_from_px, scale)} on"
    verdict = "suitable" if found.is_suitable else "not suitable for this part"
    print(f"{what}: {verdict}: {sees}; wanted: {_length(found.must_see_px, scale)}")


def _length(size_px: float, scale: float | None) -> str:
    pixels = f"{size_px:.0f} px"
    return pixels if scale is None else f"{pixels} ({size_px * scale:.3g} mm)"
