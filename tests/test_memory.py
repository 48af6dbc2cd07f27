"""Estimates of memory are sums that can be done by hand, and a group that does not fit is halved."""

import logging
import weakref
from collections.abc import Sequence

import pytest
import torch
from small import SHAPE
from transformers import CamembertConfig, CamembertForSequenceClassification

from lib import memory
from lib.memory import activation_bytes, fitting, in_groups, training_bytes
from lib.quantization import choose_trained

CPU = torch.device("cpu")


def model() -> CamembertForSequenceClassification:
    return CamembertForSequenceClassification(CamembertConfig(**SHAPE))


def test_an_activation_is_counted_once_per_layer_and_token() -> None:
    # hidden size 16, 2 layers, 2 heads, intermediate size 32; 3 texts of 10 tokens
    a_token = 4 * (8 * 16 + 2 * 32) + 2 * 16
    a_pair = 9 * 2
    assert activation_bytes(CamembertConfig(**SHAPE), 3, 10) == 2 * (3 * 10 * a_token + 3 * 10 * 10 * a_pair)


def test_a_trained_weight_takes_sixteen_bytes_and_a_frozen_one_four() -> None:
    built = model()
    weights = sum(parameter.numel() for parameter in built.parameters())
    activations = activation_bytes(built.config, 3, 10)
    assert training_bytes(built, 3, 10) == 16 * weights + activations
    assert training_bytes(built, 3, 10, copies=2) == 20 * weights + activations
    choose_trained(built, "head")
    head = 16 * 16 + 16 + 2 * 16 + 2
    assert training_bytes(built, 3, 10) == 4 * weights + 12 * head + activations


def test_camembert_base_in_the_papers_batches_needs_a_few_gigabytes() -> None:
    with torch.device("meta"):
        config = CamembertConfig(vocab_size=32_005, max_position_embeddings=514, type_vocab_size=1)
        built = CamembertForSequenceClassification(config)
    assert training_bytes(built, 4, 128) / 1e9 == pytest.approx(1.77 + 0.40, abs=0.01)
    assert training_bytes(built, 4, 512) / 1e9 == pytest.approx(1.77 + 2.60, abs=0.01)


@pytest.mark.parametrize(
    ("free", "wanted", "number"), [(100, 5, 5), (100, 20, 9), (100, 9, 9), (25, 9, 2), (5, 9, 1)]
)
def test_as_many_fit_as_nine_tenths_of_the_free_memory_hold(
    free: int, wanted: int, number: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(memory, "free_bytes", lambda device: free * 10**9)
    with caplog.at_level(logging.INFO):
        assert fitting(10 * 10**9, wanted, CPU, "seeds") == number
    (record,) = caplog.records
    told = f"seeds: about 10.00 GB each, {free}.00 GB are free on cpu: {number} of {wanted} at a time"
    assert record.getMessage() == told
    assert record.levelno == (logging.WARNING if free == 5 else logging.INFO)


def test_the_free_memory_of_a_cpu_is_the_machine_s() -> None:
    assert 2**20 < memory.free_bytes(CPU) < 2**50


class Full:
    """Works on so many members at most."""

    def __init__(self, most: int) -> None:
        self.most, self.tried = most, []

    def __call__(self, group: Sequence[int]) -> list[int]:
        self.tried.append(list(group))
        if len(group) > self.most:
            raise torch.OutOfMemoryError("CUDA out of memory.\nMore lines")
        return [10 * member for member in group]


def test_groups_are_halved_until_they_fit_and_stay_so(caplog: pytest.LogCaptureFixture) -> None:
    work = Full(most=2)
    groups = list(in_groups(work, range(7), 5, "seeds"))
    assert work.tried == [[0, 1, 2, 3, 4], [0, 1], [2, 3], [4, 5], [6]]
    assert [result for results, _ in groups for result in results] == [0, 10, 20, 30, 40, 50, 60]
    assert {reason for _, reason in groups} == {"CUDA out of memory."}
    assert caplog.messages == [
        "seeds: 5 at a time do not fit into memory, now half of that: CUDA out of memory."
    ]


def test_groups_that_fit_give_no_reason() -> None:
    assert list(in_groups(Full(most=3), range(4), 3, "seeds")) == [([0, 10, 20], ""), ([30], "")]


def test_a_single_member_that_does_not_fit_is_an_error() -> None:
    with pytest.raises(torch.OutOfMemoryError):
        list(in_groups(Full(most=0), range(4), 3, "seeds"))


def test_what_a_failed_group_held_is_free_before_the_next_one_starts() -> None:
    held: list[weakref.ref] = []

    def work(group: Sequence[int]) -> list[int]:
        assert all(reference() is None for reference in held)
        large = torch.zeros(10)
        held.append(weakref.ref(large))
        if len(group) > 1:
            raise torch.OutOfMemoryError("full")
        return list(group)

    assert [result for results, _ in in_groups(work, range(2), 2, "seeds") for result in results] == [0, 1]
