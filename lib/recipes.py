"""How a classifier, or the head of a frozen one, is trained."""

from dataclasses import dataclass


@dataclass(frozen=True)
class TrainingRecipe:
    """The three numbers that papers 1 and 2 state of a training.

    Attributes
    ----------
    epochs : int
        Passes over the texts.
    learning_rate : float
        At the first step; it falls linearly to 0.
    batch_size : int
        Texts per step.

    Raises
    ------
    ValueError
        For a number that is not above 0.
    """

    epochs: int
    learning_rate: float
    batch_size: int

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not value > 0:
                raise ValueError(f"{name} = {value}: a number above 0 is required")
