"""Low-rank adapters on a 4-bit base: build and save them, order their texts, describe their optimizer."""

import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from bitsandbytes.functional import dequantize_blockwise
from peft import (
    LoraConfig,
    PeftModel,
    get_peft_model,
    get_peft_model_state_dict,
    prepare_model_for_kbit_training,
    set_peft_model_state_dict,
)
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedConfig, PreTrainedModel, set_seed

from lib.models import quiet_libraries
from lib.qlora.causal_models import load_four_bit
from lib.qlora.recipes import Recipe
from lib.seeding import derive, generator
from lib.whole_folder import whole_folder

PREFIX = "base_model.model."
"""peft's names of an adapter's matrices begin with this, before the name of the layer in the base."""

BLOCK = 256
"""Entries of a tensor that share a scale in bitsandbytes' 8-bit optimizers."""


@contextmanager
def known_warnings() -> Iterator[None]:
    """Ignore warnings that peft and bitsandbytes raise in every trial and that are understood."""
    with warnings.catch_warnings():
        # peft calls transformers by names that transformers is about to drop.
        warnings.filterwarnings("ignore", message=".*gradient_checkpointing.*", category=FutureWarning)
        # Paging is for GPUs; a notebook says so once, instead of every trial.
        warnings.filterwarnings("ignore", message="Paged optimizers are not supported on CPU")
        # The rounding that peft warns of is measured here.
        warnings.filterwarnings("ignore", message="Merge lora module to 4-bit linear")
        yield


def load_base(model: str, recipe: Recipe, device: torch.device) -> PreTrainedModel:
    """Load a 4-bit base, prepared for the training of adapters.

    Parameters
    ----------
    model : str
        Folder of the base.
    recipe : Recipe
        Determines types and kernel.
    device : torch.device
        Where the model goes.
    """
    dtype = getattr(torch, recipe.compute)
    return prepare(load_four_bit(model, device=device, dtype=dtype, attention=recipe.attention))


def prepare(base: PreTrainedModel) -> PreTrainedModel:
    """Freeze a 4-bit base and keep its other weights in 32 bits, in place.

    On a GPU, a layer's activations are computed again in the backward pass instead of being kept.
    """
    # A generator's state can be read only while no graph is being recorded.
    how = {"use_reentrant": False, "preserve_rng_state": has_dropout(base.config)}
    return prepare_model_for_kbit_training(
        base,
        use_gradient_checkpointing=base.device.type == "cuda",
        gradient_checkpointing_kwargs=how,
    )


def has_dropout(config: PreTrainedConfig) -> bool:
    """Return whether a model drops something by itself in training; a classifier's dropout is not its own."""
    return any(
        value
        for name, value in config.to_dict().items()
        if ("dropout" in name or "pdrop" in name) and not name.startswith("classifier")
    )


def new_adapter(base: PreTrainedModel, recipe: Recipe, seed: int) -> dict[str, Tensor]:
    """Return new adapters for a base, which stays as it is; the seed is set before they are built.

    Parameters
    ----------
    base : PreTrainedModel
        From `load_base`.
    recipe : Recipe
        Determines the adapters' rank and type.
    seed : int
        Determines their initial weights.

    Returns
    -------
    dict of str to Tensor
        Matrices by peft's names, on the base's device: of each adapted layer ``lora_A`` (rank, in), and
        ``lora_B`` (out, rank), which is zero.
    """
    # Before the adapters are built: published scripts seed afterwards, and start the same seed differently.
    set_seed(seed)
    adapted = _adapted(base, recipe)
    dtype = getattr(torch, recipe.adapter)
    adapter = {name: matrix.to(dtype) for name, matrix in get_peft_model_state_dict(adapted).items()}
    adapted.unload()
    return adapter


def save_adapter(base: PreTrainedModel, recipe: Recipe, adapter: Mapping[str, Tensor], folder: Path) -> None:
    """Save an adapter as peft does, in safetensors format; ``PeftModel.from_pretrained`` loads it.

    Parameters
    ----------
    base : PreTrainedModel
        The base on which it was trained, which stays as it is.
    recipe : Recipe
        Of its training.
    adapter : mapping of str to Tensor
        Matrices by peft's names, as from `new_adapter`.
    folder : Path
        Where it goes.
    """
    adapted = _adapted(base, recipe)
    for parameter in adapted.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.to(getattr(torch, recipe.adapter))
    set_peft_model_state_dict(adapted, dict(adapter))
    # Whole, because repetitions of a trial may save the same adapter at the same time.
    with whole_folder(folder) as unfinished, quiet_libraries():
        # Embeddings are never trained, so peft need not look for the base's, on the Hub or elsewhere.
        adapted.save_pretrained(str(unfinished), save_embedding_layers=False)
    adapted.unload()


@known_warnings()
def trained_parameters(config: PreTrainedConfig, recipe: Recipe) -> int:
    """Return how many parameters an adapter has, from the base's configuration alone."""
    with torch.device("meta"):
        adapted = _adapted(AutoModelForCausalLM.from_config(config), recipe)
    return sum(parameter.numel() for parameter in adapted.parameters() if parameter.requires_grad)


def _adapted(base: PreTrainedModel, recipe: Recipe) -> PeftModel:
    """Put new adapters on a base; peft chooses the layers by architecture."""
    adapters = LoraConfig(
        r=recipe.rank, lora_alpha=recipe.alpha, lora_dropout=recipe.dropout, task_type="CAUSAL_LM"
    )
    return get_peft_model(base, adapters)


def data_order(texts: int, epochs: int, seed: int) -> list[int]:
    """Return the order in which a trial sees its texts, reshuffled each epoch: (epochs * texts,)."""
    stream = generator(derive(seed, "order"))
    return torch.cat([torch.randperm(texts, generator=stream) for _ in range(epochs)]).tolist()


def optimizer_states(optimizer: torch.optim.Optimizer) -> dict[str, Any]:
    """Describe how an optimizer of the Adam family stores its two moments.

    Returns
    -------
    dict
        ``state_dtypes``: the distinct types. ``state_bytes``: bytes of the moments and their scales.
        ``starved``: the share of entries whose second moment is stored as exactly 0 while the first is not;
        Adam divides these by its epsilon alone.
    """
    dtypes, size, starved, entries = set(), 0, 0, 0
    for state in optimizer.state.values():
        bitsandbytes = "state1" in state
        first, second = (
            state[name] for name in (("state1", "state2") if bitsandbytes else ("exp_avg", "exp_avg_sq"))
        )
        dtypes |= {str(moment.dtype).removeprefix("torch.") for moment in (first, second)}
        scales = [state[name] for name in ("absmax1", "absmax2") if name in state]
        size += sum(tensor.numel() * tensor.element_size() for tensor in (first, second, *scales))
        if first.dtype == torch.uint8:
            first, second = (_decoded(moment, state, i) for i, moment in enumerate((first, second), 1))
        starved += int(((second == 0) & (first != 0)).sum())
        entries += first.numel()
    return {"state_dtypes": sorted(dtypes), "state_bytes": size, "starved": starved / max(entries, 1)}


def _decoded(moment: Tensor, state: Mapping[str, Any], number: int) -> Tensor:
    """Return the first or the second moment of an 8-bit optimizer in float32."""
    scales = state[f"absmax{number}"]
    # A large moment is paged: a tensor of the CPU, whose scales are on the GPU.
    moment = moment.to(scales.device)
    return dequantize_blockwise(moment, absmax=scales, code=state[f"qmap{number}"], blocksize=BLOCK)
