"""Runs, carried out and kept: a sweep maps runs over seeds and variants and keeps a record of each.

``python -m lib.runs list | verify | prune`` manages the kept records. Nothing in this room decides what a
run computes, so its code is not part of a record's key.
"""

from lib.runs.records import Record
from lib.runs.run import Run, check_first_seed
from lib.runs.sweeps import finished, refusal, rests_on, sweep

__all__ = ["Record", "Run", "check_first_seed", "finished", "refusal", "rests_on", "sweep"]
