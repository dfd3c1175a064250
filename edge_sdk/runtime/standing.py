"""What holds for all parts of a camera: a fault that stands, and which parts are masters."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace

from edge_sdk.alerting.identity import new_ulid
from edge_sdk.config.challenge import ChallengeConfig
from edge_sdk.decision import Decider
from edge_sdk.records import Decision, MessageDraft, MessageKind, Reason, Verdict
from edge_sdk.runtime.dispatch import Dispatch, Dispatcher


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """A master part that was shown to the camera."""

    part_id: str
    is_right: bool
    detail: str
    """How it came out, for people."""


class StandingFault:
    """Overrules single verdicts: by a fault that stands, or because the part is a master.

    Args:
        challenge: the camera's masters; None: it has none.
    """

    def __init__(self, challenge: ChallengeConfig | None) -> None:
        self.cause: tuple[Reason, str] | None = None
        """Why every part is a fault; None: it is not."""
        self.shown: deque[Shown] = deque()
        """Master parts that nobody has looked at yet."""
        self.expected: Mapping[str, Verdict] = {
            master.part_id: Verdict(master.expect)
            for master in (challenge.masters if challenge is not None else ())
            if master.part_id is not None
        }
        """By ``part_id``: what a master part must come out as."""

    def overrule(self, decision: Decision, part_id: str | None, decider: Decider) -> Decision:
        """The verdict that is published for a frame or part.

        A master part is judged even while the fault stands: it is what can end it.

        Args:
            decision: what the pipeline says.
            part_id: of the part; None: of a frame that is watched.
            decider: makes the fault.
        """
        expected = self.expected.get(part_id) if part_id is not None else None
        if expected is not None:
            if decision.verdict in (expected, Verdict.FAULT):
                return decision
            detail = f"expected {expected}, got {decision.verdict} ({decision.detail})"
            cause = Reason.CHALLENGE_FAILED, f"master part {part_id}: {detail}"
        elif self.cause is None or decision.verdict is Verdict.FAULT:
            return decision
        else:
            cause = self.cause[0], f"{self.cause[1]}; this one: {decision.detail}"
        fault = decider.fault(*cause, frame=decision.frame, result=decision.result)
        return replace(fault, latency_ms=decision.latency_ms)

    def observe(self, decision: Decision) -> None:
        """Take note of a master part; one that could not be judged must be shown again."""
        expected = self.expected.get(decision.part_id) if decision.part_id is not None else None
        is_right = decision.verdict is expected
        if decision.part_id is None or expected is None:
            return
        if is_right or decision.reason is Reason.CHALLENGE_FAILED:
            self.shown.append(
                Shown(part_id=decision.part_id, is_right=is_right, detail=decision.detail)
            )


class OpenFaults:
    """Faults of a triggered camera, which no part opens or closes: one incident a kind.

    Args:
        dispatcher: makes their messages.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._opened: dict[str, MessageDraft] = {}

    def is_open(self, kind: str) -> bool:
        """Whether an incident of this kind goes on."""
        return kind in self._opened

    def begin(self, kind: str, fault: Decision, reference_set: str | None) -> list[Dispatch]:
        """Open an incident, unless one of this kind goes on."""
        if kind in self._opened:
            return []
        opened = self._dispatcher.of_decision(
            MessageKind.FAULT_OPEN, fault, reference_set=reference_set, incident_id=new_ulid()
        )
        self._opened[kind] = opened.draft
        return [opened]

    def end(self, kind: str, detail: str) -> list[Dispatch]:
        """Close the incident of this kind, if there is one."""
        opened = self._opened.pop(kind, None)
        return [self._dispatcher.fault_close(opened, detail)] if opened is not None else []
