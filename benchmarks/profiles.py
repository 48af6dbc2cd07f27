"""How long profiles take: the executed ones as measured, gpu and paper on H100s as computed.

    PYTHONPATH=. python benchmarks/profiles.py [--gpus 4]

Measured is the wall time that papermill noted in notebooks/executed/. The rest is computed from the rates
below, which one H100 reached (benchmarks/README.md): steps x seconds a step, and texts / texts a second.
Rates at other lengths are interpolated. Generated answers, tests and explanations by other methods than LRP
come on top. Prints two tables.

Paper 3's texts are counted as 512 tokens long and its trials in groups of seven, and a step of another model
takes as much longer as the model is larger: quotes are a tenth as long, so this is an upper bound.
"""

import argparse
from collections.abc import Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import nbformat
import numpy as np
import papermill
import yaml

from lib.paper3.trials import explosion_candidates, factorial, trials_of, with_both_optimizers
from lib.qlora.recipes import KERNELS, Recipe
from lib.qlora.trial import Trial
from lib.recipes import TrainingRecipe

ROOT = Path(__file__).resolve().parent.parent

# One H100 80GB HBM3, torch 2.11: CamemBERT-base, a batch of 4, captured, bfloat16, deterministic kernels.
STEP_SECONDS = {128: 0.00777, 512: 0.01748}  # by tokens
EXPLANATION_SECONDS = {128: 0.2477 / 64}  # of a text by tokens, in float32, under a profiler
HEADS_STEP_SECONDS = 0.0103  # of 200 heads, with start-up: an upper bound
TRIALS_STEP_SECONDS = 0.423  # of seven trials of Llama 2 7B, 512 tokens each, captured
ALONE_STEP_SECONDS = 0.582  # of one trial, not captured; captured it was not measured

LAYERS = 12
TRAIN_TEXTS = {"allocine": 160_000, "infopinion": 8_000}
TEST_TEXTS = {"allocine": 20_000, "infopinion": 1_000}
TOKENS = {"allocine": 150, "infopinion": 512}  # pieces a text: a guess, and the length at which texts are cut
QUOTES, INSTRUCTIONS = 2_006, 19_941  # paper 3's training texts, of 2,508 and 24,926
BILLIONS = {
    "EleutherAI/pythia-410m": 0.41,
    "EleutherAI/pythia-1b": 1.0,
    "TinyLlama/TinyLlama-1.1B-intermediate-step-1431k-3T": 1.1,
    "TinyLlama/TinyLlama-1.1B-Chat-v1.0": 1.1,
    "EleutherAI/gpt-neox-20b": 20.6,
    "togethercomputer/GPT-NeoXT-Chat-Base-20B": 20.6,
    "meta-llama/Llama-2-7b-hf": 6.7,
    "meta-llama/Llama-2-7b-chat-hf": 6.7,
}
"""Parameters of a model."""
LLAMA_7B = 6.7


def parameters(profile: str, number: int) -> dict[str, Any]:
    """Read a notebook's parameters as a profile sets them."""
    (notebook,) = (ROOT / "notebooks").glob(f"{number}_*.ipynb")
    defaults = papermill.inspect_notebook(str(notebook))
    given = yaml.safe_load((ROOT / "params" / profile / f"{notebook.stem}.yaml").read_text(encoding="utf-8"))
    return {name: yaml.safe_load(details["default"]) for name, details in defaults.items()} | given


def print_measured() -> None:
    """Print the durations of the notebooks that were executed here."""
    print("| profile, notebook | measured, s |\n| --- | --- |")
    for path in sorted(ROOT.glob("notebooks/executed/*/[0-9]_*.ipynb")):
        seconds = nbformat.read(path, as_version=4).metadata["papermill"]["duration"]
        print(f"| {path.parent.name}, {path.name[0]} | {seconds:.0f} |")


def training(p: dict[str, Any], task: str, texts: int, schedule: str) -> float:
    """Return the seconds of fine-tuning one CamemBERT-base; 0 texts stand for all."""
    recipe = TrainingRecipe(p["epochs"], p["learning_rate"], p["batch_size"], schedule)
    step = float(np.interp(TOKENS[task], list(STEP_SECONDS), list(STEP_SECONDS.values())))
    return recipe.steps(texts or TRAIN_TEXTS[task]) * step * p["batch_size"] / 4


def explaining(task: str, texts: int) -> float:
    """Return the seconds of explaining one model's predictions; 0 texts stand for all."""
    ((tokens, seconds),) = EXPLANATION_SECONDS.items()
    return (texts or TEST_TEXTS[task]) * seconds * TOKENS[task] / tokens


def paper_1(p: dict[str, Any]) -> tuple[int, float, float]:
    """Return how many models notebook 1 fine-tunes, and the seconds of training and of explaining them."""
    tasks = (p["dataset"], p["other_dataset"])
    texts = dict(zip(tasks, (p["train_texts"], p["other_train_texts"]), strict=True))
    seeds = {"authors": p["seeds"], "described": p["described_seeds"]}
    models = [
        training(p, task, texts[task], schedule)
        for schedule, count in seeds.items()
        for task in tasks
        for _ in range(count)
    ]
    further = {task: training(p, task, p["further_texts"], "authors") for task in tasks}
    models += [further[tasks[place % 2]] for place in range(p["chain_rounds"])] * p["chain_seeds"]
    rates = len(p["artifact_rates"].split())
    models += [
        training(p, tasks[1], p["further_texts"], schedule)
        for schedule, count in {"authors": p["artifact_seeds"], "described": p["described_seeds"]}.items()
        for _ in range(rates * count)
    ]
    # Fine-tuned, frozen and cross-task models; those under the described schedule are not explained.
    explained = 3 * p["seeds"] * sum(explaining(task, p["explained_texts"]) for task in tasks)
    return len(models), sum(models), explained


def paper_2(p: dict[str, Any]) -> tuple[int, float, float]:
    """Return the same for notebook 2; a curve's points are counted as if all of the model were trained."""
    points = sum(LAYERS if point == "layers" else 1 for point in p["curve"].split())
    # The fine-tuned models, their twin of the same surface, and the curve, all under the authors' schedule.
    models, formats = 2 * p["seeds"] + points * p["curve_seeds"], 1 + len(p["quantizations"].split())
    one, other = (
        training(p, p["dataset"], p["train_texts"], schedule) for schedule in ("authors", "described")
    )
    heads = TrainingRecipe(p["head_epochs"], p["head_learning_rate"], p["head_batch_size"])
    steps = heads.steps(p["train_texts"] or TRAIN_TEXTS[p["dataset"]])
    seconds = models * one + p["other_schedule_seeds"] * other + steps * HEADS_STEP_SECONDS
    explanations = (p["seeds"] + p["frozen_seeds"]) * formats + p["seeds"] + points * p["curve_seeds"]
    explanations += p["other_schedule_seeds"] + 3 * p["random_label_seeds"]  # their own, twice, and shared
    return (
        models + p["other_schedule_seeds"],
        seconds,
        explanations * explaining(p["dataset"], p["explained_texts"]),
    )


def paper_3(p: dict[str, Any]) -> tuple[int, float, float]:
    """Return how many trials notebook 3 runs, the seconds of training them, and 0."""
    quotes = p["epochs"] * (0.8 * p["quote_texts"] or QUOTES)
    instructions = p["epochs"] * (0.8 * p["instruction_texts"] or INSTRUCTIONS)
    steps = {"neox": quotes, "llama": quotes, "neox_chat": instructions, "llama_chat": instructions}
    # Of one text each; a third of these texts is held out.
    steps |= {"scored only": quotes} | {
        task: p["task_epochs"] * 2 / 3 * p[texts]
        for task, texts in (("labels", "label_texts"), ("summaries", "summary_texts"))
    }

    recipe = Recipe()
    recipes = dict.fromkeys(("neox", "llama", "neox_chat", "llama_chat"), recipe)
    on_quotes = partial(trials_of, "llama", "scored only")
    seeds, kernel_seeds = range(p["trials"]), range(p["levels"])
    kernels = [replace(recipe, attention=kernel) for kernel in KERNELS]
    repetitions = with_both_optimizers(recipes, seeds[:1], repetitions=p["repetitions"])
    alone = {*repetitions, *on_quotes(kernels, kernel_seeds)}
    in_groups = {
        *with_both_optimizers(recipes, seeds),
        *factorial("llama", "scored only", recipe, levels=p["levels"], first_seed=0),
        *on_quotes([recipe], kernel_seeds, repetition=1),
        *on_quotes(explosion_candidates(recipe).values(), range(p["explosion_seeds"])),
        *trials_of("llama_chat", "labels", [recipe], seeds),
        *trials_of("llama_chat", "summaries", [recipe], seeds),
    } - alone  # a trial of two parts of the plan is trained once

    def seconds(trials: Iterable[Trial], step: float) -> float:
        return sum(steps[trial.task] * step * BILLIONS[p[trial.model]] / LLAMA_7B for trial in trials)

    # What is compared to the bit is trained alone, and repetitions again with the other kernels.
    total = seconds([*alone, *repetitions], ALONE_STEP_SECONDS) + seconds(in_groups, TRIALS_STEP_SECONDS / 7)
    return len(alone) + len(repetitions) + len(in_groups), total, 0.0


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--gpus", type=int, default=4, help="of the last column")
    options = parser.parse_args()
    print_measured()
    print(f"\n| profile, notebook | trainings | training, h | explaining, h | with {options.gpus} GPUs, h |")
    print("| --- | --- | --- | --- | --- |")
    for profile in ("gpu", "paper"):
        for number, count in ((1, paper_1), (2, paper_2), (3, paper_3)):
            trainings, *seconds = count(parameters(profile, number))
            hours = [one / 3600 for one in seconds]
            shown = " | ".join(f"{one:.1f}" for one in [*hours, sum(hours) / options.gpus])
            print(f"| {profile}, {number} | {trainings} | {shown} |")


if __name__ == "__main__":
    main()
