"""Paper 3: its sets of trials, their tables and figures."""
