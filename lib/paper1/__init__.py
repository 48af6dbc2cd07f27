"""Paper 1: its runs, the models that their records describe, and its figures."""
