"""What crosses a boundary: units, ids, attributes, commands, events, fills, usage, refusals, codec, topics.

Nothing here does I/O and nothing here imports another package of this project.
"""
