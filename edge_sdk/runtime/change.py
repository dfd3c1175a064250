"""What a change of the reference set means for parts and frames, by the time they came."""

from __future__ import annotations


class Change:
    """The latest change of one camera. Times are monotonic, nanoseconds."""

    def __init__(self) -> None:
        self.is_pending = False
        """True from the command until the other set is ready, or refused."""
        self.detail = ""
        """Why what it concerns gets no verdict."""
        self._begun_ns = self._until_ns = 0

    def begin(self, name: str, received_ns: int) -> None:
        """Nothing from before this moment is judged any more."""
        self.is_pending = True
        self.detail = f"came before the change to reference set {name}"
        self._begun_ns = self._until_ns = received_ns

    def void(self, now_ns: int) -> None:
        """The other set was refused: nothing from before now is judged by the old one either."""
        self.detail = "came while a change of the reference set was asked for, which was refused"
        self._until_ns = now_ns

    def concerns(self, moment_ns: int) -> bool:
        """Whether what came at this moment cannot be judged because of the change."""
        return moment_ns < self._until_ns
