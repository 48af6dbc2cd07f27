"""How much memory trials side by side will need: estimated before anything starts, to choose how many fit.

The estimate counts the large tensors, from the shapes of the model alone. What a run took is in its record.
"""

from collections.abc import Sequence

import torch
from transformers import PreTrainedConfig

from lib.memory import fitting, free_bytes
from lib.qlora.adapters import trained_parameters
from lib.qlora.causal_models import load_config, weight_bytes
from lib.qlora.recipes import Recipe
from lib.qlora.side_by_side import Learner

# Entries per token that a layer keeps for its backward pass, counted in Llama (GPT-NeoX keeps fewer): at its
# width the inputs of norms, queries, keys and values, and the adapters' inputs; at its inner width the gate
# and both factors of the product. A product with a frozen matrix keeps nothing.
AT_WIDTH, AT_INNER_WIDTH = 10, 3
# Per token and entry of the vocabulary: logits in 16 and 32 bits, log-probabilities, gradients.
LOGIT_BYTES = 16
# Per token and entry of all adapted inputs together: dropout, drawn, and kept for each of a few lengths.
DROPOUT_BYTES = 4
TRAINED_BYTES = 16  # per trained parameter: the weight, its gradient and two moments, in 32 bits


def needed_bytes(model: str, recipe: Recipe, trials: int, device: torch.device) -> dict[str, int]:
    """Estimate what trials side by side will need if their texts are as long as the recipe allows.

    Parameters
    ----------
    model : str
        Folder of the base.
    recipe : Recipe
        Of the trials.
    trials : int
        How many go together.
    device : torch.device
        Where they are trained.

    Returns
    -------
    dict of str to int
        Bytes of the ``base``, of ``one trial`` beside it, of ``all`` trials with the base, and those that are
        ``free`` now.
    """
    config = load_config(model)
    base = base_bytes(config, recipe)
    one = trial_bytes(
        config,
        recipe,
        recipe.max_length,
        parameters=trained_parameters(config, recipe),
        recomputed=device.type == "cuda",
    )
    return {"base": base, "one trial": one, "all": base + trials * one, "free": free_bytes(device)}


def base_bytes(config: PreTrainedConfig, recipe: Recipe) -> int:
    """Return the bytes that a base in training takes, whatever the number of trials.

    Its linear layers in NF4, everything else in 32 bits, and the largest matrix of a layer decoded twice.
    """
    decoded = 2 * config.hidden_size * config.intermediate_size * _bytes(recipe)
    return weight_bytes(config, torch.float32) + decoded


def trial_bytes(
    config: PreTrainedConfig, recipe: Recipe, tokens: int, *, parameters: int, recomputed: bool
) -> int:
    """Return the bytes that one more trial takes.

    Parameters
    ----------
    config : PreTrainedConfig
        Of the base.
    recipe : Recipe
        Texts of a step, the type of the products, and the attention kernel.
    tokens : int
        Of the longest text.
    parameters : int
        Trained ones.
    recomputed : bool
        Whether only a layer's input is kept, and the layer computed again in the backward pass.
    """
    width, layers, each = config.hidden_size, config.num_hidden_layers, _bytes(recipe)
    layer = (AT_WIDTH * width + AT_INNER_WIDTH * config.intermediate_size) * each
    if recipe.attention == "eager":  # scores and probabilities of every pair of tokens
        layer += 2 * config.num_attention_heads * tokens * each
    # one layer more than is kept, for the gradients
    kept = layers * width * each + 2 * layer if recomputed else (layers + 1) * layer
    # An adapted layer has rank * (inputs + outputs) parameters, and no more inputs than outputs.
    dropped = DROPOUT_BYTES * parameters // (2 * recipe.rank) if recipe.dropout else 0
    a_token = kept + LOGIT_BYTES * config.vocab_size + dropped
    return recipe.batch_size * tokens * a_token + TRAINED_BYTES * parameters


def trials_that_fit(config: PreTrainedConfig, learners: Sequence[Learner], device: torch.device) -> int:
    """Return how many of these trials fit into one step; the log says so.

    Parameters
    ----------
    config : PreTrainedConfig
        Of the base, which is loaded.
    learners : sequence of Learner
        The trials.
    device : torch.device
        Where they are trained.

    Returns
    -------
    int
        At least 1: whether a single trial fits will show.
    """
    recipe = learners[0].recipe
    longest = max(len(row["input_ids"]) for learner in learners for texts in learner.batches for row in texts)
    one = trial_bytes(
        config,
        recipe,
        longest,
        parameters=learners[0].weights.numel(),
        recomputed=device.type == "cuda",
    )
    return fitting(one, len(learners), device, "trials side by side, beside the base")


def _bytes(recipe: Recipe) -> int:
    return getattr(torch, recipe.compute).itemsize
