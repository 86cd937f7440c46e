from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.worker.engine.rank_functions import choose_and_tell, choose_tokens
from tests.worker.engine.ranks import RankPool, same_on_all
from tests.worker.engine.request_examples import text_request
from worker.engine.protocol import SamplingParams
from worker.engine.sampling import (
    kept_probabilities,
    penalize_repetition,
    penalized_ids,
    pick,
    step_key,
    uniforms,
)
from worker.engine.scheduler import Row


def kept(logits: list[float], top_k: int, top_p: float) -> list[float]:
    """Probabilities of one row."""
    return kept_probabilities(torch.tensor([logits]), torch.tensor([top_k]), torch.tensor([top_p]))[
        0
    ].tolist()


# ---- cutting off ----


@pytest.mark.parametrize(
    ("top_k", "top_p", "num_kept"),
    [(0, 0.9, 3), (2, 0.0, 2), (0, 1.0, 5), (0, 0.0, 5), (9, 0.0, 5)],
)
def test_top_k_and_top_p_keep_what_nemo_keeps(top_k: int, top_p: float, num_kept: int) -> None:
    logits = [3.0, 2.0, 1.0, 0.0, -1.0]
    weights = [math.exp(logit) for logit in logits[:num_kept]]
    expected = [weight / sum(weights) for weight in weights] + [0.0] * (5 - num_kept)
    assert kept(logits, top_k, top_p) == pytest.approx(expected, abs=1e-12)


def test_top_p_counts_the_mass_that_top_k_has_left() -> None:
    # Of {3, 2} alone, 3 has 0.731: enough for 0.7, not for 0.74.
    assert [p > 0 for p in kept([3.0, 2.0, 1.0], 2, 0.7)] == [True, False, False]
    assert [p > 0 for p in kept([3.0, 2.0, 1.0], 2, 0.74)] == [True, True, False]


def test_the_token_that_reaches_exactly_p_is_followed_by_one_more() -> None:
    # "Exceeds": NeMo removes a token when the mass before it is greater than p.
    assert [p > 0 for p in kept([0.0, 0.0, -60.0, -60.0], 0, 0.5)] == [True, True, False, False]
    assert [p > 0 for p in kept([9.0, 0.0, 0.0], 0, 1e-9)] == [True, False, False]


def test_top_k_keeps_ties_with_the_last_one() -> None:
    assert [p > 0 for p in kept([1.0, 2.0, 1.0, 0.0], 2, 0.0)] == [True, True, True, False]


def test_rows_with_different_parameters_do_not_mix() -> None:
    logits = torch.tensor([[3.0, 2.0, 1.0, 0.0, -1.0]] * 3)
    together = kept_probabilities(logits, torch.tensor([0, 2, 0]), torch.tensor([0.9, 0.0, 1.0]))
    assert (together > 0).sum(dim=-1).tolist() == [3, 2, 5]


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=1, max_size=30),
    st.integers(0, 40),
    st.floats(0.01, 0.99),
)
def test_top_p_keeps_the_smallest_likeliest_set_that_exceeds_p(
    logits: list[float], top_k: int, top_p: float
) -> None:
    before_p = kept(logits, top_k, 0.0)
    after = kept(logits, top_k, top_p)
    assert sum(after) == pytest.approx(1)
    inside = [p for p, a in zip(before_p, after, strict=True) if a > 0]
    outside = [p for p, a in zip(before_p, after, strict=True) if a == 0]
    assert inside
    assert min(inside) >= max(outside, default=0)
    assert sum(inside) > top_p - 1e-9
    assert sum(inside) - min(inside) <= top_p + 1e-9


def test_of_equal_tokens_at_the_edge_of_top_p_the_lowest_ids_stay() -> None:
    assert [p > 0 for p in kept([0.0, 1.0, 0.0, 0.0, 0.0, 1.0], 0, 0.7)] == [
        *(True, True, True, False, False, True)
    ]


def by_sorting(logits: torch.Tensor, top_k: int, top_p: float) -> list[int]:
    """The ids of one row that stay, by walking down the whole sorted vocabulary."""
    order = logits.double().sort(descending=True, stable=True).indices.tolist()
    if top_k:
        edge = logits[order[min(top_k, len(order)) - 1]]
        order = [i for i in order if logits[i] >= edge]
    if not 0 < top_p < 1:
        return sorted(order)
    mass, kept_ids = 0.0, []
    for i, p in zip(order, logits.double()[order].softmax(-1).tolist(), strict=True):
        if mass > top_p:
            break
        kept_ids.append(i)
        mass += p
    return sorted(kept_ids)


@pytest.mark.parametrize("spread", [0.1, 2.0, 8.0])  # a nucleus of most ids, of some, of few
def test_a_large_vocabulary_is_cut_as_if_it_were_sorted(spread: float) -> None:
    generator = torch.Generator().manual_seed(7)
    logits = (torch.randn((6, 5000), generator=generator) * spread * 8).round() / 8  # with equals
    logits[:, -5:] = float("-inf")
    cuts = [(0, 0.0), (40, 0.0), (0, 0.9), (3000, 0.6), (5, 0.99), (0, 0.05)]
    top_k, top_p = (torch.tensor(column) for column in zip(*cuts, strict=True))
    found = kept_probabilities(logits, top_k, top_p)
    assert found.sum(dim=-1).tolist() == pytest.approx([1.0] * 6)
    for row, (k, p) in enumerate(cuts):
        wanted = by_sorting(logits[row], k, p)
        wanted = [i for i in wanted if logits[row, i] > float("-inf")]
        assert found[row].nonzero()[:, 0].tolist() == wanted
        expected = logits[row, wanted].double().softmax(-1)
        assert torch.allclose(found[row, wanted], expected, rtol=1e-12, atol=0)


# ---- drawing ----


def test_a_draw_does_not_depend_on_how_many_ids_its_neighbours_may_draw() -> None:
    logits = torch.randn((1, 4000), generator=torch.Generator().manual_seed(3))
    few = kept_probabilities(logits, torch.tensor([9]), torch.tensor([0.0]))
    many = logits.double().softmax(dim=-1)
    keys = torch.tensor([step_key(0, f"row {n}", 0) for n in range(50)])
    alone = [int(pick(few, key[None])) for key in keys]
    beside_many = pick(torch.cat((few.expand(50, -1), many.expand(50, -1))), keys.repeat(2))
    assert beside_many[:50].tolist() == alone
    assert len(set(alone)) > 4


def test_the_random_numbers_are_pinned() -> None:
    # Changing them changes every sampled answer: results of an earlier version, kept on purpose.
    assert [step_key(0, "row", step) for step in range(2)] == [
        5472917150547350143,
        -675887842659375550,
    ]
    # SplitMix64 started at 0, as its authors publish it: 0xE220A8397B1DCDAF is its first output.
    published = [0xE220A8397B1DCDAF, 0x6E789E6AA1B965F4, 0x06C45D188009454F]
    found = uniforms(torch.tensor(0), torch.arange(3)).tolist()
    assert found == [((number >> 12) + 0.5) * 2.0**-52 for number in published]
    assert step_key(1, "row", 0) != step_key(0, "row", 0) != step_key(0, "other", 0)


def test_the_random_numbers_are_uniform() -> None:
    keys = [
        step_key(seed, f"row {i}", step) for seed in (0, 1) for i in range(5) for step in (0, 1)
    ]
    values = uniforms(torch.tensor(keys)[:, None], torch.arange(250)[None])
    assert values.shape == (20, 250)
    assert bool(((values > 0) & (values < 1)).all())
    counts, _ = np.histogram(values, bins=10, range=(0, 1))
    assert abs(counts - 500).max() < 110  # five standard deviations
    lag = np.corrcoef(values[:, 1:].flatten(), values[:, :-1].flatten())[0, 1]
    assert abs(lag) < 0.07  # neighbouring ids have nothing to do with each other


def test_ids_are_drawn_as_often_as_they_are_likely() -> None:
    probabilities = torch.tensor([[0.0, 0.5, 0.25, 0.0, 0.2, 0.05]], dtype=torch.float64)
    keys = torch.tensor([step_key(0, "row", step) for step in range(4000)])
    drawn = pick(probabilities.expand(4000, -1), keys)
    counts = np.bincount(drawn, minlength=6)
    assert counts[[0, 3]].tolist() == [0, 0]
    assert abs(counts - 4000 * probabilities[0].numpy()).max() < 160  # five standard deviations


@given(
    st.lists(st.floats(0, 1), min_size=1, max_size=20).filter(any), st.integers(-(2**63), 2**63 - 1)
)
def test_a_token_without_probability_is_never_drawn(weights: list[float], key: int) -> None:
    probabilities = torch.tensor([weights], dtype=torch.float64)
    probabilities = probabilities / probabilities.sum()
    token = int(pick(probabilities, torch.tensor([key])))
    assert probabilities[0, token] > 0


@given(
    st.lists(st.tuples(st.floats(-5, 5), st.floats(-1, 1)), min_size=2, max_size=12),
    st.sampled_from([0.2, 1.0, 2.0]),
    st.integers(0, 2**62),
)
def test_rounding_changes_a_draw_only_where_two_ids_arrive_together(
    logits_and_noise: list[tuple[float, float]], temperature: float, key: int
) -> None:
    error = 0.05
    exact = torch.tensor([pair[0] for pair in logits_and_noise], dtype=torch.float64)
    rounded = exact + error * torch.tensor([pair[1] for pair in logits_and_noise])
    keys = torch.tensor([key])
    one, other = (
        int(pick((logits / temperature).softmax(-1)[None], keys)) for logits in (exact, rounded)
    )
    waits = -uniforms(keys, torch.arange(len(exact))).log() / (exact / temperature).exp()
    assert one == int(waits.argmin())
    assert float(waits[other] / waits[one]) <= math.exp(2 * error / temperature) * (1 + 1e-9)


def test_rounding_changes_few_draws_however_many_ids_are_likely() -> None:
    error, num_rows = 1e-2, 500
    exact = torch.zeros((num_rows, 2000), dtype=torch.float64)
    noise = np.random.default_rng(5).uniform(-error, error, exact.shape)
    keys = torch.tensor([step_key(0, "row", step) for step in range(num_rows)])
    drawn = [pick(x.softmax(dim=-1), keys) for x in (exact, exact + torch.from_numpy(noise))]
    num_changed = int((drawn[0] != drawn[1]).sum())
    assert num_changed <= 2 * error * num_rows  # of the expected number the bound, not the mean
    assert len(set(drawn[0].tolist())) > 400, "and not because the same ids win all the time"


def test_repetition_penalty_makes_positive_and_negative_logits_smaller() -> None:
    logits = torch.tensor([2.0, -2.0, 1.0, 0.0, 3.0])
    penalize_repetition(logits, [0, 1, 3, 0], penalty=2.0)
    assert logits.tolist() == [1.0, -4.0, 1.0, 0.0, 3.0]


def test_the_originals_penalty_makes_negative_logits_larger() -> None:
    logits = torch.tensor([2.0, -2.0, 1.0])
    penalize_repetition(logits, [0, 1], penalty=2.0, rule="nemo-rc0")
    assert logits.tolist() == [1.0, -1.0, 1.0]


@given(
    st.lists(st.floats(-20, 20, width=32), min_size=2, max_size=20),
    st.floats(1.01, 5),
    st.data(),
)
def test_a_penalty_never_makes_a_used_token_likelier(
    logits: list[float], penalty: float, data: st.DataObject
) -> None:
    used = data.draw(st.lists(st.integers(0, len(logits) - 1)))
    after = torch.tensor(logits)
    penalize_repetition(after, used, penalty)
    for token, (old, new) in enumerate(zip(logits, after.tolist(), strict=True)):
        assert new <= old if token in used else new == old


def test_the_original_counts_the_prompts_tokens_but_not_at_the_first_step() -> None:
    assert penalized_ids([7, 8, 9], [], "nemo-rc0") == []
    assert penalized_ids([7, 8, 9], [1, 2], "nemo-rc0") == [8, 9, 1, 2]
    assert penalized_ids([7, 8, 9], [1, 2], "applied") == [1, 2]


# ---- with the vocabulary split over ranks ----

GREEDY = SamplingParams(greedy=True)


def rows(*sampling: SamplingParams, token_ids: tuple[int, ...] = ()) -> list[Row]:
    return [
        Row(i, text_request(f"row {i}", sampling=s), list(token_ids))
        for i, s in enumerate(sampling)
    ]


def choose(
    pool: RankPool,
    logits: Sequence[Sequence[float]],
    rows: list[Row],
    num_ids: int = 8,
    eos: int = 7,
) -> list[int | None]:
    array = np.array(logits, dtype=np.float32)
    return same_on_all(pool.run(choose_tokens, array, rows, num_ids, [eos]))  # type: ignore[no-any-return]


def test_greedy_takes_the_lowest_of_equal_ids_on_whatever_rank(pool: RankPool) -> None:
    logits = [
        [0, 0, 5, 0, 5, 0, 5, 0],
        [1, 0, 0, 0, 0, 0, 1, 0],
        [0, 0, 0, 0, 0, 0, 9, 0],
        [-4, -4, -4, -3, -4, -4, -3, -4],
    ]
    assert choose(pool, logits, rows(*[GREEDY] * 4)) == [2, 0, 6, 3]


def test_padding_of_the_vocabulary_is_never_chosen(pool: RankPool) -> None:
    logits: list[list[float]] = [[0, 1, 0, 0, 0, 9, 9, 9], [0, 1, 0, 0, 0, math.nan, 9, 9]]
    sampled = SamplingParams(temperature=100.0)
    assert choose(pool, logits, rows(GREEDY, GREEDY), num_ids=5) == [1, 1]
    chosen = choose(pool, logits * 20, rows(*[sampled] * 40), num_ids=5)
    assert {token for token in chosen if token is not None} == {0, 1, 2, 3, 4}


def test_a_logit_that_is_not_finite_breaks_its_row_only(pool: RankPool) -> None:
    logits: list[list[float]] = [
        [0, 1, 0, 0, 0, 0, 0, math.nan],
        [0, 1, 0, 0, 0, 0, 0, 0],
        [math.inf, 0, 0, 0, 0, 0, 0, 0],
        [0, 0, 2, 0, 0, -math.inf, 0, 0],
    ]
    assert choose(pool, logits, rows(*[GREEDY] * 4)) == [None, 1, None, None]
    sampled = replace(GREEDY, greedy=False, top_k=1)
    assert choose(pool, logits, rows(*[sampled] * 4)) == [None, 1, None, None]


def test_end_of_sequence_waits_for_the_minimum_length(pool: RankPool) -> None:
    logits = [[0, 1, 0, 0, 0, 0, 0, 9]] * 3
    patient = replace(GREEDY, min_new_tokens=3)
    sampled = SamplingParams(top_k=1, min_new_tokens=3)
    assert choose(pool, logits, rows(GREEDY, patient, sampled, token_ids=(4, 4))) == [7, 1, 1]
    assert choose(pool, logits, rows(GREEDY, patient, sampled, token_ids=(4, 4, 4))) == [7, 7, 7]


def test_greedy_ignores_the_repetition_penalty_and_sampling_does_not(pool: RankPool) -> None:
    logits = [[0, 3, 2.9, 0, 0, 0, 0, 0]] * 2
    penalty = replace(GREEDY, repetition_penalty=1.2)
    sampled = SamplingParams(top_k=1, repetition_penalty=1.2)
    assert choose(pool, logits, rows(penalty, sampled, token_ids=(1,))) == [1, 2]


def test_sampled_frequencies_follow_the_probabilities(pool: RankPool) -> None:
    logits = [[math.log(p) for p in (0.4, 0.1, 0.05, 0.05, 0.2, 0.1, 0.05, 0.05)]] * 400
    sampled = [SamplingParams(temperature=1.0, seed=3)] * 400
    chosen = choose(pool, logits, rows(*sampled))
    counts = np.bincount([token for token in chosen if token is not None], minlength=8)
    assert abs(counts[0] - 160) < 50
    assert abs(counts[4] - 80) < 40
    cooler = [SamplingParams(temperature=0.25, seed=3)] * 400
    assert np.bincount(choose(pool, logits, rows(*cooler)))[0] > 350  # type: ignore[arg-type]


def test_log_probabilities_are_the_models_own_whatever_is_drawn(pool: RankPool) -> None:
    logits = np.random.default_rng(4).normal(0, 3, (4, 8)).astype(np.float32)
    asking = SamplingParams(
        temperature=0.3, top_k=2, repetition_penalty=1.5, min_new_tokens=9, logprobs="chosen"
    )
    asked = rows(asking, replace(GREEDY, logprobs="all"), GREEDY, asking, token_ids=(1, 2))
    told = same_on_all(pool.run(choose_and_tell, logits, asked, 6))
    expected = torch.from_numpy(logits[:, :6]).double().log_softmax(dim=-1)
    for index in (0, 1, 3):
        token, logprobs, _ = told[index]
        assert logprobs == pytest.approx([float(expected[index, token])], abs=1e-6)
    assert told[1][2] == [pytest.approx(expected[1].tolist(), abs=1e-6)]
    assert told[2][1:] == ([], [])
    assert told[0][2] == []


def test_a_broken_row_does_not_spoil_its_neighbours_log_probabilities(pool: RankPool) -> None:
    logits = np.zeros((2, 8), dtype=np.float32)
    logits[0, 3] = np.nan
    told = same_on_all(
        pool.run(choose_and_tell, logits, rows(*[replace(GREEDY, logprobs="chosen")] * 2), 8)
    )
    assert told[0][0] is None
    assert told[1][1] == pytest.approx([-math.log(8)])


def test_the_originals_penalty_reaches_the_prompts_tokens(pool: RankPool) -> None:
    # The prompts' ids are 5 to 8; the first of them does not count.
    logits = [[0, 2.8, 0, 0, 0, 2.9, 3.0, 0, 0, 0, 0, 0]] * 2
    rule = SamplingParams(top_k=1, repetition_penalty=1.2, repetition_rule="nemo-rc0")
    ours = replace(rule, repetition_rule="applied")
    assert choose(pool, logits, rows(rule, ours, token_ids=(2,)), num_ids=12, eos=11) == [5, 6]
    assert choose(pool, logits, rows(rule, ours), num_ids=12, eos=11) == [6, 6]
