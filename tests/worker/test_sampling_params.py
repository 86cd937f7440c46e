from __future__ import annotations

from typing import Any

import pytest

from tests.neva.jobs import job_spec
from worker.engine.protocol import SamplingParams
from worker.sampling_params import sampling_params


def test_every_key_of_the_block_reaches_the_engine() -> None:
    spec = job_spec(
        greedy=True,
        temperature=0.7,
        top_k=5,
        top_p=0.8,
        repetition_penalty=1.3,
        tokens_to_generate=20,
        min_tokens_to_generate=2,
        seed=9,
        compute_logprob=True,
        all_probs=True,
    )
    assert sampling_params(spec, ["###"]) == SamplingParams(
        greedy=True,
        temperature=0.7,
        top_k=5,
        top_p=0.8,
        repetition_penalty=1.3,
        max_new_tokens=20,
        min_new_tokens=2,
        stop_strings=("###",),
        seed=9,
        repetition_rule="applied",
        logprobs="all",
    )


@pytest.mark.parametrize(
    ("compat", "inference", "penalty", "rule"),
    [
        ({}, {}, 1.2, "applied"),
        ({}, {"compute_logprob": True}, 1.2, "applied"),
        ({"repetitionPenalty": "nemo-rc0"}, {}, 1.0, "nemo-rc0"),
        ({"repetitionPenalty": "nemo-rc0"}, {"compute_logprob": True}, 1.2, "nemo-rc0"),
    ],
)
def test_the_originals_penalty_works_with_log_probabilities_only(
    compat: dict[str, str], inference: dict[str, Any], penalty: float, rule: str
) -> None:
    params = sampling_params(job_spec(compat=compat, **inference), [])
    assert (params.repetition_penalty, params.repetition_rule) == (penalty, rule)
