"""The end of a run whose shards are all committed: merge, report, judge, summary, `_SUCCESS`.

Callers: the local runner and the finish pod. Every step can be repeated, and writes the same.
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from controller.exits import EXIT_INVALID, EXIT_OK
from controller.merge import Merged, merge
from controller.retry.finish import merge_retry
from controller.summary import SUCCEEDED, add_judge, rounded, summarize, write_summary
from neva.errors import ConfigError, NevaError
from neva.ledger import Ledger, Manifest, layout
from neva.quantization import quantization_record
from neva.reasons import Reason
from neva.spec import VideoNevaJob
from neva.timings import read_timings


@dataclass(slots=True)
class Stages:
    """Wall seconds of what was done so far, by stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextlib.contextmanager
    def measure(self, name: str) -> Iterator[None]:
        started_s = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - started_s


def finish_run(
    job: VideoNevaJob, job_file: Path, ledger: Ledger, manifest: Manifest, stages: Stages
) -> dict[str, Any]:
    """Bring a run to its end; returns its summary.

    Summary and report come first, so that they exist whatever becomes of the judge.

    Args:
        job_file: holds `job`, for the judge, which is a role and a process of its own.

    Raises:
        LedgerCorrupt: a shard is not committed whole.
        ConfigError: JUDGE_UNAVAILABLE, the judge refuses its key, its model or its files.
        NevaError: JUDGE_UNAVAILABLE, the judge can't be had; everything else is complete.
    """
    store = ledger.store
    with stages.measure("merge"):
        if job.spec.retry_of is None:
            merged = merge(ledger, manifest)
        else:
            merged = merge_retry(ledger, manifest, job.spec.retry_of)
        store.tidy()
    quantization = quantization_record(job.spec.model.quantization, ledger.read_calibration())
    summary = summarize(job, manifest, merged, stages.seconds, quantization, read_timings(store))
    write_summary(store, summary)
    _write_report(store.base_uri)
    if summary["state"] != SUCCEEDED:
        return summary
    if _is_judged(job, merged):
        with stages.measure("judge"):
            _judge(job_file)
        add_judge(summary, store)
        summary["stages_s"] = rounded(stages.seconds)
        write_summary(store, summary)
        _write_report(store.base_uri)
    store.put(layout.SUCCESS, b"")
    return summary


def _is_judged(job: VideoNevaJob, merged: Merged) -> bool:
    return job.spec.judge is not None and merged.num_answered > 0


def _write_report(output_uri: str) -> None:
    if _call("report", output_uri, quiet=True) != EXIT_OK:
        raise NevaError("the report can't be written; the answers are complete")


def _judge(job_file: Path) -> None:
    code = _call("judge", "--job", str(job_file))
    if code == EXIT_OK:
        return
    error = ConfigError if code == EXIT_INVALID else NevaError
    raise error(
        "the judge gave no scores; the answers and their report are complete, and the same "
        "command asks the judge again",
        reason=Reason.JUDGE_UNAVAILABLE,
    )


def _call(*arguments: str, quiet: bool = False) -> int:
    """Run another role's command in a process of its own."""
    command = [sys.executable, "-m", "controller", *arguments]
    stdout = subprocess.DEVNULL if quiet else None
    return subprocess.run(command, stdout=stdout, check=False).returncode
