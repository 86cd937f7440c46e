"""Phases, condition types and condition reasons of the custom resources, in one place.

They answer "how far" and "why is it waiting" in `kubectl get`, `kubectl describe` and in metrics;
the reasons of rows and errors are in `neva.reasons`, and a condition may carry one of those, too.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """Where a VideoNevaJob is in its course."""

    PENDING = "Pending"  # not looked at yet
    PREPARING = "Preparing"  # store and prompts are checked, the rows are divided
    QUEUED = "Queued"  # ready to run; its workers wait for quota, a node, an image or a Secret
    RUNNING = "Running"  # at least one worker pod runs
    FINISHING = "Finishing"  # every row is settled: merge, judge, report
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"
    SUSPENDED = "Suspended"  # by spec.suspend or `neva suspend`; finished rows are kept

    @property
    def is_final(self) -> bool:
        return self in (Phase.SUCCEEDED, Phase.FAILED)


class ConditionType(StrEnum):
    """What a condition of a VideoNevaJob is about; each is True, False or Unknown."""

    VALIDATED = "Validated"  # the store works and the prompts are usable
    QUEUED = "Queued"  # the workers can't run yet; the reason says why
    RUNNING = "Running"  # workers answer
    FINISHED = "Finished"  # it is over; the reason says how it ended
    JUDGED = "Judged"  # there are scores
    COMPARED = "Compared"  # it was compared with the last successful night


class FolderCondition(StrEnum):
    """What a condition of a DropFolder is about."""

    READY = "Ready"  # the folder is watched
    SCANNED = "Scanned"  # the last look at it succeeded


class ConditionReason(StrEnum):
    """Why a condition is as it is: the word after its status."""

    # Validated
    PREPARING = "Preparing"  # the prepare pod is at work
    PREPARED = "Prepared"  # the rows are checked and divided
    PREPARE_FAILED = "PrepareFailed"  # the prepare pod failed; the message is its own
    INVALID_SPEC = "InvalidSpec"  # the spec can't be honoured

    # Queued and Running: why there is no worker yet
    WAITING_FOR_PODS = "WaitingForPods"  # the pods are being created
    WAITING_FOR_QUOTA = "WaitingForQuota"  # Kueue holds the worker Job back, or a ResourceQuota
    UNSCHEDULABLE = "Unschedulable"  # no node fits: GPUs, selector, taints, memory
    IMAGE_PULL_FAILED = "ImagePullFailed"  # an image can't be had
    MISSING_SECRET = "MissingSecret"  # a pod names a Secret or key that isn't there
    MISSING_CONFIG_MAP = "MissingConfigMap"  # the same of a ConfigMap
    POD_REFUSED = "PodRefused"  # the API server won't have the pod: admission, policy, quota
    STARTING_ENGINE = "StartingEngine"  # the pods run and load the model
    WORKERS_STARTED = "WorkersStarted"  # nothing is waited for any more
    SUSPENDED = "Suspended"  # by spec.suspend, or by an order in the run's ledger

    # Running
    ANSWERING = "Answering"  # rows are being answered
    WORKERS_FAILING = "WorkersFailing"  # pods fail and are tried again
    ALL_ROWS_SETTLED = "AllRowsSettled"  # nothing is left to answer
    STORE_UNREACHABLE = "StoreUnreachable"  # the operator can't read the ledger
    BROKER_UNREACHABLE = "BrokerUnreachable"  # the operator can't reach the queue

    # Finished
    FINISHING = "Finishing"  # merge, judge and report are at work
    SUCCEEDED = "Succeeded"
    TOO_MANY_FAILED_ROWS = "TooManyFailedRows"  # more than spec.failure.failOnError
    WORKERS_FAILED = "WorkersFailed"  # no more tries are left for the workers
    CANCELLED = "Cancelled"  # by an order in the run's ledger
    FINISH_FAILED = "FinishFailed"  # merge, judge or report failed for good
    DEADLINE_EXCEEDED = "DeadlineExceeded"  # spec.activeDeadlineSeconds
    NOT_FINISHED = "NotFinished"

    # Judged
    JUDGED = "Judged"
    NO_JUDGE = "NoJudge"  # none was asked for
    JUDGE_FAILED = "JudgeFailed"  # the answers are complete, the scores are not

    # Compared
    NO_BASELINE = "NoBaseline"  # no successful night before has a score
    NO_SCORE = "NoScore"  # this night has none: it failed, or was not judged
    BETTER = "Better"
    SAME = "Same"  # no change, or one that the threshold lets pass
    WORSE = "Worse"  # the score fell by more than the threshold

    # DropFolder
    WATCHING = "Watching"
    FOLDER_SUSPENDED = "FolderSuspended"
    SCAN_FAILED = "ScanFailed"
    SCAN_SUCCEEDED = "ScanSucceeded"
    AT_CONCURRENCY_LIMIT = "AtConcurrencyLimit"  # files wait until a job has ended
    JOB_REFUSED = "JobRefused"  # the template makes no valid job
    JOB_CREATED = "JobCreated"  # an event
