"""Four tiny causal models, pre-trained here and cached, as starting points for fine-tuning.

They stand in for the four models of paper 3: transformers' GPT-NeoX and Llama classes, each with its own kind
of tokenizer, each as a base model, trained on stories, and as a chat model, trained further on small talk.
"""

import json
import logging
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from joblib import Parallel, delayed
from tokenizers import ByteLevelBPETokenizer, SentencePieceBPETokenizer
from transformers import (
    AutoModelForCausalLM,
    GPTNeoXConfig,
    GPTNeoXTokenizer,
    LlamaConfig,
    LlamaTokenizer,
    PreTrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
    Trainer,
    set_seed,
)

from lib.checkpoints import config_folder
from lib.models import ModelError, quiet_libraries
from lib.qlora.causal_models import check_fits, dialogue, load_tokenizer, prompt
from lib.runs.provenance import files_fingerprint, versions
from lib.seeding import fingerprint
from lib.texts.generated.mini_english import small_talk, stories
from lib.tiny.keeping import is_kept, keep
from lib.trainer import run_trainer

logger = logging.getLogger(__name__)

LIB = Path(__file__).parents[1]
# The code that decides weights and tokenizers, besides that of the texts, which are hashed themselves.
CODE = ("tiny/causal.py", "trainer.py", "precision.py", "qlora/causal_models.py")

# Each tiny model's family, and the model that its training continues from.
TINY: dict[str, tuple[str, str | None]] = {
    "tiny-neox": ("gpt_neox", None),
    "tiny-llama": ("llama", None),
    "tiny-neox-chat": ("gpt_neox", "tiny-neox"),
    "tiny-llama-chat": ("llama", "tiny-llama"),
}
HIDDEN_SIZE = 128
LAYERS = 2
HEADS = 4
CONTEXT = 1_024
VOCABULARY = 1_536
BLOCK = 96  # tokens: texts are concatenated and cut into blocks, which need no padding
BATCH_SIZE = 16
CHAT_BATCH_SIZE = 8  # to copy two numbers and add them takes many steps rather than many texts a step
CHAT_STEPS = 4  # for each step of the base model
LEARNING_RATE = 3e-3
HELD_OUT = 100  # texts


def check_models(models: Iterable[str], *, device: torch.device, dtype: torch.dtype, max_length: int) -> None:
    """Check that models exist and are suitable, before weights are fetched or anything slow begins.

    Parameters
    ----------
    models : iterable of str
        Names of ``TINY``, Hub ids and folders.
    device, dtype, max_length
        As for `lib.qlora.causal_models.check_fits`.

    Raises
    ------
    ModelError
        In one line, for the first model that fails.
    """
    for model in models:
        if model not in TINY and not _looks_tiny(model):
            check_fits(config_folder(model), device=device, dtype=dtype, max_length=max_length)
            continue
        _check_name(model)
        if max_length > CONTEXT:
            raise ModelError(
                f"max_length = {max_length}: allowed for model {model!r}: at most {CONTEXT} tokens"
            )


def pretrain_tiny(
    names: Sequence[str], *, seed: int, steps: int, cache_dir: Path, workers: int = 1
) -> dict[str, Path]:
    """Return the folders of tiny models, pre-training those that are not cached.

    `lib.tiny.read_report` reads what pre-training reports about each:

    - ``parameters``: of the whole model;
    - ``tokens``: seen in training, counted each time;
    - ``loss``: held-out next-token loss, in nats per token;
    - ``unigram_loss``: the same loss when guessing by the frequencies of the training tokens.

    Parameters
    ----------
    names : sequence of str
        From ``TINY``. A chat model also requires its base model, which is pre-trained first.
    seed : int
        Determines texts, initial weights and order.
    steps : int
        Optimiser steps of a base model, each on 16 blocks of 96 tokens; a chat model takes four times as many
        further steps, each on 8 blocks.
    cache_dir : Path
        Holds the folders ``<name>-<fingerprint>``.
    workers : int
        Processes of one thread each; there is no use for more than one per family.

    Raises
    ------
    ModelError
        For an unknown name.
    """
    for name in names:
        _check_name(name)
    required = {*names, *(TINY[name][1] for name in names)}
    folders = {name: _folder(name, seed, steps, cache_dir) for name in TINY if name in required}
    missing = [name for name, folder in folders.items() if not is_kept(folder)]
    _pretrain_all([name for name in missing if TINY[name][1] is None], folders, seed, steps, workers)
    _pretrain_all([name for name in missing if TINY[name][1]], folders, seed, steps, workers)
    return {name: folders[name] for name in names}


def train_tokenizer(family: str, texts: Sequence[str]) -> PreTrainedTokenizerBase:
    """Train the family's kind of tokenizer: byte-level BPE (GPT-NeoX), BPE with ▁ and byte fallback (Llama).

    Parameters
    ----------
    family : str
        ``gpt_neox`` or ``llama``.
    texts : sequence of str
        The texts that merges are learned from.
    """
    kind: Any = GPTNeoXTokenizer if family == "gpt_neox" else LlamaTokenizer
    if family == "gpt_neox":
        special = ["<|endoftext|>", "<|padding|>"]
        bpe = ByteLevelBPETokenizer()
    else:
        special = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
        bpe = SentencePieceBPETokenizer(add_prefix_space=False)
    bpe.train_from_iterator(texts, VOCABULARY, special_tokens=special, show_progress=False)
    learned = json.loads(bpe.to_str())["model"]
    merges = [tuple(merge) for merge in learned["merges"]]
    return kind(vocab=learned["vocab"], merges=merges, model_max_length=CONTEXT)


def _looks_tiny(model: str) -> bool:
    """Whether this is a misspelt tiny model rather than a folder or a Hub id, which has an owner."""
    return model.startswith("tiny-") and "/" not in model and not Path(model).is_dir()


def _check_name(name: str) -> None:
    if name not in TINY:
        raise ModelError(f"model {name!r}: no such tiny model; allowed: {', '.join(TINY)}")


def _folder(name: str, seed: int, steps: int, cache_dir: Path) -> Path:
    """Name a tiny model's folder by what determines its weights."""
    base = TINY[name][1]
    key = fingerprint(
        {
            "texts": [_texts(read, seed, steps) for read in (base, name) if read is not None],
            "training": [name, seed, steps, BLOCK, BATCH_SIZE, CHAT_BATCH_SIZE, CHAT_STEPS, LEARNING_RATE],
            "shape": [HIDDEN_SIZE, LAYERS, HEADS, CONTEXT, VOCABULARY],
            "code": files_fingerprint({file: LIB / file for file in CODE}),
            "versions": versions(),
        }
    )
    return cache_dir / f"{name}-{key}"


def _texts(name: str, seed: int, steps: int) -> tuple[list[str], list[str]]:
    """Return what a model reads, the last 100 texts held out, and what only its tokenizer learns from."""
    family, base = TINY[name]
    if base is not None:
        return [dialogue(family, *pair) for pair in small_talk(seed, 16 * CHAT_STEPS * steps + HELD_OUT)], []
    talk = small_talk(seed, 2_000)
    # Answers stand apart, so that no piece holds the end of a question and the beginning of its answer.
    parts = [part for question, answer in talk for part in (prompt(family, question), answer)]
    return stories(seed, 8 * steps + HELD_OUT), parts


def _pretrain_all(names: list[str], folders: dict[str, Path], seed: int, steps: int, workers: int) -> None:
    """Pre-train models that do not depend on each other."""
    threads = torch.get_num_threads()
    if names:
        Parallel(n_jobs=min(workers, len(names)))(
            delayed(_pretrain)(name, folders, seed, steps) for name in names
        )
    torch.set_num_threads(threads)


def _pretrain(name: str, folders: dict[str, Path], seed: int, steps: int) -> None:
    """Train one model and keep it."""
    logger.info("pre-training %s, %d steps", name, steps)
    # Threads change the order of summation; with one, any number of workers gives the same weights.
    torch.set_num_threads(1)
    family, base = TINY[name]
    batch_size = BATCH_SIZE
    texts, parts = _texts(name, seed, steps)
    set_seed(seed)
    if base is None:
        tokenizer = train_tokenizer(family, [*texts[:-HELD_OUT], *parts])
        model = AutoModelForCausalLM.from_config(_config(family, tokenizer))
    else:
        steps, batch_size = CHAT_STEPS * steps, CHAT_BATCH_SIZE
        tokenizer = load_tokenizer(folders[base])
        with quiet_libraries():
            model = AutoModelForCausalLM.from_pretrained(folders[base], dtype=torch.float32)
    blocks = _blocks(tokenizer, texts[:-HELD_OUT], special_tokens=base is None)
    rounds = math.ceil(batch_size * steps / len(blocks))
    order = torch.cat([torch.randperm(len(blocks)) for _ in range(rounds)])[: batch_size * steps]
    run_trainer(
        Trainer,
        model=model,
        train_dataset=Dataset.from_dict({"input_ids": blocks, "labels": blocks}).select(order.tolist()),
        seed=seed,
        device=torch.device("cpu"),
        max_steps=steps,
        per_device_train_batch_size=batch_size,
        learning_rate=LEARNING_RATE,
        warmup_steps=steps // 10,
        weight_decay=0.01,
        logging_strategy="no",
    )
    held_out = _blocks(tokenizer, texts[-HELD_OUT:], special_tokens=base is None)
    report = {
        "parameters": model.num_parameters(),
        "tokens": batch_size * steps * BLOCK,
        **_held_out_losses(model, blocks, held_out),
    }
    keep(folders[name], model, tokenizer, report)


def _config(family: str, tokenizer: PreTrainedTokenizerBase) -> PreTrainedConfig:
    shape = {
        "vocab_size": len(tokenizer),
        "hidden_size": HIDDEN_SIZE,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": HEADS,
        "max_position_embeddings": CONTEXT,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    if family == "gpt_neox":
        return GPTNeoXConfig(**shape, intermediate_size=4 * HIDDEN_SIZE)
    return LlamaConfig(**shape, intermediate_size=3 * HIDDEN_SIZE)  # a Llama MLP has three matrices, not two


def _blocks(
    tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], *, special_tokens: bool
) -> list[list[int]]:
    """Return the texts concatenated, each with an end token, and cut into blocks: (blocks, 96)."""
    encoded = tokenizer(list(texts), add_special_tokens=special_tokens)["input_ids"]
    tokens = [token for ids in encoded for token in [*ids, tokenizer.eos_token_id]]
    return [tokens[start : start + BLOCK] for start in range(0, len(tokens) - BLOCK + 1, BLOCK)]


@torch.no_grad()
def _held_out_losses(
    model: PreTrainedModel, training: list[list[int]], held_out: list[list[int]]
) -> dict[str, float]:
    model.eval()
    blocks = torch.tensor(held_out)  # (blocks, 96)
    loss = model(input_ids=blocks, labels=blocks).loss.item()
    counts = Counter(token for block in training for token in block)
    total = sum(counts.values()) + model.config.vocab_size  # add-one smoothing, for unseen tokens
    targets = blocks[:, 1:].flatten().tolist()
    unigram = -sum(math.log((counts[token] + 1) / total) for token in targets) / len(targets)
    return {"loss": loss, "unigram_loss": unigram}
