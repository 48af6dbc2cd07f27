"""Heads trained together match heads trained alone and a plain training loop."""

from collections.abc import Sequence

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from fake_graphs import FakeGraphs, NoGraphs, use
from transformers import (
    BertConfig,
    BertForSequenceClassification,
    CamembertConfig,
    get_linear_schedule_with_warmup,
)
from transformers import CamembertForSequenceClassification as Classifier

from lib import frozen, seeding
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


def test_a_seeds_head_does_not_depend_on_the_other_seeds(data: Data) -> None:
    seeds = [11, 3, 7, 5]
    together = train_heads(*data, seeds, **TRAINING)
    in_pairs = train_heads(*data, seeds, **TRAINING, side_by_side=2)
    assert largest_difference(together, in_pairs) < 1e-5
    for index, seed in enumerate(seeds):
        alone = train_heads(*data, [seed], **TRAINING)
        one = Heads(*(value[index : index + 1] for value in vars(together).values()))
        assert largest_difference(alone, one) < 1e-5


@pytest.mark.parametrize("shuffled", [True, False])
@pytest.mark.parametrize(("schedule", "total"), [("described", 69), ("authors", 15)])
def test_a_head_matches_a_plain_pytorch_training_loop(
    data: Data, schedule: str, total: int, shuffled: bool
) -> None:
    embeddings, targets = 3 * data[0], torch.as_tensor(data[1])  # large enough for gradients to be clipped
    seed, std, rate, batch_size = 4, 0.02, TRAINING["learning_rate"], TRAINING["batch_size"]
    start = seeding.generator(seeding.derive(seed, "head"))
    dense, projection = torch.nn.Linear(DIM, DIM), torch.nn.Linear(DIM, 2)
    with torch.no_grad():
        dense.weight.copy_(torch.randn(DIM, DIM, generator=start).T * std)
        projection.weight.copy_(torch.randn(DIM, 2, generator=start).T * std)
        dense.bias.zero_()
        projection.bias.zero_()
    parameters = [*dense.parameters(), *projection.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=rate)  # its default weight decay is 0.01
    scheduler = get_linear_schedule_with_warmup(optimizer, num_warmup_steps=0, num_training_steps=total)
    stream = seeding.generator(seeding.derive(seed, "data order"))
    order = torch.randperm(TEXTS, generator=stream) if shuffled else torch.arange(TEXTS)
    norms, losses = [], []
    for _ in range(TRAINING["epochs"]):
        for batch in order.split(batch_size):
            optimizer.zero_grad()
            loss = F.cross_entropy(projection(torch.tanh(dense(embeddings[batch]))), targets[batch])
            loss.backward()
            norms.append(torch.nn.utils.clip_grad_norm_(parameters, 1.0).item())
            losses += [loss.item()] * len(batch)
            optimizer.step()
            scheduler.step()
    assert min(norms[:total]) < 1 < max(norms[:total])
    how = {"schedule": schedule, "shuffled": shuffled}
    heads = train_heads(embeddings, data[1], [1, seed], **TRAINING, **how)
    torch.testing.assert_close(heads.dense_weight[1], dense.weight.detach(), atol=1e-5, rtol=0)
    torch.testing.assert_close(heads.out_bias[1], projection.bias.detach(), atol=1e-5, rtol=0)
    expected = projection(torch.tanh(dense(embeddings))).detach()
    torch.testing.assert_close(heads.logits(embeddings)[1], expected, atol=1e-4, rtol=0)
    trained = losses[: total * batch_size] if schedule == "authors" else losses
    assert heads.loss[1].item() == pytest.approx(np.mean(trained[-TEXTS:]), abs=1e-5)


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
    assert heads_side_by_side(128, cpu) >= 100
    assert 1 <= heads_side_by_side(768, cpu) <= 8
    assert heads_side_by_side(8192, cpu) == 1


def test_no_seeds_and_unequal_lengths_are_refused(data: Data) -> None:
    embeddings, labels = data
    with pytest.raises(ValueError, match="at least one is required"):
        train_heads(embeddings, labels, [], **TRAINING)
    with pytest.raises(ValueError, match="90 embeddings but 89 labels"):
        train_heads(embeddings, labels[1:], [1], **TRAINING)


def test_replayed_steps_change_no_bit(data: Data, monkeypatch: pytest.MonkeyPatch) -> None:
    graphs, trained = FakeGraphs(), []
    for used in (graphs, NoGraphs()):
        use(monkeypatch, "lib.frozen", used)
        trained.append(train_heads(*data, [4, 1, 7], **TRAINING))
    assert largest_difference(*trained) == 0
    assert graphs.captured == 1  # 66 steps of four texts; the 3 of two are too few
    assert len(graphs.replayed) == 66 - 3


def test_heads_that_do_not_fit_into_memory_are_trained_in_smaller_groups(
    data: Data, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    train, groups = frozen._train_together, []

    def full(texts: torch.Tensor, targets: torch.Tensor, seeds: Sequence[int], *given: object, **how: object):
        groups.append(len(seeds))
        if len(seeds) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return train(texts, targets, seeds, *given, **how)

    expected = train_heads(*data, range(5), **TRAINING)
    monkeypatch.setattr(frozen, "_train_together", full)
    assert largest_difference(train_heads(*data, range(5), **TRAINING), expected) < 1e-5
    assert groups == [5, 2, 2, 1]
    assert "5 heads: 5 at a time do not fit into memory, now half of that" in caplog.text


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device")
def test_on_cuda_capturing_changes_no_bit(data: Data) -> None:
    seeding.set_deterministic(True)
    try:
        how = {**TRAINING, "device": "cuda"}
        first, again, uncaptured = (
            train_heads(*data, [4, 1, 7], **how, capture=capture) for capture in (True, True, False)
        )
    finally:
        seeding.set_deterministic(False)
    assert largest_difference(first, again) == largest_difference(first, uncaptured) == 0
    assert largest_difference(first, train_heads(*data, [4, 1, 7], **TRAINING)) < 1e-3


def test_each_head_predicts_a_class_for_each_text() -> None:
    embeddings = torch.tensor([[1.0, -1.0], [-1.0, 1.0], [2.0, 0.5]])
    weights = torch.stack([torch.eye(2), -torch.eye(2)])
    heads = Heads(weights, torch.zeros(2, 2), torch.eye(2).repeat(2, 1, 1), torch.zeros(2, 2), torch.zeros(2))
    assert heads.predicted(embeddings.numpy()).tolist() == [[0, 1, 0], [1, 0, 1]]
