"""Tests of explanations by models with random weights."""

import numpy as np
import pytest
import torch
from small import CORPUS, MODELS, camembert_tokenizer, classifier
from transformers import set_seed

from lib.explanations import relevance
from lib.paper1.randomised import STAGES, TRAINED, agreement_with_trained, randomised, relevance_by_stage
from lib.words import texts_to_words, tokenize

DRAWS = 2


@pytest.fixture(scope="module")
def tokens():
    return tokenize(CORPUS, camembert_tokenizer(), 30)


@pytest.fixture(scope="module")
def trained():
    return classifier("camembert", vocab_size=len(camembert_tokenizer()))


@pytest.fixture(scope="module")
def by_stage(trained, tokens):
    return relevance_by_stage(trained, tokens, np.array([0, 1, 0, 1]), DRAWS)


@pytest.mark.parametrize("kind", MODELS)
def test_weights_are_replaced_from_the_head_down_and_at_last_all(kind):
    model = classifier(kind, num_hidden_layers=4)
    with torch.no_grad():
        for values in model.parameters():
            values += 0.1  # scales of norms are 1 in every new model
    before = {name: values.clone() for name, values in model.named_parameters()}
    others = []  # (stages,) of names of the weights that are no longer the model's
    for stage, changed in randomised(model, seed=1):
        weights = changed.state_dict()
        others.append({name for name, values in before.items() if not torch.equal(weights[name], values)})
        assert stage == STAGES[len(others)]
    head, upper, layers, everything = others
    assert {name.split(".")[-2] for name in head} <= {"dense", "out_proj", "classifier"}
    assert len(head) == 4
    assert {name.split(".layer.")[1][0] for name in upper - head} == {"2", "3"}
    assert {name.split(".layer.")[1][0] for name in layers - upper} == {"0", "1"}
    assert all(".embeddings." in name for name in everything - layers)
    assert everything == set(before)
    assert all(torch.equal(values, before[name]) for name, values in model.named_parameters())


def test_random_weights_depend_on_the_seed_alone(trained):
    def last_weights(seed: int) -> torch.Tensor:
        *_, (_, changed) = randomised(trained, seed)
        return torch.cat([values.flatten() for values in changed.parameters()])

    set_seed(5)
    first = last_weights(0)
    state = torch.random.get_rng_state()
    assert torch.equal(last_weights(0), first)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not torch.equal(last_weights(1), first)


def test_the_trained_model_comes_first_and_then_each_stage_of_each_draw(trained, tokens, by_stage):
    targets = np.array([0, 1, 0, 1])
    assert tuple(by_stage) == STAGES
    for stage, texts in by_stage.items():
        rows = 1 if stage == TRAINED else DRAWS
        assert [values.shape for values in texts] == [(rows, len(text.words)) for text in tokens]
    own = texts_to_words(tokens, relevance(trained, tokens, targets))
    assert all(np.array_equal(found[0], row) for found, row in zip(by_stage[TRAINED], own, strict=True))
    for stage, changed in randomised(trained, seed=1):
        rows = texts_to_words(tokens, relevance(changed, tokens, targets))
        assert all(np.array_equal(found[1], row) for found, row in zip(by_stage[stage], rows, strict=True))


def test_agreement_is_that_of_each_draw_with_the_trained_model():
    rising, falling = np.arange(4.0), np.arange(4.0)[::-1]
    trained = [rising[None], rising[None], np.ones((1, 1))]  # the last text has one word: nothing to rank
    drawn = [np.stack([rising, falling]), np.stack([falling, falling]), np.ones((2, 1))]
    found = agreement_with_trained({TRAINED: trained, "the head": drawn})
    assert list(found) == ["the head"]
    np.testing.assert_allclose(found["the head"], [[1, -1], [-1, -1]])
