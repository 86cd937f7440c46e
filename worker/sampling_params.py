"""The job's `inference` block in the engine's words."""

from __future__ import annotations

from collections.abc import Sequence

from neva.spec import JobSpec
from worker.engine.protocol import LogProbs, SamplingParams


def sampling_params(spec: JobSpec, stop_strings: Sequence[str]) -> SamplingParams:
    """How the rows of a job are sampled.

    Args:
        stop_strings: the job's and the prompt template's.
    """
    inference = spec.inference
    logprobs: LogProbs = "none"
    if inference.compute_logprob:
        logprobs = "all" if inference.all_probs else "chosen"
    penalty, rule = inference.repetition_penalty, spec.model.compat.repetition_penalty
    if rule == "nemo-rc0" and not inference.compute_logprob:
        # The original keeps no list of used tokens then, and so penalizes none.
        penalty = 1.0
    return SamplingParams(
        greedy=inference.greedy,
        temperature=inference.temperature,
        top_k=inference.top_k,
        top_p=inference.top_p,
        repetition_penalty=penalty,
        max_new_tokens=inference.tokens_to_generate,
        min_new_tokens=inference.min_tokens_to_generate,
        stop_strings=tuple(stop_strings),
        seed=inference.seed,
        repetition_rule=rule,
        logprobs=logprobs,
    )
