"""The pages of metrics and of reasons, from the catalogs in code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from neva import condition_help, reason_help
from neva.metrics import of_operator, of_pods, of_workers
from neva.metrics.base import EVERYWHERE, Kind, Metric
from neva.reason_help import Help

NOTHING = "Nothing."


def metrics_page() -> str:
    return "\n".join(
        [
            "# Metrics",
            "",
            "Prometheus reads them from the controller (port 9090; `metrics.serviceMonitor` of the"
            " [chart](chart.md)) and from every pod of a job (port 9091; `metrics.podMonitor`)."
            " On one machine nothing listens, unless `NEVA_METRICS_PORT` says so.",
            "",
            "Those whose names end in `_total` are counters, the others gauges.",
            "",
            "A pod's numbers are the sums of all its processes, killed ones included; what it"
            " counted after the last scrape goes with it. Counters whose labels have known values"
            " are there from the start, with 0; a `reason` that is not listed with its counter"
            " begins with its first count. The PodMonitor gives a pod's series the labels"
            " `job_namespace`, `job_name` and `role`; the controller's series of jobs have the"
            " first two themselves.",
            "",
            "Dashboards: `metrics.dashboards`. Alerts: [one section each](alerts.md)."
            " What the label `reason` may hold: [Reasons](reasons.md).",
            "",
            *_metrics("Workers", of_workers),
            *_metrics("Object store, judge and every pod", of_pods),
            *_metrics("Controller", of_operator),
        ]
    )


def _metrics(title: str, module: object) -> Iterator[str]:
    found = [metric for metric in vars(module).values() if isinstance(metric, Metric)]
    mixed = len({metric.by for metric in found}) > 1
    yield from (f"## {title}", "", "| metric, unit | meaning | labels |", "|---|---|---|")
    for metric in found:
        meaning = f"{metric.help} {_by(metric)}" if mixed else metric.help
        cells = (f"`{metric.name}`<br>{metric.unit}", meaning, _labels(metric))
        yield f"| {' | '.join(cells)} |"
    yield ""


def _by(metric: Metric) -> str:
    """Which pods export it."""
    return "(all)" if metric.by == EVERYWHERE else f"({', '.join(sorted(metric.by))})"


def _labels(metric: Metric) -> str:
    return "; ".join(
        f"`{name}`: {_values(metric, name)}" if values else f"`{name}`"
        for name, values in metric.labels.items()
    )


def _values(metric: Metric, label: str) -> str:
    """The known ones; of a counter they are there from the start, and are all told."""
    if label == "reason" and metric.kind is Kind.GAUGE:
        return "[of these](reasons.md)"
    return ", ".join(f"`{value}`" for value in metric.labels[label])


def reasons_page() -> str:
    return "\n".join(
        [
            "# Reasons",
            "",
            "One word each, the same in the terminal, in `errors.jsonl`, in a job's conditions and"
            " in the label `reason` of [metrics](metrics.md).",
            "",
            "## Of lines of the prompts file",
            "",
            "Found before any worker starts. In `errors.jsonl`, in `neva_rows_rejected_total`.",
            "",
            *_reasons(reason_help.LINES),
            "## Of rows",
            "",
            "A row without an answer; its neighbours have theirs. In `errors.jsonl`, in"
            " `neva_rows_failed_total` and, while it is tried again, `neva_row_retries_total`.",
            "",
            *_reasons(reason_help.ROWS),
            "## Of runs and commands",
            "",
            "Why a command, a pod or a shard stopped. In the pod's last words and"
            " `neva_operator_failed_pods`, in `neva_shards_left_total`, `neva_job_trouble` and"
            " `neva_store_errors_total`.",
            "",
            *_reasons(reason_help.RUNS),
            "## Of reviews",
            "",
            "A question without a verdict. In `judge/reviews.jsonl`, in"
            " `neva_judge_reviews_failed_total`.",
            "",
            *_reasons(reason_help.REVIEWS),
            "## Of conditions",
            "",
            "What stands beside the conditions of a VideoNevaJob in `kubectl describe vnj`, and in"
            " `neva_job_condition`.",
            "",
            *_conditions("Validated", condition_help.VALIDATED),
            *_conditions("Queued", condition_help.QUEUED),
            *_conditions("Running", condition_help.RUNNING),
            *_conditions("Finished", condition_help.FINISHED),
            *_conditions("Judged", condition_help.JUDGED),
            *_conditions("Compared", condition_help.COMPARED),
            *_conditions("Ready and Scanned, of a DropFolder", condition_help.FOLDERS),
        ]
    )


def _conditions(title: str, helps: Mapping[condition_help.Why, Help]) -> Iterator[str]:
    yield from (f"### {title}", "", *_reasons(helps))


def _reasons(
    helps: Mapping[reason_help.Reason, Help] | Mapping[condition_help.Why, Help],
) -> Iterator[str]:
    yield from ("| reason | meaning | what to do |", "|---|---|---|")
    for reason, words in sorted(helps.items()):
        yield f"| `{reason}` | {words.meaning} | {words.remedy or NOTHING} |"
    yield ""
