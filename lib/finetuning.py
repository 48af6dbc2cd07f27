"""Fine-tune a classifier for one seed, and read what an encoder makes of texts."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainingArguments,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from lib.models import quiet_libraries
from lib.seeding import derive, fingerprint, generator, set_deterministic


@dataclass(frozen=True)
class Training:
    """What a training run did, beyond the weights that it left in the model.

    Attributes
    ----------
    losses : ndarray, (steps,)
        Training loss at each step, in nats.
    initial_weights, data_order, final_weights : str
        Fingerprints.
    """

    losses: np.ndarray
    initial_weights: str
    data_order: str
    final_weights: str


@dataclass(frozen=True)
class Encoded:
    """What a classifier makes of texts.

    Attributes
    ----------
    embeddings : ndarray, (texts, dim)
        The first token's vector after the last layer, float32.
    logits : ndarray, (texts, classes)
        Before the softmax, float32.
    """

    embeddings: np.ndarray
    logits: np.ndarray

    @property
    def predicted(self) -> np.ndarray:
        """The class with the highest logit: (texts,)."""
        return self.logits.argmax(axis=1)


def fine_tune(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    labels: Sequence[int],
    *,
    seed: int,
    epochs: int,
    learning_rate: float,
    batch_size: int,
    max_length: int,
    deterministic: bool = True,
) -> Training:
    """Fine-tune every weight of ``model`` that asks for a gradient, in place, as papers 1 and 2 do.

    AdamW with eps 1e-8 and no weight decay, the learning rate decaying linearly to zero without a warm-up,
    gradients clipped at norm 1 (the authors' code). The model's device is used.

    Parameters
    ----------
    model : PreTrainedModel
        A sequence classifier, built under the same seed; left in evaluation mode.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    texts : sequence of str, (texts,)
        Training texts.
    labels : sequence of int, (texts,)
        Their classes.
    seed : int
        Rules the order of the texts and dropout.
    epochs, batch_size : int
        Passes over the texts, texts a step.
    learning_rate : float
        At the first step.
    max_length : int
        Pieces at which a text is cut.
    deterministic : bool
        Ask for deterministic kernels (`lib.seeding.set_deterministic`).

    Raises
    ------
    FloatingPointError
        If the loss stops being a number, with the step.
    """
    set_deterministic(deterministic)
    pieces = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    order = data_order([len(ids) for ids in pieces], seed=seed, epochs=epochs, batch_size=batch_size)
    initial = fingerprint(model)
    trainer = run_trainer(
        Trainer,
        model=model,
        train_dataset=Dataset.from_dict({"input_ids": pieces, "labels": list(labels)}).select(order),
        data_collator=DataCollatorWithPadding(tokenizer),
        seed=seed,
        device=model.device,
        num_train_epochs=1,  # the order holds every epoch already
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        max_grad_norm=1.0,
        logging_strategy="steps",
        logging_steps=1,
    )
    model.eval()
    losses = np.array([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])  # (steps,)
    if not np.isfinite(losses).all():
        raise FloatingPointError(
            f"the training loss is not a number from step {np.argmin(np.isfinite(losses))} on"
        )
    return Training(losses, initial, fingerprint(order), fingerprint(model))


@torch.no_grad()
def encode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_length: int,
    batch_size: int = 64,
) -> Encoded:
    """Return the first token's embedding and the logits of every text, in the order given.

    Parameters
    ----------
    model : PreTrainedModel
        A sequence classifier, in evaluation mode.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    texts : sequence of str, (texts,)
        Any texts.
    max_length : int
        Pieces at which a text is cut.
    batch_size : int
        Texts at a time; changes the speed alone.
    """
    pieces = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    by_length = sorted(range(len(pieces)), key=lambda index: len(pieces[index]))  # saves padding
    embeddings = np.empty((len(pieces), model.config.hidden_size), np.float32)  # (texts, dim)
    logits = np.empty((len(pieces), model.config.num_labels), np.float32)  # (texts, classes)
    for start in range(0, len(pieces), batch_size):
        chosen = by_length[start : start + batch_size]
        batch = tokenizer.pad({"input_ids": [pieces[index] for index in chosen]}, return_tensors="pt")
        hidden = model.base_model(**batch.to(model.device)).last_hidden_state  # (batch, tokens, dim)
        embeddings[chosen] = hidden[:, 0].float().cpu().numpy()
        logits[chosen] = _head_logits(model, hidden).float().cpu().numpy()
    return Encoded(embeddings, logits)


@torch.no_grad()
def classify(model: PreTrainedModel, embeddings: np.ndarray) -> np.ndarray:
    """Return the class that a classifier gives each of `encode`'s embeddings: (texts, dim) -> (texts,)."""
    states = torch.from_numpy(embeddings).to(model.device)[:, None]  # the head reads the first token alone
    return _head_logits(model, states).argmax(dim=1).cpu().numpy()


def _head_logits(model: PreTrainedModel, hidden: torch.Tensor) -> torch.Tensor:
    """Apply the classification head to the last layer: (batch, tokens, dim) -> (batch, classes)."""
    if model.config.model_type == "bert":  # BERT's pooler stands before its head
        return model.classifier(model.bert.pooler(hidden))
    return model.classifier(hidden)


logger = logging.getLogger(__name__)


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
