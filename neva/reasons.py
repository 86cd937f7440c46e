"""Every reason constant that a user can meet, in one place."""

from __future__ import annotations

from enum import StrEnum


class Reason(StrEnum):
    """Why a row, a shard or a job is in the state it is in."""

    # A line of the prompts file that is no usable row (found before any worker starts).
    INVALID_JSON = "InvalidJson"
    INVALID_ENCODING = "InvalidEncoding"
    NOT_AN_OBJECT = "NotAnObject"
    MISSING_TEXT = "MissingText"
    MISSING_QUESTION_ID = "MissingQuestionId"
    INVALID_QUESTION_ID = "InvalidQuestionId"
    DUPLICATE_QUESTION_ID = "DuplicateQuestionId"
    MISSING_MEDIA_KEY = "MissingMediaKey"
    WRONG_MEDIA_KEY = "WrongMediaKey"
    INVALID_MEDIA_NAME = "InvalidMediaName"
    MEDIA_NOT_FOUND = "MediaNotFound"
    MEDIA_TOKEN_CONFLICT = "MediaTokenConflict"
    RESERVED_KEY = "ReservedKey"
    ROW_TOO_LARGE = "RowTooLarge"
    CONTEXT_OVERFLOW = "ContextOverflow"

    # A row that could not be answered while the job ran.
    MEDIA_UNREADABLE = "MediaUnreadable"
    MEDIA_EMPTY = "MediaEmpty"
    MEDIA_TOO_LARGE = "MediaTooLarge"
    MEDIA_TIMEOUT = "MediaTimeout"
    DECODER_CRASHED = "DecoderCrashed"
    WRONG_MEDIA_SHAPE = "WrongMediaShape"
    NUMERICAL_ERROR = "NumericalError"
    OUT_OF_MEMORY = "OutOfMemory"
    ENGINE_CRASHED = "EngineCrashed"
    WORKER_CRASHED = "WorkerCrashed"

    # The job as a whole.
    INVALID_CONFIG = "InvalidConfig"
    UNSUPPORTED_MODEL = "UnsupportedModel"
    INVALID_CHECKPOINT = "InvalidCheckpoint"
    UNSUPPORTED_STORE = "UnsupportedStore"
    STORE_UNAVAILABLE = "StoreUnavailable"
    STORE_DENIED = "StoreDenied"
    OBJECT_NOT_FOUND = "ObjectNotFound"
    OBJECT_EXISTS = "ObjectExists"
    BROKER_UNAVAILABLE = "BrokerUnavailable"
    CLUSTER_UNAVAILABLE = "ClusterUnavailable"
    LEASE_LOST = "LeaseLost"
    DRAINED = "Drained"
    LEDGER_CORRUPT = "LedgerCorrupt"
    OUTPUT_IN_USE = "OutputInUse"
    SUSPENDED = "Suspended"
    CANCELLED = "Cancelled"
    TOO_MANY_BAD_ROWS = "TooManyBadRows"
    TOO_MANY_FAILED_ROWS = "TooManyFailedRows"
    INTERNAL_ERROR = "InternalError"

    # A review that could not be had from the judge.
    JUDGE_UNAVAILABLE = "JudgeUnavailable"
    JUDGE_DENIED = "JudgeDenied"
    JUDGE_REFUSED = "JudgeRefused"
    JUDGE_BUDGET_SPENT = "JudgeBudgetSpent"
    VERDICT_UNREADABLE = "VerdictUnreadable"
    ANSWER_MISSING = "AnswerMissing"
    CONTEXT_MISSING = "ContextMissing"
