"""The log's topics. Names carry a version; an incompatible change of a schema is a new name."""

COMMANDS = "commands.v1"
"""Orders and all else the engine folds. MessagePack, internal."""
EXECUTIONS = "executions.v1"
"""The engine's answers; partition i answers partition i of commands. MessagePack, private."""
FILLS = "fills.v1"
"""The public stream of fills; partition i comes from partition i of executions. JSON."""
USAGE = "usage.v1"
"""Metered use, in the partition of the lease's order. MessagePack, internal."""
INSTRUCTIONS = "instructions.v1"
"""Deposits (partition 0), what parties say of their leases (the lease's partition). MessagePack, internal."""

ALL = (COMMANDS, EXECUTIONS, FILLS, USAGE, INSTRUCTIONS)

KAFKA_SETTINGS = {
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "retention.bytes": "-1",
    "message.timestamp.type": "LogAppendTime",
}
"""Kept for ever, stamped by the broker: each service checks this at start."""
