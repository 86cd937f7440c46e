from __future__ import annotations

import pytest

from neva.errors import ConfigError
from neva.targets import JobOnCluster, output_of, parse_target


@pytest.mark.parametrize(
    ("text", "namespace", "found"),
    [
        ("vnj/kitchen", None, JobOnCluster("kitchen")),
        ("vnj/kitchen", "eval", JobOnCluster("kitchen", "eval")),
        ("videonevajob.neva-batch.dev/kitchen", None, JobOnCluster("kitchen")),
        ("kitchen", "eval", JobOnCluster("kitchen", "eval")),
        ("kitchen", None, "kitchen"),
        ("./vnj/kitchen", None, "./vnj/kitchen"),
        ("runs/kitchen", "eval", "runs/kitchen"),
        ("s3://eval/kitchen/", "eval", "s3://eval/kitchen/"),
        (".", "eval", "."),
    ],
)
def test_the_words_alone_decide(
    text: str, namespace: str | None, found: JobOnCluster | str
) -> None:
    assert parse_target(text, namespace) == found


@pytest.mark.parametrize("text", ["vnj/", "vnj/kitchen/more"])
def test_what_names_no_job_is_refused_with_the_way_out(text: str) -> None:
    with pytest.raises(ConfigError, match=r"write vnj/NAME, or \./vnj"):
        parse_target(text)


def test_an_output_needs_no_cluster() -> None:
    assert output_of("runs/kitchen", "eval") == "runs/kitchen"
