"""How a chat model is asked: in the paper's tags, or as its own template says."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

from transformers import PreTrainedTokenizerBase

from lib.qlora.causal_models import dialogue, load_config, load_tokenizer, prompt

ChatFormat = Literal["paper", "template"]


@dataclass(frozen=True)
class Chat:
    """What stands around an instruction and its answer.

    Attributes
    ----------
    model : str or Path
        The folder of the model that is asked.
    family : str
        ``gpt_neox`` or ``llama``, each of which has tags in the paper (section VII).
    tokenizer : PreTrainedTokenizerBase or None
        Whose chat template takes the tags' place; None: the tags.
    """

    model: str | Path
    family: str
    tokenizer: PreTrainedTokenizerBase | None = None

    @classmethod
    def of(cls, model: str | Path, chat_format: ChatFormat) -> Self:
        """Return how a model is asked; one without a template in the paper's tags.

        Parameters
        ----------
        model : str or Path
            The folder of the model.
        chat_format : {"paper", "template"}
            Whether the model's own template is used, if it has one.
        """
        tokenizer = load_tokenizer(model) if chat_format == "template" else None
        has_template = tokenizer is not None and tokenizer.chat_template is not None
        return cls(model, load_config(model).model_type, tokenizer if has_template else None)

    def asked(self, instruction: str) -> str:
        """Return an instruction up to where its answer begins."""
        if self.tokenizer is None:
            return prompt(self.family, instruction)
        turns = [{"role": "user", "content": instruction}]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))

    def answered(self, instruction: str, answer: str) -> str:
        """Return an instruction with its answer; it begins as `asked` does."""
        if self.tokenizer is None:
            return dialogue(self.family, instruction, answer)
        turns = [{"role": "user", "content": instruction}, {"role": "assistant", "content": answer}]
        return str(self.tokenizer.apply_chat_template(turns, tokenize=False))
