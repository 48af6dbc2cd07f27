"""Compare the heads of many seeds trained together with the same heads trained one by one.

    python benchmarks/heads.py [--dims 128 768] [--seeds 200] [--steps 50] [--device cpu]

The other side is the loop that one would write: a transformers classification head and torch.optim.AdamW with
its defaults (and once more with ``fused=True``), one seed after the other. Prints a table; writes nothing.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial

import pandas as pd
import torch
from torch import Tensor
from transformers import CamembertConfig
from transformers.models.camembert.modeling_camembert import CamembertClassificationHead

from lib.frozen import heads_side_by_side, train_heads

BATCH = 4  # paper 2's


def one_by_one(embeddings: Tensor, labels: Tensor, seeds: range, *, fused: bool | None) -> None:
    """Train a head a seed with a plain PyTorch loop."""
    dim, device = embeddings.shape[1], embeddings.device
    for seed in seeds:
        torch.manual_seed(seed)
        config = CamembertConfig(hidden_size=dim, hidden_dropout_prob=0.0, num_attention_heads=1)
        head = CamembertClassificationHead(config).to(device)
        optimizer = torch.optim.AdamW(head.parameters(), lr=1e-3, weight_decay=0.0, fused=fused)
        for batch in torch.randperm(len(labels), device=device).split(BATCH):
            loss = torch.nn.functional.cross_entropy(head(embeddings[batch, None]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
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


def seconds(work: Callable[[], object], device: torch.device, repeats: int) -> float:
    """Return the fastest of some runs, in seconds: what else runs on the machine only ever adds time."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        taken.append(time.perf_counter() - start)
    return min(taken)


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dims", type=int, nargs="+", default=[32, 128, 256, 512, 768])
    parser.add_argument("--seeds", type=int, default=200)
    parser.add_argument("--loop-seeds", type=int, default=5, help="seeds of the loop; its time is scaled up")
    parser.add_argument("--steps", type=int, default=50, help="of 4 texts, for each seed")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--together", type=int, help="heads side by side, instead of the automatic choice")
    parser.add_argument("--device", default="cpu")
    options = parser.parse_args()
    device = torch.device(options.device)

    rows = []
    for dim in options.dims:
        embeddings = torch.randn(options.steps * BATCH, dim, device=device)
        labels = (embeddings[:, 0] > 0).long()
        seeds, few = range(options.seeds), range(options.loop_seeds)
        sides = {
            "loop": partial(one_by_one, embeddings, labels, few, fused=None),
            "fused loop": partial(one_by_one, embeddings, labels, few, fused=True),
            "together": partial(together, embeddings, labels, seeds, options.together),
        }
        taken = {name: seconds(work, device, options.repeats) for name, work in sides.items()}
        for name in ("loop", "fused loop"):
            taken[name] *= len(seeds) / len(few)
        rows.append(
            {
                "dim": dim,
                "side by side": options.together or heads_side_by_side(dim, 2, device),
                **{f"{name}, s": value for name, value in taken.items()},
                "times faster": taken["loop"] / taken["together"],
                "than the fused loop": taken["fused loop"] / taken["together"],
            }
        )
    threads = torch.get_num_threads()
    print(f"{options.seeds} heads, {options.steps} steps of {BATCH}, {device}, {threads} threads")
    print(pd.DataFrame(rows).round(2).to_string(index=False))


if __name__ == "__main__":
    main()
