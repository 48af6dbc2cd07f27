"""What decides a QLoRA trial: how it is trained, which seeds it uses, and its texts and questions."""

from dataclasses import dataclass, field
from typing import Self

OPTIMIZERS = ("paged_adamw_8bit", "paged_adamw_32bit", "adamw_torch")
SCHEDULES = ("linear", "constant")
DTYPES = ("float32", "bfloat16", "float16")
KERNELS = ("sdpa", "eager")


@dataclass(frozen=True)
class Recipe:
    """How a trial is trained. The defaults are those of paper 3, section VII, for GPT-NeoX.

    Except `compute`, which is float16 there. The paper states `max_length` for Llama only, and no schedule
    for GPT-NeoX.

    Attributes
    ----------
    optimizer : str
        One of `OPTIMIZERS`, which are transformers' names.
    learning_rate : float
        The peak.
    schedule : str
        ``linear`` (decays to 0) or ``constant``.
    epochs, batch_size : int
        Passes over the texts, and texts per step.
    max_length : int
        Training and test texts are truncated to this many tokens.
    rank, alpha, dropout
        LoRA's rank, scaling and dropout. peft chooses the adapted layers by architecture.
    compute : str
        Type in which 4-bit weights are multiplied, one of `DTYPES`.
    adapter : str
        Type in which adapters are stored and updated, one of `DTYPES`.
    epsilon : float
        Adam's epsilon.
    loss_scale : float
        Multiplies the loss, the clipping norm and epsilon. In exact arithmetic, the training stays the same;
        in 16 bits, gradients too small to represent no longer become 0.
    attention : str
        Kernel, one of `KERNELS`: the same formula, summed in a different order.
    min_8bit_size : int
        An adapter's matrix with fewer elements is refused with an 8-bit optimizer. bitsandbytes keeps the
        states of such tensors in 32 bits without a word; its default, 4096, exempts every adapter of a small
        model.

    Raises
    ------
    ValueError
        For an unknown name or a number out of range.
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

    def __post_init__(self) -> None:
        for name, allowed in (
            ("optimizer", OPTIMIZERS),
            ("schedule", SCHEDULES),
            ("compute", DTYPES),
            ("adapter", DTYPES),
            ("attention", KERNELS),
        ):
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name} = {getattr(self, name)!r}: allowed: {', '.join(allowed)}")
        for name in ("learning_rate", "epochs", "batch_size", "max_length", "rank", "alpha", "loss_scale"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} = {getattr(self, name)}: a number above 0 is required")
        if not self.epsilon >= 0:
            raise ValueError(f"epsilon = {self.epsilon}: allowed: 0 or above")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout = {self.dropout}: allowed: at least 0 and below 1")

    @property
    def bits(self) -> str:
        """How the optimizer stores its states: "8-bit" or "32-bit"."""
        return "8-bit" if "8bit" in self.optimizer else "32-bit"


@dataclass(frozen=True)
class Sources:
    """The seed of each source of randomness in a trial.

    Attributes
    ----------
    initialisation : int
        Of the new adapters' weights.
    order : int
        Of the training texts.
    dropout : int
        Of what is dropped in training.
    """

    initialisation: int
    order: int
    dropout: int

    @classmethod
    def same(cls, seed: int) -> Self:
        """Give every source the same seed; their random streams stay separate (`lib.seeding.derive`)."""
        return cls(seed, seed, seed)


@dataclass(frozen=True)
class Task:
    """Texts to learn from, and what the trained model is asked.

    Attributes
    ----------
    train, test : list of str
        Whole texts, including tags.
    given : list of str
        The beginning of each training text, which is read but not learned; empty: whole texts are learned.
    prompts : list of str
        Completed by sampling.
    samples : int
        Completions of each prompt at temperature 1, drawn independently of each other.
    questions : list of str
        Answered by greedy decoding.
    options : list of str
        If given, the answer to a question is the likeliest of these instead.
    new_tokens, answer_tokens : int
        Maximum lengths of completions and of answers.
    special_tokens : bool
        Whether the tokenizer adds its special tokens; False for texts that include tags.
    """

    train: list[str]
    test: list[str]
    given: list[str] = field(default_factory=list)
    prompts: list[str] = field(default_factory=list)
    questions: list[str] = field(default_factory=list)
    options: list[str] = field(default_factory=list)
    samples: int = 1
    new_tokens: int = 20
    answer_tokens: int = 40
    special_tokens: bool = True
