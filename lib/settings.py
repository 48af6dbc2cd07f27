"""Each notebook's parameters: their names, types and ranges, and which must agree with each other.

The notebook's parameters cell holds the defaults and papermill injects others; these models hold none.
"""

import difflib
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import takewhile
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)

from lib.errors import InputError
from lib.precision import Precision, RelevancePrecision, default_precision, has_bfloat16
from lib.recipes import Schedule, TrainingRecipe
from lib.trained_parts import CURVE, CURVE_ALLOWED, LORA, part_of

PROJECT_ROOT = Path(__file__).resolve().parent.parent

# Explanation methods that notebook 2 compares with LRP, by their names in `lib.attribution.METHODS`, whose
# import would be slow here.
OTHER_METHODS = ("LRP-fork", "gradient-x-input", "integrated-gradients")

# The kernel's own names, which stand beside the parameters in a notebook's namespace.
_KERNEL_NAMES = frozenset({"In", "Out"})
_PLAIN_TYPES = (bool, int, float, str, list, tuple, dict, set, type(None))


class SettingsError(InputError):
    """Parameters of a notebook are wrong: one line for each, with its name, its value and what is allowed."""


def _from_root(path: object) -> object:
    """Resolve a relative path against the project's root, wherever the notebook was started."""
    return PROJECT_ROOT / Path(path).expanduser() if isinstance(path, str) and path else path


ProjectPath = Annotated[Path, BeforeValidator(_from_root)]
Count = Annotated[int, Field(ge=1)]
Pair = Annotated[int, Field(ge=2)]  # texts of both classes
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]
Language = Literal["French", "English"]


class NotebookSettings(BaseModel):
    """The parameters that every notebook has: where runs are kept and how they are carried out."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    first_seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    deterministic: bool
    engine: Literal["local", "ray"]
    workers: Count
    min_finished: Fraction
    cache_dir: ProjectPath
    figure_dir: ProjectPath

    @classmethod
    def from_namespace(cls, namespace: Mapping[str, Any]) -> Self:
        """Read the parameters from a notebook's ``globals()``.

        Every plain value (number, text, list ...) defined before this class was imported is taken for a
        parameter. So an unknown name is an error here, where papermill only warns; and the cell can be
        executed again, whatever later cells have defined.

        Parameters
        ----------
        namespace : mapping
            ``globals()`` of the notebook, in the order of definition.

        Raises
        ------
        SettingsError
            With one line for each unknown name, missing name, wrong type or value out of range.
        """
        before = takewhile(lambda item: item[1] is not cls, namespace.items())
        given = {
            name: value
            for name, value in before
            if isinstance(value, _PLAIN_TYPES) and not name.startswith("_") and name not in _KERNEL_NAMES
        }
        try:
            settings = cls.model_validate(given)
        except ValidationError as error:
            lines = [cls._line(dict(problem)) for problem in error.errors(include_url=False)]
            raise SettingsError("\n".join(lines)) from None
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise SettingsError("device = 'cuda': this machine has no CUDA device; allowed: 'auto', 'cpu'")
        return settings

    @classmethod
    def _line(cls, problem: dict[str, Any]) -> str:
        """Describe one of pydantic's problems in one line: the name, the value and what is allowed."""
        name, value = ".".join(map(str, problem["loc"])), problem["input"]
        if problem["type"] == "extra_forbidden":
            close = difflib.get_close_matches(name, cls.model_fields, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            return f"{name} = {value!r}: no such parameter; {hint}allowed: {', '.join(cls.model_fields)}"
        if problem["type"] == "missing":
            return f"{name}: the parameter is missing from the notebook"
        message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        if not name:  # two parameters that contradict each other, which the message names
            return message
        if isinstance(value, str) and is_number(value):
            message += " (this is text: YAML reads 2e-4 as text, write 2.0e-4 without quotes)"
        if isinstance(value, bool):
            message += " (YAML reads yes, no, on and off as true and false: put the text in quotes)"
        return f"{name} = {value!r}: {message}"

    @property
    def models(self) -> dict[str, str]:
        """The models that the notebook names, by parameter."""
        raise NotImplementedError(f"{type(self).__name__} has no models")

    @property
    def datasets(self) -> dict[str, str]:
        """The data sets that the notebook names, by parameter."""
        raise NotImplementedError(f"{type(self).__name__} has no data sets")

    def seeds_from_first(self, count: int) -> list[int]:
        """Return ``count`` seeds: first_seed, first_seed + 1, ..."""
        return list(range(self.first_seed, self.first_seed + count))

    @property
    def torch_device(self) -> torch.device:
        """The device that ``auto`` means on this machine."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)


def is_number(text: str) -> bool:
    """Whether Python reads a text as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def distinct(
    text: str, allowed: Callable[[str], bool], hint: str, value: Callable[[str], object] = str
) -> str:
    """Return a text of words once it is clear that each is allowed and none has the value of another."""
    values = []
    for word in text.split():
        if not allowed(word) or value(word) in values:
            raise ValueError(f"{word!r} is unknown or named twice; allowed, with blanks between: {hint}")
        values.append(value(word))
    return text


def _check_steps(recipe: TrainingRecipe, texts: int, parameter: str) -> None:
    """Refuse a number of training texts that leaves a recipe no step; 0 stands for all, however many."""
    if texts:
        try:
            recipe.steps(texts)
        except ValueError as error:
            raise ValueError(f"{parameter}: {error}") from None


def _if_given(**sources: str) -> dict[str, str]:
    """Return the sources whose names are not empty, by parameter."""
    return {parameter: name for parameter, name in sources.items() if name}


class ClassifierSettings(NotebookSettings):
    """Notebooks 1 and 2: an encoder, texts with classes, and how classifiers are trained and explained."""

    data_seed: Seed
    dataset: Text
    language: Language
    train_texts: Annotated[int, Field(ge=0)]
    test_texts: Annotated[int, Field(ge=0)]
    explained_texts: Annotated[int, Field(ge=0)]
    max_length: Annotated[int, Field(ge=8, le=512)]
    model: Text
    pretraining_texts: Count
    pretraining_steps: Count
    epochs: Count
    learning_rate: Rate
    batch_size: Count
    head_epochs: Count
    head_learning_rate: Rate
    head_batch_size: Count
    precision: Literal["auto", "float32", "tf32", "bfloat16"]
    relevance_precision: RelevancePrecision
    rationales: str
    rationale_train_texts: Pair
    rationale_texts: Pair

    @model_validator(mode="after")
    def _device_must_have_precisions(self) -> Self:
        if self.torch_device.type != "cuda":
            for name in ("precision", "relevance_precision"):
                if getattr(self, name) == "tf32":
                    raise ValueError(f"{name} = 'tf32': only CUDA devices have it; allowed here is 'float32'")
        return self

    @property
    def models(self) -> dict[str, str]:
        """The encoder."""
        return {"model": self.model}

    @property
    def training_precision(self) -> Precision:
        """How products of fine-tuning are rounded: what ``auto`` means on this machine."""
        return default_precision(self.torch_device) if self.precision == "auto" else self.precision

    @property
    def reading(self) -> dict[str, Any]:
        """How encoders read texts, where and how precisely: arguments of `lib.texts.corpus_of`."""
        return {
            "max_length": self.max_length,
            "device": self.torch_device,
            "precision": self.training_precision,
            "relevance_precision": self.relevance_precision,
        }


class FinetuningSurface(ClassifierSettings):
    """Notebook 2: fine-tuning surface and stability of explanations."""

    seeds: Annotated[int, Field(ge=4)]
    frozen_seeds: Annotated[int, Field(ge=0)]
    ensemble_size: Count
    schedule: Schedule
    other_schedule_seeds: Annotated[int, Field(ge=4)]
    quantizations: str
    curve: str
    curve_seeds: Annotated[int, Field(ge=3)]
    curve_learning_rate: Rate
    matched_texts: str
    random_label_seeds: Annotated[int, Field(ge=3)]
    encoders: Annotated[int, Field(ge=0)]
    methods: str
    method_seeds: Annotated[int, Field(ge=3)]
    method_texts: Annotated[int, Field(ge=2)]
    top_words: Count
    equivalence_margin: Annotated[float, Field(gt=1, le=10)]
    resamples: Annotated[int, Field(ge=100)]
    permutations: Annotated[int, Field(ge=20)]

    @field_validator("quantizations")
    @classmethod
    def _known_formats(cls, text: str) -> str:
        if not text.split():
            raise ValueError("at least one is required: nf4, fp4, fp8")
        return distinct(text, lambda word: word in ("nf4", "fp4", "fp8"), "nf4, fp4, fp8")

    @field_validator("methods")
    @classmethod
    def _known_methods(cls, text: str) -> str:
        return distinct(text, lambda word: word in OTHER_METHODS, ", ".join(OTHER_METHODS))

    @field_validator("curve")
    @classmethod
    def _known_points(cls, text: str) -> str:
        return distinct(text, lambda word: CURVE.fullmatch(word) is not None, CURVE_ALLOWED)

    @field_validator("matched_texts")
    @classmethod
    def _known_numbers(cls, text: str) -> str:
        return distinct(
            text, lambda word: word.isdecimal() and int(word) > 1, "whole numbers above 1: 75 150", int
        )

    @field_validator("encoders")
    @classmethod
    def _enough_encoders(cls, count: int) -> int:
        if count in (1, 2):
            raise ValueError("0 (none) or at least 3 are required: the noise of fewer has no valid interval")
        return count

    @model_validator(mode="after")
    def _must_fit_each_other(self) -> Self:
        most = min(self.seeds, self.number_of_frozen_seeds)
        for name in ("curve_seeds", "other_schedule_seeds", "method_seeds"):
            value = getattr(self, name)
            if value > most:
                raise ValueError(f"{name} = {value}: allowed is at most {most}, the number of seeds")
        if self.train_texts and max(self.numbers_of_texts, default=0) >= self.train_texts:
            raise ValueError(
                f"matched_texts = {self.matched_texts!r}: allowed are numbers below "
                f"train_texts = {self.train_texts}"
            )
        return self

    @model_validator(mode="after")
    def _schedules_must_have_steps(self) -> Self:
        for recipe in (self.fine_tuning, self.other_schedule):  # both are trained on all texts
            _check_steps(recipe, self.train_texts, f"train_texts = {self.train_texts}")
        for number in self.numbers_of_texts:
            _check_steps(self.fine_tuning, number, f"matched_texts = {self.matched_texts!r}")
        return self

    @property
    def datasets(self) -> dict[str, str]:
        """The data set, and the texts with marked reasons if there are any."""
        return {"dataset": self.dataset} | _if_given(rationales=self.rationales)

    @property
    def number_of_frozen_seeds(self) -> int:
        """How many heads are trained on the frozen encoder."""
        return self.frozen_seeds or self.seeds

    @property
    def fine_tuning(self) -> TrainingRecipe:
        """How all weights, or the layers above the lowest k, are fine-tuned."""
        numbers = self.epochs, self.learning_rate, self.batch_size
        return TrainingRecipe(*numbers, self.schedule, _is_shuffled(self.dataset))

    @property
    def other_schedule(self) -> TrainingRecipe:
        """The same with the other of the two schedules."""
        other: Schedule = "authors" if self.schedule == "described" else "described"
        return replace(self.fine_tuning, schedule=other)

    @property
    def few_weights(self) -> TrainingRecipe:
        """How biases and low-rank adapters are trained, which need a higher rate."""
        return replace(self.fine_tuning, learning_rate=self.curve_learning_rate)

    @property
    def head(self) -> TrainingRecipe:
        """How a head is trained on the frozen encoder; the authors' code counts its steps correctly."""
        epochs, rate, batch_size = self.head_epochs, self.head_learning_rate, self.head_batch_size
        return TrainingRecipe(epochs, rate, batch_size, "described", _is_shuffled(self.dataset))

    @property
    def numbers_of_texts(self) -> list[int]:
        """On how many texts fine-tuned models are trained too, in ascending order, to match accuracies."""
        return sorted(int(word) for word in self.matched_texts.split())

    @property
    def ranks(self) -> list[int]:
        """The ranks of the low-rank adapters on the curve."""
        adapters = [word for word in self.curve.split() if word.startswith(LORA)]
        return [part_of(word).number for word in adapters]

    @property
    def encoder_seeds(self) -> list[int]:
        """The pre-training seeds of the further encoders; the main one has data_seed."""
        return [self.data_seed + 1 + number for number in range(self.encoders)]

    @property
    def formats(self) -> list[str]:
        """The formats to which models are quantised after training."""
        return self.quantizations.split()


class FinetunedVsFrozen(ClassifierSettings):
    """Notebook 1: fine-tuned against frozen encoders."""

    other_dataset: Text
    other_train_texts: Annotated[int, Field(ge=0)]
    validation_texts: Annotated[int, Field(ge=0)]
    seeds: Annotated[int, Field(ge=2)]
    described_seeds: Annotated[int, Field(ge=2)]
    other_head_learning_rate: Rate
    other_head_batch_size: Count
    compared_texts: Annotated[int, Field(ge=2)]
    compared_seeds: Annotated[int, Field(ge=2)]
    min_appearances: Count
    drawn_texts: Annotated[int, Field(ge=21)]  # trustworthiness needs more than 20
    further_texts: Annotated[int, Field(ge=0)]
    further_explained: Annotated[int, Field(ge=0)]
    chain_rounds: Count
    chain_seeds: Annotated[int, Field(ge=2)]
    artifact_rates: str
    artifact_seeds: Annotated[int, Field(ge=2)]
    confidence: Annotated[float, Field(gt=0.5, lt=1)]

    @field_validator("test_texts")
    @classmethod
    def _enough_test_texts(cls, count: int) -> int:
        if 1 <= count <= 20:
            raise ValueError("0 (all) or at least 21 are required: trustworthiness needs more than 20")
        return count

    @field_validator("explained_texts", "further_explained")
    @classmethod
    def _enough_explained_texts(cls, count: int) -> int:
        if count == 1:
            raise ValueError("0 (all) or at least 2 are required: an interval needs more than one text")
        return count

    @field_validator("artifact_rates")
    @classmethod
    def _must_be_shares(cls, text: str) -> str:
        if not text.split():
            raise ValueError("at least one is required, with blanks between: 0 0.5 1")
        text = distinct(
            text, lambda word: is_number(word) and 0 <= float(word) <= 1, "numbers from 0 to 1", float
        )
        rates = {float(word) for word in text.split()}
        if 0 not in rates or len(rates) < 2:
            raise ValueError("0, without the artifact, and at least one rate above 0 are required")
        return text

    @model_validator(mode="after")
    def _tasks_must_differ(self) -> Self:
        if self.dataset == self.other_dataset:
            raise ValueError(f"other_dataset = {self.other_dataset!r}: must differ from dataset")
        return self

    @model_validator(mode="after")
    def _seeds_must_suffice(self) -> Self:
        for name in ("compared_seeds", "described_seeds"):
            value = getattr(self, name)
            if value > self.seeds:
                raise ValueError(f"{name} = {value}: allowed is at most seeds = {self.seeds}")
        return self

    @model_validator(mode="after")
    def _schedule_must_have_steps(self) -> Self:
        authors = TrainingRecipe(self.epochs, self.learning_rate, self.batch_size, "authors")
        for name in ("train_texts", "other_train_texts", "further_texts"):
            texts = getattr(self, name)
            _check_steps(authors, texts, f"{name} = {texts}")
        return self

    @property
    def datasets(self) -> dict[str, str]:
        """The data sets of the two tasks, and the texts with marked reasons if there are any."""
        both = {"dataset": self.dataset, "other_dataset": self.other_dataset}
        return both | _if_given(rationales=self.rationales)

    @property
    def tasks(self) -> dict[str, str]:
        """The two data sets by the names of the tasks: a local file's name, without folder and ending."""
        datasets = self.dataset, self.other_dataset
        names = [Path(name).stem if Path(name).expanduser().exists() else name for name in datasets]
        return dict(zip(names if names[0] != names[1] else datasets, datasets, strict=True))

    @property
    def rates(self) -> list[float]:
        """The artifact's rates as numbers, in ascending order."""
        return sorted(float(word) for word in self.artifact_rates.split())

    @property
    def fine_tuning(self) -> dict[str, dict[str, TrainingRecipe]]:
        """How a model is fine-tuned, by schedule (the authors' first) and task."""
        numbers = self.epochs, self.learning_rate, self.batch_size
        schedules: tuple[Schedule, ...] = ("authors", "described")
        return {
            schedule: {
                task: TrainingRecipe(*numbers, schedule=schedule, shuffled=_is_shuffled(dataset))
                for task, dataset in self.tasks.items()
            }
            for schedule in schedules
        }

    @property
    def heads(self) -> dict[str, TrainingRecipe]:
        """How the frozen head of each task is trained; the authors' code trains each differently."""
        first = self.head_epochs, self.head_learning_rate, self.head_batch_size
        other = self.head_epochs, self.other_head_learning_rate, self.other_head_batch_size
        return {
            task: TrainingRecipe(*numbers, shuffled=_is_shuffled(dataset))
            for numbers, (task, dataset) in zip((first, other), self.tasks.items(), strict=True)
        }


def _is_shuffled(dataset: str) -> bool:
    """Whether training texts are shuffled; the authors leave Allociné's in the Hub's order."""
    return dataset not in ("allocine", "mini-allocine")


class QloraRepeatability(NotebookSettings):
    """Notebook 3: the repeatability of QLoRA fine-tuning."""

    trials: Annotated[int, Field(ge=3, le=50)]  # an interval over pairs of trials needs three
    group_size: Count
    data_seed: Seed
    neox: Text
    llama: Text
    neox_chat: Text
    llama_chat: Text
    # A chat model reads 64 texts of small talk per step, and mini_english generates at most 50,000.
    pretraining_steps: Annotated[int, Field(ge=10, le=779)]
    quotes: Text
    instructions: Text
    quote_texts: Annotated[int, Field(ge=0)]
    instruction_texts: Annotated[int, Field(ge=0)]
    chat_format: Literal["paper", "template"]
    epochs: Count
    learning_rate: Rate
    llama_learning_rate: Rate
    batch_size: Count
    max_length: Annotated[int, Field(ge=16)]
    compute: Literal["auto", "float32", "bfloat16", "float16"]
    new_tokens: Count
    completed: Annotated[int, Field(ge=0)]
    samples: Annotated[int, Field(ge=2)]  # a pair of samples is the control
    answered: Annotated[int, Field(ge=2)]
    repetitions: Annotated[int, Field(ge=2)]
    levels: Annotated[int, Field(ge=2, le=7)]
    explosion_seeds: Count
    labelled: Text
    label_texts: Annotated[int, Field(ge=10)]
    summarised: Text
    summary_texts: Annotated[int, Field(ge=10)]
    task_epochs: Count
    task_learning_rate: Rate
    task_batch_size: Count
    confidence: Annotated[float, Field(gt=0.5, lt=1)]

    @property
    def models(self) -> dict[str, str]:
        """The four models, by the names of the paper's tables."""
        return {
            "GPT-NeoX": self.neox,
            "Llama": self.llama,
            "GPT-NeoX chat": self.neox_chat,
            "Llama chat": self.llama_chat,
        }

    @property
    def datasets(self) -> dict[str, str]:
        """The data sets: two of the paper's tasks, two of further ones."""
        names = ("quotes", "instructions", "labelled", "summarised")
        return {name: getattr(self, name) for name in names}

    @property
    def compute_type(self) -> str:
        """The type that ``auto`` means: 16 bits where the device supports them, float32 on a CPU."""
        if self.compute != "auto":
            return self.compute
        if self.torch_device.type == "cpu":
            return "float32"
        return "bfloat16" if has_bfloat16() else "float16"
