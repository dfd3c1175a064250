"""``edge-enroll list`` and ``undo``: what a camera was taught, and a step back."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.settings import resolve_settings
from edge_sdk.console import add_common_arguments, print_json, run_command

if TYPE_CHECKING:
    from edge_sdk.records import Threshold
    from edge_sdk.references import ReferenceSet
    from edge_sdk.run_in.folder import RunIn


def list_main(words: Sequence[str]) -> int:
    """Run ``edge-enroll list``."""
    parser = argparse.ArgumentParser(
        prog="edge-enroll list", description="Show the reference sets of the cameras."
    )
    add_set_arguments(parser)
    return run_command(parser, _list, words)


def undo_main(words: Sequence[str]) -> int:
    """Run ``edge-enroll undo``."""
    parser = argparse.ArgumentParser(
        prog="edge-enroll undo",
        description="Take the newest version of a reference set out of use, so that the one "
        "before it judges again from the next start on. Its pictures stay on the disk.",
    )
    add_set_arguments(parser)
    return run_command(parser, _undo, words)


def add_set_arguments(parser: argparse.ArgumentParser) -> None:
    """What names a camera's set."""
    parser.add_argument("--camera", metavar="SOURCE", help="a source or a camera's name")
    parser.add_argument("--references", metavar="SET", help="name of the set (default: default)")
    add_common_arguments(parser, "config", "state", "json", "verbose")


def describe_threshold(threshold: Threshold) -> str:
    """One line for people: the value, how it was found, and what it promises."""
    text = f"threshold {threshold.value:.4f}, fitted by {threshold.method}"
    rate = threshold.expected_false_alarm_rate
    if rate is not None and threshold.false_alarm_interval is not None:
        low, high = (100 * bound for bound in threshold.false_alarm_interval)
        return (
            f"{text} on {threshold.pictures} good parts: expect {100 * rate:.2f} false alarms per "
            f"100 good parts (95 %: {low:.2f} to {high:.2f})"
        )
    if rate is None or not threshold.provisional:
        return text
    return (
        f"{text}; provisional: at the highest of {threshold.pictures} good scores, expect about "
        f"{100 * rate:.0f} false alarms per 100 good parts"
    )


def _list(options: argparse.Namespace) -> int:
    from edge_sdk.references import ReferenceStore, load_thresholds
    from edge_sdk.run_in.folder import find_run_ins

    config = resolve_settings(options)
    rows: list[dict[str, Any]] = []
    for camera in config.cameras:
        store = ReferenceStore(config.state_dir, camera.name)
        for name in store.names() if options.references is None else [options.references]:
            newest = store.load(name)
            for version in store.versions(name):
                kept = newest if version == newest.version else store.load(name, version=version)
                row = _row(kept, load_thresholds(kept), find_run_ins(kept.folder))
                row["used"] = name == camera.reference_set and kept is newest
                rows.append(row)
    if options.json:
        print_json({"sets": rows})
    elif not rows:
        print("no reference set is enrolled: show the camera good parts with edge-enroll")
    else:
        _print_rows(rows)
    return 0


def _row(
    references: ReferenceSet, thresholds: list[Threshold], run_ins: list[RunIn]
) -> dict[str, Any]:
    standings = [run_in.standing for run_in in run_ins]
    learned = [one.threshold for one in standings if one.threshold is not None]
    return {
        "camera": references.camera,
        "reference_set": references.label,
        "pictures": len(references.pictures),
        "enrolled_at": references.description.get("enrolled_at"),
        "source": references.description.get("source"),
        "folder": str(references.folder),
        "thresholds": [asdict(threshold) for threshold in (*learned, *thresholds)],
        "run_ins": [
            {"parts": len(one.kept), "of": one.plan.parts, "waiting": len(one.waiting)}
            for one in standings
            if one.threshold is None
        ],
    }


def _print_rows(rows: list[dict[str, Any]]) -> None:
    print(f"{'CAMERA':10}{'SET':16}{'PICTURES':>8}  {'ENROLLED':20}{'THRESHOLD':42}USED")
    for row in rows:
        fitted = [
            f"{threshold['value']:.4f} {'provisional' if threshold['provisional'] else 'fitted'}"
            for threshold in row["thresholds"]
        ]
        fitted += [f"run-in {one['parts']} of {one['of']}" for one in row["run_ins"]]
        enrolled = str(row["enrolled_at"])[:19].replace("T", " ")
        print(
            f"{row['camera']:10}{row['reference_set']:16}{row['pictures']:>8}  {enrolled:20}"
            f"{', '.join(fitted) or '-':42}{'yes' if row['used'] else ''}".rstrip()
        )


def _undo(options: argparse.Namespace) -> int:
    from edge_sdk.cli.enroll import one_camera
    from edge_sdk.cli.enroll_audit import note
    from edge_sdk.references import ReferenceStore

    config = resolve_settings(options)
    camera = one_camera(config)
    store = ReferenceStore(config.state_dir, camera.name)
    undone = store.undo(camera.reference_set)
    versions = store.versions(camera.reference_set)
    used = f"{camera.reference_set}/{versions[-1]}" if versions else None
    note(
        config,
        camera,
        "references.undone",
        old={"reference_set": undone},
        new={"reference_set": used},
    )
    if options.json:
        print_json({"camera": camera.name, "undone": undone, "reference_set": used})
    else:
        then = f"{used} is in use from the next start on" if used else "no version is left"
        print(f"{camera.name}: {undone} is out of use; {then}")
    return 0
