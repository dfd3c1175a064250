"""Triggers from wherever they come, read, checked, noted and given to their stations."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol

from edge_sdk.alerting.identity import new_ulid
from edge_sdk.alerting.ledger import TriggerNote
from edge_sdk.alerting.trigger import TriggerRequest, parse_trigger
from edge_sdk.errors import InputError
from edge_sdk.records import Decision, Message, MessageKind, Reason, Severity, Verdict
from edge_sdk.runtime.dispatch import Dispatch
from edge_sdk.runtime.drafts import DraftMaker
from edge_sdk.runtime.station import Station
from edge_sdk.runtime.triggers import Refused, TriggerCommand, TriggerDesk
from edge_sdk.runtime.writer import StoredListener


class TriggerStore(Protocol):
    """What the intake needs of an outbox."""

    def note(self, trigger: TriggerNote, on_stored: StoredListener) -> None:
        """Hand over that a trigger was taken, to be made durable before its result."""
        ...

    def recall(self) -> tuple[list[TriggerNote], list[TriggerNote]]:
        """Triggers of earlier runs, and those of them that have no result."""
        ...

    def take_triggers(self) -> list[TriggerCommand]:
        """Commands of the broker that came since the last call."""
        ...


class Intake:
    """Takes triggers for all stations, in the loop's thread.

    Args:
        stations: by camera.
        store: where triggers are noted, and where those over MQTT come from.
        drafts: makes events of refusals.
        desk: where those of other threads lie; None: there are none.
        send: sends what comes of it.
    """

    def __init__(
        self,
        stations: Mapping[str, Station],
        store: TriggerStore,
        drafts: DraftMaker,
        *,
        desk: TriggerDesk | None,
        send: Callable[[Dispatch], None],
    ) -> None:
        self._stations = stations
        self._store = store
        self._drafts = drafts
        self._desk = desk
        self._send = send

    def recall(self) -> None:
        """Know the triggers of earlier runs; those that got no result get a fault now.

        Raises:
            SpoolError: the disk refuses.
        """
        known, unanswered = self._store.recall()
        for note in known:
            if note.camera in self._stations:
                self._stations[note.camera].remember(note.trigger_id)
        for note in unanswered:
            station = self._stations.get(note.camera)
            is_provisional = station is not None and station.pipeline.decider.threshold.provisional
            fault = _interrupted(note, provisional=is_provisional)
            draft = self._drafts.of_decision(
                MessageKind.RESULT, fault, camera=note.camera, reference_set=None
            )
            self._send(Dispatch(draft=draft))

    def take(self) -> None:
        """Take all triggers that have come."""
        for command in self._store.take_triggers():
            self._offer(command)
        if self._desk is not None:
            for command in self._desk.take():
                self._offer(command)

    def _offer(self, command: TriggerCommand) -> None:
        try:
            request = _read(command)
        except InputError as error:
            self._refuse(command, Refused(str(error)), None)
            return
        names = list(self._stations)
        name = names[0] if request.camera is None and len(names) == 1 else request.camera
        if name is None or name not in self._stations:
            reason = f"trigger.camera: expected one of {sorted(names)}, got {request.camera!r}"
            self._refuse(command, Refused(reason), replace(request, camera=None))
            return
        taken = self._stations[name].trigger(
            request, command.received_ns, way=command.way, ticket=command.ticket
        )
        if isinstance(taken, Refused):
            self._refuse(command, taken, replace(request, camera=name))
            return
        ticket = command.ticket

        def on_stored(_: Message | None) -> None:
            if ticket is not None:
                ticket.accept(taken.trigger_id)

        note = TriggerNote(camera=name, trigger_id=taken.trigger_id, part_id=taken.part_id)
        self._store.note(note, on_stored)

    def _refuse(
        self, command: TriggerCommand, refused: Refused, request: TriggerRequest | None
    ) -> None:
        """Tell whoever waits; where nobody does, say it in an event."""
        if command.ticket is not None:
            command.ticket.refuse(refused.reason, is_repeated=refused.is_repeated)
            return
        camera = request.camera if request is not None else command.camera
        draft = self._drafts.trigger_refused(refused.reason, request, camera=camera)
        self._send(Dispatch(draft=draft))


def _read(command: TriggerCommand) -> TriggerRequest:
    """What a command asks for; an input that cannot name the part gives it a name of its own.

    Raises:
        InputError: it is malformed, or an input speaks for another camera than its own.
    """
    if command.payload is None:
        name = new_ulid()
        return TriggerRequest(part_id=name, trigger_id=name, camera=command.camera)
    request = parse_trigger(command.payload)
    if command.camera is None or request.camera == command.camera:
        return request
    if request.camera is not None:
        raise InputError(
            f"trigger.camera: expected {command.camera!r}, whose input this is, or nothing, "
            f"got {request.camera!r}"
        )
    return replace(request, camera=command.camera)


def _interrupted(note: TriggerNote, *, provisional: bool) -> Decision:
    return Decision(
        verdict=Verdict.FAULT,
        reason=Reason.INTERRUPTED,
        severity=Severity.CRITICAL,
        threshold=None,
        provisional=provisional,
        margin=None,
        normal_percentile=None,
        regions=(),
        detail="the device stopped before the part was judged",
        frame=None,
        result=None,
        part_id=note.part_id,
        trigger_id=note.trigger_id,
    )
