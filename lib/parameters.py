"""What the parameters of all notebooks share: how they are read, and how a wrong one is told."""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import torch
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from lib.errors import InputError

PROJECT_ROOT = Path(__file__).resolve().parent.parent

# The kernel's own names, which stand beside the parameters in a notebook's namespace.
_KERNEL_NAMES = frozenset({"In", "Out"})
_PLAIN_TYPES = (bool, int, float, str, list, tuple, dict, set, type(None))


class SettingsError(InputError):
    """A notebook's parameters are wrong: a line for each, with its name, its value and what is allowed."""


def _from_root(path: object) -> object:
    """Take a relative path from the project's root, wherever the notebook was started."""
    return PROJECT_ROOT / Path(path).expanduser() if isinstance(path, str) and path else path


ProjectPath = Annotated[Path, BeforeValidator(_from_root)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**31)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1)]
Text = Annotated[str, Field(min_length=1)]


class NotebookSettings(BaseModel):
    """What every notebook has: where runs are kept and how they are run."""

    model_config = ConfigDict(strict=True, frozen=True, extra="forbid", allow_inf_nan=False)

    first_seed: Seed
    device: Literal["auto", "cpu", "cuda"]
    deterministic: bool
    engine: Literal["local", "ray"]
    workers: Count
    cache_dir: ProjectPath
    figure_dir: ProjectPath

    @classmethod
    def from_namespace(cls, namespace: Mapping[str, Any]) -> Self:
        """Read the parameters out of a notebook's ``globals()``.

        Every plain value (number, text, list ...) of the namespace is taken for a parameter, so that a name
        that nobody knows is an error here, where papermill only warns.

        Parameters
        ----------
        namespace : mapping
            ``globals()`` of the notebook, after its parameters cell and before it defined anything else.

        Raises
        ------
        SettingsError
            With one line for each unknown name, missing name, wrong type or value out of range.
        """
        given = {
            name: value
            for name, value in namespace.items()
            if isinstance(value, _PLAIN_TYPES) and not name.startswith("_") and name not in _KERNEL_NAMES
        }
        try:
            settings = cls(**given)
        except ValidationError as error:
            lines = [cls._line(dict(problem)) for problem in error.errors(include_url=False)]
            raise SettingsError("\n".join(lines)) from None
        if settings.device == "cuda" and not torch.cuda.is_available():
            raise SettingsError("device = 'cuda': this machine has no CUDA device; allowed: 'auto', 'cpu'")
        return settings

    @classmethod
    def _line(cls, problem: dict[str, Any]) -> str:
        """Say one of pydantic's problems in one line: the name, the value and what is allowed."""
        name, value = ".".join(map(str, problem["loc"])), problem["input"]
        if problem["type"] == "extra_forbidden":
            close = difflib.get_close_matches(name, cls.model_fields, n=1)
            hint = f"did you mean {close[0]!r}? " if close else ""
            return f"{name} = {value!r}: no such parameter; {hint}allowed: {', '.join(cls.model_fields)}"
        if problem["type"] == "missing":
            return f"{name}: the parameter is missing from the notebook"
        message = problem["msg"].removeprefix("Value error, ").replace("Input should be", "must be")
        if not name:  # two parameters that do not fit each other, which the message names
            return message
        if isinstance(value, str) and is_number(value):
            message += " (this is text: YAML reads 2e-4 as text, write 2.0e-4 without quotes)"
        if isinstance(value, bool):
            message += " (YAML reads yes, no, on and off as true and false: put the text in quotes)"
        return f"{name} = {value!r}: {message}"

    def seeds_from_first(self, count: int) -> list[int]:
        """Return ``count`` seeds: first_seed, first_seed + 1, ..."""
        return list(range(self.first_seed, self.first_seed + count))

    @property
    def torch_device(self) -> torch.device:
        """The device that ``auto`` stands for on this machine."""
        if self.device == "auto":
            return torch.device("cuda" if torch.cuda.is_available() else "cpu")
        return torch.device(self.device)


def is_number(text: str) -> bool:
    """Whether a text is one that Python reads as a number."""
    try:
        float(text)
    except ValueError:
        return False
    return True


def distinct(text: str, allowed: Callable[[str], bool], hint: str) -> str:
    """Return a list of words in one text, once each is seen to be allowed and none to be there twice."""
    words = text.split()
    for word in words:
        if not allowed(word) or words.count(word) > 1:
            raise ValueError(f"{word!r} is unknown or named twice; allowed, with blanks between: {hint}")
    return text
