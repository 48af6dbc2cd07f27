"""Measure token_relevance against a training step, captum's integrated gradients and itself on 4-bit weights.

    PYTHONPATH=. python benchmarks/relevance.py [--device cuda]

CamemBERT-base's size, 128 tokens: 8 texts on two CPU threads; then 64 on CUDA where there is a device, also
with products in TF32, the rules fused. The floor is the arithmetic of a linear layer's products, at the
measured rate: five in float32; in TF32 seven, three of them for a forward pass that is hardly rounded.
Weights are random: speed does not depend on them. The contestants take turns, a ratio is taken within a turn,
and medians over the turns are printed. Memory is the most that a fresh process holds beyond what it held with
the model loaded (resident on a CPU, read from Linux's /proc; allocated on CUDA).
"""

import argparse
import importlib.metadata
import multiprocessing
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from limits import Limits, described, wait
from limits import measure as limits_of
from torch.nn import Linear
from transformers import CamembertConfig, CamembertForSequenceClassification, PreTrainedModel

from lib.attribution import integrated_gradients
from lib.lrp import token_relevance
from lib.quantization import quantize

STEP, RELEVANCE, INTEGRATED, FOUR_BIT = "training step", "relevance", "integrated gradients", "relevance, NF4"
TF32 = "relevance, TF32"
PRODUCTS = {RELEVANCE: 5, TF32: 7}  # per linear layer: one or three in the forward pass, and four
PAIRS = [(RELEVANCE, STEP, "at most 2.2"), (INTEGRATED, RELEVANCE, ""), (FOUR_BIT, RELEVANCE, "")]
MEBIBYTE = 2**20


def contestant(name: str, model: PreTrainedModel, shape: argparse.Namespace) -> Callable[[], object]:
    """Return what is measured; a training step is forward and backward, dropout on, gradients made anew."""
    ids = torch.randint(5, model.config.vocab_size, (shape.batch, shape.tokens), device=model.device)
    labels = torch.zeros(shape.batch, dtype=torch.long, device=model.device)

    def training_step() -> None:
        model.train().zero_grad()
        model(ids, labels=labels).loss.backward()

    if name == FOUR_BIT:
        four_bit = quantize(model, "nf4")
        return lambda: token_relevance(four_bit, ids)
    return {
        STEP: training_step,
        RELEVANCE: lambda: token_relevance(model, ids),
        TF32: lambda: token_relevance(model, ids, precision="tf32"),
        INTEGRATED: lambda: integrated_gradients(model, ids),
    }[name]


def classifier(shape: argparse.Namespace, device: str) -> PreTrainedModel:
    """Build a random CamemBERT; the defaults are the size of CamemBERT-base."""
    torch.manual_seed(0)
    config = CamembertConfig(
        vocab_size=32_005,
        max_position_embeddings=514,
        type_vocab_size=1,
        hidden_size=shape.hidden,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.hidden // 64,
        intermediate_size=4 * shape.hidden,
    )
    return CamembertForSequenceClassification(config).to(device)


def seconds(function: Callable[[], object], device: str) -> float:
    """Time one call, to the end of its work on the device."""
    started = time.perf_counter()
    function()
    wait(torch.device(device))
    return time.perf_counter() - started


def peak_memory(name: str, shape: argparse.Namespace, device: str) -> float:
    """Call a contestant twice; return the most memory held beyond the loaded model, in MiB."""
    torch.set_num_threads(shape.threads)
    function = contestant(name, classifier(shape, device), shape)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated() / MEBIBYTE
    else:
        Path("/proc/self/clear_refs").write_text("5")  # starts the peak again from what is resident now
        before = resident("VmRSS")
    for _ in range(2):
        function()
    peak = torch.cuda.max_memory_allocated() / MEBIBYTE if device == "cuda" else resident("VmHWM")
    return peak - before


def resident(field: str) -> float:
    """Read this process's resident memory, now (VmRSS) or at its peak (VmHWM), in MiB."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith(field)).split()[1]) / 1024


def floor(name: str, model: PreTrainedModel, shape: argparse.Namespace, limits: Limits) -> float:
    """Return the least seconds of an explanation by LRP, from its products alone."""
    weights = sum(
        part.weight.numel() for part in model.base_model.encoder.modules() if isinstance(part, Linear)
    )
    rate = limits.products["tf32" if name == TF32 else "float32"]
    return PRODUCTS[name] * 2 * weights * shape.batch * shape.tokens / rate


def measure(shape: argparse.Namespace, device: str) -> None:
    """Print the table of one device."""
    limits = limits_of(torch.device(device))
    model = classifier(shape, device)
    names = [STEP, RELEVANCE, INTEGRATED, FOUR_BIT] + [TF32] * (device == "cuda")
    functions = {name: contestant(name, model, shape) for name in names}
    for function in functions.values():
        seconds(function, device)  # the first call is slower, and not counted
    turns = [
        {name: seconds(function, device) for name, function in functions.items()}
        for _ in range(shape.repeats)
    ]
    floors = {name: floor(name, model, shape, limits) for name in names if name in PRODUCTS}
    del functions, model
    memory = {}
    for name in (STEP, RELEVANCE, FOUR_BIT):
        # A fresh process each: a process's peak never falls.
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            memory[name] = pool.apply(peak_memory, (name, shape, device))
    place = torch.cuda.get_device_name() if device == "cuda" else f"{shape.threads} CPU cores"
    print(
        f"\n{place}: {shape.layers} layers x {shape.hidden}, {shape.batch} x {shape.tokens} tokens, float32"
    )
    print(described(limits))
    print(f"median of {shape.repeats} turns; target on a GPU: 1,000 texts/s\n")
    print("| | seconds | floor, s | texts/s | memory, MiB |\n| --- | --- | --- | --- | --- |")
    for name in turns[0]:
        held = f"{memory[name]:.0f}" if name in memory else ""
        least = f"{floors[name]:.4f}" if name in floors else ""
        taken = median(turn[name] for turn in turns)
        print(f"| {name} | {taken:.4f} | {least} | {shape.batch / taken:.1f} | {held} |")
    print("\n| ratio | median | lowest | highest | target |\n| --- | --- | --- | --- | --- |")
    for name, other, asked in PAIRS:
        ratios = [turn[name] / turn[other] for turn in turns]
        print(
            f"| {name} / {other} | {median(ratios):.2f} | {min(ratios):.2f} | {max(ratios):.2f} | {asked} |"
        )
    print(f"| memory: {RELEVANCE} / {STEP} | {memory[RELEVANCE] / memory[STEP]:.2f} | | | less than 1 |")


def main() -> None:
    """Measure on the CPU, and on CUDA where there is a device."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in {"repeats": 3, "threads": 2, "tokens": 128}.items():
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--batch", type=int, help="texts (default: 8; on CUDA 64)")
    parser.add_argument("--device", choices=("cpu", "cuda"), help="default: the CPU, then CUDA")
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--hidden", type=int, default=768, help="a multiple of 64")
    shape = parser.parse_args()
    torch.set_num_threads(shape.threads)
    versions = (
        f"{name} {importlib.metadata.version(name)}" for name in ("torch", "transformers", "bitsandbytes")
    )
    print(", ".join(versions))
    both = ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)
    for device in (shape.device,) if shape.device else both:
        batch = shape.batch or (64 if device == "cuda" else 8)
        measure(argparse.Namespace(**{**vars(shape), "batch": batch}), device)


if __name__ == "__main__":
    main()
