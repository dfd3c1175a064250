"""A plant that keeps books: each part is triggered until its result comes, and all is counted."""

from __future__ import annotations

import json
import threading
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Final, final

from mosquitto import Subscriber
from plant import is_message

PREFIX: Final = "edge/v1"
_TURN_SECONDS: Final = 0.005

Truth = Callable[[dict[str, Any]], str]
"""The verdict that a result should have, by what the plant knows of its part."""


@dataclass(frozen=True, kw_only=True)
class Balance:
    """What was given, and what an outside subscriber has received for it."""

    given: int
    """Parts."""
    answered: int
    """Parts with a result."""
    verdicts: dict[str, int]
    """Of these results; of faults their reason."""
    messages: int
    """Durable messages of all kinds, each once."""
    repeats: int
    """Further copies of them."""
    lost: list[str] = field(default_factory=list)
    """Parts without a result."""
    doubled: list[str] = field(default_factory=list)
    """Parts with two results: not copies, but two that differ in their ``message_id``."""
    unasked: list[str] = field(default_factory=list)
    """Results of parts that nobody gave."""
    wrong: list[str] = field(default_factory=list)
    """Parts judged otherwise than they are; a fault is no judgement."""
    reused: list[int] = field(default_factory=list)
    """Numbers (``seq``) that two messages carry."""
    missing: list[int] = field(default_factory=list)
    """Numbers that no message carries and no ``gap`` tells of."""

    @property
    def is_even(self) -> bool:
        """Whether nothing is lost, doubled, invented or wrong."""
        return not any(
            (self.lost, self.doubled, self.unasked, self.wrong, self.reused, self.missing)
        )

    @property
    def repeated_share(self) -> float:
        """Copies among all that came, 0 to 1."""
        return self.repeats / max(1, self.messages + self.repeats)


@final
class CarefulPlant:
    """Gives parts from a thread of its own, and survives the device as well as the broker.

    Args:
        port: of the broker, which must be there at the start.
        device: whom to trigger.
        truth: what the results should say.
        show: puts a part before the camera; returns when the camera sees it.
        under_way: parts that may wait for their result at a time.
        pause_seconds: between two parts.
        again_seconds: without a result, after which a part is triggered again under the same id.
    """

    def __init__(
        self,
        port: int,
        device: str,
        truth: Truth,
        *,
        show: Callable[[str], None] | None = None,
        under_way: int = 1,
        pause_seconds: float = 0.0,
        again_seconds: float = 1.0,
    ) -> None:
        self._subscriber = Subscriber(port, f"{PREFIX}/{device}/#", name="careful-plant")
        self._topic = f"{PREFIX}/{device}/cmd/trigger"
        self._truth = truth
        self._show = show
        self._under_way = under_way
        self._pause_seconds = pause_seconds
        self._again_seconds = again_seconds
        self._read = 0
        self._given: list[str] = []
        self._open: dict[str, float] = {}
        """By id: when it was triggered last, monotonic seconds."""
        self._results: defaultdict[str, dict[str, dict[str, Any]]] = defaultdict(dict)
        """By id, then by ``message_id``."""
        self._copies: Counter[str] = Counter()
        self._numbers: defaultdict[int, set[str]] = defaultdict(set)
        self._told_gaps: set[int] = set()
        self._judged = 0
        self._lock = threading.Lock()
        self._gives = threading.Event()
        self._is_giving = False
        self._is_over = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="careful-plant", daemon=True)

    def __enter__(self) -> CarefulPlant:
        self._subscriber.__enter__()
        self._gives.set()
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._is_over.set()
        self._thread.join(30)
        self._subscriber.__exit__(kind, error, trace)

    @property
    def answered(self) -> int:
        """Parts with a result so far."""
        with self._lock:
            return len(self._results)

    @property
    def judged(self) -> int:
        """Results so far that are no faults, copies included."""
        return self._judged

    def wait_for_answers(self, number: int, timeout_seconds: float) -> float:
        """Wait until so many parts have a result; how long it took, seconds."""
        began = time.monotonic()
        while self.answered < number:
            self._complain()
            assert time.monotonic() - began < timeout_seconds, (
                f"{self.answered} of {number} results within {timeout_seconds} s; "
                f"these wait: {sorted(self._open)[:5]}"
            )
            time.sleep(_TURN_SECONDS)
        return time.monotonic() - began

    def finish(self, timeout_seconds: float) -> None:
        """Give no further part, and wait until all that were given have their result."""
        self._gives.clear()
        deadline = time.monotonic() + timeout_seconds
        while (self._open or self._is_giving) and time.monotonic() < deadline:
            self._complain()
            time.sleep(_TURN_SECONDS)

    def results(self) -> list[dict[str, Any]]:
        """The first result of each part so far."""
        with self._lock:
            return [next(iter(found.values())) for found in self._results.values()]

    def balance(self) -> Balance:
        """The books as they are now."""
        with self._lock:
            self._take()
            first = {key: next(iter(found.values())) for key, found in self._results.items()}
            highest = max(self._numbers, default=0)
            known = self._numbers.keys() | self._told_gaps
            return Balance(
                given=len(self._given),
                answered=len(first),
                verdicts=dict(Counter(_verdict(result) for result in first.values())),
                messages=len(self._copies),
                repeats=sum(self._copies.values()) - len(self._copies),
                lost=[key for key in self._given if key not in first],
                doubled=[key for key, found in self._results.items() if len(found) > 1],
                unasked=sorted(first.keys() - set(self._given)),
                wrong=[
                    f"{key}: {result['verdict']}, but is {self._truth(result)}"
                    for key, result in first.items()
                    if result["verdict"] != "fault" and result["verdict"] != self._truth(result)
                ],
                reused=sorted(seq for seq, ids in self._numbers.items() if len(ids) > 1),
                missing=sorted({*range(1, highest + 1)} - known),
            )

    def _complain(self) -> None:
        if self._error is not None:
            raise AssertionError("the plant itself has failed") from self._error

    def _run(self) -> None:
        try:
            while not self._is_over.wait(_TURN_SECONDS):
                with self._lock:
                    self._take()
                self._remind()
                self._is_giving = True  # before it is asked: whoever waits must not slip between
                if self._gives.is_set() and len(self._open) < self._under_way:
                    self._give()
                self._is_giving = False
        except BaseException as error:  # noqa: BLE001 - told to whoever waits
            self._error = error

    def _give(self) -> None:
        key = f"part-{len(self._given) + 1}"
        if self._show is not None:
            self._show(key)
        self._given.append(key)
        self._trigger(key)
        self._is_over.wait(self._pause_seconds)

    def _remind(self) -> None:
        now = time.monotonic()
        for key, at in list(self._open.items()):
            if now - at > self._again_seconds and self._subscriber.is_connected:
                self._trigger(key)

    def _trigger(self, key: str) -> None:
        with self._lock:
            self._open[key] = time.monotonic()
        payload = json.dumps({"part_id": key, "trigger_id": key}).encode()
        self._subscriber.send(self._topic, payload)

    def _take(self) -> None:
        """Enter what has come into the books."""
        for received in self._subscriber.since(self._read):
            self._read += 1
            if not is_message(received.topic):
                continue
            message = json.loads(received.payload)
            self._copies[message["message_id"]] += 1
            self._numbers[message["seq"]].add(message["message_id"])
            if message.get("event") == "gap":
                data = message["data"]
                self._told_gaps.update(range(data["from_seq"], data["to_seq"] + 1))
            if message["kind"] == "result":
                self._results[message["trigger_id"]][message["message_id"]] = message
                self._open.pop(message["trigger_id"], None)
                self._judged += message["verdict"] != "fault"


def _verdict(result: dict[str, Any]) -> str:
    return str(result["reason"] if result["verdict"] == "fault" else result["verdict"])
