"""What can be explained: one clear line about a wrong argument before anything slow begins."""

from typing import Any, Literal, NamedTuple, get_args

import bitsandbytes as bnb
import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from lib import architectures

Head = Literal["first_token", "all_tokens"]


class Batch(NamedTuple):
    """Checked arguments, on the model's device."""

    input_ids: Tensor  # (batch, tokens) int64
    seen: Tensor  # (batch, tokens) True at a token, False at padding
    target: Tensor | None  # (batch,) int64


def check(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    target: int | Tensor | None,
    start_layer: int,
    head: Head,
) -> Batch:
    """Check the arguments of `lib.lrp.token_relevance`.

    Raises
    ------
    ValueError
        Names the first wrong argument, its value and what is allowed.
    """
    _check_model(model)
    highest = len(architectures.encoder_layers(model)) - 1
    if type(start_layer) is not int or not 0 <= start_layer <= highest:
        raise ValueError(f"start_layer is {start_layer!r}; allowed are 0 to {highest}")
    if head not in get_args(Head):
        raise ValueError(f"head is {head!r}; allowed are {', '.join(get_args(Head))}")
    input_ids = _check_ids(model, input_ids)
    seen = _check_mask(model, input_ids, attention_mask)
    return Batch(input_ids, seen, _check_target(model, input_ids, target))


def check_finite(model: PreTrainedModel, logits: Tensor) -> None:
    """Check that the logits of a batch, (batch, labels), are finite.

    Raises
    ------
    ValueError
        If one is not; names the first parameter that is not finite.
    """
    if logits.isfinite().all():
        return
    floating = ((name, weight) for name, weight in model.named_parameters() if weight.is_floating_point())
    culprit = next((name for name, weight in floating if not weight.isfinite().all()), None)
    cause = f"{culprit} is not finite" if culprit else "its weights are finite, but it overflows"
    raise ValueError(f"model gives logits that are not finite: {cause}")


def _check_model(model: PreTrainedModel) -> None:
    architectures.head_layers(model)  # raises for any other kind of model
    if not model.config.num_labels:
        raise ValueError(f"model has {model.config.num_labels} labels; at least 1 is required")
    if model.config.is_decoder:
        raise ValueError("model has config.is_decoder = True; allowed are encoders")
    for name, module in model.named_modules():
        plain = isinstance(module, nn.Linear) and type(module).forward is nn.Linear.forward
        weight: Any = getattr(module, "weight", None)
        decodable = isinstance(module, bnb.nn.Linear4bit) and weight.quant_state is not None
        if hasattr(module, "in_features") and not (plain or decodable):
            kind = f"{type(module).__module__}.{type(module).__name__}"
            raise ValueError(f"{name} is a {kind}; allowed are torch.nn.Linear and a quantised Linear4bit")


def _check_ids(model: PreTrainedModel, input_ids: Tensor) -> Tensor:
    embeddings = architectures.embeddings(model)
    words, places = embeddings.word_embeddings, embeddings.position_embeddings
    shape = tuple(input_ids.shape)
    if len(shape) != 2 or 0 in shape or input_ids.dtype not in (torch.int64, torch.int32):
        raise ValueError(
            f"input_ids is {shape} of {input_ids.dtype}; required: int64, (batch, tokens), not empty"
        )
    input_ids = input_ids.to(words.weight.device, torch.int64)
    for tensor, name, known in (
        (input_ids, "a token", words.num_embeddings),
        (architectures.position_ids(model, input_ids), "a position", places.num_embeddings),
    ):
        outside = (tensor < 0) | (tensor >= known)
        if outside.any():
            raise ValueError(f"input_ids has {name} {tensor[outside][0]}; allowed are 0 to {known - 1}")
    return input_ids


def _check_mask(model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None) -> Tensor:
    mask = torch.ones_like(input_ids) if attention_mask is None else attention_mask.to(input_ids.device)
    if mask.shape != input_ids.shape:
        raise ValueError(f"attention_mask is {tuple(mask.shape)}; allowed is {tuple(input_ids.shape)}")
    if not ((mask == 0) | (mask == 1)).all():
        raise ValueError(f"attention_mask goes from {mask.min()} to {mask.max()}; allowed are only 0 and 1")
    seen = mask.bool()
    pad = model.config.pad_token_id
    tokens = seen if pad is None else seen & (input_ids != pad)
    for text, (token, first) in enumerate(zip(tokens.any(1).tolist(), seen[:, 0].tolist(), strict=True)):
        if not token:
            raise ValueError(f"text {text} is all padding; at least one token is required")
        if not first:
            raise ValueError(f"text {text} begins with padding; padding is allowed on the right only")
    return seen


def _check_target(model: PreTrainedModel, input_ids: Tensor, target: int | Tensor | None) -> Tensor | None:
    if target is None:
        return None
    texts, labels = len(input_ids), architectures.head_layers(model)[1].out_features
    if not isinstance(target, int | Tensor):
        raise ValueError(f"target is {target!r}; allowed: None, a class, or a tensor with one class per text")
    classes = torch.as_tensor(target, device=input_ids.device)
    if classes.dtype not in (torch.int64, torch.int32) or classes.shape not in ((), (texts,)):
        shape = tuple(classes.shape)
        raise ValueError(f"target is {shape} of {classes.dtype}; allowed: one class, or int64 ({texts},)")
    if classes.min() < 0 or classes.max() >= labels:
        raise ValueError(f"target is {classes.tolist()}; allowed are classes 0 to {labels - 1}")
    return classes.to(torch.int64).expand(texts)
