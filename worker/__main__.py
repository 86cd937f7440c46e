"""`python -m worker` is `neva worker`."""

from worker.cli import app

app()
