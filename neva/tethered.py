"""`python -m neva.tethered COMMAND …`: run COMMAND so that it dies with whoever started it.

For programs that know nothing of us. The tether survives exec on Linux; elsewhere it does not, and
the program has to be ended in order.
"""

from __future__ import annotations

import os
import sys

from neva.process import die_with_parent


def main() -> None:
    die_with_parent()
    os.execvp(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
