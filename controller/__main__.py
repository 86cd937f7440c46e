"""`python -m controller` is the `neva` command."""

from controller.cli import main

main()
