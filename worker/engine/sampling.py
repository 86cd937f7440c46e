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

# SplitMix64's constants, as signed numbers.
_GOLDEN = 0x9E3779B97F4A7C15 - (1 << 64)
_MIX_1 = 0xBF58476D1CE4E5B9 - (1 << 64)
_MIX_2 = 0x94D049BB133111EB - (1 << 64)

_FEW_IDS = 1024


def step_key(seed: int, row_key: str, step: int) -> int:
    """What a row's random numbers of a step derive from: 64 bits, signed; depends on nothing else.

    Counter-based: the same for every batch, tensor parallel size, rank and retry.
    """
    counter = f"{seed}\0{row_key}\0{step}".encode()
    digest = hashlib.blake2b(counter, digest_size=8, person=b"neva.sample").digest()
    return int.from_bytes(digest, "little", signed=True)


def uniforms(keys: torch.Tensor, ids: torch.Tensor) -> torch.Tensor:
    """A random number in (0, 1) for each key and token id, 52 bits; integer arithmetic up to there.

    The output function of SplitMix64 (Steele, Lea, Flood 2014) at place `id` of the key's sequence.
    keys, ids: int64 of one shape, or of shapes that broadcast; int64 wraps, as it should.
    """
    x = keys + (ids + 1) * _GOLDEN
    x = (x ^ _shifted(x, 30)) * _MIX_1
    x = (x ^ _shifted(x, 27)) * _MIX_2
    x = x ^ _shifted(x, 31)
    return (_shifted(x, 12).double() + 0.5) * 2.0**-52


def _shifted(x: torch.Tensor, bits: int) -> torch.Tensor:
    """Logical shift to the right; torch's own repeats the sign."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


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
    tokens whose mass exceeds p, the crossing one included, of equals the lowest ids; the mass is
    that left by top-k. Returns (rows, vocabulary) float64, each row summing to 1.
    """
    by_k, by_p = top_k > 0, (top_p > 0) & (top_p < 1)
    logits = logits.double()
    if by_k.any():
        logits[by_k] = _top_k(logits[by_k], top_k[by_k])
    if by_p.any():
        logits[by_p] = _top_p(logits[by_p], top_p[by_p])
    return logits.softmax(dim=-1)


def _top_k(logits: torch.Tensor, top_k: torch.Tensor) -> torch.Tensor:
    """-inf for all below each row's k-th largest; top_k: (rows,), positive."""
    places = (top_k.clamp_max(logits.size(-1)) - 1)[:, None]
    largest = logits.topk(int(places.max()) + 1, dim=-1).values
    return logits.masked_fill(logits < largest.gather(-1, places), float("-inf"))


def _top_p(logits: torch.Tensor, top_p: torch.Tensor) -> torch.Tensor:
    """-inf for all behind the mass top_p, (rows,), between 0 and 1."""
    total = logits.logsumexp(dim=-1, keepdim=True)
    # Sorting a whole vocabulary takes longer than a small model's layers; few ids hold the mass.
    largest = logits.topk(min(_FEW_IDS, logits.size(-1)), dim=-1).values
    if bool(((largest - total).exp().sum(dim=-1) <= top_p).any()):
        largest = logits.sort(dim=-1, descending=True).values
    mass = (largest - total).exp()
    num_kept = (mass.cumsum(dim=-1) - mass <= top_p[:, None]).sum(dim=-1, keepdim=True).clamp_min(1)
    last = largest.gather(-1, num_kept - 1)
    above, equal = logits > last, logits == last
    num_equal = num_kept - above.sum(dim=-1, keepdim=True)
    kept = above | (equal & (equal.cumsum(dim=-1) <= num_equal))
    return logits.masked_fill(~kept, float("-inf"))


def pick(probabilities: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
    """An id of each row, with its probability: (rows,).

    probabilities: (rows, vocabulary) float64; keys: (rows,) int64 (`step_key`).

    A race: each id arrives after an exponential time of rate p and a random number of its own; the
    first one wins. So rounding matters little: logits that are off by e change the winner only
    where the two first were within a factor exp(2e / temperature) of each other, with probability
    2e / temperature at most, however large the vocabulary; and an id that top-k or top-p just let
    in or just cut off matters only if it wins. (Drawing from cumulative sums would move the borders
    of all ids behind it.)
    """
    if 4 * int(probabilities.count_nonzero()) > probabilities.numel():
        # Looking numbers up costs more than computing them for ids that can't win.
        every_id = torch.arange(probabilities.size(1), device=keys.device)
        return (-uniforms(keys[:, None], every_id).log() / probabilities).argmin(dim=-1)
    rows, ids = probabilities.nonzero(as_tuple=True)
    arrivals = torch.full_like(probabilities, float("inf"))
    arrivals[rows, ids] = -uniforms(keys[rows], ids).log() / probabilities[rows, ids]
    return arrivals.argmin(dim=-1)
