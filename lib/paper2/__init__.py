"""Paper 2: its runs, the model types that they leave, its tables and figures."""
