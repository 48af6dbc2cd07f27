"""QLoRA: one trial, its recipe, its adapters and base model, and what the result scores on held-out texts."""

from lib.qlora.scores import perplexity

__all__ = ["perplexity"]
