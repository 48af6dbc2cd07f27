"""Every rule against a case worked out by hand and against its literal transcription, text by text."""

import lrp_literal as literal
import pytest
import torch

from lib.lrp import rules

TOLERANCE = {"rtol": 1e-10, "atol": 1e-12}


def rand(*shape, seed=0):
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


def test_rule_1_adds_epsilon_for_either_sign_and_gives_0_at_0():
    b = torch.tensor([2.0, -2.0, 0.0, 1e-9], dtype=torch.float64)
    expected = torch.tensor([1 / (2 + 1e-9), 1 / (-2 + 1e-9), 0, 1 / 2e-9], dtype=torch.float64)
    torch.testing.assert_close(rules.divide(torch.ones(4, dtype=torch.float64), b), expected, **TOLERANCE)


def test_rule_2_by_hand():
    # x = (1, -2), W = ((3, 1), (-1, -4)): contributions (3, 0) of 3 and (0, 8) of 8; the bias does not count
    x, weight = torch.tensor([[1.0, -2.0]]), torch.tensor([[3.0, 1.0], [-1.0, -4.0]])
    bias, relevance = torch.tensor([10.0, -10.0]), torch.tensor([[6.0, 5.0]])
    found = rules.linear(x, x @ weight.T + bias, weight, bias, relevance)
    torch.testing.assert_close(found, torch.tensor([[6.0, 5.0]]))


def test_rule_2_shares_one_denominator_between_signs():
    # x = (1, -1), W = (2, -6): x+ W+ + x- W- = 2 + 6, so 8 is split 2 to 6 (two denominators: 8 and 8)
    x, weight = torch.tensor([[1.0, -1.0]]), torch.tensor([[2.0, -6.0]])
    found = rules.linear(x, x @ weight.T, weight, None, torch.tensor([[8.0]]))
    torch.testing.assert_close(found, torch.tensor([[2.0, 6.0]]))


@pytest.mark.parametrize("bias", [None, rand(5, seed=3)])
def test_rule_2_matches_its_transcription(bias):
    x, weight, relevance = rand(3, 4, 7), rand(5, 7, seed=1), rand(3, 4, 5, seed=2)
    output = torch.nn.functional.linear(x, weight, bias)
    found = rules.linear(x, output, weight, bias, relevance)
    expected = torch.stack([literal.linear(x[i], weight, relevance[i]) for i in range(3)])
    torch.testing.assert_close(found, expected, **TOLERANCE)
    positive = x.clamp(min=0) @ weight.clamp(min=0).T + x.clamp(max=0) @ weight.clamp(max=0).T > 0
    assert not positive.all()  # an output without positive contributions loses its relevance
    kept = (relevance * positive).sum((1, 2))
    torch.testing.assert_close(found.sum((1, 2)), kept, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rule_2_loses_the_relevance_of_outputs_without_positive_contributions(dtype):
    x, weight, relevance = rand(50, 8).abs(), rand(6, 8, seed=1), torch.ones(50, 6, dtype=dtype)
    weight[2] = -weight[2].abs()
    x, weight, bias = x.to(dtype), weight.to(dtype), rand(6, seed=2).to(dtype)
    output = torch.nn.functional.linear(x, weight, bias)
    found = rules.linear(x[None], output[None], weight, bias, relevance[None])[0]
    expected = literal.linear(x.double(), weight.double(), relevance.double())
    precision = 1e-4 if dtype == torch.float32 else 1e-9
    torch.testing.assert_close(found.double(), expected, rtol=precision, atol=precision)


def test_rule_3_by_hand():
    # R = (8, 4) over (1 + 3, 2 - 1): shares a = (2, 8), b = (6, -4); sums 10 and 2 of 12: both unchanged
    a, b = torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, -1.0]])
    share_a, share_b = rules.addition(a, b, a + b, torch.tensor([[8.0, 4.0]]))
    torch.testing.assert_close(share_a, torch.tensor([[2.0, 8.0]]))
    torch.testing.assert_close(share_b, torch.tensor([[6.0, -4.0]]))


def test_rule_3_flips_the_branch_whose_sum_is_negative():
    # a = 3, b = -1, R = 2: shares 3 and -1 are scaled to 3/4 and 1/4 of 2; b's sign is lost
    a, b = torch.tensor([[3.0]]), torch.tensor([[-1.0]])
    share_a, share_b = rules.addition(a, b, a + b, torch.tensor([[2.0]]))
    torch.testing.assert_close(share_a, torch.tensor([[1.5]]))
    torch.testing.assert_close(share_b, torch.tensor([[0.5]]))


def test_rule_3_sums_over_each_text_and_not_over_the_batch():
    a, b, relevance = rand(4, 3, 5), rand(4, 3, 5, seed=1), rand(4, 3, 5, seed=2)
    found = rules.addition(a, b, a + b, relevance)
    expected = zip(*(literal.addition(a[i], b[i], relevance[i]) for i in range(4)), strict=True)
    for share, text_by_text in zip(found, expected, strict=True):
        torch.testing.assert_close(share, torch.stack(text_by_text), **TOLERANCE)
    torch.testing.assert_close(sum(found).sum((1, 2)), relevance.sum((1, 2)), rtol=1e-6, atol=1e-6)


def test_rule_3_counts_a_broadcast_relevance_once():
    a, b, relevance = rand(2, 3, 5), rand(2, 3, 5, seed=1), rand(2, 1, 5, seed=2)
    share_a, share_b = rules.addition(a, b, a + b, relevance)
    expected = literal.addition(a[1], b[1], relevance[1])
    torch.testing.assert_close((share_a[1], share_b[1]), expected, **TOLERANCE)
    torch.testing.assert_close((share_a + share_b).sum((1, 2)), relevance.sum((1, 2)), rtol=1e-6, atol=1e-6)


def test_rule_4_passes_the_sum_on_and_gives_0_where_x_is_0():
    x, first, second = torch.tensor([[2.0, -3.0, 0.0]]), torch.ones(1, 3), torch.full((1, 3), 4.0)
    torch.testing.assert_close(rules.reuse(x, first, second), torch.tensor([[5.0, 5.0, 0.0]]))
    x, uses = rand(2, 3), [rand(2, 3, seed=seed) for seed in (1, 2, 3)]
    torch.testing.assert_close(rules.reuse(x, *uses), literal.reuse(x, uses), **TOLERANCE)


def test_rules_5_and_7_give_half_to_each_factor():
    a, b, relevance = rand(2, 3, 4, 6), rand(2, 3, 6, 5, seed=1), rand(2, 3, 4, 5, seed=2)
    to_a, to_b = rules.matmul(a, b, a @ b, relevance)
    for text in range(2):
        for head in range(3):
            expected = literal.matmul(a[text, head], b[text, head], relevance[text, head])
            torch.testing.assert_close((to_a[text, head], to_b[text, head]), expected, **TOLERANCE)
    for side in (to_a, to_b):
        torch.testing.assert_close(side.sum(), relevance.sum() / 2, rtol=1e-6, atol=1e-6)


def test_rule_6_drops_the_share_of_the_mask():
    scores, relevance = rand(2, 3, 4, 4), rand(2, 3, 4, 4, seed=1)
    mask = torch.zeros(2, 1, 1, 4, dtype=torch.float64)
    mask[1, ..., 3] = -10_000.0
    relevance[1, ..., 3] = 0  # as for a key whose probability is 0
    found = rules.masking(scores, relevance)
    for text in range(2):
        expected, _ = literal.addition(scores[text], mask[text].expand(3, 4, 4), relevance[text])
        torch.testing.assert_close(found[text], expected, **TOLERANCE)


def test_rule_12_by_hand():
    # The rows of I + A are (2, 1)/3 and (0, 1); a zero map changes nothing; the first row is (2, 1)/3.
    maps = [torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.zeros(2, 2)]
    torch.testing.assert_close(literal.rollout(maps, 0), torch.tensor([2 / 3, 1 / 3]))
    torch.testing.assert_close(literal.rollout(maps, 1), torch.tensor([1.0, 0.0]))
