"""Heads trained together match heads trained alone and a plain training loop."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import BertConfig, BertForSequenceClassification, CamembertConfig
from transformers import CamembertForSequenceClassification as Classifier

from lib import seeding
from lib.frozen import Heads, heads_side_by_side, train_heads

DIM, TEXTS = 24, 90
Data = tuple[torch.Tensor, np.ndarray]
TRAINING = {"epochs": 3, "learning_rate": 2e-2, "batch_size": 4}


@pytest.fixture(scope="module")
def data() -> Data:
    generator = seeding.generator(0)
    embeddings = torch.randn(TEXTS, DIM, generator=generator)
    labels = (embeddings[:, 0] * embeddings[:, 1] + embeddings[:, 2] > 0).long()  # needs the hidden layer
    return embeddings, labels.numpy()


def largest_difference(one: Heads, other: Heads) -> float:
    return max((getattr(one, name) - getattr(other, name)).abs().max().item() for name in vars(one))


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_a_seeds_head_does_not_depend_on_the_other_seeds(data: Data, dropout: float) -> None:
    seeds = [11, 3, 7, 5]
    together = train_heads(*data, seeds, **TRAINING, dropout=dropout)
    in_pairs = train_heads(*data, seeds, **TRAINING, dropout=dropout, side_by_side=2)
    assert largest_difference(together, in_pairs) < 1e-5
    for index, seed in enumerate(seeds):
        alone = train_heads(*data, [seed], **TRAINING, dropout=dropout)
        one = Heads(*(value[index : index + 1] for value in vars(together).values()))
        assert largest_difference(alone, one) < 1e-5


def test_a_head_matches_a_plain_pytorch_training_loop(data: Data) -> None:
    embeddings, labels = data
    targets = torch.as_tensor(labels)
    seed, std = 4, 0.02
    start = seeding.generator(seeding.derive(seed, "head"))
    dense, projection = torch.nn.Linear(DIM, DIM), torch.nn.Linear(DIM, 2)
    with torch.no_grad():
        dense.weight.copy_(torch.randn(DIM, DIM, generator=start).T * std)
        projection.weight.copy_(torch.randn(DIM, 2, generator=start).T * std)
        dense.bias.zero_()
        projection.bias.zero_()
    parameters = [*dense.parameters(), *projection.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=TRAINING["learning_rate"], weight_decay=0.0)
    order = seeding.generator(seeding.derive(seed, "order"))
    batches = [
        batch
        for _ in range(TRAINING["epochs"])
        for batch in torch.randperm(TEXTS, generator=order).split(TRAINING["batch_size"])
    ]
    for step, batch in enumerate(batches):
        for group in optimizer.param_groups:
            group["lr"] = TRAINING["learning_rate"] * (1 - step / len(batches))
        optimizer.zero_grad()
        F.cross_entropy(projection(torch.tanh(dense(embeddings[batch]))), targets[batch]).backward()
        optimizer.step()
    heads = train_heads(embeddings, labels, [1, seed], **TRAINING)
    torch.testing.assert_close(heads.dense_weight[1], dense.weight.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(heads.out_bias[1], projection.bias.detach(), atol=1e-5, rtol=0)
    expected = projection(torch.tanh(dense(embeddings))).detach()
    torch.testing.assert_close(heads.logits(embeddings)[1], expected, atol=1e-4, rtol=0)


def test_heads_learn_and_differ_by_seed(data: Data) -> None:
    embeddings, labels = data
    heads = train_heads(embeddings, labels, range(6), epochs=60, learning_rate=1e-2, batch_size=4)
    accuracy = (heads.logits(embeddings).argmax(dim=-1).numpy() == labels).mean(axis=1)
    assert accuracy.min() > 0.95
    assert (heads.loss < 0.3).all()
    assert len({seeding.fingerprint(weight) for weight in heads.dense_weight}) == 6


@pytest.mark.parametrize(
    ("config", "classifier"), [(CamembertConfig, Classifier), (BertConfig, BertForSequenceClassification)]
)
def test_an_installed_head_gives_the_same_logits(config: type, classifier: type) -> None:
    torch.manual_seed(0)
    shape = {"hidden_size": DIM, "num_attention_heads": 2, "intermediate_size": 32, "num_hidden_layers": 1}
    model = classifier(config(vocab_size=50, pad_token_id=1, **shape)).eval()
    ids = torch.randint(5, 50, (TEXTS, 6), generator=seeding.generator(1))
    model.requires_grad_(False)
    embeddings = model.base_model(input_ids=ids).last_hidden_state[:, 0]
    heads = train_heads(embeddings, [0, 1] * (TEXTS // 2), [1, 2], **TRAINING)
    for index in range(2):
        heads.install(index, model)
        logits = model(input_ids=ids).logits
        torch.testing.assert_close(logits, heads.logits(embeddings)[index], atol=1e-5, rtol=1e-5)


def test_many_small_heads_and_few_large_ones_train_side_by_side() -> None:
    cpu = torch.device("cpu")
    assert heads_side_by_side(128, 2, cpu) >= 100
    assert 1 <= heads_side_by_side(768, 2, cpu) <= 8
    assert heads_side_by_side(8192, 2, cpu) == 1


def test_no_seeds_and_unequal_lengths_are_refused(data: Data) -> None:
    embeddings, labels = data
    with pytest.raises(ValueError, match="at least one is required"):
        train_heads(embeddings, labels, [], **TRAINING)
    with pytest.raises(ValueError, match="90 embeddings but 89 labels"):
        train_heads(embeddings, labels[1:], [1], **TRAINING)
