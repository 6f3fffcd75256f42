"""Draws from logits: the right distribution, the same numbers everywhere."""

import numpy as np
import pytest
import torch
from restmcts.modeling.decoding import token_sampling as sampling
from restmcts.modeling.decoding.token_sampling import choose_tokens, sample_key, uniforms


def draw(
    logits: torch.Tensor, numbers: torch.Tensor, temperature: float = 1.0, top_p: float = 1.0
) -> tuple[torch.Tensor, torch.Tensor]:
    chosen = choose_tokens(logits, numbers, torch.zeros(len(numbers), dtype=torch.bool), temperature, top_p)
    return chosen.token_ids, chosen.log_probs


def test_uniform_numbers_are_uniform_and_differ_by_key_and_position() -> None:
    keys = np.array([sample_key(seed, sample) for seed in range(100) for sample in range(20)], dtype=np.uint64)
    table = np.stack([uniforms(keys, np.full(len(keys), position)) for position in range(50)])
    assert table.min() >= 0 and table.max() < 1
    assert len(np.unique(table)) == table.size
    assert abs(table.mean() - 0.5) < 0.005
    assert abs(np.corrcoef(table[0], table[1])[0, 1]) < 0.1


def test_uniform_numbers_never_change() -> None:
    numbers = uniforms(np.array([0, 1], dtype=np.uint64), np.array([0, 0]))
    # The first outputs of SplitMix64 for the seeds 0 and 1, as published: e220a8397b1dcdaf and
    # 910a2dec89025cc1.
    assert numbers.tolist() == [(0xE220A8397B1DCDAF >> 11) / 2**53, (0x910A2DEC89025CC1 >> 11) / 2**53]


@pytest.mark.parametrize(("temperature", "top_p"), [(1.0, 1.0), (0.5, 1.0), (1.0, 0.7)])
def test_draws_follow_the_distribution(temperature: float, top_p: float) -> None:
    logits = torch.log(torch.tensor([0.5, 0.3, 0.15, 0.05]))
    expected = torch.softmax(logits / temperature, 0)
    if top_p == 0.7:
        expected = torch.tensor([0.625, 0.375, 0, 0])
    numbers = torch.linspace(0, 1, 10_001, dtype=torch.float64)[:-1]
    tokens, log_probs = draw(logits.expand(10_000, 4), numbers, temperature, top_p)
    shares = torch.bincount(tokens, minlength=4) / 10_000
    assert shares == pytest.approx(expected, abs=2e-3)
    assert log_probs == pytest.approx(logits[tokens], abs=1e-6)


def test_a_token_that_cannot_be_is_never_drawn() -> None:
    logits = torch.tensor([[float("-inf"), 0.0, float("-inf"), 0.0, float("-inf")]]).expand(3, 5)
    tokens, _ = draw(logits, torch.tensor([0.0, 0.5, 1 - 2**-53], dtype=torch.float64))
    assert tokens.tolist() == [1, 3, 3]


def test_greedy_and_sampled_rows_share_a_batch() -> None:
    logits = torch.tensor([[0.0, 2.0, 1.0]]).expand(2, 3)
    tokens = choose_tokens(logits, torch.zeros(2, dtype=torch.float64), torch.tensor([True, False]), 1.0, 1.0).token_ids
    assert tokens.tolist() == [1, 0]


def test_large_vocabularies_are_drawn_in_slices(monkeypatch: pytest.MonkeyPatch) -> None:
    logits, numbers = torch.randn(7, 50, generator=torch.Generator().manual_seed(0)), torch.rand(7, dtype=torch.float64)
    whole = draw(logits, numbers)
    monkeypatch.setattr(sampling, "_MAX_ENTRIES", 100)
    sliced = draw(logits, numbers)
    assert torch.equal(whole[0], sliced[0]) and torch.equal(whole[1], sliced[1])
