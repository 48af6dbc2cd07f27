"""A recipe's rates are those of the authors' arithmetic, and its batches are the same in every epoch."""

import copy

import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader
from transformers import get_linear_schedule_with_warmup

from lib.recipes import TrainingRecipe, clip_each


def recipe(**changed: object) -> TrainingRecipe:
    return TrainingRecipe(**({"epochs": 2, "learning_rate": 2e-5, "batch_size": 4} | changed))


@pytest.mark.parametrize(
    ("texts", "described", "authors"), [(8_000, 4_000, 1_000), (160_000, 80_000, 20_000)]
)
def test_the_authors_train_a_quarter_of_the_steps(texts: int, described: int, authors: int) -> None:
    assert recipe().steps(texts) == described
    assert recipe(schedule="authors").steps(texts) == authors


@pytest.mark.parametrize("texts", [64, 61, 90])
@pytest.mark.parametrize("batch_size", [1, 4, 7])
def test_rates_are_those_of_the_authors_code(texts: int, batch_size: int) -> None:
    loader = DataLoader(range(texts), batch_size=batch_size)
    for schedule, total in (
        ("authors", 2 * (len(loader) // batch_size)),  # what train_model computes: 2 epochs
        ("described", 2 * len(loader)),
    ):
        optimizer = torch.optim.AdamW([torch.nn.Parameter(torch.zeros(1))], lr=2e-5)
        literal = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=0, num_training_steps=total)
        expected = []
        for _ in range(2):
            for _ in loader:
                expected.append(literal.get_last_lr()[0])
                optimizer.step()
                literal.step()
        how = recipe(schedule=schedule, batch_size=batch_size)
        np.testing.assert_allclose(how.rates(texts), expected, rtol=1e-12)
        assert np.count_nonzero(expected) == how.steps(texts) == total


def test_every_epoch_sees_every_text_once_in_the_same_order() -> None:
    for shuffled in (True, False):
        how = recipe(epochs=3, shuffled=shuffled)
        order = how.order(10, seed=1)
        batches = [batch.tolist() for batch in how.batches(order)]
        assert [len(batch) for batch in batches] == [4, 4, 2] * 3
        assert batches[:3] == batches[3:6] == batches[6:]
        assert [*batches[0], *batches[1], *batches[2]] == order.tolist()
        assert sorted(order.tolist()) == list(range(10))
        assert how.texts_seen(10) == sum(map(len, batches))
    authors = recipe(schedule="authors")
    seen = [len(batch) for batch in authors.batches(authors.order(61, seed=1))]
    assert authors.texts_seen(61) == sum(seen)


def test_each_seed_shuffles_its_own_way_and_the_data_sets_order_is_everybodys() -> None:
    assert recipe().order(50, seed=1).tolist() == recipe().order(50, seed=1).tolist()
    assert recipe().order(50, seed=1).tolist() != recipe().order(50, seed=2).tolist()
    assert recipe(shuffled=False).order(50, seed=1).tolist() == list(range(50))
    assert recipe(shuffled=False).order(50, seed=2).tolist() == list(range(50))


def test_batches_of_several_seeds_are_stacked() -> None:
    orders = torch.stack([recipe().order(10, seed) for seed in (1, 2)])
    for index in range(2):
        alone = recipe().batches(orders[index])
        together = recipe().batches(orders)
        assert all(torch.equal(two[index], one) for two, one in zip(together, alone, strict=True))


@pytest.mark.parametrize("texts", [64, 61, 90])
def test_the_authors_schedule_sees_no_text_twice(texts: int) -> None:
    how = recipe(schedule="authors")
    seen = torch.cat(list(how.batches(how.order(texts, seed=1)))).tolist()
    assert len(seen) == len(set(seen)) == 4 * how.steps(texts) <= texts / 2 + 2


def test_by_default_texts_are_shuffled_and_all_steps_are_trained() -> None:
    assert recipe() == recipe(schedule="described", shuffled=True)


def test_a_recipe_that_would_train_nothing_is_refused() -> None:
    assert recipe(schedule="authors").steps(13) == 2
    with pytest.raises(ValueError, match=r"12 training texts: with schedule 'authors'.*at least 13 texts"):
        recipe(schedule="authors").steps(12)
    with pytest.raises(ValueError, match=r"0 training texts: .*at least 1 texts are required"):
        recipe().rates(0)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"epochs": 0}, "epochs = 0: a number above 0 is required"),
        ({"learning_rate": float("nan")}, "learning_rate = nan: a number above 0 is required"),
        ({"batch_size": -4}, "batch_size = -4: a number above 0 is required"),
        ({"schedule": "cosine"}, "schedule = 'cosine': allowed are described, authors"),
    ],
)
def test_invalid_recipes_are_refused(changed: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        recipe(**changed)


def test_each_stacked_model_is_clipped_by_its_own_norm() -> None:
    generator = torch.Generator().manual_seed(0)
    norms = torch.tensor([0.01, 0.3, 5.0])  # per model: the first two stay below 1
    stacked = [torch.randn(3, *shape, generator=generator) for shape in ((4, 5), (5,), (1, 2))]
    stacked = [gradient * norms.view(-1, *[1] * (gradient.dim() - 1)) / 8 for gradient in stacked]
    before = copy.deepcopy(stacked)
    clip_each(stacked)
    for model in range(3):
        weights = [torch.nn.Parameter(torch.zeros_like(gradient[model])) for gradient in before]
        for weight, gradient in zip(weights, before, strict=True):
            weight.grad = gradient[model].clone()
        norm = torch.nn.utils.clip_grad_norm_(weights, 1.0)
        assert (norm > 1) == (model == 2)
        for weight, clipped in zip(weights, stacked, strict=True):
            torch.testing.assert_close(clipped[model], weight.grad)
