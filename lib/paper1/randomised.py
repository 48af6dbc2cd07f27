"""Does an explanation depend on what the model has learned? The check of Adebayo et al.

Sanity Checks for Saliency Maps (NeurIPS 2018), section 3.1: weights are replaced by random ones from the head
down, and each text's explanation is compared with that by the trained model. A method whose explanations stay
the same shows the texts, not the model.
"""

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from transformers import PreTrainedModel

from lib.architectures import embeddings, encoder_layers, head_layers
from lib.explanations import relevance
from lib.stability import kendall_tau
from lib.words import Tokens, texts_to_words

Floats = NDArray[np.floating]

TRAINED = "nothing"
STAGES = (TRAINED, "the head", "and the upper half of the layers", "and all layers", "and the embeddings")
"""What is random in a model, from nothing to everything; each stage includes those before it."""


def randomised(model: PreTrainedModel, seed: int) -> Iterator[tuple[str, PreTrainedModel]]:
    """Replace a model's weights by random ones, stage by stage.

    Parameters
    ----------
    model : PreTrainedModel
        A trained classifier, which stays as it is.
    seed : int
        Determines the random weights, which are those of an untrained model of its configuration.

    Yields
    ------
    stage : str
        Of `STAGES`, without the first.
    PreTrainedModel
        The model of that stage, which the next one changes.
    """
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        untrained: Any = type(model)(model.config)
    changed = deepcopy(model).eval()
    for stage, targets, sources in zip(
        STAGES[1:], _parts(changed), _parts(untrained.to(model.device)), strict=True
    ):
        for target, source in zip(targets, sources, strict=True):
            target.load_state_dict(source.state_dict())
        yield stage, changed


def relevance_by_stage(
    model: PreTrainedModel,
    tokens: Sequence[Tokens],
    targets: NDArray[np.integer],
    draws: int,
) -> dict[str, list[Floats]]:
    """Explain texts by LRP with more and more of the model's weights random.

    Parameters
    ----------
    model : PreTrainedModel
        A trained classifier.
    tokens : sequence of Tokens, (texts,)
    targets : ndarray of int, (texts,)
        The classes explained, the same in every stage.
    draws : int
        Random models of each stage, of the seeds 0, 1, ...

    Returns
    -------
    dict of str to list of ndarray, (texts,) of (draws, words)
        By stage of `STAGES`; of the first, in which nothing is random, one row.
    """
    rows = {TRAINED: [relevance(model, tokens, targets)]}
    for seed in range(draws):
        for stage, changed in randomised(model, seed):
            rows.setdefault(stage, []).append(relevance(changed, tokens, targets))
    return {
        stage: [np.stack(text) for text in zip(*(texts_to_words(tokens, row) for row in drawn), strict=True)]
        for stage, drawn in rows.items()
    }


def agreement_with_trained(by_stage: Mapping[str, Sequence[Floats]]) -> dict[str, Floats]:
    """Compare the rankings of words with those by the trained model: (draws, texts) each, by stage.

    Parameters
    ----------
    by_stage : mapping of str to sequence of ndarray, (texts,) of (draws, words)
        As `relevance_by_stage` returns it. Texts whose words cannot be ranked are left out.

    Returns
    -------
    dict of str to ndarray, (draws, texts)
        Kendall's tau of each random model's relevance and the trained model's, for all stages but the first.
    """
    trained = by_stage[TRAINED]
    tau = {
        stage: np.array(
            [[kendall_tau([own[0], row]) for row in rows] for own, rows in zip(trained, texts, strict=True)]
        ).T
        for stage, texts in by_stage.items()
        if stage != TRAINED
    }
    ranked = ~np.isnan(np.concatenate(list(tau.values()))).any(axis=0)  # (texts,)
    return {stage: values[:, ranked] for stage, values in tau.items()}


def _parts(model: PreTrainedModel) -> list[list[nn.Module]]:
    """Return the modules of each of `STAGES`, without the first: those that no earlier stage has."""
    layers = encoder_layers(model)
    half = len(layers) // 2
    return [list(head_layers(model)), layers[half:], layers[:half], [embeddings(model)]]
