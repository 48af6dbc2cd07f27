"""Seeds repeat their streams, and fingerprints are equal for contents that are equal to the bit."""

import numpy as np
import pytest
import torch

from lib.seeding import derive, fingerprint, generator, set_deterministic


def test_streams_for_different_purposes_differ():
    seeds = {derive(seed, name) for seed in range(50) for name in ("order", "dropout", 1, 2)}
    assert len(seeds) == 200
    assert derive(3, "order") == 972772717  # the same on every machine
    assert all(0 <= seed < 2**31 for seed in seeds)
    first = torch.rand(2000, generator=generator(derive(0, "order")))
    second = torch.rand(2000, generator=generator(derive(0, "dropout")))
    assert abs(np.corrcoef(first, second)[0, 1]) < 0.08  # 3.5 standard errors


def test_fingerprints_distinguish_every_difference():
    tensor = torch.arange(4.0)
    things = [
        tensor,
        tensor.reshape(2, 2),
        tensor.double(),
        tensor.numpy(),
        tensor + 1e-7,
        -0.0 * tensor,
        0.0 * tensor,
        [0.0, 1.0],
        (0, 1),
        "01",
        b"01",
        ["0", "1"],
        ["01"],
        {"a": 1},
        {"a": "1"},
        None,
        True,
        1,
    ]
    assert len({fingerprint(thing) for thing in things}) == len(things)


def test_an_array_of_objects_has_no_fingerprint():
    with pytest.raises(TypeError, match="fingerprint of ndarray: allowed are"):
        fingerprint(np.array(["a", None], dtype=object))


def test_fingerprints_of_equal_contents_agree():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": (2,), "a": 1})
    assert fingerprint(torch.arange(6.0)[::2]) == fingerprint(torch.tensor([0.0, 2.0, 4.0]))
    linear = torch.nn.Linear(2, 2)
    assert fingerprint(linear) == fingerprint(linear.state_dict())
    assert fingerprint(torch.tensor([1.0], dtype=torch.bfloat16)) != fingerprint(torch.tensor([1.0]).half())


def test_a_fingerprint_of_an_unknown_type_is_refused():
    with pytest.raises(TypeError, match="fingerprint of object"):
        fingerprint(object())


def test_determinism_is_switched_on_and_off():
    before = torch.are_deterministic_algorithms_enabled()
    try:
        for on in (True, False):
            set_deterministic(on)
            assert torch.are_deterministic_algorithms_enabled() == on
            assert not torch.utils.deterministic.fill_uninitialized_memory
    finally:
        set_deterministic(before)
        torch.utils.deterministic.fill_uninitialized_memory = True
