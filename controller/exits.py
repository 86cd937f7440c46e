"""Exit codes of the commands that run a job or a part of it."""

from __future__ import annotations

EXIT_OK = 0
EXIT_ERROR = 1  # something can't be had: the same command again may do
EXIT_INVALID = 2  # the job, its model, its input or the judge's key is wrong
EXIT_ROWS_FAILED = 3  # more rows are bad than the job lets pass
EXIT_STOPPED = 4  # the run is suspended, or was cancelled
EXIT_WORKER_CONFIG = 64  # the worker's EXIT_INVALID
EXIT_WORKER_DRAINED = 143  # the worker was told to stop before the end
