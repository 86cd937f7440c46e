"""What each condition reason means to a user; docs/reference/reasons.md is made of it."""

from __future__ import annotations

from typing import Final

from neva.conditions import ConditionReason as Why
from neva.reason_help import Help

VALIDATED: Final[dict[Why, Help]] = {
    Why.PREPARING: Help("The prepare pod checks the prompts and divides them.", ""),
    Why.PREPARED: Help("The rows are checked and divided.", ""),
    Why.PREPARE_FAILED: Help(
        "The prepare pod failed.", "The message has its own reason and words; see above."
    ),
    Why.INVALID_SPEC: Help("The spec can't be honoured.", "Correct what the message names."),
}

QUEUED: Final[dict[Why, Help]] = {
    Why.WAITING_FOR_PODS: Help("The pods are being created.", ""),
    Why.WAITING_FOR_QUOTA: Help(
        "Kueue, or a ResourceQuota, holds the workers back.", "Wait, or ask for more quota."
    ),
    Why.UNSCHEDULABLE: Help(
        "No node fits: GPUs, selector, taints, memory.",
        "Compare `workers` with the nodes; the message is the scheduler's.",
    ),
    Why.IMAGE_PULL_FAILED: Help(
        "An image can't be had.", "Correct `image` or `image.pullSecrets` of the chart."
    ),
    Why.MISSING_SECRET: Help(
        "A pod names a Secret or a key that is not there.",
        "Create it in the job's own namespace; the pods start then.",
    ),
    Why.MISSING_CONFIG_MAP: Help("The same of a ConfigMap.", "Create it in the job's namespace."),
    Why.POD_REFUSED: Help(
        "The API server will not have the pod: admission, policy, quota.",
        "The message is its own; `workers.podTemplate` may be the cause.",
    ),
    Why.STARTING_ENGINE: Help("The pods run and load the model.", ""),
    Why.WORKERS_STARTED: Help("Nothing is waited for any more.", ""),
    Why.SUSPENDED: Help(
        "By `spec.suspend`, or by `neva suspend`.", "`spec.suspend: false`, or `neva resume`."
    ),
}

RUNNING: Final[dict[Why, Help]] = {
    Why.ANSWERING: Help("Rows are being answered.", ""),
    Why.WORKERS_FAILING: Help(
        "Workers leave their shards, or fail, and try again.",
        "The message has the reason; see above.",
    ),
    Why.ALL_ROWS_SETTLED: Help("Nothing is left to answer.", ""),
    Why.STORE_UNREACHABLE: Help(
        "The operator can't read the run's ledger.",
        "Its credentials (`storage.existingSecret`, `controller.serviceAccount`) must reach the "
        "output.",
    ),
    Why.BROKER_UNREACHABLE: Help("The operator can't reach Redis.", "See that it runs."),
}

FINISHED: Final[dict[Why, Help]] = {
    Why.FINISHING: Help("Merge, judge and report are at work.", ""),
    Why.SUCCEEDED: Help("It is done.", ""),
    Why.TOO_MANY_FAILED_ROWS: Help(
        "More rows failed than `failure.failOnError` lets pass.",
        "See `errors.jsonl`; `neva retry` asks them again.",
    ),
    Why.WORKERS_FAILED: Help(
        "No more tries are left for the workers.",
        "The message has a pod's last words; create the job again with the same output.",
    ),
    Why.CANCELLED: Help("By `neva cancel`.", ""),
    Why.FINISH_FAILED: Help(
        "Merge, judge or report failed for good.", "The message has the reason; see above."
    ),
    Why.DEADLINE_EXCEEDED: Help(
        "`spec.activeDeadlineSeconds` passed.", "Finished rows are kept; raise it and go on."
    ),
    Why.NOT_FINISHED: Help("It is not over.", ""),
}

JUDGED: Final[dict[Why, Help]] = {
    Why.JUDGED: Help("There are scores.", ""),
    Why.NO_JUDGE: Help("None was asked for.", ""),
    Why.JUDGE_FAILED: Help(
        "The answers are complete, the scores are not.", "`neva judge --job` asks again."
    ),
}

COMPARED: Final[dict[Why, Help]] = {
    Why.NO_BASELINE: Help("No successful night before has a score.", ""),
    Why.NO_SCORE: Help("This night has no score.", "See why it failed, or was not judged."),
    Why.BETTER: Help("The score rose.", ""),
    Why.SAME: Help("No change, or one that the threshold lets pass.", ""),
    Why.WORSE: Help(
        "The score fell by more than `gate.maxScoreDrop`.", "Compare the nights: `neva compare`."
    ),
}

FOLDERS: Final[dict[Why, Help]] = {
    Why.WATCHING: Help("The folder is watched.", ""),
    Why.FOLDER_SUSPENDED: Help("By `spec.suspend`.", "`spec.suspend: false`."),
    Why.SCAN_FAILED: Help("The last look at it failed.", "The message says why."),
    Why.SCAN_SUCCEEDED: Help("The last look at it succeeded.", ""),
    Why.AT_CONCURRENCY_LIMIT: Help("Files wait until a job has ended.", "Raise `concurrency`."),
    Why.JOB_REFUSED: Help(
        "The template makes no valid job of a file.", "Correct it; the message names the key."
    ),
    Why.JOB_CREATED: Help("An event: a job was made of a file.", ""),
}

CONDITION_HELP: Final[dict[Why, Help]] = {
    **VALIDATED,
    **QUEUED,
    **RUNNING,
    **FINISHED,
    **JUDGED,
    **COMPARED,
    **FOLDERS,
}
