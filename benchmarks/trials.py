"""Measure one QLoRA trial against several side by side, as notebook 3 trains them.

    PYTHONPATH=. python benchmarks/trials.py [--device cpu] [--trials 7] [--tokens 512] [--repeats 3]

Weights are random: speed does not depend on them. Every trial has one text of --tokens tokens a step, so
there is no padding. On a GPU the base is a Llama of 7B in bfloat16; without one it is tiny-llama's shape (its
quotes have about 30 tokens) and one layer of a 7B Llama (128 tokens), and only ratios mean something. One
trial and several take turns; a time is the median over the turns.

The floor is what the device's data sheet allows: the arithmetic of forward, recomputation and backward at its
dense bfloat16 peak, and three decodings of the 4-bit base (read, written and read again in 16 bits) at its
memory bandwidth. Prints a table.
"""

import argparse
import importlib.metadata
from collections.abc import Iterator
from itertools import chain
from statistics import median
from typing import NamedTuple

import torch
from training import LLAMA_7B, ONE_LAYER, PEAKS, decoder, model_flops
from transformers import LlamaConfig, PreTrainedModel

from lib.qlora.adapters import known_warnings, new_adapter, prepare
from lib.qlora.causal_models import NF4_BYTES
from lib.qlora.memory import base_bytes, trial_bytes
from lib.qlora.recipes import Recipe
from lib.qlora.side_by_side import Adapter, Learner, train_side_by_side
from lib.tiny import causal

BANDWIDTHS = {"A100": 2.0e12, "H100 80GB HBM3": 3.35e12, "H200": 4.8e12}
"""Bytes a second, from NVIDIA's data sheets, by a part of the device's name."""

DECODINGS = 3  # forward, recomputation, backward
TINY = LLAMA_7B | {
    "vocab_size": causal.VOCABULARY,
    "hidden_size": causal.HIDDEN_SIZE,
    "intermediate_size": 3 * causal.HIDDEN_SIZE,
    "num_hidden_layers": causal.LAYERS,
    "num_attention_heads": causal.HEADS,
}


class Shape(NamedTuple):
    """A base, how many tokens a text has, and how many steps are timed."""

    name: str
    config: LlamaConfig
    tokens: int
    steps: int


def shapes(device: torch.device, tokens: int | None) -> list[Shape]:
    """Return the bases that are measured on a device."""
    if device.type == "cuda":
        return [Shape("Llama 7B", LlamaConfig(**LLAMA_7B), tokens or 512, 10)]
    return [
        Shape("tiny-llama", LlamaConfig(**TINY), tokens or 30, 30),
        Shape("one layer of 7B", LlamaConfig(**ONE_LAYER), tokens or 128, 2),
    ]


def floor(shape: Shape, trials: int, device: torch.device) -> float | None:
    """Return the seconds of a step at the device's peaks; None where they are not known."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    part = next((part for part in PEAKS if part in name), None)
    if part is None:
        return None
    # Recomputation repeats the forward pass, a half of what forward and backward take of a frozen base.
    flops = 1.5 * trials * model_flops(shape.config, shape.tokens, frozen=True)
    d, inner = shape.config.hidden_size, shape.config.intermediate_size
    weights = shape.config.num_hidden_layers * (4 * d * d + 3 * d * inner)
    return flops / PEAKS[part] + DECODINGS * weights * (NF4_BYTES + 2 + 2) / BANDWIDTHS[part]


def train(base: PreTrainedModel, shape: Shape, recipe: Recipe, trials: int, adapter: Adapter) -> float:
    """Train copies of an adapter, and return the seconds of a step: what twice the steps take beyond them.

    On a GPU the first steps are launched one by one, and then captured, which does not count.
    """
    ids = torch.randint(shape.config.vocab_size, (2 * shape.steps, shape.tokens)).tolist()
    taken = []
    for steps in (shape.steps, 2 * shape.steps):
        learners = [
            Learner(adapter, recipe, ids, [0] * len(ids), range(steps), seed) for seed in range(trials)
        ]
        train_side_by_side(base, learners, at_a_time=trials)
        taken.append(sum(learner.seconds for learner in learners))
    return (taken[1] - taken[0]) / shape.steps


def rows(shape: Shape, device: torch.device, trials: int, repeats: int) -> Iterator[dict[str, str]]:
    """Measure one trial, and several; yield a row of the table for each."""
    on_gpu = device.type == "cuda"
    recipe = Recipe(compute="bfloat16" if on_gpu else "float32")
    dtype = getattr(torch, recipe.compute)
    base = prepare(decoder(shape.config, device, dtype, four_bit=True))
    adapter = new_adapter(base, recipe, 0)
    parameters = sum(matrix.numel() for matrix in adapter.values())
    one = trial_bytes(shape.config, recipe, shape.tokens, parameters=parameters, recomputed=on_gpu)
    taken: dict[int, list[float]] = {1: [], trials: []}
    peaks = {}
    for _ in range(repeats):
        for count, seconds in taken.items():
            if on_gpu:
                torch.cuda.empty_cache()
                torch.cuda.reset_peak_memory_stats(device)
            seconds.append(train(base, shape, recipe, count, adapter))
            peaks[count] = torch.cuda.max_memory_allocated(device) if on_gpu else None
    alone = median(taken[1])
    for count, seconds in taken.items():
        step, lowest, peak = median(seconds), floor(shape, count, device), peaks[count]
        yield {
            "base": f"{shape.name}, {shape.tokens} tokens",
            "trials": str(count),
            "s a step": f"{step:.3g}",
            "floor, s": "not known" if lowest is None else f"{lowest:.3g}",
            "times as fast a trial": f"{count * alone / step:.2f}",
            "peak, GB": "not measured" if peak is None else f"{peak / 1e9:.2f}",
            "estimate, GB": f"{(base_bytes(shape.config, recipe) + count * one) / 1e9:.2f}",
        }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: cuda where there is one")
    parser.add_argument("--trials", type=int, default=7, help="side by side (default: %(default)s)")
    parser.add_argument("--tokens", type=int, help="of each text (default: 512; on a CPU 30 and 128)")
    parser.add_argument("--repeats", type=int, default=3, help="turns (default: %(default)s)")
    options = parser.parse_args()
    device = torch.device(options.device or ("cuda" if torch.cuda.is_available() else "cpu"))
    on_gpu = device.type == "cuda"
    name = torch.cuda.get_device_name() if on_gpu else f"CPU, {torch.get_num_threads()} threads"
    packages = ("torch", "transformers", "bitsandbytes", "peft")
    print(", ".join([name, *(f"{package} {importlib.metadata.version(package)}" for package in packages)]))
    headed = False
    with known_warnings():
        for row in chain.from_iterable(
            rows(shape, device, options.trials, options.repeats) for shape in shapes(device, options.tokens)
        ):
            if not headed:
                print(f"\n| {' | '.join(row)} |\n|{' --- |' * len(row)}")
                headed = True
            print(f"| {' | '.join(row.values())} |", flush=True)


if __name__ == "__main__":
    main()
