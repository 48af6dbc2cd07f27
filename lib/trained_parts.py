"""Which part of a classifier is trained, all of it or a few of its weights, and how many bits that is."""

import warnings

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, PretrainedConfig, PreTrainedModel

from lib.frozen import head_parameter_names
from lib.quantization import PLAIN, fine_tuning_surface, quantize


def choose_trained(model: PreTrainedModel, trained: str) -> PreTrainedModel:
    """Let a part of a classifier's weights ask for a gradient; its head always does.

    Parameters
    ----------
    model : PreTrainedModel
        Changed in place.
    trained : str
        ``all``; ``head``; ``above:k``, the layers above the lowest k (the embeddings are frozen as well);
        ``biases``; or ``lora:r``, low-rank adapters of rank r at the queries and values (peft).

    Returns
    -------
    PreTrainedModel
        The model; for adapters peft's wrapping of it.

    Raises
    ------
    ValueError
        For anything else, or more layers than there are.
    """
    kind, _, number = trained.partition(":")
    amount = int(number) if number.isdecimal() else -1
    layers = model.config.num_hidden_layers
    if kind == "lora" and amount > 0:
        head = ["classifier"] + ["pooler"] * (model.config.model_type == "bert")
        adapters = LoraConfig(
            r=amount,
            lora_alpha=2 * amount,  # the same scale for every rank
            target_modules=["query", "value"],
            modules_to_save=head,
        )
        with warnings.catch_warnings():
            # peft asks transformers for a property under its old name
            warnings.filterwarnings("ignore", "`is_gradient_checkpointing`", FutureWarning)
            return get_peft_model(model, adapters)
    names = [name for name, _ in model.named_parameters()]
    if trained == "all":
        chosen = set(names)
    elif trained == "head":
        chosen = set()
    elif trained == "biases":
        chosen = {name for name in names if name.endswith("bias")}
    elif kind == "above" and 0 <= amount <= layers:
        above = [f"encoder.layer.{layer}." for layer in range(amount, layers)]
        chosen = {name for name in names if any(layer in name for layer in above)}
    else:
        allowed = f"all, head, biases, above:0 to above:{layers}, lora:1 and higher"
        raise ValueError(f"trained = {trained!r}: allowed are {allowed}")
    chosen |= head_parameter_names(model)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name in chosen)
    return model


def curve_points(names: str, layers: int) -> list[str]:
    """Return the points of the curve that a parameter names, as `choose_trained` calls them.

    Parameters
    ----------
    names : str
        Set apart by blanks; ``layers`` stands for freezing the lowest k layers for every k.
    layers : int
        Of the encoder.
    """
    lowest = [f"above:{k}" for k in range(layers + 1)]
    return [point for name in names.split() for point in (lowest if name == "layers" else [name])]


def surface_bits(config: PretrainedConfig, trained: str = "all", quantization: str = PLAIN) -> int:
    """Return the fine-tuning surface of a classifier from its configuration alone, in bits.

    Parameters
    ----------
    config : PretrainedConfig
        Of the encoder; nothing of it is built but the shapes.
    trained : str
        See `choose_trained`.
    quantization : str
        ``plain``, or a format of `lib.quantization.quantize`, for ``all`` and ``head``.
    """
    with torch.device("meta"):
        model = AutoModelForSequenceClassification.from_config(config)
        if quantization != PLAIN:
            return fine_tuning_surface(quantize(model, quantization), trained)
        return fine_tuning_surface(choose_trained(model, trained), "trainable")
