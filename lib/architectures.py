"""Where BERT, RoBERTa and CamemBERT differ: the classification head and how positions are numbered.

CamemBERT is RoBERTa under another name. Every other module asks here instead of telling them apart itself.
"""

from typing import Any

import torch
from torch import Tensor, nn
from transformers import (
    BertForSequenceClassification,
    CamembertForSequenceClassification,
    PreTrainedConfig,
    PreTrainedModel,
    RobertaForSequenceClassification,
)

CLASSIFIERS: dict[str, type[PreTrainedModel]] = {
    "bert": BertForSequenceClassification,
    "camembert": CamembertForSequenceClassification,
    "roberta": RobertaForSequenceClassification,
}
"""The supported sequence classifiers, by their configuration's ``model_type``."""


def head_layers(model: PreTrainedModel) -> tuple[nn.Linear, nn.Linear]:
    """Return the two linear layers of a classifier's head: (dim, dim), then (dim, labels).

    A tanh stands between them. In BERT the first of them belongs to the pooler.

    Raises
    ------
    ValueError
        If the model is not one of `CLASSIFIERS`.
    """
    if not isinstance(model, tuple(CLASSIFIERS.values())):
        allowed = ", ".join(kind.__name__ for kind in CLASSIFIERS.values())
        raise ValueError(f"model is a {type(model).__name__}; allowed are {allowed}")
    classifier: Any = model.classifier
    if _is_bert(model):
        return _encoder(model).pooler.dense, classifier
    return classifier.dense, classifier.out_proj


def head_parameter_names(model: PreTrainedModel) -> set[str]:
    """Return the names of the parameters of `head_layers`, as ``model.named_parameters`` gives them."""
    layers = head_layers(model)
    return {
        f"{prefix}.{name}"
        for prefix, module in model.named_modules()
        if module in layers
        for name, _ in module.named_parameters(recurse=False)
    }


def head_module_names(model: PreTrainedModel) -> list[str]:
    """Return the names of the modules that make up the head, as peft's ``modules_to_save`` takes them."""
    return ["classifier", "pooler"] if _is_bert(model) else ["classifier"]


def head_logits(model: PreTrainedModel, hidden: Tensor) -> Tensor:
    """Apply the classification head to the last layer: (batch, tokens, dim) -> (batch, labels)."""
    classifier: Any = model.classifier
    return classifier(_encoder(model).pooler(hidden)) if _is_bert(model) else classifier(hidden)


def embeddings(model: PreTrainedModel) -> Any:
    """Return the module that embeds words, positions and token types, and normalises their sum."""
    return _encoder(model).embeddings


def encoder_layers(model: PreTrainedModel) -> list[Any]:
    """Return the encoder's layers, from the first to the last."""
    return list(_encoder(model).encoder.layer)


def position_ids(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    """Return every token's position number: (..., tokens) -> (..., tokens).

    BERT counts from 0. RoBERTa gives padding the padding token's id, and counts the other tokens from the
    next number on.
    """
    if _is_bert(model):
        return torch.arange(input_ids.shape[-1], device=input_ids.device).expand_as(input_ids)
    padding = model.config.pad_token_id
    seen = input_ids != padding
    return seen.cumsum(-1) * seen + padding


def readable_pieces(config: PreTrainedConfig) -> int:
    """Return the most word pieces that a model of this configuration can read, special tokens included."""
    positions = config.max_position_embeddings
    return positions if config.model_type == "bert" else positions - config.pad_token_id - 1


def _is_bert(model: PreTrainedModel) -> bool:
    return model.config.model_type == "bert"


def _encoder(model: PreTrainedModel) -> Any:
    return model.base_model
