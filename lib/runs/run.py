"""A run: a frozen dataclass whose fields decide its result, with the method that computes it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Run:
    """One run of a sweep. A subclass adds the fields that decide its result, and `carry_out`.

    Fields hold JSON values: numbers, texts, booleans, None, and mappings, sequences or frozen dataclasses of
    these. A subclass checks its own when the run is made (``__post_init__``).

    Attributes
    ----------
    seed : int
        Seeds everything that the run draws at random.
    """

    seed: int

    def carry_out(self, *_: Any, **inputs: Any) -> Mapping[str, Any]:
        """Compute the result, as a function of the fields and of the sweep's inputs alone.

        Returns
        -------
        mapping
            JSON values and numpy arrays of numbers, by name.
        """
        raise NotImplementedError(f"{type(self).__name__} has no carry_out")

    @classmethod
    def carry_out_together(cls, runs: Sequence[Self], *_: Any, **inputs: Any) -> Sequence[Mapping[str, Any]]:
        """Compute several runs with the same `shared` fields at once; return one result per run."""
        raise NotImplementedError(f"{cls.__name__} has no carry_out_together")

    @property
    def shared(self) -> dict[str, Any]:
        """What runs must have in common to be carried out together: all fields but the seed."""
        return {name: value for name, value in self.settings.items() if name != "seed"}

    def depends_on(self, part: str) -> bool:
        """Whether a part of the sweep's inputs, by the name of its fingerprint, can change this run's result.

        A run's key leaves out the parts that cannot: by default none.
        """
        return True

    @property
    def settings(self) -> dict[str, Any]:
        """The fields as JSON values.

        Raises
        ------
        ValueError
            If a field is not JSON: a tensor, a path, NaN.
        """
        try:
            return json.loads(canonical_json(asdict(self)))
        except (TypeError, ValueError) as error:
            raise ValueError(f"run {self!r} is not JSON: {error}") from None


def check_first_seed(seed: int, seeds: Sequence[int]) -> None:
    """Check that a run of several seeds is named after the first of them.

    Raises
    ------
    ValueError
        If ``seed`` is not the first of ``seeds``.
    """
    if tuple(seeds[:1]) != (seed,):
        raise ValueError(f"seed = {seed}: the first of the seeds {seeds} is required")


def canonical_json(value: Any) -> str:
    """Write a value as JSON such that equal values give equal texts.

    Raises
    ------
    TypeError, ValueError
        If part of it is not JSON: a tensor, a path, NaN.
    """
    return json.dumps(value, sort_keys=True, allow_nan=False, separators=(",", ":"))
