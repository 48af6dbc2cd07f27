"""Chefer et al.'s relevance of one text: a slow transcription, rule by rule, of the model's own forward pass.

It uses nothing from `lib`. The rules are numbered as in `lib.lrp.walk`. Tensors have no batch dimension.
"""

import copy

import torch
from torch import nn


def divide(a, b):
    """Rule 1."""
    return torch.where(b == 0, torch.zeros_like(b), a / (b + 1e-9))


def linear(x, weight, relevance):
    """Rule 2, contribution by contribution: (tokens, out, in)."""
    positive = x.clamp(min=0)[:, None] * weight.clamp(min=0)
    negative = x.clamp(max=0)[:, None] * weight.clamp(max=0)
    contributions = positive + negative
    return (contributions * divide(relevance, contributions.sum(2))[:, :, None]).sum(1)


def addition(a, b, relevance):
    """Rule 3."""
    s = divide(relevance, a + b)
    share_a, share_b = a * s, b * s
    size_a, size_b = share_a.sum().abs(), share_b.sum().abs()
    part_a = divide(size_a, size_a + size_b) * relevance.sum()
    part_b = divide(size_b, size_a + size_b) * relevance.sum()
    return share_a * divide(part_a, share_a.sum()), share_b * divide(part_b, share_b.sum())


def reuse(x, relevances):
    """Rule 4."""
    return x * sum(divide(relevance, x) for relevance in relevances)


def matmul(a, b, relevance):
    """Rules 5 and 7, contribution by contribution: (rows, inner, columns)."""
    contributions = a[:, :, None] * b[None]
    shares = contributions * divide(relevance, contributions.sum(1))[:, None]
    return shares.sum(2) / 2, shares.sum(0) / 2


def rollout(maps, start_layer):
    """Rule 12: the first row of the whole product."""
    augmented = [one + torch.eye(len(one), dtype=one.dtype) for one in maps]
    augmented = [one / one.sum(1, keepdim=True) for one in augmented]
    joint = augmented[start_layer]
    for one in augmented[start_layer + 1 :]:
        joint = one @ joint
    return joint[0]


def explain(model, input_ids, mask=None, target=None, head="first_token"):
    """Return the logits, and relevance and gradient at every layer, by name."""
    model = copy.deepcopy(model).eval()
    model.set_attn_implementation("eager")
    mask = torch.ones_like(input_ids) if mask is None else mask
    inputs, outputs, probabilities = {}, {}, []

    def keep(module, args, output):
        inputs[module], outputs[module] = args[0].detach()[0], output.detach()[0]

    def keep_probabilities(module, args, output):
        output[1].retain_grad()
        probabilities.append(output[1])

    layers = model.base_model.encoder.layer
    for module in model.modules():
        if isinstance(module, nn.Linear):
            module.register_forward_hook(keep)
    for layer in layers:
        layer.attention.self.register_forward_hook(keep_probabilities)
    logits = model(input_ids[None], attention_mask=mask[None]).logits[0]
    target = int(logits.argmax()) if target is None else target
    logits[target].backward()  # rule 10

    def through(module, relevance):
        return linear(inputs[module], module.weight.detach(), relevance)

    pooler = model.base_model.pooler
    roberta = pooler is None
    first = model.classifier.dense if roberta else pooler.dense
    last = model.classifier.out_proj if roberta else model.classifier
    for module in (first, last):  # the head works on (1, hidden)
        inputs[module] = inputs[module].reshape(1, -1)
    seed = torch.zeros(1, len(logits), dtype=logits.dtype)
    seed[0, target] = 1  # rule 9
    relevance = through(first, through(last, seed))  # (1, hidden)
    if head == "first_token":
        encoded = torch.zeros(len(input_ids), relevance.shape[1], dtype=relevance.dtype)
        encoded[0] = reuse(inputs[first], [relevance])[0]
        relevance = encoded

    layers_below = [None] * len(layers)
    for index in reversed(range(len(layers))):
        layer, above = layers[index], relevance
        attention = layer.attention.self
        x, attended = inputs[attention.query], inputs[layer.intermediate.dense]
        to_output, to_attended = addition(outputs[layer.output.dense], attended, relevance)  # rules 8, 3
        relevance = through(layer.intermediate.dense, through(layer.output.dense, to_output))  # rules 2, 8
        relevance = reuse(attended, [relevance, to_attended])
        to_output, to_x = addition(outputs[layer.attention.output.dense], x, relevance)
        context = split(through(layer.attention.output.dense, to_output), attention)
        q, k, v = (
            split(outputs[part], attention) for part in (attention.query, attention.key, attention.value)
        )
        p, gradient = probabilities[index].detach()[0], probabilities[index].grad[0]
        by_head = [matmul(p[i], v[i], context[i]) for i in range(len(p))]  # rule 5
        to_p, to_v = (torch.stack(part) for part in zip(*by_head, strict=True))
        scores = q @ k.mT / q.shape[-1] ** 0.5
        to_scores, _ = addition(scores, (1.0 - mask.to(p)).expand_as(scores) * -10_000.0, to_p)  # rules 8, 6
        by_head = [matmul(q[i], k[i].T, to_scores[i]) for i in range(len(p))]  # rule 7
        to_q, to_k = (torch.stack(part) for part in zip(*by_head, strict=True))
        uses = [
            through(attention.query, merge(to_q)),
            through(attention.key, merge(to_k.mT)),
            through(attention.value, merge(to_v)),
        ]
        relevance = reuse(x, [reuse(x, uses), to_x])
        layers_below[index] = {
            "above": above,
            "below": relevance,
            "map": (gradient * to_p).clamp(min=0).mean(0),  # rule 11
            "gradient": gradient,
            "probabilities": to_p,
        }
    return logits.detach(), layers_below


def split(x, attention):
    return x.reshape(len(x), attention.num_attention_heads, -1).transpose(0, 1)


def merge(x):
    return x.transpose(0, 1).reshape(x.shape[1], -1)
