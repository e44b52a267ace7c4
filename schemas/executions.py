"""How executions are read: duplicates are dropped, a gap stops the reader (kafka.md: six rules, 4)."""

from schemas.events import Execution


class GapError(Exception):
    """An answer is missing before this one: the log is damaged, or the reader began at the wrong place."""


class Follower:
    """A reader's place among the executions of one partition. `position` is that of the last applied, -1 at first."""

    def __init__(self, position: int = -1) -> None:
        self.position = position

    def accept(self, execution: Execution) -> bool:
        """True: the next in order, apply it. False: known already, drop it. Raises GapError."""
        if execution.position <= self.position:
            return False
        if execution.prev != self.position:
            raise GapError(
                f"execution {execution.position} follows {execution.prev}, but the last one applied is {self.position}"
            )
        self.position = execution.position
        return True
