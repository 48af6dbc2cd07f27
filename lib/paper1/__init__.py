"""Paper 1: its runs, the models that they leave, and its figures."""
