"""Layer-wise relevance propagation for BERT, RoBERTa and CamemBERT, after Chefer, Gur and Wolf (CVPR 2021).

`token_relevance` explains a batch of texts; `layer_conservation` and `relevance_by_layer` show the relevance
at every layer. `walk` goes from the logit down to the embeddings, `rules` has one rule per operation,
`encoder` the forward pass, `checks` what can be explained, and `fusion` what a GPU fuses.
"""

from lib.lrp.walk import (
    Conservation,
    LayerRelevance,
    layer_conservation,
    relevance_by_layer,
    token_relevance,
)

__all__ = [
    "Conservation",
    "LayerRelevance",
    "layer_conservation",
    "relevance_by_layer",
    "token_relevance",
]
