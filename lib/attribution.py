"""Explanation methods besides Chefer et al.'s LRP, under its signature, and one call for a whole data set.

Each method is called as ``method(model, input_ids, attention_mask=None, target=None)`` and returns one
relevance per token, (batch, tokens): 0 at padding, float32 or better, and independent of the other texts in
the batch (except for the authors' fork of LRP, which depends on the padding). Supported models and the checks
of the arguments are those of `lib.lrp`. Models are left as they were, and no weight gradient is computed.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import LayerIntegratedGradients
from numpy.typing import NDArray
from torch import Tensor
from torch.overrides import TorchFunctionMode
from tqdm.auto import tqdm
from transformers import PreTrainedModel

from lib.lrp import checks, token_relevance
from lib.memory import in_groups
from lib.padding import pad, token_mask

Method = Callable[..., Tensor]

CPU_TOKENS = 1_024  # per batch: few, so the activations of a layer fit into the cache
CUDA_TOKENS = 16_384  # enough to fill a GPU; 10 GB at the size of CamemBERT-base
INTEGRATION_STEPS = 16  # gradients along the path; each costs a forward and a backward pass
RANDOM_SEED = 0


def gradient_x_input(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    target: int | Tensor | None = None,
) -> Tensor:
    """Gradient of the target's logit times the word embedding, summed over dimensions: (batch, tokens).

    Positive for the target, negative against it (Shrikumar et al. 2016; Denil et al. 2014 for words).
    Arguments and errors are those of `lib.lrp.token_relevance`.
    """
    batch = _check(model, input_ids, attention_mask, target)
    with evaluating(model), _word_embeddings(model) as embedded:
        logits = _logits(model, batch.input_ids, batch.seen)
        return _times_gradient(model, logits, batch.target, embedded[0])


def integrated_gradients(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    target: int | Tensor | None = None,
) -> Tensor:
    """Integrate gradients from padding to the text, summed over embedding dimensions: (batch, tokens).

    Uses captum's Gauss-Legendre rule (Sundararajan et al. 2017). At the start of the path every token's word
    embedding is that of padding, and positions are kept; a text's relevances sum to its logit minus the logit
    at the start.

    Parameters
    ----------
    model, input_ids, attention_mask, target
        As in `lib.lrp.token_relevance`.

    Raises
    ------
    ValueError
        As in `lib.lrp.token_relevance`; also if the model has no padding token.
    """
    batch = _check(model, input_ids, attention_mask, target)
    padding = model.config.pad_token_id
    if padding is None:
        raise ValueError("model has config.pad_token_id = None; integrated gradients start from that token")
    with evaluating(model):
        with torch.no_grad():
            logits = _logits(model, batch.input_ids, batch.seen)
            checks.check_finite(model, logits)
            explained = logits.argmax(-1) if batch.target is None else batch.target
        method = LayerIntegratedGradients(
            lambda ids, seen: _logits(model, ids, seen), model.get_input_embeddings()
        )
        relevance = method.attribute(
            batch.input_ids,
            baselines=torch.full_like(batch.input_ids, padding),
            target=explained,
            additional_forward_args=(batch.seen,),
            n_steps=INTEGRATION_STEPS,
            internal_batch_size=len(batch.input_ids),  # one step at a time: the memory of one training step
        )
    return _at_least_float32(relevance).sum(-1).detach()


def attention_rollout(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    target: int | Tensor | None = None,
) -> Tensor:
    """Attention to each token, followed through all layers to the first token: (batch, tokens).

    Abnar and Zuidema 2020: a layer's attention, averaged over heads, and its residual connection count half
    each; rows sum to 1. ``target`` has no effect, since no class is involved. Arguments and errors are those
    of `lib.lrp.token_relevance`.
    """
    batch = _check(model, input_ids, attention_mask, target)
    with evaluating(model, attention="eager"), torch.no_grad():
        output = model(input_ids=batch.input_ids, attention_mask=batch.seen.long(), output_attentions=True)
    checks.check_finite(model, output.logits)
    maps = [_at_least_float32(layer.mean(1)) for layer in output.attentions]  # (batch, tokens, tokens) each
    row = F.one_hot(torch.zeros_like(batch.input_ids[:, :1]), maps[0].shape[-1])  # (batch, 1, tokens)
    for attention in reversed(maps):
        row = (row + row.to(attention) @ attention) / 2
    return row.squeeze(1)


class AttnLRPRules(TorchFunctionMode):
    """A context in which operations compute what they always do, but their gradients obey AttnLRP's rules.

    The relevance of a tensor is then the tensor times its gradient (Achtibat et al. 2024, with epsilon = 0):

    - linear layers and additions: in proportion to the contributions (epsilon rule): the plain gradient;
    - GELU, ReLU, tanh: passed through (identity rule): the gradient is output / input;
    - layer norm: the standard deviation in the denominator counts as a constant;
    - products of two activations: half to each factor;
    - softmax: the plain gradient.
    """

    def __torch_function__(
        self, function: Callable, types: Any, args: tuple = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Replace operations whose rule is not the plain gradient; PyTorch calls this for every operation."""
        return _RULES.get(function, function)(*args, **(kwargs or {}))


def _pass_through(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def rule(x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        y = function(x, *args, **kwargs).detach()
        return x * torch.where(x == 0, 0, y / x).detach()

    return rule


def _layer_norm(x: Tensor, shape: Sequence[int], weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    deviation = (x.var(-1, correction=0, keepdim=True) + eps).sqrt().detach()
    return (x - x.mean(-1, keepdim=True)) / deviation * weight + bias


def _half_each(a: Tensor, b: Tensor) -> Tensor:
    return (a @ b.detach() + a.detach() @ b) / 2


_RULES: dict[Callable, Callable] = {
    F.layer_norm: _layer_norm,
    F.gelu: _pass_through(F.gelu),
    F.relu: _pass_through(F.relu),
    torch.tanh: _pass_through(torch.tanh),
    torch.matmul: _half_each,
}


def attn_lrp(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    target: int | Tensor | None = None,
) -> Tensor:
    """Relevance of the word embeddings by AttnLRP's rules (Achtibat et al. 2024): (batch, tokens).

    Signed, like gradient x input, of which it is a variant: see `AttnLRPRules`. Arguments and errors are
    those of `lib.lrp.token_relevance`; also raises ValueError if the encoder's activation is neither GELU nor
    ReLU.
    """
    batch = _check(model, input_ids, attention_mask, target)
    if model.config.hidden_act not in ("gelu", "relu"):
        raise ValueError(f"model has hidden_act = {model.config.hidden_act!r}; allowed are 'gelu' and 'relu'")
    # The eager implementation of attention consists of operations that have a rule.
    with evaluating(model, attention="eager"), _word_embeddings(model) as embedded:
        with AttnLRPRules():
            logits = _logits(model, batch.input_ids, batch.seen)
        return _times_gradient(model, logits, batch.target, embedded[0])


def random_scores(
    model: PreTrainedModel,
    input_ids: Tensor,
    attention_mask: Tensor | None = None,
    target: int | Tensor | None = None,
) -> Tensor:
    """Uniform random scores between 0 and 1, the null for every other method: (batch, tokens).

    They depend only on the text, not on the model or the batch. Arguments and errors are those of
    `lib.lrp.token_relevance`.
    """
    batch = _check(model, input_ids, attention_mask, target)
    scores = torch.zeros(batch.input_ids.shape)
    for row, (ids, seen) in enumerate(zip(batch.input_ids.tolist(), batch.seen.tolist(), strict=True)):
        length = sum(seen)
        rng = np.random.default_rng((RANDOM_SEED, *ids[:length]))
        scores[row, :length] = torch.from_numpy(rng.random(length))
    return scores.to(batch.input_ids.device)


LRP, AUTHORS_LRP, RANDOM = "LRP", "LRP-fork", "random"  # Chefer et al.'s rules; paper 1's fork of them
METHODS: dict[str, Method] = {
    LRP: token_relevance,
    AUTHORS_LRP: partial(token_relevance, head="all_tokens"),
    "AttnLRP": attn_lrp,
    "integrated-gradients": integrated_gradients,
    "gradient-x-input": gradient_x_input,
    "attention-rollout": attention_rollout,
    RANDOM: random_scores,
}
"""Every method, by a name without blanks, so a parameter can list several."""


def explain(
    method: Method,
    model: PreTrainedModel,
    input_ids: Sequence[Sequence[int]],
    *,
    targets: Sequence[int] | None = None,
    pad_to: int | None = None,
) -> list[NDArray[np.floating]]:
    """Explain every text of a data set, batching texts of similar length.

    A batch has `CPU_TOKENS` or `CUDA_TOKENS` at most, padding included, but at least one text; this affects
    the speed, and rounding. If memory runs out, batches are half as large from there on, and the log says so.

    Parameters
    ----------
    method : callable
        One of ``METHODS``.
    model : PreTrainedModel
        On the device where to compute.
    input_ids : sequence of sequences of int, (texts,) of (tokens,)
        Without padding, special tokens included.
    targets : sequence of int, (texts,)
        The class explained for each text; by default the predicted one.
    pad_to : int
        Pad every text to this many tokens instead of to the longest of its batch: 512 for
        ``head="all_tokens"`` of `lib.lrp.token_relevance`, which depends on it.

    Returns
    -------
    list of array, (texts,) of (tokens,)
        In the given order, without padding.

    Raises
    ------
    ValueError
        If a text is longer than ``pad_to``, targets and texts differ in number, or the method rejects one.
    """
    lengths = np.array([len(row) for row in input_ids], dtype=np.int64)
    if pad_to is not None and lengths.max(initial=0) > pad_to:
        raise ValueError(f"pad_to = {pad_to}, but text {lengths.argmax()} has {lengths.max()} tokens")
    if targets is not None and len(targets) != len(lengths):
        raise ValueError(f"{len(targets)} targets for {len(lengths)} texts: one per text is required")
    order = [int(text) for text in np.argsort(lengths, kind="stable")]
    tokens = CUDA_TOKENS if model.device.type == "cuda" else CPU_TOKENS
    relevance: dict[int, NDArray] = {}

    def explain_batch(chosen: Sequence[int]) -> list[NDArray]:
        rows = [input_ids[text] for text in chosen]
        ids, mask = pad(rows, model.config.pad_token_id or 0, pad_to), token_mask(rows, pad_to)
        target = None if targets is None else torch.tensor([int(targets[text]) for text in chosen])
        return list(method(model, ids, mask, target).cpu().numpy())

    with tqdm(total=len(order), desc="explaining", delay=2, leave=False) as bar:
        batches = in_groups(explain_batch, order, tokens, "texts", lambda text: pad_to or int(lengths[text]))
        for found, _ in batches:
            chosen = order[len(relevance) : len(relevance) + len(found)]
            relevance.update((text, row[: lengths[text]]) for text, row in zip(chosen, found, strict=True))
            bar.update(len(found))
    return [relevance[text] for text in range(len(lengths))]


@contextmanager
def evaluating(model: PreTrainedModel, attention: str | None = None) -> Iterator[None]:
    """Switch dropout off, and the attention implementation if requested; restore both afterwards."""
    training = [module for module in model.modules() if module.training]
    implementation = model.config._attn_implementation
    model.eval()
    try:
        if attention is not None:
            model.set_attn_implementation(attention)
        with torch.inference_mode(False):  # the caller may be in inference mode, which forbids gradients
            yield
    finally:
        if attention is not None:
            model.set_attn_implementation(implementation)
        for module in training:
            module.training = True


def _check(
    model: PreTrainedModel, input_ids: Tensor, attention_mask: Tensor | None, target: int | Tensor | None
) -> checks.Batch:
    return checks.check(model, input_ids, attention_mask, target, start_layer=0, head="first_token")


def _logits(model: PreTrainedModel, input_ids: Tensor, seen: Tensor) -> Tensor:
    return model(input_ids=input_ids, attention_mask=seen.long()).logits


@contextmanager
def _word_embeddings(model: PreTrainedModel) -> Iterator[list[Tensor]]:
    """Collect the word embeddings of each forward pass as leaves that require a gradient."""
    leaves: list[Tensor] = []

    def replace(_module: Any, _inputs: Any, output: Tensor) -> Tensor:
        leaves.append(output.detach().requires_grad_())
        return leaves[-1]

    hook = model.get_input_embeddings().register_forward_hook(replace)
    try:
        with torch.enable_grad():
            yield leaves
    finally:
        hook.remove()


def _times_gradient(
    model: PreTrainedModel, logits: Tensor, target: Tensor | None, embedded: Tensor
) -> Tensor:
    """Multiply embeddings by the gradient of the target's logit and sum over dimensions: (batch, tokens)."""
    checks.check_finite(model, logits)
    target = logits.argmax(-1) if target is None else target
    (gradient,) = torch.autograd.grad(logits.gather(1, target[:, None]).sum(), embedded)
    return (_at_least_float32(embedded.detach()) * gradient).sum(-1)


def _at_least_float32(x: Tensor) -> Tensor:
    return x if x.dtype == torch.float64 else x.float()
