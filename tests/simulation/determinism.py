"""What an engine answers to a mixed stream, and the state it ends in, as one line: `python -m
tests.simulation.determinism [CUTS]`.

It needs msgspec alone, so that any Python can print it. With CUTS, the engine is stopped at so many random positions
and goes on from its snapshot.
"""

import hashlib
import random
import sys

from matching_engine.columns import decoded, encoded
from matching_engine.engine import Engine
from schemas.codec import encode
from tests.simulation.streams import stream

SEED = 7
COMMANDS = 3_000


def digest(cuts: int) -> str:
    """Of all answers, and of the state after them."""
    engine, commands = Engine(3), stream("mixed", SEED, COMMANDS)
    cut_after = set(random.Random(SEED).sample(range(COMMANDS), cuts))
    answers = hashlib.blake2b()
    for offset, time, command in commands:
        execution = engine.apply(offset, time, command)
        commands.note(execution)
        answers.update(encode(execution))
        if offset in cut_after:
            engine = Engine.from_state(3, decoded(encoded(engine.state())))
    return f"{answers.hexdigest()} {engine.state_hash().hex()}"


if __name__ == "__main__":
    print(digest(int(sys.argv[1]) if len(sys.argv) > 1 else 0))
