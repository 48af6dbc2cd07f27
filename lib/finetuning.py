"""Fine-tune a classifier under one seed, encode texts with it, and run a transformers Trainer reproducibly.

`fine_tune` trains as papers 1 and 2 describe, or as their authors' code does (`lib.recipes`); `run_trainer`
is the part that every training with a transformers Trainer shares.
"""

import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import torch
from datasets import Dataset
from transformers import (
    DataCollatorWithPadding,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

from lib.architectures import head_layers, head_logits
from lib.models import quiet_libraries
from lib.recipes import MAX_GRADIENT_NORM, Schedule, TrainingRecipe
from lib.seeding import fingerprint

AnyTrainer = TypeVar("AnyTrainer", bound=Trainer)


@dataclass(frozen=True)
class Training:
    """What a training run did, besides changing the model's weights.

    Attributes
    ----------
    losses : ndarray, (steps,)
        Training loss at each trained step, in nats.
    initial_weights, data_order, final_weights : str
        Fingerprints.
    fallback : str
        Why the model was trained alone although it should have been trained beside others
        (`lib.ensembles.fine_tune_together`); empty if it was trained as requested.
    """

    losses: np.ndarray
    initial_weights: str
    data_order: str
    final_weights: str
    fallback: str = ""


@dataclass(frozen=True)
class Encoded:
    """A classifier's embeddings and logits of several texts.

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
    schedule: Schedule = "described",
    shuffled: bool = True,
    after_epoch: Callable[[], None] | None = None,
) -> Training:
    """Fine-tune every weight of ``model`` that requires a gradient, in place, as papers 1 and 2 do.

    AdamW with eps 1e-8 and a weight decay of 0.01, a learning rate that decays linearly to zero without
    warm-up, gradients clipped at norm 1, and one order of the texts for all epochs (the authors' code).
    Training stops where the rate reaches 0: nothing would change a weight from there on. Training runs on the
    model's device.

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
        Determines the order of the texts and dropout.
    epochs, learning_rate, batch_size, schedule, shuffled
        See `lib.recipes.TrainingRecipe`; ``authors`` is the schedule of the authors' code.
    max_length : int
        Texts are truncated to this many word pieces.
    after_epoch : callable, optional
        Called after each epoch that is trained to its end, such as to measure ``model``, which it may leave
        in evaluation mode. The authors' schedule usually ends before the first epoch does.

    Raises
    ------
    FloatingPointError
        If the loss is not finite at some step; names the first such step.
    ValueError
        If the recipe is invalid, or trains no step on so few texts.
    """
    recipe = TrainingRecipe(epochs, learning_rate, batch_size, schedule, shuffled)
    pieces = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    order = recipe.order(len(texts), seed).tolist()
    initial = fingerprint(model)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    trainer = run_trainer(
        Trainer,
        model=model,
        train_dataset=Dataset.from_dict({"input_ids": pieces, "labels": list(labels)}).select(order),
        data_collator=DataCollatorWithPadding(tokenizer),
        optimizers=recipe.optimizer(trained, len(texts)),
        callbacks=[] if after_epoch is None else [_AfterEpoch(after_epoch, -(-len(texts) // batch_size))],
        seed=seed,
        device=model.device,
        max_steps=recipe.steps(len(texts)),
        per_device_train_batch_size=batch_size,
        max_grad_norm=MAX_GRADIENT_NORM,
        logging_strategy="steps",
        logging_steps=1,
    )
    model.eval()
    losses = np.array([entry["loss"] for entry in trainer.state.log_history if "loss" in entry])  # (steps,)
    if not np.isfinite(losses).all():
        raise FloatingPointError(
            f"the training loss is not finite from step {np.isfinite(losses).argmin()} on"
        )
    return Training(losses, initial, fingerprint(order), fingerprint(model))


class _AfterEpoch(TrainerCallback):
    """Calls a function whenever an epoch's batches have all been trained."""

    def __init__(self, action: Callable[[], None], batches: int) -> None:
        self.action, self.batches = action, batches

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % self.batches == 0:
            self.action()


@torch.no_grad()
def encode(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    *,
    max_length: int,
    batch_size: int = 64,
) -> Encoded:
    """Return the first token's embedding and the logits of every text, in the given order.

    Parameters
    ----------
    model : PreTrainedModel
        A sequence classifier, in evaluation mode.
    tokenizer : PreTrainedTokenizerBase
        Its tokenizer.
    texts : sequence of str, (texts,)
        Any texts.
    max_length : int
        Texts are truncated to this many word pieces.
    batch_size : int
        Texts per batch; affects the speed only.
    """
    pieces = tokenizer(list(texts), truncation=True, max_length=max_length)["input_ids"]
    by_length = sorted(range(len(pieces)), key=lambda index: len(pieces[index]))  # saves padding
    embeddings = np.empty((len(pieces), model.config.hidden_size), np.float32)  # (texts, dim)
    labels = head_layers(model)[1].out_features
    logits = np.empty((len(pieces), labels), np.float32)  # (texts, classes)
    for start in range(0, len(pieces), batch_size):
        chosen = by_length[start : start + batch_size]
        batch = tokenizer.pad({"input_ids": [pieces[index] for index in chosen]}, return_tensors="pt")
        hidden = model.base_model(**batch.to(model.device)).last_hidden_state  # (batch, tokens, dim)
        embeddings[chosen] = hidden[:, 0].float().cpu().numpy()
        logits[chosen] = head_logits(model, hidden).float().cpu().numpy()
    return Encoded(embeddings, logits)


@torch.no_grad()
def classify(model: PreTrainedModel, embeddings: np.ndarray) -> np.ndarray:
    """Return the class that a classifier predicts from `encode`'s embeddings: (texts, dim) -> (texts,)."""
    states = torch.from_numpy(embeddings).to(model.device)[:, None]  # the head reads only the first token
    return head_logits(model, states).argmax(dim=1).cpu().numpy()


def mixed_precision(device: torch.device) -> bool:
    """Return whether classifiers are trained in mixed precision with bfloat16: on GPUs that support it."""
    return device.type == "cuda" and torch.cuda.is_bf16_supported()


def run_trainer(
    trainer_class: Callable[..., AnyTrainer], *, seed: int, device: torch.device, **given: Any
) -> AnyTrainer:
    """Train with a transformers Trainer that saves, reports and prints nothing, and return the trainer.

    The default optimizer is PyTorch's fused AdamW. Float32 products are not rounded to TF32 (PyTorch's
    default).

    Parameters
    ----------
    trainer_class : callable
        ``Trainer``, a subclass, or a partial of one.
    seed : int
        The trainer's ``seed``, which determines dropout and whatever else the trainer draws.
    device : torch.device
        Where to train.
    **given
        ``model``, ``train_dataset``, ``data_collator``, ``optimizers`` and ``callbacks`` go to the trainer,
        everything else to its ``TrainingArguments``; ``bf16`` defaults to `mixed_precision`.
    """
    parts = {
        name: given.pop(name)
        for name in ("model", "train_dataset", "data_collator", "optimizers", "callbacks")
        if name in given
    }
    given.setdefault("bf16", mixed_precision(device))
    with tempfile.TemporaryDirectory() as folder, quiet_libraries():
        arguments = TrainingArguments(
            output_dir=folder,
            seed=seed,
            use_cpu=device.type == "cpu",
            report_to="none",
            logging_nan_inf_filter=False,  # a loss that is not finite must be visible
            save_strategy="no",
            disable_tqdm=True,
            dataloader_pin_memory=device.type == "cuda",
            train_sampling_strategy="sequential",
            **given,
        )
        if device.type == "cuda":
            # With several visible GPUs, the Trainer would otherwise multiply the batch size by their number.
            arguments._n_gpu = 1
        trainer = trainer_class(args=arguments, **parts)
        trainer.remove_callback(PrinterCallback)
        trainer.train()
    return trainer
