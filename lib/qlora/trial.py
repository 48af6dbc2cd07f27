"""One QLoRA trial: a 4-bit base, low-rank adapters trained on it, and what the result says of held-out texts.

The seeds of a trial's sources of randomness are apart, and set before what they rule is built, so that each
can be held while another is varied. Sources: paper 3, section VII; Dettmers et al. 2023 for the method.
"""

import gc
import math
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import PeftModel, get_peft_model_state_dict
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from lib.models import quiet_libraries
from lib.qlora.adapters import data_order, new_adapter, optimizer_states, train
from lib.qlora.causal_models import load_four_bit, load_tokenizer
from lib.qlora.recipes import Recipe, Task
from lib.qlora.scores import choose, complete, exponentiated, perplexity, text_losses
from lib.seeding import derive, fingerprint, seed_everything, set_deterministic

__all__ = ["perplexity", "pretrained", "trial"]

SAMPLING_SEED = 0  # the same in every trial: completions differ because models do
# At temperature and top-p 1, at 0.1, and at 0.1 with another sampling seed.
_COMPLETIONS = ("completions", "cold_completions", "cold_completions_again")


@contextmanager
def _known_warnings() -> Iterator[None]:
    with warnings.catch_warnings():
        # peft asks transformers whether checkpointing is on by a name that transformers will drop.
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*", category=FutureWarning)
        # Paging is for GPUs; a notebook says so once, instead of each trial.
        warnings.filterwarnings("ignore", message="Paged optimizers are not supported on CPU")
        # The rounding that peft warns of is measured here.
        warnings.filterwarnings("ignore", message="Merge lora module to 4-bit linear")
        yield


@_known_warnings()
def trial(
    *,
    seed: int,
    model: str,
    task: str,
    recipe: dict[str, Any],
    seeds: dict[str, int],
    device: str,
    deterministic: bool,
    repetition: int,
    models: dict[str, str],
    tasks: dict[str, Task],
    adapter_dir: Path,
) -> dict[str, Any]:
    """Fine-tune once, keep the adapter, load it again, and evaluate it beside its base and merged into it.

    Parameters
    ----------
    seed, model, task, recipe, seeds, device, deterministic, repetition
        As `lib.qlora.recipes.run_of` describes a trial; ``seeds`` rule it, ``seed`` and ``repetition`` but name it.
    models : dict of str
        Hub id or folder of each model by name.
    tasks : dict of Task
        By name.
    adapter_dir : Path
        Keeps each adapter as safetensors in a folder named by its fingerprint.

    Returns
    -------
    dict
        Perplexities: ``perplexity`` of the merged model, which the paper tests, and ``perplexity_unmerged``;
        infinite where a loss is no number. ``text_losses`` (texts,) in nats, of the unmerged model, over
        ``text_tokens`` (texts,). ``losses`` (steps,) in nats per token, and ``diverged_step``: the first step
        whose loss is no number or more than a uniform guess's, or None. Fingerprints of the adapter before
        and after, and of the order; the optimizer's states; completions and answers; seconds and bytes.

    Raises
    ------
    ValueError
        If the states of an 8-bit optimizer are not all kept in 8 bits, or a prompt or question leaves the
        model no room for what is to be added.
    """
    where, how, work = torch.device(device), Recipe(**recipe), tasks[task]
    set_deterministic(deterministic)
    tokenizer = load_tokenizer(models[model])
    encoded = tokenizer(
        work.train, add_special_tokens=work.special_tokens, truncation=True, max_length=how.max_length
    )["input_ids"]
    order = data_order(len(encoded), how.epochs, seeds["order"])
    adapted = new_adapter(models[model], how, where, derive(seeds["initialisation"], "initialisation"))
    _check_room(work, tokenizer, adapted.get_base_model().config.max_position_embeddings)
    initial = fingerprint(get_peft_model_state_dict(adapted))
    start = time.perf_counter()
    trainer = train(adapted, encoded, order, how, where, derive(seeds["dropout"], "dropout"))
    train_seconds = time.perf_counter() - start
    losses = trainer.losses
    states = optimizer_states(trainer.optimizer.optimizer)
    if "8bit" in how.optimizer and states["state_dtypes"] != ["uint8"]:
        raise ValueError(
            f"optimizer {how.optimizer!r} keeps {', '.join(states['state_dtypes'])} states, not uint8: "
            f"min_8bit_size = {how.min_8bit_size} spares tensors of fewer elements"
        )
    weights = get_peft_model_state_dict(adapted)
    final = fingerprint(weights)
    with quiet_libraries():
        adapted.save_pretrained(adapter_dir / final)
    trained = sum(weight.numel() for weight in weights.values())
    del trainer, adapted, weights
    if where.type == "cuda":
        gc.collect()  # the base is loaded again: not two of them at a time
    bound = math.log(len(tokenizer))
    return {
        "initial_adapter": initial,
        "adapter": final,
        "order": fingerprint(order),
        "losses": np.array(losses),
        "diverged_step": next((step for step, loss in enumerate(losses, 1) if not loss <= bound), None),
        "train_seconds": train_seconds,
        "trained_parameters": trained,
        "cut_texts": sum(len(ids) == how.max_length for ids in encoded),
        **states,
        **_evaluate(models[model], adapter_dir / final, tokenizer, work, how, where),
    }


@_known_warnings()
def pretrained(
    *,
    seed: int,
    model: str,
    task: str,
    device: str,
    compute: str,
    max_length: int,
    models: dict[str, str],
    tasks: dict[str, Task],
) -> dict[str, Any]:
    """Measure the perplexity of a 4-bit model that nobody has fine-tuned; ``seed`` must not matter to it."""
    seed_everything(seed)
    base = load_four_bit(models[model], device=torch.device(device), dtype=getattr(torch, compute))
    work, tokenizer = tasks[task], load_tokenizer(models[model])
    value = perplexity(base, work.test, tokenizer, special_tokens=work.special_tokens, max_length=max_length)
    return {"perplexity": value}


def _check_room(work: Task, tokenizer: PreTrainedTokenizerBase, context: int) -> None:
    """Refuse prompts and questions that are too long for the model, before it is trained for hours."""
    for asked, added in ((work.prompts, work.new_tokens), (work.questions, work.answer_tokens)):
        encoded = tokenizer(asked, add_special_tokens=work.special_tokens)["input_ids"] if asked else []
        longest = max(map(len, encoded), default=0)
        if longest + added > context:
            raise ValueError(
                f"a prompt has {longest} tokens and is to get {added} more: the model reads at most {context}"
            )


def _evaluate(
    model: str,
    adapter: Path,
    tokenizer: PreTrainedTokenizerBase,
    work: Task,
    how: Recipe,
    device: torch.device,
) -> dict[str, Any]:
    """Load base and adapter anew, and ask both, first side by side, then merged into one 4-bit model."""
    base = load_four_bit(model, device=device, dtype=getattr(torch, how.compute), attention=how.attention)
    adapted = PeftModel.from_pretrained(base, adapter).eval()
    cut = {"special_tokens": work.special_tokens, "max_length": how.max_length}
    losses, counts = text_losses(adapted, work.test, tokenizer, **cut)
    merged = adapted.merge_and_unload()
    start = time.perf_counter()
    merged_perplexity = perplexity(merged, work.test, tokenizer, **cut)
    test_seconds = time.perf_counter() - start
    return {
        **_texts(merged, tokenizer, work, speaks=math.isfinite(merged_perplexity)),
        "perplexity": merged_perplexity,
        "perplexity_unmerged": exponentiated(losses.sum() / counts.sum()),
        "text_losses": losses,
        "text_tokens": counts,
        "test_seconds": test_seconds,
        "model_bytes": merged.get_memory_footprint(),
    }


def _texts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, work: Task, *, speaks: bool
) -> dict[str, list[str]]:
    """Return completions and answers; empty ones from a model whose outputs are no numbers."""
    if not speaks:
        silence = [""] * len(work.prompts)
        answers = [""] * len(work.questions)
        return dict.fromkeys(_COMPLETIONS, silence) | {"answers": answers}
    go_on = partial(complete, model, tokenizer=tokenizer, special_tokens=work.special_tokens)
    warm = partial(go_on, work.prompts, new_tokens=work.new_tokens)
    cold = partial(warm, temperature=0.1, top_p=0.1)
    if work.options:
        chosen = choose(model, work.questions, work.options, tokenizer, special_tokens=work.special_tokens)
        answers = [work.options[option] for option in chosen]
    else:
        answers = go_on(work.questions, new_tokens=work.answer_tokens, seed=SAMPLING_SEED, top_p=1e-6)
    texts = (warm(seed=SAMPLING_SEED), cold(seed=SAMPLING_SEED), cold(seed=SAMPLING_SEED + 1))
    return dict(zip(_COMPLETIONS, texts, strict=True)) | {"answers": answers}
