"""What differs between BERT and RoBERTa, checked against transformers' own forward pass."""

import pytest
import torch
from small import MODELS, classifier
from transformers import BertConfig, BertForTokenClassification

from lib import architectures

PADDING = 1
IDS = torch.tensor([[5, 9, 30, 22, 6], [5, 8, 6, PADDING, PADDING]])
MASK = (IDS != PADDING).long()


@pytest.fixture(params=MODELS)
def model(request):
    return classifier(request.param, num_labels=3)


def test_every_supported_architecture_is_tested():
    assert set(MODELS) == set(architectures.CLASSIFIERS)


def test_the_head_gives_the_models_own_logits(model):
    with torch.no_grad():
        expected = model(IDS, attention_mask=MASK).logits
        hidden = model.base_model(IDS, attention_mask=MASK).last_hidden_state
        dense, projection = architectures.head_layers(model)
        assert (dense.out_features, projection.out_features) == (16, 3)
        torch.testing.assert_close(projection(dense(hidden[:, 0]).tanh()), expected)
        torch.testing.assert_close(architectures.head_logits(model, hidden), expected)


def test_head_parameters_are_those_of_the_two_layers(model):
    names = architectures.head_parameter_names(model)
    named = {name for name, parameter in model.named_parameters() if id(parameter) in head_ids(model)}
    assert names == named
    assert len(names) == 4
    modules = architectures.head_module_names(model)
    assert all(any(part in modules for part in name.split(".")) for name in names)


def head_ids(model):
    return {id(parameter) for layer in architectures.head_layers(model) for parameter in layer.parameters()}


def test_positions_are_those_the_model_uses_itself(model):
    positions = architectures.position_ids(model, IDS)
    first = 0 if model.config.model_type == "bert" else PADDING + 1
    assert positions[0].tolist() == list(range(first, first + 5))
    with torch.no_grad():
        expected = model(IDS, attention_mask=MASK).logits
        found = model(IDS, attention_mask=MASK, position_ids=positions).logits
    assert torch.equal(found, expected)
    stacked = torch.stack([IDS, IDS.flip(0)])  # any number of leading dimensions
    assert torch.equal(architectures.position_ids(model, stacked)[1], positions.flip(0))


def test_a_text_as_long_as_the_model_can_read_is_read_and_a_longer_one_is_not(model):
    longest = architectures.readable_pieces(model.config)
    assert longest == (80 if model.config.model_type == "bert" else 78)
    with torch.no_grad():
        assert model(torch.full((1, longest), 7)).logits.isfinite().all()
        with pytest.raises((IndexError, RuntimeError)):
            model(torch.full((1, longest + 1), 7))


def test_embeddings_and_layers_are_the_encoders(model):
    words = architectures.embeddings(model).word_embeddings
    assert words is model.get_input_embeddings()
    layers = architectures.encoder_layers(model)
    assert [layer.attention.self.num_attention_heads for layer in layers] == [2, 2]


@pytest.mark.parametrize("kind", ["base model", "another head"])
def test_any_other_model_is_refused_in_one_line(kind):
    config = BertConfig(vocab_size=20, hidden_size=8, num_hidden_layers=1, num_attention_heads=1)
    model = classifier("bert").base_model if kind == "base model" else BertForTokenClassification(config)
    with pytest.raises(ValueError, match=r"model is a Bert\w+; allowed are BertForSeq\w+, Camembert\w+, Rob"):
        architectures.head_layers(model)
