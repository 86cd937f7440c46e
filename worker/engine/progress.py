"""A sign of life that moves while a long step computes."""

from __future__ import annotations


class Progress:
    """Counts finished pieces of work: a layer, a vision pass, a turn of the step loop.

    Written by the computing thread, read by the server's. Whoever watches the engine takes a
    count that stands still for a hang.
    """

    def __init__(self) -> None:
        self.count = 0

    def tick(self) -> None:
        self.count += 1
