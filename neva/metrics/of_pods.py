"""What every pod counts of the object store, and what those before and after the workers count."""

from __future__ import annotations

from typing import Final

from neva import reason_help
from neva.metrics.base import ANY, EVERYWHERE, Exporter, counter, gauge
from neva.reasons import Reason

_PREPARE: Final = frozenset({Exporter.PREPARE})
_FINISH: Final = frozenset({Exporter.FINISH})

BUILD_INFO: Final = gauge(
    "neva_build_info", "1", "Version of the running program.", EVERYWHERE, {"version": ANY}
)

ROWS_REJECTED: Final = counter(
    "neva_rows_rejected_total",
    "lines",
    "Lines of the prompts file that are no usable row, by reason.",
    _PREPARE,
    {"reason": tuple(reason_help.LINES)},
)

# S3 alone.

_OPERATIONS: Final = {"operation": ANY}
STORE_REQUESTS: Final = counter(
    "neva_store_requests_total",
    "requests",
    "Requests sent to S3, repeated ones included.",
    EVERYWHERE,
    _OPERATIONS,
)
STORE_RETRIES: Final = counter(
    "neva_store_request_retries_total",
    "requests",
    "Requests sent again: 503, time-outs, broken connections.",
    EVERYWHERE,
    _OPERATIONS,
)
STORE_ERRORS: Final = counter(
    "neva_store_errors_total",
    "errors",
    "Operations that failed for good, by what was wanted and reason. ObjectNotFound"
    " is an answer, too: a commit is looked for before it is there.",
    EVERYWHERE,
    {
        "operation": ("read", "write", "list", "delete", "abort"),
        # What an alert is about; each pod has these series.
        "reason": (Reason.STORE_UNAVAILABLE, Reason.STORE_DENIED),
    },
)

JUDGE_REQUESTS: Final = counter(
    "neva_judge_requests_total",
    "requests",
    "Requests to the judge, by outcome; all but `replied` and `refused` are made again.",
    _FINISH,
    {
        "outcome": (
            "replied",
            "throttled",
            "overloaded",
            "unreachable",
            "unusable",
            "refused",
            "stopped",
        )
    },
)
JUDGE_TOKENS: Final = counter(
    "neva_judge_tokens_total",
    "tokens",
    "Tokens by the judge's own count.",
    _FINISH,
    {"kind": ("prompt", "completion")},
)
JUDGE_COST: Final = counter(
    "neva_judge_cost_total",
    "the currency of spec.judge.budget's prices",
    "What these tokens cost; 0 without prices.",
    _FINISH,
)
JUDGE_FAILED: Final = counter(
    "neva_judge_reviews_failed_total",
    "reviews",
    "Reviews given up, by reason.",
    _FINISH,
    {
        "reason": (
            Reason.JUDGE_UNAVAILABLE,
            Reason.JUDGE_REFUSED,
            Reason.JUDGE_BUDGET_SPENT,
            Reason.VERDICT_UNREADABLE,
            Reason.ANSWER_MISSING,
            Reason.CONTEXT_MISSING,
        )
    },
)
