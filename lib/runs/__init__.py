"""Runs carried out and kept: a sweep maps a run over seeds and variants and keeps each record."""
