"""How a transformers Trainer is run here: quiet, reproducible, with the order of the data known."""

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from datasets import disable_progress_bars, enable_progress_bars
from datasets.utils import are_progress_bars_disabled
from transformers import PrinterCallback, Trainer, TrainingArguments
from transformers.trainer_pt_utils import LengthGroupedSampler
from transformers.utils import logging as transformers_logging

from lib.seeding import derive, generator

logger = logging.getLogger(__name__)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Keep transformers' and datasets' reports and progress bars out of a notebook, errors excepted."""
    verbosity = transformers_logging.get_verbosity()
    transformers_bars = transformers_logging.is_progress_bar_enabled()
    datasets_bars = not are_progress_bars_disabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    disable_progress_bars()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if transformers_bars:
            transformers_logging.enable_progress_bar()
        if datasets_bars:
            enable_progress_bars()


def data_order(lengths: Sequence[int], *, seed: int, epochs: int, batch_size: int) -> list[int]:
    """Return the order in which a run sees its texts, all epochs in a row: (epochs * texts,).

    Texts of like length go together, which saves padding; which ones, and in which order the batches come, is
    drawn from the seed's own stream for the order.

    Parameters
    ----------
    lengths : sequence of int, (texts,)
        Lengths in pieces.
    seed : int
        The run's seed.
    epochs, batch_size : int
        As in the training that follows.
    """
    stream = generator(derive(seed, "data order"))
    sampler = LengthGroupedSampler(batch_size, lengths=list(lengths), generator=stream)
    return [index for _ in range(epochs) for index in sampler]


def mixed_precision(device: torch.device) -> bool:
    """Whether classifiers are trained in mixed precision with bfloat16: on a GPU that has it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def run_trainer(trainer_class: type[Trainer], *, seed: int, device: torch.device, **given: Any) -> Trainer:
    """Train with a transformers Trainer that writes, reports and prints nothing, and return it.

    Its AdamW is PyTorch's fused one. Products in float32 are not rounded to TF32, which is PyTorch's default.

    Parameters
    ----------
    trainer_class : type
        ``Trainer`` or a subclass.
    seed : int
        Seeds dropout (and what else the trainer draws) through the trainer's own ``seed``.
    device : torch.device
        Where to train.
    **given
        ``model``, ``train_dataset``, ``data_collator`` and ``callbacks`` go to the trainer, the rest to its
        ``TrainingArguments``; ``bf16``, unless given, is what `mixed_precision` says.
    """
    parts = {
        name: given.pop(name)
        for name in ("model", "train_dataset", "data_collator", "callbacks")
        if name in given
    }
    given.setdefault("bf16", mixed_precision(device))
    with tempfile.TemporaryDirectory() as folder, quiet_libraries():
        arguments = TrainingArguments(
            output_dir=folder,
            seed=seed,
            use_cpu=device.type == "cpu",
            report_to="none",
            logging_nan_inf_filter=False,  # a loss that is no number must show
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=device.type == "cuda",
            train_sampling_strategy="sequential",
            **given,
        )
        if device.type == "cuda":
            arguments._n_gpu = (
                1  # else each GPU that the Trainer sees gets a batch, and a step is of them all
            )
        trainer = trainer_class(args=arguments, **parts)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return trainer
