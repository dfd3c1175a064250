"""``edge-enroll use``: change a camera to another reference set, also while it runs."""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from edge_sdk.cli.settings import resolve_settings
from edge_sdk.console import add_common_arguments, print_json, run_command

if TYPE_CHECKING:
    from edge_sdk.active_set import ActiveSet

_ANSWER_SECONDS = 30.0


def use_main(words: Sequence[str]) -> int:
    """Run ``edge-enroll use``."""
    parser = argparse.ArgumentParser(
        prog="edge-enroll use",
        description="Judge by the newest version of another reference set: at once where edge-run "
        "is running on this state folder, else from its next start on.",
    )
    parser.add_argument("reference_set", metavar="SET", help="name of the set")
    parser.add_argument("--camera", metavar="SOURCE", help="a source or a camera's name")
    add_common_arguments(parser, "config", "state", "json", "verbose")
    return run_command(parser, _use, words)


def _use(options: argparse.Namespace) -> int:
    from edge_sdk.active_set import ActiveSet, is_station_running
    from edge_sdk.cli.enroll import one_camera
    from edge_sdk.cli.enroll_audit import note
    from edge_sdk.errors import ConfigError
    from edge_sdk.references import ReferenceStore

    config = resolve_settings(options)
    camera = one_camera(config)
    name: str = options.reference_set
    ReferenceStore(config.state_dir, camera.name).check_known(name)
    active = ActiveSet(config.state_dir, camera.name)
    is_running = is_station_running(config.state_dir)
    try:
        if is_running:
            answer = _ask_station(active, name)
        else:
            active.use(name, camera.reference_set)
            answer = {"reference_set": name, "previous": camera.reference_set}
    except OSError as error:
        raise ConfigError(f"state folder: cannot be written: {error.strerror}") from error
    note(
        config,
        camera,
        "references.used",
        old={"reference_set": answer["previous"]},
        new={"reference_set": answer["reference_set"]},
        **({"command_id": answer["command_id"]} if is_running else {}),
    )
    answer = {"camera": camera.name, **answer, "is_running": is_running}
    if options.json:
        print_json(answer)
    else:
        when = "now" if is_running else "from the next start on"
        print(f"{camera.name}: {answer['reference_set']} is in use {when}")
    return 0


def _ask_station(active: ActiveSet, name: str) -> dict[str, Any]:
    from edge_sdk.alerting.identity import new_ulid
    from edge_sdk.errors import BusyError, InputError

    command_id = new_ulid()
    active.ask(name, command_id)
    deadline = time.monotonic() + _ANSWER_SECONDS
    answer: Mapping[str, Any] | None = None
    while answer is None and time.monotonic() < deadline:
        time.sleep(0.1)
        answer = active.answer_to(command_id)
    if answer is None:
        active.take_wish()  # not to be obeyed when nobody thinks of it any more
        raise BusyError(
            f"the station that is running gave no answer within {_ANSWER_SECONDS:.0f} s; "
            "its events tell which set it uses"
        )
    if answer.get("status") != "changed":
        raise InputError(f"the station keeps its set: {answer.get('reason')}")
    return {key: answer[key] for key in ("command_id", "reference_set", "previous")}
