"""tiny-camembert: CamemBERT's architecture and kind of tokenizer, pre-trained here without labels.

Two million parameters, pre-trained in two minutes on two CPU cores, to predict masked pieces and, from the
first token, the pieces that a text holds. What the encoder has learned is measured on held-out texts, against
guessing by the frequencies of the pieces.
"""

import logging
import math
from collections import Counter
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import (
    CamembertConfig,
    CamembertForMaskedLM,
    CamembertTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    set_seed,
)
from transformers.trainer_pt_utils import LengthGroupedSampler

from lib.architectures import readable_pieces
from lib.checkpoints import config_folder, model_folder
from lib.models import ModelError, check_encoder_files, encoder_config
from lib.precision import default_precision
from lib.runs.provenance import files_fingerprint, versions
from lib.seeding import derive, fingerprint, generator
from lib.tiny.cooccurrence import piece_vectors
from lib.tiny.keeping import is_kept, keep
from lib.tiny.vocabulary import train_tokenizer
from lib.trained_parts import LORA
from lib.trainer import run_trainer

logger = logging.getLogger(__name__)

TINY_CAMEMBERT = "tiny-camembert"
HIDDEN_SIZE = 256
INTERMEDIATE_SIZE = 256  # not four times the hidden size: learns as well here, a third faster
LAYERS = 3
HEADS = 4  # of 64 dimensions each, as CamemBERT's
VOCABULARY = 8_000
MAX_LENGTH = 512  # pieces, as CamemBERT's
MASKED_SHARE = 0.4  # of the pieces, in training: each step teaches more (Wettig et al., EACL 2023)
HELD_OUT_MASKED_SHARE = 0.15  # in the measurement, as in CamemBERT's own training
INITIALIZER_RANGE = 0.035  # standard deviation; larger than usual, so training leaves its plateau sooner
HELD_OUT_TEXTS = 200
BATCH_SIZE = 32  # texts
LEARNING_RATE = 1e-3  # the peak, after a warm-up over a tenth of the steps; it decays linearly to zero

LIB = Path(__file__).parents[1]
# The code that decides weights and the tokenizer.
CODE = (
    "tiny/encoder.py",
    "tiny/cooccurrence.py",
    "tiny/vocabulary.py",
    "trainer.py",
    "precision.py",
    "seeding.py",
)


def pretrain_tiny_camembert(
    texts: Sequence[str],
    *,
    seed: int,
    steps: int,
    cache_dir: Path,
    device: torch.device | str = "cpu",
) -> Path:
    """Return the folder of a tiny CamemBERT pre-trained on ``texts``, training it unless it is cached.

    `lib.tiny.read_report` reads what pre-training reports about it:

    - ``parameters``: of the encoder with its language modelling head;
    - ``texts``, ``pieces``: seen in training, counted each time;
    - ``masked_loss``: held-out masked language modelling loss, in nats per masked piece;
    - ``unigram_loss``: the same loss when guessing by the frequencies of the training pieces.

    Parameters
    ----------
    texts : sequence of str
        Unlabelled; the last 200 are held out.
    seed : int
        Determines initial weights, order and masks.
    steps : int
        Optimiser steps.
    cache_dir : Path
        Holds the folder ``tiny-camembert-<fingerprint>``.
    device : torch.device
        Where to train.

    Raises
    ------
    ValueError
        If there are too few texts to hold out 200.
    """
    if len(texts) <= 2 * HELD_OUT_TEXTS:
        raise ValueError(f"pre-training texts = {len(texts)}; allowed: more than {2 * HELD_OUT_TEXTS}")
    device = torch.device(device)
    folder = _folder(texts, seed, steps, cache_dir, device)
    if not is_kept(folder):
        logger.info("pre-training tiny-camembert on %d texts, %d steps", len(texts), steps)
        _pretrain_into(folder, texts, seed, steps, device)
    return folder


def check_encoder(model: str, *, max_length: int, ranks: Sequence[int] = ()) -> None:
    """Check that an encoder exists and is suitable, before its weights are fetched.

    Parameters
    ----------
    model : str
        ``tiny-camembert``, a Hub id or a local folder.
    max_length : int
        Word pieces in the longest text.
    ranks : sequence of int
        Of the low-rank adapters that the encoder is to get.

    Raises
    ------
    ModelError
        In one line; as `lib.checkpoints.config_folder` and `lib.models.encoder_config`, and if texts of that
        length exceed what the encoder can read, or a rank its dimension.
    """
    readable, dimension = MAX_LENGTH, HIDDEN_SIZE
    if model != TINY_CAMEMBERT:
        config = encoder_config(config_folder(model))
        readable, dimension = readable_pieces(config), config.hidden_size
    if max_length > readable:
        raise ModelError(
            f"max_length = {max_length}: allowed for model {model!r}: at most {readable} word pieces"
        )
    if max(ranks, default=0) > dimension:
        raise ModelError(
            f"curve holds {LORA}:{max(ranks)}; allowed for model {model!r}: ranks up to its dimension, "
            f"{dimension}"
        )


def encoder_folder(
    model: str, texts: Sequence[str], *, seed: int, steps: int, cache_dir: Path, device: torch.device
) -> str:
    """Return where an encoder can be loaded from; tiny-camembert is pre-trained first, unless it is cached.

    Parameters
    ----------
    model : str
        ``tiny-camembert``, a Hub id or a local folder.
    texts, seed, steps, cache_dir, device
        As for `pretrain_tiny_camembert`; only used for ``tiny-camembert``.

    Raises
    ------
    ModelError
        As `lib.checkpoints.model_folder` and `lib.models.check_encoder_files`.
    """
    if model != TINY_CAMEMBERT:
        folder = model_folder(model)
        check_encoder_files(folder)
        return str(folder)
    return str(pretrain_tiny_camembert(texts, seed=seed, steps=steps, cache_dir=cache_dir, device=device))


def _folder(texts: Sequence[str], seed: int, steps: int, cache_dir: Path, device: torch.device) -> Path:
    """Name the folder of a tiny CamemBERT by what determines its weights."""
    key = fingerprint(
        {
            "texts": list(texts),
            "training": [seed, steps, BATCH_SIZE, LEARNING_RATE, device.type, default_precision(device)],
            "shape": [HIDDEN_SIZE, INTERMEDIATE_SIZE, LAYERS, HEADS, VOCABULARY, MAX_LENGTH],
            "drawn": [MASKED_SHARE, INITIALIZER_RANGE],
            "threads": torch.get_num_threads(),  # they change the order of summation
            "code": files_fingerprint({file: LIB / file for file in CODE}),
            "versions": {**versions(), "sentencepiece": version("sentencepiece")},
        }
    )
    return cache_dir / f"{TINY_CAMEMBERT}-{key}"


class _PretrainingTrainer(Trainer):
    """Predicts each masked piece at its position and, from the first token, which pieces the text holds.

    Plain masked language modelling requires nothing of the first token, which is all that a classification
    head reads. In a large encoder it still summarises the text; in a tiny one a frozen head would read less
    from it than from a list of the words.
    """

    def compute_loss(
        self, model: Any, inputs: Any, return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> torch.Tensor:
        masked, held = pretraining_losses(model, **inputs)
        return masked + held


def pretraining_losses(
    model: CamembertForMaskedLM, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the losses of pre-training, in nats per piece: () of masked pieces, () of the pieces held.

    The pieces that a text holds are predicted from its first token by the decoder alone, whose weights are
    the embeddings, so the first token comes to lie near the words of its text. Through the transformation
    that masked pieces pass as well, a frozen head reads less from it.

    Parameters
    ----------
    model : CamembertForMaskedLM
        The language model.
    input_ids, attention_mask : Tensor, (batch, tokens)
        With the masks applied.
    labels : Tensor, (batch, tokens)
        The true piece where one was masked, -100 elsewhere.
    """
    rows, positions = torch.nonzero(labels != -100, as_tuple=True)  # (masked,) each
    states = model.roberta(input_ids, attention_mask=attention_mask).last_hidden_state  # (batch, tokens, dim)
    # The vocabulary is scored only where a piece is predicted, which halves the cost of a step.
    at_position = model.lm_head(states[rows, positions])  # (masked, vocabulary)
    masked = torch.nn.functional.cross_entropy(at_position, labels[rows, positions])
    of_text = model.lm_head.decoder(states[:, 0]).log_softmax(-1)  # (batch, vocabulary)
    held = torch.zeros_like(of_text).scatter_(1, torch.where(labels == -100, input_ids, labels), 1.0)
    held[:, [model.config.pad_token_id, model.config.bos_token_id, model.config.eos_token_id]] = 0.0
    return masked, -(held * of_text).sum() / held.sum()


def _pretrain_into(folder: Path, texts: Sequence[str], seed: int, steps: int, device: torch.device) -> None:
    """Train, evaluate and keep the model."""
    training_texts, held_out = texts[:-HELD_OUT_TEXTS], texts[-HELD_OUT_TEXTS:]
    tokenizer = train_tokenizer(training_texts, VOCABULARY, MAX_LENGTH)
    pieces = tokenizer(list(training_texts), truncation=True, max_length=MAX_LENGTH)["input_ids"]
    set_seed(seed)
    model = CamembertForMaskedLM(_config(tokenizer))
    frequencies = _frequencies(pieces, tokenizer)
    _start_from_counts(model, frequencies, pieces, seed)
    epochs = math.ceil(steps * BATCH_SIZE / len(pieces))
    order = data_order([len(ids) for ids in pieces], seed=seed, epochs=epochs, batch_size=BATCH_SIZE)
    run_trainer(
        _PretrainingTrainer,
        model=model,
        train_dataset=Dataset.from_dict({"input_ids": pieces}).select(order),
        data_collator=DataCollatorForLanguageModeling(
            tokenizer, mlm_probability=MASKED_SHARE, seed=derive(seed, "masks")
        ),
        seed=seed,
        device=device,
        max_steps=steps,
        per_device_train_batch_size=BATCH_SIZE,
        learning_rate=LEARNING_RATE,
        warmup_steps=steps // 10,
        adam_beta2=0.98,  # as for RoBERTa and CamemBERT
        weight_decay=0.01,
        logging_strategy="no",
    )
    report = {
        "parameters": model.num_parameters(),
        "texts": steps * BATCH_SIZE,
        "pieces": sum(len(pieces[index]) for index in order[: steps * BATCH_SIZE]),
        **_held_out_losses(model, tokenizer, frequencies, held_out, seed),
    }
    _turn_dropout_on(model.config)
    keep(folder, model, tokenizer, report)


def data_order(lengths: Sequence[int], *, seed: int, epochs: int, batch_size: int) -> list[int]:
    """Return the order in which pre-training sees its texts, all epochs in a row: (epochs * texts,).

    Texts of similar length share a batch, which saves padding.

    Parameters
    ----------
    lengths : sequence of int, (texts,)
        Lengths in pieces.
    seed : int
        Determines which texts share a batch, and the order of the batches.
    epochs, batch_size : int
        As in the training that follows.
    """
    stream = generator(derive(seed, "data order"))
    sampler = LengthGroupedSampler(batch_size, lengths=list(lengths), generator=stream)
    return [index for _ in range(epochs) for index in sampler]


def _config(tokenizer: CamembertTokenizer) -> CamembertConfig:
    """Return the encoder's configuration, without dropout.

    Drawing dropout masks takes a fifth of a step on a CPU, and pre-training sees no text often enough to
    overfit; `_turn_dropout_on` follows it.
    """
    return CamembertConfig(
        vocab_size=len(tokenizer),
        hidden_size=HIDDEN_SIZE,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=INTERMEDIATE_SIZE,
        max_position_embeddings=MAX_LENGTH + 2,  # position ids start after the padding piece's
        initializer_range=INITIALIZER_RANGE,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        type_vocab_size=1,
        layer_norm_eps=1e-5,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )


def _turn_dropout_on(config: CamembertConfig) -> None:
    """Give the kept model CamemBERT's dropout, which is one of the sources of variance that paper 2 names."""
    published = CamembertConfig()
    config.hidden_dropout_prob = published.hidden_dropout_prob
    config.attention_probs_dropout_prob = published.attention_probs_dropout_prob


@torch.no_grad()
def _start_from_counts(
    model: CamembertForMaskedLM, frequencies: torch.Tensor, pieces: list[list[int]], seed: int
) -> None:
    """Initialise the model from counts, which training would otherwise spend most of its steps on.

    The output bias starts at the unigram log-frequencies, the embeddings at co-occurrence vectors.
    """
    model.lm_head.bias.copy_(frequencies.log())
    inner = [ids[1:-1] for ids in pieces]
    vectors = piece_vectors(inner, len(frequencies), model.config.hidden_size, seed)
    model.roberta.embeddings.word_embeddings.weight.copy_(torch.from_numpy(vectors) * INITIALIZER_RANGE)


def _frequencies(pieces: list[list[int]], tokenizer: CamembertTokenizer) -> torch.Tensor:
    """Return the frequency of each piece in the training texts, with add-one smoothing: (vocabulary,)."""
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
    """Return both losses on the same masked pieces of the held-out texts."""
    collator = DataCollatorForLanguageModeling(
        tokenizer, mlm_probability=HELD_OUT_MASKED_SHARE, seed=derive(seed, "held out")
    )
    pieces = tokenizer(list(held_out), truncation=True, max_length=MAX_LENGTH)["input_ids"]
    batch = collator([{"input_ids": ids} for ids in pieces])
    masked = batch["labels"][batch["labels"] != -100]
    model.eval()
    masked_loss, _ = pretraining_losses(model, **batch.to(model.device))
    return {"masked_loss": masked_loss.item(), "unigram_loss": -frequencies[masked].log().mean().item()}
