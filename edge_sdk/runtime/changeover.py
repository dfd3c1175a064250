"""Changes of reference sets: asked for by the plant or at the terminal, made by a thread, answered.

From the moment a change was asked for until the other set is ready, its camera judges nothing;
``Station`` decides what becomes of parts from before. The other cameras go on.
"""

from __future__ import annotations

import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from queue import Empty, Queue
from typing import Any

from edge_sdk.active_set import ActiveSet
from edge_sdk.alerting.changeover import parse_references
from edge_sdk.alerting.commands import Command
from edge_sdk.errors import EdgeError, InputError
from edge_sdk.pipeline import Pipeline
from edge_sdk.records import Severity
from edge_sdk.runtime.dispatch import Dispatch
from edge_sdk.runtime.drafts import DraftMaker
from edge_sdk.runtime.station import Station

_LOOK_SECONDS = 0.2
"""How often the terminal's wishes are looked for."""
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Order:
    camera: str
    name: str
    command_id: str
    received_ns: int


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class _Outcome:
    order: _Order
    pipeline: Pipeline | None
    refusal: str


class ChangeOver:
    """Changes the sets of all stations.

    Args:
        stations: whose sets are changed.
        drafts: makes the answers.
        state_dir: where the set in use is noted, and the terminal's wishes lie.
        build: fits a pipeline to the newest version of a set; called in a thread.
        take_commands: ``cmd/references`` since the last call.
        clock: monotonic nanoseconds, for wishes of the terminal.
        on_news: called when there is something to do.
    """

    def __init__(
        self,
        stations: Sequence[Station],
        drafts: DraftMaker,
        *,
        state_dir: Path,
        build: Callable[[str, str], Pipeline],
        take_commands: Callable[[], Sequence[Command]],
        clock: Callable[[], int],
        on_news: Callable[[], None],
    ) -> None:
        self._stations = {station.camera.name: station for station in stations}
        self._active = {name: ActiveSet(state_dir, name) for name in self._stations}
        self._in_use = {name: one.camera.reference_set for name, one in self._stations.items()}
        self._drafts = drafts
        self._build = build
        self._take_commands = take_commands
        self._clock = clock
        self._on_news = on_news
        self._pending: set[str] = set()
        """Cameras that are changing."""
        self._given: OrderedDict[str, tuple[str, dict[str, Any]]] = OrderedDict()
        """By command id: the newest answer."""
        self._wishes: deque[_Order] = deque()
        self._outcomes: deque[_Outcome] = deque()
        self._jobs: Queue[_Order | Callable[[], None] | None] = Queue()
        self._thread = threading.Thread(target=self._work, name="changeover", daemon=True)
        self._thread.start()

    def attend(self) -> list[Dispatch]:
        """Begin what was asked for, and finish what is ready.

        Raises:
            EdgeError: a defect has ended the thread, so that no change would ever be made.
        """
        if not self._thread.is_alive():
            raise EdgeError(
                "a defect has ended the thread that changes reference sets; standard error tells "
                "where"
            )
        said = []
        for command in self._take_commands():
            said += self._obey(command)
        while self._wishes:
            said += self._begin(self._wishes.popleft())
        while self._outcomes:
            said += self._finish(self._outcomes.popleft())
        return said

    def close(self) -> None:
        """End; a change that is not ready is not made."""
        self._jobs.put(None)
        self._thread.join(5.0)

    def _obey(self, command: Command) -> list[Dispatch]:
        try:
            request = parse_references(command.payload)
        except InputError as error:
            return [self._say("refused", {"reason": str(error)}, camera=None)]
        given = self._given.get(request.command_id)
        if given is not None:  # delivered twice: said again, not done again
            status, data = given
            return [self._say(status, data, camera=data.get("camera"))]
        names = list(self._stations)
        camera = names[0] if request.camera is None and len(names) == 1 else request.camera
        data = {"command_id": request.command_id, "reference_set": request.reference_set}
        if camera is None or camera not in self._stations:
            reason = f"references.camera: expected one of {sorted(names)}, got {request.camera!r}"
            return [self._say("refused", {**data, "reason": reason}, camera=None)]
        order = _Order(
            camera=camera,
            name=request.reference_set,
            command_id=request.command_id,
            received_ns=command.received_ns,
        )
        return self._begin(order)

    def _begin(self, order: _Order) -> list[Dispatch]:
        data = {"command_id": order.command_id, "reference_set": order.name}
        if order.camera in self._pending:
            return [self._answer(order, "refused", {**data, "reason": "busy: a change goes on"})]
        self._pending.add(order.camera)
        dispatches = self._stations[order.camera].begin_change(order.name, order.received_ns)
        self._jobs.put(order)
        return [*dispatches, self._answer(order, "accepted", data)]

    def _finish(self, outcome: _Outcome) -> list[Dispatch]:
        order, station = outcome.order, self._stations[outcome.order.camera]
        self._pending.discard(order.camera)
        data: dict[str, Any] = {
            "command_id": order.command_id,
            "reference_set": order.name,
            "previous": station.pipeline.reference_label,
        }
        if outcome.pipeline is None:
            station.refuse_change()
            data["reason"] = outcome.refusal
            return [self._answer(order, "refused", data)]
        data["previous_threshold"] = station.pipeline.decider.threshold.value
        dispatches = station.finish_change(outcome.pipeline)
        data["reference_set"] = outcome.pipeline.reference_label
        data["threshold"] = outcome.pipeline.decider.threshold.value
        data["provisional"] = outcome.pipeline.decider.threshold.provisional
        return [*dispatches, self._answer(order, "changed", data)]

    def _answer(self, order: _Order, status: str, data: dict[str, Any]) -> Dispatch:
        self._given[order.command_id] = status, {**data, "camera": order.camera}
        if len(self._given) > _REMEMBERED:
            self._given.popitem(last=False)
        if status != "accepted":
            note = self._active[order.camera]
            self._jobs.put(lambda: note.answer(order.command_id, {"status": status, **data}))
        return self._say(status, data, camera=order.camera)

    def _say(self, status: str, data: Mapping[str, Any], *, camera: str | None) -> Dispatch:
        severity = Severity.WARN if status == "refused" else Severity.INFO
        plain = {key: value for key, value in data.items() if key != "camera"}
        draft = self._drafts.event(f"references_{status}", plain, severity=severity, camera=camera)
        return Dispatch(draft=draft)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get(timeout=_LOOK_SECONDS)
            except Empty:
                self._look_for_wishes()
                continue
            if job is None:
                return
            if isinstance(job, _Order):
                self._outcomes.append(self._make(job))
                self._on_news()
                continue
            try:
                job()
            except OSError:
                continue  # whoever waits at the terminal is told that there was no answer

    def _look_for_wishes(self) -> None:
        for camera, note in self._active.items():
            try:
                wish = note.take_wish()
            except OSError:
                continue
            if wish is not None:
                name, command_id = wish
                now_ns = self._clock()
                order = _Order(camera=camera, name=name, command_id=command_id, received_ns=now_ns)
                self._wishes.append(order)
                self._on_news()

    def _make(self, order: _Order) -> _Outcome:
        """Fit the other set and note that it is in use; the old one is kept where that fails."""
        try:
            pipeline = self._build(order.camera, order.name)
            self._active[order.camera].use(order.name, self._in_use[order.camera])
        except (EdgeError, OSError) as error:
            return _Outcome(order=order, pipeline=None, refusal=str(error))
        self._in_use[order.camera] = order.name
        return _Outcome(order=order, pipeline=pipeline, refusal="")
