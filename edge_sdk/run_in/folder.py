"""A run-in on the disk: its plan, its parts, a person's answers, and the pictures to look at."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import asdict
from datetime import datetime, timezone
from pathlib import Path

from edge_sdk.durable_files import append_line, read_json, read_lines, replace_json, write_durably
from edge_sdk.errors import InputError
from edge_sdk.run_in.rules import LearnedPart, RunInPlan, Standing, settle, worth_showing


class RunIn:
    """A run-in on the disk. Any thread may use it; another process may answer questions meanwhile.

    Args:
        folder: its own.
        plan: None: as the folder says, which must have one.

    Raises:
        InputError: the folder's files do not read as a run-in.
    """

    def __init__(self, folder: Path, plan: RunInPlan | None = None) -> None:
        self.folder = folder
        self._lock = threading.Lock()
        self._plan = plan or _read_plan(folder)
        self._parts: list[LearnedPart] = []
        self._answers: dict[int, bool] = {}
        self._read_sizes = (-1, -1)
        self._standing = settle((), {}, self._plan)
        self.refresh()

    @property
    def standing(self) -> Standing:
        """As of the last ``refresh``, ``record`` or ``answer``."""
        return self._standing

    def begin(self) -> None:
        """Put the plan on the disk: from now on every start goes on with it.

        Raises:
            OSError: the disk refuses.
        """
        with self._lock:
            replace_json(self.folder / "plan.json", asdict(self._plan))

    def refresh(self) -> Standing:
        """Read what was answered meanwhile.

        Raises:
            InputError: the files do not read as a run-in any more.
        """
        with self._lock:
            self._read()
            return self._standing

    def record(
        self,
        score: float,
        *,
        captured_at: datetime,
        frame_id: int | None,
        part_id: str | None,
        pictures: Callable[[], Mapping[str, bytes]],
    ) -> Standing:
        """Learn one part, unless all was learned: it is on the disk when this returns.

        Args:
            score: of a part that was judged, finite.
            captured_at: when.
            frame_id: number of its frame.
            part_id: what the plant calls it.
            pictures: gives suffix (``.jpg``) and content; asked where a person may want to see
                them, and kept as long as that.

        Raises:
            OSError: the disk refuses; the part does not count.
        """
        with self._lock:
            self._read()
            if self._standing.is_learned:
                return self._standing
            part = LearnedPart(
                number=self._parts[-1].number + 1 if self._parts else 1,
                score=score,
                captured_at=captured_at.astimezone(timezone.utc).isoformat(timespec="milliseconds"),
                frame_id=frame_id,
                part_id=part_id,
            )
            shown = worth_showing([*self._parts, part], self._answers)
            if part.number in shown:
                (self.folder / "pictures").mkdir(parents=True, exist_ok=True)
                for suffix, content in pictures().items():
                    write_durably(self._picture(part.number, suffix), content)
            append_line(self.folder / "parts.jsonl", asdict(part))
            self._read()
            self._drop_pictures(shown)
            return self._standing

    def answer(self, number: int, *, is_good: bool) -> Standing:
        """Keep what a person says of a part that waits; the last word counts until all is learned.

        Raises:
            InputError: there is no such part, or the run-in is over.
            OSError: the disk refuses.
        """
        with self._lock:
            self._read()
            if self._standing.threshold is not None:
                raise InputError("the run-in is over: its threshold is in use")
            if number not in {part.number for part in self._parts}:
                raise InputError(f"part {number}: expected one of 1 to {len(self._parts)}")
            answered_at = datetime.now(timezone.utc).isoformat()
            line = {"number": number, "is_good": is_good, "answered_at": answered_at}
            append_line(self.folder / "review.jsonl", line)
            self._read()
            return self._standing

    def pictures(self, number: int) -> list[Path]:
        """Pictures of a part: with what is odd about it, and as it was taken."""
        return sorted((self.folder / "pictures").glob(f"{number:05d}*.jpg"))

    def _read(self) -> None:
        """Read the files again where they have grown."""
        parts, review = self.folder / "parts.jsonl", self.folder / "review.jsonl"
        sizes = _size_of(parts), _size_of(review)
        if sizes == self._read_sizes:
            return
        self._parts, self._answers = _read_parts(parts), _read_answers(review)
        self._standing = settle(self._parts, self._answers, self._plan)
        self._read_sizes = sizes

    def _picture(self, number: int, suffix: str) -> Path:
        return self.folder / "pictures" / f"{number:05d}{suffix}"

    def _drop_pictures(self, shown: set[int]) -> None:
        for path in (self.folder / "pictures").glob("*.jpg"):
            number = path.name[:5]
            if number.isdigit() and int(number) not in shown:
                path.unlink(missing_ok=True)


def open_run_in(folder: Path, plan: RunInPlan | None) -> RunIn | None:
    """A run-in that was begun, or that is wanted now; None where there is neither.

    Args:
        folder: of this set and way of scoring.
        plan: what the settings want; None: nothing, but what was begun goes on.
    """
    if plan is None and not (folder / "plan.json").is_file():
        return None
    return RunIn(folder, plan)


def find_run_ins(set_folder: Path) -> list[RunIn]:
    """Run-ins that were begun for a reference set, the one begun last at the end."""
    plans = sorted(
        (set_folder / "run_in").glob("*/plan.json"), key=lambda path: path.stat().st_mtime
    )
    return [RunIn(path.parent) for path in plans]


def _read_plan(folder: Path) -> RunInPlan:
    path = folder / "plan.json"
    stored = read_json(path)
    try:
        plan = RunInPlan(**stored)
        is_sound = plan.parts >= 1 and 0 < plan.false_alarms_per_100 <= 100
    except TypeError as error:
        raise InputError(f"{path}: not a run-in ({error}); delete its folder") from error
    if not is_sound:
        raise InputError(f"{path}: not a run-in ({stored}); delete its folder")
    return plan


def _size_of(path: Path) -> int:
    return path.stat().st_size if path.is_file() else 0


def _read_parts(path: Path) -> list[LearnedPart]:
    try:
        parts = [LearnedPart(**line) for line in read_lines(path)]
    except TypeError as error:
        raise InputError(f"{path}: not the parts of a run-in ({error})") from error
    if not all(_is_finite(part.score) for part in parts):
        raise InputError(f"{path}: a score is no finite number")
    return parts


def _is_finite(value: object) -> bool:
    return isinstance(value, (int, float)) and math.isfinite(value)


def _read_answers(path: Path) -> dict[int, bool]:
    try:
        return {int(line["number"]): bool(line["is_good"]) for line in read_lines(path)}
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not the answers of a run-in ({error!r})") from error
