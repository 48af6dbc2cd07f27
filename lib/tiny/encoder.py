"""tiny-camembert: CamemBERT's architecture and kind of tokenizer, pre-trained here on masked language.

Two million parameters, so that two CPU cores do it in a minute or two; what it has learned is measured
on held-out texts against the best that can be done without reading.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import transformers
from datasets import Dataset
from transformers import (
    BatchEncoding,
    CamembertConfig,
    CamembertForMaskedLM,
    CamembertTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
)

from lib.finetuning import data_order, run_trainer
from lib.seeding import derive, fingerprint, seed_everything
from lib.tiny.cooccurrence import piece_vectors
from lib.tiny.keeping import keep
from lib.tiny.vocabulary import train_tokenizer

logger = logging.getLogger(__name__)

HIDDEN_SIZE = 256
INTERMEDIATE_SIZE = 256  # not four times the hidden size: it learns as well here, and a third faster
LAYERS = 2
HEADS = 4  # of 64 dimensions each, as CamemBERT's
VOCABULARY = 8_000
MAX_LENGTH = 512  # pieces, as CamemBERT's
MASKED_SHARE = 0.4  # of the pieces, in training: more to learn from a step (Wettig et al., EACL 2023)
HELD_OUT_MASKED_SHARE = 0.15  # in the measurement, as in CamemBERT's own training
INITIALIZER_RANGE = 0.035  # standard deviation; larger than usual: short training leaves its plateau sooner
HELD_OUT_TEXTS = 200
REPORT = "pretraining.json"


@dataclass(frozen=True)
class PretrainingReport:
    """What pre-training did, on texts that it did not see; losses in nats per masked piece.

    Attributes
    ----------
    parameters : int
        Of the encoder with its language modelling head.
    texts, pieces : int
        Seen in training, each time counted.
    masked_loss : float
        Held-out masked language modelling loss.
    unigram_loss : float
        The same for the best guess that does not read: the frequencies of the training pieces.
    """

    parameters: int
    texts: int
    pieces: int
    masked_loss: float
    unigram_loss: float


def pretrain_tiny_camembert(
    texts: Sequence[str],
    *,
    seed: int,
    steps: int,
    cache_dir: Path,
    batch_size: int = 32,
    learning_rate: float = 2e-3,
    device: torch.device | str = "cpu",
) -> Path:
    """Return the folder of a tiny CamemBERT pre-trained on ``texts``, from the cache if it is there.

    Parameters
    ----------
    texts : sequence of str
        Unlabelled; the last 200 are held out.
    seed : int
        Rules initial weights, order, masks and dropout.
    steps : int
        Optimiser steps.
    cache_dir : Path
        Keeps the folder ``tiny-camembert-<fingerprint>``.
    batch_size : int
        Texts a step.
    learning_rate : float
        Peak, after a warm-up over a tenth of the steps; it decays linearly to zero.
    device : torch.device
        Where to train.

    Raises
    ------
    ValueError
        If there are too few texts to hold some out.
    """
    if len(texts) <= 2 * HELD_OUT_TEXTS:
        raise ValueError(f"pre-training texts = {len(texts)}: more than {2 * HELD_OUT_TEXTS} are wanted")
    device = torch.device(device)
    key = fingerprint(
        {
            "texts": list(texts),
            "training": [seed, steps, batch_size, learning_rate, device.type],
            "shape": [HIDDEN_SIZE, INTERMEDIATE_SIZE, LAYERS, HEADS, VOCABULARY, MAX_LENGTH],
            "drawn": [MASKED_SHARE, INITIALIZER_RANGE],
            "versions": [torch.__version__, transformers.__version__],
        }
    )
    folder = cache_dir / f"tiny-camembert-{key}"
    if not (folder / REPORT).is_file():
        logger.info("pre-training tiny-camembert on %d texts, %d steps", len(texts), steps)
        _pretrain_into(folder, texts, seed, steps, batch_size, learning_rate, device)
    return folder


def encoder(
    model: str, texts: Sequence[str], *, seed: int, steps: int, cache_dir: Path, device: torch.device
) -> str:
    """Return where a notebook's encoder is: a given one as given, tiny-camembert's folder once pre-trained.

    Parameters
    ----------
    model : str
        ``tiny-camembert``, a Hub id or a local folder.
    texts, seed, steps, cache_dir, device
        Of `pretrain_tiny_camembert`; other models do not need them.
    """
    if model != "tiny-camembert":
        return model
    return str(pretrain_tiny_camembert(texts, seed=seed, steps=steps, cache_dir=cache_dir, device=device))


def pretraining_report(folder: Path | str) -> PretrainingReport | None:
    """Read what pre-training reported about the model in ``folder``; None if it was pre-trained elsewhere."""
    report = Path(folder) / REPORT
    return PretrainingReport(**json.loads(report.read_text(encoding="utf-8"))) if report.is_file() else None


class _MaskedTrainer(Trainer):
    """Guesses each hidden piece twice: at its place, and from the first token, which stands for the text.

    Plain masked language modelling never asks anything of the first token. In a large encoder it gathers the
    text all the same; in a tiny one it would hold nothing that a frozen head could use.
    """

    def compute_loss(
        self, model: CamembertForMaskedLM, inputs: BatchEncoding, return_outputs: bool = False, **_: object
    ) -> torch.Tensor:
        return sum(masked_losses(model, **inputs))


def masked_losses(
    model: CamembertForMaskedLM, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the mean cross-entropies of hidden pieces, in nats: () at their place, () from the first token.

    The vocabulary is scored only where a guess is made, which halves the cost of a step.

    Parameters
    ----------
    model : CamembertForMaskedLM
        The language model.
    input_ids, attention_mask : Tensor, (batch, tokens)
        With the masks in place.
    labels : Tensor, (batch, tokens)
        The true piece where one was hidden, -100 elsewhere.
    """
    rows, places = torch.nonzero(labels != -100, as_tuple=True)  # (hidden,) each
    states = model.roberta(input_ids, attention_mask=attention_mask).last_hidden_state  # (batch, tokens, dim)
    true = labels[rows, places]
    at_place = torch.nn.functional.cross_entropy(model.lm_head(states[rows, places]), true)
    of_text = model.lm_head(states[:, 0]).log_softmax(-1)  # (batch, vocabulary)
    return at_place, -of_text[rows, true].mean()


def _pretrain_into(
    folder: Path,
    texts: Sequence[str],
    seed: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    device: torch.device,
) -> None:
    """Train, measure, and keep the model."""
    training_texts, held_out = texts[:-HELD_OUT_TEXTS], texts[-HELD_OUT_TEXTS:]
    tokenizer = train_tokenizer(training_texts, VOCABULARY, MAX_LENGTH)
    pieces = tokenizer(list(training_texts), truncation=True, max_length=MAX_LENGTH)["input_ids"]
    seed_everything(seed)
    model = CamembertForMaskedLM(_config(tokenizer))
    frequencies = _frequencies(pieces, tokenizer)
    _start_from_counts(model, frequencies, pieces, seed)
    epochs = math.ceil(steps * batch_size / len(pieces))
    order = data_order([len(ids) for ids in pieces], seed=seed, epochs=epochs, batch_size=batch_size)
    run_trainer(
        _MaskedTrainer,
        model=model,
        train_dataset=Dataset.from_dict({"input_ids": pieces}).select(order),
        data_collator=DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=MASKED_SHARE, seed=derive(seed, "masks")
        ),
        seed=seed,
        device=device,
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=learning_rate,
        warmup_steps=steps // 10,
        adam_beta2=0.98,  # as RoBERTa and CamemBERT were trained
        weight_decay=0.01,
        logging_strategy="no",
    )
    report = PretrainingReport(
        parameters=model.num_parameters(),
        texts=steps * batch_size,
        pieces=sum(len(pieces[index]) for index in order[: steps * batch_size]),
        **_held_out_losses(model, tokenizer, frequencies, held_out, seed),
    )
    keep(folder, model, tokenizer, {REPORT: asdict(report)})


def _config(tokenizer: CamembertTokenizer) -> CamembertConfig:
    """Describe the encoder; it has no dropout, neither here nor when it is fine-tuned.

    Drawing what to drop is a fifth of a CPU's step. In pre-training no text is seen often enough to overfit;
    in fine-tuning dropout gained no accuracy and did not overfit less (README). Only the classification head,
    which costs nothing, has CamemBERT's own.
    """
    return CamembertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN_SIZE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INTERMEDIATE_SIZE,
        max_position_embeddings=MAX_LENGTH + 2,  # position numbers start after the padding piece's
        initializer_range=INITIALIZER_RANGE,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        classifier_dropout=CamembertConfig().hidden_dropout_prob,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


@torch.no_grad()
def _start_from_counts(
    model: CamembertForMaskedLM, frequencies: torch.Tensor, pieces: list[list[int]], seed: int
) -> None:
    """Give the model what counting can tell, which training would otherwise spend most of its steps on.

    The output's bias starts at the unigram guess, the embeddings at co-occurrence vectors.
    """
    model.lm_head.bias.copy_(frequencies.log())
    inner = [ids[1:-1] for ids in pieces]
    vectors = piece_vectors(inner, len(frequencies), model.config.hidden_size, seed)
    model.roberta.embeddings.word_embeddings.weight.copy_(torch.from_numpy(vectors) * INITIALIZER_RANGE)


def _frequencies(pieces: list[list[int]], tokenizer: CamembertTokenizer) -> torch.Tensor:
    """Return the frequency of every piece in the training texts, one added to each count: (vocabulary,)."""
    special = set(tokenizer.all_special_ids)
    counts = Counter(piece for ids in pieces for piece in ids if piece not in special)
    smoothed = torch.tensor([counts[piece] + 1.0 for piece in range(len(tokenizer))])
    return smoothed / smoothed.sum()


@torch.no_grad()
def _held_out_losses(
    model: CamembertForMaskedLM,
    tokenizer: CamembertTokenizer,
    frequencies: torch.Tensor,
    held_out: Sequence[str],
    seed: int,
) -> dict[str, float]:
    """Measure both losses on the same masked pieces of the held-out texts."""
    collator = DataCollatorForLanguageModeling(
        tokenizer, mlm_probability=HELD_OUT_MASKED_SHARE, seed=derive(seed, "held out")
    )
    pieces = tokenizer(list(held_out), truncation=True, max_length=MAX_LENGTH)["input_ids"]
    batch = collator([{"input_ids": ids} for ids in pieces])
    masked = batch["labels"][batch["labels"] != -100]
    model.eval()
    at_place, _ = masked_losses(model, **batch.to(model.device))
    return {"masked_loss": at_place.item(), "unigram_loss": -frequencies[masked].log().mean().item()}
