"""Corpora generated here, whose rationales and answers are known."""
