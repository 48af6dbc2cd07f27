"""Compare the heads of many seeds trained together with the same heads trained one by one.

    PYTHONPATH=. python benchmarks/heads.py [--dims 128 768] [--seeds 200] [--steps N] [--device cpu]

The other side is the loop that one would write: a transformers classification head and torch.optim.AdamW with
its defaults (and once more with ``fused=True``), one seed after the other. The floor is what AdamW moves at
the rate of the memory, as measured here. A time is that of twice the steps minus that of the steps, so that
initial weights and, on a GPU, the capture of a step do not count. Prints a table in Markdown.
"""

import argparse
import time
from collections.abc import Callable, Mapping
from functools import partial

import torch
from limits import OPTIMIZER_BYTES, Limits, described, measure, wait
from torch import Tensor
from transformers import CamembertConfig
from transformers.models.camembert.modeling_camembert import CamembertClassificationHead

from lib.frozen import heads_side_by_side, train_heads

BATCH = 4  # in the authors' code
LOOP_HEADS = 3  # that the loop trains
CPU_WEIGHTS = 2**23  # of all heads of a size, at most, on a CPU; a GPU trains all of them
COLUMNS = [
    "dim",
    "heads",
    "side by side",
    "loop",
    "fused loop",
    "together",
    "ms a step of all",
    "its floor",
    "times the loop's speed",
    "times the fused loop's",
]


def one_by_one(embeddings: Tensor, labels: Tensor, seeds: range, *, fused: bool | None) -> None:
    """Train one head per seed with a plain PyTorch loop."""
    dim, device = embeddings.shape[1], embeddings.device
    for seed in seeds:
        torch.manual_seed(seed)
        config = CamembertConfig(hidden_size=dim, hidden_dropout_prob=0.0, num_attention_heads=1)
        head = CamembertClassificationHead(config).to(device)
        optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, fused=fused)
        for batch in torch.randperm(len(labels), device=device).split(BATCH):
            loss = torch.nn.functional.cross_entropy(head(embeddings[batch, None]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(head.parameters(), 1.0)
            optimizer.step()


def together(embeddings: Tensor, labels: Tensor, seeds: range, side_by_side: int | None) -> None:
    """Train them as the notebook does."""
    train_heads(
        embeddings,
        labels,
        seeds,
        epochs=1,
        learning_rate=1e-3,
        batch_size=BATCH,
        side_by_side=side_by_side,
        device=embeddings.device,
    )


def seconds(
    sides: Mapping[str, Callable[[Tensor, Tensor], object]],
    embeddings: Tensor,
    labels: Tensor,
    repeats: int,
) -> dict[str, float]:
    """Return what the second half of the texts adds to each side's time, in seconds.

    The fastest of some runs of each length counts: what else runs on the machine only adds time. The sides
    take turns, so a slow minute of the machine affects all of them.
    """
    half = len(labels) // 2
    taken = {name: dict.fromkeys((half, 2 * half), float("inf")) for name in sides}
    for _ in range(repeats):
        for name, work in sides.items():
            for texts, before in taken[name].items():
                start = time.perf_counter()
                work(embeddings[:texts], labels[:texts])
                wait(embeddings.device)
                taken[name][texts] = min(before, time.perf_counter() - start)
    added = {name: both[2 * half] - both[half] for name, both in taken.items()}
    if min(added.values()) <= 0:
        raise SystemExit(f"{half // BATCH} steps are too few to be timed on this machine: give more --steps")
    return added


def row(dim: int, options: argparse.Namespace, limits: Limits) -> list[str]:
    """Measure heads of one size: a row of the table."""
    device = torch.device(options.device)
    embeddings = torch.randn(2 * options.steps * BATCH, dim, device=device)
    labels = (embeddings[:, 0] > 0).long()
    heads = options.seeds if device.type == "cuda" else min(options.seeds, CPU_WEIGHTS // dim**2)
    few = range(min(LOOP_HEADS, heads))
    sides = {
        "loop": partial(one_by_one, seeds=few, fused=None),
        "fused": partial(one_by_one, seeds=few, fused=True),
        "together": partial(together, seeds=range(heads), side_by_side=options.together),
    }
    taken = seconds(sides, embeddings, labels, options.repeats)
    each = {name: 1e3 * taken[name] / (heads if name == "together" else len(few)) for name in sides}
    return [
        str(dim),
        str(heads),
        str(options.together or heads_side_by_side(dim, device)),
        *(f"{each[name]:.2f}" for name in sides),
        f"{1e3 * taken['together'] / options.steps:.2f}",
        f"{1e3 * OPTIMIZER_BYTES * heads * dim**2 / limits.bandwidth:.2f}",
        *(f"{each[name] / each['together']:.1f}" for name in ("loop", "fused")),
    ]


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", type=int, nargs="+", default=[64, 128, 256, 512, 768, 1024])
    parser.add_argument("--seeds", type=int, default=200, help="heads; of large ones fewer tell as much")
    parser.add_argument("--steps", type=int, help="of 4 texts, for each head (default: 200, on a GPU 1,000)")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--together", type=int, help="heads side by side, instead of the automatic choice")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    options.steps = options.steps or (1_000 if options.device == "cuda" else 200)
    threads = torch.get_num_threads()
    limits = measure(torch.device(options.device))
    print(described(limits))
    print(
        f"{options.steps} steps of {BATCH} texts, {options.device}, {threads} threads, milliseconds a head\n"
    )
    print(f"| {' | '.join(COLUMNS)} |\n|{' --- |' * len(COLUMNS)}")
    for dim in options.dims:
        print(f"| {' | '.join(row(dim, options, limits))} |", flush=True)
    print("\ntarget: 200 heads of 768-D on a GPU at most 2.5 ms a step, 100 times the loop's speed")


if __name__ == "__main__":
    main()
