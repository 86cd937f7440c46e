"""The arithmetic of choosing a token: pure functions of logits, parameters and a row's key.

Order and meaning follow NeMo's text generation (v2.0.0rc0, `sample_sequence_batch` and
`top_k_logits`): temperature, repetition penalty, top-k, top-p. Deliberate differences, unless the
rule "nemo-rc0" is asked for: the penalty lowers negative logits too (NeMo divides them, which
raises them), it counts generated ids only, and it is applied without `compute_logprob`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import torch

from worker.engine.protocol import RepetitionRule


def uniform(seed: int, row_key: str, step: int) -> float:
    """The row's random number of a step, in [0, 1) with 53 bits; depends on nothing else.

    Counter-based: the same for every batch, tensor parallel size, rank and retry.
    """
    counter = f"{seed}\0{row_key}\0{step}".encode()
    digest = hashlib.blake2b(counter, digest_size=8, person=b"neva.sample").digest()
    return float((int.from_bytes(digest, "little") >> 11) * 2.0**-53)


def penalize_repetition(
    logits: torch.Tensor, used_ids: Sequence[int], penalty: float, rule: RepetitionRule = "applied"
) -> None:
    """Make the ids used so far less likely, in place. logits: (vocabulary,).

    Positive logits are divided, negative ones multiplied (Keskar et al. 2019, section 4.1, as
    everyone but NeMo implements it). With "nemo-rc0" negative ones are divided, too.
    """
    if penalty == 1.0 or not used_ids:
        return
    ids = torch.tensor(sorted(set(used_ids)), device=logits.device)
    used = logits[ids]
    penalized = used / penalty
    if rule == "applied":
        penalized = torch.where(used > 0, penalized, used * penalty)
    logits[ids] = penalized


def penalized_ids(
    prompt_ids: Sequence[int], token_ids: Sequence[int], rule: RepetitionRule
) -> list[int]:
    """The ids that count as used.

    The generated ones. With "nemo-rc0" also the prompt's, its first one and the media's
    placeholders excepted, but none yet at the first step (NeMo v2.0.0rc0, `sample_sequence_batch`).
    """
    if rule == "applied" or not token_ids:
        return list(token_ids)
    return [*prompt_ids[1:], *token_ids]


def kept_probabilities(
    logits: torch.Tensor, top_k: torch.Tensor, top_p: torch.Tensor
) -> torch.Tensor:
    """Probabilities after top-k, then top-p; 0 for what is cut off.

    logits: (rows, vocabulary), temperature applied. top_k: (rows,), active when > 0, keeps ties
    with the k-th. top_p: (rows,), active when 0 < p < 1, keeps the smallest set of the likeliest
    tokens whose mass exceeds p, the crossing one included; the mass is that left by top-k.
    Returns (rows, vocabulary) float64, each row summing to 1.
    """
    ordered, order = logits.double().sort(dim=-1, descending=True, stable=True)
    kth_place = (top_k.clamp(1, logits.size(-1)) - 1)[:, None]
    below_kth = ordered < ordered.gather(-1, kth_place)
    ordered = ordered.masked_fill(below_kth & (top_k > 0)[:, None], float("-inf"))
    probabilities = ordered.softmax(dim=-1)
    mass_before = probabilities.cumsum(dim=-1) - probabilities
    beyond_p = mass_before > top_p[:, None]
    beyond_p[:, 0] = False  # the likeliest always stays
    active = ((top_p > 0) & (top_p < 1))[:, None]
    probabilities = probabilities.masked_fill(beyond_p & active, 0.0)
    probabilities = probabilities / probabilities.sum(dim=-1, keepdim=True)
    return torch.zeros_like(probabilities).scatter(-1, order, probabilities)


def pick(probabilities: torch.Tensor, uniforms: torch.Tensor) -> torch.Tensor:
    """The id at which each row's cumulative probability passes its random number: (rows,).

    The ids stand in their own order, not in that of their probabilities: where two of them are
    almost equally likely, rounding may swap their ranks, and must not swap the answer.

    Logits that are off by e move each border between two ids by at most exp(2e / temperature) - 1
    (top-k and top-p aside, which may cut one token more or less): only a random number nearer than
    that to a border can choose otherwise.
    """
    cumulative = probabilities.cumsum(dim=-1)
    passed = cumulative > uniforms[:, None] * cumulative[:, -1:]
    # Rounding can leave the last step of a row unpassed: then its last possible token.
    ids = torch.arange(probabilities.size(-1), device=probabilities.device)
    last_possible = torch.where(probabilities > 0, ids, -1).amax(dim=-1)
    return torch.minimum(torch.where(passed, ids, ids.numel()).amin(dim=-1), last_possible)
