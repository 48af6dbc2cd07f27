"""Further tiny encoders, pre-trained under other seeds, for the question whether freezing hides noise."""

from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import current_process, get_context
from pathlib import Path

import torch

from lib.tiny import pretrain_tiny_camembert


def pretrain_encoders(
    texts: Sequence[str],
    seeds: Sequence[int],
    *,
    steps: int,
    cache_dir: Path,
    device: torch.device | str,
) -> list[Path]:
    """Return the folders of tiny encoders that differ only in the seed of their pre-training.

    All are trained at the same time, each in one thread.

    Parameters
    ----------
    texts : sequence of str
        Unlabelled.
    seeds : sequence of int
        Each determines an encoder's initial weights, order of the texts and masks.
    steps : int
        Optimiser steps of each.
    cache_dir : Path
        Where encoders are kept; a kept one is not trained again.
    device : torch.device or str
        Where to train.
    """
    pretrain = partial(
        pretrain_tiny_camembert, list(texts), steps=steps, cache_dir=Path(cache_dir), device=str(device)
    )
    with ProcessPoolExecutor(
        len(seeds), mp_context=get_context("spawn"), initializer=_prepare_process
    ) as pool:
        futures = [pool.submit(pretrain, seed=seed) for seed in seeds]
        return [future.result() for future in futures]


def _prepare_process() -> None:
    torch.set_num_threads(1)
    # The collator that masks pieces takes any other process for a data loader's worker, and refuses to run.
    current_process().name = "MainProcess"
