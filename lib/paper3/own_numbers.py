"""The paper's own numbers: under its own claims, and where its arithmetic does not add up."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

from lib import claims
from lib.claims import Claim, decisive
from lib.intervals import (
    Floats,
    Interval,
    exponential,
    mean_and_range,
    mean_interval,
    sd_interval,
    sd_ratio_interval,
)
from lib.paper3.tables import PRINTED_DECIMALS
from lib.paper3.texts import differ, pairs_of_trials, share_interval
from lib.repeatability import with_holm

# Layers, and inputs and outputs of the matrices that peft adapts by default (query_key_value of GPT-NeoX,
# q_proj and v_proj of Llama), from the models' public configurations; then the sizes of their vocabularies.
ARCHITECTURES: dict[str, tuple[int, tuple[tuple[int, int], ...]]] = {
    "GPT-NeoX-20B": (44, ((6_144, 18_432),)),
    "Llama2-7B": (32, ((4_096, 4_096), (4_096, 4_096))),
    "GPT-NeoXT-chat-20B": (44, ((6_144, 18_432),)),
    "Llama2-chat-7B": (32, ((4_096, 4_096), (4_096, 4_096))),
}
VOCABULARY = {
    "GPT-NeoX-20B": 50_432,
    "Llama2-7B": 32_000,
    "GPT-NeoXT-chat-20B": 50_432,
    "Llama2-chat-7B": 32_000,
}
# Bytes of the two moments per trained parameter: 32 bits each; or 8 bits each, and for each a scale of 4
# bytes per 256 parameters.
STATE_BYTES = {"32-bit": 8.0, "8-bit": 2 * (1 + 4 / 256)}


def judged_by_itself(
    claims_of_paper: Mapping[str, Claim], published: Mapping[str, Any], confidence: float
) -> pd.DataFrame:
    """Judge the paper's claims by the numbers that it prints for them.

    Parameters
    ----------
    claims_of_paper : mapping of str to Claim
        By name.
    published : mapping
        The paper's values.
    confidence : float
        Coverage of the intervals.

    Returns
    -------
    DataFrame
        One row per claim whose trials the paper prints: ``claim``, ``criterion``, ``the paper's own numbers``
        (as an interval; that of the model that decides) and ``verdict``.
    """
    rows = []
    for name, interval in own_measurements(claims_of_paper, published, confidence).items():
        claim = claims_of_paper[name]
        rows.append(
            {
                "claim": claim.statement,
                "criterion": f"{claim.quantity}: {claim.region}",
                "the paper's own numbers": str(interval),
                "verdict": claims.judge(claim, interval).verdict,
            }
        )
    return pd.DataFrame(rows)


def own_measurements(
    claims_of_paper: Mapping[str, Claim], published: Mapping[str, Any], confidence: float
) -> dict[str, Interval]:
    """Return the quantity of each claim, by name, as the published trials give it.

    The published trials of the two optimizers share no seeds, so they are two independent samples: means are
    compared by Welch's interval (those of times as logarithms), and spreads by the F distribution.
    """
    models = published["models"]
    nats = {
        model: {bits: [math.log(value) for value in column] for bits, column in columns.items()}
        for model, columns in published["perplexity"].items()
    }

    def printed_sd(model: str, coverage: float) -> Interval:
        values = published["perplexity"][model]["32-bit"]
        return sd_interval([value * 10**PRINTED_DECIMALS for value in values], coverage)

    def change(model: str, coverage: float) -> Interval:
        before = math.log(published["pretrained_perplexity"][model])
        return mean_interval([value - before for value in nats[model]["32-bit"]], coverage)

    def difference(model: str, coverage: float) -> Interval:
        return _welch(nats[model]["8-bit"], nats[model]["32-bit"], coverage)

    def spread(model: str, coverage: float) -> Interval:
        return sd_ratio_interval(nats[model]["8-bit"], nats[model]["32-bit"], coverage)

    def training(model: str, coverage: float) -> Interval:
        return _time_ratio(published["train_seconds"][model], coverage)

    def testing(model: str, coverage: float) -> Interval:
        return _time_ratio(published["test_seconds"][model], coverage)

    about_all_models = {
        "not_repeatable": printed_sd,
        "fine_tuning_helps": change,
        "eight_bit_worse": difference,
        "eight_bit_less_repeatable": spread,
        "slower_32_bit": training,
        "slower_testing_32_bit": testing,
    }
    measured = {
        name: decisive(measure, models, claims_of_paper[name].region, confidence)
        for name, measure in about_all_models.items()
    }
    memory = published["memory_percent"].values()
    measured["less_memory"] = mean_and_range(
        [100 * (percent["32-bit"] / percent["8-bit"] - 1) for percent in memory]
    )
    texts = [
        [prompt["32-bit"] for prompt in of_model.values()] for of_model in published["completions"].values()
    ]
    measured["completions_differ"] = _pairs_that_differ(texts, confidence)
    letters = [of_model["32-bit"] for of_model in published["answers"].values()]
    measured["answers_differ"] = _pairs_that_differ(letters, confidence)
    return {name: measured[name] for name in claims_of_paper if name in measured}


def time_ratios(published: Mapping[str, Any], confidence: float) -> pd.DataFrame:
    """Return the published times with the 32-bit optimizer, divided by those with the 8-bit one.

    Parameters
    ----------
    published : mapping
        The paper's values.
    confidence : float
        Coverage of the intervals.

    Returns
    -------
    DataFrame
        One row per model. Columns: the ratios of the geometric means of the times of ``training`` and
        ``testing`` with Welch's intervals, since trials of the same number are not pairs; ``p training`` and
        ``p testing``, the p-values of a ratio of 1, corrected over the models by Holm's method.
    """
    rows = {}
    for model in published["models"]:
        row: dict[str, Any] = {}
        for what, seconds in (
            ("training", published["train_seconds"]),
            ("testing", published["test_seconds"]),
        ):
            row[what] = _time_ratio(seconds[model], confidence)
            logs = np.log(seconds[model]["32-bit"]), np.log(seconds[model]["8-bit"])
            row[f"p {what}"] = float(stats.ttest_ind(*logs, equal_var=False).pvalue)
        rows[model] = row
    return with_holm(pd.DataFrame.from_dict(rows, orient="index"))


def lora_parameters(model: str, rank: int) -> int:
    """Return the number of adapter parameters of one of the paper's models, from its architecture."""
    layers, matrices = ARCHITECTURES[model]
    return layers * sum(rank * (inputs + outputs) for inputs, outputs in matrices)


def expected_memory(published: Mapping[str, Any], *, rank: int, gpu_bytes: float) -> pd.DataFrame:
    """Work out by how much the 32-bit optimizer's states should exceed the 8-bit one's, beside Table 3.

    Parameters
    ----------
    published : mapping
        The paper's values.
    rank : int
        Of the adapters.
    gpu_bytes : float
        Memory of the GPU.

    Returns
    -------
    DataFrame
        One row per model: adapter ``parameters``, ``difference`` (MiB), the same in percentage points of the
        GPU's memory (``expected``), and the published difference (``published``).
    """
    rows = {}
    for model, percent in published["memory_percent"].items():
        parameters = lora_parameters(model, rank)
        difference = parameters * (STATE_BYTES["32-bit"] - STATE_BYTES["8-bit"])
        rows[model] = {
            "parameters": parameters,
            "difference": difference / 2**20,
            "expected": 100 * difference / gpu_bytes,
            "published": percent["32-bit"] - percent["8-bit"],
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def _welch(first: Sequence[float] | Floats, second: Sequence[float] | Floats, confidence: float) -> Interval:
    """Return the difference of the means of two samples, (trials,) each, with Welch's interval."""
    bounds = stats.ttest_ind(first, second, equal_var=False).confidence_interval(confidence)
    return Interval(float(np.mean(first) - np.mean(second)), float(bounds.low), float(bounds.high))


def _time_ratio(seconds: Mapping[str, Sequence[float]], confidence: float) -> Interval:
    """Return the ratio of the geometric means of two independent samples of times, 32-bit to 8-bit."""
    return exponential(_welch(np.log(seconds["32-bit"]), np.log(seconds["8-bit"]), confidence))


def _pairs_that_differ(columns: Sequence[Sequence[Sequence[str]]], confidence: float) -> Interval:
    """Return the share of pairs of trials with different texts: (models, prompts, trials) -> Interval."""
    pairs = [pairs_of_trials(list(zip(*of_model, strict=True)), differ) for of_model in columns]
    return share_interval(np.mean(pairs, axis=0), confidence)  # the models complete the same prompts
