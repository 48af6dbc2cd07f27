"""Paper 3: its trials, its tables and its figures."""
