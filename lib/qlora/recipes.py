"""What a QLoRA trial is told: how to train, on which texts, what to ask, and which seed rules what."""

from dataclasses import asdict, dataclass, field
from typing import Any

OPTIMIZERS = ("paged_adamw_8bit", "paged_adamw_32bit", "adamw_torch")
SOURCES = ("initialisation", "order", "dropout")


@dataclass(frozen=True)
class Recipe:
    """How a trial is trained; the defaults are paper 3's, section VII, with GPT-NeoX's learning rate.

    Attributes
    ----------
    optimizer : str
        One of ``OPTIMIZERS``, by transformers' names.
    learning_rate : float
        Peak.
    schedule : str
        ``linear`` (to zero) or ``constant``.
    epochs, batch_size, max_length : int
        Of the training; texts are cut to ``max_length`` tokens, those for testing too.
    rank, alpha, dropout
        Of the adapters. They go where peft puts them for the architecture.
    compute : str
        The type in which 4-bit weights are multiplied: ``float32``, ``bfloat16`` or ``float16``.
    adapter : str
        The type in which adapters are kept and updated, of the same three.
    epsilon : float
        Adam's.
    loss_scale : float
        The loss is multiplied by it, and so are the clipping norm and epsilon: the same training, were
        numbers real; gradients too small for a 16-bit float are saved from becoming 0.
    attention : str
        ``sdpa`` or ``eager``: the same formula in another order of summation.
    min_8bit_size : int
        Tensors with fewer elements get 32-bit states from an 8-bit optimizer. Its own default, 4096, would
        spare every adapter of a small model.
    """

    optimizer: str = "paged_adamw_32bit"
    learning_rate: float = 2e-4
    schedule: str = "linear"
    epochs: int = 3
    batch_size: int = 1
    max_length: int = 512
    rank: int = 8
    alpha: int = 32
    dropout: float = 0.05
    compute: str = "float32"
    adapter: str = "float32"
    epsilon: float = 1e-8
    loss_scale: float = 1.0
    attention: str = "sdpa"
    min_8bit_size: int = 1


@dataclass(frozen=True)
class Task:
    """Texts to learn from, and what the result is asked.

    Attributes
    ----------
    train, test : list of str
        Whole texts, tags included.
    prompts : list of str
        To be continued.
    questions : list of str
        To be answered: each is continued greedily.
    options : list of str
        If any, the likeliest is chosen after each question instead.
    new_tokens, answer_tokens : int
        How far prompts are continued, and questions.
    special_tokens : bool
        Whether tokenizers add their own; no for texts that bring their tags.
    """

    train: list[str]
    test: list[str]
    prompts: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    new_tokens: int = 20
    answer_tokens: int = 40
    special_tokens: bool = True


def run_of(
    seed: int,
    model: str,
    task: str,
    recipe: Recipe,
    *,
    device: str,
    deterministic: bool,
    repetition: int = 0,
    **sources: int,
) -> dict[str, Any]:
    """Describe a trial as JSON values, for ``lib.runs.sweep.run``.

    Parameters
    ----------
    seed : int
        Of every source that is not named.
    model, task : str
        Names in the ``models`` and ``tasks`` that the trial is handed.
    recipe : Recipe
        How it is trained.
    device : str
        ``cpu`` or ``cuda``.
    deterministic : bool
        Whether to ask PyTorch for deterministic kernels.
    repetition : int
        Tells runs apart that are the same in everything else.
    **sources : int
        ``initialisation``, ``order`` or ``dropout``: seeds of single sources.

    Raises
    ------
    ValueError
        If a source or the optimizer is unknown.
    """
    for name in sources:
        if name not in SOURCES:
            raise ValueError(f"source {name!r}: allowed: {', '.join(SOURCES)}")
    if recipe.optimizer not in OPTIMIZERS:
        raise ValueError(f"optimizer = {recipe.optimizer!r}: allowed: {', '.join(OPTIMIZERS)}")
    return {
        "seed": seed,
        "model": model,
        "task": task,
        "recipe": asdict(recipe),
        "seeds": {name: sources.get(name, seed) for name in SOURCES},
        "device": device,
        "deterministic": deterministic,
        "repetition": repetition,
    }
