"""Texts in: read from files or the Hub, cleaned, split, or generated here."""
