"""QLoRA trials: low-rank adapters trained on a 4-bit base model, and the result scored on held-out texts."""

from lib.qlora.recipes import Recipe, Sources, Task
from lib.qlora.scores import perplexity
from lib.qlora.trial import Material, Pretrained, Reading, Trial

__all__ = ["Material", "Pretrained", "Reading", "Recipe", "Sources", "Task", "Trial", "perplexity"]
