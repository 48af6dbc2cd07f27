"""Paper 2: its runs, the model types that they produce, its tables and its figures."""
