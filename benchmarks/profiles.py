"""How long profiles take: smoke and demo as measured here, gpu and paper on GPUs as computed.

    python benchmarks/profiles.py [--peak 312 19.5] [--share 0.3] [--gpus 4]

Measured is the wall time that papermill noted in notebooks/executed/. The rest is computed as follows.

Papers 1 and 2, training: texts x tokens x 6 x parameters x epochs x models (2 FLOP forward and 4 backward for
a parameter and token), in bfloat16; explaining by LRP: texts x tokens x 6 x parameters x 1.48 (measured, see
README.md) x models and their formats, in float32. The device sustains a share of its peaks, which is assumed:
30 % of what NVIDIA's data sheet gives an A100, 312 TFLOP/s in bfloat16 and 19.5 in float32.

Paper 3: steps x the seconds of a step in its Tables 10 and 11, which one A100 took; the gpu profile's models
are smaller than Llama 2 7B, whose step stands in for theirs. Tests, generated answers and other explanations
than LRP come on top. Prints two tables.
"""

import argparse
from pathlib import Path
from statistics import mean
from typing import Any

import nbformat
import papermill
import yaml

from lib.claims import published
from lib.paper3.trials import explosion_candidates
from lib.qlora.recipes import Recipe

ROOT = Path(__file__).resolve().parent.parent
PARAMETERS = 85.6e6  # of CamemBERT-base's layers; looking up an embedding costs nothing
LAYERS = 12
TRAIN_TEXTS = {"allocine": 160_000, "infopinion": 8_000}
TEST_TEXTS = {"allocine": 20_000, "infopinion": 1_000}
TOKENS = {"allocine": 150, "infopinion": 512}  # pieces a text: a guess, and the length at which texts are cut
LRP = 1.48  # the cost of an explanation over that of forward and backward
QUOTE_STEPS = 3 * 2_006  # of a trial of paper 3 on quotes: epochs x texts, in batches of 1


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


def training(task: str, texts: int, epochs: int) -> float:
    """Return the FLOP of fine-tuning one CamemBERT-base; 0 texts stand for all."""
    return (texts or TRAIN_TEXTS[task]) * TOKENS[task] * 6 * PARAMETERS * epochs


def explaining(task: str, texts: int) -> float:
    """Return the FLOP of explaining one model's predictions; 0 texts stand for all."""
    return (texts or TEST_TEXTS[task]) * TOKENS[task] * 6 * PARAMETERS * LRP


def paper_1(p: dict[str, Any]) -> tuple[int, float, float]:
    """Return how many models notebook 1 fine-tunes, and the FLOP of training and of explaining them."""
    tasks = (p["dataset"], p["other_dataset"])
    texts = (p["train_texts"], p["other_train_texts"])
    once = [training(task, count, p["epochs"]) for task, count in zip(tasks, texts, strict=True)]
    further = {task: training(task, p["further_texts"], p["epochs"]) for task in tasks}
    chain = [further[tasks[place % 2]] for place in range(p["chain_rounds"])] * p["chain_seeds"]
    artifacts = [further[tasks[1]]] * len(p["artifact_rates"].split()) * p["artifact_seeds"]
    models = once * p["seeds"] + chain + artifacts
    explained = 2 * p["seeds"] * sum(explaining(task, p["explained_texts"]) for task in tasks)
    return len(models), sum(models), explained


def paper_2(p: dict[str, Any]) -> tuple[int, float, float]:
    """Return the same for notebook 2; a curve's points are counted as if all of the model were trained."""
    points = sum(LAYERS if point == "layers" else 1 for point in p["curve"].split())
    models, formats = p["seeds"] + points * p["curve_seeds"], 1 + len(p["quantizations"].split())
    explanations = (p["seeds"] + p["frozen_seeds"]) * formats + points * p["curve_seeds"]
    return (
        models,
        models * training(p["dataset"], p["train_texts"], p["epochs"]),
        explanations * explaining(p["dataset"], p["explained_texts"]),
    )


def paper_3(p: dict[str, Any]) -> tuple[int, float]:
    """Return how many trials notebook 3 runs, and the seconds of training."""
    taken = published(3)["train_seconds"]
    llama = mean(taken["Llama2-7B"]["32-bit"]) / QUOTE_STEPS  # seconds a step
    if p["neox"] == "EleutherAI/gpt-neox-20b":
        kinds = [mean(seconds) for of_model in taken.values() for seconds in of_model.values()]
        one = llama * QUOTE_STEPS
    else:
        one = llama * p["epochs"] * 0.8 * p["quote_texts"]
        kinds = [one] * 8
    tasks = llama * p["task_epochs"] * 0.8 * (p["label_texts"] + p["summary_texts"])
    candidates = len(explosion_candidates(Recipe(optimizer="adamw_torch")))
    # The first trial is the first repetition; all repetitions are done again with the other kernels.
    of_each_kind = p["trials"] + 2 * p["repetitions"] - 1
    # The factorial design's runs hold one kernel of each pair.
    small = p["levels"] ** 3 + p["levels"] + candidates * p["explosion_seeds"]
    trials = of_each_kind * len(kinds) + small + 2 * p["trials"]
    return trials, of_each_kind * sum(kinds) + small * one + p["trials"] * tasks


def main() -> None:
    """Compute and print."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--peak", type=float, nargs=2, default=[312.0, 19.5], help="TFLOP/s: bfloat16, float32"
    )
    parser.add_argument("--share", type=float, default=0.3, help="of it that is sustained")
    parser.add_argument("--gpus", type=int, default=4, help="of the last column")
    options = parser.parse_args()
    print_measured()
    fast, slow = (options.share * peak * 1e12 * 3600 for peak in options.peak)  # FLOP an hour
    print(f"\n| profile, notebook | trainings | training, h | explaining, h | with {options.gpus} GPUs, h |")
    print("| --- | --- | --- | --- | --- |")
    for profile in ("gpu", "paper"):
        rows = []
        for number, count in ((1, paper_1), (2, paper_2)):
            trainings, trained, explained = count(parameters(profile, number))
            rows.append((trainings, trained / fast, explained / slow))
        trials, seconds = paper_3(parameters(profile, 3))
        rows.append((trials, seconds / 3600, 0.0))
        for number, (trainings, training_hours, explaining_hours) in enumerate(rows, 1):
            together = (training_hours + explaining_hours) / options.gpus
            print(
                f"| {profile}, {number} | {trainings} | {training_hours:.1f} | {explaining_hours:.1f} "
                f"| {together:.1f} |"
            )


if __name__ == "__main__":
    main()
