"""Who attends to a running box: change-overs, run-ins, challenges, and what was missed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack

from edge_sdk.config import DeviceConfig
from edge_sdk.pipeline import Pipeline
from edge_sdk.runtime.auditor import Auditor
from edge_sdk.runtime.challenger import Challenger
from edge_sdk.runtime.changeover import ChangeOver
from edge_sdk.runtime.drafts import DraftMaker
from edge_sdk.runtime.learning import Learner
from edge_sdk.runtime.loop import Attendant
from edge_sdk.runtime.masters import load_masters
from edge_sdk.runtime.outbox import DryOutbox, DurableOutbox
from edge_sdk.runtime.resync import Resync
from edge_sdk.runtime.station import Station


def attend_stations(
    config: DeviceConfig,
    stations: Sequence[Station],
    drafts: DraftMaker,
    outbox: DurableOutbox | DryOutbox,
    *,
    auditor: Auditor | None,
    build: Callable[[str, str], Pipeline],
    on_news: Callable[[], None],
    opened: ExitStack,
) -> tuple[Sequence[Attendant], Learner | None]:
    """Start all that attends to stations, in the order in which they are to be asked.

    Args:
        config: the device's settings.
        stations: of all cameras.
        drafts: makes events.
        outbox: brings commands. A dry run, which writes nothing, has challenges alone.
        auditor: knows which masters came out right before; None: nothing is known.
        build: fits a pipeline of a camera to another reference set.
        on_news: called when there is something to do.
        opened: closes them.

    Returns:
        Them, and the one of them that is offered every decision.

    Raises:
        InputError: a master's picture is missing or does not decode.
    """
    masters = {camera.name: load_masters(camera) for camera in config.cameras}
    challenger = Challenger(
        stations,
        masters,
        drafts,
        take_commands=outbox.take_challenges,
        passed=auditor.passed_masters() if auditor is not None else {},
    )
    if isinstance(outbox, DryOutbox):
        return (challenger,), None
    changes = ChangeOver(
        stations,
        drafts,
        state_dir=config.state_dir,
        build=build,
        take_commands=outbox.take_changes,
        clock=time.monotonic_ns,
        on_news=on_news,
    )
    learner = Learner(stations, drafts)
    opened.callback(learner.close)
    opened.callback(changes.close)
    resync = Resync(outbox, drafts, on_news=on_news)
    return (changes, learner, challenger, resync), learner
