"""Chefer et al.'s relevance: the walk down an encoder, the rules it applies, and what it can explain."""

from lib.lrp.walk import Conservation, layer_conservation, token_relevance

__all__ = ["Conservation", "layer_conservation", "token_relevance"]
