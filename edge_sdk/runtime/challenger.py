"""Challenges of a running device: masters are shown in time, and a camera that errs is at fault.

Pictures are judged between two parts, a picture at a time; at the start and after a change, all of
them before any other part is judged. Parts are asked for, and until they were shown and came out
right nothing else is judged.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from edge_sdk.alerting.challenge import parse_challenge
from edge_sdk.alerting.commands import Command
from edge_sdk.errors import InputError
from edge_sdk.records import Reason, Severity
from edge_sdk.runtime.dispatch import Dispatch
from edge_sdk.runtime.drafts import DraftMaker
from edge_sdk.runtime.masters import Master, Outcome, describe_wrong, show_picture
from edge_sdk.runtime.station import Station

_YIELD_SECONDS = 2.0
"""How long a picture lets parts go first."""
_REMEMBERED = 1000


@dataclass(kw_only=True, eq=False)
class _Post:
    """One camera that has masters."""

    station: Station
    masters: tuple[Master, ...]
    every_ns: int
    retry_ns: int
    passed_ns: dict[str, int]
    """By master: when it came out right last; monotonic, below 0 where before this boot."""
    passed_by: dict[str, str | None]
    """By master part: under which reference set."""
    wrong: dict[str, Outcome] = field(default_factory=dict)
    """By master: as it came out wrong last."""
    asked: set[str] = field(default_factory=set)
    """Master parts that must be shown before anything else is judged."""
    waiting: deque[Master] = field(default_factory=deque)
    """Pictures still to be judged in this round."""
    outcomes: list[Outcome] = field(default_factory=list)
    cause: str = ""
    command_id: str | None = None
    began_ns: int = 0
    judged_by: object = None
    """Pipeline and threshold when the pictures were judged last."""
    told: tuple[str, ...] | None = None
    """What was wrong when something was said of it last."""

    @property
    def counting(self) -> list[Master]:
        label = self.station.pipeline.reference_label
        return [master for master in self.masters if master.concerns(label)]


class Challenger:
    """Shows the masters of all stations.

    Args:
        stations: whose masters are shown.
        masters: by camera.
        drafts: makes events.
        take_commands: ``cmd/challenge`` since the last call.
        passed: by camera and master part: seconds since it came out right last, and under which
            reference set; of earlier runs.
        clock: monotonic nanoseconds.
    """

    def __init__(
        self,
        stations: Sequence[Station],
        masters: Mapping[str, tuple[Master, ...]],
        drafts: DraftMaker,
        *,
        take_commands: Callable[[], Sequence[Command]],
        passed: Mapping[tuple[str, str], tuple[float, str | None]],
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        self._drafts = drafts
        self._take_commands = take_commands
        self._clock = clock
        self._stations = stations
        self._given: OrderedDict[str, list[tuple[str, str, dict[str, Any]]]] = OrderedDict()
        """By command id: its answers so far, as status, camera and data."""
        now_ns = clock()
        self._posts: dict[str, _Post] = {}
        for station in stations:
            settings = station.camera.challenge
            if settings is None:
                continue
            name = station.camera.name
            before = {part: age for (camera, part), age in passed.items() if camera == name}
            self._posts[name] = _Post(
                station=station,
                masters=masters[name],
                every_ns=int(settings.every_hours * 3600e9),
                retry_ns=int(settings.retry_seconds * 1e9),
                passed_ns={part: now_ns - int(age * 1e9) for part, (age, _) in before.items()},
                passed_by={part: label for part, (_, label) in before.items()},
            )

    def attend(self) -> list[Dispatch]:
        """Show what is due."""
        said = []
        for command in self._take_commands():
            said += self._obey(command)
        for post in self._posts.values():
            said += self._attend(post)
        return said

    def _obey(self, command: Command) -> list[Dispatch]:
        try:
            request = parse_challenge(command.payload)
        except InputError as error:
            return [self._say("refused", {"reason": str(error)}, camera=None)]
        if request.command_id in self._given:
            given = self._given[request.command_id]  # delivered twice: said again, not done again
            return [self._say(status, data, camera=camera) for status, camera, data in given]
        names = [station.camera.name for station in self._stations]
        camera = names[0] if request.camera is None and len(names) == 1 else request.camera
        post = self._posts.get(camera) if camera is not None else None
        if post is None:
            reason = (
                f"challenge.camera: expected one of {sorted(names)}, got {request.camera!r}"
                if camera not in names
                else f"camera {camera}: declares no masters"
            )
            data = {"command_id": request.command_id, "reason": reason}
            return [self._say("refused", data, camera=None)]
        self._given[request.command_id] = []
        if len(self._given) > _REMEMBERED:
            self._given.popitem(last=False)
        self._begin(post, "command", request.command_id)
        parts = {master.name for master in post.counting if master.part_id is not None}
        return self._ask(post, parts, request.command_id)

    def _attend(self, post: _Post) -> list[Dispatch]:
        now_ns = self._clock()
        said = self._take_shown(post, now_ns)
        pipeline = post.station.pipeline
        judge = pipeline, pipeline.decider.threshold
        must_finish = judge != post.judged_by
        if must_finish:
            self._begin(post, "change" if post.judged_by is not None else "start")
            post.judged_by = judge
        elif not post.waiting and (cause := self._why_now(post, now_ns)):
            self._begin(post, cause)
        said += self._ask(post, self._overdue(post, now_ns) - post.asked)
        if not post.waiting and not must_finish:
            return said
        is_busy = any(station.job_deadline_ns is not None for station in self._stations)
        if is_busy and not must_finish and now_ns - post.began_ns < _YIELD_SECONDS * 1e9:
            return said
        while post.waiting:
            self._judge(post, post.waiting.popleft(), now_ns)
            if not must_finish:
                break
        if post.waiting:
            return said
        outcomes, post.outcomes = post.outcomes, []
        return said + self._conclude(post, post.cause, outcomes, post.command_id)

    def _why_now(self, post: _Post, now_ns: int) -> str | None:
        pictures = [master for master in post.counting if master.pixels is not None]
        if any(master.name in post.wrong for master in pictures):
            return "retry" if now_ns - post.began_ns >= post.retry_ns else None
        is_due = any(
            now_ns - post.passed_ns.get(master.name, now_ns) >= post.every_ns for master in pictures
        )
        return "schedule" if is_due else None

    def _overdue(self, post: _Post, now_ns: int) -> set[str]:
        """Parts that never came out right under the set in use, or not for too long."""
        label = post.station.pipeline.reference_label
        return {
            master.name
            for master in post.counting
            if master.part_id is not None
            and (
                post.passed_by.get(master.name, "") != label
                or now_ns - post.passed_ns[master.name] >= post.every_ns
            )
        }

    def _begin(self, post: _Post, cause: str, command_id: str | None = None) -> None:
        post.waiting = deque(master for master in post.counting if master.pixels is not None)
        post.outcomes = []
        post.cause, post.command_id, post.began_ns = cause, command_id, self._clock()

    def _judge(self, post: _Post, master: Master, now_ns: int) -> None:
        outcome = show_picture(post.station.pipeline, master)
        post.outcomes.append(outcome)
        self._note(post, outcome, now_ns)

    def _take_shown(self, post: _Post, now_ns: int) -> list[Dispatch]:
        said = []
        named = {master.part_id: master for master in post.counting if master.part_id is not None}
        while post.station.standing.shown:
            shown = post.station.standing.shown.popleft()
            master = named.get(shown.part_id)
            if master is None:  # of another product's set: it says nothing of this one
                continue
            data = {
                "master": master.name,
                "expected": str(master.expected),
                "verdict": str(master.expected) if shown.is_right else "wrong",
                "detail": shown.detail[:120],
            }
            outcome = Outcome(name=master.name, is_right=shown.is_right, data=data)
            self._note(post, outcome, now_ns)
            post.asked.discard(master.name)
            said += self._conclude(post, "part", [outcome])
        return said

    def _note(self, post: _Post, outcome: Outcome, now_ns: int) -> None:
        if outcome.is_right:
            post.wrong.pop(outcome.name, None)
            post.passed_ns[outcome.name] = now_ns
            post.passed_by[outcome.name] = post.station.pipeline.reference_label
        else:
            post.wrong[outcome.name] = outcome

    def _ask(self, post: _Post, parts: set[str], command_id: str | None = None) -> list[Dispatch]:
        if not parts:
            return []
        post.asked |= parts
        data: dict[str, Any] = {"masters": sorted(post.asked)}
        return [self._tell(post, "due", data, command_id), *self._settle(post)]

    def _conclude(
        self, post: _Post, cause: str, outcomes: list[Outcome], command_id: str | None = None
    ) -> list[Dispatch]:
        """Say how a round came out, and let the camera judge or not accordingly."""
        names = {master.name for master in post.counting}
        post.wrong = {name: one for name, one in post.wrong.items() if name in names}
        post.asked &= names
        wrong = tuple(sorted(post.wrong))
        said = []
        is_news = cause != "retry" or wrong != post.told
        post.told = wrong
        if is_news and outcomes:
            status = "passed" if all(one.is_right for one in outcomes) else "failed"
            data: dict[str, Any] = {"cause": cause, "masters": [one.data for one in outcomes]}
            said.append(self._tell(post, status, data, command_id))
        return [*said, *self._settle(post)]

    def _settle(self, post: _Post) -> list[Dispatch]:
        station = post.station
        what = describe_wrong(list(post.wrong.values()))
        if what is not None:
            cause = Reason.CHALLENGE_FAILED, what
        elif post.asked:
            cause = Reason.CHALLENGE_DUE, f"show the master parts {', '.join(sorted(post.asked))}"
        elif station.standing.cause is not None:
            return station.lift("the masters came out right")
        else:
            return []
        if station.standing.cause == cause:
            return []
        return station.impose(*cause)

    def _tell(
        self, post: _Post, status: str, data: dict[str, Any], command_id: str | None
    ) -> Dispatch:
        data["reference_set"] = post.station.pipeline.reference_label
        data["threshold"] = post.station.pipeline.decider.threshold.value
        camera = post.station.camera.name
        if command_id is not None:
            data["command_id"] = command_id
            self._given[command_id].append((status, camera, data))
        return self._say(status, data, camera=camera)

    def _say(self, status: str, data: Mapping[str, Any], *, camera: str | None) -> Dispatch:
        gravity = {"failed": Severity.CRITICAL, "passed": Severity.INFO}
        severity = gravity.get(status, Severity.WARN)
        return Dispatch(
            draft=self._drafts.event(f"challenge_{status}", data, severity=severity, camera=camera)
        )
