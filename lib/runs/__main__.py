"""``python -m lib.runs list | verify | prune``: look after what sweeps have kept."""

import sys

from lib.runs.housekeeping import main

sys.exit(main())
