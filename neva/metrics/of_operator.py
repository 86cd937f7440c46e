"""What the operator tells of itself, of jobs and of drop folders."""

from __future__ import annotations

from typing import Final

from neva import reason_help
from neva.condition_help import CONDITION_HELP, FOLDERS
from neva.conditions import ConditionReason, ConditionType, FolderCondition, Phase
from neva.metrics import of_workers
from neva.metrics.base import ANY, Exporter, counter, gauge
from neva.reasons import Reason

_OPERATOR: Final = frozenset({Exporter.OPERATOR})
_STATUS: Final = ("True", "False", "Unknown")
# A pod that was killed has the kubelet's word instead.
_LAST_WORDS: Final = (
    *reason_help.RUNS,
    Reason.ENGINE_CRASHED,
    Reason.OUT_OF_MEMORY,
    Reason.JUDGE_UNAVAILABLE,
    Reason.JUDGE_DENIED,
)
_OF_JOBS: Final = tuple(why for why in CONDITION_HELP if why not in FOLDERS)

OPERATOR_LEADING: Final = gauge("neva_operator_leading", "1 or 0", "This one acts.", _OPERATOR)
OPERATOR_JOBS: Final = gauge(
    "neva_operator_jobs",
    "jobs",
    "VideoNevaJobs in the cluster.",
    _OPERATOR,
    {"phase": tuple(Phase)},
)
OPERATOR_QUEUE: Final = gauge(
    "neva_operator_queue_length", "jobs", "Jobs whose turn is due or will be.", _OPERATOR
)
OPERATOR_TURNS: Final = counter(
    "neva_operator_reconciles_total", "turns", "Looks at a job.", _OPERATOR
)
OPERATOR_ERRORS: Final = counter(
    "neva_operator_errors_total", "turns", "Turns that failed; they come again.", _OPERATOR
)
OPERATOR_SECONDS: Final = counter(
    "neva_operator_reconcile_seconds_total", "seconds", "Time spent in turns.", _OPERATOR
)
OPERATOR_PODS_FAILED: Final = gauge(
    "neva_operator_failed_pods",
    "pods",
    "Pods that are still there and ended with these last words.",
    _OPERATOR,
    {"role": ("prepare", "worker", "finish"), "reason": _LAST_WORDS},
)

# Of jobs that are not over, or ended within the last hour.
_JOB: Final = {"job_namespace": ANY, "job_name": ANY}
JOB_ROWS: Final = gauge(
    "neva_job_rows",
    "rows",
    "Rows of a job.",
    _OPERATOR,
    {**_JOB, "state": ("open", "answered", "failed")},
)
JOB_SHARDS: Final = gauge(
    "neva_job_shards",
    "shards",
    "Shards of a job.",
    _OPERATOR,
    {**_JOB, "state": ("open", "committed")},
)
JOB_LEASES: Final = gauge(
    "neva_job_leases",
    "shards",
    "Shards that a worker holds now, as of the last look.",
    _OPERATOR,
    _JOB,
)
JOB_QUEUE: Final = gauge(
    "neva_job_queue_messages",
    "messages",
    "Shards that wait for a worker, as of the last look.",
    _OPERATOR,
    _JOB,
)
JOB_PHASE: Final = gauge(
    "neva_job_phase", "1", "The phase a job is in.", _OPERATOR, {**_JOB, "phase": ANY}
)
JOB_CONDITION: Final = gauge(
    "neva_job_condition",
    "1",
    f"What a job's conditions ({', '.join(ConditionType)}) say.",
    _OPERATOR,
    {
        **_JOB,
        "type": tuple(ConditionType),
        "status": _STATUS,
        # The last words of a pod stand there, too; some are the same as a condition's own.
        "reason": tuple(dict.fromkeys((*_OF_JOBS, *_LAST_WORDS))),
    },
)
JOB_TROUBLE: Final = gauge(
    "neva_job_trouble",
    "1",
    "What made a worker leave a shard within the last minute.",
    _OPERATOR,
    {**_JOB, "reason": of_workers.SHARDS_LEFT.labels["reason"]},
)

_FOLDER: Final = {"folder": ANY}
FOLDER_FILES: Final = gauge(
    "neva_drop_folder_files", "drops", "Drops at the last listing.", _OPERATOR, _FOLDER
)
FOLDER_SETTLING: Final = gauge(
    "neva_drop_folder_files_settling", "drops", "Drops that still change.", _OPERATOR, _FOLDER
)
FOLDER_WAITING: Final = gauge(
    "neva_drop_folder_files_waiting", "drops", "Drops without a free slot.", _OPERATOR, _FOLDER
)
FOLDER_REFUSED: Final = gauge(
    "neva_drop_folder_files_refused", "drops", "Drops that make no job.", _OPERATOR, _FOLDER
)
FOLDER_STARTED: Final = counter(
    "neva_drop_folder_jobs_started_total", "jobs", "Jobs made.", _OPERATOR, _FOLDER
)
FOLDER_JOBS: Final = gauge(
    "neva_drop_folder_jobs",
    "jobs",
    "Its jobs that are still there.",
    _OPERATOR,
    {**_FOLDER, "state": ("active", "succeeded", "failed")},
)
FOLDER_POLLED: Final = gauge(
    "neva_drop_folder_last_poll_timestamp_seconds",
    "seconds since the epoch",
    "Last listing.",
    _OPERATOR,
    _FOLDER,
)
FOLDER_FAILING: Final = gauge(
    "neva_drop_folder_failing", "1 or 0", "The last look at it failed.", _OPERATOR, _FOLDER
)
FOLDER_CONDITION: Final = gauge(
    "neva_drop_folder_condition",
    "1",
    "What a folder's conditions say.",
    _OPERATOR,
    {
        **_FOLDER,
        "type": tuple(FolderCondition),
        "status": _STATUS,
        "reason": (ConditionReason.INVALID_SPEC, *FOLDERS),
    },
)
