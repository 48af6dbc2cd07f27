"""Tiny models, pre-trained here within minutes on a CPU: an encoder and four causal models."""

from lib.tiny.causal import TINY, check_models, pretrain_tiny
from lib.tiny.encoder import TINY_CAMEMBERT, check_encoder, encoder_folder, pretrain_tiny_camembert
from lib.tiny.keeping import read_report

__all__ = [
    "TINY",
    "TINY_CAMEMBERT",
    "check_encoder",
    "check_models",
    "encoder_folder",
    "pretrain_tiny",
    "pretrain_tiny_camembert",
    "read_report",
]
