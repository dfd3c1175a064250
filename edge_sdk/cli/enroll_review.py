"""``edge-enroll review``: look at the odd parts of a run-in, and say which of them are good."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.enroll_sets import add_set_arguments, describe_threshold
from edge_sdk.cli.settings import resolve_settings
from edge_sdk.console import print_json, run_command

if TYPE_CHECKING:
    from edge_sdk.run_in.folder import RunIn
    from edge_sdk.run_in.rules import LearnedPart

_EXAMPLES = """examples:
  edge-enroll review                       the parts that wait, with their pictures
  edge-enroll review --accept 17,42        these two are good
  edge-enroll review --reject 63           this one is not, and does not count
"""


def review_main(words: Sequence[str]) -> int:
    """Run ``edge-enroll review``."""
    parser = argparse.ArgumentParser(
        prog="edge-enroll review",
        description="Show the parts of a run-in that are odd among their fellows, or would set "
        "the threshold. None of them counts for good until somebody has said so.",
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_set_arguments(parser)
    parser.add_argument(
        "--accept", type=_numbers, default=(), metavar="N,N,...", help="parts that are good"
    )
    parser.add_argument(
        "--reject", type=_numbers, default=(), metavar="N,N,...", help="parts that are not"
    )
    return run_command(parser, _review, words)


def _numbers(text: str) -> list[int]:
    return [int(part) for part in text.split(",")]


def _review(options: argparse.Namespace) -> int:
    from edge_sdk.cli.enroll import one_camera
    from edge_sdk.cli.enroll_audit import note
    from edge_sdk.errors import ConfigError, InputError
    from edge_sdk.references import ReferenceStore
    from edge_sdk.run_in.folder import find_run_ins

    config = resolve_settings(options)
    camera = one_camera(config)
    references = ReferenceStore(config.state_dir, camera.name).load(camera.reference_set)
    run_ins = find_run_ins(references.folder)
    if not run_ins:
        raise InputError(
            f"camera {camera.name}, {references.label}: no run-in was begun; start one with "
            "edge-run --run-in, same --camera and --state"
        )
    both = sorted({*options.accept} & {*options.reject})
    if both:
        raise ConfigError(f"--accept, --reject: expected each part once, got {both} in both")
    run_in = run_ins[-1]
    try:
        for number in options.accept:
            run_in.answer(number, is_good=True)
        for number in options.reject:
            run_in.answer(number, is_good=False)
    except OSError as error:
        raise ConfigError(f"{run_in.folder}: cannot be written: {error.strerror}") from error
    if options.accept or options.reject:
        note(
            config,
            camera,
            "run_in.reviewed",
            old=None,
            new={"accepted": list(options.accept), "rejected": list(options.reject)},
            reference_set=references.label,
        )
    if options.json:
        print_json(_answer(camera.name, references.label, run_in))
    else:
        _print(f"{camera.name}, {references.label}", run_in)
    return 0


def _answer(camera: str, reference_set: str, run_in: RunIn) -> dict[str, Any]:
    standing = run_in.standing
    return {
        "camera": camera,
        "reference_set": reference_set,
        "parts": len(standing.kept),
        "of": standing.plan.parts,
        "rejected": standing.rejected,
        "waiting": [
            {**asdict(part), "pictures": [str(path) for path in run_in.pictures(part.number)]}
            for part in standing.waiting
        ],
        "threshold": asdict(standing.threshold) if standing.threshold is not None else None,
        "refusal": standing.refusal,
    }


def _print(title: str, run_in: RunIn) -> None:
    standing = run_in.standing
    print(
        f"{title}: {len(standing.kept)} of {standing.plan.parts} good parts learned, "
        f"{standing.rejected} rejected, {len(standing.waiting)} to look at"
    )
    if standing.waiting:
        print(f"{'PART':>6}{'SCORE':>9}  {'TAKEN':20}{'PART ID':28}PICTURE")
        for part in standing.waiting:
            print(_row(run_in, part))
        print("say which are good: --accept N,N,..., and which are not: --reject N,N,...")
    if standing.threshold is not None:
        print(describe_threshold(standing.threshold))
    elif standing.refusal is not None:
        print(standing.refusal)
    else:
        print("provisional until all are learned and none is left to look at")


def _row(run_in: RunIn, part: LearnedPart) -> str:
    pictures = run_in.pictures(part.number)
    shown = str(pictures[0]) if pictures else "not kept any more: reject it"
    taken = part.captured_at[:19].replace("T", " ")
    name = part.part_id or f"frame {part.frame_id}"
    return f"{part.number:>6}{part.score:>9.4f}  {taken:20}{name:28}{shown}"
