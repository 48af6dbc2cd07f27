"""Which part of a classifier is trained: the bits it has, the weights that may change, the curve's points."""

import pytest
import torch
from small import SHAPE
from transformers import BertConfig, CamembertConfig, CamembertForSequenceClassification

from lib.quantization import choose_trained, curve_points, surface_bits
from lib.trained_parts import part_of


def classifier() -> CamembertForSequenceClassification:
    torch.manual_seed(3)
    return CamembertForSequenceClassification(CamembertConfig(**SHAPE)).eval()


@pytest.mark.parametrize("config_class", [CamembertConfig, BertConfig])
def test_the_surface_of_each_point_is_as_counted_by_hand(config_class: type) -> None:
    config = config_class(**SHAPE)
    head = 16 * 16 + 16 + 16 * 2 + 2
    layer = 4 * (16 * 16 + 16) + 2 * (16 * 32) + 32 + 16 + 4 * 16  # attention, feed-forward, two layer norms
    embeddings = 44 * 16 + 34 * 16 + 2 * 16 + 2 * 16  # words, positions, types, layer norm
    assert surface_bits(config) == 32 * (embeddings + 2 * layer + head)
    assert surface_bits(config, "above:0") == 32 * (2 * layer + head)
    assert surface_bits(config, "above:1") == 32 * (layer + head)
    assert surface_bits(config, "above:2") == surface_bits(config, "head") == 32 * head
    biases = 16 + 2 * (4 * 16 + 32 + 16 + 2 * 16)  # of the embeddings' layer norm, and of the layers
    assert surface_bits(config, "biases") == 32 * (biases + head)
    assert surface_bits(config, "lora:3") == 32 * (2 * 2 * 2 * 3 * 16 + head)
    assert surface_bits(config, "head", "nf4") == 4 * head


def test_only_the_chosen_part_requires_a_gradient() -> None:
    model = choose_trained(classifier(), "above:1")
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert all(name.startswith(("roberta.encoder.layer.1.", "classifier.")) for name in trained)
    assert any(name.startswith("classifier.") for name in trained)
    with pytest.raises(ValueError, match="trained = 'above:3': allowed are above:0 to above:2"):
        choose_trained(classifier(), "above:3")
    with pytest.raises(ValueError, match="trained = 'lora:17': allowed are lora:1 to lora:16"):
        choose_trained(classifier(), "lora:17")


def test_a_part_is_read_from_its_name_alone() -> None:
    assert [part_of(name) for name in ("biases", "above:0", "lora:16")] == [
        ("biases", 0),
        ("above", 0),
        ("lora", 16),
    ]
    for name in ("above", "lora:0", "lora:01", "head:1", "layers", ""):
        with pytest.raises(
            ValueError, match=f"trained = '{name}': allowed are all, head, biases, above:K and"
        ):
            part_of(name)


def test_untrained_adapters_change_nothing() -> None:
    adapted = choose_trained(classifier(), "lora:2").merge_and_unload()
    ids = torch.tensor([[0, 7, 9, 2]])
    torch.testing.assert_close(adapted(ids).logits, classifier()(ids).logits)


def test_points_of_the_curve() -> None:
    assert curve_points("biases layers lora:2", 2) == ["biases", "above:0", "above:1", "above:2", "lora:2"]
