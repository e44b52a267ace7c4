"""Of a difference between engine and model: the fewest commands that show it.

`python -m tests.simulation.reduce PROFILE SEED [COUNT]` runs the stream until the two differ, then takes commands
away as long as they still do (delta debugging: Zeller and Hildebrandt, Simplifying and Isolating Failure-Inducing
Input, 2002). What stays keeps its offset and time, so that ids of orders and fills mean what they did.
"""

import sys

from schemas.commands import Command
from tests.simulation.streams import stream
from tests.simulation.test_engine_against_model import COUNT, Pair

History = list[tuple[int, int, Command]]
"""(offset, log time in ms, command)."""


def history_to_difference(profile: str, seed: int, count: int) -> History:
    """The stream up to the command at which the two differ; empty if they never do."""
    pair, commands, history = Pair(), stream(profile, seed, count), History()
    for entry in commands:
        history.append(entry)
        try:
            commands.note(pair.apply(*entry, where=""))
        except Exception:
            return history
    return []


def difference(history: History) -> str:
    """What is said where engine and model first differ; '' if they never do."""
    pair = Pair()
    for offset, time, command in history:
        try:
            pair.apply(offset, time, command, where=f"offset {offset}")
        except Exception as error:
            return f"{type(error).__name__}: {error}"
    return ""


def reduced(history: History) -> History:
    """A history of which no single command can be left out without the difference going away."""
    parts = 2
    while len(history) >= 2:
        size = -(-len(history) // parts)
        for first in range(0, len(history), size):
            shorter = history[:first] + history[first + size :]
            if difference(shorter):
                history, parts = shorter, max(2, parts - 1)
                break
        else:
            if size == 1:
                break
            parts = min(len(history), parts * 2)
    return history


def main(profile: str, seed: int, count: int) -> None:
    history = history_to_difference(profile, seed, count)
    if not history:
        print(f"profile {profile}, seed {seed}: no difference in {count} commands")
        return
    shortest = reduced(history)
    print(f"profile {profile}, seed {seed}: {len(shortest)} of {len(history)} commands show it")
    for offset, time, command in shortest:
        print(f"offset {offset}, time {time}: {command}")
    print(difference(shortest))


if __name__ == "__main__":
    profile, seed, *count = sys.argv[1:]
    main(profile, int(seed), int(count[0]) if count else COUNT)
