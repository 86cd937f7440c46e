"""`python -m neva.tethered PID COMMAND …`: run COMMAND so that it dies with PID, who started it.

For programs that know nothing of us. The tether survives exec on Linux; elsewhere it does not, and
the program has to be ended in order.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from neva.process import die_with_parent


def tethered(command: Sequence[str]) -> list[str]:
    """The command that runs `command` so that it dies with this process."""
    return [sys.executable, "-m", "neva.tethered", str(os.getpid()), *command]


def main() -> None:
    die_with_parent(int(sys.argv[1]))
    os.execvp(sys.argv[2], sys.argv[2:])


if __name__ == "__main__":
    main()
